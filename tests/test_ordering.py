"""Order of the grades among the features, and likeness of features."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from kellgren.analysis.geometry import principal_axis
from kellgren.analysis.ordering import (
    effective_rank,
    grade_similarity,
    order,
    participation_ratio,
    straightness,
    supervised_axis,
    triplet_order,
)
from kellgren.analysis.similarity import debiased_cka, linear_cka
from kellgren.faults import InputError
from kellgren.tables import Features

GRADES = np.repeat(np.arange(5), [21, 12, 22, 28, 15])


def rng(seed=0):
    return np.random.default_rng(seed)


def made(*, signal=1.0, f=8, seed=0):
    z = rng(seed).normal(size=(98, f)) + signal * np.outer(GRADES, np.ones(f))
    ids = np.arange(98).astype(str).astype(object)
    return Features(ids, np.full(98, "train", dtype=object), GRADES, z)


class TestOrder:
    def test_a_perfect_order_is_perfect_at_every_boundary(self):
        found = order(np.arange(98.0), GRADES)
        assert (found.auc_oa, found.auc_01, found.auc_12, found.auc_34, found.auc_04) == (1,) * 5

    def test_a_score_may_know_oa_and_not_the_order_beyond_it(self):
        score = (GRADES >= 2) + 1e-6 * rng().normal(size=98)
        found = order(score, GRADES)
        assert (found.auc_oa, found.auc_12) == (1.0, 1.0)
        assert max(abs(found.auc_01 - 0.5), abs(found.auc_23 - 0.5)) < 0.3

    def test_the_share_between_grades_is_one_without_spread_inside_them(self):
        assert order(GRADES.astype(float), GRADES).eta2_kl == pytest.approx(1.0)

    def test_without_an_axis_everything_is_missing(self):
        found = order(np.full(98, np.nan), GRADES)
        assert np.isnan([found.rho_kl, found.tau_kl, found.eta2_kl, found.auc_04]).all()

    def test_the_supervised_axis_beats_pc1_where_severity_is_not_the_largest_spread(self):
        train, test = made(signal=0.4, seed=1), made(signal=0.4, seed=2)
        for cases in (train, test):
            cases.z[:, 0] += 20 * rng(len(cases.z)).normal(size=98)
        pc1 = principal_axis(train.z).score(test.z)
        axes = [abs(order(s, GRADES).rho_kl) for s in (test.z @ supervised_axis(train), pc1)]
        assert axes[0] > axes[1]


class TestTriplets:
    def test_places_on_a_line_are_all_in_order(self):
        z = GRADES[:, None].astype(float)
        assert triplet_order(z, GRADES, rng=rng()) == 1.0

    def test_features_that_do_not_know_the_grade_are_near_one_third(self):
        found = [triplet_order(rng(s).normal(size=(98, 5)), GRADES, rng=rng()) for s in range(20)]
        assert np.mean(found) == pytest.approx(1 / 3, abs=5 * np.std(found) / np.sqrt(20))

    def test_two_grades_have_no_triplet(self):
        assert np.isnan(triplet_order(np.eye(4), np.array([0, 0, 1, 1]), rng=rng()))


class TestShape:
    def test_a_line_is_straight_and_a_way_back_is_not(self):
        z = np.array([[0.0], [1], [2], [3], [4]])
        assert straightness(z, np.arange(5)) == 1.0
        assert straightness(z, np.array([0, 4, 2, 3, 1])) < 1.0
        assert np.isnan(straightness(z[:4], np.arange(4)))

    def test_variance_along_one_axis_is_one_dimension_and_even_variance_is_all(self):
        line = np.outer(np.arange(9.0), np.ones(4))
        even = np.vstack([np.eye(4), -np.eye(4)])
        assert [participation_ratio(z) for z in (line, even)] == pytest.approx([1, 4])
        assert [effective_rank(z) for z in (line, even)] == pytest.approx([1, 4])
        assert np.isnan(
            [participation_ratio(np.ones((4, 3))), effective_rank(np.ones((4, 3)))]
        ).all()


class TestGradeSimilarity:
    def test_it_is_the_spearman_correlation_over_pairs(self):
        cases = made(signal=0.3)
        found = grade_similarity(cases.z, GRADES, rng=rng(), permutations=50)
        expected = spearmanr(pdist(cases.z), pdist(GRADES[:, None], "cityblock")).statistic
        assert found.rho == pytest.approx(expected, abs=1e-12)
        assert found.p == 1 / 51

    def test_shuffled_labels_are_inside_chance_although_there_are_4753_pairs(self):
        z = made().z
        p = [
            grade_similarity(z, rng(s).permutation(GRADES), rng=rng(s), permutations=99).p
            for s in range(40)
        ]
        assert np.mean(np.array(p) <= 0.05) <= 0.05 + 5 * np.sqrt(0.05 * 0.95 / 40)

    def test_one_grade_has_no_similarity(self):
        assert np.isnan(grade_similarity(np.eye(3), np.zeros(3, dtype=int), rng=rng()).rho)


class TestCka:
    def test_a_rotation_a_scale_and_a_shift_change_nothing(self):
        z = made().z
        turned = 3 * z @ np.linalg.qr(rng().normal(size=(8, 8)))[0] + 5
        assert [f(z, turned) for f in (linear_cka, debiased_cka)] == pytest.approx([1, 1])

    def test_only_the_debiased_one_knows_unrelated_wide_features(self):
        pairs = [
            (rng(s).normal(size=(98, 500)), rng(s + 99).normal(size=(98, 500))) for s in range(5)
        ]
        assert min(linear_cka(*pair) for pair in pairs) > 0.7
        assert abs(np.mean([debiased_cka(*pair) for pair in pairs])) < 0.05

    def test_three_cases_are_refused_and_constant_features_have_none(self):
        with pytest.raises(InputError, match="3 cases"):
            debiased_cka(np.eye(3), np.eye(3))
        assert np.isnan(linear_cka(np.ones((5, 2)), np.eye(5)))
