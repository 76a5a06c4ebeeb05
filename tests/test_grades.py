import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from kellgren.analysis.noise import reader
from kellgren.config import TrainingSettings
from kellgren.learn.grades import (
    GRADE_HEADS,
    OrderedThresholds,
    balanced_weights,
    beta_targets,
    binomial_targets,
    cdw,
    chen,
    corn,
    emd,
    forward,
    gce,
    grade_head,
    of_ordered_thresholds,
    of_steps,
    of_thresholds,
    ordered_likelihood,
    sord_targets,
    threshold_bce,
)

KL = torch.tensor([0, 1, 2, 3, 4, 2, 0])
RANDOM = torch.Generator().manual_seed(0)


def logits(width: int, *, ordered: bool = False) -> torch.Tensor:
    values = 2 * torch.randn(len(KL), width, generator=RANDOM, dtype=torch.float64)
    return values.sort(1, descending=True).values if ordered else values


def inputs(name: str) -> torch.Tensor:
    head = GRADE_HEADS[name]
    return logits(head.n_logits, ordered=head.head is not None)


@pytest.mark.parametrize("name", GRADE_HEADS)
def test_every_head_gives_five_proper_probabilities(name):
    prob = torch.softmax(GRADE_HEADS[name].stored(inputs(name)), 1)
    torch.testing.assert_close(prob.sum(1), torch.ones(len(KL), dtype=torch.float64))
    assert bool((prob > 0).all())


@pytest.mark.parametrize("name", GRADE_HEADS)
def test_every_loss_has_the_slope_that_finite_differences_find(name):
    assert torch.autograd.gradcheck(
        lambda x: GRADE_HEADS[name].each(x, KL).sum(), inputs(name).requires_grad_()
    )


@pytest.mark.parametrize("name", [n for n in GRADE_HEADS if n not in ("gce", "chen")])
def test_a_sure_right_answer_costs_less_than_a_neighbour_and_that_less_than_the_far_end(name):
    head, kl = GRADE_HEADS[name], torch.tensor([0, 0, 0])
    grades = torch.tensor([0, 1, 4])
    if head.n_logits == 5:
        sure = 6 * functional.one_hot(grades, 5).double()
    else:
        sure = 6 * (2.0 * (grades[:, None] > torch.arange(4)) - 1).double()
        sure = sure - 0.1 * torch.arange(4)
    costs = head.each(sure, kl).tolist()
    assert costs[0] < costs[1] <= costs[2]


def test_ordered_thresholds_never_cross_and_their_probabilities_are_differences():
    head = OrderedThresholds(3).double()
    above = torch.sigmoid(head(torch.randn(9, 3, generator=RANDOM, dtype=torch.float64)))
    assert bool((above[:, :-1] > above[:, 1:]).all())
    log_p = of_ordered_thresholds(torch.logit(above))
    expected = torch.cat([1 - above[:, :1], above[:, :-1] - above[:, 1:], above[:, -1:]], 1)
    torch.testing.assert_close(log_p.exp(), expected)
    torch.testing.assert_close(of_thresholds(torch.logit(above)).exp(), expected)


def test_far_out_on_the_axis_no_probability_rounds_to_nothing():
    far = torch.tensor([[90.0, 80.0, 70.0, 60.0]], dtype=torch.float64)
    assert torch.isfinite(of_ordered_thresholds(far)).all()
    assert of_ordered_thresholds(far)[0, 0].item() == pytest.approx(-90)


def test_steps_are_conditional_probabilities():
    x = logits(4)
    go = torch.sigmoid(x)
    expected = [(1 - go[:, k]) * go[:, :k].prod(1) for k in range(4)] + [go.prod(1)]
    torch.testing.assert_close(of_steps(x).exp(), torch.stack(expected, 1))


def test_losses_are_their_closed_forms():
    x, grades = logits(4), logits(5)
    p, n = torch.softmax(grades, 1), len(KL)
    target = (KL[:, None] > torch.arange(4)).double()
    bce = -(target * functional.logsigmoid(x) + (1 - target) * functional.logsigmoid(-x))
    torch.testing.assert_close(threshold_bce(x, KL), bce.mean(1))
    asked = KL[:, None] >= torch.arange(4)
    torch.testing.assert_close(corn(x, KL).mean(), bce[asked].mean())
    reached = (KL[:, None] <= torch.arange(5)).double()
    torch.testing.assert_close(emd(grades, KL), (p.cumsum(1) - reached).square().sum(1))
    apart = (KL[:, None] - torch.arange(5)).abs()
    torch.testing.assert_close(cdw(grades, KL), -(apart**2 * torch.log1p(-p)).sum(1))
    weight = torch.tensor([0.0, 4, 6, 8, 10], dtype=torch.float64)[apart]
    torch.testing.assert_close(chen(grades, KL), (weight * p).square().sum(1))
    right = p[torch.arange(n), KL]
    torch.testing.assert_close(gce(grades, KL), (1 - right**0.7) / 0.7)
    ordered = logits(4, ordered=True)
    likelihood = of_ordered_thresholds(ordered).exp()[torch.arange(n), KL]
    torch.testing.assert_close(ordered_likelihood(ordered, KL), -likelihood.log())


def test_forward_correction_is_the_probability_of_the_reading_and_nothing_for_perfect_readers():
    grades, matrix = logits(5), torch.from_numpy(reader(0.7))
    read = torch.softmax(grades, 1) @ matrix
    expected = -read[torch.arange(len(KL)), KL].log()
    torch.testing.assert_close(forward(grades, KL, matrix), expected)
    plain = functional.cross_entropy(grades, KL, reduction="none")
    torch.testing.assert_close(forward(grades, KL, torch.eye(5).double()), plain)
    training = TrainingSettings(kl_loss="forward", agreement=0.7)
    torch.testing.assert_close(grade_head(training).each(grades, KL), expected)


@pytest.mark.parametrize("targets", [sord_targets(), binomial_targets(), beta_targets()])
def test_soft_targets_are_distributions_with_their_mode_at_the_reading(targets):
    np.testing.assert_allclose(targets.sum(1), 1)
    assert targets.argmax(1).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(targets, targets[::-1, ::-1], atol=1e-12)


def test_class_weights_let_every_grade_that_is_there_count_alike():
    weights = balanced_weights([0, 0, 0, 1, 2, 2])
    assert weights.tolist() == pytest.approx([6 / 15, 6 / 5, 6 / 10, 0, 0])


def test_coral_and_corn_are_those_of_their_authors():
    losses = pytest.importorskip("coral_pytorch.losses", reason="coral-pytorch is not installed")
    dataset = pytest.importorskip("coral_pytorch.dataset")
    x = logits(4).float()
    levels = dataset.levels_from_labelbatch(KL, num_classes=5)
    ours = threshold_bce(x, KL).mean().item()
    assert losses.coral_loss(x, levels).item() / 4 == pytest.approx(ours, rel=1e-6)
    theirs = losses.corn_loss(x, KL, num_classes=5).item()
    assert theirs == pytest.approx(corn(x, KL).mean().item(), rel=1e-6)


def test_emd_and_cdw_are_those_of_dlordinal():
    losses = pytest.importorskip("dlordinal.losses", reason="dlordinal is not installed")
    x = logits(5).float()
    theirs = losses.CDWCELoss(num_classes=5, alpha=2.0)(x, KL).item()
    assert theirs == pytest.approx(cdw(x, KL).mean().item(), rel=1e-4)
    theirs = losses.EMDLoss(num_classes=5)(x, KL).item()
    assert theirs == pytest.approx(emd(x, KL).mean().item(), rel=1e-4)


def test_chance_costs_are_known():
    even = torch.zeros(1, 5)
    assert gce(even, torch.tensor([0])).item() == pytest.approx((1 - 0.2**0.7) / 0.7)
    assert emd(even, torch.tensor([0])).item() == pytest.approx(0.64 + 0.36 + 0.16 + 0.04)
    assert threshold_bce(torch.zeros(1, 4), torch.tensor([2])).item() == pytest.approx(math.log(2))


def test_the_loss_of_the_page_on_extending_runs_and_learns():
    page = Path(__file__).parents[1] / "docs" / "extending.md"
    snippet = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 10
    before = dict(GRADE_HEADS)
    try:
        exec(snippet, {})
        head = grade_head(TrainingSettings().model_copy(update={"kl_loss": "smoothed"}))
        values = logits(head.n_logits).requires_grad_()
        loss = head.each(values, KL).mean()
        loss.backward()
        step = head.each(values.detach() - values.grad, KL).mean()
        assert 0 < float(step) < float(loss.detach())
    finally:
        GRADE_HEADS.clear()
        GRADE_HEADS.update(before)
