"""The OAIZIB-CM release (Yao et al. 2024), as it is unpacked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kellgren.cohort import Case, check_cohort, check_files
from kellgren.faults import InputError
from kellgren.importers.imported import Imported, coded
from kellgren.importers.options import PLAIN, Options
from kellgren.sheets import check_columns, number_or_none, read_csv, read_excel


def import_oaizib_cm(
    root: Path, *, tables_only: bool = False, options: Options = PLAIN
) -> Imported:
    """Read OAIZIB-CM (Yao et al. 2024): 404 training and 103 test knees, 26 without a KL grade.

    Expects `imagesTr`, `labelsTr`, `imagesTs`, `labelsTs`, and the tables `subInfo_train` and
    `subInfo_test` in `root` or `root/info`, as .csv, .xlsx or both; where both stand they must say
    the same. Knees without a grade are left out and named.

    Args:
        root: Folder of the release.
        tables_only: True if the scans need not exist, nor the knees fit together; the cases carry
            the paths that the scans would have.
        options: Nothing of them is needed; the release says it all.

    Raises:
        InputError: If a table is missing, two tables disagree, a cell cannot be used, or, unless
            `tables_only`, the knees do not fit together or an image or mask is missing.
    """
    knees = {split: _oaizib_knees(root, split) for split in ("train", "test")}
    cases = [
        _oaizib_case(knee, knee.kl, split, root)
        for split, members in knees.items()
        for knee in members
        if knee.kl is not None
    ]
    without_grade = [
        knee.case_id for members in knees.values() for knee in members if knee.kl is None
    ]
    if not tables_only:
        check_cohort(cases, str(root))
        check_files(cases)
    return Imported(cases, without_grade, _oaizib_notes(cases, without_grade))


DIGITS = 9  # of a CMT-ID; the release has three


@dataclass(frozen=True)
class _Knee:
    case_id: str
    subject: str
    side: str
    kl: int | None
    age: float | None
    sex: str
    bmi: float | None


def _oaizib_knees(root: Path, split: str) -> list[_Knee]:
    found = [
        path
        for folder in (root, root / "info")
        for suffix in (".csv", ".xlsx")
        if (path := folder / f"subInfo_{split}{suffix}").exists()
    ]
    if not found:
        raise InputError(
            str(root),
            f"no subInfo_{split}.xlsx or subInfo_{split}.csv",
            "the tables of the release, here or in 'info'",
            "give the folder that holds imagesTr and the tables",
        )
    readings = [_oaizib_table(path) for path in found]
    for path, reading in zip(found[1:], readings[1:], strict=True):
        if reading != readings[0]:
            raise InputError(
                str(path),
                f"other knees or values than in {found[0]}",
                "tables that agree",
                "remove the outdated one",
            )
    return readings[0]


def _oaizib_table(path: Path) -> list[_Knee]:
    rows = read_csv(path) if path.suffix == ".csv" else read_excel(path)
    names = list(rows[0][1]) if rows else []
    subject = "OAI-SubjectID" if "OAI-SubjectID" in names else "SubjectID"
    check_columns(path, names, (subject, "CMT-ID", "KneeSide", "KLGrade", "Gender", "Age", "BMI"))
    return [_oaizib_knee(row, row[subject], f"{path}, line {line}") for line, row in rows]


def _oaizib_knee(row: dict[str, str], subject: str, where: str) -> _Knee:
    number = row["CMT-ID"]
    if not (number.isascii() and number.isdigit() and len(number) <= DIGITS and subject):
        raise InputError(
            where,
            f"CMT-ID {number[:80]!a} of subject {subject[:80]!a}",
            "a number such as 001 and a subject",
            "download the table again",
        )
    kl = coded(row, "KLGrade", {grade: int(grade) for grade in "01234"} | {"": None}, where)
    return _Knee(
        case_id=f"oaizib_{int(number):03d}",
        subject=subject,
        side=coded(row, "KneeSide", {"1": "right", "2": "left"}, where),
        kl=kl,
        age=number_or_none(row["Age"], f"{where}, Age"),
        sex=coded(row, "Gender", {"1": "male", "2": "female"}, where),
        # One twin of the table writes the one unknown index as 0.
        bmi=None if row["BMI"] == "0" else number_or_none(row["BMI"], f"{where}, BMI"),
    )


def _oaizib_case(knee: _Knee, kl: int, split: str, root: Path) -> Case:
    ending = {"train": "Tr", "test": "Ts"}[split]
    return Case(
        case_id=knee.case_id,
        subject=knee.subject,
        side=knee.side,
        split=split,
        kl=kl,
        image=root / f"images{ending}" / f"{knee.case_id}_0000.nii.gz",
        segmentation=root / f"labels{ending}" / f"{knee.case_id}.nii.gz",
        age=knee.age,
        sex=knee.sex,
        bmi=knee.bmi,
    )


def _oaizib_notes(cases: Sequence[Case], without_grade: Sequence[str]) -> list[str]:
    notes = [
        "The release numbers its knees in the order of their grade within a split: shuffle, and"
        " never take the first or last ones for validation.",
        "Labels of the masks: 1 femur, 2 femoral cartilage, 3 tibia, 4 medial and 5 lateral tibial"
        " cartilage.",
    ]
    if without_grade:
        notes.insert(0, f"{len(without_grade)} knees have no KL grade and are left out.")
    if all(case.side == "right" for case in cases):
        notes.append("All knees are right knees.")
    return notes
