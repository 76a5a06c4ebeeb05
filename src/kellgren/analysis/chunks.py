"""The published form of Chen et al.: mean and deviation over five chunks of the test set.

Their rows read 0.69 +- 0.08, where the deviation is that of five numbers, each of a fifth of the
test knees. It says how much a score on some 20 knees varies, not how sure the mean is.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from kellgren.analysis.performance import (
    auc,
    called_kl,
    called_oa,
    class_f1,
    confusion,
    of_kl_head,
    tasks_of,
)
from kellgren.labels import KL_GRADES, oa_from_kl
from kellgren.tables import Predictions

CHUNKS, SEED = 5, 42


@dataclass(frozen=True)
class PublishedForm:
    """A metric over chunks of the test set.

    Attributes:
        task: "oa" or "kl".
        metric: "accuracy", "macro_f1", and "auc" or, of the grades, "macro_auc".
        mean: Mean over the chunks for which the metric is defined; NaN without one.
        sd: Their population standard deviation, as published.
        chunks: How many they are.
    """

    task: str
    metric: str
    mean: float
    sd: float
    chunks: int


def published_form(predictions: Predictions) -> list[PublishedForm]:
    """Each metric over five stratified chunks of the cases, sorted by id and shuffled by seed 42.

    The chunks are those of scikit-learn's `StratifiedKFold`, by OA for the OA task and by grade
    for the KL task. Empty for a task of which no class has five cases.
    """
    found = []
    for task in tasks_of(predictions):
        y = _classes(predictions, task)
        if np.bincount(y).max() < CHUNKS:
            continue
        scores = [chunk_scores(predictions.take(rows), task) for rows in chunks_of(y)]
        for metric in scores[0]:
            values = np.array([of_chunk[metric] for of_chunk in scores])
            found.append(_over_chunks(task, metric, values[~np.isnan(values)]))
    return found


def chunk_scores(predictions: Predictions, task: str) -> dict[str, float]:
    """Accuracy, macro-F1 and AUC of one chunk.

    Macro-F1 is the mean over the classes that are present or called, as in scikit-learn, for OA
    of both classes. The AUC of the grades is the mean over those that are present (the published
    code has none where a grade is absent); NaN where all cases are of one class.
    """
    y = _classes(predictions, task)
    if task == "oa":
        called = called_oa(predictions).astype(np.int64)
        area = {"auc": auc(y == 1, predictions.score_oa)}
    else:
        called, score = called_kl(predictions), of_kl_head(predictions.score_kl)
        of_grades = [auc(y == k, score[:, k]) for k in np.unique(y)]
        area = {"macro_auc": float(np.mean(of_grades))}
    table = confusion(y, called, classes=2 if task == "oa" else KL_GRADES)
    seen = (table.sum(axis=0) + table.sum(axis=1)) > 0
    macro_f1 = float(class_f1(table)[seen].mean())
    return {"accuracy": float(np.mean(called == y)), "macro_f1": macro_f1, **area}


def chunks_of(y: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " m"]]:
    """Places of the cases of each chunk."""
    from sklearn.model_selection import StratifiedKFold

    split = StratifiedKFold(CHUNKS, shuffle=True, random_state=SEED)
    with warnings.catch_warnings():  # a grade with fewer cases than chunks is absent from some
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return [rows for _, rows in split.split(y, y)]


def _classes(predictions: Predictions, task: str) -> Int[np.ndarray, " n"]:
    return predictions.kl if task == "kl" else oa_from_kl(predictions.kl).astype(np.int64)


def _over_chunks(task: str, metric: str, values: Float[np.ndarray, " m"]) -> PublishedForm:
    if not len(values):
        return PublishedForm(task, metric, float("nan"), float("nan"), 0)
    return PublishedForm(task, metric, float(values.mean()), float(values.std()), len(values))
