"""What models know of the truth, which only synthetic knees tell: severity, and the grade it makes.

On real knees the reference is a reading. On the phantom the same predictions can be held against
both, so what a model learned is told apart from what the noise of its reference hides.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from kellgren.analysis.geometry import sampled_spearman, spearman
from kellgren.analysis.resampling import Resamples
from kellgren.analysis.seeds import Seeds, seed_difference, seed_interval
from kellgren.evidence import Evidence, Row, Score, orders, scores_of
from kellgren.faults import InputError
from kellgren.files import readable

REFERENCES = {"oa": "single_oa", "kl": "single_kl", "severity": "single_kl"}

Key = tuple[str, str, str]  # against, task, metric


@dataclass(frozen=True)
class Truth:
    """What is true of some knees.

    Attributes:
        case_id: Identifier of the knee.
        severity: True severity, in [0, 5).
        kl: True grade, the whole part of the severity.
    """

    case_id: Shaped[np.ndarray, " n"]
    severity: Float[np.ndarray, " n"]
    kl: Int[np.ndarray, " n"]

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Read `severity.csv` of a phantom.

        Raises:
            InputError: If the file is no such table.
        """
        with readable(path, todo="make the phantom again"):
            table = pd.read_csv(path, dtype={"case_id": str})
            return cls(
                table["case_id"].to_numpy(dtype=object),
                table["severity"].to_numpy(dtype=np.float64),
                table["true_kl"].to_numpy(dtype=np.int64),
            )

    def of(self, case_id: Shaped[np.ndarray, " m"]) -> "Truth":
        """The truth of the given knees, in their order.

        Raises:
            InputError: If one of them is not here.
        """
        place = {name: i for i, name in enumerate(self.case_id)}
        unknown = sorted(set(case_id) - place.keys())
        if unknown:
            raise InputError(
                f"case {unknown[0]}",
                "no true severity",
                "a row of severity.csv for every test knee",
                "give the table of the phantom that the knees are from",
            )
        rows = [place[name] for name in case_id]
        return Truth(self.case_id[rows], self.severity[rows], self.kl[rows])


@dataclass(frozen=True)
class TrueScores:
    """The scores of one run by what they are held against, task and metric."""

    found: Evidence
    scores: dict[Key, Score]

    @property
    def method(self) -> str:
        """Name of the run without its seed."""
        return f"{self.found.run.backbone}-{self.found.run.supervision}"


def true_scores(found: Evidence, truth: Truth, resamples: Resamples) -> TrueScores:
    """Scores of a run on the test split against the truth and against the reading.

    The task "severity" has Spearman's correlations of what orders the knees with the true severity,
    or with the grade that was read: `rho_pc1` of PC1, fitted and oriented on the training split,
    `rho_oa_score` of the OA score and `rho_expected` of E[k].

    Raises:
        InputError: If a test knee has no true severity.
    """
    given = found.predictions
    true = truth.of(given.case_id)
    sides = {"truth": replace(found, predictions=replace(given, kl=true.kl)), "reading": found}
    scores = {
        (against, *key): score
        for against, side in sides.items()
        for key, score in scores_of(side, resamples).items()
    }
    for against, target in {"truth": true.severity, "reading": given.kl.astype(float)}.items():
        for metric, order in orders(found).items():
            samples = sampled_spearman(order, target, resamples.counts)
            scores[against, "severity", metric] = Score(spearman(order, target), samples)
    return TrueScores(found, scores)


def run_rows(true: TrueScores, resamples: Resamples) -> list[Row]:
    """Each score of a run with its percentile interval over knees."""
    rows: list[Row] = []
    for (against, task, metric), score in true.scores.items():
        row = {**true.found.keys, "against": against, "task": task, "metric": metric}
        row |= {"value": score.value, "n": len(true.found.predictions)}
        if resamples.suffice(score.samples):
            kept, _ = resamples.defined(score.samples)
            row["ci_low"], row["ci_high"] = np.percentile(kept, [2.5, 97.5]).tolist()
        rows.append(row)
    return rows


def method_rows(true: Sequence[TrueScores], *, rng: np.random.Generator) -> list[Row]:
    """Mean of each method over its seeds, and its difference from the single model of the task."""
    methods = list(dict.fromkeys(each.method for each in true))
    rows: list[Row] = []
    for method in methods:
        runs = [each for each in true if each.method == method]
        for key in runs[0].scores:
            reference = f"{runs[0].found.run.backbone}-{REFERENCES[key[1]]}"
            others = [each for each in true if each.method == reference and key in each.scores]
            row = _method_row(method, key, runs, rng)
            if others and reference != method:
                row |= {"reference": reference, **_difference(key, runs, others, rng)}
            rows.append(row)
    return rows


def _method_row(method: str, key: Key, runs: Sequence[TrueScores], rng: np.random.Generator) -> Row:
    seeds = _seeds(key, runs)
    low, high = seed_interval(seeds, rng=rng)
    row: Row = {"model": method, **dict(zip(("against", "task", "metric"), key, strict=True))}
    row |= {"n": len(runs[0].found.predictions), "seeds": len(runs)}
    row |= {"mean": float(seeds.values.mean()), "ci_low": low, "ci_high": high}
    if len(runs) > 1:
        row["sd"] = float(seeds.values.std(ddof=1))
    return row


def _difference(
    key: Key, runs: Sequence[TrueScores], others: Sequence[TrueScores], rng: np.random.Generator
) -> Row:
    found = asdict(seed_difference(_seeds(key, runs), _seeds(key, others), rng=rng))
    low, high = found.pop("ci_low"), found.pop("ci_high")
    return {**found, "difference_low": low, "difference_high": high}


def _seeds(key: Key, runs: Sequence[TrueScores]) -> Seeds:
    of_runs = [each.scores[key] for each in runs]
    return Seeds(np.array([s.value for s in of_runs]), np.stack([s.samples for s in of_runs]))
