"""What a comparison says once the seeds are allowed to vary too, not only the cases.

A p-value over cases is about two trained networks. A claim about two methods needs several
trained networks of each, and a standard error that counts seeds as well as cases.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import trim_mean

from kellgren.analysis.comparison import two_sided_p
from kellgren.faults import InputError

FEWEST_SEEDS = 5  # below it the runs are listed and no interval over seeds is given


@dataclass(frozen=True)
class SeedDifference:
    """Difference of two methods over several trained networks of each.

    Attributes:
        difference: Mean of the model's seeds minus mean of the reference's.
        se_cases: Standard error from resampling cases alone, the seeds as they are.
        se_seeds: From resampling seeds alone, the cases as they are.
        se_both: From resampling both, the pigeonhole bootstrap; mildly conservative.
        ci_low: 2.5th percentile of the pigeonhole bootstrap.
        ci_high: 97.5th percentile of it.
        p: Two-sided p-value of it, about the two methods on such cases.
        probability: P(model > reference), the share of pairs of seeds in which the model is
            better, ties one half.
    """

    difference: float
    se_cases: float
    se_seeds: float
    se_both: float
    ci_low: float
    ci_high: float
    p: float
    probability: float


@dataclass(frozen=True)
class Seeds:
    """One metric of the trained networks of one method.

    Attributes:
        values: The metric of each seed on the cases themselves.
        samples: The metric of each seed on each resample of the cases; the resamples are shared.
    """

    values: Float[np.ndarray, " s"]
    samples: Float[np.ndarray, "s b"]


def seed_difference(model: Seeds, reference: Seeds, *, rng: np.random.Generator) -> SeedDifference:
    """Pigeonhole bootstrap over seeds and cases (Owen 2007; Owen and Eckles 2012).

    Each resample draws seeds of either method with replacement, independently, and the same cases
    for all of them. Resamples of cases on which a seed has no value are left out. With fewer than
    five seeds of either method everything about seeds, and the p-value, is NaN.

    Args:
        model: The method of interest.
        reference: The method that it is compared with.
        rng: Source of the seeds that are drawn.

    Raises:
        InputError: If the two were resampled a different number of times.
    """
    if model.samples.shape[1] != reference.samples.shape[1]:
        raise InputError(
            "two methods to compare",
            f"{model.samples.shape[1]} and {reference.samples.shape[1]} resamples",
            "the same resamples of the cases",
            "draw them once for all runs",
        )
    gap = float(model.values.mean() - reference.values.mean())
    defined = ~np.isnan(np.concatenate([model.samples, reference.samples])).any(axis=0)
    samples = [side.samples[:, defined] for side in (model, reference)]
    cases = samples[0].mean(axis=0) - samples[1].mean(axis=0)
    nan = float("nan")
    enough = min(len(model.values), len(reference.values)) >= FEWEST_SEEDS
    seeds, both = np.full((2, 1), nan), np.full(1, nan)
    if enough and defined.any():
        drawn = [_drawn_shares(len(side), side.shape[1], rng=rng) for side in samples]
        seeds = model.values @ drawn[0] - reference.values @ drawn[1]
        both = (samples[0] * drawn[0]).sum(axis=0) - (samples[1] * drawn[1]).sum(axis=0)
    low, high = np.percentile(both, [2.5, 97.5])
    return SeedDifference(
        difference=gap,
        se_cases=_sd(cases),
        se_seeds=_sd(seeds) if enough else nan,
        se_both=_sd(both) if enough else nan,
        ci_low=float(low),
        ci_high=float(high),
        p=two_sided_p(both) if not np.isnan(both).any() else nan,
        probability=probability_of_improvement(model.values, reference.values),
    )


def seed_interval(method: Seeds, *, rng: np.random.Generator) -> tuple[float, float]:
    """95 % percentile interval of the mean over seeds, seeds and cases resampled alike.

    NaN with fewer than five seeds, or where no resample has a value for every seed.

    Args:
        method: The trained networks of one method.
        rng: Source of the seeds that are drawn.
    """
    samples = method.samples[:, ~np.isnan(method.samples).any(axis=0)]
    if len(samples) < FEWEST_SEEDS or not samples.size:
        return float("nan"), float("nan")
    drawn = _drawn_shares(len(samples), samples.shape[1], rng=rng)
    low, high = np.percentile((samples * drawn).sum(axis=0), [2.5, 97.5])
    return float(low), float(high)


def probability_of_improvement(
    model: Float[np.ndarray, " s"], reference: Float[np.ndarray, " t"]
) -> float:
    """Share of pairs of seeds in which the model is better, ties one half.

    >>> probability_of_improvement(np.array([0.8, 0.9]), np.array([0.8, 0.7]))
    0.875
    """
    gaps = model[:, None] - reference[None, :]
    return float(np.mean((gaps > 0) + (gaps == 0) / 2))


def interquartile_mean(values: Float[np.ndarray, " s"]) -> float:
    """Mean of the middle half of the seeds, which one failed training cannot move.

    >>> interquartile_mean(np.array([0.1, 0.8, 0.82, 0.9]))
    0.81
    """
    return float(trim_mean(values, 0.25))


def _drawn_shares(
    seeds: int, resamples: int, *, rng: np.random.Generator
) -> Float[np.ndarray, "s b"]:
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples).T / seeds


def _sd(values: Float[np.ndarray, " b"]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
