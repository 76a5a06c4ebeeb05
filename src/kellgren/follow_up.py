"""What was read of the knees of a cohort at later visits: `follow_up.csv`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kellgren.faults import InputError
from kellgren.labels import KL_GRADES
from kellgren.sheets import check_columns, number_or_none, read_csv
from kellgren.tables import write_csv

COLUMNS = ("case_id", "months", "kl")


@dataclass(frozen=True, order=True)
class Reading:
    """A later grade of a knee.

    Attributes:
        case_id: The knee, as in the cohort table and the predictions of its baseline scan.
        months: Months since baseline, above 0.
        kl: Grade read then, 0 to 4.
    """

    case_id: str
    months: float
    kl: int


def read_follow_up(path: Path) -> list[Reading]:
    """Read `case_id, months, kl`, one row a reading, in any order.

    Raises:
        InputError: If a column is missing, a cell cannot be used, or a knee has two readings of
            one visit.
    """
    rows = read_csv(path)
    check_columns(path, list(rows[0][1]) if rows else [], COLUMNS)
    found: dict[tuple[str, float], Reading] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        months = number_or_none(row["months"], f"{where}, months")
        grade = row["kl"].strip()
        if months is None or grade not in map(str, range(KL_GRADES)):
            raise InputError(
                where,
                f"kl is {grade[:80]!a}, months is {row['months'][:80]!a}",
                "months after baseline and a grade of 0 to 4",
                "correct it, or leave the row out",
            )
        one = Reading(row["case_id"].strip(), months, int(grade))
        if (one.case_id, one.months) in found:
            raise InputError(where, "a second reading of that visit", "one", "keep one of them")
        found[one.case_id, one.months] = one
    return list(found.values())


def write_follow_up(path: Path, readings: Iterable[Reading]) -> None:
    """Write readings as `read_follow_up` reads them, ordered by case and month."""
    rows = [(one.case_id, f"{one.months:g}", one.kl) for one in sorted(readings)]
    write_csv(path, pd.DataFrame(rows, columns=list(COLUMNS)))
