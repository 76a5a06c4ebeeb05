"""Runs as jobs: here, as shards of an array, and on Ray where it is installed."""

import os
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from kellgren import jobs as jobs_module
from kellgren.cli import app
from kellgren.config import Study
from kellgren.engine import Workplace, begin_study, train_run
from kellgren.faults import InputError
from kellgren.jobs import Job, Shard, jobs_of
from kellgren.progress import silent

SWEPT = """
name = "swept"
seeds = [0, 1, 2]
[cohort.phantom]
train = 5
test = 5
grid = [24, 48, 48]
[backbones.resnet3d]
size = "small"
grid = [24, 24, 24]
[training]
epochs = 2
batch_size = 4
threads = 1
[sweep]
"training.lr" = [0.001, 0.002]
"""


def a_study(**changes: object) -> Study:
    content = {
        "name": "jobs",
        "explain": False,
        "cohort": {"phantom": {"train": 6, "test": 2, "grid": [24, 48, 48]}},
        "backbones": {"resnet3d": {"size": "small", "grid": [24, 24, 24]}},
        "training": {"epochs": 3, "batch_size": 3, "threads": 1},
    }
    return Study.model_validate(content | changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(a_study(), tmp_path_factory.mktemp("jobs"), torch.device("cpu"))


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_the_shards_of_a_study_are_all_its_runs_and_share_none(place, count):
    jobs = jobs_of(place, [])
    taken = [job.run.name for i in range(count) for job in Shard(i, count).take(jobs)]
    assert sorted(taken) == sorted(run.name for run in place.runs())


@pytest.mark.parametrize("word", ["8/8", "1", "-1/4", "a/b", "1/0", "1/2/3"])
def test_a_shard_that_there_is_not_is_refused(word):
    with pytest.raises(InputError, match="i from 0 to n - 1"):
        Shard.read(word)


def test_a_shard_does_its_runs_of_every_variant_and_nothing_else(tmp_path, monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(jobs_module, "do_run", lambda place, run, cases: done.append(run.name))
    (tmp_path / "swept.toml").write_text(SWEPT)
    words = ["run", str(tmp_path / "swept.toml"), "--out", str(tmp_path / "out")]
    for i in range(4):
        result = CliRunner().invoke(app, [*words, "--shard", f"{i}/4", "--device", "cpu"])
        assert result.exit_code == 0, result.output
    assert sorted(done) == sorted(
        f"resnet3d-{way}-s{seed}"
        for way in ("single_oa", "single_kl", "dual")
        for seed in range(3)
        for _ in range(2)
    )
    assert not list(tmp_path.glob("out/*/study"))


def test_a_shard_says_which_knee_is_not_prepared(place):
    other = replace(place, folder=place.folder / "bare")
    job = jobs_of(other, other.cohort())[0]
    with pytest.raises(InputError, match=r"oaizib_\d+\.safetensors: found no such file.*prepare"):
        job.do()


def test_without_ray_the_engine_is_refused_in_one_line(place, monkeypatch):
    from kellgren.cluster import carry_out

    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r'no Ray .*pip install "kellgren\[ray\]"'):
        carry_out(jobs_of(place, []))


def killed_once(at: int, flag: Path):
    """A stage that kills its process when so many steps of training are done, the first time."""

    @contextmanager
    def stage(title: str, total: int):
        def advance(done: int, note: str) -> None:
            if title.startswith("train") and done == at and not flag.exists():
                flag.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)

        yield advance

    return stage


@pytest.mark.slow
def test_ray_resumes_what_a_kill_has_stopped_and_leaves_bad_data_alone(place, tmp_path):
    pytest.importorskip("ray")
    from kellgren.cluster import carry_out

    cases = begin_study(place)
    here = replace(place, folder=tmp_path / "here")
    (here.folder / "runs").mkdir(parents=True)
    (here.folder / "prepared").symlink_to(place.folder / "prepared")
    for run in here.runs():
        train_run(here, run, cases)

    jobs = jobs_of(place, cases)
    watched = replace(place, stage=killed_once(at=4, flag=tmp_path / "killed"))
    jobs[0] = replace(jobs[0], place=watched)
    wrong = replace(place, study=a_study(training={"epochs": 3, "lr": 1e30, "threads": 1}))
    wrong = replace(wrong, folder=tmp_path / "wrong")
    jobs += [Job(wrong, wrong.runs()[0], jobs[0].cases)]
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "prepared").symlink_to(place.folder / "prepared")
    with pytest.raises(InputError, match="found a loss of"):
        carry_out(jobs, stage=silent)
    assert (tmp_path / "killed").exists()
    for run, other in zip(place.runs(), here.runs(), strict=True):
        assert run.weights.read_bytes() == other.weights.read_bytes()
        assert run.predictions.exists()


@pytest.mark.slow
def test_ray_refuses_a_job_that_no_machine_has_room_for(place):
    pytest.importorskip("ray")
    from kellgren.cluster import carry_out

    wide = replace(place, study=a_study(training={"threads": 200}))
    with pytest.raises(InputError, match="no machine with room"):
        carry_out(jobs_of(wide, []))
