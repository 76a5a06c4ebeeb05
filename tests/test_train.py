import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kellgren.config import BackboneSettings, TrainingSettings
from kellgren.faults import InputError
from kellgren.learn.dataset import batches, epoch_order
from kellgren.learn.train import train
from kellgren.runs import Run
from tests.conftest import GRID

CPU = torch.device("cpu")
SMALL = BackboneSettings(size="small", grid=GRID)
BRIEF = TrainingSettings(epochs=3, batch_size=4, lr=1e-3, threads=1)


def trained(folder: Path, store, knees, training=BRIEF, name="resnet3d-dual-s0") -> Run:
    run = Run.at(folder / name)
    train(run, store, knees[:10], backbone=SMALL, training=training, device=CPU)
    return run


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    first = epoch_order(50, seed=3, epoch=7)
    assert sorted(first) == list(range(50))
    assert np.array_equal(first, epoch_order(50, seed=3, epoch=7))
    assert not np.array_equal(first, epoch_order(50, seed=3, epoch=8))
    assert not np.array_equal(first, epoch_order(50, seed=4, epoch=7))


def test_batches_keep_the_order_and_the_last_may_be_smaller(store, knees):
    seen = list(batches(store, knees[:10], batch_size=4, device=CPU))
    assert [len(batch.cases) for batch in seen] == [4, 4, 2]
    assert [c.case_id for b in seen for c in b.cases] == [c.case_id for c in knees[:10]]
    assert seen[0].image.shape == (4, 1, *GRID)
    assert seen[0].kl.tolist() == [c.kl for c in knees[:4]]


@pytest.mark.parametrize("backbone", ["resnet3d", "m3t", "nnmamba"])
def test_the_same_seed_gives_the_same_bits(backbone, store, knees, tmp_path):
    training = TrainingSettings(epochs=1, batch_size=4, threads=1)
    name = f"{backbone}-dual-s0"
    one = trained(tmp_path / "a", store, knees, training, name)
    two = trained(tmp_path / "b", store, knees, training, name)
    other = trained(tmp_path / "c", store, knees, training, f"{backbone}-dual-s1")
    assert one.weights.read_bytes() == two.weights.read_bytes()
    assert one.weights.read_bytes() != other.weights.read_bytes()


def test_training_leaves_weights_log_and_settings_and_no_checkpoint(store, knees, tmp_path):
    run = trained(tmp_path, store, knees)
    log = pd.read_csv(run.log)
    assert log["epoch"].tolist() == [1, 2, 3]
    assert (log["loss"] - log["loss_oa"] - log["loss_kl"]).abs().max() < 1e-5
    assert run.record()["trained"]["epochs"] == 3
    assert not run.checkpoint.exists()
    assert not list(run.folder.glob(".*.safetensors"))


def test_the_record_names_the_kernel_of_the_scan(store, knees, tmp_path):
    once = TrainingSettings(epochs=1, batch_size=5, threads=1)
    run = trained(tmp_path, store, knees, once, "nnmamba-single_oa-s0")
    assert run.record()["made_with"]["scan_kernel"] in ("numba", "slabs")
    other = trained(tmp_path, store, knees, once, "resnet3d-single_oa-s0")
    assert "scan_kernel" not in other.record()["made_with"]


def test_training_again_does_nothing(store, knees, tmp_path):
    run = trained(tmp_path, store, knees)
    before = run.weights.stat().st_mtime_ns
    trained(tmp_path, store, knees)
    assert run.weights.stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused_by_name(store, knees, tmp_path):
    trained(tmp_path, store, knees)
    with pytest.raises(InputError, match=r"training was .*'lr': 0.001.*another output folder"):
        trained(tmp_path, store, knees, BRIEF.model_copy(update={"lr": 1e-4}))


def test_other_grades_or_volumes_in_the_same_folder_are_refused(store, knees, tmp_path):
    run = trained(tmp_path, store, knees)
    for name in ("grades_digest", "store_digest"):
        record = run.record()
        sound = json.dumps(record)
        record["asked"][name] = "0"
        run.settings_file.write_text(json.dumps(record))
        with pytest.raises(InputError, match=f"{name} was 0"):
            trained(tmp_path, store, knees)
        run.settings_file.write_text(sound)


def test_a_loss_that_is_not_finite_stops_the_run_by_name(store, knees, tmp_path):
    wild = TrainingSettings(epochs=4, batch_size=4, lr=1e30, threads=1)
    with pytest.raises(InputError, match=r"epoch \d+, step \d+: found a loss of"):
        trained(tmp_path, store, knees, wild)
    assert not (tmp_path / "resnet3d-dual-s0" / "weights.safetensors").exists()


KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
from kellgren.cohort import Case
from kellgren.config import BackboneSettings, TrainingSettings
from kellgren.learn.train import train
from kellgren.runs import Run
from kellgren.store import Store
from tests.conftest import made_case

folder, prepared, knees, name, at, options = sys.argv[1:7]
cases = [made_case(Path(knees), i, "train", i % 5) for i in range(10)]
def watch(step):
    if step.epoch * step.steps + step.step == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
train(
    Run.at(Path(folder) / name), Store(Path(prepared), (24, 24, 24), (2, 4, 5)), cases,
    backbone=BackboneSettings(size="small", grid=(24, 24, 24)),
    training=TrainingSettings(epochs=3, batch_size=4, lr=1e-3, threads=1, **json.loads(options)),
    device=torch.device("cpu"), watch=watch,
)
"""


EVERY_MEANS = {
    "precision": "bfloat16",
    "accumulate": 2,
    "checkpoint": True,
    "channels_last": True,
}
EVERY_CHANGE = {
    "rotation_deg": 10,
    "translation_mm": 2,
    "elastic_mm": 1,
    "bias": 0.3,
    "gamma": 0.3,
    "noise_sd": 0.1,
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet3d-dual-s0", {}),
        ("nnmamba-single_kl-s1", {}),
        ("resnet3d-dual-s0", EVERY_MEANS | {"augmentation": EVERY_CHANGE}),
    ],
)
def test_a_run_killed_twice_ends_with_the_bits_of_an_undisturbed_one(
    name, options, store, knees, tmp_path
):
    training = TrainingSettings.model_validate(BRIEF.model_dump() | options)
    straight = trained(tmp_path / "straight", store, knees, training, name)
    killed = Run.at(tmp_path / "killed" / name)
    root = str(Path(__file__).parents[1])
    for at in ("4", "7"):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                KILLED,
                str(tmp_path / "killed"),
                str(store.folder),
                str(tmp_path / "again"),
                name,
                at,
                json.dumps(options),
            ],
            cwd=root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])},
            check=False,
            capture_output=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
        assert not killed.weights.exists()
    assert killed.checkpoint.exists()
    trained(tmp_path / "killed", store, knees, training, name)
    assert killed.weights.read_bytes() == straight.weights.read_bytes()
