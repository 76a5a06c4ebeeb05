from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

from kellgren.analysis.chance import chance_levels
from kellgren.analysis.performance import (
    KL_METRICS,
    METRICS,
    OA_METRICS,
    auc,
    called_kl,
    called_oa,
    class_f1,
    kl_confusion,
    oa_confusion,
    tasks_of,
    wilson_interval,
)
from kellgren.faults import InputError

from .predictions import made_predictions

TEST_GRADES = np.repeat(np.arange(5), [21, 12, 22, 28, 15])  # the paper's test split


def shares(low, high):
    return st.lists(st.integers(0, 6), min_size=low, max_size=high)


class TestAuc:
    def test_ties_count_one_half(self):
        assert auc(np.array([False, True]), np.array([1.0, 1.0])) == 0.5

    @pytest.mark.parametrize("all_of_them", [True, False])
    def test_it_is_undefined_without_both_classes(self, all_of_them):
        assert np.isnan(auc(np.full(3, all_of_them), np.arange(3.0)))

    @given(values=shares(2, 60), seed=st.integers(0, 2**31))
    def test_it_is_that_of_scikit_learn_with_ties(self, values, seed):
        score = np.array(values, dtype=float)
        positive = np.random.default_rng(seed).random(len(score)) < 0.5
        positive[:2] = [True, False]
        assert auc(positive, score) == pytest.approx(roc_auc_score(positive, score), abs=1e-12)

    @given(values=shares(2, 60))
    def test_an_increasing_map_of_the_score_changes_nothing(self, values):
        score = np.array(values, dtype=float)
        positive = np.arange(len(score)) % 2 == 0
        assert auc(positive, np.exp(score / 3)) == auc(positive, score)

    def test_it_ranks_scores_of_infinite_size(self):
        assert auc(np.array([False, True]), np.array([-np.inf, np.inf])) == 1.0


class TestOracles:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("decimals", [0, 8])
    def test_every_metric_is_that_of_scikit_learn(self, seed, decimals):
        p = made_predictions(seed=seed, decimals=decimals)
        oa, grades = p.kl >= 2, range(5)
        by_grade = [roc_auc_score(p.kl == k, p.score_kl[:, k]) for k in grades]
        expected = {
            ("oa", "auc"): roc_auc_score(oa, p.score_oa),
            ("oa", "accuracy"): accuracy_score(oa, p.prob_oa >= 0.5),
            ("oa", "f1"): f1_score(oa, p.prob_oa >= 0.5),
            ("kl", "macro_auc"): np.mean(by_grade),
            ("kl", "accuracy"): accuracy_score(p.kl, p.prob_kl.argmax(1)),
            ("kl", "macro_f1"): f1_score(
                p.kl, p.prob_kl.argmax(1), labels=list(grades), average="macro", zero_division=0
            ),
        }
        found = {(t, m): METRICS[t][m](p) for t, m in expected}
        assert found == pytest.approx(expected, abs=1e-12)

    def test_confusion_tables_have_the_reference_in_rows(self):
        p = made_predictions()
        np.testing.assert_array_equal(oa_confusion(p), confusion_matrix(p.kl >= 2, called_oa(p)))
        expected = confusion_matrix(p.kl, called_kl(p), labels=range(5))
        np.testing.assert_array_equal(kl_confusion(p), expected)


class TestEdges:
    def test_accuracies_and_aucs_are_exact_fractions(self):
        p = made_predictions(kl=TEST_GRADES, decimals=1)
        assert (OA_METRICS["accuracy"](p) * 98) == round(OA_METRICS["accuracy"](p) * 98)
        twice = OA_METRICS["auc"](p) * 2 * 33 * 65
        assert twice == pytest.approx(round(twice), abs=1e-9)

    def test_a_probability_of_one_half_is_called_oa(self):
        p = replace(made_predictions(n=2, kl=[0, 4]), prob_oa=np.array([0.5, 0.4999]))
        assert called_oa(p).tolist() == [True, False]

    def test_equally_likely_grades_give_the_lowest(self):
        p = replace(made_predictions(n=1, kl=[3]), prob_kl=np.full((1, 5), 0.2))
        assert called_kl(p).tolist() == [0]

    def test_an_absent_grade_leaves_the_macro_auc_undefined(self):
        assert np.isnan(KL_METRICS["macro_auc"](made_predictions(kl=[0, 1, 2, 3, 3, 0])))

    def test_an_absent_grade_counts_zero_in_the_macro_f1(self):
        p = replace(made_predictions(kl=[0, 0]), prob_kl=np.eye(5)[[0, 0]])
        assert KL_METRICS["macro_f1"](p) == pytest.approx(1 / 5)

    def test_a_model_without_a_kl_head_has_no_kl_metric(self):
        p = replace(made_predictions(), score_kl=None, prob_kl=None)
        assert tasks_of(p) == ["oa"]
        for metric in KL_METRICS.values():
            with pytest.raises(InputError, match="without a KL head"):
                metric(p)

    def test_the_order_of_the_cases_does_not_matter(self):
        p = made_predictions()
        shuffled = p.take(np.random.default_rng(1).permutation(len(p)))
        for task, metrics in METRICS.items():
            for name, metric in metrics.items():
                assert metric(shuffled) == pytest.approx(metric(p), abs=1e-15), (task, name)

    def test_class_f1_works_on_many_tables_at_once(self):
        tables = np.random.default_rng(0).integers(0, 4, (5, 5, 7))
        one_by_one = [class_f1(tables[..., i]) for i in range(7)]
        np.testing.assert_array_equal(class_f1(tables), np.stack(one_by_one, axis=1))


class TestWilson:
    @pytest.mark.parametrize(("correct", "n"), [(0, 10), (78, 98), (10, 10)])
    def test_it_is_that_of_statsmodels(self, correct, n):
        from statsmodels.stats.proportion import proportion_confint

        expected = proportion_confint(correct, n, method="wilson")
        assert wilson_interval(correct, n) == pytest.approx(expected, abs=1e-12)


class TestChance:
    @pytest.fixture
    def levels(self):
        table = chance_levels(TEST_GRADES, rng=np.random.default_rng(0))
        return table.set_index(["task", "metric", "rule"])["value"]

    def test_calling_every_knee_oa_scores_high(self, levels):
        assert levels["oa", "accuracy", "all_positive"] == 65 / 98
        assert levels["oa", "f1", "all_positive"] == pytest.approx(2 * 65 / (2 * 65 + 33))

    def test_the_most_frequent_grade_is_called_by_the_majority_rule(self, levels):
        assert levels["kl", "accuracy", "majority"] == 28 / 98
        assert levels["kl", "macro_f1", "majority"] == pytest.approx(2 * 28 / (28 + 98) / 5)

    def test_shuffled_labels_agree_as_often_as_the_sum_of_squared_shares(self, levels):
        counts = np.array([21, 12, 22, 28, 15])
        expected = (counts**2).sum() / 98**2
        # 10,000 shuffles; one has a standard deviation near 0.043
        assert levels["kl", "accuracy", "shuffled_mean"] == pytest.approx(expected, abs=0.0025)

    def test_the_percentile_is_above_the_mean(self, levels):
        for task, metric in (("oa", "f1"), ("kl", "macro_f1")):
            upper, mean = (levels[task, metric, f"shuffled_{r}"] for r in ("97.5", "mean"))
            assert upper > mean

    def test_one_score_for_all_has_an_auc_of_one_half(self, levels):
        assert levels["oa", "auc", "constant"] == auc(TEST_GRADES >= 2, np.zeros(98))

    def test_the_same_seed_gives_the_same_levels(self):
        kl = np.arange(5)
        first, second = (
            chance_levels(kl, rng=np.random.default_rng(3), shuffles=10) for _ in range(2)
        )
        assert first.equals(second)
