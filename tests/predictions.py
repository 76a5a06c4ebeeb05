"""Predictions made up in memory, for the tests of the analysis."""

import numpy as np
from scipy.special import expit, softmax

from kellgren.labels import grade_log_odds
from kellgren.tables import Predictions


def made_predictions(*, n=60, seed=0, skill=1.0, decimals=8, kl=None):
    """A Dual model; few decimals make ties."""
    rng = np.random.default_rng(seed)
    kl = np.sort(rng.integers(0, 5, n)) if kl is None else np.asarray(kl)
    n = len(kl)
    oa = np.round(skill * (kl - 1.5) + rng.normal(scale=2, size=n), decimals)
    logit = np.round(
        -skill * (kl[:, None] - np.arange(5)) ** 2 / 2 + rng.normal(size=(n, 5)), decimals
    )
    ids = np.array([f"k{i:03d}" for i in range(n)], dtype=object)
    score = np.round(grade_log_odds(logit), decimals)
    return Predictions(ids, kl, oa, expit(oa), "head", score, softmax(logit, axis=1))
