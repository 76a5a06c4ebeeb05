"""The OAI as it is delivered: `<release>/<subject>/<date>/<barcode>/` and `kxr_sq_bu*` tables."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kellgren.cohort import Case
from kellgren.faults import InputError
from kellgren.importers.imported import Imported, coded
from kellgren.importers.options import PLAIN, Options, read_table
from kellgren.sheets import Rows, check_columns
from kellgren.volume import series_label

# Release of images -> visit of the tables.
VISITS = {
    "0": "00", "1": "01", "2": "02", "3": "03", "4": "04", "5": "05", "6": "06", "8": "08",
    "10": "10",
}  # fmt: skip
# Reading projects in the order in which their grades are believed; 15 read nearly all knees.
PROJECTS = ("15", "37", "42")
SIDES = {"1": "right", "2": "left"}
_SUBJECT, _DATE = re.compile(r"9\d{6}"), re.compile(r"\d{8}")

Grades = dict[tuple[str, str], int]


@dataclass(frozen=True)
class _Series:
    subject: str
    side: str
    folder: Path
    slices: int


def import_oai(root: Path, *, tables_only: bool = False, options: Options = PLAIN) -> Imported:
    """Find the 3-D DESS series of one visit, and the grade of each knee at that visit.

    A series is chosen by what its files say: "DESS" in the description, and the side; of two of one
    knee the one with more slices is taken. Grades are read by `read_grades`. The OAI has no splits:
    `options.test_share` draws persons, never knees.

    Args:
        root: Folder of the releases (such as `0.C.2`), with `kxr_sq_bu<visit>` as .txt, .csv or
            .xlsx in it or given by `options.grades`.
        tables_only: Ignored: the folders say which series there are.
        options: Visit, table of grades, share and seed of the test split.

    Raises:
        InputError: If a table is missing or cannot be used, or no share of the test split is given.
    """
    share = _share(options.test_share, root)
    if options.visit not in VISITS.values():
        known = ", ".join(VISITS.values())
        raise InputError(f"--visit {options.visit}", "no visit", f"one of {known}", "correct it")
    grades = read_grades(options.grades or _grades_table(root, options.visit), options.visit)
    chosen: dict[tuple[str, str], _Series] = {}
    missing: dict[str, str] = {}
    for found in _series(root, options.visit, missing):
        key = (found.subject, found.side)
        other = chosen.setdefault(key, found)
        if other is not found:
            kept, dropped = sorted((other, found), key=lambda one: -one.slices)
            chosen[key] = kept
            missing[str(dropped.folder.relative_to(root))] = "a second DESS series of the knee"
    if not chosen and not missing:
        raise InputError(
            str(root),
            f"no DESS series of visit {options.visit} at <release>/<subject>/<date>/<barcode>",
            "folders such as 0.C.2/9000001/20050101/10000001",
            "give the folder that holds the releases, and the visit by --visit",
        )
    graded = {key: one for key, one in sorted(chosen.items()) if key in grades}
    splits = drawn_splits({subject for subject, _ in graded}, share, seed=options.seed)
    cases = [
        Case(
            f"{subject}_V{options.visit}_{side}",
            subject,
            side,
            splits[subject],
            grades[subject, side],
            one.folder,
        )
        for (subject, side), one in graded.items()
    ]
    without = [f"{subject}_{side}" for subject, side in sorted(set(chosen) - set(graded))]
    notes = [
        f"Test persons were drawn: {share:g} of all, seed {options.seed}.",
        "Release groups (0.C.2, 0.E.1) differ in how persons were chosen: check for confounding.",
    ]
    return Imported(cases, without, notes, missing)


def read_grades(path: Path, visit: str) -> Grades:
    """KL grade of each knee, by subject and side, at one visit.

    Of several readings of a knee that of reading project 15 counts, else 37, else 42, as in the
    making of OAIZIB-CM; a reading without a grade does not count.

    Args:
        path: A `kxr_sq_bu<visit>` table: ID, SIDE, READPRJ, V<visit>XRKL; cells may be written as
            "1: Right" and "3.0".
        visit: "00" to "10".

    Raises:
        InputError: If a column is missing or a cell cannot be used.
    """
    rows = [(line, {k.upper(): v for k, v in row.items()}) for line, row in read_table(path)]
    return grades_of_rows(path, rows, f"V{visit}XRKL")


def grades_of_rows(path: Path, rows: Rows, column: str) -> Grades:
    """`read_grades` of rows read from `path`, all of one visit, with column names in capitals."""
    check_columns(path, list(rows[0][1]) if rows else [], ("ID", "SIDE", "READPRJ", column))
    codes = {str(grade): grade for grade in range(5)} | dict.fromkeys(("", ".", "NA", "nan"))
    readings: dict[tuple[str, str], tuple[int, int]] = {}
    for line, row in rows:
        plain = {name: _plain(row[name]) for name in ("SIDE", "READPRJ", column)}
        where = f"{path}, line {line}"
        kl = coded(plain, column, codes, where)
        side = coded(plain, "SIDE", SIDES, where)
        if kl is None or plain["READPRJ"] not in PROJECTS:
            continue
        reading = (PROJECTS.index(plain["READPRJ"]), kl)
        key = (row["ID"].strip(), side)
        readings[key] = min(reading, readings.get(key, reading))
    return {key: kl for key, (_, kl) in readings.items()}


def drawn_splits(subjects: set[str], test_share: float, *, seed: int) -> dict[str, str]:
    """Split of each person, the same for the same persons and seed.

    >>> sorted(drawn_splits({"a", "b", "c", "d"}, 0.25, seed=0).values())
    ['test', 'train', 'train', 'train']
    """
    order = sorted(subjects)
    drawn = np.random.default_rng(seed).permutation(len(order))
    test = set(drawn[: round(test_share * len(order))].tolist())
    return {subject: "test" if n in test else "train" for n, subject in enumerate(order)}


def _series(root: Path, visit: str, missing: dict[str, str]) -> Iterator[_Series]:
    folders = [
        folder
        for folder in sorted(root.glob("*/*/*/*"))
        if folder.is_dir()
        and VISITS.get(folder.parts[-4].split(".")[0]) == visit
        and _SUBJECT.fullmatch(folder.parts[-3])
        and _DATE.fullmatch(folder.parts[-2])
    ]
    for folder in folders:
        name = str(folder.relative_to(root))
        try:
            label = series_label(folder)
        except InputError as fault:
            missing[name] = fault.found
            continue
        if "dess" not in label.description.lower():
            continue
        if label.side is None:
            missing[name] = "a DESS series that does not say its side"
            continue
        yield _Series(folder.parts[-3], label.side, folder, label.files)


def _share(share: float | None, root: Path) -> float:
    if share is None or not 0 < share < 1:
        found = "no split: the OAI has none" if share is None else f"a test share of {share:g}"
        needed = "the share of the persons who are drawn for the test split, between 0 and 1"
        raise InputError(str(root), found, needed, "give it, such as --test-share 0.2")
    return share


def _grades_table(root: Path, visit: str) -> Path:
    found = [
        path
        for path in sorted(root.iterdir() if root.is_dir() else [])
        if path.stem.lower() == f"kxr_sq_bu{visit}"
        and path.suffix.lower() in (".txt", ".csv", ".xlsx")
    ]
    if len(found) != 1:
        raise InputError(
            str(root),
            f"{len(found)} tables kxr_sq_bu{visit}",
            f"one kxr_sq_bu{visit} as .txt, .csv or .xlsx",
            "put it there, or give --grades TABLE",
        )
    return found[0]


def _plain(value: str) -> str:
    """The code of a cell such as "1: Right", ".: Missing" or "3.0"."""
    return value.split(":")[0].strip().removesuffix(".0")
