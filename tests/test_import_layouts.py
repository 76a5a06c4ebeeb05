"""Importers of layouts that do not say all by themselves: OAI, nnU-Net, BIDS, plain tables."""

import csv
import json

import pytest
from typer.testing import CliRunner

from kellgren.cli import app
from kellgren.cohort import check_cohort, read_cohort, write_cohort
from kellgren.faults import InputError
from kellgren.importers import (
    Options,
    codes_of,
    constants_of,
    import_bids,
    import_nnunet,
    import_oai,
    import_table,
    pairs,
)
from kellgren.importers.oai import drawn_splits, read_grades
from tests.conftest import SHARED
from tests.test_dicom import made_series

REAL = SHARED / "data" / "oai_longitudinal" / "kxr_sq_bu00.csv"
RELEASE = SHARED / "data" / "oaizib_cm_tables"


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


class TestOai:
    def made(self, root, *, kl=("0", "3", "2", "1")):
        persons = ["9000001", "9000002", "9000003", "9000004"]
        rows = [f"{p}|1: Right|15|0.8|{k}: grade" for p, k in zip(persons, kl, strict=True)]
        text(root / "kxr_sq_bu00.txt", "ID|SIDE|READPRJ|VERSION|V00XRKL", *rows,
             "9000001|1: Right|37|0.8|4: grade", "9000002|2: Left|42|0.8|4: grade")  # fmt: skip
        for n, person in enumerate(persons):
            self.series(root / f"0.C.2/{person}/20050101/1000000{n}", "SAG_3D_DESS_RIGHT")
            self.series(root / f"0.C.2/{person}/20050101/2000000{n}", "COR_T1_RIGHT")
        return root

    def series(self, folder, description):
        folder.parent.mkdir(parents=True, exist_ok=True)
        return made_series(folder, lambda s, _: setattr(s, "SeriesDescription", description))

    def test_the_dess_series_and_the_grade_of_project_15_make_a_case(self, tmp_path):
        imported = import_oai(self.made(tmp_path), options=Options(test_share=0.5))
        assert [case.case_id for case in imported.cases] == [
            f"900000{n}_V00_right" for n in (1, 2, 3, 4)
        ]
        assert [case.kl for case in imported.cases] == [0, 3, 2, 1]
        assert imported.cases[0].image == tmp_path / "0.C.2/9000001/20050101/10000000"
        assert sorted(case.split for case in imported.cases) == ["test", "test", "train", "train"]
        check_cohort(imported.cases, "here")

    def test_left_knees_other_visits_and_second_series_are_told(self, tmp_path):
        root = self.made(tmp_path)
        self.series(root / "0.C.2/9000002/20050101/30000000", "SAG_3D_DESS_LEFT")
        self.series(root / "1.C.2/9000002/20060101/30000001", "SAG_3D_DESS_RIGHT")
        second = self.series(root / "0.C.2/9000003/20050102/30000002", "SAG_3D_DESS_RIGHT")
        (second / "a").unlink()
        (root / "0.C.2/9000004/20050101/40000000").mkdir()
        imported = import_oai(root, options=Options(test_share=0.5))
        assert len(imported.cases) == 5
        assert imported.cases[1].case_id == "9000002_V00_left"
        assert imported.missing == {
            "0.C.2/9000003/20050102/30000002": "a second DESS series of the knee",
            "0.C.2/9000004/20050101/40000000": "no files in the folder",
        }
        assert "a second DESS series" in imported.report()

    def test_a_knee_without_a_reading_is_left_out_by_name(self, tmp_path):
        root = self.made(tmp_path, kl=(".", "3", "2", "1"))
        imported = import_oai(root, options=Options(test_share=0.5))
        # Project 37 read the first knee, too, so it has a grade after all.
        assert imported.cases[0].kl == 4
        root = self.made(tmp_path / "b", kl=("0", "3", "2", "."))
        assert import_oai(root, options=Options(test_share=0.5)).without_grade == ["9000004_right"]

    def test_no_split_and_no_table_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="--test-share"):
            import_oai(self.made(tmp_path))
        with pytest.raises(InputError, match="a test share of 20; needed"):
            import_oai(tmp_path, options=Options(test_share=20.0))
        (tmp_path / "kxr_sq_bu00.txt").unlink()
        with pytest.raises(InputError, match="kxr_sq_bu00"):
            import_oai(tmp_path, options=Options(test_share=0.5))

    @pytest.mark.parametrize("folder", ["0.C.2", "0.C.2/9000001"])
    def test_a_folder_too_deep_and_a_visit_that_is_none_are_told(self, tmp_path, folder):
        grades = self.made(tmp_path) / "kxr_sq_bu00.txt"
        with pytest.raises(InputError, match="folder that holds the releases"):
            import_oai(tmp_path / folder, options=Options(test_share=0.5, grades=grades))
        with pytest.raises(InputError, match="one of 00, 01"):
            import_oai(tmp_path, options=Options(test_share=0.5, visit="V00"))

    def test_a_person_keeps_the_split_whatever_the_order(self):
        persons = {str(n) for n in range(50)}
        drawn = drawn_splits(persons, 0.2, seed=3)
        assert drawn == drawn_splits(set(reversed(sorted(persons))), 0.2, seed=3)
        assert sum(split == "test" for split in drawn.values()) == 10

    @pytest.mark.skipif(not REAL.exists(), reason="the real reading table is not here")
    def test_the_real_readings_give_the_grades_of_the_released_tables(self):
        grades = read_grades(REAL, "00")
        released = {}
        for name in ("subInfo_train.csv", "subInfo_test.csv"):
            with (RELEASE / name).open(encoding="utf-8-sig", newline="") as file:
                for row in csv.DictReader(file):
                    released[row["OAI-SubjectID"]] = row["KLGrade"]
        assert len(released) == 507
        assert sum(kl == "" for kl in released.values()) == 26
        for subject, kl in released.items():
            assert str(grades.get((subject, "right"), "")) == kl


class TestNnunet:
    def made(self, root):
        text(root / "dataset.json", json.dumps({"file_ending": ".nii.gz"}))
        for path in ("imagesTr/a_0000", "labelsTr/a", "imagesTr/b_0000", "imagesTs/c_0000"):
            text(root / f"{path}.nii.gz", "scan")
        return text(root / "grades.csv", "case_id,side,KL", "a,1,0", "c,2,4.0", "d,1,2")

    def test_folders_say_the_split_and_a_table_the_grades(self, tmp_path):
        grades = self.made(tmp_path)
        options = Options({"kl": "KL"}, {"side": {"1": "right", "2": "left"}}, grades=grades)
        imported = import_nnunet(tmp_path, options=options)
        a, c = imported.cases
        assert (a.case_id, a.side, a.split, a.kl, a.subject) == ("a", "right", "train", 0, "a")
        assert a.segmentation == tmp_path / "labelsTr/a.nii.gz"
        assert (c.side, c.split, c.kl, c.segmentation) == ("left", "test", 4, None)
        assert imported.missing == {
            "b": "no row in the table of grades",
            "d": "no scan in imagesTr or imagesTs",
        }
        write_cohort(tmp_path / "cohort.csv", imported.cases)
        assert read_cohort(tmp_path / "cohort.csv") == imported.cases

    def test_what_is_not_said_is_asked_for(self, tmp_path):
        grades = self.made(tmp_path)
        for options, said in (
            (Options(), "--grades"),
            (Options(grades=grades), "--column"),
            (Options({"kl": "KL"}, grades=grades), "--code side:1=right"),
        ):
            with pytest.raises(InputError, match=said):
                import_nnunet(tmp_path, options=options)
        (tmp_path / "dataset.json").write_text("{}")
        with pytest.raises(InputError, match="file_ending"):
            import_nnunet(tmp_path, options=Options(grades=grades))


class TestBids:
    def made(self, root):
        text(root / "participants.tsv", "participant_id\tage\tsex\tKL",
             "sub-01\t60\tF\t3", "sub-02\t61\tM\t0", "sub-03\tn/a\tM\tn/a",
             "sub-04\tn/a\tF\t1")  # fmt: skip
        for name in ("sub-01/ses-01/anat/sub-01_ses-01_acq-dess_PDw.nii.gz",
                     "sub-01/ses-01/anat/sub-01_ses-01_T2w.nii.gz",
                     "sub-02/anat/sub-02_acq-dess_PDw.nii.gz",
                     "sub-03/anat/sub-03_acq-dess_PDw.nii.gz",
                     "derivatives/masks/sub-02/anat/sub-02_acq-dess_dseg.nii.gz"):  # fmt: skip
            text(root / name, "scan")
        return root

    def test_participants_and_their_scans_make_cases(self, tmp_path):
        options = Options(
            {"kl": "KL"},
            {"sex": {"F": "female", "M": "male"}},
            {"side": "right", "split": "train"},
            match="acq-dess",
        )
        imported = import_bids(self.made(tmp_path), options=options)
        first, second = imported.cases
        assert (first.case_id, first.kl, first.age, first.sex) == ("sub-01", 3, 60, "female")
        assert first.segmentation is None
        assert second.segmentation.name == "sub-02_acq-dess_dseg.nii.gz"
        assert imported.without_grade == ["sub-03"]
        assert imported.missing == {"sub-04": "no scan"}

    def test_two_scans_of_a_participant_are_not_chosen_from(self, tmp_path):
        options = Options({"kl": "KL"}, {"sex": {"F": "female", "M": "male"}},
                          {"side": "right", "split": "train"})  # fmt: skip
        imported = import_bids(self.made(tmp_path), options=options)
        assert imported.missing["sub-01"] == "2 scans; choose one by --match, a part of its name"

    def test_a_label_map_is_that_of_the_very_participant(self, tmp_path):
        text(tmp_path / "participants.tsv", "participant_id\tkl", "sub-1\t0", "sub-10\t1")
        for name in ("sub-1/anat/sub-1_PDw", "sub-10/anat/sub-10_PDw",
                     "derivatives/a/sub-10/anat/sub-10_dseg"):  # fmt: skip
            text(tmp_path / f"{name}.nii.gz", "scan")
        options = Options(constants={"side": "right", "split": "train"})
        first, second = import_bids(tmp_path, options=options).cases
        assert first.segmentation is None
        assert second.segmentation.name == "sub-10_dseg.nii.gz"
        text(tmp_path / "derivatives/b/sub-10/anat/sub-10_dseg.nii.gz", "another")
        assert "1 have several" in import_bids(tmp_path, options=options).notes[-1]


class TestTable:
    def made(self, folder):
        text(folder / "x/a.nii", "scan")
        return text(folder / "knees.csv", "Id,Knee,Fold,KLG,Path", "k1,R,1,2,x/a.nii",
                    "k2,L,2,0.0,x/b.nii", "k3,L,2,,x/c.nii")  # fmt: skip

    OPTIONS = Options(
        pairs(["case_id=Id", "side=Knee", "split=Fold", "kl=KLG", "image=Path"], "--column"),
        codes_of(["side:R=right", "side:L=left", "split:1=train", "split:2=test"]),
    )

    def test_columns_and_codes_are_said(self, tmp_path):
        imported = import_table(self.made(tmp_path), options=self.OPTIONS)
        assert [(c.case_id, c.side, c.split, c.kl) for c in imported.cases] == [
            ("k1", "right", "train", 2)
        ]
        assert imported.missing == {"k2": "no such scan"}
        assert imported.without_grade == ["k3"]
        assert "person of its own" in imported.notes[0]
        dry = import_table(self.made(tmp_path), tables_only=True, options=self.OPTIONS)
        assert len(dry.cases) == 2
        assert "not on disk: k2" in dry.report()

    def test_nothing_is_guessed(self, tmp_path):
        path = self.made(tmp_path)
        with pytest.raises(InputError, match="map it by --column"):
            import_table(path)
        without_codes = Options(self.OPTIONS.columns)
        with pytest.raises(InputError, match="--code side:R=right"):
            import_table(path, options=without_codes)

    def test_a_code_may_mean_either_side(self, tmp_path):
        half_said = Options(
            self.OPTIONS.columns, dict(self.OPTIONS.codes) | {"side": {"R": "right"}}
        )
        with pytest.raises(InputError, match="--code side:L=right or --code side:L=left"):
            import_table(self.made(tmp_path), options=half_said)

    def test_a_column_that_is_named_must_be_there(self, tmp_path):
        options = Options(dict(self.OPTIONS.columns) | {"age": "Years"}, self.OPTIONS.codes)
        with pytest.raises(InputError, match=r"a column 'Years'.*--column age="):
            import_table(self.made(tmp_path), options=options)

    @pytest.mark.parametrize("word", ["kl", "grade=KL", "=x", "side:1=right"])
    def test_words_that_map_nothing_are_refused(self, word):
        with pytest.raises(InputError, match="NAME=VALUE"):
            pairs([word], "--column")

    @pytest.mark.parametrize(
        ("word", "said"),
        [
            ("side=R=right", "side:1=right"),
            ("knee:R=right", "COLUMN:CODE=MEANING"),
            ("side:R=rihgt", "one of right, left"),
            ("kl:none=9", "one of 0, 1, 2, 3, 4"),
        ],
    )
    def test_codes_that_mean_nothing_are_refused(self, word, said):
        with pytest.raises(InputError, match=said):
            codes_of([word])

    def test_a_constant_must_be_a_value_of_its_column(self):
        assert constants_of(["side=left", "site=A"]) == {"side": "left", "site": "A"}
        with pytest.raises(InputError, match="found 'Left'; needed one of right, left"):
            constants_of(["side=Left"])

    def test_a_dry_run_lists_what_is_to_be_mended(self, tmp_path):
        path = text(tmp_path / "knees.csv", "case_id,subject,side,split,kl,image",
                    "k1,p,right,train,0,a.nii", "k2,p,right,test,1,b.nii")  # fmt: skip
        done = CliRunner().invoke(app, ["import", "table", str(path), "--dry-run"])
        assert done.exit_code == 0
        assert "age_mean" not in done.output
        assert "to be mended: " in done.output
        assert "found k1 in train and k2 in test" in done.output
