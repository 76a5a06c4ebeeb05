"""What an importer found in a folder: knees, what is missing, and why."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from kellgren.cohort import Case
from kellgren.faults import InputError, printable

Value = TypeVar("Value")


@dataclass(frozen=True)
class Imported:
    """What a release or folder holds.

    Attributes:
        cases: Knees that have a grade, in the order of the source.
        without_grade: Ids of the knees that are left out because they have none.
        notes: What one should know before using them, as sentences.
        missing: Id of each other knee that is left out, and why.
    """

    cases: list[Case]
    without_grade: list[str]
    notes: list[str]
    missing: dict[str, str] = field(default_factory=dict)

    def report(self, *, listed: int = 20) -> str:
        """What was found and what is missing, in lines for a person."""
        lines = [f"found: {len(self.cases)} knees with a grade"]
        if self.without_grade:
            lines.append(f"no KL grade: {_names(self.without_grade, listed)}")
        absent = [
            case.case_id
            for case in self.cases
            if not all(os.path.exists(path) for path in (case.image, case.segmentation) if path)
        ]
        if absent:
            lines.append(f"scan or label map not on disk: {_names(absent, listed)}")
        reasons: dict[str, list[str]] = {}
        for name, why in self.missing.items():
            reasons.setdefault(why, []).append(name)
        lines += [f"left out, {why}: {_names(names, listed)}" for why, names in reasons.items()]
        return "\n".join([*lines, *self.notes])


def coded(row: dict[str, str], column: str, codes: dict[str, Value], where: str) -> Value:
    """What the code in a cell stands for.

    Raises:
        InputError: If the cell holds no such code.
    """
    value = row[column].strip()
    if value not in codes:
        raise InputError(
            where,
            f"{column} is {value[:80]!a}",
            f"one of {', '.join(code for code in codes if code)}",
            "correct the table, or download it again",
        )
    return codes[value]


def _names(names: Sequence[str], listed: int) -> str:
    more = f" and {len(names) - listed} more" if len(names) > listed else ""
    return printable(f"{', '.join(names[:listed])}{more} ({len(names)})")
