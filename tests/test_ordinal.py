import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from kellgren.radiomics.ordinal import (
    balance,
    event_loss,
    fit_thresholds,
    grade_logits,
    objective,
)


def made(*, n=40, f=3, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    y = np.sort(rng.permutation(np.arange(n) % classes))
    return rng.normal(size=(n, f)) + y[:, None] / 2, y


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_the_gradient_is_that_of_finite_differences(l2):
    x, y = made()
    design = np.hstack([x, np.ones((len(x), 1))])
    at = np.random.default_rng(1).normal(size=16)
    numeric = approx_fprime(at, lambda p: objective(p, design, y, l2)[0])
    np.testing.assert_allclose(objective(at, design, y, l2)[1], numeric, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 5])
def test_each_threshold_is_a_weighted_logistic_regression_of_its_own(classes):
    x, y = made(classes=classes)
    design, l2 = np.hstack([x, np.ones((len(x), 1))]), 0.02
    c = 1 / (2 * l2 * len(x) * (classes - 1))
    for k in range(classes - 1):
        model = LogisticRegression(C=c, fit_intercept=False, tol=1e-8, max_iter=1000)
        model.fit(design, y > k, sample_weight=balance(y))
        mine = fit_thresholds(x, y, l2=l2)[:, k]
        np.testing.assert_allclose(mine, model.coef_[0], atol=2e-4)


def test_a_fit_with_a_penalty_does_not_depend_on_where_it_starts():
    x, y = made()
    start = np.random.default_rng(2).normal(size=(4, 4))
    away = fit_thresholds(x, y, l2=0.01, start=start)
    np.testing.assert_allclose(away, fit_thresholds(x, y, l2=0.01), atol=1e-3)


def test_the_called_grade_is_the_number_of_thresholds_above_one_half():
    scores = np.random.default_rng(0).normal(size=(500, 4))  # most of them cross
    called = grade_logits(scores).argmax(axis=1)
    np.testing.assert_array_equal(called, (expit(scores) > 0.5).sum(axis=1))


def test_the_probability_of_a_grade_is_the_likelihood_of_its_events_among_the_five_grades():
    scores = -np.sort(-np.random.default_rng(0).normal(size=(20, 4)), axis=1)
    p = expit(scores)
    pattern = np.arange(5)[:, None] > np.arange(4)
    likelihood = np.where(pattern, p[:, None], 1 - p[:, None]).prod(axis=2)
    expected = likelihood / likelihood.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(grade_logits(scores), axis=1), expected)


def test_every_class_weighs_the_same_in_the_loss():
    y = np.array([0, 0, 0, 1])
    scores = np.array([[-3.0], [-3.0], [-3.0], [2.0]])
    assert event_loss(scores, y) == pytest.approx(np.logaddexp(0, [-3, -2]).mean())
