"""What all features say about the grades, and likeness of two networks."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from kellgren.analysis.jackknife import MOST_GROUPS, jackknife_interval, left_out
from kellgren.analysis.representation import (
    effective_rank,
    grade_similarity,
    participation_ratio,
    sampled_dimensions,
    sampled_similarity,
    sampled_straightness,
    sampled_triplet_order,
    straightness,
    triplet_order,
)
from kellgren.analysis.resampling import resample
from kellgren.analysis.similarity import (
    debiased_cka,
    linear_cka,
    sampled_cka,
    sampled_debiased_cka,
)
from kellgren.faults import InputError
from tests.test_ordering import GRADES, made, repeated, rng

SMALL = np.repeat(np.arange(5), [3, 2, 3, 2, 2])  # few enough for plain loops


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


class TestSampled:
    @pytest.mark.parametrize("f", [5, 40])
    def test_all_at_once_is_the_measure_on_the_repeated_cases(self, f):
        z, other = rng(1).normal(size=(2, 12, f)) + 0.5 * SMALL[:, None]
        drawn = resample(12, resamples=30, rng=rng(2))
        found = {
            triplet_order: sampled_triplet_order(z, SMALL, drawn.counts, rng=rng()),
            straightness: sampled_straightness(z, SMALL, drawn.counts),
            linear_cka: sampled_cka(z, other, drawn.counts),
        }
        dimensions = sampled_dimensions(z, drawn.counts)
        for b, rows in enumerate(repeated(drawn.counts)):
            again, kl = z[rows], SMALL[rows]
            expected = {
                triplet_order: triplet_order(again, kl, rng=rng()),
                straightness: straightness(again, kl),
                linear_cka: linear_cka(again, other[rows]),
            }
            for measure, value in expected.items():
                assert found[measure][b] == pytest.approx(value, abs=1e-12, nan_ok=True)
            for measure in (participation_ratio, effective_rank):
                expected_here = pytest.approx(measure(again), rel=1e-9)
                assert dimensions[measure.__name__][b] == expected_here

    @pytest.mark.parametrize("decimals", [0, 9])
    def test_similarity_leaves_out_pairs_of_a_knee_with_itself(self, decimals):
        z = (rng(3).normal(size=(12, 2)) + 0.3 * SMALL[:, None]).round(decimals)
        drawn = resample(12, resamples=30, rng=rng(4))
        found = sampled_similarity(z, SMALL, drawn.counts, rng=rng())
        for b, rows in enumerate(repeated(drawn.counts)):
            pairs = [(i, j) for i, j in combinations(rows, 2) if i != j]
            apart = [float(pdist(z[[i, j]])[0]) for i, j in pairs]
            gap = [abs(SMALL[i] - SMALL[j]) for i, j in pairs]
            assert found[b] == pytest.approx(spearmanr(apart, gap).statistic, abs=1e-12)

    def test_debiased_likeness_leaves_out_quadruples_that_hold_a_knee_twice(self):
        z, other = rng(5).normal(size=(2, 7, 3)) + np.arange(7)[:, None]
        drawn = resample(7, resamples=8, rng=rng(6))
        found = sampled_debiased_cka(z, other, drawn.counts)
        for b, count in enumerate(drawn.counts.T):
            one, two = z @ z.T, other @ other.T
            terms = [covariance_of_different(*pair, count) for pair in ((one, two), (one, one))]
            terms.append(covariance_of_different(two, two, count))
            square = terms[1] * terms[2] if min(terms[1:]) > 0 else np.nan
            assert found[b] == pytest.approx(terms[0] / np.sqrt(square), abs=1e-9, nan_ok=True)

    def test_each_case_once_is_the_measure_itself(self):
        z, other = rng(7).normal(size=(2, 98, 150)) + 0.3 * GRADES[:, None]
        once = np.ones((98, 1), dtype=np.int16)
        assert sampled_debiased_cka(z, other, once) == pytest.approx(debiased_cka(z, other))
        rho = grade_similarity(z, GRADES, rng=rng(), permutations=1).rho
        assert sampled_similarity(z, GRADES, once, rng=rng()) == pytest.approx(rho)

    def test_of_many_knees_the_same_part_is_looked_at(self):
        kl = rng(8).choice(GRADES, 450)
        z = rng(9).normal(size=(450, 3)) + 0.5 * kl[:, None]
        once = np.ones((450, 1), dtype=np.int16)
        rho = grade_similarity(z, kl, rng=rng(), permutations=1).rho
        assert sampled_similarity(z, kl, once, rng=rng()) == pytest.approx(rho)
        assert sampled_triplet_order(z, kl, once, rng=rng()) == triplet_order(z, kl, rng=rng())

    def test_what_does_not_vary_has_no_value(self):
        flat, counts = np.full((6, 3), 0.1), np.full((6, 2), 1)
        kl = np.array([0, 1, 2, 3, 4, 4])
        found = [*sampled_dimensions(flat, counts).values(), sampled_cka(flat, flat, counts)]
        found += [sampled_straightness(flat, kl, counts), sampled_debiased_cka(flat, flat, counts)]
        found.append(sampled_similarity(flat, kl, counts, rng=rng()))
        assert np.isnan(found).all()
        assert np.isnan(sampled_similarity(flat[:1], kl[:1], counts[:1], rng=rng())).all()


def covariance_of_different(gram, other, count):
    """Mean of K_ij (L_ij - 2 L_iq + L_qr) over four different cases, by a loop over all fours."""
    total, weights = 0.0, 0.0
    for i, j, q, r in product(range(len(gram)), repeat=4):
        if len({i, j, q, r}) == 4:
            weight = float(count[i]) * float(count[j]) * float(count[q]) * float(count[r])
            total += weight * gram[i, j] * (other[i, j] - 2 * other[i, q] + other[q, r])
            weights += weight
    return total / weights if weights else np.nan


class TestJackknife:
    def test_of_a_mean_it_is_the_normal_interval(self):
        x = rng().normal(size=50)
        kept = left_out(50, rng=rng())
        low, high = jackknife_interval(x.mean(), (x @ kept) / kept.sum(axis=0))
        half = 1.959963984540054 * x.std(ddof=1) / np.sqrt(50)
        assert [low, high] == pytest.approx([x.mean() - half, x.mean() + half])

    def test_of_many_cases_groups_are_left_out_that_cover_each_once(self):
        kept = left_out(1001, rng=rng())
        assert kept.shape == (1001, MOST_GROUPS)
        assert ((kept == 0).sum(axis=1) == 1).all()

    def test_bounds_of_the_measure_hold(self):
        assert jackknife_interval(0.95, np.array([0.8, 1.0, 0.9]), within=(0.0, 1.0))[1] == 1.0

    def test_without_a_value_there_is_no_interval(self):
        assert np.isnan(jackknife_interval(0.9, np.array([0.9, np.nan]), within=(0.0, 1.0))).all()

    def test_it_holds_a_dimension_that_a_bootstrap_does_not(self):
        z = rng().normal(size=(60, 100))
        value, drawn = effective_rank(z), resample(60, resamples=50, rng=rng())
        assert sampled_dimensions(z, drawn.counts)["effective_rank"].max() < 0.8 * value
        kept = sampled_dimensions(z, left_out(60, rng=rng()))["effective_rank"]
        low, high = jackknife_interval(value, kept)
        assert 0 < high - low < 0.1 * value
