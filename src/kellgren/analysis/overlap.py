"""Saliency against cartilage: mass@ROI, top1@ROI, Dice@q (section 3.5.3, Table 3)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from kellgren.faults import InputError

PERCENTS = (1, 5, 10)
SAMPLED_VOXELS = 200_000
DROPPED_BITS = 12  # of the 24 significant bits of a float32
CHUNK = 1 << 21


@dataclass(frozen=True)
class Overlap:
    """How the saliency of one volume lies on its cartilage.

    T_q are the q % most salient voxels, exactly ceil(q N / 100) of N. Voxels that tie at the
    threshold belong to it in part, in equal shares, which is the expectation over random
    tie-breaks. Nothing changes when the saliency is multiplied by a positive number. With an empty
    mask everything but `share_top1_mass` is NaN; with saliency that is zero everywhere the two
    shares of mass are NaN and the others are those of chance.

    Attributes:
        mass_roi: Share of the saliency that lies inside cartilage.
        top1_roi: Share of T_1 that is cartilage.
        dice_5: Dice of T_5 and cartilage; it cannot exceed `dice_ceiling_5`.
        dice_10: Dice of T_10 and cartilage.
        precision_5: Share of T_5 that is cartilage.
        precision_10: Share of T_10 that is cartilage.
        recall_1: Share of the cartilage that is in T_1.
        recall_5: Share of the cartilage that is in T_5.
        recall_10: Share of the cartilage that is in T_10.
        enrichment_1: `top1_roi` over the share of cartilage in the volume; 1 is chance.
        enrichment_5: `precision_5` over the same.
        enrichment_10: `precision_10` over the same.
        dice_ceiling_5: Largest Dice that any map can have with T_5, as the sizes differ.
        dice_ceiling_10: Largest Dice that any map can have with T_10.
        ap: Average precision of the saliency as a score of cartilage; chance is `cartilage_share`.
        auroc: Probability that a voxel of cartilage is more salient than one outside, ties one
            half; chance is 0.5. Both rank voxels by their saliency rounded down to 12 significant
            bits.
        share_top1_mass: Share of the saliency that lies in T_1.
        cartilage_share: Share of the voxels that are cartilage; what chance gives for the mass.
        fault: Why a value is missing: "no cartilage", "no saliency", or empty.
    """

    mass_roi: float
    top1_roi: float
    dice_5: float
    dice_10: float
    precision_5: float
    precision_10: float
    recall_1: float
    recall_5: float
    recall_10: float
    enrichment_1: float
    enrichment_5: float
    enrichment_10: float
    dice_ceiling_5: float
    dice_ceiling_10: float
    ap: float
    auroc: float
    share_top1_mass: float
    cartilage_share: float
    fault: str


@dataclass(frozen=True)
class Top:
    """The q % most salient voxels.

    Attributes:
        size: Number of voxels, ceil(q N / 100).
        threshold: Smallest saliency among them.
        above: Number of voxels above the threshold.
        tied_share: Share of the voxels at the threshold that belong to them.
    """

    size: int
    threshold: float
    above: int
    tied_share: float


def saliency_overlap(
    saliency: Float[np.ndarray, "d h w"], cartilage: Bool[np.ndarray, "d h w"]
) -> Overlap:
    """Compare where the model looks with where the cartilage is.

    Args:
        saliency: Saliency of each voxel, at least 0, on the grid of the mask.
        cartilage: True inside cartilage.

    Raises:
        InputError: If a saliency is negative or not finite.
    """
    values = saliency.ravel()
    inside = values[cartilage.ravel()]
    total = float(values.sum(dtype=np.float64))
    _check(values, total)
    n, c = len(values), len(inside)
    tops = {q: top for q, top in zip(PERCENTS, top_voxels(values), strict=True)}
    nan = float("nan")
    hits = {q: _hits(inside, top) if c else nan for q, top in tops.items()}
    enriched = {q: hits[q] / tops[q].size * n / c if c else nan for q in PERCENTS}
    ap, auroc = ranking(values, inside) if 0 < c < n else (nan, nan)
    top1 = tops[1]
    top1_mass = float(values[values > top1.threshold].sum(dtype=np.float64))
    top1_mass += (top1.size - top1.above) * top1.threshold
    return Overlap(
        mass_roi=float(inside.sum(dtype=np.float64)) / total if c and total else nan,
        top1_roi=hits[1] / top1.size,
        dice_5=2 * hits[5] / (tops[5].size + c),
        dice_10=2 * hits[10] / (tops[10].size + c),
        precision_5=hits[5] / tops[5].size,
        precision_10=hits[10] / tops[10].size,
        recall_1=hits[1] / c if c else nan,
        recall_5=hits[5] / c if c else nan,
        recall_10=hits[10] / c if c else nan,
        enrichment_1=enriched[1],
        enrichment_5=enriched[5],
        enrichment_10=enriched[10],
        dice_ceiling_5=2 * min(tops[5].size, c) / (tops[5].size + c) if c else nan,
        dice_ceiling_10=2 * min(tops[10].size, c) / (tops[10].size + c) if c else nan,
        ap=ap,
        auroc=auroc,
        share_top1_mass=top1_mass / total if total else nan,
        cartilage_share=c / n,
        fault="no cartilage" if not c else "no saliency" if not total else "",
    )


def top_voxels(values: Float[np.ndarray, " n"]) -> list[Top]:
    """The 1 %, 5 % and 10 % most salient of some voxels, by one partial sort."""
    sizes = [-(-percent * len(values) // 100) for percent in PERCENTS]
    guess = _low_guess(values)
    tail = values[values > guess]
    at_guess = int(np.count_nonzero(values == guess))
    if len(tail) + at_guess < sizes[-1]:  # the guess was too high
        tail, at_guess = values, 0
    within = [len(tail) - size for size in sizes if size <= len(tail)]
    ordered = np.partition(tail, within) if within else tail
    return [_top(size, ordered, guess=guess, at_guess=at_guess) for size in sizes]


def _low_guess(values: Float[np.ndarray, " n"]) -> float:
    """A value that is probably a little below the threshold of the largest share, from a sample."""
    some = values[:: max(1, len(values) // SAMPLED_VOXELS)]
    place = int(len(some) * (1 - 1.2 * PERCENTS[-1] / 100))
    return float(np.partition(some, place)[place])


def _top(size: int, ordered: Float[np.ndarray, " m"], *, guess: float, at_guess: int) -> Top:
    """The top voxels, from the ordered values above the guess and the number of those at it."""
    if size > len(ordered):
        return Top(size, guess, len(ordered), (size - len(ordered)) / at_guess)
    tail = ordered[len(ordered) - size :]
    threshold = float(tail[0])
    above = int(np.count_nonzero(tail > threshold))
    tied = int(np.count_nonzero(ordered == threshold))
    return Top(size, threshold, above, (size - above) / tied)


def ranking(
    values: Float[np.ndarray, " n"], inside: Float[np.ndarray, " c"]
) -> tuple[float, float]:
    """Average precision and area under the ROC curve of values as a score of being inside.

    Values are at least 0 and are rounded down to 12 significant bits first, which makes ties of
    values that differ by less than one in 2,048; tied voxels share one threshold. Ranking by
    histogram takes a tenth of the time of sorting.

    Args:
        values: All values.
        inside: Those of them that are inside, at least one and not all.
    """
    bins = 1 + int(_leading_bits(values.max(keepdims=True))[0])
    everywhere, hits = _histogram(values, bins)[::-1], _histogram(inside, bins)[::-1]
    kept = np.flatnonzero(everywhere)
    here, hit = everywhere[kept], hits[kept]
    above, hits_above = np.cumsum(here), np.cumsum(hit)
    ap = float((hit * (hits_above / above)).sum() / len(inside))
    outside_below = (len(values) - len(inside)) - (above - hits_above)
    wins = (hit * (outside_below + (here - hit) / 2)).sum()
    return ap, float(wins / (len(inside) * (len(values) - len(inside))))


def _histogram(values: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " m"]:
    """Count of the values by their leading bits."""
    counts = np.zeros(bins, dtype=np.int64)
    for start in range(0, len(values), CHUNK):
        counts += np.bincount(_leading_bits(values[start : start + CHUNK]), minlength=bins)
    return counts


def _leading_bits(values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """A number that rises with the value: the bits of floats of at least 0 are ordered."""
    part = values.astype(np.float32) + np.float32(0)  # -0 becomes 0
    return part.view(np.int32) >> DROPPED_BITS


def top_threshold(saliency: Float[np.ndarray, "d h w"], percent: int) -> float:
    """Smallest saliency among the given percent most salient voxels.

    >>> top_threshold(np.arange(200.0).reshape(2, 10, 10), 1)         # the two largest of 200
    198.0
    """
    values = saliency.ravel()
    place = len(values) - (-(-percent * len(values) // 100))
    return float(np.partition(values, place)[place])


def chance_of(metric: str, cartilage_share: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Value of a measure for a map that does not look at the volume; NaN where not defined.

    Args:
        metric: Name of an attribute of `Overlap`.
        cartilage_share: Share of cartilage in each volume.

    >>> chance_of("dice_5", np.array([0.008])).round(4)               # 2 x 0.05 c / (0.05 + c)
    array([0.0138])
    """
    name, _, percent = metric.rpartition("_")
    share = int(percent) / 100 if percent.isdigit() else float("nan")
    of_metric = {
        "mass": cartilage_share,
        "top1": cartilage_share,
        "precision": cartilage_share,
        "recall": np.full_like(cartilage_share, share),
        "enrichment": np.ones_like(cartilage_share),
        "dice": 2 * share * cartilage_share / (share + cartilage_share),
    }
    if metric in ("ap", "auroc"):
        return cartilage_share if metric == "ap" else np.full_like(cartilage_share, 0.5)
    return of_metric.get(name, np.full_like(cartilage_share, np.nan))


def _hits(inside: Float[np.ndarray, " c"], top: Top) -> float:
    """Number of cartilage voxels among the top voxels, those at the threshold in part."""
    above = int((inside > top.threshold).sum())
    tied = int((inside == top.threshold).sum())
    return above + tied * top.tied_share


def _check(values: Float[np.ndarray, " n"], total: float) -> None:
    if not len(values):
        raise InputError("a saliency map", "no voxel", "at least one", "check its grid")
    if not np.isfinite(total) or values.min() < 0:
        raise InputError(
            "a saliency map",
            f"values from {values.min()} to {values.max()}",
            "numbers of at least 0",
            "take absolute gradients, or their positive part",
        )
