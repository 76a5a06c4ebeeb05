import numpy as np
import pytest
from scipy.special import expit, softmax

from kellgren.labels import KL_GRADES, grade_log_odds, oa_from_kl, oa_log_odds


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(scale=3.0, size=(50, KL_GRADES))


def test_oa_begins_at_grade_two():
    assert oa_from_kl(np.arange(5)).tolist() == [False, False, True, True, True]


def test_oa_log_odds_are_those_of_the_summed_probabilities(logits):
    summed = softmax(logits, axis=1)[:, 2:].sum(axis=1)
    np.testing.assert_allclose(expit(oa_log_odds(logits)), summed, rtol=1e-12)


def test_grade_log_odds_are_those_of_the_probabilities(logits):
    np.testing.assert_allclose(expit(grade_log_odds(logits)), softmax(logits, axis=1), rtol=1e-10)


def test_log_odds_do_not_change_when_every_logit_is_shifted(logits):
    np.testing.assert_allclose(oa_log_odds(logits + 7.0), oa_log_odds(logits), atol=1e-12)


def test_log_odds_rank_cases_whose_probability_rounds_to_one():
    logit = np.array([[0.0, 0.0, 0.0, 0.0, 60.0], [0.0, 0.0, 0.0, 0.0, 61.0]])
    first, second = expit(oa_log_odds(logit))
    assert first == second == 1.0
    assert oa_log_odds(logit)[0] < oa_log_odds(logit)[1]


def test_log_odds_of_float32_logits_are_computed_in_float64(logits):
    assert oa_log_odds(logits.astype(np.float32)).dtype == np.float64
