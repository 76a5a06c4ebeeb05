"""Ordinal regression with a logit for each threshold between grades, as Chen et al. fit it.

The K-1 events "the grade is above k" have weights of their own, so two thresholds may cross. With
two classes it is logistic regression.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from scipy.special import expit

# The change and the gradient at which their optimiser stops. It matters where there is no
# minimum: without a penalty, more features than knees separate the grades.
STOP = {"ftol": 1e-9, "gtol": 1e-7, "maxiter": 2000}


def fit_thresholds(
    x: Float[np.ndarray, "n f"],
    y: Int[np.ndarray, " n"],
    *,
    l2: float,
    start: Float[np.ndarray, "f+1 t"] | None = None,
) -> Float[np.ndarray, "f+1 t"]:
    """Weights of each threshold, their last row the intercepts, that minimise `objective`.

    Args:
        x: Features.
        y: Class of each knee, from 0; every class is present.
        l2: Penalty of the squared weights, intercepts included as in the published code; 0 for
            none.
        start: Where the search starts; zeros where None.
    """
    design = np.hstack([x, np.ones((len(x), 1))])
    shape = (design.shape[1], int(y.max()))
    begin = np.zeros(shape) if start is None else start
    found = minimize(
        objective,
        begin.ravel(),
        args=(design, y, l2),
        jac=True,
        method="L-BFGS-B",
        options=STOP,
    )
    return found.x.reshape(shape)


def objective(
    flat: Float[np.ndarray, " p"],
    design: Float[np.ndarray, "n g"],
    y: Int[np.ndarray, " n"],
    l2: float,
) -> tuple[float, Float[np.ndarray, " p"]]:
    """`event_loss` plus l2 times the sum of the squared weights, and its gradient."""
    weights = flat.reshape(design.shape[1], -1)
    scores = design @ weights
    residual = expit(scores) - above(y, scores.shape[1])
    share = balance(y)[:, None] / scores.size
    gradient = design.T @ (share * residual) + 2 * l2 * weights
    return event_loss(scores, y) + l2 * float((weights**2).sum()), gradient.ravel()


def event_loss(scores: Float[np.ndarray, "n t"], y: Int[np.ndarray, " n"]) -> float:
    """Mean cross-entropy of the events "y is above k" in nats, each class weighing the same.

    >>> round(event_loss(np.zeros((3, 4)), np.array([0, 1, 4])), 4)   # log 2
    0.6931
    """
    loss = np.logaddexp(0, scores) - above(y, scores.shape[1]) * scores
    return float(np.mean(balance(y)[:, None] * loss))


def grade_logits(scores: Float[np.ndarray, "n t"]) -> Float[np.ndarray, "n t+1"]:
    """Logits of the grades that call the number of thresholds above one half, as published.

    The logit of grade k is the sum of the k largest threshold logits: the likelihood of "above the
    first k thresholds and no further", crossed thresholds being put in order first. Chen et al.
    call that number too, but state differences of neighbouring probabilities, clamped at 0, whose
    largest may be another grade.

    >>> grade_logits(np.array([[2.0, 1.0, -1.0, -3.0], [1.0, -1.0, 2.0, -3.0]])).argmax(axis=1)
    array([2, 2])
    """
    ordered = -np.sort(-scores, axis=1)
    return np.hstack([np.zeros((len(scores), 1)), np.cumsum(ordered, axis=1)])


def above(y: Int[np.ndarray, " n"], thresholds: int) -> Bool[np.ndarray, "n t"]:
    """Whether each class is above each threshold.

    >>> above(np.array([0, 2]), 2).tolist()
    [[False, False], [True, True]]
    """
    return np.asarray(y[:, None] > np.arange(thresholds))


def balance(y: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Weight of each knee, of mean 1, with which every class that is present weighs the same.

    >>> balance(np.array([0, 0, 1])).tolist()
    [0.75, 0.75, 1.5]
    """
    _, place, counts = np.unique(y, return_inverse=True, return_counts=True)
    return len(y) / (len(counts) * counts[place])
