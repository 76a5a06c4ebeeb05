"""A whole cohort, looked at before any work: every fault at once, and what the knees are like."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kellgren.cohort import Case, cohort_faults, read_rows, summary
from kellgren.faults import InputError
from kellgren.files import write_json
from kellgren.inspection.estimate import Estimate, estimate
from kellgren.inspection.finding import SEVERITIES, Finding, exit_code, grouped
from kellgren.inspection.knee import Knee, Picture, fingerprint, look, look_deep
from kellgren.inspection.leakage import (
    cohort_findings,
    near_duplicates,
    same_files,
    same_voxels,
)
from kellgren.tables import write_csv
from kellgren.workers import pool_of

__all__ = [
    "Estimate",
    "Finding",
    "Inspection",
    "Knee",
    "Picture",
    "estimate",
    "exit_code",
    "fingerprint",
    "grouped",
    "inspect_cohort",
    "look",
    "look_deep",
]


@dataclass(frozen=True)
class Inspection:
    """All that was found.

    Attributes:
        name: The cohort table.
        deep: Whether every voxel was looked at.
        findings: Of the table, the cohort and the cases.
        knees: What is known of each case.
    """

    name: str
    deep: bool
    findings: tuple[Finding, ...]
    knees: tuple[Knee, ...]

    @property
    def exit_code(self) -> int:
        """0 for nothing but notes, 1 for warnings, 2 for errors."""
        return exit_code(self.findings)

    def cases(self) -> pd.DataFrame:
        """One row a case: who, geometry, intensities, and how many errors and warnings it has."""
        of_case: dict[str, list[Finding]] = {}
        for finding in self.findings:
            of_case.setdefault(finding.case_id, []).append(finding)
        return pd.DataFrame([_row(knee, of_case.get(knee.case.case_id, [])) for knee in self.knees])

    def summary(self) -> dict[str, Any]:
        """Counts, ages, KL by split and side, ranges of spacing and intensity, as JSON values."""
        table = self.cases()
        cases = [knee.case for knee in self.knees]
        return {
            "cohort": self.name,
            "deep": self.deep,
            "cases": len(cases),
            "findings": {
                severity: sum(f.severity == severity for f in self.findings)
                for severity in SEVERITIES
            },
            "splits": _records(summary(cases)),
            "kl_by_split_and_side": _kl_by_side(cases),
            "ranges": {
                name: _range(table, name)
                for name in RANGED
                if name in table and table[name].notna().any()
            },
        }

    def text(self) -> str:
        """The summary for a terminal."""
        content = self.summary()
        tables = [content["splits"], content["kl_by_split_and_side"]]
        lines = [
            pd.DataFrame(rows).dropna(axis="columns", how="all").round(1).to_string(index=False)
            for rows in tables
            if rows
        ]
        lines += [
            f"{name}: {r['lowest']:.4g} to {r['highest']:.4g}, median {r['median']:.4g}"
            for name, r in content["ranges"].items()
        ]
        return "\n".join(lines)

    def verdict(self) -> str:
        """One line: sound, or how much was found and the first error in full."""
        counts = self.summary()["findings"]
        errors, warnings = (_counted(counts[name], name) for name in ("error", "warning"))
        looked = "every voxel" if self.deep else "headers only; --deep reads every voxel"
        if self.exit_code == 2:
            first = next(f for f in self.findings if f.severity == "error")
            return f"{errors}, {warnings}; first {first}"
        state = "sound" if self.exit_code == 0 else f"usable, {warnings}"
        return f"{self.name}: {len(self.knees)} knees, {state} ({looked})"

    def write(self, folder: Path) -> None:
        """Write `cases.csv`, `findings.csv` and `check.json`."""
        write_csv(folder / "cases.csv", self.cases())
        columns = [field.name for field in fields(Finding)]
        found = pd.DataFrame([vars(f) for f in self.findings], columns=columns)
        write_csv(folder / "findings.csv", found)
        self.write_json(folder / "check.json")

    def write_json(self, path: Path) -> None:
        """Write summary, findings and cases as one JSON file."""
        content = self.summary() | {
            "exit_code": self.exit_code,
            "findings_listed": [vars(finding) for finding in self.findings],
            "cases_listed": _records(self.cases()),
        }
        write_json(path, content)


RANGED = (
    "spacing_d", "spacing_h", "spacing_w", "field_d", "field_h", "field_w",
    "lowest", "p1", "p99", "highest", "cartilage_share",
)  # fmt: skip


def inspect_cohort(
    table: Path,
    *,
    deep: bool,
    cartilage: tuple[int, ...] = (2, 4, 5),
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Look at a cohort: the table, every case, and how the cases fit together.

    One scan a worker is in memory at a time; what is kept of a knee is below 100 kB.

    Args:
        table: Cohort table.
        deep: Look at every voxel, not at headers only.
        cartilage: Labels that count as cartilage.
        workers: Processes at work at the same time.
        progress: Called with how many cases are through, and how many there are.

    Raises:
        InputError: If the table is no table, lacks a column or holds no row that can be used; or
            if a worker is killed.
    """
    where = str(table)
    cases, faults = read_rows(table)
    findings = [Finding.of(fault, "row") for fault in faults]
    findings += [Finding.of(fault, "cohort") for fault in cohort_faults(cases, where)]
    findings += cohort_findings(cases, where)
    one = partial(look_deep, cartilage=cartilage) if deep else look
    knees = []
    for knee in _looked(one, cases, workers):
        knees.append(knee)
        if progress is not None:
            progress(len(knees), len(cases))
    findings += [finding for knee in knees for finding in knee.findings]
    findings += [*same_voxels(knees), *near_duplicates(knees)] if deep else same_files(cases)
    return Inspection(table.name, deep, tuple(findings), tuple(knees))


def _counted(n: int, name: str) -> str:
    return f"{n} {name}" if n == 1 else f"{n} {name}s"


def _looked(one: Callable[[Case], Knee], cases: Sequence[Case], workers: int) -> Iterator[Knee]:
    if workers == 1:
        yield from map(one, cases)
        return
    try:
        with pool_of(workers) as pool:
            yield from pool.map(one, cases)
    except BrokenProcessPool as error:
        raise InputError(
            "check",
            "a worker that was killed, as happens where memory runs out",
            "memory for one scan a worker",
            "use fewer workers",
        ) from error


def _row(knee: Knee, own: Sequence[Finding]) -> dict[str, Any]:
    case = knee.case
    row: dict[str, Any] = {
        "case_id": case.case_id,
        "split": case.split,
        "side": case.side,
        "kl": case.kl,
        "errors": sum(f.severity == "error" for f in own),
        "warnings": sum(f.severity == "warning" for f in own),
        "kinds": " ".join(dict.fromkeys(f.kind for f in own)),
    }
    if knee.shape is not None and knee.spacing_mm is not None:
        for axis, n, mm in zip("dhw", knee.shape, knee.spacing_mm, strict=True):
            row |= {f"n_{axis}": n, f"spacing_{axis}": mm, f"field_{axis}": n * mm}
    if knee.intensity is not None:
        row |= dict(zip(("lowest", "p1", "p99", "highest"), knee.intensity, strict=True))
    if knee.cartilage_share is not None:
        row["cartilage_share"] = knee.cartilage_share
    return row


def _kl_by_side(cases: Sequence[Case]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[int]] = {}
    for case in cases:
        groups.setdefault((case.split, case.side), [0] * 5)[case.kl] += 1
    return [
        {"split": split, "side": side} | {f"kl{grade}": n for grade, n in enumerate(counts)}
        for (split, side), counts in sorted(groups.items())
    ]


def _range(table: pd.DataFrame, name: str) -> dict[str, float]:
    values = table[name].dropna().to_numpy(float)
    return {
        "lowest": float(values.min()),
        "median": float(np.median(values)),
        "highest": float(values.max()),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values; what is not defined is null."""
    return [
        {str(name): None if pd.isna(value) else _plain(value) for name, value in row.items()}
        for row in table.to_dict(orient="records")
    ]


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
