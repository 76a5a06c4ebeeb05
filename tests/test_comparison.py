from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import bootstrap

from kellgren.analysis.comparison import (
    check_same_cases,
    delong,
    difference,
    mcnemar,
    oa_mcnemar,
    paired_bootstrap,
    two_sided_p,
)
from kellgren.analysis.multiplicity import adjusted
from kellgren.analysis.performance import KL_METRICS, METRICS, OA_METRICS, auc
from kellgren.analysis.resampling import resample, sampled_auc, sampled_means
from kellgren.faults import InputError

from .predictions import made_predictions

GRADES = np.repeat(np.arange(5), [21, 12, 22, 28, 15])


@pytest.fixture
def models():
    return made_predictions(kl=GRADES, seed=1, skill=1.2), made_predictions(kl=GRADES, seed=2)


def compared(first, second, metric, **options):
    return paired_bootstrap(
        first, second, metric, rng=np.random.default_rng(0), resamples=500, **options
    )


class TestBootstrap:
    def test_full_enumeration_of_four_cases_gives_the_exact_distribution(self):
        """All 256 resamples of two scores: 224 have both classes, and the mean gap is 1/4."""
        positive = np.array([False, False, True, True])
        first, second = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0.4, 0.1, 0.35, 0.35])
        every = np.array(list(product(range(4), repeat=4)))
        counts = np.stack([np.bincount(row, minlength=4) for row in every], axis=1)
        gaps = sampled_auc(positive, first, counts) - sampled_auc(positive, second, counts)
        gaps = gaps[~np.isnan(gaps)]
        assert len(gaps) == 224
        assert gaps.mean() == pytest.approx(0.25, abs=1e-12)
        assert (gaps <= 0).mean() == pytest.approx(0.392857, abs=1e-6)

    def test_an_accuracy_difference_has_the_known_mean_and_standard_error(self):
        n, b, c, resamples = 98, 20, 5, 20_000
        gap = np.repeat([1.0, -1.0, 0.0], [b, c, n - b - c])[:, None]
        drawn = resample(n, resamples=resamples, rng=np.random.default_rng(0))
        found = difference(gap.mean(), sampled_means(gap, drawn)[0], resamples=drawn)
        mean, se = (b - c) / n, np.sqrt((b + c) / n - ((b - c) / n) ** 2) / np.sqrt(n)
        assert (round(mean, 7), round(se, 7)) == (0.1530612, 0.0486212)
        # five standard errors of a mean and of a standard deviation over the resamples
        assert found.boot_mean == pytest.approx(mean, abs=5 * se / np.sqrt(resamples))
        assert found.se == pytest.approx(se, rel=5 / np.sqrt(2 * resamples))

    def test_the_interval_is_the_percentile_interval_of_scipy(self, models):
        right = [OA_METRICS["accuracy"](models[0].take(np.array([i]))) for i in range(98)]
        values = np.array(right)
        drawn = resample(98, resamples=1000, rng=np.random.default_rng(0))
        found = difference(values.mean(), sampled_means(values[:, None], drawn)[0], resamples=drawn)
        theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=1)
        interval = theirs.confidence_interval
        # quantiles of 1,000 resamples of multiples of 1/98, near a standard error of 0.04
        assert [found.ci_low, found.ci_high] == pytest.approx(list(interval), abs=0.02)

    @pytest.mark.parametrize(("task", "name"), [(t, m) for t in METRICS for m in METRICS[t]])
    def test_swapping_the_models_negates_the_difference_and_keeps_p(self, models, task, name):
        there = compared(*models, METRICS[task][name])
        back = compared(*models[::-1], METRICS[task][name])
        assert there.difference == -back.difference
        assert there.boot_mean == pytest.approx(-back.boot_mean, abs=1e-15)
        assert (there.ci_low, there.ci_high) == pytest.approx((-back.ci_high, -back.ci_low))
        assert there.p == back.p

    def test_a_model_compared_with_itself_has_p_one(self, models):
        found = compared(models[0], models[0], KL_METRICS["macro_f1"])
        assert (found.difference, found.se, found.p) == (0.0, 0.0, 1.0)

    def test_the_order_of_the_cases_changes_nothing_but_the_draw(self, models):
        order = np.random.default_rng(3).permutation(98)
        moved = compared(*(m.take(order) for m in models), OA_METRICS["auc"])
        assert moved.difference == compared(*models, OA_METRICS["auc"]).difference

    def test_a_rare_grade_is_refused_rather_than_guessed(self):
        first, second = (made_predictions(kl=[0, 0, 1, 2, 3, 4], seed=s) for s in (0, 1))
        with pytest.raises(InputError, match="rarest grade"):
            compared(first, second, KL_METRICS["macro_auc"])
        assert np.isfinite(compared(first, second, KL_METRICS["macro_f1"]).p)


class TestTwoSidedP:
    def test_it_is_never_zero_unless_the_papers_form_is_asked_for(self):
        values = np.ones(999)
        assert two_sided_p(values) == 2 / 1000
        assert two_sided_p(values, paper_p=True) == 0.0

    def test_zeros_count_on_both_sides(self):
        assert two_sided_p(np.zeros(100)) == 1.0
        assert two_sided_p(np.array([0.0, 0.0, 1.0, 1.0]), paper_p=True) == 1.0


class TestMcNemar:
    def test_counts_are_of_the_cases_that_one_model_alone_calls_right(self):
        first = np.array([True, True, False, True, False])
        second = np.array([True, False, True, False, False])
        found = mcnemar(first, second)
        assert (found.b, found.c) == (2, 1)

    def test_without_disagreement_p_is_one(self):
        right = np.array([True, False])
        assert (mcnemar(right, right).p, mcnemar(right, right).p_mid) == (1.0, 1.0)

    def test_equal_counts_give_p_one(self):
        found = mcnemar(np.array([True, False]), np.array([False, True]))
        assert (found.p, found.p_mid) == pytest.approx((1.0, 1.0), abs=1e-15)

    def test_oa_is_called_at_one_half(self, models):
        first, second = models
        right = [(m.prob_oa >= 0.5) == (m.kl >= 2) for m in models]
        assert oa_mcnemar(first, second) == mcnemar(*right)


class TestDeLong:
    def test_identical_rankings_are_not_different(self, models):
        positive, score = models[0].kl >= 2, models[0].score_oa
        found = delong(positive, score, np.exp(score / 10))
        assert (found.difference, found.z, found.p) == (0.0, 0.0, 1.0)

    def test_its_difference_is_that_of_the_aucs(self, models):
        positive = models[0].kl >= 2
        scores = [np.round(m.score_oa, 1) for m in models]
        expected = auc(positive, scores[0]) - auc(positive, scores[1])
        assert delong(positive, *scores).difference == pytest.approx(expected, abs=1e-15)

    def test_without_variance_there_is_no_test(self):
        positive = np.array([False, False, True, True])
        found = delong(positive, np.arange(4.0), -np.arange(4.0))
        assert found.difference == 1.0
        assert np.isnan(found.p)

    def test_one_positive_case_is_too_few(self):
        found = delong(np.array([False, False, True]), np.arange(3.0), np.array([2.0, 0, 1]))
        assert np.isnan(found.p)

    def test_it_agrees_with_the_jackknife_of_the_cases(self, models):
        """Leaving one case out estimates the same variance, up to terms of order 1/n."""
        positive = models[0].kl >= 2
        scores = [m.score_oa for m in models]
        keep = [np.arange(98) != i for i in range(98)]
        gaps = np.array([np.subtract(*[auc(positive[k], s[k]) for s in scores]) for k in keep])
        jackknife = np.sqrt(97 / 98 * ((gaps - gaps.mean()) ** 2).sum())
        assert delong(positive, *scores).se == pytest.approx(jackknife, rel=0.05)


class TestAdjusted:
    def test_a_missing_test_still_counts(self):
        p = np.array([0.01, np.nan, np.nan])
        np.testing.assert_allclose(adjusted(p, method="holm"), [0.03, np.nan, np.nan])
        np.testing.assert_allclose(adjusted(p, method="fdr_bh"), [0.03, np.nan, np.nan])

    def test_no_tests_are_no_adjusted_tests(self):
        assert len(adjusted(np.array([]), method="holm")) == 0


class TestSameCases:
    def test_a_case_of_one_model_only_is_named(self, models):
        with pytest.raises(InputError, match="case k097 in one of them only"):
            check_same_cases(models[0], models[1].take(np.arange(97)))

    def test_another_order_is_refused(self, models):
        with pytest.raises(InputError, match="another order"):
            check_same_cases(models[0], models[1].take(np.arange(98)[::-1]))

    def test_another_grade_is_refused(self, models):
        kl = models[1].kl.copy()
        kl[3] = 4
        with pytest.raises(InputError, match="case k003: found grade 0 and grade 4"):
            check_same_cases(models[0], replace(models[1], kl=kl))
