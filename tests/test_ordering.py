"""Order of the grades along an axis of the features."""

from dataclasses import asdict

import numpy as np
import pytest

from kellgren.analysis.geometry import oriented, principal_axis
from kellgren.analysis.ordering import order, refitted_scores, sampled_order, supervised_axis
from kellgren.analysis.resampling import resample
from kellgren.tables import Features

GRADES = np.repeat(np.arange(5), [21, 12, 22, 28, 15])


def rng(seed=0):
    return np.random.default_rng(seed)


def repeated(counts):
    """Rows of each resample, a case standing as often as it was drawn."""
    return [np.repeat(np.arange(len(counts)), count) for count in counts.T]


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


class TestSampledOrder:
    @pytest.mark.parametrize("decimals", [0, 1, 9])
    @pytest.mark.parametrize("refitted", [False, True], ids=["one axis", "an axis a resample"])
    def test_all_at_once_is_the_order_of_the_repeated_cases(self, decimals, refitted):
        drawn = resample(98, resamples=40, rng=rng(1))
        noise = rng(2).normal(size=drawn.counts.shape if refitted else (98, 1))
        score = (0.5 * GRADES[:, None] + noise).round(decimals)
        found = sampled_order(score, GRADES, drawn.counts)
        every = np.broadcast_to(score, drawn.counts.shape)
        for b, rows in enumerate(repeated(drawn.counts)):
            for name, value in asdict(order(every[rows, b], GRADES[rows])).items():
                assert found[name][b] == pytest.approx(value, abs=1e-12)

    def test_an_absent_grade_leaves_only_what_needs_it_without_a_value(self):
        counts = np.array([[0, 1], [2, 1], [1, 1], [1, 1], [1, 1]])
        found = sampled_order(np.arange(5.0)[:, None], np.arange(5), counts)
        assert np.isnan(found["auc_01"]).tolist() == [True, False]
        assert found["auc_12"].tolist() == [1.0, 1.0]
        assert found["rho_kl"] == pytest.approx([1.0, 1.0])

    def test_a_score_that_does_not_vary_has_no_correlation_and_one_that_is_missing_nothing(self):
        counts = np.array([[1, 2], [1, 0]])
        flat = sampled_order(np.array([[0.1], [0.1]]), np.array([1, 2]), counts)
        assert np.isnan([flat["rho_kl"], flat["tau_kl"], flat["eta2_kl"]]).all()
        assert flat["auc_12"][0] == 0.5
        missing = sampled_order(np.full((2, 1), np.nan), np.array([1, 2]), counts)
        assert np.isnan(list(missing.values())).all()


class TestRefitting:
    @pytest.mark.parametrize("f", [8, 200])
    @pytest.mark.parametrize("turned_by", ["train", "resample"])
    def test_scores_are_those_of_the_axis_of_the_repeated_cases(self, f, turned_by):
        cases, train = made(signal=0.3, f=f, seed=3), made(signal=0.3, f=f, seed=4)
        drawn = resample(98, resamples=20, rng=rng(5))
        by_train = turned_by == "train"
        found = refitted_scores(cases, drawn.counts, oriented_on=train if by_train else None)
        for b, rows in enumerate(repeated(drawn.counts)):
            again = Features(cases.case_id[rows], cases.split[rows], GRADES[rows], cases.z[rows])
            score = oriented(principal_axis(again.z), train if by_train else again).score(cases.z)
            assert found[:, b] - found[:, b].mean() == pytest.approx(score - score.mean(), abs=1e-8)
