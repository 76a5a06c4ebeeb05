"""Whether the features put the grades in order: what the four distances of Table 2 cannot say.

rho(k, d_adj) is about spacing. These measures are about order: over triplets of knees, between
neighbouring grades, along the first and along a supervised axis, and over all pairs of knees.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from kellgren.analysis.geometry import adjacent_distances, spearman
from kellgren.analysis.ordinal import sampled_tau_b
from kellgren.analysis.performance import auc
from kellgren.labels import KL_GRADES, oa_from_kl
from kellgren.tables import Features

MOST_CASES = 400  # of which all pairs and triplets are looked at; of more, a random part is


@dataclass(frozen=True)
class Order:
    """How an axis orders the grades. Each AUC is 0.5 where it says nothing.

    Attributes:
        rho_kl: Spearman correlation of the axis with the grade.
        tau_kl: Kendall's tau-b of it.
        eta2_kl: Share of its variance that lies between the grades.
        auc_oa: AUC for OA.
        auc_01: AUC of grade 1 against grade 0; NaN where one is absent.
        auc_12: Of grade 2 against grade 1, the boundary of OA.
        auc_23: Of grade 3 against grade 2.
        auc_34: Of grade 4 against grade 3.
        auc_04: Of grade 4 against grade 0.
    """

    rho_kl: float
    tau_kl: float
    eta2_kl: float
    auc_oa: float
    auc_01: float
    auc_12: float
    auc_23: float
    auc_34: float
    auc_04: float


@dataclass(frozen=True)
class Similarity:
    """How the distances of knees among the features go with the difference of their grades.

    Attributes:
        rho: Spearman correlation over all pairs of knees.
        p: Share of relabellings of the knees with a correlation at least as large, one added.
    """

    rho: float
    p: float


def order(score: Float[np.ndarray, " n"], kl: Int[np.ndarray, " n"]) -> Order:
    """How a score orders the grades; it should rise with them (see `geometry.oriented`)."""
    once = np.ones((len(kl), 1), dtype=np.int32)
    defined = len(kl) > 0 and not np.isnan(score).any()
    return Order(
        rho_kl=spearman(score, kl),
        tau_kl=float(sampled_tau_b(score, kl, once)[0]) if defined else float("nan"),
        eta2_kl=_between_share(score, kl),
        auc_oa=auc(oa_from_kl(kl), score) if defined else float("nan"),
        auc_01=pair_auc(score, kl, low=0, high=1),
        auc_12=pair_auc(score, kl, low=1, high=2),
        auc_23=pair_auc(score, kl, low=2, high=3),
        auc_34=pair_auc(score, kl, low=3, high=4),
        auc_04=pair_auc(score, kl, low=0, high=4),
    )


def pair_auc(
    score: Float[np.ndarray, " n"], kl: Int[np.ndarray, " n"], *, low: int, high: int
) -> float:
    """AUC of a score for one grade against another; NaN where one of them is absent."""
    rows = (kl == low) | (kl == high)
    return auc(kl[rows] == high, score[rows]) if not np.isnan(score).any() else float("nan")


def supervised_axis(train: Features) -> Float[np.ndarray, " f"]:
    """Unit vector from the centroid of grade 0 to that of grade 4; NaN where one is absent."""
    if not (train.kl == 0).any() or not (train.kl == KL_GRADES - 1).any():
        return np.full(train.z.shape[1], np.nan)
    step = train.z[train.kl == KL_GRADES - 1].mean(axis=0) - train.z[train.kl == 0].mean(axis=0)
    length = float(np.linalg.norm(step))
    return step / length if length > 0 else np.full(train.z.shape[1], np.nan)


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
    variance = np.linalg.svd(z - z.mean(axis=0), compute_uv=False) ** 2
    return float(variance.sum() ** 2 / (variance**2).sum()) if variance.sum() > 0 else float("nan")


def effective_rank(z: Float[np.ndarray, "n f"]) -> float:
    """Exponential of the entropy of the shares of variance (Roy and Vetterli 2007).

    NaN without variance.
    """
    variance = np.linalg.svd(z - z.mean(axis=0), compute_uv=False) ** 2
    if not variance.sum() > 0:
        return float("nan")
    share = variance[variance > 0] / variance.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


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


def _standard(rank: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    centred = rank - rank.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0 else centred


def _between_share(score: Float[np.ndarray, " n"], kl: Int[np.ndarray, " n"]) -> float:
    if not len(score) or np.isnan(score).any() or np.ptp(score) == 0:
        return float("nan")
    centred = score - score.mean()
    groups = [centred[kl == k] for k in range(KL_GRADES) if (kl == k).any()]
    between = sum(len(group) * float(group.mean()) ** 2 for group in groups)
    return float(between / (centred**2).sum())


def _part(n: int, rng: np.random.Generator) -> Int[np.ndarray, " m"]:
    if n <= MOST_CASES:
        return np.arange(n)
    return np.sort(rng.choice(n, MOST_CASES, replace=False))
