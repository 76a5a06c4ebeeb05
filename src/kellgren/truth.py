"""What models know of the truth, which only synthetic knees tell: severity, and the grade it makes.

On real knees the reference is a reading. On the phantom the same predictions can be held against
both, so what a model learned is told apart from what the noise of its reference hides.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from kellgren.analysis.geometry import sampled_spearman, spearman
from kellgren.analysis.resampling import Resamples, sampled_means
from kellgren.analysis.seeds import Seeds, seed_difference, seed_interval
from kellgren.evidence import Evidence, Row, Score, orders, scores_of
from kellgren.faults import InputError
from kellgren.files import readable

REFERENCES = {"oa": "single_oa", "kl": "single_kl", "severity": "single_kl"}

# What a map without structure gives; None is the share of the voxels that show the sign.
CHANCE = {"mass": None, "enrichment": 1.0, "over_cartilage": 1.0}

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
class TrueScore:
    """A score, and what it is a score of.

    Attributes:
        score: The score itself.
        n: Number of test knees.
        left_out: Test knees that have none, as those without the planted sign.
        chance: What a map without structure scores; NaN where that has no meaning.
    """

    score: Score
    n: int
    left_out: int = 0
    chance: float = float("nan")


@dataclass(frozen=True)
class TrueScores:
    """The scores of one run by what they are held against, task and metric."""

    found: Evidence
    scores: dict[Key, TrueScore]

    @property
    def method(self) -> str:
        """Name of the run without its seed."""
        return f"{self.found.run.backbone}-{self.found.run.supervision}"


def true_scores(found: Evidence, truth: Truth, resamples: Resamples) -> TrueScores:
    """Scores of a run on the test split against the truth and against the reading.

    The task "severity" has Spearman's correlations of what orders the knees with the true severity,
    or with the grade that was read: `rho_pc1` of PC1, fitted and oriented on the training split,
    `rho_oa_score` of the OA score and `rho_expected` of E[k]. Where saliency was held against
    planted signs, see `planted_scores`, its scores are those of the task of its head.

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
    n = len(given)
    known = {key: TrueScore(score, n) for key, score in scores.items()}
    return TrueScores(found, known | planted_scores(found, resamples))


def planted_scores(found: Evidence, resamples: Resamples) -> dict[Key, TrueScore]:
    """Scores of the saliency of a run on planted signs of disease, means over the knees with one.

    Metrics are `<measure>_<sign>`, see `kellgren.analysis.planted.OnSign`. Against "planted" they
    are those of the saliency; against "untrained" and "image_gradient" they are, knee by knee, the
    saliency's minus those of the network before training, and of the edges of the scan. Knees
    without the sign are left out.
    """
    if found.planted is None:
        return {}
    keys, values_of = ["map", "head", "sign"], [*CHANCE, "share"]
    wide = found.planted.pivot(index="case_id", columns=keys, values=values_of)
    wide = wide.reindex(found.predictions.case_id)
    saliency = found.planted[found.planted["map"] == "saliency"]
    heads, signs = (list(map(str, saliency[key].unique())) for key in ("head", "sign"))
    scores: dict[Key, TrueScore] = {}
    for measure, head, sign in product(CHANCE, heads, signs):
        for against, (values, chance) in _sides(wide, measure, head, sign).items():
            if not np.isnan(values).all():
                mean = _mean(values, chance, resamples)
                scores[against, head, f"{measure}_{sign}"] = mean
    return scores


def _sides(
    wide: pd.DataFrame, measure: str, head: str, sign: str
) -> dict[str, tuple[Float[np.ndarray, " n"], float]]:
    """A measure of the saliency, and how far it exceeds each control's, with what chance gives."""
    value = wide[measure, "saliency", head, sign].to_numpy(dtype=np.float64)
    untrained = wide[measure, "untrained", head, sign].to_numpy(dtype=np.float64)
    edges = wide[measure, "image_gradient", "", sign].to_numpy(dtype=np.float64)
    share = wide["share", "saliency", head, sign].to_numpy(dtype=np.float64)
    present = share[~np.isnan(value)]
    chance = CHANCE[measure] or (float(present.mean()) if len(present) else float("nan"))
    return {
        "planted": (value, chance),
        "untrained": (value - untrained, 0.0),
        "image_gradient": (value - edges, 0.0),
    }


def _mean(values: Float[np.ndarray, " n"], chance: float, resamples: Resamples) -> TrueScore:
    """Mean over the knees that have a value, of which there is one."""
    n = int((~np.isnan(values)).sum())
    score = Score(float(np.nanmean(values)), sampled_means(values[:, None], resamples)[0])
    return TrueScore(score, n, len(values) - n, chance)


def run_rows(true: TrueScores, resamples: Resamples) -> list[Row]:
    """Each score of a run with its percentile interval over knees."""
    rows: list[Row] = []
    for (against, task, metric), known in true.scores.items():
        row = {**true.found.keys, "against": against, "task": task, "metric": metric}
        row |= {"value": known.score.value, **_counts(known)}
        row["ci_low"], row["ci_high"] = resamples.interval(known.score.samples)
        rows.append(row)
    return rows


def method_rows(true: Sequence[TrueScores], *, rng: np.random.Generator) -> list[Row]:
    """Mean of each method over its seeds, and its difference from the single model of the task."""
    methods = list(dict.fromkeys(each.method for each in true))
    rows: list[Row] = []
    for method in methods:
        all_runs = [each for each in true if each.method == method]
        for key in dict.fromkeys(key for each in all_runs for key in each.scores):
            runs = [each for each in all_runs if key in each.scores]
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
    row |= {**_counts(runs[0].scores[key]), "seeds": len(runs)}
    row |= {"mean": float(seeds.values.mean()), "ci_low": low, "ci_high": high}
    if len(runs) > 1:
        row["sd"] = float(seeds.values.std(ddof=1))
    return row


def _counts(known: TrueScore) -> Row:
    return {"n": known.n, "left_out": known.left_out, "chance": known.chance}


def _difference(
    key: Key, runs: Sequence[TrueScores], others: Sequence[TrueScores], rng: np.random.Generator
) -> Row:
    found = asdict(seed_difference(_seeds(key, runs), _seeds(key, others), rng=rng))
    low, high = found.pop("ci_low"), found.pop("ci_high")
    return {**found, "difference_low": low, "difference_high": high}


def _seeds(key: Key, runs: Sequence[TrueScores]) -> Seeds:
    of_runs = [each.scores[key].score for each in runs]
    return Seeds(np.array([s.value for s in of_runs]), np.stack([s.samples for s in of_runs]))
