"""Faults T, and M10 to M14: tables, ids, grades and splits."""

import zipfile

import openpyxl
import pandas as pd
import pytest

from kellgren.analysis.comparison import check_same_cases
from kellgren.cohort import Case, read_cohort, write_cohort
from kellgren.faults import InputError
from kellgren.importers.options import read_table
from kellgren.inspection import inspect_cohort
from kellgren.sheets import read_excel
from kellgren.store import Store
from kellgren.tables import Predictions, write_csv
from kellgren.volume import resample
from tests.faults import assert_last_line_names, ended, made_knee, small_file, write
from tests.predictions import made_predictions

HEADER = "case_id,subject,side,split,kl,image,segmentation"
ROWS = ["a,p1,right,train,0,a.nii,", "b,p2,right,test,3,b.nii,"]


def table(folder, rows=ROWS, header=HEADER, encoding="utf-8", end="\n"):
    path = folder / "cohort.csv"
    path.write_bytes(end.join([header, *rows, ""]).encode(encoding))
    return path


def told(path, *, deep=False):
    return [str(finding) for finding in inspect_cohort(path, deep=deep).findings]


def row(**cells):
    plain = dict(zip(HEADER.split(","), ROWS[0].split(","), strict=True))
    return ",".join((plain | cells).values())


def swapped(text, old, new):
    return [line.replace(old, new) for line in text]


IDS = ["001", "NA", "1e5", "nan", "true"]
PATHS = ["~/a.nii", "file://a.nii", "\\\\host\\a", "a\x00.nii", "x" * 300 + ".nii"]
HOSTILE = ["../x", "CON", "a/b", "<script>", "=cmd()", "x" * 300, "😀", "a\u202eb"]
GRADE_CELLS = ["", "NA", "5", "-1", "2.5", "2 ", "２"]

REFUSED = [
    ("T01 no header", {"header": ROWS[0]}, "a column 'case_id'"),
    ("T01 UTF-16", {"encoding": "utf-16"}, "UTF-8"),
    ("T01 semicolons", {"rows": swapped(ROWS, ",", ";"), "header": HEADER.replace(",", ";")},
     "separate the columns by commas"),
    ("T01 tabs", {"rows": swapped(ROWS, ",", "\t"), "header": HEADER.replace(",", "\t")},
     "separate the columns by commas"),
    ("T02 missing column", {"header": HEADER.replace("kl", "KL_grade")}, "a column 'kl'"),
    ("T03 twice", {"rows": [*ROWS, row(image="c.nii")]}, "the same case id as case a"),
    ("T04 equal under case", {"rows": [*ROWS, row(case_id="A", image="c.nii")]},
     "the same case id as case a"),
    ("T04 beyond ASCII", {"rows": [*ROWS, row(case_id="é")]}, "the case id"),
    ("T06 a person in both splits", {"rows": swapped(ROWS, "p2", "p1")}, "in train and b in test"),
    ("T09 both knees across the split", {"rows": [ROWS[0], "b,p1,left,test,3,b.nii,"]},
     "in train and b in test"),
    ("T10 empty split", {"rows": ROWS[:1]}, "no case of the split 'test'"),
    ("T11 unknown split", {"rows": swapped(ROWS, "test", "val")}, "one of train, test"),
    ("T14 one row", {"rows": ROWS[1:]}, "no case of the split 'train'"),
    ("T15 ragged", {"rows": [ROWS[0] + ",x", ROWS[1]]}, "8 cells"),
    ("T15 quotes left open", {"rows": ['"a', ROWS[1]]}, "cohort.csv"),
    *[(f"T12 path {p[:9]!r}", {"rows": [row(image=p), ROWS[1]]}, "a plain path") for p in PATHS],
    *[(f"T13 id {i[:9]!r}", {"rows": [row(case_id=i), ROWS[1]]}, "the case id") for i in HOSTILE],
    *[(f"M10 KL {k!r}", {"rows": [row(kl=k), ROWS[1]]}, "kl") for k in GRADE_CELLS],
    ("M11 OA against KL", {"rows": [ROWS[0] + ",1", ROWS[1] + ",1"], "header": HEADER + ",oa"},
     "Eq. (1)"),
]  # fmt: skip


@pytest.mark.parametrize(("about", "said"), [pytest.param(a, s, id=n) for n, a, s in REFUSED])
def test_a_table_that_cannot_be_used_is_refused_and_told(tmp_path, about, said):
    path = table(tmp_path, **about)
    with pytest.raises(InputError) as caught:
        read_cohort(path)
    assert "cohort.csv" in str(caught.value)
    assert said in str(caught.value)
    try:
        lines = told(path)
    except InputError as fault:
        lines = [f"error: {fault}"]
    assert any(line.startswith("error: ") and said in line for line in lines)
    code, lines = ended("check", path)
    assert code == 2
    assert "cohort.csv" in lines[-1]
    assert "; needed " in lines[-1]
    assert any(line.startswith("error: ") and said in line for line in lines)


@pytest.mark.parametrize(
    "about",
    [
        pytest.param({"encoding": "utf-8-sig"}, id="T01 byte order mark"),
        pytest.param({"end": "\r\n"}, id="T01 line ends of Windows"),
        pytest.param(
            {"rows": [*[row(case_id=i, subject=i, image=f"{i}.nii") for i in IDS], ROWS[1]]},
            id="T05 ids that look like numbers or nothing",
        ),
        pytest.param({"rows": [row(image="../../etc/passwd"), ROWS[1]]}, id="T12 elsewhere"),
    ],
)
def test_an_odd_table_that_says_what_it_means_is_read(tmp_path, about):
    cases = read_cohort(table(tmp_path, **about))
    names = [line.split(",")[0] for line in about.get("rows", ROWS)]
    assert [case.case_id for case in cases] == names


def test_every_bad_row_is_told_at_once(tmp_path):
    lines = told(table(tmp_path, [row(kl="7"), row(side="up"), *ROWS]))
    assert sum("line 2" in line or "line 3" in line for line in lines) == 2


def test_T12_a_file_that_is_no_scan_is_refused_whatever_its_path(tmp_path):
    lines = told(table(tmp_path, [row(image="/etc/passwd"), ROWS[1]]))
    assert any("case a: /etc/passwd" in line for line in lines)
    assert "root:" not in " ".join(lines)


def test_T12_no_file_outside_is_taken_for_a_scan(tmp_path):
    rows = [row(image="../../../../../../../../etc/passwd"), ROWS[1]]
    code, lines = ended("check", table(tmp_path, rows))
    assert code == 2
    assert_last_line_names(lines, "case a: ", "/etc/passwd", "a name that ends in")


@pytest.mark.slow
def test_T14_a_hundred_thousand_rows_are_read(tmp_path):
    rows = [f"c{n},q{n},right,train,{n % 5},{n}.nii," for n in range(100_000)]
    assert len(read_cohort(table(tmp_path, [*rows, ROWS[1]]))) == 100_001


FORMULAS = ["=cmd|' /C calc'!A0", "+1+cmd", "-2+3+cmd", "@SUM(A1)", "\t=1"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_table_that_is_written_holds_a_formula(tmp_path, formula, monkeypatch):
    """T13: what strangers wrote may come out in a table that somebody opens in a spreadsheet."""
    write_csv(tmp_path / "a.csv", pd.DataFrame({"level": [formula, "north"], "value": [-1.5, 2]}))
    assert pd.read_csv(tmp_path / "a.csv")["level"].tolist() == ["'" + formula, "north"]
    monkeypatch.chdir(tmp_path)
    image = f"{formula.strip().replace('/', '')}.nii"
    small_file(tmp_path / image)
    own, other = (
        Case(name, name, "right", split, 1, tmp_path / path)
        for name, split, path in (("a", "train", image), ("b", "test", "gone.nii"))
    )
    write_cohort(tmp_path / "cohort.csv", [own, other])
    ended("check", "cohort.csv", "--out", "o")
    for path in ("cohort.csv", "o/cases.csv", "o/findings.csv"):
        cells = pd.read_csv(tmp_path / path, dtype=str, keep_default_na=False).to_numpy().ravel()
        assert len(cells)
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]
    for name in ("subject", "site"):
        rows = [row(**{"subject": "p", name: f'"{formula}"'}) + ",", ROWS[1] + ",s"]
        if name == "site":
            rows[0] = ROWS[0] + f',"{formula}"'
        code, lines = ended("check", table(tmp_path, rows, header=HEADER + ",site"))
        if name == "site" or formula.strip() == formula:
            assert code == 2
            assert_last_line_names(lines, "case a", f"the {name}", "takes for a formula")


def test_F23_a_name_that_is_no_text_or_steers_the_terminal_is_written_out(tmp_path):
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    small_file(folder / "a.nii")
    small_file(folder / "b.nii")
    (folder / "line\nbreak\x1b[2J.csv").write_text("a;b\n")
    code, lines = ended("check", folder / "line\nbreak\x1b[2J.csv")
    assert (code, len(lines)) == (2, 1)
    assert r"caf\udce9" in lines[0]
    assert r"break\x1b[2J.csv" in lines[0]
    code, lines = ended("check", table(folder), "--out", folder / "o", "--deep")
    assert code == 2  # one scan twice
    assert r"caf\udce9" in lines[-1]
    written = (folder / "o" / "findings.csv").read_text(encoding="utf-8")
    assert "cohort.csv, split 'train'" in written
    assert "caf" not in written


def test_T07_one_scan_under_two_names_is_an_error(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.nii").write_bytes(b"the same bytes")
    lines = [line for line in told(table(tmp_path)) if "the very scan of case a" in line]
    assert lines[0].startswith("error: case b: ")
    assert "a leak" in lines[0]


def test_T07_T08_copies_are_found_however_they_were_changed(tmp_path):
    scan, other = made_knee(0)[0], made_knee(1)[0]
    write(tmp_path / "a.nii", scan)
    write(tmp_path / "b.nii", resample(scan.astype("f4"), (70, 180, 170)))
    write(tmp_path / "c.nii", other)
    write(tmp_path / "d.nii", scan[::-1] * 2)
    write(tmp_path / "e.nii.gz", scan.astype("f4"))
    rows = ["c,p3,right,test,1,c.nii,", "d,p4,right,train,1,d.nii,", "e,p5,right,test,1,e.nii.gz,"]
    lines = told(table(tmp_path, [*ROWS, *rows]), deep=True)
    near = [line for line in lines if "nearly the scan" in line]
    assert [line.split(": ")[1] for line in near] == [
        "case b", "case d", "case d", "case e", "case e",
    ]  # fmt: skip
    assert (
        sum("error: case e: " in line and "the very scan of case a" in line for line in lines) == 1
    )
    assert not any("case c" in line for line in near)


GRADES = [
    ("M12 a grade absent", [0, 0, 1, 1, 2, 2, 4, 4], "no knee of KL 3"),
    ("M13 one class", [0, 0, 1, 1, 0, 0, 1, 1], "knees with OA only, or without"),
    ("M14 one case a class", [0, 0, 1, 1, 2, 2, 3, 4], "one knee of KL 3, 4"),
]


@pytest.mark.parametrize(("grades", "said"), [pytest.param(g, s, id=n) for n, g, s in GRADES])
def test_grades_that_leave_a_metric_undefined_are_told(tmp_path, grades, said):
    rows = [f"t{n},t{n},right,train,{kl},t{n}.nii," for n, kl in enumerate(grades)]
    lines = told(table(tmp_path, [*rows, ROWS[1]]))
    assert any(said in line and line.startswith("warning: ") for line in lines)


def test_ids_in_the_order_of_the_grade_are_noted(tmp_path):
    rows = [f"t{n},t{n},right,train,{n // 2},t{n}.nii," for n in range(10)]
    lines = told(table(tmp_path, [*rows, ROWS[1]]))
    assert any("note: " in line and "order of the grade" in line for line in lines)


def test_T16_formulas_without_values_and_hidden_sheets_are_refused(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["id", "kl"])
    book.active.append(["001", "=1+1"])
    book.save(tmp_path / "formula.xlsx")
    with pytest.raises(InputError, match=r"cell B2.*formula without a stored value"):
        read_excel(tmp_path / "formula.xlsx")
    book = openpyxl.Workbook()
    book.active.append(["id"])
    book.create_sheet("other")
    book.active.sheet_state = "hidden"
    book.save(tmp_path / "hidden.xlsx")
    with pytest.raises(InputError, match="hidden first sheet"):
        read_excel(tmp_path / "hidden.xlsx")


def test_T16_macros_are_never_looked_at(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["id", "kl"])
    book.active.append(["001", "2"])
    book.save(tmp_path / "macro.xlsx")
    with zipfile.ZipFile(tmp_path / "macro.xlsx", "a") as archive:
        archive.writestr("xl/vbaProject.bin", b"Sub AutoOpen()")
    assert read_excel(tmp_path / "macro.xlsx") == [(2, {"id": "001", "kl": "2"})]
    (tmp_path / "macro.xlsx").rename(tmp_path / "macro.xlsm")
    with pytest.raises(InputError, match=r"macro\.xlsm.*save the table again as UTF-8 CSV"):
        read_table(tmp_path / "macro.xlsm")


PROBABILITIES = "prob_oa," + ",".join(f"prob_kl_{k}" for k in range(5))
FIRST, SECOND = "a,0,0.2,0.6,0.1,0.1,0.1,0.1", "b,3,0.9,0,0,0,1,0"


def predictions(folder, rows):
    path = folder / "m3t-dual-s0" / "predictions.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["case_id,kl," + PROBABILITIES, *rows, ""]))
    return path


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([FIRST.replace("0.2", "nan"), SECOND], id="T17 NaN"),
        pytest.param([FIRST.replace("0.2", "1.2"), SECOND], id="T17 above 1"),
        pytest.param([FIRST.replace("0.6", "0.5"), SECOND], id="T17 sum below 1"),
        pytest.param([FIRST, FIRST], id="T17 twice"),
        pytest.param([FIRST.replace("a,0", "a,7"), SECOND], id="T17 grade"),
        pytest.param([FIRST + ",", SECOND + ","], id="T17 rows longer than the header"),
    ],
)
def test_predictions_that_cannot_be_are_refused(tmp_path, rows):
    with pytest.raises(InputError, match=r"predictions\.csv"):
        Predictions.read(predictions(tmp_path, rows))
    code, lines = ended("analyze", tmp_path, "--out", tmp_path / "o")
    assert (code, len(lines)) == (2, 1)
    assert "predictions.csv" in lines[0]
    assert "; needed " in lines[0]


def test_T17_the_order_of_predictions_does_not_matter_and_other_cases_do(tmp_path):
    read = [
        Predictions.read(predictions(tmp_path, rows)) for rows in ([FIRST, SECOND], [SECOND, FIRST])
    ]
    assert read[0].case_id.tolist() == read[1].case_id.tolist() == ["a", "b"]
    with pytest.raises(InputError):
        check_same_cases(made_predictions(n=10), made_predictions(n=11))


@pytest.mark.parametrize("name", ["predictions.csv", "features.npz", "overlap.csv", "run.json"])
def test_a_damaged_file_of_a_run_ends_in_one_line(tmp_path, name):
    path = predictions(tmp_path, [FIRST, SECOND])
    for content in (
        b"",
        b"PK\x03\x04 torn",
        bytes(range(256)),
        b'{"asked"',
        '"a\n'.encode("utf-16"),
    ):
        (path.parent / name).write_bytes(content)
        code, lines = ended("analyze", tmp_path, "--out", tmp_path / "o")
        assert (code, len(lines)) == (2, 1), content
        assert name in lines[0]
        assert "; needed " in lines[0]


def test_no_id_of_a_table_leads_out_of_the_store(tmp_path):
    with pytest.raises(InputError, match="case id"):
        Store(tmp_path, (8, 8, 8), (2,)).path("../x")
