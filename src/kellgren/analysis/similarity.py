"""How alike the features of two networks are: centred kernel alignment (CKA)."""

import numpy as np
from jaxtyping import Float

from kellgren.faults import InputError

Gram = Float[np.ndarray, "n n"]


def linear_cka(z: Float[np.ndarray, "n f"], other: Float[np.ndarray, "n g"]) -> float:
    """Linear CKA (Kornblith et al. 2019): 1 for features that a rotation and a scale relate.

    With more features than cases it is far from 0 even for unrelated ones; `debiased_cka` is not.
    NaN where either does not vary.
    """
    return cka(z @ z.T, other @ other.T)


def debiased_cka(z: Float[np.ndarray, "n f"], other: Float[np.ndarray, "n g"]) -> float:
    """Linear CKA from unbiased estimates (Song et al. 2012), 0 on average for unrelated features.

    It may be below 0. NaN where an estimate of a norm is not positive.

    Raises:
        InputError: With fewer than four cases, for which there is no unbiased estimate.
    """
    grams = [_unbiased(x @ x.T) for x in (z, other)]
    norms = [float((gram * gram).sum()) for gram in grams]
    if min(norms) <= 0:
        return float("nan")
    return float((grams[0] * grams[1]).sum() / np.sqrt(norms[0] * norms[1]))


def cka(gram: Gram, other: Gram) -> float:
    """CKA of two Gram matrices of the same cases; NaN where either is constant."""
    one, two = _centred(gram), _centred(other)
    norms = np.linalg.norm(one) * np.linalg.norm(two)
    return float((one * two).sum() / norms) if norms > 0 else float("nan")


def rbf_gram(z: Float[np.ndarray, "n f"], *, share: float) -> Gram:
    """Gram matrix of a Gaussian kernel whose width is a share of the median distance.

    Args:
        z: Features.
        share: Width over the median of all pairwise distances, those of a case to itself included.
    """
    square = (z * z).sum(axis=1)
    apart = np.maximum(square[:, None] + square[None, :] - 2 * z @ z.T, 0)
    return np.exp(-apart / (2 * share**2 * np.median(apart)))


def _centred(gram: Gram) -> Gram:
    rows = gram.mean(axis=0)
    return gram - rows[:, None] - rows[None, :] + rows.mean()


def _unbiased(gram: Gram) -> Gram:
    """Centred without its diagonal, for unbiased inner products (Szekely and Rizzo 2014)."""
    n = len(gram)
    if n < 4:
        raise InputError("the debiased CKA", f"{n} cases", "at least four", "use more cases")
    hollow = gram - np.diag(np.diag(gram))
    rows = hollow.sum(axis=0) / (n - 2)
    centred = hollow - rows[:, None] - rows[None, :] + rows.sum() / (n - 1)
    return centred - np.diag(np.diag(centred))
