"""The cohort: which knees are studied, with their grades and splits (section 3.2)."""

import csv
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kellgren.faults import InputError
from kellgren.files import completed
from kellgren.labels import KL_GRADES, OA_THRESHOLD, oa_from_kl
from kellgren.sheets import check_columns, is_formula, number_or_none, read_csv

SPLITS = ("train", "test")
SIDES = ("right", "left")
SEXES = ("female", "male")
REQUIRED = ("case_id", "subject", "side", "split", "kl", "image", "segmentation")
OPTIONAL = ("age", "sex", "bmi", "site")

_CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_LONGEST_NAME = 255  # bytes, on every file system in use
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """One knee of one person, at one visit.

    Attributes:
        case_id: Names the knee in every table and file: letters, digits, ".", "_" and "-".
        subject: The person; one person's knees never stand in both splits.
        side: "right" or "left".
        split: "train" or "test".
        kl: Reference KL grade, 0 to 4.
        image: The scan: NIfTI, NRRD, or a folder of one DICOM series.
        segmentation: The label map of the scan, or None.
        age: In years, or None.
        sex: "female", "male" or None.
        bmi: Body-mass index in kg/m2, or None.
        site: Where the scan was made, by any code, or None.
    """

    case_id: str
    subject: str
    side: str
    split: str
    kl: int
    image: Path
    segmentation: Path | None = None
    age: float | None = None
    sex: str | None = None
    bmi: float | None = None
    site: str | None = None


def read_cohort(path: Path) -> list[Case]:
    """Read a cohort table: CSV in UTF-8, one row a knee.

    Columns are `case_id, subject, side, split, kl, image, segmentation`, and optionally `age`,
    `sex`, `bmi` and `site`; other columns are ignored, but an `oa` column must agree with Eq. (1).
    Relative paths start at the folder of the table. Every cell is read as text, so an id such as
    "001" or "NA" stays what it is.

    Raises:
        InputError: If a column is missing, a cell cannot be used, or the knees do not fit together
            (see `check_cohort`).
    """
    cases, faults = read_rows(path)
    for fault in faults:
        raise fault
    check_cohort(cases, str(path))
    return cases


def read_rows(path: Path) -> tuple[list[Case], list[InputError]]:
    """Every row of a cohort table that can be used, and the fault of every one that cannot.

    Raises:
        InputError: If the file is no table, or a column is missing.
    """
    rows = read_csv(path)
    check_columns(path, list(rows[0][1]) if rows else [], REQUIRED, optional=OPTIONAL)
    cases, faults = [], []
    for line, row in rows:
        try:
            cases.append(_case(row, f"{path}, line {line}", path.parent))
        except InputError as fault:
            faults.append(fault)
    return cases, faults


def write_cohort(path: Path, cases: Sequence[Case]) -> None:
    """Write a cohort table; paths below its folder are written relative to it."""
    with (
        completed(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(REQUIRED + OPTIONAL)
        writer.writerows(_cells(case, path.parent) for case in cases)


def summary(cases: Sequence[Case]) -> pd.DataFrame:
    """Who is in each split: the numbers of section 3.2, one row a split.

    Columns: split, cases, kl0 to kl4, oa_negative, oa_positive, age_mean and age_sd (years, over
    the known ages, with one degree of freedom taken off; NaN where too few are known) and female
    (NaN where no sex is known). A split without cases has no row.
    """
    rows = []
    for split in SPLITS:
        members = [case for case in cases if case.split == split]
        if members:
            rows.append({"split": split, "cases": len(members)} | _describe(members))
    return pd.DataFrame(rows)


def covariates_of(cases: Sequence[Case]) -> pd.DataFrame:
    """What results are split by: side, sex, age and site of each case."""
    columns = ["case_id", "side", "sex", "age", "site"]
    return pd.DataFrame([[getattr(case, c) for c in columns] for case in cases], columns=columns)


def check_cohort(cases: Sequence[Case], where: str) -> None:
    """Refuse knees that do not fit together.

    Raises:
        InputError: If two cases share an id (also where a file system would not tell them apart)
            or an image, a split is empty, a person stands in both splits, or a subject or site is
            a formula to a spreadsheet.
    """
    for fault in cohort_faults(cases, where):
        raise fault


def cohort_faults(cases: Sequence[Case], where: str) -> list[InputError]:
    """Every way in which knees do not fit together, see `check_cohort`."""
    faults = [*_twins(cases, where), *_formulas(cases, where)]
    for split in SPLITS:
        if not any(case.split == split for case in cases):
            faults.append(
                InputError(
                    where,
                    f"no case of the split '{split}'",
                    "cases in train and in test",
                    f"mark some cases as '{split}'",
                )
            )
    split_of: dict[str, Case] = {}
    for case in cases:
        other = split_of.setdefault(case.subject, case)
        if other.split != case.split:
            faults.append(
                InputError(
                    f"{where}, subject {case.subject}",
                    f"{other.case_id} in {other.split} and {case.case_id} in {case.split}",
                    "each person in one split only",
                    "correct the subject of one of the two, or put both in one split",
                )
            )
    return faults


def check_files(cases: Sequence[Case]) -> None:
    """Refuse a cohort whose files are not there.

    Raises:
        InputError: Naming the first missing scan or mask, and how many are missing.
    """
    paths = [
        (case.case_id, path)
        for case in cases
        for path in (case.image, case.segmentation)
        if path is not None
    ]
    missing = [(case_id, path) for case_id, path in paths if not os.path.exists(path)]
    if missing:
        case_id, path = missing[0]
        raise InputError(
            f"case {case_id}: {path}",
            f"no such file ({len(missing)} of {len(paths)} scans and masks are missing)",
            "every scan and mask of the cohort",
            "download or unpack them; --dry-run lists them, --tables-only goes on without",
        )


def check_case_id(case_id: str, where: str) -> str:
    """The id itself, where it can name a file on every system.

    Raises:
        InputError: If it cannot.
    """
    if not _CASE_ID.fullmatch(case_id) or _DEVICE.fullmatch(case_id):
        raise InputError(
            where,
            f"the case id {case_id[:80]!a}",
            "1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit, and no device"
            " name of Windows",
            "rename the case",
        )
    return case_id


def _case(row: dict[str, str], where: str, folder: Path) -> Case:
    case_id = check_case_id(row["case_id"], where)
    where = f"{where}, case {case_id}"
    if not row["subject"].strip():
        raise InputError(where, "an empty subject", "who it is", "name the person by any code")
    if not row["image"]:
        raise InputError(where, "an empty image", "the path of the scan", "fill it in")
    kl = int(_choice(row["kl"], tuple("01234"), "kl", where))
    if "oa" in row:
        _check_oa(row["oa"], kl, where)
    sex = row.get("sex", "")
    return Case(
        case_id,
        row["subject"].strip(),
        _choice(row["side"], SIDES, "side", where),
        _choice(row["split"], SPLITS, "split", where),
        kl,
        _path(row["image"], folder, f"{where}, image"),
        _path(row["segmentation"], folder, f"{where}, segmentation")
        if row["segmentation"]
        else None,
        number_or_none(row.get("age", ""), f"{where}, age"),
        _choice(sex, SEXES, "sex", where) if sex else None,
        number_or_none(row.get("bmi", ""), f"{where}, bmi"),
        row.get("site", "").strip() or None,
    )


def _choice(value: str, choices: tuple[str, ...], column: str, where: str) -> str:
    if value not in choices:
        raise InputError(
            where,
            f"{column} is {value[:80]!a}" if value else f"an empty {column}",
            f"one of {', '.join(choices)}",
            "correct the cell",
        )
    return value


def _check_oa(value: str, kl: int, where: str) -> None:
    expected = str(int(kl >= OA_THRESHOLD))
    if value != expected:
        raise InputError(
            where,
            f"oa is {value[:80]!a} where kl is {kl}",
            f"{expected}, by Eq. (1)",
            "correct one of the two, or drop the column oa",
        )


def _path(value: str, folder: Path, where: str) -> Path:
    hostile = (
        any(unicodedata.category(letter) in ("Cc", "Cf", "Cs") for letter in value)
        or value.startswith(("~", "\\\\"))
        or _SCHEME.match(value)
        or max(len(part.encode()) for part in value.split("/")) > _LONGEST_NAME
    )
    if hostile:
        raise InputError(
            where,
            f"{value[:80]!a}",
            "a plain path, absolute or relative to the table's folder",
            "write the path out",
        )
    return folder / value


def _twins(cases: Sequence[Case], where: str) -> list[InputError]:
    keys: list[tuple[str, Callable[[Case], str | None]]] = [
        ("case id", lambda case: unicodedata.normalize("NFC", case.case_id).casefold()),
        ("image", lambda case: os.path.normpath(case.image)),
        (
            "segmentation",
            lambda case: os.path.normpath(case.segmentation) if case.segmentation else None,
        ),
    ]
    faults = []
    for name, key in keys:
        seen: dict[str, Case] = {}
        for case in cases:
            value = key(case)
            other = case if value is None else seen.setdefault(value, case)
            if other is not case:
                faults.append(
                    InputError(
                        f"{where}, case {case.case_id}",
                        f"the same {name} as case {other.case_id}",
                        f"one row a knee, each with its own {name}",
                        "drop or rename one of the two",
                    )
                )
    return faults


def _formulas(cases: Sequence[Case], where: str) -> list[InputError]:
    """Subjects and sites, as free text, go into tables that people open in a spreadsheet."""
    return [
        InputError(
            f"{where}, case {case.case_id}",
            f"the {name} {value[:80]!a}",
            "a code that no spreadsheet takes for a formula",
            "let it begin with a letter or digit",
        )
        for case in cases
        for name, value in (("subject", case.subject), ("site", case.site or ""))
        if is_formula(value)
    ]


def _describe(members: list[Case]) -> dict[str, int | float]:
    kl = np.array([case.kl for case in members])
    age = pd.Series([case.age for case in members], dtype=np.float64)
    counts = np.bincount(kl, minlength=KL_GRADES)
    positive = int(oa_from_kl(kl).sum())
    sexes = [case.sex for case in members if case.sex is not None]
    return {f"kl{grade}": int(counts[grade]) for grade in range(KL_GRADES)} | {
        "oa_negative": len(members) - positive,
        "oa_positive": positive,
        "age_mean": float(age.mean()),
        "age_sd": float(age.std(ddof=1)),
        "female": sexes.count("female") if sexes else float("nan"),
    }


def _cells(case: Case, folder: Path) -> list[str]:
    paths = [
        "" if path is None else _relative(path, folder) for path in (case.image, case.segmentation)
    ]
    age, bmi = ("" if value is None else repr(value) for value in (case.age, case.bmi))
    who = [case.case_id, case.subject, case.side, case.split, str(case.kl)]
    return [*who, *paths, age, case.sex or "", bmi, case.site or ""]


def _relative(path: Path, folder: Path) -> str:
    if not path.is_relative_to(folder):
        return str(path.absolute())
    inside = str(path.relative_to(folder))
    return f"./{inside}" if is_formula(inside) else inside
