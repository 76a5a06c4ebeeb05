"""Performance of the KL task that knows that grades are ordered.

Beyond section 3.5.1: accuracy and macro-F1 count a knee that is called one grade off as wrong as
one that is called four off. Each measure takes counts of the cases, one column a resample, and
gives one value a column; `ordinal_performance` gives the values on the cases themselves.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from kellgren.analysis.performance import called_kl, of_kl_head
from kellgren.analysis.resampling import Counts, Samples, sampled_auc, sampled_confusion, sums_over
from kellgren.labels import KL_GRADES
from kellgren.tables import Predictions

GRADES = np.arange(KL_GRADES)


def expected_grade(predictions: Predictions) -> Float[np.ndarray, " n"]:
    """E[k], the mean grade under the probabilities of the KL head."""
    return np.asarray(of_kl_head(predictions.prob_kl) @ GRADES)


def quadratic_kappa(predictions: Predictions, counts: Counts) -> Samples:
    """Cohen's kappa with quadratic weights (Cohen 1968) of called against reference grades."""
    called = called_kl(predictions)
    tables = sampled_confusion(predictions.kl, called, counts, classes=KL_GRADES)
    return weighted_kappa(tables)


def weighted_kappa(tables: Int[np.ndarray, "k k *b"], *, power: int = 2) -> Float[np.ndarray, "*b"]:
    """Weighted kappa of one or many tables: 1 - sum w O / sum w E with w = |i - j|^power.

    NaN where both raters always say the same one grade.

    Args:
        tables: Counts, rows the first rater.
        power: 0 for the unweighted kappa, 1 for linear weights, 2 for quadratic ones.

    >>> float(weighted_kappa(np.array([[2, 0], [1, 1]])))             # 1 - (1/4) / (1/2)
    0.5
    """
    k = len(tables)
    apart = np.abs(np.arange(k)[:, None] - np.arange(k))
    weight = (apart > 0) if power == 0 else apart**power
    rows, columns, total = tables.sum(axis=1), tables.sum(axis=0), tables.sum(axis=(0, 1))
    observed = np.tensordot(weight, tables, axes=2) * total
    expected = np.einsum("ij,i...,j...->...", weight, rows, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - observed / np.where(expected > 0, expected, np.nan))


def off_by_one(predictions: Predictions, counts: Counts) -> Samples:
    """Share of cases called at most one grade off."""
    return _mean((_apart(predictions) <= 1).astype(np.float64), counts)


def absolute_error(predictions: Predictions, counts: Counts) -> Samples:
    """Mean absolute error of the most likely grade, in grades."""
    return _mean(_apart(predictions).astype(np.float64), counts)


def expected_absolute_error(predictions: Predictions, counts: Counts) -> Samples:
    """Mean absolute error of E[k], in grades."""
    return _mean(np.abs(expected_grade(predictions) - predictions.kl), counts)


def macro_absolute_error(predictions: Predictions, counts: Counts) -> Samples:
    """Mean over the grades of the absolute error of each (AMAE); NaN where a grade is absent."""
    of_grade = predictions.kl[None, :] == GRADES[:, None]
    errors = (of_grade * _apart(predictions)).astype(np.float64) @ counts
    with np.errstate(invalid="ignore"):
        return np.asarray((errors / sums_over(of_grade, counts)).mean(axis=0))


def ranked_probability_score(predictions: Predictions, counts: Counts) -> Samples:
    """Mean of sum_k (F_k - 1[kl <= k])^2 over the four boundaries; 0 is perfect, 4 the worst."""
    below = np.cumsum(of_kl_head(predictions.prob_kl), axis=1)
    truth = predictions.kl[:, None] <= GRADES
    return _mean(((below - truth) ** 2)[:, :-1].sum(axis=1), counts)


def kendall_tau_b(predictions: Predictions, counts: Counts) -> Samples:
    """Kendall's tau-b of E[k] with the grade; NaN where either does not vary."""
    return sampled_tau_b(expected_grade(predictions), predictions.kl, counts)


def sampled_tau_b(
    score: Float[np.ndarray, " n"], kl: Int[np.ndarray, " n"], counts: Counts
) -> Samples:
    """Kendall's tau-b of a score with the grade on every resample; a repeated case ties.

    Concordant minus discordant pairs are summed over pairs of grades, each a Mann-Whitney count.
    """
    cases = sums_over(kl[None, :] == GRADES[:, None], counts)
    net = np.zeros(counts.shape[1])
    for k in GRADES[1:]:
        for j in GRADES[:k]:
            rows = (kl == j) | (kl == k)
            area = sampled_auc(kl[rows] == k, score[rows], counts[rows])
            net += np.nan_to_num((2 * area - 1) * cases[j] * cases[k])
    total = counts.sum(axis=0, dtype=np.int64)
    by_score = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[by_score], prepend=-np.inf) > 0)
    same_score = np.add.reduceat(counts[by_score].astype(np.int64), starts, axis=0)
    free = [_pairs(total) - _pairs(tied).sum(axis=0) for tied in (same_score, cases)]
    scale = np.sqrt(free[0].astype(np.float64) * free[1])
    return np.asarray(net / np.where(scale > 0, scale, np.nan))


ORDINAL: dict[str, Callable[[Predictions, Counts], Samples]] = {
    "quadratic_kappa": quadratic_kappa,
    "mae": absolute_error,
    "mae_expected": expected_absolute_error,
    "macro_mae": macro_absolute_error,
    "off_by_one": off_by_one,
    "rps": ranked_probability_score,
    "tau_b": kendall_tau_b,
}


def ordinal_performance(predictions: Predictions) -> dict[str, float]:
    """Every measure on the cases themselves."""
    once = np.ones((len(predictions), 1), dtype=np.int32)
    return {name: float(measure(predictions, once)[0]) for name, measure in ORDINAL.items()}


def _apart(predictions: Predictions) -> Int[np.ndarray, " n"]:
    return np.abs(called_kl(predictions) - predictions.kl)


def _mean(values: Float[np.ndarray, " n"], counts: Counts) -> Samples:
    return np.asarray((values @ counts) / counts.sum(axis=0))


def _pairs(counts: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    return counts * (counts - 1) // 2
