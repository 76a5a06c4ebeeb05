"""Two processes that train one network together, against one process with the whole batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kellgren.config import TrainingSettings
from kellgren.faults import InputError
from kellgren.learn.group import ALONE, Group

GRADIENTS = """
import json, os, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from kellgren.config import BackboneSettings, TrainingSettings
from kellgren.learn.group import group_of, join_batch_norms
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.model import build_model
from kellgren.learn.objective import Objective

out, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.set_num_threads(1)
with group_of(torch.device("cpu")) as (group, _):
    for number, (backbone, n, options) in enumerate(cases):
        training = TrainingSettings(**options)
        torch.manual_seed(0)
        net = build_model(
            backbone, settings=BackboneSettings(size="small", grid=(24, 24, 24)),
            tasks=("oa", "kl"), training=training,
        ).double().train()
        for part in net.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        join_batch_norms(net, group)
        net.double()
        g = torch.Generator().manual_seed(n)
        image = torch.randn(n, 1, 24, 24, 24, generator=g, dtype=torch.float64)
        kl = torch.arange(n) % 5
        objective = Objective(weighted_tasks(("oa", "kl"), training, [0, 0, 1, 2, 3, 4]), training)
        own = group.part(n)
        logits, whole = group.whole(net(image[own]).logits, kl[own], n)
        losses = objective.losses(logits, whole)
        objective.backward(losses, 1.0, list(net.parameters()))
        group.add_up(list(net.parameters()))
        found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        found |= {f"objective.{name}": p.grad for name, p in objective.named_parameters()}
        found |= {f"buffer.{name}": b.double() for name, b in net.named_buffers()}
        found["loss"] = objective.joined(losses).detach()
        save_file(found, out / f"{number}-{group.rank}.safetensors")
"""

CASES = {
    "batch norm, two parts alike": ("resnet3d", 4, {}),
    "batch norm, parts of 1 and 2": ("resnet3d", 3, {}),
    "fewer cases than processes": ("resnet3d", 1, {}),
    "a loss that divides by what the batch asks": ("resnet3d", 5, {"kl_loss": "corn"}),
    "class weights": ("resnet3d", 5, {"class_weights": True}),
    "learned weights of the losses": ("resnet3d", 1, {"balance": "uncertainty"}),
    "slices and layer norm": ("m3t", 3, {"consistency": "logit"}),
    "a scan along the volume": ("nnmamba", 3, {}),
}


def begun(script: str, *words: str, processes: int = 2) -> list[subprocess.Popen[str]]:
    """Start a script as torchrun would, each process with its rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    known = shared if processes > 1 else {}
    return [
        subprocess.Popen(
            [sys.executable, "-c", script, *words],
            cwd=Path(__file__).parents[1],
            env=os.environ | known | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]


def together(script: str, *words: str, processes: int = 2) -> None:
    """Run a script as torchrun would, until all processes have ended well."""
    running = begun(script, *words, processes=processes)
    ends = [one.communicate(timeout=300)[1] for one in running]
    assert [one.returncode for one in running] == [0] * processes, ends


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """Of each case: found by one process, and by each of two."""
    asked = json.dumps(list(CASES.values()))
    alone, two = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("two")
    together(GRADIENTS, str(alone), asked, processes=1)
    together(GRADIENTS, str(two), asked)
    return {
        name: [
            load_file(path / f"{i}-{rank}.safetensors")
            for path, rank in ((alone, 0), (two, 0), (two, 1))
        ]
        for i, name in enumerate(CASES)
    }


@pytest.mark.parametrize("name", CASES)
def test_two_processes_find_the_gradient_of_the_whole_batch(name, gradients):
    alone, first, second = gradients[name]
    assert alone.keys() == first.keys() == second.keys()
    for key, expected in alone.items():
        if "running_var" in key and CASES[name][1] < 2:  # each copy counts in n / (n - 1)
            torch.testing.assert_close(first[key], expected, rtol=1e-2, atol=0)
            continue
        scale = max(float(expected.abs().max()), 1e-6)
        assert float((first[key] - expected).abs().max()) < 1e-9 * scale, key
        assert torch.equal(first[key], second[key]), key


TRAINED = """
import sys
from pathlib import Path
import torch
from kellgren.config import BackboneSettings, TrainingSettings
from kellgren.learn.group import group_of
from kellgren.learn.train import train
from kellgren.runs import Run
from kellgren.store import Store
from tests.conftest import made_case

folder, prepared, knees = map(Path, sys.argv[1:4])
cases = [made_case(knees, i, "train", i % 5) for i in range(7)]
class Stop(Exception): pass
def trained(name, device, group, stop_at=9):
    def watch(step):
        if step.epoch == stop_at:
            raise Stop
    train(
        Run.at(folder / name / "resnet3d-dual-s0"),
        Store(prepared, (24, 24, 24), (2, 4, 5)), cases,
        backbone=BackboneSettings(size="small", grid=(24, 24, 24)),
        training=TrainingSettings(epochs=2, batch_size=3, accumulate=2, threads=1),
        device=device, group=group, watch=watch,
    )
with group_of(torch.device("cpu")) as (group, device):
    trained("straight", device, group)
    try:
        trained("stopped", device, group, stop_at=1)
    except Stop:
        assert not (folder / "stopped" / "resnet3d-dual-s0" / "weights.safetensors").exists()
    trained("stopped", device, group)
"""


def test_two_processes_end_with_the_same_bits_whether_or_not_they_were_stopped(store, tmp_path):
    together(TRAINED, str(tmp_path), str(store.folder), str(tmp_path / "knees"))
    straight, stopped = (tmp_path / name / "resnet3d-dual-s0" for name in ("straight", "stopped"))
    weights = (straight / "weights.safetensors").read_bytes()
    assert weights == (stopped / "weights.safetensors").read_bytes()
    assert json.loads((straight / "run.json").read_text())["asked"]["processes"] == 2


LEFT = """
import os, sys, time, torch
from kellgren.faults import InputError
from kellgren.learn.group import group_of
try:
    with group_of(torch.device("cpu")) as (group, device):
        found = torch.ones(1)
        torch.distributed.all_reduce(found)
        if group.rank == 1:
            os._exit(9)
        torch.distributed.all_reduce(found)
except InputError as error:
    sys.exit(str(error))
"""


def test_a_process_whose_fellow_has_died_says_so_and_stops(tmp_path):
    left, died = begun(LEFT)
    said = left.communicate(timeout=60)[1]
    died.communicate(timeout=60)
    assert died.returncode == 9
    assert left.returncode == 1
    assert "process 0 of 2 of this run: found no answer from another one" in said


def test_every_case_of_a_batch_is_computed_by_one_process():
    for size in (1, 2, 3, 4):
        for n in range(size, 12):
            parts = [range(n)[Group(rank, size).part(n)] for rank in range(size)]
            assert [i for part in parts for i in part] == list(range(n))
            assert np.ptp([len(part) for part in parts]) <= 1


@pytest.mark.parametrize("option", [{"balance": "pcgrad"}, {"interference": 2}, {"compile": True}])
def test_what_needs_a_whole_batch_is_refused_for_several_processes(option):
    asked = TrainingSettings(**option)
    ALONE.check(asked)
    with pytest.raises(InputError, match=f"{next(iter(option))}.*2 processes"):
        Group(0, 2).check(asked)
