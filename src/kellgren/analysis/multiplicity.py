"""p-values of a declared family of tests (section 3.6 tests many differences without adjusting)."""

import numpy as np
from jaxtyping import Float


def adjusted(p: Float[np.ndarray, " m"], *, method: str) -> Float[np.ndarray, " m"]:
    """p-values adjusted for being one of a family of m tests.

    A missing p-value stays NaN and counts as a test of p = 1, so that the declared family keeps
    its size.

    Args:
        p: Raw p-values of the family.
        method: "holm" (Holm 1979, family-wise error) or "fdr_bh" (Benjamini and Hochberg 1995,
            false discovery rate).

    >>> adjusted(np.array([0.01, 0.04, np.nan]), method="holm")
    array([0.03, 0.08,  nan])
    """
    from statsmodels.stats.multitest import multipletests

    if not len(p):
        return p
    missing = np.isnan(p)
    values = multipletests(np.where(missing, 1.0, p), method=method)[1]
    return np.where(missing, np.nan, values)


def max_t(
    observed: Float[np.ndarray, " m"], samples: Float[np.ndarray, "m b"]
) -> Float[np.ndarray, " m"]:
    """Family-wise p-values from resamples that all tests share (Westfall and Young 1993).

    The p-value of a difference is the share of resamples in which the largest studentised
    deviation of any test of the family, |d* - d| / se, reaches |d| / se; one is added to both
    counts. It uses how the tests go together, which Holm's does not, but it leans on the normal
    shape of each difference, which the percentile p-value does not. Resamples in which a
    difference is undefined are left out.

    Args:
        observed: Difference of each test on the cases themselves; NaN gives NaN.
        samples: The same difference on each resample.
    """
    tested = ~np.isnan(observed) & (np.isnan(samples).mean(axis=1) < 0.5)
    found = np.full(len(observed), np.nan)
    if not tested.any():
        return found
    values = samples[tested]
    values = values[:, ~np.isnan(values).any(axis=0)]
    se = values.std(axis=1, ddof=1)
    scale = np.where(se > 0, se, np.inf)[:, None]
    largest = (np.abs(values - observed[tested, None]) / scale).max(axis=0)
    reached = largest[None, :] >= np.abs(observed[tested, None]) / scale
    p = (reached.sum(axis=1) + 1) / (values.shape[1] + 1)
    found[tested] = np.where((se == 0) & (observed[tested] != 0), np.nan, p)
    return found
