import shutil
from pathlib import Path

import pandas as pd
import pytest

from kellgren.cohort import read_cohort, summary, write_cohort
from kellgren.faults import InputError
from kellgren.importers import IMPORTERS, import_oaizib_cm

SHARED = Path(__file__).parents[2] / "shared"
TABLES = SHARED / "data" / "oaizib_cm_tables"
needs_tables = pytest.mark.skipif(not TABLES.is_dir(), reason="the released tables are not here")

HEADER = "OAI-SubjectID,CMT-ID,OAI-Path,OAI-MRBarCode,KneeSide,KLGrade,Gender,Age,BMI"
TRAIN = ["91,001,0.E.1/91,0166,1,0,1,47,39.2", "92,002,0.E.1/92,0167,2,4,2,63,0"]
TEST = ["93,405,0.C.2/93,0168,1,2,2,72,", "94,406,0.C.2/94,0169,1,,2,54,30.1"]


def made_release(root, *, train=TRAIN, test=TEST, tables="csv", scans=True):
    root.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", train), ("test", test)):
        if tables == "csv":
            text = "\n".join([HEADER, *rows]) + "\n"
            (root / f"subInfo_{split}.csv").write_text(text, encoding="utf-8-sig")
        else:
            names = HEADER.replace("OAI-", "").split(",")
            table = pd.DataFrame([row.split(",") for row in rows], columns=names)
            table.to_excel(root / f"subInfo_{split}.xlsx", index=False)
    for ending, numbers in (("Tr", ("001", "002")), ("Ts", ("405", "406"))):
        for number in numbers if scans else ():
            for folder, tail in (("images", "_0000"), ("labels", "")):
                path = root / f"{folder}{ending}" / f"oaizib_{number}{tail}.nii.gz"
                path.parent.mkdir(exist_ok=True)
                path.touch()
    return root


@pytest.mark.parametrize("tables", ["csv", "xlsx"])
def test_a_release_becomes_cases(tmp_path, tables):
    imported = import_oaizib_cm(made_release(tmp_path / "r", tables=tables))
    first, second, third = imported.cases
    assert (first.case_id, first.subject, first.side, first.split) == (
        "oaizib_001", "91", "right", "train",
    )  # fmt: skip
    assert first.image == tmp_path / "r/imagesTr/oaizib_001_0000.nii.gz"
    assert first.segmentation == tmp_path / "r/labelsTr/oaizib_001.nii.gz"
    assert (first.age, first.sex, first.bmi) == (47, "male", 39.2)
    assert (second.side, second.kl, second.sex, second.bmi) == ("left", 4, "female", None)
    assert (third.split, third.bmi) == ("test", None)
    assert third.image == tmp_path / "r/imagesTs/oaizib_405_0000.nii.gz"
    assert imported.without_grade == ["oaizib_406"]
    assert imported.notes[0].startswith("1 knees")


def test_the_cases_make_a_cohort_table(tmp_path):
    cases = import_oaizib_cm(made_release(tmp_path / "r")).cases
    write_cohort(tmp_path / "cohort.csv", cases)
    assert read_cohort(tmp_path / "cohort.csv") == cases


def test_no_barcode_or_path_of_the_archive_comes_along(tmp_path):
    imported = import_oaizib_cm(made_release(tmp_path / "r"))
    assert "0166" not in repr(imported)
    assert "0.E.1" not in repr(imported)


def test_tables_may_stand_in_info(tmp_path):
    root = made_release(tmp_path / "r")
    (root / "info").mkdir()
    for path in root.glob("subInfo*"):
        path.rename(root / "info" / path.name)
    assert len(import_oaizib_cm(root).cases) == 3


def test_tables_that_agree_may_stand_twice_and_others_may_not(tmp_path):
    root = made_release(tmp_path / "r")
    made_release(root, tables="xlsx")
    assert len(import_oaizib_cm(root).cases) == 3
    made_release(root, tables="xlsx", train=[TRAIN[0], TRAIN[1].replace(",4,", ",3,")])
    with pytest.raises(InputError, match=r"subInfo_train\.xlsx.*agree"):
        import_oaizib_cm(root)


def test_missing_scans_are_counted_unless_only_tables_are_asked_for(tmp_path):
    root = made_release(tmp_path / "r")
    (root / "labelsTr" / "oaizib_002.nii.gz").unlink()
    (root / "imagesTs" / "oaizib_405_0000.nii.gz").unlink()
    with pytest.raises(InputError, match=r"case oaizib_002: .*labelsTr.*2 of 6"):
        import_oaizib_cm(root)
    assert len(import_oaizib_cm(root, tables_only=True).cases) == 3


def test_a_scan_of_a_knee_without_grade_need_not_be_there(tmp_path):
    root = made_release(tmp_path / "r")
    (root / "imagesTs" / "oaizib_406_0000.nii.gz").unlink()
    assert len(import_oaizib_cm(root).cases) == 3


@pytest.mark.parametrize("missing", ["subInfo_train.csv", "subInfo_test.csv"])
def test_a_missing_table_is_named(tmp_path, missing):
    root = made_release(tmp_path / "r")
    (root / missing).unlink()
    with pytest.raises(InputError, match=missing.split(".")[0]):
        import_oaizib_cm(root)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        import_oaizib_cm(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("91,001", "91,x1", "CMT-ID"),
        ("91,001", "91,002", "same case id"),
        ("91,001", ",001", "subject"),
        ("0166,1,0", "0166,3,0", "KneeSide"),
        ("0166,1,0", "0166,1,5", "KLGrade"),
        ("0166,1,0", "0166,1,NA", "KLGrade"),
        ("0,1,47", "0,0,47", "Gender"),
        ("47,39.2", "old,39.2", "Age"),
        ("47,39.2", "47,fat", "BMI"),
        ("91,001", "93,001", "subject 93"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named(tmp_path, old, new, expected):
    root = made_release(tmp_path / "r", train=[TRAIN[0].replace(old, new), TRAIN[1]])
    with pytest.raises(InputError, match=expected):
        import_oaizib_cm(root)


def test_a_missing_column_is_named(tmp_path):
    root = made_release(tmp_path / "r")
    table = root / "subInfo_train.csv"
    table.write_text(table.read_text().replace("KLGrade", "KL_Grade"))
    with pytest.raises(InputError, match="did you mean 'KL_Grade'"):
        import_oaizib_cm(root)


@needs_tables
@pytest.mark.parametrize("kept", [".xlsx", ".csv", ""])
def test_the_released_tables_give_the_cohort_of_the_paper(tmp_path, kept):
    for path in TABLES.iterdir():
        if path.name.endswith(kept):
            shutil.copy(path, tmp_path / path.name)
    imported = IMPORTERS["oaizib-cm"](tmp_path, tables_only=True)
    found = summary(imported.cases).round({"age_mean": 1, "age_sd": 1})
    published = pd.read_csv(SHARED / "paper" / "cohort.csv")
    pd.testing.assert_frame_equal(found[published.columns], published)
    left_out = [int(name.removeprefix("oaizib_")) for name in imported.without_grade]
    assert left_out == [*range(384, 405), *range(503, 508)]
    assert {case.side for case in imported.cases} == {"right"}
    assert (
        sum(case.sex == "female" for case in imported.cases)
        == summary(imported.cases)["female"].sum()
    )
