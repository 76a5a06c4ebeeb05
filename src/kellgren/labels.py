"""The label hierarchy: from KL grade to OA label (section 3.1, Eq. (1) and Eq. (4))."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp

KL_GRADES = 5
OA_THRESHOLD = 2


def oa_from_kl(kl: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Coarse OA label of each KL grade, Eq. (1).

    >>> oa_from_kl(np.array([0, 1, 2, 3, 4]))
    array([False, False,  True,  True,  True])
    """
    return kl >= OA_THRESHOLD


def oa_log_odds(logit_kl: Float[np.ndarray, "n 5"]) -> Float[np.ndarray, " n"]:
    """Log-odds of OA that the KL head implies, the logit of Eq. (4).

    Computed without passing through probabilities, so that it ranks cases whose probability
    would round to 0 or 1.

    >>> oa_log_odds(np.array([[0.0, 0.0, 0.0, 0.0, 0.0]])).round(4)   # log(3 / 2)
    array([0.4055])
    """
    logit = np.asarray(logit_kl, dtype=np.float64)
    return logsumexp(logit[:, OA_THRESHOLD:], axis=1) - logsumexp(logit[:, :OA_THRESHOLD], axis=1)


def grade_log_odds(logit_kl: Float[np.ndarray, "n 5"]) -> Float[np.ndarray, "n 5"]:
    """Log-odds of each grade against the four others, the one-vs-rest score of the KL head.

    >>> grade_log_odds(np.zeros((1, 5)))[0].round(4)                  # log(1 / 4)
    array([-1.3863, -1.3863, -1.3863, -1.3863, -1.3863])
    """
    logit = np.asarray(logit_kl, dtype=np.float64)
    rest = [logsumexp(np.delete(logit, k, axis=1), axis=1) for k in range(KL_GRADES)]
    return logit - np.stack(rest, axis=1)
