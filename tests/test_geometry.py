from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from kellgren.analysis.embedding import embed
from kellgren.analysis.geometry import (
    adjacent_distances,
    axis_intervals,
    oriented,
    principal_axis,
    rho_of_auroc,
    severity_axis,
    spacing_trend,
    spearman,
)
from kellgren.faults import InputError
from kellgren.tables import Features

GRADES = np.repeat(np.arange(5), [21, 12, 22, 28, 15])


def made_features(*, seed=0, n=None, f=12, signal=0.7, split="test", kl=GRADES):
    """Features that move along one direction with the grade."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).normal(size=f)
    z = rng.normal(size=(len(kl), f)) + signal * np.outer(kl, direction)
    ids = np.array([f"{split}{i:03d}" for i in range(len(kl))], dtype=object)
    return Features(ids, np.full(len(kl), split, dtype=object), np.asarray(kl), z)


class TestPrincipalAxis:
    def test_it_is_that_of_scikit_learn(self):
        z = made_features().z
        axis, pca = principal_axis(z), PCA().fit(z)
        assert axis.evr == pytest.approx(pca.explained_variance_ratio_[0], abs=1e-12)
        np.testing.assert_allclose(np.abs(axis.score(z)), np.abs(pca.transform(z)[:, 0]))

    def test_features_that_do_not_vary_have_no_axis(self):
        cases = replace(made_features(), z=np.full((98, 3), 0.1))
        found = severity_axis(cases)
        assert np.isnan([found.evr_pc1, found.rho_kl, found.auroc_oa, found.rho_adjacent]).all()
        assert np.isnan(list(axis_intervals(cases, rng=np.random.default_rng(0)).values())).all()

    def test_it_is_turned_so_that_pc1_rises_with_kl_where_asked(self):
        train = made_features(seed=1, split="train")
        falling = replace(train, kl=4 - train.kl)
        rises, falls = (oriented(principal_axis(train.z), cases) for cases in (train, falling))
        np.testing.assert_array_equal(rises.direction, -falls.direction)
        assert spearman(rises.score(train.z), train.kl) > 0


class TestSeverityAxis:
    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 2**31), signal=st.floats(0, 2))
    def test_auroc_and_rho_of_pc1_are_one_number(self, seed, signal):
        """(2 A - 1) K = |rho(PC1, OA)|; every row of the paper's Table 2 breaks this identity."""
        found = severity_axis(made_features(seed=seed, signal=signal))
        implied = rho_of_auroc(found.auroc_oa, positive=65, negative=33)
        assert implied == pytest.approx(found.abs_rho_oa, abs=1e-12)
        assert found.abs_rho_oa <= 0.8186
        assert found.abs_rho_kl <= 0.97479

    def test_a_fitted_logistic_probe_has_the_same_auroc(self):
        cases = made_features()
        pc1, oa = principal_axis(cases.z).score(cases.z)[:, None], cases.kl >= 2
        probe = LogisticRegression().fit(pc1, oa)
        expected = roc_auc_score(oa, probe.decision_function(pc1))
        assert severity_axis(cases).auroc_oa == pytest.approx(expected, abs=1e-12)

    def test_a_probe_from_other_cases_may_point_the_wrong_way(self):
        cases = made_features(signal=2.0)
        train = made_features(seed=1, signal=2.0, split="train")
        backwards = replace(train, kl=4 - train.kl)
        assert severity_axis(cases, fitted_on=train).auroc_oa > 0.9
        assert severity_axis(cases, fitted_on=backwards).auroc_oa < 0.1

    def test_magnitudes_do_not_depend_on_the_direction(self):
        cases, train = made_features(), made_features(seed=1, split="train")
        one = severity_axis(cases, oriented_on=train)
        other = severity_axis(cases, oriented_on=replace(train, kl=4 - train.kl))
        assert (one.rho_kl, one.rho_oa) == pytest.approx((-other.rho_kl, -other.rho_oa))
        assert (one.abs_rho_kl, one.auroc_oa) == (other.abs_rho_kl, other.auroc_oa)

    def test_a_rotation_and_a_shift_of_the_features_change_nothing(self):
        cases = made_features(f=6)
        rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))[0]
        moved = severity_axis(replace(cases, z=cases.z @ rotation + 3))
        found = severity_axis(cases)
        for name in ("evr_pc1", "abs_rho_kl", "auroc_oa", "distance_01", "distance_34"):
            assert getattr(moved, name) == pytest.approx(getattr(found, name), abs=1e-9)

    def test_features_of_two_models_are_refused(self):
        with pytest.raises(InputError, match="12 and 7 features"):
            severity_axis(made_features(), fitted_on=made_features(f=7))

    def test_no_case_is_refused(self):
        cases = made_features()
        with pytest.raises(InputError, match="no case"):
            severity_axis(cases.of_split("train"))


class TestSpacing:
    def test_distances_are_between_centroids_of_adjacent_grades(self):
        z = np.array([[0.0, 0], [2, 0], [4, 0], [4, 3], [4, 4], [4, 4]])
        found = adjacent_distances(z, np.array([0, 0, 1, 2, 3, 4]))
        np.testing.assert_allclose(found, [3, 3, 1, 0])

    def test_an_absent_grade_leaves_two_distances_and_the_trend_undefined(self):
        z, kl = np.arange(8.0).reshape(4, 2), np.array([0, 1, 3, 4])
        assert np.isnan(adjacent_distances(z, kl)).tolist() == [False, True, True, False]
        assert np.isnan(spacing_trend(adjacent_distances(z, kl))).all()

    def test_equal_distances_have_no_trend(self):
        assert np.isnan(spacing_trend(np.ones(4))).all()

    def test_four_places_allow_eleven_correlations_and_no_small_p(self):
        found = [spacing_trend(np.array(order)) for order in permutations([1.0, 2.0, 3.0, 4.0])]
        values, counts = np.unique(np.round([rho for rho, _ in found], 6), return_counts=True)
        np.testing.assert_allclose(values, np.arange(-1, 1.01, 0.2), atol=1e-9)
        assert counts.tolist() == [1, 3, 1, 4, 2, 2, 2, 4, 1, 3, 1]
        assert min(p for _, p in found) == 2 / 24

    def test_tied_distances_take_the_mid_rank(self):
        distances = np.array([1.0, 1.0, 2.0, 3.0])
        expected = spearmanr(distances, np.arange(4)).statistic
        assert spacing_trend(distances)[0] == pytest.approx(expected)


class TestIntervals:
    @pytest.mark.parametrize("f", [7, 300])
    def test_they_are_those_of_refitting_on_the_repeated_cases(self, f):
        cases = made_features(f=f, kl=np.repeat(np.arange(5), 6))
        found = axis_intervals(cases, rng=np.random.default_rng(4), resamples=60)
        drawn = np.random.default_rng(4).integers(30, size=(60, 30))
        expected = {"evr_pc1": [], "abs_rho_kl": [], "abs_rho_oa": []}
        for rows in drawn:
            axis, kl = principal_axis(cases.z[rows]), cases.kl[rows]
            pc1 = axis.score(cases.z[rows]).round(9)  # a repeated case ties with itself
            expected["evr_pc1"].append(axis.evr)
            expected["abs_rho_kl"].append(abs(spearman(pc1, kl)))
            expected["abs_rho_oa"].append(abs(spearman(pc1, kl >= 2)))
        for name, interval in found.items():
            wanted = np.percentile(expected[name], [2.5, 97.5])
            np.testing.assert_allclose(interval, wanted, atol=1e-9)


class TestEmbedding:
    def test_the_same_seed_gives_the_same_picture(self):
        z = made_features(kl=np.repeat(np.arange(5), 6)).z
        first, second = embed(z, seed=0), embed(z, seed=0)
        np.testing.assert_array_equal(first.place, second.place)
        assert first.kl_divergence >= 0
        assert 0 <= first.trustworthiness <= 1

    def test_few_cases_have_a_picture_without_a_trustworthiness(self):
        found = embed(made_features(kl=np.arange(5)).z, seed=0)
        assert found.place.shape == (5, 2)
        assert np.isnan(found.trustworthiness)

    def test_a_single_feature_has_a_picture(self):
        assert np.isfinite(embed(made_features(f=1).z, seed=0).place).all()

    def test_features_that_do_not_vary_have_no_picture(self):
        assert np.isnan(embed(np.ones((30, 4)), seed=0).place).all()

    def test_three_cases_are_refused(self):
        with pytest.raises(InputError, match="3 cases"):
            embed(np.eye(3), seed=0)
