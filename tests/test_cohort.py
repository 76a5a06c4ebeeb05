from pathlib import Path

import numpy as np
import pytest

from kellgren.cohort import (
    Case,
    check_case_id,
    check_cohort,
    check_files,
    read_cohort,
    summary,
    write_cohort,
)
from kellgren.faults import InputError

HEADER = "case_id,subject,side,split,kl,image,segmentation,age,sex,bmi"
FIRST = "a,p1,right,train,0,a.nii.gz,a-mask.nii.gz,61.5,female,28.1"
SECOND = "b,p2,left,test,4,b.nii.gz,,,,"


def made_table(folder, *rows, header=HEADER):
    path = folder / "cohort.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_cohort(path)
    assert "cohort.csv" in str(caught.value)
    return str(caught.value)


class TestReading:
    def test_a_table_is_read_relative_to_its_folder(self, tmp_path):
        assert read_cohort(made_table(tmp_path, FIRST, SECOND)) == [
            Case(
                "a", "p1", "right", "train", 0, tmp_path / "a.nii.gz", tmp_path / "a-mask.nii.gz",
                61.5, "female", 28.1,
            ),
            Case("b", "p2", "left", "test", 4, tmp_path / "b.nii.gz"),
        ]  # fmt: skip

    def test_optional_columns_may_be_absent_and_others_are_ignored(self, tmp_path):
        path = made_table(
            tmp_path,
            "a,p1,right,train,0,a.nii,,Basel",
            "b,p2,right,test,1,b.nii,,",
            header="case_id,subject,side,split,kl,image,segmentation,site",
        )
        assert [case.age for case in read_cohort(path)] == [None, None]

    def test_ids_that_look_like_numbers_or_nothing_stay_text(self, tmp_path):
        names = ["001", "NA", "1e5", "nan", "true"]
        rows = [f"{n},{n},right,train,0,{n}.nii,,,," for n in names]
        cases = read_cohort(made_table(tmp_path, *rows, SECOND))
        assert [case.case_id for case in cases[:-1]] == names

    def test_absolute_paths_and_paths_elsewhere_are_allowed(self, tmp_path):
        cases = read_cohort(
            made_table(tmp_path, FIRST.replace("a.nii.gz,", "/scans/a.nii.gz,"),
                       SECOND.replace("b.nii.gz", "../b.nii.gz"))
        )  # fmt: skip
        assert str(cases[0].image) == "/scans/a.nii.gz"
        assert cases[1].image == tmp_path / "../b.nii.gz"

    def test_what_is_written_is_read_back(self, tmp_path):
        cases = [
            Case("a", "p1", "right", "train", 0, tmp_path / "x/a.nii", None, 61.25, "male", 1 / 3),
            Case("b", "p,2", "left", "test", 4, tmp_path.parent / "b.nii", tmp_path / "m.nii"),
        ]
        write_cohort(tmp_path / "cohort.csv", cases)
        assert read_cohort(tmp_path / "cohort.csv") == cases
        assert "x/a.nii" in (tmp_path / "cohort.csv").read_text().replace(str(tmp_path), "?")

    def test_ten_thousand_rows_are_read(self, tmp_path):
        rows = [f"c{n},q{n},right,train,{n % 5},{n}.nii,,,," for n in range(10_000)]
        assert len(read_cohort(made_table(tmp_path, *rows, SECOND))) == 10_001


class TestCells:
    @pytest.mark.parametrize("kl", ["", "NA", "5", "-1", "2.5", "2 ", "２", "nan", "1e0", "²"])
    def test_a_grade_is_one_digit_from_0_to_4(self, tmp_path, kl):
        said = refusal(made_table(tmp_path, FIRST.replace(",0,", f",{kl},"), SECOND))
        assert "line 2, case a" in said
        assert "kl" in said

    @pytest.mark.parametrize(
        "case_id",
        ["", "../x", "a/b", "a\\b", "<script>", "=cmd()", "x" * 65, "é", "a b", ".a", "-a", "CON",
         "nul.txt", "Lpt1", "a\u202eb", "😀"],
    )  # fmt: skip
    def test_a_case_id_can_name_a_file_on_every_system(self, tmp_path, case_id):
        assert "case id" in refusal(made_table(tmp_path, case_id + FIRST[1:], SECOND))

    @pytest.mark.parametrize("case_id", ["a", "oaizib_001", "9", "A.b-C_d", "x" * 64, "console"])
    def test_ordinary_ids_pass(self, case_id):
        assert check_case_id(case_id, "here") == case_id

    @pytest.mark.parametrize(
        ("good", "bad", "expected"),
        [
            ("right", "", "empty side"),
            ("right", "R", "one of right, left"),
            ("train", "", "empty split"),
            ("train", "Train", "one of train, test"),
            ("train", "validation", "one of train, test"),
            ("p1", " ", "empty subject"),
            ("a.nii.gz", "", "empty image"),
            ("61.5", "old", "positive number"),
            ("61.5", "-3", "positive number"),
            ("28.1", "0", "positive number"),
            ("female", "F", "one of female, male"),
        ],
    )
    def test_a_cell_that_cannot_be_used_is_named(self, tmp_path, good, bad, expected):
        said = refusal(made_table(tmp_path, FIRST.replace(good, bad, 1), SECOND))
        assert expected in said
        assert "case a" in said

    @pytest.mark.parametrize(
        "path",
        ["~/a.nii", "~x/a.nii", "file:///a.nii", "FILE:a.nii", "https://host/a.nii", "s3://b/a.nii",
         "a\0.nii", "a\x1b.nii", "a\u202e.nii", "\\\\host\\a.nii"],
    )  # fmt: skip
    def test_only_plain_paths_are_followed(self, tmp_path, path):
        for column in ("a.nii.gz", "a-mask.nii.gz"):
            assert "plain path" in refusal(
                made_table(tmp_path, FIRST.replace(column, path), SECOND)
            )

    def test_an_oa_label_must_agree_with_the_grade(self, tmp_path):
        rows = [FIRST + ",0", SECOND + ",1"]
        assert len(read_cohort(made_table(tmp_path, *rows, header=HEADER + ",oa"))) == 2
        for bad in ("1", "", "no"):
            path = made_table(tmp_path, FIRST + f",{bad}", SECOND + ",1", header=HEADER + ",oa")
            assert "Eq. (1)" in refusal(path)


class TestTable:
    @pytest.mark.parametrize("name", HEADER.split(",")[:7])
    def test_a_missing_column_is_named_with_the_nearest(self, tmp_path, name):
        path = made_table(tmp_path, FIRST, SECOND, header=HEADER.replace(name, name.upper(), 1))
        said = refusal(path)
        assert f"a column '{name}'" in said
        assert f"did you mean '{name.upper()}'?" in said

    def test_a_table_without_header_or_rows_is_refused(self, tmp_path):
        assert "a column 'case_id'" in refusal(made_table(tmp_path, SECOND, header=FIRST))
        refusal(made_table(tmp_path))

    def test_ragged_rows_are_refused(self, tmp_path):
        assert "line 3" in refusal(made_table(tmp_path, FIRST, SECOND + ",,"))

    @pytest.mark.parametrize("twin", ["a", "A"])
    def test_an_id_stands_once_whatever_its_case(self, tmp_path, twin):
        path = made_table(tmp_path, FIRST, SECOND.replace("b,", f"{twin},", 1))
        assert "the same case id as case a" in refusal(path)

    def test_a_scan_stands_once(self, tmp_path):
        path = made_table(tmp_path, FIRST, SECOND.replace("b.nii.gz", "x/../a.nii.gz"))
        assert "the same image as case a" in refusal(path)

    def test_a_person_stands_in_one_split(self, tmp_path):
        said = refusal(made_table(tmp_path, FIRST, SECOND.replace("p2", "p1")))
        assert "subject p1: found a in train and b in test" in said

    def test_both_knees_of_a_person_may_share_a_split(self, tmp_path):
        other = FIRST.replace("a", "c", 1).replace("a.nii", "c.nii").replace("a-mask", "c-mask")
        other = other.replace("right", "left")
        assert len(read_cohort(made_table(tmp_path, FIRST, other, SECOND))) == 3

    @pytest.mark.parametrize(("row", "empty"), [(FIRST, "test"), (SECOND, "train")])
    def test_neither_split_is_empty(self, tmp_path, row, empty):
        assert f"no case of the split '{empty}'" in refusal(made_table(tmp_path, row))

    def test_missing_files_are_counted(self, tmp_path):
        cases = read_cohort(made_table(tmp_path, FIRST, SECOND))
        (tmp_path / "a.nii.gz").touch()
        with pytest.raises(InputError, match=r"case a: .*a-mask\.nii\.gz: .*2 of 3"):
            check_files(cases)
        (tmp_path / "a-mask.nii.gz").touch()
        (tmp_path / "b.nii.gz").mkdir()
        check_files(cases)


class TestSummary:
    def case(self, number, kl, split="train", **about):
        return Case(f"c{number}", f"p{number}", "right", split, kl, Path(f"{number}.nii"), **about)

    def test_it_counts_grades_and_persons(self, tmp_path):
        cases = [
            self.case(0, 0, age=50.0, sex="female"),
            self.case(1, 1, age=60.0, sex="male"),
            self.case(2, 4, age=70.0, sex="female"),
            self.case(3, 2),
            self.case(4, 3, "test"),
        ]
        check_cohort(cases, "here")
        table = summary(cases).set_index("split")
        assert table.loc["train"].to_dict() == {
            "cases": 4, "kl0": 1, "kl1": 1, "kl2": 1, "kl3": 0, "kl4": 1, "oa_negative": 2,
            "oa_positive": 2, "age_mean": 60, "age_sd": 10, "female": 2,
        }  # fmt: skip
        assert np.isnan(table.loc["test", ["age_mean", "age_sd", "female"]].to_numpy(float)).all()

    def test_a_split_without_cases_has_no_row(self):
        assert summary([self.case(0, 0)])["split"].tolist() == ["train"]
        assert summary([]).empty


def test_the_site_comes_back_and_may_be_absent(tmp_path):
    table = tmp_path / "cohort.csv"
    header = "case_id,subject,side,split,kl,image,segmentation,site\n"
    rows = "a,1,right,train,0,a.nii.gz,,B\nb,2,right,test,3,b.nii.gz,,\n"
    table.write_text(header + rows)
    cases = read_cohort(table)
    assert [case.site for case in cases] == ["B", None]
    write_cohort(table, cases)
    assert read_cohort(table) == cases
