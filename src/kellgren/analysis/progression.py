"""Whether what a model says of a knee today goes with what becomes of it.

The paper names this as future work. A knee *progresses* when its KL grade is read higher than at
baseline for the first time; that can only be seen at a visit, so times are visit times. What is
compared is how a number given at baseline (E[k], the OA score, the place on the severity axis)
orders the knees. Since the baseline grade alone predicts progression, every measure of concordance
has a form *within* baseline grades, which counts only pairs of knees that started from the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import norm, rankdata
from statsmodels.duration.hazard_regression import PHReg

from kellgren.faults import InputError
from kellgren.follow_up import Reading
from kellgren.labels import KL_GRADES

Counts = Int[np.ndarray, "n b"]
Samples = Float[np.ndarray, " b"]
Pairs = Bool[np.ndarray, "n n"]

FEWEST_EVENTS = 10  # below, a hazard ratio says next to nothing


@dataclass(frozen=True)
class Course:
    """What became of some knees up to a horizon.

    Attributes:
        case_id: Identifier of the knee.
        kl: Grade at baseline.
        months: Months to the first visit with a higher grade, or, where none was seen, to the last
            visit up to the horizon.
        progressed: Whether a higher grade was seen.
        later_kl: Grade at the horizon itself; -1 where it was not read then.
    """

    case_id: Shaped[np.ndarray, " n"]
    kl: Int[np.ndarray, " n"]
    months: Float[np.ndarray, " n"]
    progressed: Bool[np.ndarray, " n"]
    later_kl: Int[np.ndarray, " n"]

    def take(self, rows: Bool[np.ndarray, " n"]) -> "Course":
        """The knees that are marked."""
        return Course(
            self.case_id[rows],
            self.kl[rows],
            self.months[rows],
            self.progressed[rows],
            self.later_kl[rows],
        )

    @property
    def can_progress(self) -> Bool[np.ndarray, " n"]:
        """Knees below grade 4."""
        return self.kl < KL_GRADES - 1


def course_of(
    case_id: Shaped[np.ndarray, " n"],
    kl: Int[np.ndarray, " n"],
    readings: Sequence[Reading],
    *,
    horizon: float,
) -> Course:
    """What became of the knees that were read again up to the horizon; the others are left out.

    A grade below that of the baseline is no progression, and nothing is smoothed: what was read
    counts.

    Args:
        case_id: Identifier of each knee.
        kl: Grade at baseline.
        readings: Later grades, in any order; those of other knees are ignored.
        horizon: Months up to which readings count.

    Raises:
        InputError: If a reading is not after baseline, its grade is not 0 to 4, a knee has two
            readings of one visit, or none of the knees was read again.
    """
    visits = _visits(readings, horizon)
    rows = np.array([name in visits for name in case_id], dtype=bool)
    if not rows.any():
        raise InputError(
            "the later grades",
            f"none of the {len(case_id)} knees up to month {horizon:g}",
            "readings of knees that were predicted",
            "compare their case ids with those of predictions.csv, or name a later --horizon",
        )
    months, progressed, later = [], [], []
    for name, grade in zip(case_id[rows], kl[rows], strict=True):
        risen = [visit for visit in visits[name] if visit.kl > grade]
        months.append((risen[0] if risen else visits[name][-1]).months)
        progressed.append(bool(risen))
        later.append(next((v.kl for v in visits[name] if v.months == horizon), -1))
    return Course(
        case_id[rows],
        kl[rows],
        np.array(months, dtype=np.float64),
        np.array(progressed, dtype=bool),
        np.array(later, dtype=np.int64),
    )


def _visits(readings: Sequence[Reading], horizon: float) -> dict[str, list[Reading]]:
    ordered = sorted(readings, key=lambda one: (one.case_id, one.months))
    for one, other in zip(ordered, [*ordered[1:], None], strict=True):
        twice = other is not None and (one.case_id, one.months) == (other.case_id, other.months)
        if one.months <= 0 or one.kl not in range(KL_GRADES) or twice:
            raise InputError(
                f"the later grades, case {one.case_id}",
                f"grade {one.kl} at month {one.months:g}" + (" twice" if twice else ""),
                "one grade of 0 to 4 a visit, each after baseline",
                "correct the table",
            )
    by_case = groupby(ordered, key=lambda one: one.case_id)
    kept = {name: [v for v in all_ if v.months <= horizon] for name, all_ in by_case}
    return {name: visits for name, visits in kept.items() if visits}


def survival_pairs(course: Course) -> Pairs:
    """Pairs (i, j) of which i is known to have progressed first (Harrell 1982).

    A knee that was last seen at the visit at which another progressed counts as free for longer.
    """
    t, event = course.months, course.progressed
    earlier = t[:, None] < t
    return event[:, None] & (earlier | ((t[:, None] == t) & ~event))


def horizon_pairs(course: Course, *, horizon: float) -> Pairs:
    """Pairs (i, j) of which i progressed up to the horizon and j is known not to have.

    Knees that were last read before the horizon, without progression, are in no pair.
    """
    free = ~course.progressed & (course.months >= horizon)
    return course.progressed[:, None] & free


def within(pairs: Pairs, kl: Int[np.ndarray, " n"]) -> Pairs:
    """The pairs of knees with the same grade at baseline."""
    return pairs & (kl[:, None] == kl)


def concordance(pairs: Pairs, score: Float[np.ndarray, " n"]) -> float:
    """Share of pairs (i, j) in which i has the higher score, ties counting half.

    It is the C-index over `survival_pairs` and the AUC over `horizon_pairs`; NaN without a pair.

    >>> pairs = np.array([[False, True, True], [False, False, True], [False, False, False]])
    >>> concordance(pairs, np.array([3.0, 1.0, 1.0]))                 # won, won, tied
    0.8333333333333334
    """
    return float(sampled_concordance(pairs, score, np.ones((len(score), 1), dtype=np.int64))[0])


def sampled_concordance(pairs: Pairs, score: Float[np.ndarray, " n"], counts: Counts) -> Samples:
    """`concordance` on every resample, given as the count of each case, one column a resample."""
    won = pairs * np.where(score[:, None] == score, 0.5, score[:, None] > score)
    weight = counts.astype(np.float64)
    wins, all_ = (
        np.einsum("ib,ib->b", weight, m.astype(np.float64) @ weight) for m in (won, pairs)
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(wins / np.where(all_ > 0, all_, np.nan))


def change_within(course: Course, score: Float[np.ndarray, " n"], counts: Counts) -> Samples:
    """Correlation of a score with the change of grade at the horizon, within baseline grades.

    Ranks of both, each less its mean among the knees of the same baseline grade; NaN for a score
    that only says the baseline grade.

    Args:
        course: Knees that were all read at the horizon.
        score: What orders them at baseline.
        counts: Count of each case, one column a resample.
    """
    cases = np.arange(len(score))
    drawn = np.stack([np.repeat(cases, count) for count in counts.T])
    change = (course.later_kl - course.kl).astype(np.float64)
    grade = course.kl[drawn]
    x, y = (_centred(rankdata(values[drawn], axis=1), grade) for values in (score, change))
    scale = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    # Ranks and their means are multiples of 1 / (2 n), so that a true zero is far below this.
    return np.asarray((x * y).sum(axis=1) / np.where(scale > 1e-9, scale, np.nan))


def _centred(
    x: Float[np.ndarray, "b n"], group: Int[np.ndarray, "b n"]
) -> Float[np.ndarray, "b n"]:
    less = x.copy()
    for k in range(KL_GRADES):
        members = group == k
        sizes = np.maximum(members.sum(axis=1), 1)
        less -= members * ((x * members).sum(axis=1) / sizes)[:, None]
    return less


def hazard_ratio(course: Course, score: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Hazard ratio of one standard deviation of the score, with its 95 % interval (Wald).

    Cox regression (Cox 1972) stratified by the grade at baseline, ties by Efron; NaN where the
    knees show fewer than `FEWEST_EVENTS` progressions, or the score does not vary inside the
    grades.
    """
    spread = score.std(ddof=1) if len(score) > 1 else 0.0
    if course.progressed.sum() < FEWEST_EVENTS or not spread > 0:
        return float("nan"), float("nan"), float("nan")
    scaled = (score - score.mean()) / spread
    if not np.abs(_centred(scaled[None], course.kl[None])).max() > 1e-9:
        return float("nan"), float("nan"), float("nan")
    fit = PHReg(
        course.months,
        scaled[:, None],
        status=course.progressed.astype(np.int64),
        strata=course.kl,
        ties="efron",
    ).fit()
    low, high = fit.conf_int()[0]
    return float(np.exp(fit.params[0])), float(np.exp(low)), float(np.exp(high))


@dataclass(frozen=True)
class Step:
    """The share of knees that are free of progression after a visit (Kaplan and Meier 1958).

    Attributes:
        months: The visit.
        at_risk: Knees that were free of progression before it and were read at it or later.
        events: Knees first read higher at it.
        free: Estimated share free after it.
        ci_low: Lower end of the 95 % interval, on the scale log(-log), which stays in [0, 1].
        ci_high: Its upper end; both are NaN until the first and after the last knee progressed.
    """

    months: float
    at_risk: int
    events: int
    free: float
    ci_low: float
    ci_high: float


def free_of_progression(course: Course) -> list[Step]:
    """The curve of some knees, from (0, all free), one step a visit at which a knee was last seen.

    >>> course = Course(np.array(["a", "b"]), np.array([0, 1]), np.array([12.0, 24.0]),
    ...                 np.array([True, False]), np.array([-1, 1]))
    >>> [(step.months, step.at_risk, step.free) for step in free_of_progression(course)]
    [(0.0, 2, 1.0), (12.0, 2, 0.5), (24.0, 1, 0.5)]
    """
    steps = [Step(0.0, len(course.months), 0, 1.0, float("nan"), float("nan"))]
    free, spread = 1.0, 0.0
    for months in np.unique(course.months):
        at_risk = int((course.months >= months).sum())
        events = int((course.progressed & (course.months == months)).sum())
        free *= 1 - events / at_risk
        spread += events / (at_risk * (at_risk - events)) if at_risk > events else np.inf
        steps.append(Step(float(months), at_risk, events, free, *_log_log(free, spread)))
    return steps


def _log_log(free: float, spread: float) -> tuple[float, float]:
    if not 0 < free < 1:
        return float("nan"), float("nan")
    power = np.exp(norm.ppf(0.975) * np.sqrt(spread) / np.log(free))
    return float(free ** (1 / power)), float(free**power)
