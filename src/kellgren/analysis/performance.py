"""Predictive performance of the OA and the KL task (section 3.5.1, Table 1)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from kellgren.faults import InputError
from kellgren.labels import KL_GRADES, oa_from_kl
from kellgren.tables import Predictions

Metric = Callable[[Predictions], float]


def auc(positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic; ties count one half.

    A multiple of 1 / (2 x positives x negatives). NaN where all cases are positive or all are
    negative.

    >>> auc(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    negatives, positives = np.sort(score[~positive]), score[positive]
    if not len(negatives) or not len(positives):
        return float("nan")
    below = np.searchsorted(negatives, positives, side="left").sum()
    not_above = np.searchsorted(negatives, positives, side="right").sum()
    return float((below + not_above) / (2 * len(positives) * len(negatives)))


def f1(
    true_positive: Int[np.ndarray, "..."],
    false_positive: Int[np.ndarray, "..."],
    false_negative: Int[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """F1 = 2 TP / (2 TP + FP + FN) of counts; 0 where a class is neither present nor predicted.

    >>> f1(np.array([62, 0]), np.array([15, 0]), np.array([3, 0])).round(4)
    array([0.8732, 0.    ])
    """
    denominator = 2 * true_positive + false_positive + false_negative
    return np.asarray(2 * true_positive / np.maximum(denominator, 1), dtype=np.float64)


def class_f1(confusion: Int[np.ndarray, "k k *b"]) -> Float[np.ndarray, "k *b"]:
    """F1 of each class of one or many confusion tables, whose rows are the reference."""
    hits = np.moveaxis(np.diagonal(confusion), -1, 0)
    return f1(hits, confusion.sum(axis=0) - hits, confusion.sum(axis=1) - hits)


def called_oa(predictions: Predictions) -> Bool[np.ndarray, " n"]:
    """Whether each case is called OA: a probability of 0.5 and above.

    The paper does not state the threshold. For the KL head this is the summed probability of
    Eq. (4), which may differ from the most likely grade being 2 or above.
    """
    return predictions.prob_oa >= 0.5


def called_kl(predictions: Predictions) -> Int[np.ndarray, " n"]:
    """Most likely grade of each case; of equally likely grades the lowest.

    Raises:
        InputError: If the model has no KL head.
    """
    return np.asarray(of_kl_head(predictions.prob_kl).argmax(axis=1))


def confusion(
    reference: Int[np.ndarray, " n"], called: Int[np.ndarray, " n"], *, classes: int
) -> Int[np.ndarray, "k k"]:
    """Count of cases per reference class (rows) and called class (columns)."""
    cells = np.bincount(reference * classes + called, minlength=classes * classes)
    return cells.reshape(classes, classes)


def oa_confusion(predictions: Predictions) -> Int[np.ndarray, "2 2"]:
    """Counts [[true negative, false positive], [false negative, true positive]]."""
    reference = oa_from_kl(predictions.kl).astype(np.int64)
    return confusion(reference, called_oa(predictions).astype(np.int64), classes=2)


def kl_confusion(predictions: Predictions) -> Int[np.ndarray, "5 5"]:
    """Counts per reference grade (rows) and called grade (columns)."""
    return confusion(predictions.kl, called_kl(predictions), classes=KL_GRADES)


def oa_auc(predictions: Predictions) -> float:
    """AUC of the OA score."""
    return auc(oa_from_kl(predictions.kl), predictions.score_oa)


def oa_accuracy(predictions: Predictions) -> float:
    """Share of cases whose OA label is called right."""
    return float(np.mean(called_oa(predictions) == oa_from_kl(predictions.kl)))


def oa_f1(predictions: Predictions) -> float:
    """F1 of the OA-positive class."""
    return float(class_f1(oa_confusion(predictions))[1])


def kl_macro_auc(predictions: Predictions) -> float:
    """Unweighted mean of the AUC of each grade against the four others.

    NaN where a grade is absent: a mean over fewer grades would be another quantity.
    """
    score = of_kl_head(predictions.score_kl)
    return float(np.mean([auc(predictions.kl == k, score[:, k]) for k in range(KL_GRADES)]))


def kl_accuracy(predictions: Predictions) -> float:
    """Share of cases whose grade is called right."""
    return float(np.mean(called_kl(predictions) == predictions.kl))


def kl_macro_f1(predictions: Predictions) -> float:
    """Unweighted mean of the F1 of all five grades, absent ones counting 0."""
    return float(np.mean(class_f1(kl_confusion(predictions))))


OA_METRICS: dict[str, Metric] = {"auc": oa_auc, "accuracy": oa_accuracy, "f1": oa_f1}
KL_METRICS: dict[str, Metric] = {
    "macro_auc": kl_macro_auc,
    "accuracy": kl_accuracy,
    "macro_f1": kl_macro_f1,
}
METRICS: dict[str, dict[str, Metric]] = {"oa": OA_METRICS, "kl": KL_METRICS}


def tasks_of(predictions: Predictions) -> list[str]:
    """Tasks that a model can be scored on: OA always, KL where it has a KL head."""
    return ["oa", "kl"] if predictions.prob_kl is not None else ["oa"]


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927).

    >>> [round(bound, 4) for bound in wilson_interval(78, 98)]
    [0.7057, 0.8638]
    """
    z2 = 1.959963984540054**2
    centre = (correct + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (correct * (n - correct) / n + z2 / 4)) / (n + z2)
    return float(centre - half), float(centre + half)


def of_kl_head(values: Float[np.ndarray, "n 5"] | None) -> Float[np.ndarray, "n 5"]:
    """The scores or probabilities of the KL head, which must be there.

    Raises:
        InputError: If the model has no KL head.
    """
    if values is None:
        raise InputError(
            "a KL metric",
            "predictions without a KL head",
            "logit_kl_0..4 or prob_kl_0..4",
            "use the OA metrics for this model",
        )
    return values
