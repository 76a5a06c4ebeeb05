import pandas as pd
import pytest

from kellgren.faults import InputError
from kellgren.sheets import check_columns, number_or_none, read_csv, read_excel


def write(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return path


def test_cells_stay_text(tmp_path):
    path = write(tmp_path / "a.csv", "id,kl\n001,NA\n1e5,nan\ntrue,\n")
    assert [row for _, row in read_csv(path)] == [
        {"id": "001", "kl": "NA"},
        {"id": "1e5", "kl": "nan"},
        {"id": "true", "kl": ""},
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path, encoding, end):
    path = write(tmp_path / "a.csv", end.join(["id,kl", "a,1", "", "b,2", ""]), encoding)
    assert read_csv(path) == [(2, {"id": "a", "kl": "1"}), (4, {"id": "b", "kl": "2"})]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "empty table"),
        ("\n\n", "empty table"),
        ("a,b\n1\n", "line 2: found 1 cells"),
        ("a,b\n1,2,3\n", "line 2: found 3 cells"),
        ('a,b\n"1,2\n', "end of data"),
        ("a,a\n1,2\n", "twice"),
    ],
)
def test_a_table_that_is_not_whole_is_refused(tmp_path, content, expected):
    with pytest.raises(InputError, match=rf"a\.csv.*{expected}"):
        read_csv(write(tmp_path / "a.csv", content))


def test_another_encoding_is_refused(tmp_path):
    with pytest.raises(InputError, match="UTF-8"):
        read_csv(write(tmp_path / "a.csv", "id,kl\né,1\n", "utf-16"))


def test_a_table_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "gone.csv", tmp_path):
        with pytest.raises(InputError, match="check the path"):
            read_csv(path)


def test_excel_cells_stay_text(tmp_path):
    pd.DataFrame({"id": ["001", "NA"], "bmi": [39.2, None]}).to_excel(
        tmp_path / "a.xlsx", index=False
    )
    assert read_excel(tmp_path / "a.xlsx") == [
        (2, {"id": "001", "bmi": "39.2"}),
        (3, {"id": "NA", "bmi": ""}),
    ]


def test_a_file_that_is_no_excel_is_refused(tmp_path):
    for content in (b"", b"PK\x03\x04 torn", b"id,kl\n"):
        (tmp_path / "a.xlsx").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.xlsx.*Excel"):
            read_excel(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match=r"b\.xlsx"):
        read_excel(tmp_path / "b.xlsx")


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (["case_id", "KL"], "'KL'"),
        (["case_id", "kl_"], "'kl_'"),
        (["case_id", "age"], "add it"),
        (["case_id;kl"], "commas"),
        (["case_id\tkl"], "commas"),
    ],
)
def test_the_nearest_name_is_offered_for_a_missing_column(tmp_path, names, advice):
    with pytest.raises(InputError, match=advice):
        check_columns(tmp_path / "a.csv", names, ["case_id", "kl"])


def test_an_optional_column_in_another_spelling_is_not_lost(tmp_path):
    with pytest.raises(InputError, match="'Age'"):
        check_columns(tmp_path / "a.csv", ["Age"], [], optional=["age"])


def test_numbers_are_positive_or_absent():
    assert number_or_none("61.5", "here") == 61.5
    assert number_or_none(" ", "here") is None
    for bad in ("0", "-1", "nan", "inf", "6１", "old", "1,5"):
        with pytest.raises(InputError, match="positive number"):
            number_or_none(bad, "here")
