"""Features of a whole cohort: one finished part a knee, then one wide table."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kellgren import __version__
from kellgren.cohort import Case, check_case_id, check_files
from kellgren.faults import InputError
from kellgren.files import digest_of, write_json
from kellgren.lease import alone
from kellgren.radiomics.children import Outcome, outcomes
from kellgren.store import sources_digest
from kellgren.tables import write_csv

Measure = Callable[[Case], Mapping[str, Mapping[str, float]]]

MADE_FROM = "made_from"


@dataclass(frozen=True)
class Extraction:
    """A wide table of features in the making.

    Attributes:
        out: The table, a .csv file; it appears once every knee has its part. The side-car (.json)
            and the folder of the parts (.parts) stand beside it.
        asked: Everything on which the numbers depend but the files of a knee, as a JSON object.
        measure: Gives the features of a knee by region and name; runs in a process of its own.
    """

    out: Path
    asked: dict[str, Any]
    measure: Measure

    @property
    def sidecar(self) -> Path:
        """What was asked for and what made it."""
        return self.out.with_suffix(".json")

    def part(self, case_id: str) -> Path:
        """Finished rows of one knee.

        Raises:
            InputError: If the id cannot name a file.
        """
        return self._parts / f"{check_case_id(case_id, str(self._parts))}.csv"

    @property
    def _parts(self) -> Path:
        return self.out.with_suffix(".parts")

    def run(
        self,
        cases: Sequence[Case],
        *,
        workers: int = 1,
        keep_going: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, InputError]:
        """Extract what is missing, and write the table if no knee is at fault.

        A part stays where its knee's files have the same bytes; else it is replaced.

        Args:
            cases: The knees.
            workers: Processes at work at the same time, a knee each.
            keep_going: Go on with the other knees after a fault.
            progress: Called with how many knees are through, and how many there are.

        Returns:
            The fault of each knee without features; empty unless `keep_going`.

        Raises:
            InputError: The first fault, unless `keep_going`; or if the folder holds parts of other
                settings.
        """
        self._claim()
        faults: dict[str, InputError] = {}
        # Closed at once after a fault, so that no process goes on with the other knees.
        with alone(self._parts, patient=True), closing(self._outcomes(cases, workers)) as ended:
            for done, (case_id, fault) in enumerate(ended, start=1):
                if fault is not None and not keep_going:
                    raise fault
                if fault is not None:
                    faults[case_id] = fault
                if progress is not None:
                    progress(done, len(cases))
        if not faults:
            self._join(cases)
        return faults

    def extract(self, case: Case) -> None:
        """Measure one knee and write its part."""
        made_from = self._made_from(case)
        rows = [
            {"case_id": case.case_id, "roi_name": name, MADE_FROM: made_from} | dict(features)
            for name, features in sorted(self.measure(case).items())
        ]
        write_csv(self.part(case.case_id), pd.DataFrame(rows))

    def _claim(self) -> None:
        """Write the side-car, or check that it asks for the same."""
        if self.out.suffix != ".csv":
            raise InputError("--out", f"'{self.out}'", "a name that ends in .csv", "choose another")
        before = _asked(self.sidecar) if self.sidecar.exists() else self.asked
        if before != self.asked:
            keys = before | self.asked
            changed = [key for key in keys if before.get(key) != self.asked.get(key)]
            raise InputError(
                str(self.sidecar),
                f"features of other {', '.join(changed)}",
                "the settings that the table was begun with",
                "choose another --out, or remove this file to extract the features anew",
            )
        write_json(self.sidecar, {"asked": self.asked, "made_with": {"kellgren": __version__}})

    def _outcomes(self, cases: Sequence[Case], workers: int) -> Generator[Outcome, None, None]:
        missing = []  # every knee is looked at before the first is measured
        for case in cases:
            try:
                _check_files(case)
                if not self._stands(case):
                    missing.append(case)
                    continue
            except InputError as error:
                yield case.case_id, error
            else:
                yield case.case_id, None
        yield from outcomes(self.extract, missing, workers)

    def _made_from(self, case: Case) -> str:
        return digest_of([self.asked, sources_digest(case)])

    def _stands(self, case: Case) -> bool:
        path = self.part(case.case_id)
        if not path.exists():
            return False
        try:
            return set(_rows(path)[MADE_FROM]) == {self._made_from(case)}
        except (KeyError, pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError):
            return False  # no part of ours: made anew

    def _join(self, cases: Sequence[Case]) -> None:
        parts = [_rows(self.part(case_id)) for case_id in sorted(case.case_id for case in cases)]
        write_csv(self.out, pd.concat(parts).drop(columns=MADE_FROM))


def _check_files(case: Case) -> None:
    if case.segmentation is None:
        raise InputError(
            f"case {case.case_id}",
            "no segmentation",
            "a label map of bones and cartilage on the grid of the scan (OAIZIB-CM: 1 femur,"
            " 2 femoral cartilage, 3 tibia, 4 medial and 5 lateral tibial cartilage)",
            "name it in the column `segmentation` of the cohort table; the CartiMorph Toolbox and"
            " nnU-Net trained on OAIZIB-CM make such masks",
        )
    check_files([case])


def _asked(sidecar: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(sidecar.read_text(encoding="utf-8"))["asked"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            str(sidecar), "no record of an extraction", "the side-car of the table", "remove it"
        ) from error


def _rows(part: Path) -> pd.DataFrame:
    """Rows of a part as text, so that the table holds each number exactly as it was written."""
    return pd.read_csv(part, dtype=str, keep_default_na=False)
