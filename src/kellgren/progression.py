"""Progression: the baseline predictions of some runs against grades that were read later.

What the paper leaves to future work. One table of measures, one of curves; no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from kellgren.analysis.geometry import sampled_spearman, spearman
from kellgren.analysis.progression import (
    Course,
    Pairs,
    change_within,
    concordance,
    course_of,
    free_of_progression,
    hazard_ratio,
    horizon_pairs,
    sampled_concordance,
    survival_pairs,
    within,
)
from kellgren.analysis.resampling import Resamples, resample
from kellgren.config import AnalysisSettings
from kellgren.evidence import Evidence, Row, check_cases, orders
from kellgren.follow_up import Reading
from kellgren.results import RUN_KEYS
from kellgren.runs import Run
from kellgren.tables import write_csv

BASELINE = "baseline_kl"
# How the predictors are said: key of `evidence.orders` -> column `predictor`.
PREDICTORS = {"rho_expected": "expected_kl", "rho_oa_score": "oa_score", "rho_pc1": "pc1"}
MEASURES = [
    *[*RUN_KEYS, "predictor", "measure", "value", "ci_low", "ci_high", "n", "events", "pairs"],
    *["baseline_value", "difference", "difference_low", "difference_high"],
]
CURVES = [
    *[*RUN_KEYS, "predictor", "group", "median", "months", "at_risk", "events", "free"],
    *["ci_low", "ci_high"],
]


@dataclass(frozen=True)
class Progression:
    """What became of the knees, and how the baseline predictions go with it.

    Attributes:
        horizon: Months up to which readings count.
        counts: One row per baseline grade: knees predicted, read again, read at the horizon, that
            progressed, and that were read lower at the horizon.
        measures: One row per run, predictor and measure, with the paired difference from the grade
            at baseline where that has the measure.
        curves: Share free of progression over time, of the knees below and above the median of
            each predictor.
    """

    horizon: float
    counts: pd.DataFrame
    measures: pd.DataFrame
    curves: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Write `progression_counts.csv`, `progression.csv` and `progression_curves.csv`."""
        for name, table in self._tables().items():
            write_csv(folder / f"{name}.csv", table)

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {
            "progression_counts": self.counts,
            "progression": self.measures,
            "progression_curves": self.curves,
        }


def progression(
    runs: Sequence[Run], readings: Sequence[Reading], *, horizon: float, settings: AnalysisSettings
) -> Progression:
    """Hold what every run said of its test knees against what became of them.

    Args:
        runs: Runs with predictions; with features of both splits, PC1 is a predictor too.
        readings: Later grades.
        horizon: Months up to which readings count.
        settings: Number of resamples and their seed. The same resamples of knees serve every run,
            so that differences are paired.

    Raises:
        InputError: If a run has other test knees than the first, or none of them was read again.
    """
    evidence = [Evidence.of(run) for run in runs]
    knees = evidence[0].predictions
    check_cases(evidence)
    course = course_of(knees.case_id, knees.kl, readings, horizon=horizon)
    rows = np.isin(knees.case_id, course.case_id)
    looked_at = _LookedAt.of(course, settings)
    baseline = {"backbone": "", "supervision": "", "seed": -1, "predictor": BASELINE}
    predictors = [(baseline, course.kl.astype(np.float64))]
    for found in evidence:
        for name, order in orders(found).items():
            predictors.append(({**found.keys, "predictor": PREDICTORS[name]}, order[rows]))
    measured = [
        {**keys, **row}
        for keys, score in predictors
        for row in _measures(looked_at, score, horizon)
    ]
    curves = [row for keys, score in predictors for row in _curves(course, keys, score)]
    return Progression(
        horizon,
        _counts(knees.kl, course),
        pd.DataFrame(measured, columns=MEASURES),
        pd.DataFrame(curves, columns=CURVES),
    )


@dataclass(frozen=True)
class _Knees:
    """Some of the knees that were read again, and the resamples of them."""

    rows: Bool[np.ndarray, " n"]
    course: Course
    drawn: Resamples

    @classmethod
    def of(
        cls, rows: Bool[np.ndarray, " n"], course: Course, settings: AnalysisSettings
    ) -> "_Knees":
        rng = np.random.default_rng(settings.seed)
        drawn = resample(int(rows.sum()), resamples=settings.resamples, rng=rng)
        return cls(rows, course.take(rows), drawn)


@dataclass(frozen=True)
class _LookedAt:
    """The knees of each measure: can progress, were read at the horizon, both."""

    at_risk: _Knees
    read: _Knees
    changed: _Knees

    @classmethod
    def of(cls, course: Course, settings: AnalysisSettings) -> "_LookedAt":
        may, read = course.can_progress, course.later_kl >= 0
        return cls(*(_Knees.of(rows, course, settings) for rows in (may, read, may & read)))


def _measures(
    looked_at: _LookedAt, score: Float[np.ndarray, " n"], horizon: float
) -> Iterator[Row]:
    knees = looked_at.at_risk
    mine, kl = score[knees.rows], knees.course.kl
    survival, known = survival_pairs(knees.course), horizon_pairs(knees.course, horizon=horizon)
    for name, pairs in (
        ("auc", known),
        ("auc_within", within(known, kl)),
        ("c_index", survival),
        ("c_index_within", within(survival, kl)),
    ):
        yield {"measure": name, **_concordance(knees, pairs, mine)}
    ratio = dict(zip(("value", "ci_low", "ci_high"), hazard_ratio(knees.course, mine), strict=True))
    yield {"measure": "hazard_ratio", **ratio, **_size(knees.course)}
    yield from _correlations(looked_at, score)


def _concordance(knees: _Knees, pairs: Pairs, score: Float[np.ndarray, " n"]) -> Row:
    grade, counts = knees.course.kl.astype(np.float64), knees.drawn.counts
    samples = sampled_concordance(pairs, score, counts)
    others = sampled_concordance(pairs, grade, counts)
    value, baseline = concordance(pairs, score), concordance(pairs, grade)
    used = np.asarray(pairs.any(axis=0) | pairs.any(axis=1))
    row: Row = {"value": value, "baseline_value": baseline, "difference": value - baseline}
    row["ci_low"], row["ci_high"] = knees.drawn.interval(samples)
    row["difference_low"], row["difference_high"] = knees.drawn.interval(samples - others)
    return row | _size(knees.course.take(used)) | {"pairs": int(pairs.sum())}


def _correlations(looked_at: _LookedAt, score: Float[np.ndarray, " n"]) -> Iterator[Row]:
    read, changed = looked_at.read, looked_at.changed
    mine, later = score[read.rows], read.course.later_kl
    samples = sampled_spearman(mine, later, read.drawn.counts)
    yield {"measure": "rho_later_kl", **_with_interval(read, spearman(mine, later), samples)}
    mine, counts = score[changed.rows], changed.drawn.counts
    change = changed.course.later_kl - changed.course.kl
    samples = sampled_spearman(mine, change, counts)
    yield {"measure": "rho_change", **_with_interval(changed, spearman(mine, change), samples)}
    once = np.ones((len(mine), 1), dtype=np.int64)
    within_grades = float(change_within(changed.course, mine, once)[0])
    samples = change_within(changed.course, mine, counts)
    yield {"measure": "rho_change_within", **_with_interval(changed, within_grades, samples)}


def _with_interval(knees: _Knees, value: float, samples: Float[np.ndarray, " b"]) -> Row:
    low, high = knees.drawn.interval(samples)
    return {"value": value, "ci_low": low, "ci_high": high, **_size(knees.course)}


def _size(course: Course) -> Row:
    return {"n": len(course.kl), "events": int(course.progressed.sum())}


def _curves(course: Course, keys: Row, score: Float[np.ndarray, " n"]) -> Iterator[Row]:
    may = course.can_progress
    below, mine = course.take(may), score[may]
    middle = float(np.median(mine))
    for group, rows in (("at or below", mine <= middle), ("above", mine > middle)):
        for step in free_of_progression(below.take(rows)) if rows.any() else []:
            yield {**keys, "group": group, "median": middle, **asdict(step)}


def _counts(kl: Int[np.ndarray, " n"], course: Course) -> pd.DataFrame:
    read = course.later_kl >= 0
    columns = {
        "knees": kl,
        "read_again": course.kl,
        "read_at_horizon": course.kl[read],
        "progressed": course.kl[course.progressed],
        "lower_at_horizon": course.kl[read & (course.later_kl < course.kl)],
    }
    table = {name: np.bincount(grades, minlength=5) for name, grades in columns.items()}
    return pd.DataFrame({"kl": np.arange(5), **table})
