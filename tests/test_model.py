import pytest
import torch
from torch import nn

from kellgren.config import SUPERVISIONS, TrainingSettings
from kellgren.learn.consistency import implied_oa
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.model import HierarchicalNet


class Mean(nn.Module):
    """Features that can be worked out by hand: mean and maximum of the volume."""

    n_features = 2

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        flat = image.flatten(1)
        return torch.stack([flat.mean(1), flat.amax(1)], dim=1)


def net(supervision: str = "dual", *, heads: str = "parallel") -> HierarchicalNet:
    tasks = weighted_tasks(SUPERVISIONS[supervision].tasks, TrainingSettings())
    return HierarchicalNet(Mean(), 2, tasks, heads=heads)


IMAGE = torch.arange(2.0 * 8).reshape(2, 1, 2, 2, 2)


def test_parallel_heads_are_linear_in_the_shared_features():
    model = net()
    output = model(IMAGE)
    assert torch.equal(output.logits["oa"], model.heads["oa"](output.features))
    assert torch.equal(output.logits["kl"], model.heads["kl"](output.features))
    assert {k: v.shape for k, v in output.logits.items()} == {"oa": (2, 1), "kl": (2, 5)}


def test_a_stacked_oa_head_reads_the_five_kl_logits():
    model = net(heads="stacked")
    output = model(IMAGE)
    assert torch.equal(output.logits["oa"], model.heads["oa"](output.logits["kl"]))


@pytest.mark.parametrize("supervision", ["single_oa", "single_kl"])
def test_stacking_needs_both_heads(supervision):
    model = net(supervision, heads="stacked")
    head = supervision.removeprefix("single_")
    assert model.arrangement == "parallel"
    assert model.heads[head].in_features == 2


def test_a_tied_oa_answer_is_the_one_that_the_grades_imply():
    model = net(heads="tied")
    logits = model(IMAGE).logits
    prob = torch.softmax(logits["kl"], 1)[:, 2:].sum(1)
    torch.testing.assert_close(torch.sigmoid(logits["oa"][:, 0]), prob)
    assert set(model.heads) == {"kl"}


def test_experts_train_apart_and_answer_together():
    model = net(heads="experts")
    own = model.heads["oa"](model(IMAGE).features)
    assert torch.equal(model.train()(IMAGE).logits["oa"], own)
    logits = model.eval()(IMAGE).logits
    torch.testing.assert_close(logits["oa"][:, 0], (own[:, 0] + implied_oa(logits["kl"])) / 2)
