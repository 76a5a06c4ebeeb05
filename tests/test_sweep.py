"""A study file that stands for several studies."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kellgren import engine
from kellgren.cli import app
from kellgren.cli import study as rooms
from kellgren.config import read_studies, read_study
from kellgren.faults import InputError
from kellgren.results import COLUMNS, StudyResult, tidy

ROOT = Path(__file__).parents[1]
LEAST = 'name = "a"\n[cohort.phantom]\ntrain = 5\ntest = 5\n[backbones.resnet3d]\n'


def read(tmp_path: Path, text: str):
    path = tmp_path / "study.toml"
    path.write_text(LEAST + text, encoding="utf-8")
    return read_studies(path)


def test_a_sweep_is_the_product_of_its_values_and_nothing_else_changes(tmp_path):
    found = read(
        tmp_path, '[sweep]\n"cohort.phantom.agreement" = [1.0, 0.5]\n"training.epochs" = [2, 3]\n'
    )
    assert list(found) == [
        f"cohort.phantom.agreement={a},training.epochs={e}" for a in (1.0, 0.5) for e in (2, 3)
    ]
    plain = read(tmp_path, "")[""]
    for name, study in found.items():
        assert name in study.title
        same = study.model_dump(exclude={"cohort", "training", "title"})
        assert same == plain.model_dump(exclude={"cohort", "training", "title"})
    chosen = [(s.cohort.phantom.agreement, s.training.epochs) for s in found.values()]
    assert chosen == [(1.0, 2), (1.0, 3), (0.5, 2), (0.5, 3)]


def test_a_study_without_a_sweep_is_its_only_variant(tmp_path):
    assert list(read(tmp_path, "")) == [""]


def test_a_verb_that_takes_one_study_refuses_a_sweep(tmp_path):
    read(tmp_path, '[sweep]\n"training.epochs" = [2, 3]\n')
    with pytest.raises(InputError, match=r"key 'sweep'.*2 studies.*kellgren run"):
        read_study(tmp_path / "study.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"training.epoch" = [1]', "key 'training.epoch'.*did you mean 'epochs'"),
        ('"training.epochs" = [1, 0]', "key 'training.epochs'.*found 0"),
        ('"cohort.fantom.train" = [1]', "key 'cohort.fantom'"),
        ('"training.epochs" = 3', "'sweep.training.epochs'.*list"),
        ('"training.epochs" = []', "'sweep.training.epochs'.*list"),
        ('"training.epochs" = [2, 2]', "'sweep.training.epochs'.*once"),
        ('"cohort.table" = ["../x"]', "'sweep.cohort.table'.*plain words"),
        ("training.epochs = [2]", "'sweep.training'.*quote"),
        ('"name.of" = [1]', "'sweep.name.of'.*'name' to be a table"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, f"[sweep]\n{text}\n")


@pytest.mark.parametrize(("name", "variants"), [("noise", 4), ("supervision", 1), ("size", 2)])
def test_the_sweeps_of_the_repository_are_sound(name, variants):
    found = read_studies(ROOT / "studies" / f"{name}.toml")
    assert len(found) == variants
    assert not any(study.explain for study in found.values())


def test_the_study_of_lambda_goes_from_single_kl_to_single_oa():
    study = read_study(ROOT / "studies" / "lambda.toml")
    weights = {
        name: (study.ways[name].lambda_oa, study.ways[name].lambda_kl)
        for name in study.supervisions[1:-1]
    }
    assert (study.supervisions[0], study.supervisions[-1]) == ("single_kl", "single_oa")
    assert all(oa + kl == pytest.approx(1) for oa, kl in weights.values())
    assert [f"lambda_{100 * oa:.0f}" for oa, _ in weights.values()] == list(weights)
    assert len(study.seeds) >= 5
    assert study.explain


def test_run_carries_out_every_variant_in_a_folder_of_its_own(tmp_path, monkeypatch):
    done, printed = [], []
    monkeypatch.setattr(engine, "run_study", lambda place: done.append(place))
    monkeypatch.setattr(rooms, "report", printed.append)
    read(tmp_path, '[sweep]\n"cohort.phantom.agreement" = [1.0, 0.5]\n')
    words = ["run", str(tmp_path / "study.toml"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    folders = [tmp_path / "out" / f"cohort.phantom.agreement={a}" for a in (1.0, 0.5)]
    assert [place.folder for place in done] == folders
    assert [place.study.cohort.phantom.agreement for place in done] == [1.0, 0.5]
    assert printed == [folder / "study" for folder in folders]
    assert "study 2 of 2" in shown.stderr


@pytest.mark.parametrize(("explain", "verbs_done"), [("true", 3), ("false", 2)])
def test_a_study_may_leave_out_saliency(tmp_path, monkeypatch, explain, verbs_done):
    done = []
    steps = {name: lambda place, run, cases, name=name: done.append(name) for name in engine.STEPS}
    monkeypatch.setattr(engine, "STEPS", steps)
    monkeypatch.setattr(engine, "prepare", lambda place, cases: None)
    nothing = StudyResult("a", {}, **{name: tidy(name, []) for name in COLUMNS})
    monkeypatch.setattr(engine, "analyze_study", lambda place, cases: nothing)
    monkeypatch.setattr(engine.Workplace, "cohort", lambda place: [])
    text = 'supervisions = ["dual"]\n' + LEAST.replace("[cohort", f"explain = {explain}\n[cohort")
    (tmp_path / "study.toml").write_text(text + 'size = "small"\ngrid = [16, 32, 32]\n')
    study = read_study(tmp_path / "study.toml")
    engine.run_study(engine.Workplace(study, tmp_path / "out", engine.torch.device("cpu")))
    assert done == ["train", "predict", "explain"][:verbs_done]


TINY = """
name = "tiny"
supervisions = ["single_kl"]
explain = false
[sweep]
"cohort.phantom.agreement" = [1.0, 0.5]
[cohort.phantom]
train = 6
test = 6
contrast = "clear"
[backbones.resnet3d]
size = "small"
grid = [16, 32, 32]
[training]
epochs = 3
batch_size = 2
threads = 1
[analysis]
resamples = 100
"""
TIMED = ("runs.csv", "exemplars.npz")  # a table of seconds; a ZIP that holds the time of writing


def lasting(folder: Path) -> dict[str, bytes]:
    """What a sweep leaves behind, without what tells how long it took."""
    kept = [*folder.glob("*/runs/*/*.safetensors"), *folder.glob("*/runs/*/*.csv")]
    kept += [*folder.glob("*/study/*.csv"), *folder.glob("*/cohort.csv")]
    kept = [p for p in kept if p.name not in (*TIMED, "log.csv")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept}


def killed_once(folder: Path, sign: str) -> None:
    """Run the sweep of a folder in a process of its own; kill it as soon as the file stands."""
    words = ["run", "tiny.toml", "--out", "stopped", "--device", "cpu"]
    running = subprocess.Popen([sys.executable, "-m", "kellgren.cli", *words], cwd=folder)
    deadline = time.monotonic() + 120
    while not (folder / "stopped" / sign).exists() and time.monotonic() < deadline:
        assert running.poll() is None, "the sweep ended before it could be killed"
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_where_it_was_and_ends_with_the_same_bits(
    tmp_path, monkeypatch
):
    (tmp_path / "tiny.toml").write_text(TINY, encoding="utf-8")
    one, other = (f"cohort.phantom.agreement={a}" for a in (1.0, 0.5))
    killed_once(tmp_path, f"{other}/runs/resnet3d-single_kl-s0/last.safetensors")
    half = lasting(tmp_path / "stopped")
    stamps = {name: (tmp_path / "stopped" / name).stat().st_mtime_ns for name in half}
    assert f"{other}/runs/resnet3d-single_kl-s0/weights.safetensors" not in half
    monkeypatch.setattr(rooms, "report", lambda folder: None)
    monkeypatch.chdir(tmp_path)
    for out in ("stopped", "whole"):
        done = CliRunner().invoke(app, ["run", "tiny.toml", "--out", out, "--device", "cpu"])
        assert done.exit_code == 0, done.output
    after = lasting(tmp_path / "stopped")
    assert after == lasting(tmp_path / "whole")
    assert len(after) > 60
    made = [name for name in half if name.startswith(f"{one}/runs")]
    assert {"weights.safetensors", "predictions.csv"} <= {Path(name).name for name in made}
    for name in made:
        assert (tmp_path / "stopped" / name).stat().st_mtime_ns == stamps[name], name
