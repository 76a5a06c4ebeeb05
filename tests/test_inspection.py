"""`kellgren check`: what it says, what it writes, and how it ends."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from kellgren.cli import app
from kellgren.faults import InputError
from kellgren.inspection import Finding, Knee, estimate, exit_code, grouped, inspect_cohort
from kellgren.inspection.knee import PRINT_GRID
from kellgren.inspection.leakage import BLOCK, near_duplicates
from kellgren.report.contact_sheet import contact_sheet, write_contact_sheets
from tests.faults import case_of, made_knee, told, write

HEADER = "case_id,subject,side,split,kl,image,segmentation,age"


def knees(folder, n=4):
    """A sound cohort of n knees and, but for one grade in each split, without warnings."""
    rows = [HEADER]
    for number in range(n):
        scan, labels = made_knee(number)
        write(folder / f"k{number}.nii", scan)
        write(folder / f"k{number}-mask.nii", labels)
        split = "train" if number % 2 else "test"
        rows.append(
            f"k{number},p{number},right,{split},{number % 5},k{number}.nii,k{number}-mask.nii,60"
        )
    path = folder / "cohort.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return knees(tmp_path_factory.mktemp("cohort"))


def kellgren(*words):
    return subprocess.run(
        [sys.executable, "-m", "kellgren.cli", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_deep_check_of_sound_knees_finds_only_what_the_grades_are(cohort):
    inspection = inspect_cohort(cohort, deep=True)
    assert {finding.kind for finding in inspection.findings} == {
        "grade-absent", "grade-single",
    }  # fmt: skip
    assert inspection.exit_code == 1
    table = inspection.cases()
    assert table["errors"].sum() == 0
    assert (table["cartilage_share"] > 0.004).all()
    np.testing.assert_allclose(table["field_d"], 112)
    assert "usable" in inspection.verdict()


def test_workers_and_headers_only_see_the_same_geometry(cohort):
    shallow, shared = (
        inspect_cohort(cohort, deep=False),
        inspect_cohort(cohort, deep=True, workers=2),
    )
    for name in ("case_id", "n_d", "n_h", "spacing_w", "errors"):
        assert shallow.cases()[name].tolist() == shared.cases()[name].tolist()
    assert "p99" not in shallow.cases()
    assert shared.cases()["p99"].gt(0).all()


def test_progress_is_told_for_every_case(cohort):
    seen = []
    inspect_cohort(cohort, deep=False, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_check_writes_tables_json_and_a_contact_sheet(cohort, tmp_path):
    done = kellgren(
        "check", cohort, "--deep", "--out", tmp_path / "o", "--json", tmp_path / "a.json"
    )
    assert done.returncode == 1, done.stderr
    assert "to prepare: " in done.stdout
    assert "check: done" in done.stderr
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "cases.csv", "check.json", "contact_sheet_01.png", "findings.csv",
    ]  # fmt: skip
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["exit_code"], content["cases"], content["deep"]) == (1, 4, True)
    assert content["findings"]["error"] == 0
    assert content["ranges"]["spacing_d"]["median"] == pytest.approx(1.4)
    assert len(pd.read_csv(tmp_path / "o" / "cases.csv")) == 4
    assert (tmp_path / "o" / "check.json").read_text() == (tmp_path / "a.json").read_text()


def test_an_error_ends_in_case_file_reason_and_mend_without_a_traceback(tmp_path):
    path = knees(tmp_path, 2)
    (tmp_path / "k1.nii").write_bytes(b"")
    done = kellgren("check", path)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert last.startswith("1 error, ")
    assert "case k1: " in last
    assert "k1.nii: found 0 bytes; needed 1 to" in last
    assert last.endswith("download or copy the file again")


def test_a_table_that_is_none_ends_in_one_line(tmp_path):
    path = tmp_path / "cohort.csv"
    path.write_text("a;b\n1;2\n")
    done = kellgren("check", path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "commas" in done.stderr
    with pytest.raises(InputError):
        inspect_cohort(path, deep=False)


def test_the_contact_sheet_shows_every_knee_with_its_findings(cohort, tmp_path):
    inspection = inspect_cohort(cohort, deep=True)
    findings = [Finding("error", "side", "k1", "k1.nii", "left", "right", "look")]
    figure = contact_sheet(inspection.knees, findings)
    titles = [axis.get_title() for axis in figure.axes]
    assert [title.split("\n")[0] for title in titles[:4]] == ["k0", "k1", "k2", "k3"]
    assert figure.axes[1].texts[0].get_text() == "error: side"
    assert not figure.axes[0].texts
    assert len(figure.axes[0].images) == 1
    seen = []
    (path,) = write_contact_sheets(inspection, tmp_path, progress=lambda *told: seen.append(told))
    assert path.stat().st_size > 10_000
    assert seen == [(4, 4)]


def test_the_sheet_of_hostile_knees_is_drawn_all_the_same(tmp_path):
    path = knees(tmp_path, 2)
    (tmp_path / "k0.nii").unlink()
    inspection = inspect_cohort(path, deep=True)
    assert inspection.exit_code == 2
    assert len(contact_sheet(inspection.knees, inspection.findings).axes[0].images) == 0


def test_exit_codes_and_groups():
    note, warning, error = (
        Finding(severity, "kind", f"c{severity}", "a", "b", "c", "d")
        for severity in ("note", "warning", "error")
    )
    assert [exit_code([note]), exit_code([note, warning]), exit_code([error, note])] == [0, 1, 2]
    lines = grouped([note, *[warning] * 9, *[error] * 7])
    assert [line.split(":")[0] for line in lines] == [
        *["error"] * 5, "  and 2 more of this kind (kind)",
        "warning", "  and 8 more of this kind (kind)", "note",
    ]  # fmt: skip


def strangers(n):
    """Knees of which nothing is known but fingerprints that have nothing to do with each other."""
    rng = np.random.default_rng(0)
    prints = rng.standard_normal((n, np.prod(PRINT_GRID)), np.float32)
    prints /= np.linalg.norm(prints, axis=1, keepdims=True)
    return [
        Knee(case_of(Path(f"{i}.nii"), case_id=f"k{i}"), (), digest=str(i), fingerprint=row)
        for i, row in enumerate(prints.astype(np.float16))
    ]


def test_copies_are_found_within_and_across_blocks_of_knees():
    knees = strangers(2 * BLOCK + 20)
    mirrored = knees[5].fingerprint.reshape(PRINT_GRID)[::-1].ravel()
    for at, of in ((9, knees[5].fingerprint), (2 * BLOCK + 7, mirrored)):
        knees[at] = Knee(knees[at].case, (), digest=f"copy {at}", fingerprint=of)
    found = [(f.case_id, f.found.split()[5]) for f in near_duplicates(knees)]
    assert found == [("k9", "k5"), (f"k{2 * BLOCK + 7}", "k5"), (f"k{2 * BLOCK + 7}", "k9")]
    assert near_duplicates(knees[:1]) == near_duplicates([]) == []


def test_the_search_for_copies_needs_no_more_memory_for_more_knees():
    peaks = []
    for n in (BLOCK, 4 * BLOCK):
        knees = strangers(n)
        tracemalloc.start()
        near_duplicates(knees)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.2 * peaks[0] < 100e6


def test_what_is_kept_of_a_knee_is_small(cohort):
    for knee in inspect_cohort(cohort, deep=True).knees:
        kept = [knee.fingerprint, knee.picture.scan, knee.picture.cartilage]
        assert all(array.base is None for array in kept)  # no view that holds a whole scan
        assert sum(array.nbytes for array in kept) < 100_000


def test_a_scan_that_lost_its_place_is_told_from_the_mask_of_another_knee(tmp_path):
    scan, labels = made_knee()
    mask = write(tmp_path / "mask.nii", labels)
    lost = write(tmp_path / "lost.nii", scan, affine=np.eye(4))
    lines = told(case_of(lost, mask))
    assert "a mask with voxels of 1.4 x 0.72 x 0.72 mm (d, h, w); needed the scan's" in lines[-1]
    assert "find out which of the two headers is wrong" in lines[-1]
    assert lines[0].startswith("warning: case knee_7: ")
    assert "found that voxels are 1.00 mm apart from top to bottom, not about" in lines[0]


def test_a_knee_that_the_mask_says_is_the_other_side_is_called_by_its_name(tmp_path):
    scan, labels = made_knee()
    case = case_of(write(tmp_path / "a.nii", scan), write(tmp_path / "m.nii", labels), side="left")
    (line,) = told(case)
    assert "found a right knee: medial tibial cartilage (4) lies " in line
    assert line.endswith("the table's side, the mask's labels, or the scan's orientation")


@pytest.mark.parametrize("name", ["release", "scan.nii.gz"])
def test_what_is_no_table_and_no_study_is_told_what_to_give(tmp_path, name):
    (tmp_path / "release").mkdir()
    done = CliRunner().invoke(app, ["check", str(tmp_path / name)])
    assert isinstance(done.exception, InputError)
    assert "needed a cohort table (.csv) or a study file (.toml)" in str(done.exception)


def test_the_estimate_of_the_paper_s_store_is_that_of_its_files(cohort):
    inspection = inspect_cohort(cohort, deep=False)
    paper = estimate(inspection.knees, [(160, 256, 256)])
    assert paper.disk_bytes == 4 * 3 * 160 * 256 * 256
    assert "0.1 GB of disk" in str(paper)
