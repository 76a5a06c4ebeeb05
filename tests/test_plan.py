"""What a study will take, asked before it starts."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from kellgren import plan as plan_module
from kellgren.cli import app
from kellgren.config import BackboneSettings, ExplanationSettings, Study, TrainingSettings
from kellgren.engine import Workplace, begin_study, do_run
from kellgren.faults import InputError
from kellgren.learn.probe import Probe, probe
from kellgren.plan import check_disk, passes, plan_of, state_of

COST = Probe(step_s=2.0, forward_s=0.5, saliency_s=2.5, memory_bytes=3_000_000_000)
TINY = """
name = "tiny"
explain = false
[cohort.phantom]
train = 6
test = 2
grid = [24, 48, 48]
[backbones.resnet3d]
size = "small"
grid = [24, 24, 24]
[training]
epochs = 2
batch_size = 4
threads = 1
"""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Workplace:
    monkeypatch.setattr(plan_module, "probe", lambda *asked: COST)
    content = {
        "name": "plan",
        "explain": False,
        "cohort": {"phantom": {"train": 6, "test": 2, "grid": [24, 48, 48]}},
        "backbones": {"resnet3d": {"size": "small", "grid": [24, 24, 24]}},
        "training": {"epochs": 2, "batch_size": 4, "threads": 1},
    }
    return Workplace(Study.model_validate(content), tmp_path, torch.device("cpu"))


def test_a_new_study_is_to_do_and_its_time_is_that_of_its_steps(place):
    plan = plan_of(place, probed=True)
    assert [line.state for line in plan.lines] == ["to do"] * 3
    assert [line.epochs_left for line in plan.lines] == [2] * 3
    steps_and_knees = 2 * 2 * COST.step_s + 8 * COST.forward_s
    assert [line.seconds for line in plan.lines] == [steps_and_knees] * 3
    assert plan.knees_bytes == 8 * (24 * 48 * 48 * 2 + 24**3 * 3)
    assert not list(place.folder.iterdir())


def test_what_is_done_takes_nothing_and_what_was_begun_takes_its_last_epochs(place):
    cases = begin_study(place)
    first, second, _ = place.runs()
    do_run(place, first, cases)
    second.folder.mkdir()
    second.log.write_text("epoch,loss\n1,0.7\n")
    plan = plan_of(place, probed=True)
    assert [line.state for line in plan.lines] == ["done", "partial", "to do"]
    assert [line.epochs_left for line in plan.lines] == [0, 1, 2]
    assert plan.lines[0].seconds is None
    assert plan.lines[0].disk_bytes == 0
    assert plan.lines[2].seconds - plan.lines[1].seconds == 2 * COST.step_s
    assert (plan.knees_bytes, plan.knees_seconds) == (0, 0)
    explained = Workplace(
        place.study.model_copy(update={"explain": True}), place.folder, place.device
    )
    assert state_of(first, explained.ends(first)) == "partial"
    assert first.planted in explained.ends(first)


def test_the_disk_that_is_counted_holds_the_study(place):
    plan = plan_of(place, probed=False)
    for run in place.runs():
        do_run(place, run, begin_study(place))
    held = sum(path.stat().st_size for path in place.folder.rglob("*") if path.is_file())
    assert held < plan.disk_bytes < 5 * held


def test_a_study_that_the_disk_cannot_hold_is_refused(place, monkeypatch):
    plan = plan_of(place, probed=False)
    check_disk([replace(plan, free_bytes=plan.disk_bytes)])
    with pytest.raises(InputError, match=r"free disk; needed .* GB"):
        check_disk([replace(plan, free_bytes=plan.disk_bytes - 1)])
    with pytest.raises(InputError, match="free disk"):
        check_disk([replace(plan, free_bytes=plan.disk_bytes)] * 2)


def test_a_full_disk_stops_a_run_before_it_begins_and_a_dry_run_after_its_table(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(plan_module, "probe", lambda *asked: COST)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000))
    (tmp_path / "tiny.toml").write_text(TINY)
    words = ["run", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    for more in ([], ["--dry-run"]):
        result = CliRunner().invoke(app, [*words, *more])
        assert isinstance(result.exception, InputError)
        assert "0.00 GB of free disk" in str(result.exception)
        assert ("resnet3d-dual-s0" in result.output) == bool(more)
    assert not (tmp_path / "out").exists()


def test_explaining_costs_as_many_passes_as_the_method_makes():
    grid = (16, 16, 16)
    assert passes(ExplanationSettings(method="smoothgrad", copies=5), grid) == 5
    assert passes(ExplanationSettings(method="integrated_gradients", steps=7), grid) == 7
    assert passes(ExplanationSettings(method="occlusion", window=(8, 8, 8)), grid) == 8


def test_a_probe_runs_the_network_in_a_process_of_its_own():
    settings = BackboneSettings(size="small", grid=(24, 24, 24))
    found = probe("resnet3d", settings, TrainingSettings(batch_size=2, threads=1), "cpu")
    assert 0 < found.forward_s < found.saliency_s
    assert found.forward_s < found.step_s
    assert 100e6 < found.memory_bytes < 2e9
