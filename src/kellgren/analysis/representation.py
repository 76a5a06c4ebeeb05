"""What all features say about the grades, whatever the axis: order, path and dimension.

Each measure has a `sampled_` form that takes counts of the cases, one column a resample.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigvalsh
from scipy.spatial.distance import cdist
from scipy.stats import entropy, rankdata

from kellgren.analysis.geometry import adjacent_distances, in_their_span, weighted_cases
from kellgren.analysis.resampling import Counts, Samples, blocks
from kellgren.labels import KL_GRADES

MOST_CASES = 400  # of which all pairs and triplets are looked at; of more, a random part is


@dataclass(frozen=True)
class Similarity:
    """How the distances of knees among the features go with the difference of their grades.

    Attributes:
        rho: Spearman correlation over all pairs of knees.
        p: Share of relabellings of the knees with a correlation at least as large, one added.
    """

    rho: float
    p: float


def triplet_order(
    z: Float[np.ndarray, "n f"], kl: Int[np.ndarray, " n"], *, rng: np.random.Generator
) -> float:
    """Share of triplets of knees of three different grades whose extreme two are farthest apart.

    1/3 where the features do not know the grade. NaN without such a triplet.

    Args:
        z: Features.
        kl: Grades.
        rng: Chooses the cases where there are more than `MOST_CASES`.
    """
    rows = _part(len(kl), rng)
    z, kl = z[rows], kl[rows]
    apart = cdist(z, z)
    ordered, triplets = 0, 0
    for j in range(len(kl)):
        low, high = np.flatnonzero(kl < kl[j]), np.flatnonzero(kl > kl[j])
        longest = np.maximum(apart[low, j][:, None], apart[j, high][None, :])
        ordered += int((apart[np.ix_(low, high)] > longest).sum())
        triplets += longest.size
    return ordered / triplets if triplets else float("nan")


def straightness(z: Float[np.ndarray, "n f"], kl: Int[np.ndarray, " n"]) -> float:
    """Distance of the centroids of grades 0 and 4 over the length of the way through all five.

    1 for a straight line, near 0 for a way that turns back; NaN where a grade is absent.
    """
    way = float(adjacent_distances(z, kl).sum())
    if not way > 0:
        return float("nan")
    ends = z[kl == KL_GRADES - 1].mean(axis=0) - z[kl == 0].mean(axis=0)
    return float(np.linalg.norm(ends)) / way


def participation_ratio(z: Float[np.ndarray, "n f"]) -> float:
    """(sum of variances)^2 / sum of their squares along the principal axes: how many matter.

    1 where all variance lies along one axis, f where it is spread evenly; NaN without variance.

    >>> round(participation_ratio(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])), 6)
    2.0
    """
    return float(_participation(_variances(z))[0])


def effective_rank(z: Float[np.ndarray, "n f"]) -> float:
    """Exponential of the entropy of the shares of variance (Roy and Vetterli 2007).

    NaN without variance.
    """
    return float(_rank(_variances(z))[0])


def grade_similarity(
    z: Float[np.ndarray, "n f"],
    kl: Int[np.ndarray, " n"],
    *,
    rng: np.random.Generator,
    permutations: int = 1000,
) -> Similarity:
    """Representational similarity of features and grades (Kriegeskorte et al. 2008).

    Pairs share knees, so that no p-value of a correlation holds; the knees are relabelled instead.

    Args:
        z: Features.
        kl: Grades.
        rng: Source of the relabellings, and of the cases where there are more than `MOST_CASES`.
        permutations: Number of relabellings.
    """
    rows = _part(len(kl), rng)
    z, kl = z[rows], kl[rows]
    one, other = np.triu_indices(len(kl), k=1)
    apart = _standard(rankdata(cdist(z, z)[one, other])) if len(kl) > 1 else np.zeros(0)
    gap = np.abs(kl[one] - kl[other])
    if not apart.any() or len(np.unique(gap)) < 2:
        return Similarity(float("nan"), float("nan"))
    rank_of_gap = np.full(KL_GRADES, np.nan)
    rank_of_gap[gap] = _standard(rankdata(gap))
    table = rank_of_gap[np.abs(np.arange(KL_GRADES)[:, None] - np.arange(KL_GRADES))]
    rho = float(apart @ rank_of_gap[gap])
    relabelled = (rng.permutation(kl) for _ in range(permutations))
    drawn = np.array([apart @ table[said[one], said[other]] for said in relabelled])
    return Similarity(rho, float((np.sum(drawn >= rho - 1e-12) + 1) / (permutations + 1)))


def sampled_triplet_order(
    z: Float[np.ndarray, "n f"],
    kl: Int[np.ndarray, " n"],
    counts: Counts,
    *,
    rng: np.random.Generator,
) -> Samples:
    """`triplet_order` on every resample.

    A triplet counts as often as the product of the counts of its knees. They are of three grades
    and so never the same knee twice.
    """
    rows = _part(len(kl), rng)
    z, kl, drawn = z[rows], kl[rows], counts[rows].astype(np.float64)
    apart = cdist(z, z)
    ordered, triplets = np.zeros((2, counts.shape[1]))
    for j in range(len(kl)):
        low, high = kl < kl[j], kl > kl[j]
        longest = np.maximum(apart[low, j][:, None], apart[j, high][None, :])
        farthest = (apart[np.ix_(low, high)] > longest).astype(np.float64)
        ordered += drawn[j] * np.einsum("ij,ij->j", drawn[low], farthest @ drawn[high])
        triplets += drawn[j] * drawn[low].sum(axis=0) * drawn[high].sum(axis=0)
    return ordered / np.where(triplets > 0, triplets, np.nan)


def sampled_straightness(
    z: Float[np.ndarray, "n f"], kl: Int[np.ndarray, " n"], counts: Counts
) -> Samples:
    """`straightness` on every resample; NaN where a grade was not drawn."""
    moved, centroids = in_their_span(z)[0], []
    for k in range(KL_GRADES):
        drawn = counts[kl == k].astype(np.float64)
        cases = drawn.sum(axis=0)
        centroids.append(drawn.T @ moved[kl == k] / np.where(cases > 0, cases, np.nan)[:, None])
    way = sum(np.linalg.norm(b - a, axis=1) for a, b in pairwise(centroids))
    return np.linalg.norm(centroids[-1] - centroids[0], axis=1) / np.where(way > 0, way, np.nan)


def sampled_dimensions(z: Float[np.ndarray, "n f"], counts: Counts) -> dict[str, Samples]:
    """`participation_ratio` and `effective_rank` on every resample, by name."""
    spanned, _ = in_their_span(z)
    variance = np.zeros((spanned.shape[1], counts.shape[1]))
    for i, count in enumerate(counts.T):
        weighted = weighted_cases(spanned, count)
        wide = len(weighted) < weighted.shape[1]
        square = weighted @ weighted.T if wide else weighted.T @ weighted
        variance[: len(square), i] = eigvalsh(square)
    return {
        "participation_ratio": _participation(variance),
        "effective_rank": _rank(np.maximum(variance, 0)),
    }


def sampled_similarity(
    z: Float[np.ndarray, "n f"],
    kl: Int[np.ndarray, " n"],
    counts: Counts,
    *,
    rng: np.random.Generator,
) -> Samples:
    """`grade_similarity`'s rho on every resample.

    A pair counts as often as the product of the counts of its knees. Pairs of a knee with itself
    are left out: they have no distance and no difference of grade whatever the features are.
    """
    rows = _part(len(kl), rng)
    z, kl, drawn = z[rows], kl[rows], counts[rows].astype(np.float64)
    one, other = np.triu_indices(len(kl), k=1)
    apart = cdist(z, z)[one, other]
    near_first = np.argsort(apart, kind="stable")
    one, other, apart = one[near_first], other[near_first], apart[near_first]
    gap, place = np.abs(kl[one] - kl[other]), np.searchsorted(np.unique(apart), apart)
    return np.concatenate(
        [
            _weighted_spearman(place, gap, drawn[one, block] * drawn[other, block])
            for block in blocks(len(one), counts.shape[1])
        ]
    )


def _weighted_spearman(
    place: Int[np.ndarray, " m"], gap: Int[np.ndarray, " m"], weight: Float[np.ndarray, "m b"]
) -> Samples:
    """Spearman correlation of two columns of levels, row i counting `weight[i]` times.

    `place` rises by at most one from row to row, so that equal places stand together.
    """
    of_gap = (gap == np.arange(KL_GRADES)[:, None]).astype(np.float64)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    tied, by_gap = np.add.reduceat(weight, starts, axis=0), of_gap @ weight
    total = by_gap.sum(axis=0)
    rank, rank_of_gap = (np.cumsum(w, axis=0) - (w + total) / 2 for w in (tied, by_gap))
    together = ((of_gap @ (weight * rank[place])) * rank_of_gap).sum(axis=0)
    square = (tied * rank**2).sum(axis=0) * (by_gap * rank_of_gap**2).sum(axis=0)
    return together / np.sqrt(np.where(square > 0, square, np.nan))


def _variances(z: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "r 1"]:
    spanned, _ = in_their_span(z)
    return (spanned**2).sum(axis=0)[:, None]


def _participation(variance: Float[np.ndarray, "r b"]) -> Samples:
    square = (variance**2).sum(axis=0)
    return variance.sum(axis=0) ** 2 / np.where(square > 0, square, np.nan)


def _rank(variance: Float[np.ndarray, "r b"]) -> Samples:
    total = variance.sum(axis=0)
    return np.exp(entropy(variance / np.where(total > 0, total, np.nan)))


def _standard(rank: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    centred = rank - rank.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0 else centred


def _part(n: int, rng: np.random.Generator) -> Int[np.ndarray, " m"]:
    if n <= MOST_CASES:
        return np.arange(n)
    return np.sort(rng.choice(n, MOST_CASES, replace=False))
