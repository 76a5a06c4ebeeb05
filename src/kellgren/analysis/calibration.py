"""Whether probabilities mean what they say: of the OA task, and of the confidence in the grade."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax

from kellgren.tables import Predictions

BINS = 15
SMALLEST = 1e-15  # a probability of 0 or 1 would make one wrong case worth infinitely many
WIDEST = 50.0  # temperatures from 1/50 to 50 are searched


@dataclass(frozen=True)
class Reliability:
    """Cases grouped by their probability: a reliability diagram.

    Attributes:
        confidence: Mean probability of each group that has a case.
        frequency: Share of the group in which the event happened.
        count: Number of cases of the group.
    """

    confidence: Float[np.ndarray, " g"]
    frequency: Float[np.ndarray, " g"]
    count: Int[np.ndarray, " g"]


@dataclass(frozen=True)
class Calibration:
    """How well probabilities fit what happened.

    Attributes:
        n: Number of cases.
        brier: Mean squared error of the probability.
        log_loss: Mean negative log-probability of what happened, in nats; probabilities are kept
            away from 0 and 1 by 1e-15.
        ece: Expected calibration error, mean |confidence - frequency| over 15 groups of equal
            mass.
        ece_if_calibrated: Mean of `ece` if each event happened with exactly its probability. With
            few cases it is far from 0, and `ece` must be read against it.
        p_calibrated: Share of such draws whose `ece` is at least the observed one, one added.
        slope: Slope of the logistic regression of the event on the logit of its probability; 1 is
            calibrated, below 1 is overconfident. NaN where the classes are separated.
        intercept: Intercept of it, with its own slope; 0 is calibrated.
    """

    n: int
    brier: float
    log_loss: float
    ece: float
    ece_if_calibrated: float
    p_calibrated: float
    slope: float
    intercept: float


def calibration(
    prob: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    *,
    rng: np.random.Generator,
    draws: int = 1000,
) -> Calibration:
    """Measure the calibration of the probabilities of an event.

    Args:
        prob: Probability of the event for each case.
        happened: Whether it happened.
        rng: Source of the calibrated draws.
        draws: Number of calibrated draws.
    """
    groups = equal_mass(prob, bins=BINS)
    observed = float(_ece(prob, happened[None], groups)[0])
    expected = _ece(prob, rng.random((draws, len(prob))) < prob, groups)
    slope, intercept = recalibration(prob, happened)
    return Calibration(
        n=len(prob),
        brier=float(np.mean((prob - happened) ** 2)),
        log_loss=log_loss(prob, happened),
        ece=observed,
        ece_if_calibrated=float(expected.mean()),
        p_calibrated=float((np.sum(expected >= observed - 1e-12) + 1) / (draws + 1)),
        slope=slope,
        intercept=intercept,
    )


def reliability(
    prob: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], groups: Int[np.ndarray, " n"]
) -> Reliability:
    """The reliability diagram of cases in the given groups, numbered from 0."""
    count = np.bincount(groups)
    kept = count > 0
    confidence = np.bincount(groups, weights=prob)[kept] / count[kept]
    frequency = np.bincount(groups, weights=happened.astype(np.float64))[kept] / count[kept]
    return Reliability(confidence, frequency, count[kept])


def calibration_error(diagram: Reliability, *, power: float = 1.0) -> float:
    """Mean of |confidence - frequency|^power over the cases, its root taken; inf for the largest.

    >>> p, y = np.array([0.25, 0.25, 0.55, 0.75, 0.75]), np.array([0, 0, 1, 1, 1]) > 0
    >>> round(calibration_error(reliability(p, y, equal_width(p, bins=2))), 4)
    0.29
    """
    gap = np.abs(diagram.confidence - diagram.frequency)
    if np.isinf(power):
        return float(gap.max())
    return float(np.average(gap**power, weights=diagram.count) ** (1 / power))


def equal_mass(prob: Float[np.ndarray, " n"], *, bins: int) -> Int[np.ndarray, " n"]:
    """Group of each case: as many cases in each as can be without parting equal probabilities."""
    edges = np.quantile(prob, np.arange(1, bins) / bins)
    return np.unique(np.searchsorted(edges, prob, side="left"), return_inverse=True)[1]


def equal_width(prob: Float[np.ndarray, " n"], *, bins: int) -> Int[np.ndarray, " n"]:
    """Group of each case by equal steps of the probability; the upper edge belongs to a group."""
    return np.clip(np.ceil(prob * bins).astype(np.int64) - 1, 0, bins - 1)


def log_loss(prob: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]) -> float:
    """Mean negative log-probability of what happened, in nats."""
    likely = np.clip(np.where(happened, prob, 1 - prob), SMALLEST, 1.0)
    return float(-np.log(likely).mean())


def recalibration(
    prob: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]
) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of the event on the logit (Cox 1958).

    By Newton's method. NaN where only one class is there, the logit does not vary, or the classes
    are separated, so that no finite slope is the best one.
    """
    x = logit(np.clip(prob, SMALLEST, 1 - SMALLEST))
    design = np.stack([x, np.ones_like(x)], axis=1)
    undefined = float("nan"), float("nan")
    if _separated(x, happened):
        return undefined
    beta = np.zeros(2)
    for _ in range(100):
        fitted = expit(design @ beta)
        gradient = design.T @ (happened - fitted)
        hessian = (design * (fitted * (1 - fitted))[:, None]).T @ design
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        size = min(1.0, 5 / max(float(np.abs(step).max()), 1e-300))
        beta = beta + size * step
        if np.abs(step).max() < 1e-10:
            return float(beta[0]), float(beta[1])
    return undefined


def oa_logit(predictions: Predictions) -> Float[np.ndarray, " n"]:
    """Logit of the OA probability, from the logit itself where it is stored."""
    if predictions.oa_source == "column":
        return np.asarray(logit(np.clip(predictions.prob_oa, SMALLEST, 1 - SMALLEST)))
    return predictions.score_oa


def grade_logits(predictions: Predictions) -> Float[np.ndarray, "n 5"] | None:
    """Log-probabilities of the grades; None without a KL head."""
    if predictions.prob_kl is None:
        return None
    return np.asarray(np.log(np.maximum(predictions.prob_kl, np.finfo(np.float64).tiny)))


def oa_temperature(logits: Float[np.ndarray, " n"], oa: Bool[np.ndarray, " n"]) -> float:
    """Temperature T that makes sigmoid(logit / T) the most likely (Guo et al. 2017)."""
    sign = np.where(oa, 1.0, -1.0)
    return _hottest(lambda t: float(np.logaddexp(0, -sign * logits / t).mean()))


def kl_temperature(logits: Float[np.ndarray, "n 5"], kl: Int[np.ndarray, " n"]) -> float:
    """Temperature T that makes softmax(logits / T) the most likely."""
    rows = np.arange(len(kl))
    return _hottest(lambda t: float(-log_softmax(logits / t, axis=1)[rows, kl].mean()))


def cooled_oa(logits: Float[np.ndarray, " n"], temperature: float) -> Float[np.ndarray, " n"]:
    """Probability of OA at a temperature."""
    return np.asarray(expit(logits / temperature))


def cooled_kl(logits: Float[np.ndarray, "n 5"], temperature: float) -> Float[np.ndarray, "n 5"]:
    """Probabilities of the grades at a temperature."""
    return np.asarray(softmax(logits / temperature, axis=1))


def folds(n: int, *, k: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Number of the fold of each case, sizes differing by at most one."""
    return np.asarray(rng.permutation(np.arange(n) % k))


def _ece(
    prob: Float[np.ndarray, " n"], happened: Bool[np.ndarray, "b n"], groups: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " b"]:
    """Expected calibration error of each row of outcomes."""
    member = (groups[:, None] == np.arange(groups.max() + 1)).astype(np.float64)
    return np.asarray(np.abs((happened - prob) @ member).sum(axis=1) / len(prob))


def _separated(x: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]) -> bool:
    if not happened.any() or happened.all() or np.ptp(x) == 0:
        return True
    with_it, without = x[happened], x[~happened]
    return bool(with_it.min() >= without.max() or with_it.max() <= without.min())


def _hottest(loss: Callable[[float], float]) -> float:
    bounds = (-np.log(WIDEST), np.log(WIDEST))
    found = minimize_scalar(lambda u: loss(float(np.exp(u))), bounds=bounds, method="bounded")
    return float(np.exp(found.x))
