from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit, softmax
from torch import nn
from torch.nn.functional import cosine_similarity

from kellgren.config import RadiomicsSettings
from kellgren.faults import InputError
from kellgren.radiomics.benchmark import SYSTEMS
from kellgren.radiomics.gates import entropy, hard_mask, likeness, soft_mask
from kellgren.radiomics.outcome import GRADES, OA, THRESHOLDS
from kellgren.radiomics.selection import Parts, Schedule, fit_and_select
from kellgren.radiomics.top_k import MENDED, RELEASED
from tests.made_radiomics import made_material, quiet

SHORT = {"k": 3, "epochs": 12, "warmup_epochs": 4, "lr": 3e-3}


def with_top_k(material, **changed):
    settings = RadiomicsSettings(systems=("top_k",), top_k=SHORT | changed)
    return replace(material, settings=settings)


def gates_of(n, features, seed=0):
    return torch.rand(n, features, generator=torch.Generator().manual_seed(seed))


# What is put out


def test_the_ordinal_loss_is_the_mean_binary_cross_entropy_of_its_four_thresholds():
    outputs, kl = np.random.default_rng(0).normal(size=(5, 4)), np.arange(5)
    beyond = kl[:, None] > np.arange(4)
    wanted = -np.where(beyond, log_expit(outputs), log_expit(-outputs)).mean(axis=1)
    found = THRESHOLDS.losses(torch.from_numpy(outputs), torch.from_numpy(kl))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


def test_thresholds_give_five_probabilities_that_sum_to_one_even_where_they_cross():
    outputs = np.random.default_rng(1).normal(scale=20, size=(50, 4))
    probabilities = softmax(THRESHOLDS.read(torch.from_numpy(outputs)), axis=1)
    assert probabilities.shape == (50, 5)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


def test_the_called_grade_is_the_number_of_thresholds_that_are_passed():
    outputs = torch.from_numpy(np.random.default_rng(2).normal(size=(50, 4)))
    assert (THRESHOLDS.called(outputs) == (outputs > 0).sum(dim=1).numpy()).all()


def test_oa_is_the_log_odds_of_its_two_outputs():
    outputs = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
    odds = OA.read(outputs)[:, 0]
    np.testing.assert_allclose(expit(odds), outputs.softmax(dim=1)[:, 1], rtol=1e-6)
    assert OA.called(outputs).tolist() == [1, 0]


@pytest.mark.parametrize("outcome", [OA, THRESHOLDS, GRADES])
def test_the_direction_of_the_outputs_is_toward_the_more_severe_class(outcome):
    direction = torch.tensor(outcome.direction)
    severe, mild = outcome.classes - 1, 0
    for target, sign in ((severe, 1), (mild, -1)):
        outputs = torch.zeros(1, outcome.outputs, requires_grad=True)
        (gradient,) = torch.autograd.grad(
            -outcome.losses(outputs, torch.tensor([target])).sum(), outputs
        )
        assert sign * float(gradient[0] @ direction) > 0


# Masks


@pytest.mark.parametrize("k", [1, 7, 40])
def test_a_hard_mask_has_exactly_k_ones_and_else_zeros_also_where_gates_tie(k):
    for gates in (gates_of(6, 40), torch.full((6, 40), 0.5)):
        mask = hard_mask(gates, k)
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert (mask.sum(dim=1) == k).all()


def test_a_hard_mask_lets_the_gradient_through_to_every_gate_as_it_is():
    gates, weight = gates_of(3, 9).requires_grad_(), gates_of(3, 9, seed=1)
    (gradient,) = torch.autograd.grad((hard_mask(gates, 2) * weight).sum(), gates)
    assert torch.equal(gradient, weight)


def test_a_soft_mask_lets_no_gradient_through_to_a_closed_gate():
    gates = torch.tensor([[0.2, 0.8]], requires_grad=True)
    (gradient,) = torch.autograd.grad(soft_mask(gates, 0.5).sum(), gates)
    assert gradient.tolist() == [[0.0, 1.0]]


def test_likeness_is_the_mean_cosine_over_all_pairs():
    gates = gates_of(5, 8)
    pairs = [cosine_similarity(gates[i], gates[j], dim=0) for i, j in combinations(range(5), 2)]
    torch.testing.assert_close(likeness(gates), torch.stack(pairs).mean())
    assert likeness(gates[:1]) == 0
    assert likeness(torch.eye(3)) == 0


def test_entropy_is_lowest_for_settled_gates_and_has_a_gradient_there():
    settled = torch.tensor([[0.0, 1.0]], requires_grad=True)
    found = entropy(settled)
    assert found.item() < 1e-4 < float(entropy(torch.tensor([[0.4, 0.6]]))) < 1
    assert torch.isfinite(torch.autograd.grad(found, settled)[0]).all()


def test_the_mended_gates_start_with_k_open_and_the_released_ones_with_half():
    assert MENDED.open_share(30, 535) * 535 == pytest.approx(30)
    assert 0.005 * (RELEASED.open_share(30, 535) * 535 - 30) ** 2 == pytest.approx(282, abs=0.1)


# Early selection


def test_epochs_are_chosen_on_a_fifth_of_the_training_knees_with_the_shares_of_the_grades():
    material = made_material(train=100, test=30)
    parts = Parts.of(material, "kl")
    both = np.sort(np.concatenate([parts.fitted, parts.validation]))
    assert (both == material.rows("train")).all()
    assert np.bincount(material.kl[parts.validation]).tolist() == [4] * 5
    assert (Parts.of(material, "kl").fitted == parts.fitted).all()


def test_too_few_knees_to_choose_an_epoch_on_are_refused():
    with pytest.raises(InputError, match=r"10 knees.*5 knees a class"):
        Parts.of(made_material(train=10, test=5), "kl")


@pytest.mark.parametrize(
    ("scores", "first", "patience", "chosen"),
    [
        ([0.1, 0.5, 0.5, 0.2], 0, 9, (2, 4)),
        ([0.9, 0.1, 0.3, 0.2], 1, 9, (3, 4)),
        ([0.1, 0.5, 0.2, 0.9], 0, 2, (4, 4)),
        ([0.1, 0.5, 0.2, 0.9], 0, 1, (2, 3)),
    ],
)
def test_the_first_of_the_best_allowed_epochs_is_kept(scores, first, patience, chosen):
    net, seen = nn.Linear(1, 1), []

    def score(epoch):
        seen.append(net.weight.clone())
        return scores[epoch]

    found = fit_and_select(
        net,
        np.arange(4),
        Schedule(4, first, patience, 2, 0.1, 0.0),
        loss=lambda rows, epoch: net(torch.ones(len(rows), 1)).sum(),
        score=score,
        seed=0,
        watch=quiet,
    )
    assert (found.epoch, found.epochs_fitted) == chosen
    assert torch.equal(net.weight, seen[found.epoch - 1])


def test_a_loss_that_is_not_finite_is_refused():
    net = nn.Linear(1, 1)
    with pytest.raises(InputError, match=r"not finite.*learning rate"):
        fit_and_select(
            net,
            np.arange(4),
            Schedule(1, 0, 1, 2, 0.1, 0.0),
            loss=lambda rows, epoch: net(torch.full((1, 1), torch.inf)).sum(),
            score=lambda epoch: 0.0,
            seed=0,
            watch=quiet,
        )


# The systems


@pytest.mark.parametrize("name", ["top_k", "top_k_released"])
@pytest.mark.parametrize("task", ["oa", "kl"])
def test_a_system_grades_by_k_features_a_knee(name, task):
    material = with_top_k(made_material())
    found = SYSTEMS[name](material, task, seed=0, watch=quiet)
    assert found.logits.shape == (90, 1 if task == "oa" else 5)
    assert found.record["used_for_a_test_knee"] == 3
    assert ((found.z != 0).sum(axis=1) <= 3).all()
    assert list(found.evidence.columns) == ["region", "feature", "weight"]
    assert "not the scan" in found.record["gate_reads"]


def test_the_mended_system_chooses_an_epoch_of_the_hard_mask():
    found = SYSTEMS["top_k"](with_top_k(made_material()), "oa", seed=0, watch=quiet)
    assert found.record["epoch"] > 4
    assert found.record["chosen_by"] == "hard mask"


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    material = with_top_k(made_material())
    one, again, other = (
        SYSTEMS["top_k"](material, "oa", seed=seed, watch=quiet).logits for seed in (0, 0, 1)
    )
    assert (one == again).all()
    assert (one != other).any()


def test_more_features_a_knee_than_there_are_are_refused():
    with pytest.raises(InputError, match=r"radiomics.top_k.k.*16 features.*at most 15"):
        SYSTEMS["top_k"](with_top_k(made_material(), k=16), "oa", seed=0, watch=quiet)


def test_only_the_released_system_leaves_features_out_for_their_unit():
    material = with_top_k(made_material())
    values = material.table.values.copy()
    values[:, :, 1] *= 1e-4
    small = replace(material, table=replace(material.table, values=values))
    found = {n: SYSTEMS[n](small, "oa", seed=0, watch=quiet) for n in ("top_k", "top_k_released")}
    assert {n: f.record["features"] for n, f in found.items()} == {
        "top_k": 15,
        "top_k_released": 10,
    }
