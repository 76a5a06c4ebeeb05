"""How alike the features of two networks are: centred kernel alignment (CKA)."""

import numpy as np
from jaxtyping import Float

from kellgren.analysis.resampling import Counts, Samples
from kellgren.faults import InputError

Gram = Float[np.ndarray, "n n"]
FEWEST_CASES = 4  # of which there is an unbiased estimate


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


def sampled_cka(
    z: Float[np.ndarray, "n f"], other: Float[np.ndarray, "n g"], counts: Counts
) -> Samples:
    """`linear_cka` on every resample."""
    grams, share = _grams(z, other), counts / counts.sum(axis=0)
    products = [[_about_means(a, b, share) for b in grams] for a in grams]
    return _ratio(products)


def sampled_debiased_cka(
    z: Float[np.ndarray, "n f"], other: Float[np.ndarray, "n g"], counts: Counts
) -> Samples:
    """`debiased_cka` on every resample, without what repeated cases would add.

    The unbiased estimate is a mean over four different cases. A quadruple of cases counts as often
    as the product of their counts, and none holds a case twice: the copies of a case are alike in
    every network, and would pass for likeness. NaN with fewer than four different cases.
    """
    grams, weight = _grams(z, other), counts.astype(np.float64)
    hollow = [gram - np.diag(np.diag(gram)) for gram in grams]
    found = _ratio([[_between_different(a, b, weight) for b in hollow] for a in hollow])
    return np.where((counts > 0).sum(axis=0) >= FEWEST_CASES, found, np.nan)


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
    if n < FEWEST_CASES:
        raise InputError("the debiased CKA", f"{n} cases", "at least four", "use more cases")
    hollow = gram - np.diag(np.diag(gram))
    rows = hollow.sum(axis=0) / (n - 2)
    centred = hollow - rows[:, None] - rows[None, :] + rows.sum() / (n - 1)
    return centred - np.diag(np.diag(centred))


def _grams(z: Float[np.ndarray, "n f"], other: Float[np.ndarray, "n g"]) -> list[Gram]:
    centred = [x - x.mean(axis=0) for x in (z, other)]  # changes no value, and loses fewer digits
    return [x @ x.T for x in centred]


def _ratio(products: list[list[Samples]]) -> Samples:
    square = products[0][0] * products[1][1]
    defined = (products[0][0] > 0) & (products[1][1] > 0)
    return products[0][1] / np.sqrt(np.where(defined, square, np.nan))


def _about_means(gram: Gram, other: Gram, share: Float[np.ndarray, "n b"]) -> Samples:
    """Inner product of two Gram matrices centred about weighted means, the weights adding to 1."""
    along, beside = gram @ share, other @ share
    both = (share * ((gram * other) @ share)).sum(axis=0)
    return (
        both - 2 * (share * along * beside).sum(axis=0) + _dot(share, along) * _dot(share, beside)
    )


def _between_different(gram: Gram, other: Gram, weight: Float[np.ndarray, "n b"]) -> Samples:
    """Sum of K_ij (L_ij - 2 L_iq + L_qr) over different i, j, q, r, times the counts of all four.

    Sums over all indices, less those in which two of them are the same case. K and L are symmetric
    with a diagonal of 0.
    """
    total, square, cube = weight.sum(axis=0), weight**2, weight**3
    along, beside, both = gram @ weight, other @ weight, (gram * other) @ weight
    squares = (gram * other) @ square
    product = along * beside
    shared = _dot(square, product) - _dot(square, squares)
    pairs = (total**2 - square.sum(axis=0)) * _dot(weight, both) - 4 * total * _dot(square, both)
    pairs += 4 * _dot(cube, both) + 2 * _dot(square, squares)
    triples = total * (_dot(weight, product) - _dot(weight, squares)) - shared
    triples -= _dot(weight, (gram @ square) * beside) + _dot(weight, along * (other @ square))
    triples += 2 * _dot(cube, both)
    fours = _dot(weight, along) * _dot(weight, beside) - 4 * shared - 2 * _dot(square, squares)
    return pairs - 2 * triples + fours


def _dot(a: Float[np.ndarray, "n b"], b: Float[np.ndarray, "n b"]) -> Samples:
    return np.einsum("ij,ij->j", a, b)
