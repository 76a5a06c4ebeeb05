"""Severity axis: how the first principal axis of the features orders disease (section 3.5.2).

Features are centred by column and never scaled.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import eigh
from scipy.stats import rankdata

from kellgren.analysis.performance import auc
from kellgren.faults import InputError
from kellgren.labels import KL_GRADES, oa_from_kl
from kellgren.tables import Features


@dataclass(frozen=True)
class PrincipalAxis:
    """First principal axis of some features.

    Attributes:
        centre: Mean of the features.
        direction: Unit vector along the axis; NaN where the features do not vary.
        evr: Share of the variance that lies along it; NaN where the features do not vary.
    """

    centre: Float[np.ndarray, " f"]
    direction: Float[np.ndarray, " f"]
    evr: float

    def score(self, z: Float[np.ndarray, "n f"]) -> Float[np.ndarray, " n"]:
        """Coordinate of each case along the axis, PC1 in the paper."""
        return (z - self.centre) @ self.direction


@dataclass(frozen=True)
class SeverityAxis:
    """How far the first principal axis of the features orders disease severity (Table 2).

    The sign of a principal axis is arbitrary, so only magnitudes can be compared between models.
    The signed values belong to the axis turned so that PC1 rises with the KL grade on the training
    split.

    Attributes:
        n: Number of cases that are evaluated.
        evr_pc1: Share of the variance of the fitted cases that lies along the axis.
        rho_kl: Spearman correlation of PC1 with the KL grade, ties by mid-rank.
        rho_oa: Spearman correlation of PC1 with the OA label.
        abs_rho_kl: Magnitude of `rho_kl`, the headline.
        abs_rho_oa: Magnitude of `rho_oa`, the headline.
        auroc_oa: AUC of a one-dimensional OA probe on PC1, fitted on the cases that the axis was
            fitted on. Such a probe is monotone, so it only chooses a direction: on its own cases
            the AUC is at least 0.5, on others it may be below. Without ties in PC1 it is
            determined by `abs_rho_oa`, see `rho_of_auroc`.
        rho_adjacent: Spearman correlation of grade k with the distance from the centroid of grade
            k to that of grade k + 1 over all features, rho(k, d_adj). It says whether the spacing
            grows, not whether the grades are in order.
        p_adjacent: Exact two-sided p-value of it over the 24 orders of four distances; it cannot
            be below 2 / 24.
        distance_01: Distance between the centroids of grades 0 and 1; NaN where one is absent.
        distance_12: Of grades 1 and 2.
        distance_23: Of grades 2 and 3.
        distance_34: Of grades 3 and 4.
    """

    n: int
    evr_pc1: float
    rho_kl: float
    rho_oa: float
    abs_rho_kl: float
    abs_rho_oa: float
    auroc_oa: float
    rho_adjacent: float
    p_adjacent: float
    distance_01: float
    distance_12: float
    distance_23: float
    distance_34: float


def severity_axis(
    cases: Features, *, fitted_on: Features | None = None, oriented_on: Features | None = None
) -> SeverityAxis:
    """Measure the severity axis of some cases.

    The paper does not state on which cases the axis is fitted and evaluated; its printed
    correlations fit the test cases for both, which is the default here.

    Args:
        cases: Cases that are evaluated.
        fitted_on: Cases that the axis, and the probe, are fitted on; None for `cases`.
        oriented_on: Cases on which PC1 is to rise with the KL grade, normally the training split.
            None leaves the direction in which the largest loading is positive.

    Raises:
        InputError: If there is no case, or the two tables have features of different length.
    """
    fitted = fitted_on or cases
    _check(cases, fitted)
    axis = principal_axis(fitted.z)
    if oriented_on is not None:
        axis = oriented(axis, oriented_on)
    pc1, oa = axis.score(cases.z), oa_from_kl(cases.kl)
    rho_kl, rho_oa, area = spearman(pc1, cases.kl), spearman(pc1, oa), _auc(oa, pc1)
    probe_falls = _auc(oa_from_kl(fitted.kl), axis.score(fitted.z)) < 0.5
    distances = adjacent_distances(cases.z, cases.kl)
    rho_adjacent, p_adjacent = spacing_trend(distances)
    return SeverityAxis(
        n=len(cases.kl),
        evr_pc1=axis.evr,
        rho_kl=rho_kl,
        rho_oa=rho_oa,
        abs_rho_kl=abs(rho_kl),
        abs_rho_oa=abs(rho_oa),
        auroc_oa=1 - area if probe_falls else area,
        rho_adjacent=rho_adjacent,
        p_adjacent=p_adjacent,
        distance_01=float(distances[0]),
        distance_12=float(distances[1]),
        distance_23=float(distances[2]),
        distance_34=float(distances[3]),
    )


def principal_axis(z: Float[np.ndarray, "n f"]) -> PrincipalAxis:
    """First principal axis by singular value decomposition; its largest loading is positive."""
    centre = z.mean(axis=0)
    _, singular, rows = np.linalg.svd(z - centre, full_matrices=False)
    total = float((singular**2).sum())
    if not _varies(z):
        return PrincipalAxis(centre, np.full(z.shape[1], np.nan), float("nan"))
    direction = rows[0] * np.sign(rows[0][np.abs(rows[0]).argmax()])
    return PrincipalAxis(centre, direction, float(singular[0] ** 2 / total))


def oriented(axis: PrincipalAxis, cases: Features) -> PrincipalAxis:
    """The axis, turned so that PC1 does not fall with the KL grade over the given cases."""
    if spearman(axis.score(cases.z), cases.kl) < 0:
        return PrincipalAxis(axis.centre, -axis.direction, axis.evr)
    return axis


def spearman(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"] | Int[np.ndarray, " n"] | Bool[np.ndarray, " n"],
) -> float:
    """Spearman's rank correlation, ties by mid-rank; NaN where either does not vary.

    >>> round(spearman(np.arange(1.0, 6.0), np.array([5, 6, 7, 8, 7])), 4)
    0.8208
    """
    if not len(x) or np.isnan(x).any():
        return float("nan")
    return float(_rank_correlation(x[None], y[None])[0])


def sampled_spearman(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"] | Int[np.ndarray, " n"],
    counts: Int[np.ndarray, "n b"],
) -> Float[np.ndarray, " b"]:
    """`spearman` on every resample, given as the count of each case, one column a resample."""
    if np.isnan(x).any():
        return np.full(counts.shape[1], np.nan)
    cases = np.arange(len(x))
    drawn = np.stack([np.repeat(cases, count) for count in counts.T])
    return _rank_correlation(x[drawn], y[drawn])


def rho_of_auroc(area: float, *, positive: int, negative: int) -> float:
    """Spearman correlation with a binary label that an AUC implies, for a score without ties.

    rho = (2 A - 1) sqrt(3 n0 n1 / (n^2 - 1)): both are the same rank sum.

    >>> round(rho_of_auroc(1.0, positive=65, negative=33), 6)
    0.818598
    """
    n = positive + negative
    return float((2 * area - 1) * np.sqrt(3 * positive * negative / (n**2 - 1)))


def adjacent_distances(
    z: Float[np.ndarray, "n f"], kl: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " 4"]:
    """Euclidean distance between the centroids of grades k and k + 1; NaN where one is absent."""
    absent = np.full(z.shape[1], np.nan)
    moved = z - z[0]  # features that do not vary are then 0, and so are their distances
    centroids = [
        moved[kl == k].mean(axis=0) if (kl == k).any() else absent for k in range(KL_GRADES)
    ]
    return np.linalg.norm(np.diff(centroids, axis=0), axis=1)


def spacing_trend(distances: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """Spearman correlation of distances with their place, and its exact p over all orders.

    NaN where a distance is missing or all are equal.

    >>> spacing_trend(np.array([1.0, 2.0, 3.0, 4.0]))                 # 2 of 24 orders
    (1.0, 0.08333333333333333)
    """
    place = np.arange(len(distances), dtype=np.float64)
    rho = spearman(distances, place)
    if np.isnan(rho):
        return rho, rho
    orders = np.array(list(permutations(distances)))
    every = _rank_correlation(orders, np.tile(place, (len(orders), 1)))
    return rho, float(np.mean(np.abs(every) >= abs(rho) - 1e-9))


def axis_intervals(
    cases: Features, *, rng: np.random.Generator, resamples: int = 1000
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of `evr_pc1`, `abs_rho_kl` and `abs_rho_oa`, resampling cases.

    The axis is fitted anew on each resample. Correlations enter as magnitudes, so an interval of a
    weak one cannot reach 0. Resamples in which a value is undefined are left out.

    Args:
        cases: Cases on which the axis is fitted and evaluated.
        rng: Source of randomness.
        resamples: Number of resamples.
    """
    n = len(cases.kl)
    drawn = rng.integers(n, size=(resamples, n))
    counts = np.stack([np.bincount(rows, minlength=n) for rows in drawn], axis=1)
    directions, evr = refitted_axes(cases.z, counts)
    scores = (cases.z - cases.z.mean(axis=0)) @ directions
    pc1 = np.take_along_axis(scores.T, drawn, axis=1)
    kl, oa = cases.kl[drawn], oa_from_kl(cases.kl)[drawn]
    values = {
        "evr_pc1": evr,
        "abs_rho_kl": np.abs(_rank_correlation(pc1, kl)),
        "abs_rho_oa": np.abs(_rank_correlation(pc1, oa)),
    }
    return {name: _interval(value) for name, value in values.items()}


def refitted_axes(
    z: Float[np.ndarray, "n f"], counts: Int[np.ndarray, "n b"]
) -> tuple[Float[np.ndarray, "f b"], Float[np.ndarray, " b"]]:
    """Direction and share of variance of the first principal axis of every resample.

    The axis comes from the Gram matrix of the distinct cases, weighted by how often each was
    drawn, or from the covariance where there are fewer features than that. Its sign is arbitrary.
    NaN where the drawn cases do not vary.

    Args:
        z: Features.
        counts: Count of each case, one column a resample.
    """
    spanned, back = in_their_span(z)
    directions = np.full((spanned.shape[1], counts.shape[1]), np.nan)
    evr = np.full(counts.shape[1], np.nan)
    for i, count in enumerate(counts.T):
        if not _varies(z[count > 0]):
            continue
        weighted = weighted_cases(spanned, count)
        wide = len(weighted) <= weighted.shape[1]
        square = weighted @ weighted.T if wide else weighted.T @ weighted
        last = len(square) - 1
        value, vector = eigh(square, subset_by_index=[last, last])
        along = weighted.T @ vector[:, 0] if wide else vector[:, 0]
        directions[:, i] = along / np.linalg.norm(along)
        evr[i] = value[0] / np.trace(square)
    return back @ directions, evr


def rising(directions: Float[np.ndarray, "f b"], cases: Features) -> Float[np.ndarray, "f b"]:
    """The directions, each turned so that scores do not fall with the KL grade over the cases."""
    scores = ((cases.z - cases.z.mean(axis=0)) @ directions).T
    falls = _rank_correlation(scores, cases.kl[None]) < 0
    return np.where(falls, -directions, directions)


def in_their_span(
    z: Float[np.ndarray, "n f"],
) -> tuple[Float[np.ndarray, "n r"], Float[np.ndarray, "f r"]]:
    """The centred features in the space that they span, and the rotation back.

    It changes no inner product, and there are no more than n coordinates.
    """
    moved = z - z[0]  # features that do not vary are then 0, and stay so
    left, singular, rows = np.linalg.svd(moved - moved.mean(axis=0), full_matrices=False)
    return left * singular, rows.T


def weighted_cases(
    z: Float[np.ndarray, "n f"], count: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "m f"]:
    """The drawn cases about their mean, times the root of how often each was drawn.

    Products of it are the scatter matrix, and the Gram matrix, of the repeated cases.
    """
    drawn = np.flatnonzero(count)
    centred = z[drawn] - np.average(z[drawn], axis=0, weights=count[drawn])
    return centred * np.sqrt(count[drawn], dtype=np.float64)[:, None]


def _interval(values: Float[np.ndarray, " b"]) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def _rank_correlation(
    x: Float[np.ndarray, "b n"],
    y: Float[np.ndarray, "#b n"] | Int[np.ndarray, "#b n"] | Bool[np.ndarray, "#b n"],
) -> Float[np.ndarray, " b"]:
    """Spearman correlation of each row of x with that of y, or with its only one.

    NaN where a row is NaN or does not vary.
    """
    rank_x, rank_y = rankdata(x, axis=1), rankdata(y.astype(np.float64), axis=1)
    middle = (x.shape[1] + 1) / 2
    a, b = rank_x - middle, rank_y - middle
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(axis=1) / np.where(scale > 0, scale, np.nan))


def _varies(z: Float[np.ndarray, "n f"]) -> bool:
    # Exact, unlike a sum of squares about a rounded mean.
    return bool(np.ptp(z, axis=0).max() > 0)


def _auc(positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> float:
    return float("nan") if np.isnan(score).any() else auc(positive, score)


def _check(cases: Features, fitted: Features) -> None:
    if not len(cases.kl) or not len(fitted.kl):
        raise InputError("the severity axis", "no case", "at least one", "predict the split first")
    if cases.z.shape[1] != fitted.z.shape[1]:
        raise InputError(
            "the severity axis",
            f"{cases.z.shape[1]} and {fitted.z.shape[1]} features",
            "features of one model",
            "write the features of both splits with the same weights",
        )
