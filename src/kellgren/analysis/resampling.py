"""Case resamples that every model and metric of a study shares, and metrics on all of them.

A resample is kept as the count of each case, so that a metric is sorted once and then summed
over thousands of resamples. The sums are integers: the results are those of the metric on the
repeated cases, ties included.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from kellgren.analysis.performance import (
    KL_METRICS,
    OA_METRICS,
    Metric,
    called_kl,
    called_oa,
    class_f1,
    of_kl_head,
)
from kellgren.faults import InputError
from kellgren.labels import KL_GRADES, oa_from_kl
from kellgren.tables import Predictions

Counts = Int[np.ndarray, "n b"]
Samples = Float[np.ndarray, " b"]

MOST_CASES_IN_INT16 = 32_767  # a resample holds no more of any group
# Twice the Mann-Whitney count is at most n^2 / 2, which stays below 2^31 up to this many cases.
MOST_CASES_IN_INT32 = 65_535
SPARE = 100  # one resample in so many may be undefined
BLOCK_ENTRIES = 1 << 19  # entries of a block that stays in the processor's cache


@dataclass(frozen=True)
class Resamples:
    """How often each case was drawn in each resample, drawn once and used for everything.

    Attributes:
        counts: Count of each case, one column a resample; each column sums to n. There is one
            spare column for each hundred, to stand in for resamples on which a metric is
            undefined.
        wanted: Number of resamples that a result is made from, b without the spares.
    """

    counts: Int[np.ndarray, "n b"]
    wanted: int

    def first(self, wanted: int) -> "Resamples":
        """The first so many of them, with their spares; all of them where they are fewer."""
        if wanted >= self.wanted:
            return self
        total = wanted + max(1, wanted // SPARE)
        return Resamples(np.ascontiguousarray(self.counts[:, :total]), wanted)

    def interval(self, values: Float[np.ndarray, " b"]) -> tuple[float, float]:
        """95 % percentile interval; NaN where more than 1 % of the values are."""
        if not self.suffice(values):
            return float("nan"), float("nan")
        low, high = np.percentile(self.defined(values)[0], [2.5, 97.5])
        return float(low), float(high)

    def suffice(self, values: Float[np.ndarray, " b"]) -> bool:
        """Whether at least `wanted` of the values are not NaN."""
        return int((~np.isnan(values)).sum()) >= self.wanted

    def defined(self, values: Float[np.ndarray, " b"]) -> tuple[Float[np.ndarray, " m"], int]:
        """The first `wanted` values that are not NaN, and how many were redrawn to get them.

        Raises:
            InputError: If more than 1 % of the values are NaN, as when a grade has few cases.
        """
        if not self.suffice(values):
            share = np.isnan(values).mean()
            raise InputError(
                f"the bootstrap of {len(self.counts)} cases",
                f"{share:.1%} of the resamples without a class that the metric needs",
                "at most 1%",
                "use more test cases of the rarest grade; no interval is given",
            )
        kept = np.flatnonzero(~np.isnan(values))[: self.wanted]
        return values[kept], int(kept[-1]) + 1 - self.wanted


def resample(n: int, *, resamples: int, rng: np.random.Generator) -> Resamples:
    """Draw cases with replacement, unstratified.

    Args:
        n: Number of cases.
        resamples: Number of resamples; the paper does not state its number.
        rng: Source of randomness; the same seed gives the same resamples.
    """
    total = resamples + max(1, resamples // SPARE)
    counts = np.empty((n, total), dtype=np.int16 if n <= MOST_CASES_IN_INT16 else np.int32)
    for block in blocks(n, total):
        drawn = rng.integers(n, size=(block.stop - block.start, n), dtype=np.int32)
        counts[:, block] = np.stack([np.bincount(row, minlength=n) for row in drawn], axis=1)
    return Resamples(counts, resamples)


def sampled(metric: Metric, predictions: Predictions, resamples: Resamples) -> Samples:
    """The metric on every resample; NaN where it is undefined.

    The metrics of Table 1 are computed for all resamples at once. Any other metric is called
    once a resample.
    """
    if metric in SAMPLED:
        return SAMPLED[metric](predictions, resamples.counts)
    cases = np.arange(len(predictions))
    return np.array([metric(predictions.take(np.repeat(cases, c))) for c in resamples.counts.T])


def sampled_means(
    values: Float[np.ndarray, "n m"], resamples: Resamples
) -> Float[np.ndarray, "m b"]:
    """Mean of each column over the cases that have a value; NaN where none of them was drawn."""
    counts = resamples.counts.astype(np.float64)
    valid = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        sums, cases = np.where(valid, values, 0.0).T @ counts, valid.T.astype(np.float64) @ counts
        return np.asarray(sums / cases)


def sampled_auc(
    positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"], counts: Counts
) -> Samples:
    """AUC on every resample: for each positive, the counts of the negatives below and tied.

    Positives between the same two negatives beat the same ones: they are summed first, and then
    multiplied together.
    """
    if 2 * int(positive.sum()) < len(positive):  # the running sum goes over the smaller class
        positive, score = ~positive, -score
    values = np.unique(score[~positive])
    if not len(values):
        return np.full(counts.shape[1], np.nan)
    level = np.searchsorted(values, score, side="right") - 1  # -1 below all negatives
    tied = positive & (level >= 0) & (values[level] == score)
    wide = np.int32 if len(counts) <= MOST_CASES_IN_INT32 else np.int64
    dtype = np.result_type(counts.dtype, wide)
    below, twice = np.zeros((2, counts.shape[1]), dtype=dtype)
    sides = [_summed_by(level, of, counts.dtype) for of in (~positive, positive, tied)]
    for block in blocks(counts.shape[1], len(values)):
        negatives, positives, even = (side[block] @ counts for side in sides)
        up_to = negatives.astype(dtype)
        up_to[0] += below
        for i in range(1, len(up_to)):  # np.cumsum goes by column, which is slow
            up_to[i] += up_to[i - 1]
        below = up_to[-1]
        twice += 2 * np.einsum("ij,ij->j", positives, up_to)
        twice -= np.einsum("ij,ij->j", even, negatives, dtype=dtype)
    with np.errstate(invalid="ignore"):
        return np.asarray(twice / (2 * sums_over(positive, counts) * below))


def sampled_confusion(
    reference: Int[np.ndarray, " n"], called: Int[np.ndarray, " n"], counts: Counts, *, classes: int
) -> Int[np.ndarray, "k k b"]:
    """Confusion table of every resample, rows the reference."""
    in_cell = np.arange(classes**2)[:, None] == reference * classes + called
    return sums_over(in_cell, counts).reshape(classes, classes, counts.shape[1])


def sums_over(
    members: Bool[np.ndarray, "m n"] | Bool[np.ndarray, " n"], counts: Counts
) -> Int[np.ndarray, "m b"] | Int[np.ndarray, " b"]:
    """How many cases of each group every resample holds, by one product of matrices."""
    summing = csr_array(np.atleast_2d(members), dtype=counts.dtype)
    return (summing @ counts).astype(np.int64).reshape(*members.shape[:-1], counts.shape[1])


def sampled_oa_auc(predictions: Predictions, counts: Counts) -> Samples:
    """`oa_auc` on every resample."""
    return sampled_auc(oa_from_kl(predictions.kl), predictions.score_oa, counts)


def sampled_oa_accuracy(predictions: Predictions, counts: Counts) -> Samples:
    """`oa_accuracy` on every resample."""
    right = called_oa(predictions) == oa_from_kl(predictions.kl)
    return np.asarray(sums_over(right, counts) / len(predictions))


def sampled_oa_f1(predictions: Predictions, counts: Counts) -> Samples:
    """`oa_f1` on every resample."""
    reference = oa_from_kl(predictions.kl).astype(np.int64)
    called = called_oa(predictions).astype(np.int64)
    return class_f1(sampled_confusion(reference, called, counts, classes=2))[1]


def sampled_kl_macro_auc(predictions: Predictions, counts: Counts) -> Samples:
    """`kl_macro_auc` on every resample; NaN where a grade was not drawn."""
    score = of_kl_head(predictions.score_kl)
    grades = range(KL_GRADES)
    by_grade = [sampled_auc(predictions.kl == k, score[:, k], counts) for k in grades]
    return np.asarray(np.mean(by_grade, axis=0))


def sampled_kl_accuracy(predictions: Predictions, counts: Counts) -> Samples:
    """`kl_accuracy` on every resample."""
    right = called_kl(predictions) == predictions.kl
    return np.asarray(sums_over(right, counts) / len(predictions))


def sampled_kl_macro_f1(predictions: Predictions, counts: Counts) -> Samples:
    """`kl_macro_f1` on every resample."""
    called = called_kl(predictions)
    tables = sampled_confusion(predictions.kl, called, counts, classes=KL_GRADES)
    return np.asarray(class_f1(tables).mean(axis=0))


SAMPLED: dict[Metric, Callable[[Predictions, Counts], Samples]] = {
    OA_METRICS["auc"]: sampled_oa_auc,
    OA_METRICS["accuracy"]: sampled_oa_accuracy,
    OA_METRICS["f1"]: sampled_oa_f1,
    KL_METRICS["macro_auc"]: sampled_kl_macro_auc,
    KL_METRICS["accuracy"]: sampled_kl_accuracy,
    KL_METRICS["macro_f1"]: sampled_kl_macro_f1,
}


def blocks(n: int, total: int) -> Iterator[slice]:
    """Parts of `total` rows or columns of n entries each that stay in the processor's cache."""
    width = max(1, BLOCK_ENTRIES // max(n, 1))
    return (slice(start, min(start + width, total)) for start in range(0, total, width))


def _summed_by(
    level: Int[np.ndarray, " n"], cases: Bool[np.ndarray, " n"], dtype: np.dtype[Any]
) -> csr_array:
    """Matrix that sums counts of some cases by their level; those of level -1 are left out."""
    rows = np.flatnonzero(cases & (level >= 0))
    ones, shape = np.ones(len(rows), dtype=dtype), (int(level.max()) + 1, len(level))
    return csr_array((ones, (level[rows], rows)), shape=shape)
