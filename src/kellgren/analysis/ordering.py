"""Whether an axis of the features puts the grades in order: what Table 2 cannot say.

rho(k, d_adj) is about spacing. These measures are about order, between neighbouring grades too,
along the first and along a supervised axis.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from kellgren.analysis.geometry import refitted_axes, rising, spearman
from kellgren.analysis.ordinal import sampled_tau_b
from kellgren.analysis.performance import auc
from kellgren.analysis.resampling import Counts, Samples, blocks, sums_over
from kellgren.labels import KL_GRADES, oa_from_kl
from kellgren.tables import Features

GRADES = np.arange(KL_GRADES)


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


def sampled_order(
    score: Float[np.ndarray, "n #b"], kl: Int[np.ndarray, " n"], counts: Counts
) -> dict[str, Samples]:
    """Every measure of `Order` on every resample, by name; a repeated case ties with itself.

    Args:
        score: Coordinate of each case along the axis: one column for all resamples, or one for
            each where the axis is fitted anew.
        kl: Grades.
        counts: Count of each case, one column a resample.
    """
    parts = [
        _order_of_block(score[:, block] if score.shape[1] > 1 else score, kl, counts[:, block])
        for block in blocks(*counts.shape)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def refitted_scores(
    cases: Features, counts: Counts, *, oriented_on: Features | None = None
) -> Float[np.ndarray, "n b"]:
    """PC1 of the cases, fitted anew on every resample of them; NaN where they do not vary.

    Args:
        cases: Cases that the axis is fitted on.
        counts: Count of each case, one column a resample.
        oriented_on: Cases on which PC1 is to rise with the grade; None for the resample itself.
    """
    directions, _ = refitted_axes(cases.z, counts)
    centred = cases.z - cases.z.mean(axis=0)
    if oriented_on is not None:
        return centred @ rising(directions, oriented_on)
    score = centred @ directions
    return np.where(sampled_order(score, cases.kl, counts)["rho_kl"] < 0, -score, score)


def supervised_axis(train: Features) -> Float[np.ndarray, " f"]:
    """Unit vector from the centroid of grade 0 to that of grade 4; NaN where one is absent."""
    if not (train.kl == 0).any() or not (train.kl == KL_GRADES - 1).any():
        return np.full(train.z.shape[1], np.nan)
    step = train.z[train.kl == KL_GRADES - 1].mean(axis=0) - train.z[train.kl == 0].mean(axis=0)
    length = float(np.linalg.norm(step))
    return step / length if length > 0 else np.full(train.z.shape[1], np.nan)


def _order_of_block(
    score: Float[np.ndarray, "n #b"], kl: Int[np.ndarray, " n"], counts: Counts
) -> dict[str, Samples]:
    cases = sums_over(kl[None, :] == GRADES[:, None], counts).astype(np.float64)
    wins, same_score = _wins(score, kl, counts)
    varies = same_score[0] < cases.sum(axis=0) ** 2
    found = {
        "rho_kl": _rho(wins, same_score, cases),
        "tau_kl": _tau_b(wins, same_score, cases),
        "eta2_kl": np.where(varies, _sampled_between_share(score, kl, counts), np.nan),
        "auc_oa": _area(wins, cases, oa_from_kl(GRADES), ~oa_from_kl(GRADES)),
    }
    for low, high in ((0, 1), (1, 2), (2, 3), (3, 4), (0, 4)):
        found[f"auc_{low}{high}"] = _area(
            wins, cases, np.equal(GRADES, high), np.equal(GRADES, low)
        )
    known = ~np.isnan(score).any(axis=0)
    return {name: np.where(known, values, np.nan) for name, values in found.items()}


def _wins(
    score: Float[np.ndarray, "n #b"], kl: Int[np.ndarray, " n"], counts: Counts
) -> tuple[Float[np.ndarray, "5 5 b"], Float[np.ndarray, "2 b"]]:
    """How often a case of grade k (row) lies beyond one of grade j (column), ties one half.

    And the sums of the second and third power of how many cases share a score.
    """
    by_score = np.argsort(score, axis=0, kind="stable")
    drawn = np.take_along_axis(counts.astype(np.float64), by_score, axis=0)
    of_grade = [drawn * (kl[by_score] == k) for k in GRADES]
    first, past = _runs(np.take_along_axis(score, by_score, axis=0))
    wins, tied = np.zeros((KL_GRADES, KL_GRADES, counts.shape[1])), np.zeros_like(drawn)
    up_to = np.zeros((len(drawn) + 1, counts.shape[1]))
    for j in GRADES:
        np.cumsum(of_grade[j], axis=0, out=up_to[1:])
        below, not_above = (np.take_along_axis(up_to, at, axis=0) for at in (first, past))
        tied += not_above - below
        for k in GRADES:
            wins[k, j] = np.einsum("ij,ij->j", of_grade[k], (below + not_above) / 2)
    return wins, np.stack([(drawn * tied**power).sum(axis=0) for power in (1, 2)])


def _runs(ascending: Float[np.ndarray, "n #b"]) -> tuple[Int[np.ndarray, "n #b"], ...]:
    """Where the run of equal values begins that each value stands in, and where it has ended."""
    n = len(ascending)
    place = np.arange(n)[:, None]
    begins = np.vstack([np.ones_like(ascending[:1], dtype=bool), ascending[1:] != ascending[:-1]])
    ends = np.vstack([begins[1:], begins[:1]])
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=0)
    past = np.minimum.accumulate(np.where(ends, place + 1, n)[::-1], axis=0)[::-1]
    return first, past


def _rho(
    wins: Float[np.ndarray, "5 5 b"],
    same_score: Float[np.ndarray, "2 b"],
    cases: Float[np.ndarray, "5 b"],
) -> Samples:
    """Spearman's rho: mid-ranks are counts of cases below plus half of those that tie."""
    n = cases.sum(axis=0)
    rank_sums, rank_of_grade = wins.sum(axis=1) + cases / 2, cases.cumsum(axis=0) - (cases - 1) / 2
    together = (rank_sums * rank_of_grade).sum(axis=0) - n * ((n + 1) / 2) ** 2
    square = (n**3 - same_score[1]) * (n**3 - (cases**3).sum(axis=0))
    return 12 * together / np.sqrt(np.where(square > 0, square, np.nan))


def _tau_b(
    wins: Float[np.ndarray, "5 5 b"],
    same_score: Float[np.ndarray, "2 b"],
    cases: Float[np.ndarray, "5 b"],
) -> Samples:
    n = cases.sum(axis=0)
    above = np.tril(np.ones((KL_GRADES, KL_GRADES)), k=-1)
    net = np.einsum("kj,kjb->b", above - above.T, wins)
    square = (n**2 - same_score[0]) * (n**2 - (cases**2).sum(axis=0))
    return 2 * net / np.sqrt(np.where(square > 0, square, np.nan))


def _area(
    wins: Float[np.ndarray, "5 5 b"],
    cases: Float[np.ndarray, "5 b"],
    high: Bool[np.ndarray, " 5"],
    low: Bool[np.ndarray, " 5"],
) -> Samples:
    pairs = cases[high].sum(axis=0) * cases[low].sum(axis=0)
    return wins[high][:, low].sum(axis=(0, 1)) / np.where(pairs > 0, pairs, np.nan)


def _sampled_between_share(
    score: Float[np.ndarray, "n #b"], kl: Int[np.ndarray, " n"], counts: Counts
) -> Samples:
    drawn = counts.astype(np.float64)
    centred = score - (drawn * score).sum(axis=0) / drawn.sum(axis=0)
    of_grade = [
        ((drawn * centred)[kl == k].sum(axis=0), drawn[kl == k].sum(axis=0)) for k in GRADES
    ]
    between = sum(total**2 / np.maximum(cases, 1) for total, cases in of_grade)
    whole = (drawn * centred**2).sum(axis=0)
    return between / np.where(whole > 0, whole, np.nan)


def _between_share(score: Float[np.ndarray, " n"], kl: Int[np.ndarray, " n"]) -> float:
    if not len(score) or np.isnan(score).any() or np.ptp(score) == 0:
        return float("nan")
    centred = score - score.mean()
    groups = [centred[kl == k] for k in range(KL_GRADES) if (kl == k).any()]
    between = sum(len(group) * float(group.mean()) ** 2 for group in groups)
    return float(between / (centred**2).sum())
