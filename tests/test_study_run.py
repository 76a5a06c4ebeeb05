"""The whole study through the command line, on a few small synthetic knees."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

STUDY = """
name = "tiny"
[cohort.phantom]
train = 10
test = 10
grid = [24, 48, 48]
contrast = "clear"
[backbones.resnet3d]
size = "small"
grid = [24, 48, 48]
[training]
epochs = 2
batch_size = 5
lr = 1e-3
threads = 1
[analysis]
resamples = 200
"""


def kellgren(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kellgren.cli", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.toml").write_text(STUDY)
    done = kellgren("run", "tiny.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_one_command_leads_from_nothing_to_the_page(study):
    out = study / "results" / "tiny"
    page = (out / "study" / "report.html").read_text(encoding="utf-8")
    assert "esearch use only" in page
    assert sorted(p.name for p in (out / "runs").iterdir()) == [
        "resnet3d-dual-s0",
        "resnet3d-single_kl-s0",
        "resnet3d-single_oa-s0",
    ]
    comparisons = pd.read_csv(out / "study" / "comparisons.csv")
    assert len(comparisons) == 6
    truth = pd.read_csv(out / "study" / "truth.csv")
    assert set(truth["against"]) >= {"truth", "reading", "planted"}
    for table in ("table1", "table2", "table3"):
        assert (out / "study" / f"{table}.tex").exists()


def test_no_path_of_this_machine_stands_in_the_results(study):
    out = study / "results" / "tiny"
    texts = [*out.glob("study/*.html"), *out.glob("study/*.csv"), *out.glob("runs/*/run.json")]
    assert len(texts) > 10
    for path in texts:
        assert str(study) not in path.read_text(encoding="utf-8"), path


def test_running_again_trains_nothing_and_gives_the_same_tables(study):
    out = study / "results" / "tiny"
    weights = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/weights.safetensors")}
    before = (out / "study" / "comparisons.csv").read_bytes()
    assert kellgren("run", "tiny.toml", cwd=study).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in weights} == weights
    assert (out / "study" / "comparisons.csv").read_bytes() == before


def test_saved_runs_can_be_analysed_and_reported_alone(study):
    done = kellgren("analyze", "results/tiny/runs", "--out", "tables", cwd=study)
    assert done.returncode == 0, done.stderr
    assert kellgren("report", "tables", cwd=study).returncode == 0
    assert (study / "tables" / "report.html").exists()


def test_a_scan_is_graded_on_its_own_grid(study):
    scan = "results/tiny/phantom/imagesTs/oaizib_011_0000.nii.gz"
    run = "results/tiny/runs/resnet3d-dual-s0"
    done = kellgren(
        "grade", scan, "--weights", run, "--side", "right", "--out", "answer", cwd=study
    )
    assert done.returncode == 0, done.stderr
    said = json.loads((study / "answer" / "grade.json").read_text())
    table = pd.read_csv(study / run / "predictions.csv", dtype={"case_id": str})
    row = table[table["case_id"] == "oaizib_011"].iloc[0]
    logits = [row[f"logit_kl_{k}"] for k in range(5)]
    assert said["runs"][0]["kl"] == max(range(5), key=logits.__getitem__)
    assert abs(sum(said["mean"]["prob_kl"]) - 1) < 1e-9
    place = said["runs"][0]["place"]
    trained = table[table["split"] == "train"]
    assert place["n"] == len(trained)
    assert {one["case_id"] for one in place["nearest"]} <= set(trained["case_id"])
    assert "higher on the severity axis than" in done.stdout
    assert (study / "answer" / "grade.png").exists()
    assert len(list((study / "answer").glob("saliency-*.nii.gz"))) == 2


def test_a_broken_scan_is_named_and_finished_cases_stay(study, tmp_path):
    (tmp_path / "tiny.toml").write_text(STUDY)
    done = kellgren("phantom", "knees", "--train", "5", "--test", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = kellgren("import", "oaizib-cm", "knees", "--out", "cohort.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    broken = tmp_path / "knees" / "imagesTr" / "oaizib_003_0000.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    text = STUDY.split("[cohort.phantom]")[0] + '[cohort]\ntable = "cohort.csv"\n'
    (tmp_path / "own.toml").write_text(text + "[backbones.resnet3d]\ngrid = [24, 48, 48]\n")
    done = kellgren("prepare", "own.toml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    line = last_line(done)
    assert "oaizib_003" in line
    assert "needed" in line
    kept = {p.name for p in (tmp_path / "out" / "prepared" / "24x48x48").glob("*.safetensors")}
    assert "oaizib_001.safetensors" in kept
    broken.write_bytes(whole)
    assert kellgren("prepare", "own.toml", "--out", "out", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "no.toml"), "no.toml: found no such file"),
        (("import", "mri-cloud", ".", "--out", "c.csv"), "one of oaizib-cm, "),
        (("phantom", "x", "--grid", "24,48"), "three whole numbers"),
        (("analyze", "nowhere", "--out", "t"), "nowhere: found no such folder"),
        (("grade", "scan.nii.gz", "--weights", "somewhere"), "<backbone>-<supervision>-s<seed>"),
        (("report", "nowhere"), "nowhere"),
    ],
)
def test_bad_words_end_in_one_clear_line(words, expected, tmp_path):
    done = kellgren(*words, cwd=tmp_path)
    assert done.returncode != 0
    assert expected in last_line(done)


def test_an_unknown_size_is_refused_before_any_work(tmp_path):
    (tmp_path / "tiny.toml").write_text(STUDY.replace('"small"', '"smol"'))
    done = kellgren("run", "tiny.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "smol" in last_line(done)
    assert not (tmp_path / "results").exists()
