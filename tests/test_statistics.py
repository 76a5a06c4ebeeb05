"""Multiplicity, seeds, ordered grades, noisy references and calibration."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, cohen_kappa_score, mean_absolute_error
from sklearn.metrics import log_loss as sklearn_log_loss

from kellgren.analysis.calibration import (
    calibration,
    cooled_kl,
    equal_mass,
    kl_temperature,
    oa_temperature,
    recalibration,
)
from kellgren.analysis.chance import chance_levels
from kellgren.analysis.comparison import auc_covariance, minimum_detectable
from kellgren.analysis.multiplicity import max_t
from kellgren.analysis.noise import noise_ceiling, read_again, reader, scores_under
from kellgren.analysis.ordinal import ORDINAL, ordinal_performance
from kellgren.analysis.performance import METRICS
from kellgren.analysis.resampling import resample
from kellgren.analysis.seeds import Seeds, probability_of_improvement, seed_difference
from kellgren.faults import InputError

from .predictions import made_predictions

GRADES = np.repeat(np.arange(5), [21, 12, 22, 28, 15])


class TestMaxT:
    def test_of_one_test_it_is_the_studentised_p_value(self):
        samples = np.random.default_rng(0).normal(1.0, 0.5, (1, 4000))
        expected = (np.abs(samples - 1.0) >= 1.0).sum() + 1
        assert max_t(np.array([1.0]), samples)[0] == expected / 4001

    def test_copies_of_a_test_cost_nothing_and_independent_ones_do(self):
        samples = np.random.default_rng(0).normal(1.0, 0.5, (6, 4000))
        alone = max_t(np.ones(1), samples[:1])[0]
        copies = max_t(np.ones(6), np.repeat(samples[:1], 6, axis=0))
        np.testing.assert_allclose(copies, alone)
        others = max_t(np.ones(6), samples)
        sidak = 1 - (1 - alone) ** 6
        # five standard errors of a share of 4,000 resamples
        assert others.max() == pytest.approx(sidak, abs=5 * np.sqrt(sidak / 4000))

    def test_a_missing_test_stays_missing_and_identical_models_have_p_one(self):
        samples = np.vstack([np.zeros(50), np.full(50, np.nan), np.linspace(1, 3, 50)])
        found = max_t(np.array([0.0, np.nan, 2.0]), samples)
        assert found[0] == 1.0
        assert np.isnan(found[1])
        assert found[2] < 0.1


def test_a_difference_of_the_minimum_detectable_size_is_found_four_times_in_five():
    draws = np.random.default_rng(0).normal(minimum_detectable(0.3), 0.3, 20_000)
    power = (np.abs(draws) > 1.959964 * 0.3).mean()
    assert power == pytest.approx(0.8, abs=5 * np.sqrt(0.16 / 20_000))


def made_seeds(values, *, noise=0.02, b=4000, seed=0):
    values = np.asarray(values, dtype=float)
    of_cases = np.random.default_rng(99).normal(0, noise, b)  # shared by all networks
    own = np.random.default_rng(seed).normal(0, noise / 2, (len(values), b))
    return Seeds(values, values[:, None] + of_cases + own)


class TestSeeds:
    def test_the_standard_error_over_seeds_is_that_of_two_means(self):
        model, reference = made_seeds([0.7, 0.8, 0.75, 0.72, 0.78]), made_seeds([0.6] * 5, seed=1)
        found = seed_difference(model, reference, rng=np.random.default_rng(0))
        expected = model.values.std() / np.sqrt(5)  # the reference does not vary
        assert found.se_seeds == pytest.approx(expected, rel=5 / np.sqrt(2 * 4000))
        assert found.difference == pytest.approx(0.15)

    def test_seeds_and_cases_together_are_less_sure_than_either(self):
        model, reference = (
            made_seeds(v, seed=i) for i, v in enumerate(([0.7, 0.8] * 3, [0.6] * 6))
        )
        found = seed_difference(model, reference, rng=np.random.default_rng(0))
        assert found.se_both > max(found.se_cases, found.se_seeds)
        assert found.ci_low < found.difference < found.ci_high

    def test_seeds_that_do_not_vary_add_almost_nothing(self):
        model, reference = made_seeds([0.7] * 5, noise=0.0), made_seeds([0.6] * 5, noise=0.0)
        found = seed_difference(model, reference, rng=np.random.default_rng(0))
        assert (found.se_cases, found.se_seeds, found.se_both) == pytest.approx((0, 0, 0), abs=1e-9)

    def test_below_five_seeds_no_interval_over_seeds_is_given(self):
        model, reference = made_seeds([0.7, 0.8]), made_seeds([0.6, 0.65], seed=1)
        found = seed_difference(model, reference, rng=np.random.default_rng(0))
        assert np.isnan([found.se_seeds, found.se_both, found.ci_low, found.p]).all()
        assert found.se_cases > 0
        assert found.probability == 1.0

    def test_the_chance_of_improvement_of_a_method_over_itself_is_one_half(self):
        values = np.array([0.1, 0.5, 0.5, 0.9])
        assert probability_of_improvement(values, values) == 0.5

    def test_other_resamples_are_refused(self):
        with pytest.raises(InputError, match="same resamples"):
            seed_difference(made_seeds([1.0]), made_seeds([1.0], b=9), rng=np.random.default_rng(0))


class TestOrdinal:
    @pytest.mark.parametrize("name", ORDINAL)
    @pytest.mark.parametrize("decimals", [0, 8])
    def test_all_at_once_is_the_measure_of_the_repeated_cases(self, name, decimals):
        p = made_predictions(n=40, decimals=decimals, seed=3)
        counts = resample(40, resamples=100, rng=np.random.default_rng(1)).counts
        rows = [np.repeat(np.arange(40), c) for c in counts.T]
        expected = [ordinal_performance(p.take(r))[name] for r in rows]
        np.testing.assert_allclose(ORDINAL[name](p, counts), expected, rtol=0, atol=1e-12)

    def test_they_are_those_of_scikit_learn_and_scipy(self):
        p = made_predictions(kl=GRADES, decimals=1)
        called, found = p.prob_kl.argmax(axis=1), ordinal_performance(p)
        expected_grade = p.prob_kl @ np.arange(5)
        kappa = cohen_kappa_score(called, p.kl, weights="quadratic", labels=range(5))
        assert found["quadratic_kappa"] == pytest.approx(kappa, abs=1e-12)
        assert found["mae"] == pytest.approx(mean_absolute_error(p.kl, called))
        by_grade = [np.abs(called - p.kl)[p.kl == k].mean() for k in range(5)]
        assert found["macro_mae"] == pytest.approx(np.mean(by_grade))
        tau = kendalltau(expected_grade, p.kl).statistic
        assert found["tau_b"] == pytest.approx(tau, abs=1e-12)

    def test_the_ranked_probability_score_of_a_sure_call_is_its_distance(self):
        p = made_predictions(kl=[0, 1, 2, 3, 4])
        sure = np.eye(5)[[4, 1, 2, 3, 0]]  # two knees four grades off
        found = ordinal_performance(
            type(p)(p.case_id, p.kl, p.score_oa, p.prob_oa, "head", sure, sure)
        )
        assert found["rps"] == pytest.approx((4 + 4) / 5)
        assert found["mae"] == found["mae_expected"] == pytest.approx(8 / 5)

    def test_an_absent_grade_leaves_the_macro_error_undefined(self):
        assert np.isnan(ordinal_performance(made_predictions(kl=[0, 0, 1, 3, 4]))["macro_mae"])

    def test_a_model_without_a_kl_head_is_refused(self):
        p = made_predictions(n=5)
        with pytest.raises(InputError, match="KL head"):
            ordinal_performance(replace(p, score_kl=None, prob_kl=None))


class TestNoise:
    @pytest.mark.parametrize(
        ("agreement", "expected"),
        [
            (0.8, [0.987, 0.965, 0.837, 0.832, 0.957]),
            (0.7, [0.980, 0.948, 0.758, 0.752, 0.936]),
            (0.6, [0.973, 0.930, 0.671, 0.665, 0.913]),
            (0.5, [0.966, 0.913, 0.591, 0.587, 0.892]),
        ],
    )
    def test_ceilings_are_those_found_by_another_simulation(self, agreement, expected):
        """On the 98 test knees of the paper; the other one is known to three digits."""
        table = noise_ceiling(GRADES, agreement=agreement, rng=np.random.default_rng(0))
        found = table.set_index(["task", "metric"])
        keys = [("oa", "auc"), ("oa", "accuracy"), ("kl", "accuracy"), ("kl", "macro_f1")]
        for key, value in zip([*keys, ("kl", "quadratic_kappa")], expected, strict=True):
            error = 5 * found.loc[key, "sd"] / np.sqrt(300)
            assert found.loc[key, "ceiling"] == pytest.approx(value, abs=error)

    def test_the_accuracy_ceiling_is_the_expected_agreement(self):
        found = noise_ceiling(GRADES, agreement=0.8, rng=np.random.default_rng(0), draws=4000)
        of = found.set_index(["task", "metric"])
        assert of.loc[("kl", "accuracy"), "ceiling"] == pytest.approx(
            (62 * 0.8 + 36 * 0.9) / 98, abs=5 * 0.04 / np.sqrt(4000)
        )

    def test_a_sure_reader_changes_nothing(self):
        p = made_predictions(kl=GRADES, decimals=1)
        labels = read_again(GRADES, agreement=1.0, draws=2, rng=np.random.default_rng(0))
        np.testing.assert_array_equal(labels, np.stack([GRADES] * 2, axis=1))
        for (task, name), values in scores_under(p, labels).items():
            if name in METRICS[task]:
                assert values == pytest.approx(METRICS[task][name](p), abs=1e-12)

    def test_readings_follow_the_reader(self):
        said = read_again(np.full(1, 2), agreement=0.6, draws=20_000, rng=np.random.default_rng(0))
        shares = np.bincount(said[0], minlength=5) / 20_000
        np.testing.assert_allclose(shares, reader(0.6)[2], atol=5 * np.sqrt(0.24 / 20_000))

    def test_a_column_without_a_class_has_no_auc(self):
        p = made_predictions(kl=[0, 1, 2, 3, 4])
        found = scores_under(p, np.array([[0, 0, 0, 0, 0]]).T)
        assert np.isnan([found["oa", "auc"][0], found["kl", "macro_auc"][0]]).all()


def test_a_model_of_shuffled_labels_is_inside_chance_everywhere():
    """Above the 97.5th percentile of chance as often as chance is, and no AUC known from 0.5."""
    chance = chance_levels(GRADES, rng=np.random.default_rng(0), shuffles=2000)
    bounds = chance.query("rule == 'shuffled_97.5'").set_index(["task", "metric"])["value"]
    above, apart = [], []
    for seed in range(60):
        kl = np.random.default_rng(seed).permutation(GRADES)
        blind = replace(made_predictions(kl=kl, seed=seed, skill=2.0), kl=GRADES)
        above += [METRICS[task][name](blind) > bound for (task, name), bound in bounds.items()]
        se = np.sqrt(auc_covariance(GRADES >= 2, blind.score_oa[None])[1][0, 0])
        apart.append(abs(METRICS["oa"]["auc"](blind) - 0.5) > 1.96 * se)
    # five standard errors; the four metrics of one model go together
    assert np.mean(above) <= 0.025 + 5 * np.sqrt(0.025 * 0.975 / 60)
    assert np.mean(apart) <= 0.05 + 5 * np.sqrt(0.05 * 0.95 / 60)


class TestCalibration:
    def made(self, n=400, *, temperature=1.0, seed=0):
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 2, n)
        happened = rng.random(n) < 1 / (1 + np.exp(-logits / temperature))
        return 1 / (1 + np.exp(-logits)), happened, logits

    def test_brier_score_and_log_loss_are_those_of_scikit_learn(self):
        prob, happened, _ = self.made()
        found = calibration(prob, happened, rng=np.random.default_rng(0), draws=50)
        assert found.brier == pytest.approx(brier_score_loss(happened, prob))
        assert found.log_loss == pytest.approx(sklearn_log_loss(happened, prob))

    def test_calibrated_probabilities_have_an_error_that_is_expected(self):
        prob, happened, _ = self.made()
        found = calibration(prob, happened, rng=np.random.default_rng(0))
        assert found.p_calibrated > 0.05
        assert found.ece_if_calibrated > 0.02  # far from 0 with 400 cases in 15 groups

    def test_overconfidence_shows_in_slope_and_error(self):
        prob, happened, _ = self.made(temperature=4.0)
        found = calibration(prob, happened, rng=np.random.default_rng(0))
        assert found.slope == pytest.approx(0.25, abs=0.1)
        assert found.ece > 2 * found.ece_if_calibrated
        assert found.p_calibrated < 0.01

    def test_the_slope_is_that_of_an_unpenalised_logistic_regression(self):
        prob, happened, logits = self.made(n=80)
        fit = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], happened)
        expected = (fit.coef_[0, 0], fit.intercept_[0])
        assert recalibration(prob, happened) == pytest.approx(expected, abs=1e-4)

    def test_separated_classes_have_no_slope(self):
        prob = np.array([0.1, 0.2, 0.8, 0.9])
        assert np.isnan(recalibration(prob, prob > 0.5)).all()

    def test_equal_probabilities_stay_together(self):
        groups = equal_mass(np.array([0.1, 0.5, 0.5, 0.5, 0.5, 0.9]), bins=3)
        assert len(set(groups[1:5])) == 1
        assert groups.max() + 1 == len(set(groups))

    def test_the_temperature_of_scaled_logits_is_the_scale(self):
        _, happened, logits = self.made(n=20_000)
        assert oa_temperature(5 * logits, happened) == pytest.approx(5, rel=0.1)
        rng = np.random.default_rng(0)
        kl_logits = rng.normal(0, 2, (20_000, 5))
        prob = cooled_kl(kl_logits, 1.0)
        kl = (rng.random((20_000, 1)) > np.cumsum(prob, axis=1)).sum(axis=1)
        assert kl_temperature(0.5 * kl_logits, kl) == pytest.approx(0.5, rel=0.05)
