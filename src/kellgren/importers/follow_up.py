"""Later KL grades of the knees of a cohort, from the tables of the OAI."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from kellgren.cohort import Case
from kellgren.faults import InputError
from kellgren.follow_up import Reading
from kellgren.importers.oai import Grades, grades_of_rows, read_grades
from kellgren.importers.options import read_table
from kellgren.sheets import Rows

# Visit of the OAI -> months since enrolment.
MONTHS = {"01": 12, "02": 18, "03": 24, "04": 30, "05": 36, "06": 48, "08": 72, "10": 96}
_TABLE = re.compile(r"kxr_sq_bu(\d\d)", re.IGNORECASE)
_LONG = ("KLG", "VISIT")


def follow_up(cases: Sequence[Case], tables: Sequence[Path]) -> list[Reading]:
    """Every later grade of the knees of a cohort that the tables hold.

    The visit of `kxr_sq_bu06` and the like is in their name; of a table with the columns `KLG` and
    `Visit` ("48m"), in its rows. Knees are matched by subject and side. Readings of baseline are
    left out. Of several readings of one visit that of the first reading project counts, as in
    `read_grades`.

    Raises:
        InputError: If a table is of neither kind or cannot be used, or two tables hold one visit.
    """
    found: dict[int, Grades] = {}
    for path in tables:
        for months, grades in _visits(path):
            if months in found:
                raise InputError(str(path), f"month {months} again", "each visit once", "drop one")
            found[months] = grades
    return [
        Reading(case.case_id, float(months), grades[case.subject, case.side])
        for case in cases
        for months, grades in found.items()
        if (case.subject, case.side) in grades
    ]


def _visits(path: Path) -> Iterator[tuple[int, Grades]]:
    named = _TABLE.match(path.stem)
    if named is not None and named[1] in MONTHS:
        yield MONTHS[named[1]], read_grades(path, named[1])
        return
    rows = [(line, {k.upper(): v for k, v in row.items()}) for line, row in read_table(path)]
    if not rows or not set(_LONG) <= rows[0][1].keys():
        raise InputError(
            str(path),
            "neither a name such as kxr_sq_bu06 nor the columns KLG and Visit",
            "a table of later grades of the OAI",
            f"give tables of visits {', '.join(MONTHS)}",
        )
    by_month: dict[int, Rows] = {}
    for line, row in rows:
        by_month.setdefault(_months(row["VISIT"], f"{path}, line {line}"), []).append((line, row))
    for months in sorted(by_month.keys() - {0}):
        yield months, grades_of_rows(path, by_month[months], "KLG")


def _months(cell: str, where: str) -> int:
    number = cell.strip().removesuffix("m")
    if not number.isdecimal() or not number.isascii():
        raise InputError(where, f"Visit is {cell[:80]!a}", "months such as 48m", "correct it")
    return int(number)
