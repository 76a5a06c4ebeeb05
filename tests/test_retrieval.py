from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from kellgren.config import RadiomicsSettings
from kellgren.faults import InputError
from kellgren.radiomics.benchmark import SYSTEMS
from kellgren.radiomics.inputs import Inputs
from kellgren.radiomics.outcome import OA, THRESHOLDS
from kellgren.radiomics.retrieval import released_sets
from kellgren.radiomics.rewards import (
    PENALTY,
    PROBED,
    RATE,
    STEPS,
    Probed,
    patient,
    ridge,
    sgd20,
    share_of_set,
    shares_of_set,
)
from kellgren.radiomics.search import contributions
from kellgren.radiomics.sets import RetrievalNet, mutated, random_sets, set_means, set_shares
from kellgren.radiomics.systems import fit_run
from kellgren.runs import Run
from kellgren.store import Store
from tests.conftest import made_case
from tests.made_radiomics import FEATURES, REGIONS, made_material, quiet

PLANTED = {(region, "original_shape_Sphericity") for region in REGIONS}
SHORT = {
    "k": 2,
    "epochs": 8,
    "warmup_epochs": 2,
    "lr": 3e-3,
    "probed": 8,
    "pool_size": 20,
    "top_m": 3,
    "recall": 30,
    "kept": 10,
    "parents": 2,
    "mutations": 5,
    "final_top": 4,
}


def with_settings(material, **changed):
    top_k = {"k": 2, "epochs": 12, "warmup_epochs": 4, "lr": 3e-3, "image": True}
    retrieval = SHORT | changed
    settings = RadiomicsSettings(systems=("retrieval",), top_k=top_k, retrieval=retrieval)
    return replace(material, settings=settings)


def read_of_a_net(outputs=4):
    """A network in double precision with random weights, its inputs, and two knees read."""
    material = made_material(train=20, test=5)
    inputs = Inputs.of(material, material.rows("train"), image=False)
    torch.manual_seed(0)
    net = RetrievalNet(inputs, outputs).double()
    x = inputs.x[:2].double()
    return net, inputs, x, net.read(x, x)


def probed_knees(task="kl", n=40, features=12):
    rng = np.random.default_rng(0)
    kl = np.arange(n) % 5
    x = rng.normal(size=(n, features)).astype(np.float32)
    x[:, 0] += kl
    target, outcome = (kl, THRESHOLDS) if task == "kl" else ((kl >= 2).astype(int), OA)
    return Probed(torch.from_numpy(x), torch.from_numpy(target), outcome)


# Sets


def test_random_sets_have_k_different_features_and_every_feature_is_drawn_about_equally_often():
    sets = random_sets(5000, 5, 17, np.random.default_rng(0))
    assert sets.shape == (5000, 5)
    assert all(len(set(s)) == 5 for s in sets[:100].tolist())
    counts = np.bincount(sets.flatten(), minlength=17)
    assert abs(counts / counts.mean() - 1).max() < 0.02


def test_a_changed_set_differs_in_one_feature_or_two_and_names_none_twice():
    parents, rng = random_sets(4, 5, 12, np.random.default_rng(1)), np.random.default_rng(2)
    children = mutated(parents, 500, 12, rng, repeats=False)
    kept = [
        len(set(child) & set(parent))
        for child, parent in zip(
            children.tolist(), parents.repeat_interleave(500, 0).tolist(), strict=True
        )
    ]
    assert all(len(set(child)) == 5 for child in children.tolist())
    assert set(kept) == {3, 4}
    assert np.mean(np.array(kept) == 4) == pytest.approx(0.7, abs=0.04)
    new = children[:500][~torch.isin(children[:500], parents[0])]
    assert set(new.tolist()) == set(range(12)) - set(parents[0].tolist())


def test_as_released_a_changed_set_may_name_a_feature_twice():
    parents = random_sets(4, 5, 12, np.random.default_rng(1))
    children = mutated(parents, 100, 12, np.random.default_rng(2), repeats=True)
    assert any(len(set(child)) < 5 for child in children.tolist())


def test_reading_a_knee_once_gives_what_reading_it_for_every_set_gives():
    net, inputs, x, read = read_of_a_net()
    sets = random_sets(12, 3, 15, np.random.default_rng(0)).reshape(2, 6, 3)
    sets[0, 0] = torch.tensor([4, 4, 1])
    means, scores = set_means(read.tokens, sets), net.scores(read, sets)
    kinds = sorted({feature.rsplit("_", 1)[0] for feature in FEATURES})
    for knee in range(2):
        for i, members in enumerate(sets[knee].tolist()):
            tokens = []
            for j in members:
                region, feature = inputs.columns[j]
                name = [
                    net.ids.weight[j],
                    net.regions.weight[REGIONS.index(region)],
                    net.kinds.weight[kinds.index(feature.rsplit("_", 1)[0])],
                    net.value(x[knee, j].reshape(1)),
                ]
                tokens.append(torch.relu(net.token(torch.relu(net.mixed(torch.cat(name))))))
            z = torch.stack(tokens).mean(dim=0)
            torch.testing.assert_close(means[knee, i], z, rtol=0, atol=1e-14)
            joined = net.joined(torch.cat([net.encoder(x[knee]), z]))
            score = net.scored(torch.relu(joined))[0]
            torch.testing.assert_close(scores[knee, i], score, rtol=0, atol=1e-14)


def test_what_the_features_contribute_and_the_constant_sum_to_the_outputs():
    net, _, _, read = read_of_a_net()
    sets = random_sets(8, 3, 15, np.random.default_rng(0)).reshape(2, 4, 3)
    outputs = net.classifier(set_means(read.tokens, sets).mean(dim=1))
    parts = contributions(net, read, set_shares(sets, 15).double())
    torch.testing.assert_close(parts.sum(dim=1) + net.classifier.bias, outputs, rtol=0, atol=1e-7)
    assert (parts[0].abs().sum(dim=1) > 0).sum() == len(set(sets[0].flatten().tolist()))


# Rewards


@pytest.mark.parametrize("task", ["kl", "oa"])
def test_the_reward_for_a_knee_is_that_of_a_ridge_probe_refitted_without_it(task):
    probed, sets = probed_knees(task), torch.tensor([[0, 3, 5], [7, 1, 2]])
    found = patient(probed, sets, torch.tensor([11, 4]), np.random.default_rng(0))
    x, beyond = probed.x.double().numpy(), probed.beyond.numpy()
    for value, columns, knee in zip(found.tolist(), sets.numpy(), (11, 4), strict=True):
        others = np.arange(40) != knee
        probe = Ridge(alpha=PENALTY).fit(x[others][:, columns], beyond[others])
        error = probe.predict(x[[knee]][:, columns]) - beyond[knee]
        assert value == pytest.approx(-np.mean(error**2), rel=1e-9)


def test_the_ridge_reward_is_the_error_on_the_half_that_was_not_fitted():
    probed, sets = probed_knees(), torch.tensor([[0, 3, 5], [7, 1, 2]])
    found = ridge(probed, sets, torch.tensor([0, 0]), np.random.default_rng(3))
    order = np.random.default_rng(3).permutation(40)
    x, beyond = probed.x.double().numpy(), probed.beyond.numpy()
    for value, columns in zip(found.tolist(), sets.numpy(), strict=True):
        probe = Ridge(alpha=PENALTY).fit(x[order[:20]][:, columns], beyond[order[:20]])
        error = probe.predict(x[order[20:]][:, columns]).reshape(beyond[order[20:]].shape)
        assert value == pytest.approx(-np.mean((error - beyond[order[20:]]) ** 2), rel=1e-9)


def test_the_released_reward_is_that_of_ten_steps_of_gradient_descent():
    probed, sets = probed_knees(n=60), torch.tensor([[0, 3, 5]])
    found = sgd20(probed, sets, torch.tensor([0]), np.random.default_rng(4))
    rng = np.random.default_rng(4)
    rows = torch.from_numpy(rng.permuted(np.arange(60)[None], axis=1)[0])
    first = torch.from_numpy(rng.uniform(-1, 1, (1, 4, 4))[0] / np.sqrt(3)).float()
    probe = torch.nn.Linear(3, 4)
    probe.weight.data, probe.bias.data = first[:3].T.clone(), first[3].clone()
    optimizer = torch.optim.SGD(probe.parameters(), lr=RATE)
    x, target = probed.x[:, sets[0]], probed.target

    def loss(part):
        return THRESHOLDS.losses(probe(x[part]), target[part]).mean()

    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(rows[:PROBED]).backward()
        optimizer.step()
    torch.testing.assert_close(found[0], -loss(rows[PROBED : 2 * PROBED]).detach())


def test_the_share_of_the_set_is_that_of_a_one_way_analysis_of_variance():
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(4000, 1)) + 2 * rng.normal(size=(4000, 10))
    assert share_of_set(rewards) == pytest.approx(1 / 5, abs=0.01)
    assert share_of_set(rng.normal(size=(4000, 10))) < 0.01


def test_sets_differ_in_the_ridge_reward_and_hardly_in_the_released_one():
    shares = shares_of_set(probed_knees(n=200), 3)
    assert shares["ridge"] > 0.5 > 0.2 > shares["sgd20"]


# The systems


@pytest.mark.parametrize("name", ["retrieval", "retrieval_released"])
@pytest.mark.parametrize("task", ["oa", "kl"])
def test_a_system_grades_every_knee_and_says_what_it_took(name, task):
    found = SYSTEMS[name](with_settings(made_material()), task, seed=0, watch=quiet)
    assert found.logits.shape == (90, 1 if task == "oa" else 5)
    assert set(found.record["final_top"]) == {"4", "1"}
    assert found.record["reward"] == ("ridge" if name == "retrieval" else "sgd20")
    passes = found.record["passes"]
    assert passes["knees_read"] == 8 * 60 + 90
    assert passes["tokens_read"] == 15 * (8 * 60 + 90)
    released = 48 * (2 * 8 + 6 * 28) + 12 * 8 * 20 + 90 * 40
    assert passes["knees_read_as_released"] == released


def test_with_the_released_sizes_a_knee_is_read_over_a_hundred_times_less_often():
    released = released_sets(RadiomicsSettings(systems=("retrieval",)).retrieval, **KNEES)
    assert released == 306 * (80 * 50 + 720 * 2050) + 77 * 800 * 2000 + 98 * 5000
    assert released > 100 * (383 * 800 + 98)


KNEES = {"fitted": 306, "validation": 77, "asked": 98}


def test_the_logits_are_what_the_evidence_sums_to():
    material = with_settings(made_material())
    found = SYSTEMS["retrieval"](material, "oa", seed=0, watch=quiet)
    test = material.rows("test")
    spread = found.logits[test, 0].mean() - found.evidence["weight"].sum()
    again = SYSTEMS["retrieval"](with_settings(made_material(), final_top=1), "oa", **SEED)
    one = again.logits[test, 0].mean() - again.evidence["weight"].sum()
    assert spread == pytest.approx(one, abs=1e-5)  # the constant of the classifier


SEED = {"seed": 0, "watch": quiet}


def test_too_many_features_to_exchange_any_are_refused():
    with pytest.raises(InputError, match=r"radiomics.retrieval.k.*14 features.*at most 13"):
        SYSTEMS["retrieval"](with_settings(made_material(), k=14), "oa", **SEED)


def test_settings_that_ask_for_more_sets_than_are_drawn_are_refused():
    with pytest.raises(ValueError, match="final_top"):
        with_settings(made_material(), final_top=11)


# With scans


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """Thirty training and ten test knees with small scans, and features as `made_material`."""
    made, folder = made_material(train=30, test=10), tmp_path_factory.mktemp("scans")
    cases = tuple(
        replace(made_case(folder, i, case.split, case.kl), case_id=case.case_id)
        for i, case in enumerate(made.cases)
    )
    store = Store(folder / "prepared", (8, 8, 8), (2, 4, 5))
    store.prepare_all(cases)
    return with_settings(replace(made, cases=cases, store=store), image=True)


@pytest.mark.parametrize("name", ["top_k", "top_k_released", "retrieval", "retrieval_released"])
def test_a_system_that_reads_scans_is_fitted_once_and_with_the_same_bits(name, scanned, tmp_path):
    runs = [Run.at(tmp_path / folder / f"{name}-single_oa-s0") for folder in ("one", "other")]
    for run in runs:
        fit_run(run, SYSTEMS[name], scanned, watch=quiet)
    one, other = (run.predictions.read_bytes() for run in runs)
    assert one == other
    before = runs[0].predictions.stat().st_mtime_ns
    fit_run(runs[0], SYSTEMS[name], scanned, watch=quiet)
    assert runs[0].predictions.stat().st_mtime_ns == before
    reads = {"top_k": "gate_reads", "retrieval": "scorer_reads"}[name.removesuffix("_released")]
    assert runs[0].record()["fitted"][reads] == "the scan"


@pytest.mark.parametrize("name", ["top_k", "retrieval"])
def test_planted_features_are_chosen_more_often_than_by_chance(name, scanned):
    found = SYSTEMS[name](scanned, "kl", seed=0, watch=quiet)
    used = {tuple(c): share for *c, share in found.record["used_most"]}
    planted = sum(share for column, share in used.items() if column in PLANTED)
    assert planted > 1.2 * len(PLANTED) / 15 * found.record["used_for_a_test_knee"]


def test_other_settings_of_retrieval_leave_a_run_of_top_k_as_it_is(scanned, tmp_path):
    run = Run.at(tmp_path / "top_k-single_oa-s0")
    fit_run(run, SYSTEMS["top_k"], scanned, watch=quiet)
    fit_run(run, SYSTEMS["top_k"], with_settings(scanned, epochs=9), watch=quiet)
    settings = scanned.settings.top_k.model_copy(update={"k": 3})
    changed = scanned.settings.model_copy(update={"top_k": settings})
    with pytest.raises(InputError, match="other radiomics"):
        fit_run(run, SYSTEMS["top_k"], replace(scanned, settings=changed), watch=quiet)
