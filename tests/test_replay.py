"""Losses that are taken once more."""

import pytest
import torch
from torch import nn

from kellgren.config import TrainingSettings
from kellgren.learn.dataset import Batch
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.means import Means
from kellgren.learn.model import HierarchicalNet
from kellgren.learn.objective import Learner, Objective
from kellgren.learn.replay import Replay

BOTH = ("oa", "kl")


def taken(**settings) -> Replay:
    """A batch on its way through a network with a batch norm and dropout."""
    torch.manual_seed(0)
    training, cpu = TrainingSettings(**settings), torch.device("cpu")
    tasks = weighted_tasks(BOTH, training)
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.Linear(32, 8)
    )
    learner = Learner(HierarchicalNet(encoder, 8, tasks), Objective(tasks, training)).train()
    batch = Batch((), torch.randn(3, 1, 4, 4, 4), torch.tensor([0, 2, 4]))
    return Replay.now(learner, batch, Means.of(training, cpu))


@pytest.fixture
def replay() -> Replay:
    return taken()


def test_losses_taken_again_draw_what_they_drew_and_leave_everything_as_it_was(replay):
    losses = replay.losses()
    after = {name: t.clone() for name, t in replay.learner.state_dict().items()}
    noise = torch.get_rng_state()
    again = replay.again()
    assert all(torch.equal(again[name], loss) for name, loss in losses.items())
    assert not any(loss.requires_grad for loss in again.values())
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(torch.equal(after[n], t) for n, t in replay.learner.state_dict().items())
    assert not torch.equal(replay.losses()["kl"], losses["kl"])  # here dropout drew anew


def test_losses_taken_again_are_those_of_the_weights_of_now(replay):
    losses = replay.losses()
    with torch.no_grad():
        for parameter in replay.learner.model.heads["oa"].parameters():
            parameter.zero_()
    again = replay.again()
    assert again["oa"].item() == pytest.approx(0.6931472)
    assert torch.equal(again["kl"], losses["kl"])


def test_they_may_be_taken_in_float32_where_training_is_not():
    half = taken(precision="bfloat16")
    rough, fine = half.again(), half.plain().again()
    assert not torch.equal(rough["kl"], fine["kl"])
    assert torch.equal(fine["kl"], taken().again()["kl"])
