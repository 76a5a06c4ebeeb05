"""The jackknife: how far a value moves when cases are left out.

A resample of a bootstrap repeats cases, and repeated cases pull some measures to one side whatever
the truth is: fewer different cases span fewer dimensions. Here no case is repeated.
"""

import numpy as np
from scipy.stats import norm

from kellgren.analysis.resampling import Counts, Samples

MOST_GROUPS = 200  # that are left out one after another


def left_out(n: int, *, rng: np.random.Generator) -> Counts:
    """Counts of the cases with one of them left out, one column each.

    Of more than `MOST_GROUPS` cases, so many groups of cases drawn at random are left out instead.
    """
    group = rng.permutation(n) % MOST_GROUPS if n > MOST_GROUPS else np.arange(n)
    return (group[:, None] != np.arange(min(n, MOST_GROUPS))).astype(np.int16)


def jackknife_interval(
    value: float, without: Samples, *, within: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float]:
    """95 % normal interval about a value, by the jackknife's standard error (Tukey 1958).

    NaN where a value without some cases is not defined.

    Args:
        value: Value on all cases.
        without: Values without each case, or each group of cases.
        within: Smallest and largest value that there can be.

    >>> low, high = jackknife_interval(2.0, np.array([2.5, 2.0, 1.5]))    # the mean of 1, 2 and 3
    >>> round(low, 2), round(high, 2)
    (0.87, 3.13)
    """
    g = len(without)
    se = float(np.sqrt((g - 1) / g * ((without - without.mean()) ** 2).sum()))
    half = float(norm.ppf(0.975)) * se
    low, high = np.clip([value - half, value + half], *within)
    return float(low), float(high)
