"""Agreement of the two heads, decision curves, strata."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon

from kellgren.analysis.hierarchy import (
    THRESHOLDS,
    consistency,
    ensemble,
    has_two_heads,
    implied_oa,
    jensen_shannon,
    net_benefits,
)
from kellgren.analysis.performance import METRICS, oa_auc
from kellgren.analysis.strata import strata, stratum_scores

from .predictions import made_predictions

GRADES = np.repeat(np.arange(5), [21, 12, 22, 28, 15])


def one_hot(kl, *, oa):
    p = made_predictions(kl=kl)
    sure = np.eye(5)[kl]
    return replace(p, prob_oa=np.asarray(oa, dtype=float), prob_kl=sure, score_kl=sure)


class TestConsistency:
    def test_disagreements_are_counted_and_one_head_is_right_on_each(self):
        p = one_hot([0, 1, 2, 3, 4], oa=[0, 1, 1, 0, 1])
        found = consistency(p)
        assert (found.agreement_argmax, found.agreement_implied, found.inconsistent) == (
            0.6,
            0.6,
            2,
        )
        assert (found.right_oa, found.right_kl) == (0, 2)
        assert found.soft_gap == pytest.approx(0.4)
        assert found.divergence == pytest.approx(0.4)  # one bit for each contradiction

    def test_right_and_wrong_heads_add_up(self):
        found = consistency(made_predictions(kl=GRADES))
        assert found.right_oa + found.right_kl == found.inconsistent

    def test_no_case_has_no_share(self):
        assert np.isnan(consistency(made_predictions(kl=GRADES).take(np.arange(0))).soft_gap)

    def test_the_divergence_is_that_of_scipy(self):
        p, q = np.random.default_rng(0).random((2, 50))
        expected = jensenshannon([p, 1 - p], [q, 1 - q], base=2) ** 2
        np.testing.assert_allclose(jensen_shannon(p, q), expected, atol=1e-12)

    def test_probabilities_whose_sum_was_rounded_up_are_probabilities(self):
        p = made_predictions(kl=[4])
        prob = np.array([[0.0, 0.0, 0.5, 0.5, 2e-16]])
        assert implied_oa(replace(p, prob_kl=prob))[0] == 1.0

    def test_an_oa_column_that_is_implied_by_the_kl_head_is_no_second_head(self):
        p = made_predictions(kl=GRADES)
        assert has_two_heads(p)
        assert not has_two_heads(replace(p, prob_oa=implied_oa(p), oa_source="column"))

    def test_the_ensemble_of_two_equal_heads_is_either(self):
        p = made_predictions(kl=GRADES)
        p = replace(p, prob_oa=implied_oa(p), score_oa=implied_oa(p))
        assert oa_auc(ensemble(p)) == pytest.approx(oa_auc(p))


class TestDecisionCurve:
    def test_the_net_benefit_is_that_of_its_definition(self):
        p = made_predictions(kl=GRADES)
        oa, at = p.kl >= 2, THRESHOLDS.tolist().index(0.2)
        acted = p.prob_oa >= 0.2
        expected = (acted & oa).sum() / 98 - (acted & ~oa).sum() / 98 * 0.2 / 0.8
        assert net_benefits(p.prob_oa, oa)[:, at].mean() == pytest.approx(expected)

    def test_nobody_treated_has_no_benefit_and_a_perfect_model_the_prevalence(self):
        oa = GRADES >= 2
        assert (net_benefits(np.zeros(98), oa) == 0).all()
        np.testing.assert_allclose(net_benefits(oa.astype(float), oa).mean(axis=0), oa.mean())


class TestStrata:
    def table(self, p, **columns):
        return pd.DataFrame({"case_id": p.case_id, **columns})

    def test_the_strata_of_a_covariate_hold_every_case_once(self):
        p = made_predictions(kl=GRADES)
        sex = np.where(np.arange(98) % 3 == 0, "female", "male").astype(object)
        sex[5] = None
        found = list(strata(p, self.table(p, sex=sex)[::-1]))
        assert [s.level for s in found] == ["female", "male", "unknown"]
        assert sorted(np.concatenate([s.rows for s in found])) == list(range(98))
        assert p.case_id[found[2].rows].tolist() == [p.case_id[5]]

    def test_ages_are_grouped_at_55_and_65(self):
        p = made_predictions(kl=[0, 1, 2, 3, 4])
        ages = [54.9, 55.0, 64.9, 65.0, np.nan]
        found = {s.level: s.rows.tolist() for s in strata(p, self.table(p, age=ages))}
        assert found == {
            "below 55": [0],
            "55 to below 65": [1, 2],
            "65 and above": [3],
            "unknown": [4],
        }

    def test_a_covariate_that_does_not_vary_makes_no_strata(self):
        p = made_predictions(kl=GRADES)
        assert list(strata(p, self.table(p, side="right"))) == []

    def test_scores_are_the_metrics_and_few_cases_have_no_interval(self):
        p = made_predictions(kl=[0, 1, 2, 3, 4, 0])
        rows = stratum_scores(p, resamples=100, rng=np.random.default_rng(0))
        for row in rows:
            assert row["value"] == METRICS[row["task"]][row["metric"]](p)
            assert (row["n"], row["positives"]) == (6, 3)
        by_key = {(row["task"], row["metric"]): row for row in rows}
        assert "ci_low" not in by_key["kl", "macro_auc"]
        assert "ci_low" in by_key["kl", "accuracy"]
