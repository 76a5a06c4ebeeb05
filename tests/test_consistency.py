import math

import pytest
import torch
from torch.nn import functional

from kellgren.config import SUPERVISIONS, TrainingSettings
from kellgren.learn.consistency import (
    CONSISTENCY,
    implied_oa,
    jensen_shannon,
    logit_to_kl,
    logit_to_oa,
    marginal,
    squared,
    tree_path,
)

RANDOM = torch.Generator().manual_seed(0)
KL = torch.tensor([0, 1, 2, 3, 4])
OA = torch.randn(5, generator=RANDOM, dtype=torch.float64)
GRADES = torch.randn(5, 5, generator=RANDOM, dtype=torch.float64)


def test_the_implied_logit_is_that_of_eq_4_also_where_probabilities_round():
    prob = torch.softmax(GRADES, 1)[:, 2:].sum(1)
    torch.testing.assert_close(implied_oa(GRADES), torch.logit(prob))
    assert implied_oa(torch.tensor([[200.0, 0, 0, 0, 0]])).item() == pytest.approx(
        math.log(3) - 200, abs=1e-3
    )


@pytest.mark.parametrize("name", ["squared", "jensen_shannon", "logit"])
def test_heads_that_agree_cost_nothing(name):
    cost = CONSISTENCY[name](implied_oa(GRADES), GRADES, KL)
    torch.testing.assert_close(cost, torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", CONSISTENCY)
def test_every_term_has_the_slope_that_finite_differences_find(name):
    if name in ("logit_to_kl", "logit_to_oa"):
        pytest.skip("one side is held fixed on purpose")
    pair = OA.clone().requires_grad_(), GRADES.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda oa, grades: CONSISTENCY[name](oa, grades, KL).sum(), pair
    )


def test_only_the_head_that_should_follow_gets_a_gradient():
    for term, follows in ((logit_to_kl, 1), (logit_to_oa, 0)):
        pair = OA.clone().requires_grad_(), GRADES.clone().requires_grad_()
        found = torch.autograd.grad(term(*pair, KL).sum(), pair, allow_unused=True)
        assert found[follows] is not None
        assert found[1 - follows] is None


def test_terms_are_their_closed_forms():
    p, q = torch.sigmoid(OA), torch.sigmoid(implied_oa(GRADES))
    torch.testing.assert_close(squared(OA, GRADES, KL), (p - q) ** 2)

    def entropy(x):
        return -(x * x.log() + (1 - x) * (1 - x).log())

    expected = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    torch.testing.assert_close(jensen_shannon(OA, GRADES, KL), expected)
    target = (KL >= 2).double()
    torch.testing.assert_close(
        marginal(OA, GRADES, KL), functional.binary_cross_entropy(q, target, reduction="none")
    )
    nodes = torch.cat([torch.zeros(5, 1).double(), OA[:, None], GRADES], 1)
    path = torch.zeros(5, 7).double()
    path[torch.arange(5), (KL >= 2).long()] = 0.5
    path[torch.arange(5), KL + 2] = 0.5
    kept = path > 0
    divergence = (path * (torch.where(kept, path, 1.0).log() - torch.log_softmax(nodes, 1))).sum(1)
    torch.testing.assert_close(tree_path(OA, GRADES, KL), divergence)


def test_jensen_shannon_stays_finite_and_bounded_for_saturated_heads():
    far = jensen_shannon(torch.tensor([80.0]), torch.tensor([[80.0, 0, 0, 0, 0]]), KL[:1])
    assert far.item() == pytest.approx(math.log(2), rel=1e-6)


def test_a_term_needs_the_heads_that_it_couples():
    asked = TrainingSettings(consistency="squared")
    assert SUPERVISIONS["dual"].applied(asked).consistency == "squared"
    assert SUPERVISIONS["single_kl"].applied(asked).consistency == "none"
    assert SUPERVISIONS["kl_marginal"].applied(TrainingSettings()).consistency == "marginal"
