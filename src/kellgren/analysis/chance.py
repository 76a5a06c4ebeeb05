"""What says nothing about a knee scores too: the chance lines of Table 1."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from kellgren.analysis.performance import class_f1
from kellgren.labels import KL_GRADES, oa_from_kl

COLUMNS = ["task", "metric", "rule", "value", "n"]


def chance_levels(
    kl: Int[np.ndarray, " n"], *, rng: np.random.Generator, shuffles: int = 10_000
) -> pd.DataFrame:
    """Scores of predictions that do not look at the knee, per task, metric and rule.

    Rules: "constant" gives every case the same score; "majority" always calls the most frequent
    class (the lowest of several); "all_positive" always calls OA; "shuffled_mean" and
    "shuffled_97.5" are the mean and the 97.5th percentile over shuffles of the reference labels,
    used as if they were predictions.

    Args:
        kl: Reference grades.
        rng: Source of the shuffles.
        shuffles: Number of shuffles.
    """
    labels = {"oa": oa_from_kl(kl).astype(np.int64), "kl": kl.astype(np.int64)}
    classes, f1_name = {"oa": 2, "kl": KL_GRADES}, {"oa": "f1", "kl": "macro_f1"}
    rows = [("oa", "auc", "constant", 0.5), ("kl", "macro_auc", "constant", 0.5)]
    for task, y in labels.items():
        shuffled = rng.permuted(np.tile(y, (shuffles, 1)), axis=1)
        majority = np.full((1, len(y)), np.bincount(y).argmax())
        accuracy, score = _scores(y, shuffled, classes=classes[task])
        for metric, values in (("accuracy", accuracy), (f1_name[task], score)):
            rows.append((task, metric, "shuffled_mean", float(values.mean())))
            rows.append((task, metric, "shuffled_97.5", float(np.percentile(values, 97.5))))
        accuracy, score = _scores(y, majority, classes=classes[task])
        rows.append((task, "accuracy", "majority", float(accuracy[0])))
        rows.append((task, f1_name[task], "majority", float(score[0])))
    accuracy, score = _scores(labels["oa"], np.ones((1, len(kl)), dtype=np.int64), classes=2)
    rows.append(("oa", "accuracy", "all_positive", float(accuracy[0])))
    rows.append(("oa", "f1", "all_positive", float(score[0])))
    return pd.DataFrame([(*row, len(kl)) for row in rows], columns=COLUMNS)


def _scores(
    reference: Int[np.ndarray, " n"], called: Int[np.ndarray, "b n"], *, classes: int
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Accuracy, and F1 of the positive class or macro-F1, of each row of calls."""
    cell = reference * classes + called + classes**2 * np.arange(len(called))[:, None]
    counts = np.bincount(cell.ravel(), minlength=classes**2 * len(called))
    tables = np.moveaxis(counts.reshape(len(called), classes, classes), 0, -1)  # (k, k, b)
    scores = class_f1(tables)
    accuracy = np.trace(tables) / len(reference)
    return accuracy, scores[1] if classes == 2 else scores.mean(axis=0)
