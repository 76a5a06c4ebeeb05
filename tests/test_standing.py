"""How far runs are, from their files."""

import os

import pytest
from typer.testing import CliRunner

from kellgren.cli import app
from kellgren.faults import InputError
from kellgren.lease import LEASE_S, alone
from kellgren.runs import Run
from kellgren.standing import Standing, at_work

STUDY = """
name = "small"
seeds = [0]
supervisions = ["single_oa", "dual"]
explain = false
[cohort.phantom]
train = 4
test = 4
grid = [24, 24, 24]
[backbones.resnet3d]
size = "small"
grid = [24, 24, 24]
[training]
epochs = 4
"""


def logged(run, epochs):
    run.folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{i},0.001,{1 / i:.2f},{10 * i}" for i in range(1, epochs + 1)]
    run.log.write_text("\n".join(["epoch,lr,loss,seconds", *rows]) + "\n")


@pytest.fixture
def run(tmp_path):
    return Run.at(tmp_path / "resnet3d-dual-s0")


def standing(run, **more):
    return Standing.of(run, [run.weights, run.predictions, run.features], epochs=4, **more)


def test_a_run_without_a_folder_is_to_do(run):
    found = standing(run)
    assert (found.state, found.epoch, found.loss, found.seconds_left) == ("to do", 0, None, None)


def test_time_left_is_the_median_epoch_times_the_epochs_left(run):
    logged(run, 3)  # of 10, 20 and 30 s
    found = standing(run)
    assert (found.state, found.epoch, found.loss) == ("partial", 3, 0.33)
    assert found.seconds_left == 20
    assert found.as_row()["training left"] == "20 s"


def test_a_run_is_done_when_its_last_file_stands(run):
    logged(run, 4)
    for path in (run.weights, run.predictions):
        path.write_text("")
    assert standing(run).state == "partial"
    run.features.write_text("")
    found = standing(run)
    assert (found.state, found.epoch, found.as_row()["training left"]) == ("done", 4, "")


def test_a_run_is_at_work_while_somebody_shows_a_sign_of_life(run):
    logged(run, 1)
    with alone(run.folder):
        assert standing(run).state == "at work"
        touched = os.stat(run.folder / ".lock").st_mtime
        assert not at_work(run.folder, touched + LEASE_S + 1)
    assert standing(run).state == "partial"


def test_a_log_that_cannot_be_read_is_named(run):
    logged(run, 1)
    run.log.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"log\.csv"):
        standing(run)


def test_the_verb_shows_a_line_a_run(tmp_path):
    study = tmp_path / "small.toml"
    study.write_text(STUDY)
    logged(Run.at(tmp_path / "out" / "runs" / "resnet3d-dual-s0"), 2)
    result = CliRunner().invoke(app, ["status", str(study), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "0 of 2 runs done, page not yet" in result.output
    (line,) = [line for line in result.output.splitlines() if "resnet3d-dual-s0" in line]
    assert "partial" in line
    assert "2 of 4" in line
