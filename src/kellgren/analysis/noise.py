"""What noise in the reference grades does to a score: the ceiling, and the score re-drawn.

A KL grade is one reading. Two readers agree exactly on 55 to 85 % of knees, so no model can be
expected to agree with the reference on all of them. The model of noise here is the simplest one:
a reader is right with probability a, and otherwise one grade off.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from kellgren.analysis.ordinal import weighted_kappa
from kellgren.analysis.performance import called_kl, called_oa, class_f1, tasks_of
from kellgren.labels import KL_GRADES, oa_from_kl
from kellgren.tables import Predictions

Labels = Int[np.ndarray, "n b"]
Scores = dict[tuple[str, str], Float[np.ndarray, " b"]]


def reader(agreement: float) -> Float[np.ndarray, "5 5"]:
    """Probability that a reader says each grade (columns) of a knee of each true grade (rows).

    Exact with probability a, else one grade up or down alike; at grades 0 and 4, where one side
    is missing, exact with probability (1 + a) / 2.

    Args:
        agreement: a, 0 to 1.

    >>> reader(0.8)[:2].round(2)
    array([[0.9, 0.1, 0. , 0. , 0. ],
           [0.1, 0.8, 0.1, 0. , 0. ]])
    """
    off = (1 - agreement) / 2
    table = off * (np.eye(KL_GRADES, k=1) + np.eye(KL_GRADES, k=-1))
    return table + np.diag(1 - table.sum(axis=1))


def oa_noise(
    matrix: Float[np.ndarray, "5 5"], shares: Float[np.ndarray, " 5"] | Int[np.ndarray, " 5"]
) -> Float[np.ndarray, "2 2"]:
    """Probability that OA is read (columns: no, yes) of a knee without and with OA (rows).

    Noise between neighbouring grades reaches the OA label of Eq. (1) only across the border of
    grades 1 and 2.

    Args:
        matrix: Probability of each reading (columns) by true grade (rows), as of `reader`.
        shares: Share of each true grade among the knees, or their counts.

    >>> oa_noise(reader(0.8), np.full(5, 0.2)).round(3)       # grade 1 is read as 2 one time in ten
    array([[0.95 , 0.05 ],
           [0.033, 0.967]])
    """
    oa = oa_from_kl(np.arange(KL_GRADES))
    joint = np.asarray(shares, dtype=np.float64)[:, None] * matrix
    cells = [[joint[np.ix_(true, read)].sum() for read in (~oa, oa)] for true in (~oa, oa)]
    table = np.array(cells)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def read_again(
    kl: Int[np.ndarray, " n"], *, agreement: float, draws: int, rng: np.random.Generator
) -> Labels:
    """Grades that such a reader says, one column a draw."""
    up_to = np.cumsum(reader(agreement), axis=1)[kl]
    uniform = rng.random((len(kl), draws))
    said = sum((uniform >= up_to[:, k, None]).astype(np.int64) for k in range(KL_GRADES - 1))
    return np.asarray(said)


def scores_under(predictions: Predictions, labels: Labels) -> Scores:
    """The metrics of Table 1, and the quadratic kappa, against each column of labels.

    By task and metric. NaN where a class that a metric needs is absent from a column.
    """
    oa = oa_from_kl(labels.ravel()).reshape(labels.shape)
    called = np.broadcast_to(called_oa(predictions)[:, None], oa.shape).astype(np.int64)
    tables = _tables(oa.astype(np.int64), called, classes=2)
    found = {
        ("oa", "auc"): _aucs(oa, predictions.score_oa),
        ("oa", "accuracy"): np.trace(tables) / len(labels),
        ("oa", "f1"): class_f1(tables)[1],
    }
    if "kl" not in tasks_of(predictions) or predictions.score_kl is None:
        return found
    called = np.broadcast_to(called_kl(predictions)[:, None], labels.shape)
    tables = _tables(labels, called, classes=KL_GRADES)
    areas = [_aucs(labels == k, predictions.score_kl[:, k]) for k in range(KL_GRADES)]
    return found | {
        ("kl", "macro_auc"): np.mean(areas, axis=0),
        ("kl", "accuracy"): np.trace(tables) / len(labels),
        ("kl", "macro_f1"): class_f1(tables).mean(axis=0),
        ("kl", "quadratic_kappa"): weighted_kappa(tables),
    }


def perfect_reader(kl: Int[np.ndarray, " n"], *, agreement: float) -> Predictions:
    """Predictions of one who knows the true grade, and how the reference will be read."""
    prob = reader(agreement)[kl]
    ids = np.arange(len(kl)).astype(object)
    called = np.eye(KL_GRADES)[kl]
    return Predictions(ids, kl, kl.astype(np.float64), (kl >= 2) * 1.0, "head", prob, called)


def noise_ceiling(
    kl: Int[np.ndarray, " n"], *, agreement: float, rng: np.random.Generator, draws: int = 2000
) -> pd.DataFrame:
    """What a perfect reader would score against a reference that was read once with noise.

    The grades stand in for the unknown true ones, which they resemble in their numbers. Columns:
    task, metric, agreement, ceiling (mean over draws), sd (over draws, which is over cohorts of
    this size), n. A ceiling is of a mean: a model may exceed it on a given cohort by luck.

    Args:
        kl: Reference grades.
        agreement: Exact agreement of the reader with the truth.
        rng: Source of the readings.
        draws: Number of readings.
    """
    labels = read_again(kl, agreement=agreement, draws=draws, rng=rng)
    scores = scores_under(perfect_reader(kl, agreement=agreement), labels)
    rows = [(*key, agreement, *_mean_and_sd(values), len(kl)) for key, values in scores.items()]
    return pd.DataFrame(rows, columns=["task", "metric", "agreement", "ceiling", "sd", "n"])


def _mean_and_sd(values: Float[np.ndarray, " b"]) -> tuple[float, float]:
    kept = values[~np.isnan(values)]
    return (float(kept.mean()), float(kept.std())) if len(kept) else (np.nan, np.nan)


def _aucs(
    positive: Bool[np.ndarray, "n b"], score: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " b"]:
    """AUC of one score against each column, by its mid-ranks."""
    cases = positive.sum(axis=0)
    wins = rankdata(score) @ positive - cases * (cases + 1) / 2
    pairs = (cases * (len(score) - cases)).astype(np.float64)
    return np.asarray(wins / np.where(pairs > 0, pairs, np.nan))


def _tables(labels: Labels, called: Labels, *, classes: int) -> Int[np.ndarray, "k k b"]:
    draws = labels.shape[1]
    cells = (labels * classes + called) * draws + np.arange(draws)
    counts = np.bincount(cells.ravel(), minlength=classes**2 * draws)
    return counts.reshape(classes, classes, draws)
