"""Paired comparison of two models on the same cases (section 3.6, Fig. 2).

A p-value here is about two trained networks on these cases. It says nothing about how two
methods differ over seeds.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import binom, chi2, norm

from kellgren.analysis.performance import Metric, called_oa
from kellgren.analysis.resampling import Resamples, resample, sampled
from kellgren.faults import InputError
from kellgren.labels import oa_from_kl
from kellgren.tables import Predictions


@dataclass(frozen=True)
class Difference:
    """Bootstrap of a difference, model minus reference.

    Attributes:
        difference: Difference on the cases themselves.
        boot_mean: Mean over the resamples, which is what the paper prints; its distance from
            `difference` is the bootstrap's estimate of bias.
        se: Standard deviation over the resamples.
        ci_low: 2.5th percentile, linear between resamples.
        ci_high: 97.5th percentile.
        p: Two-sided p-value, see `two_sided_p`.
        resamples: Number of resamples.
        redrawn: How many more were drawn in place of undefined ones.
    """

    difference: float
    boot_mean: float
    se: float
    ci_low: float
    ci_high: float
    p: float
    resamples: int
    redrawn: int


@dataclass(frozen=True)
class McNemar:
    """McNemar's test on the cases that exactly one of two models calls right.

    Attributes:
        b: Cases that only the model calls right.
        c: Cases that only the reference calls right.
        p: Exact two-sided binomial p-value; 1 where b + c is 0.
        p_mid: Twice the one-sided mid-p-value (Fagerland, Lydersen and Laake 2013), less
            conservative than the exact one; 1 where b equals c.
    """

    b: int
    c: int
    p: float
    p_mid: float


@dataclass(frozen=True)
class DeLong:
    """Difference of two correlated AUCs (DeLong, DeLong and Clarke-Pearson 1988).

    Attributes:
        difference: AUC of the model minus AUC of the reference.
        se: Standard error of the difference.
        z: Difference over its standard error; 0 for identical rankings.
        p: Two-sided normal p-value.
        ci_low: Lower end of the 95 % normal interval.
        ci_high: Upper end of it.
    """

    difference: float
    se: float
    z: float
    p: float
    ci_low: float
    ci_high: float


def paired_bootstrap(
    model: Predictions,
    reference: Predictions,
    metric: Metric,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    paper_p: bool = False,
) -> Difference:
    """Bootstrap the difference of a metric, resampling cases and keeping pairs together.

    A study draws its resamples once and calls `difference` for each pair of models; this is the
    same in one call.

    Args:
        model: Predictions of the model of interest.
        reference: Predictions of the baseline, on the same cases in the same order.
        metric: Any function of Predictions; see `kellgren.analysis.performance`.
        rng: Source of randomness; the same seed gives the same interval.
        resamples: Number of resamples. The paper does not state its number.
        paper_p: See `two_sided_p`.

    Raises:
        InputError: If the cases differ, or the metric is undefined on more than 1 % of resamples.
    """
    check_same_cases(model, reference)
    drawn = resample(len(model), resamples=resamples, rng=rng)
    return difference(
        metric(model) - metric(reference),
        sampled(metric, model, drawn) - sampled(metric, reference, drawn),
        resamples=drawn,
        paper_p=paper_p,
    )


def difference(
    observed: float,
    samples: Float[np.ndarray, " b"],
    *,
    resamples: Resamples,
    paper_p: bool = False,
) -> Difference:
    """Summarise the differences of a metric over resamples.

    Args:
        observed: Difference on the cases themselves.
        samples: Difference on each resample; NaN where the metric is undefined.
        resamples: The resamples that they belong to.
        paper_p: See `two_sided_p`.

    Raises:
        InputError: If more than 1 % of the samples are NaN.
    """
    values, redrawn = resamples.defined(samples)
    low, high = np.percentile(values, [2.5, 97.5])
    return Difference(
        difference=float(observed),
        boot_mean=float(values.mean()),
        se=float(values.std(ddof=1)),
        ci_low=float(low),
        ci_high=float(high),
        p=two_sided_p(values, paper_p=paper_p),
        resamples=len(values),
        redrawn=redrawn,
    )


def two_sided_p(values: Float[np.ndarray, " b"], *, paper_p: bool = False) -> float:
    """Twice the smaller share of differences on either side of zero, at most 1.

    One is added to counts and total, so that p is never 0. Zeros count on both sides, so two
    identical models have p = 1. With `paper_p` nothing is added: the four p-values that the paper
    quotes are multiples of 2 / 1000.

    >>> two_sided_p(np.array([-1.0, 1.0, 2.0, 3.0]))                  # 2 x (1 + 1) / (4 + 1)
    0.8
    >>> two_sided_p(np.array([-1.0, 1.0, 2.0, 3.0]), paper_p=True)    # 2 x 1 / 4
    0.5
    """
    fewer = min(int((values <= 0).sum()), int((values >= 0).sum()))
    added = 0 if paper_p else 1
    return min(1.0, 2 * (fewer + added) / (len(values) + added))


def mcnemar(
    model_right: Bool[np.ndarray, " n"], reference_right: Bool[np.ndarray, " n"]
) -> McNemar:
    """McNemar's exact test, and its mid-p variant.

    Args:
        model_right: Whether the model calls each case right.
        reference_right: Whether the reference does.

    >>> mcnemar(np.array([True] * 5), np.array([False] * 5)).p        # 2 / 2^5
    0.0625
    """
    b = int((model_right & ~reference_right).sum())
    c = int((reference_right & ~model_right).sum())
    tail = 2 * float(binom.cdf(min(b, c), b + c, 0.5))
    at = float(binom.pmf(min(b, c), b + c, 0.5))
    return McNemar(b, c, min(1.0, tail), min(1.0, tail - at))


def mcnemar_chi_square(b: int, c: int, *, corrected: bool) -> tuple[float, float]:
    """McNemar's statistic and its p-value by the chi-square distribution (McNemar 1947).

    For comparison with others, such as the paper's author, who uses it where b + c is 25 or more.

    Args:
        b: Cases that only the model calls right.
        c: Cases that only the reference calls right; b + c is at least 1.
        corrected: Whether to take 1 off |b - c| (Edwards 1948).

    >>> [round(value, 4) for value in mcnemar_chi_square(121, 59, corrected=False)]
    [21.3556, 0.0]
    """
    gap = max(abs(b - c) - int(corrected), 0)
    statistic = gap**2 / (b + c)
    return statistic, float(chi2.sf(statistic, 1))


def oa_mcnemar(model: Predictions, reference: Predictions) -> McNemar:
    """McNemar's test of OA accuracy."""
    truth = oa_from_kl(model.kl)
    return mcnemar(called_oa(model) == truth, called_oa(reference) == truth)


def auc_covariance(
    positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, "m n"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m m"]]:
    """AUC of each of m scores, and their covariance by DeLong's structural components.

    Ties count one half. The covariance is NaN with fewer than two cases of either class.
    """
    of_positives, of_negatives = [], []
    for score in scores:
        negatives, positives = np.sort(score[~positive]), np.sort(score[positive])
        of_positives.append(_share_below(negatives, score[positive]))
        of_negatives.append(1 - _share_below(positives, score[~positive]))
    v10, v01 = np.stack(of_positives), np.stack(of_negatives)
    if min(v10.shape[1], v01.shape[1]) < 2:
        return v10.mean(axis=1), np.full((len(scores), len(scores)), np.nan)
    covariance = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    return v10.mean(axis=1), covariance.reshape(len(scores), len(scores))


def delong(
    positive: Bool[np.ndarray, " n"],
    score: Float[np.ndarray, " n"],
    reference_score: Float[np.ndarray, " n"],
) -> DeLong:
    """DeLong's test of the AUC of a score against that of a reference score on the same cases.

    Everything but the difference is NaN where the variance is 0 although the AUCs differ.
    """
    aucs, covariance = auc_covariance(positive, np.stack([score, reference_score]))
    gap = float(aucs[0] - aucs[1])
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    se = float(np.sqrt(max(variance, 0.0)))
    if se == 0 and gap == 0:
        return DeLong(gap, se, 0.0, 1.0, gap, gap)
    z = gap / se if se > 0 else float("nan")
    half = float(norm.ppf(0.975)) * se if se > 0 else float("nan")
    return DeLong(gap, se, z, float(2 * norm.sf(abs(z))), gap - half, gap + half)


def minimum_detectable(se: float) -> float:
    """True difference that a two-sided test at 0.05 would find four times in five.

    (z_0.975 + z_0.8) standard errors. What is smaller and was not found has not been excluded.

    >>> round(minimum_detectable(0.041), 3)                           # an AUC on 98 knees
    0.115
    """
    return float(norm.ppf(0.975) + norm.ppf(0.8)) * se


def check_same_cases(model: Predictions, reference: Predictions) -> None:
    """Refuse to compare models that did not see the same cases in the same order.

    Raises:
        InputError: If case ids or reference grades differ.
    """
    ids, others = model.case_id.tolist(), reference.case_id.tolist()
    alone = sorted(set(ids) ^ set(others))
    if alone or ids != others:
        found = f"case {alone[0]} in one of them only" if alone else "the cases in another order"
        raise InputError(
            "two models to compare", found, "the same cases in the same order", "predict all cases"
        )
    differs = np.flatnonzero(model.kl != reference.kl)
    if len(differs):
        first = differs[0]
        raise InputError(
            f"case {ids[first]}",
            f"grade {model.kl[first]} and grade {reference.kl[first]}",
            "one reference grade",
            "predict again from one cohort table",
        )


def _share_below(
    others: Float[np.ndarray, " m"], score: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Share of the sorted others below each score, ties counting one half."""
    below = np.searchsorted(others, score, side="left")
    not_above = np.searchsorted(others, score, side="right")
    return (below + not_above) / (2 * len(others))
