"""What the files of one run say about it: performance, confusion, geometry, overlap, pictures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from kellgren.analysis.chunks import published_form
from kellgren.analysis.comparison import check_same_cases
from kellgren.analysis.embedding import FEWEST_CASES, embed
from kellgren.analysis.geometry import (
    axis_intervals,
    oriented,
    principal_axis,
    severity_axis,
)
from kellgren.analysis.ordinal import expected_grade
from kellgren.analysis.overlap import chance_of
from kellgren.analysis.performance import (
    METRICS,
    called_kl,
    called_oa,
    kl_confusion,
    oa_confusion,
    tasks_of,
    wilson_interval,
)
from kellgren.analysis.resampling import Resamples, resample, sampled, sampled_means
from kellgren.faults import InputError
from kellgren.labels import oa_from_kl
from kellgren.results import bounds_of
from kellgren.runs import Run
from kellgren.tables import (
    Features,
    Predictions,
    family,
    has_split,
    read_log,
    read_overlaps,
    read_planted,
)

Row = dict[str, Any]  # one row of a table: cells of many types
GEOMETRY_RESAMPLES = 2000
NOT_MEASURES = ("case_id", "head", "fault")


@dataclass(frozen=True)
class Evidence:
    """The files of one run.

    Attributes:
        run: Where the files are, and what the model is.
        predictions: Predictions of the test split.
        trained: Predictions of the training split; None where they were not kept.
        features: Features of both splits; None where the run has none.
        overlaps: Saliency measures per case and head; None where the run has none.
        planted: Saliency on planted signs of disease; None but where a phantom was explained.
    """

    run: Run
    predictions: Predictions
    trained: Predictions | None
    features: Features | None
    overlaps: pd.DataFrame | None
    planted: pd.DataFrame | None

    @classmethod
    def of(cls, run: Run) -> "Evidence":
        """Read the files of a run.

        Raises:
            InputError: If a file cannot be used, or the features of the test split are of other
                cases than the predictions.
        """
        predictions = Predictions.read(run.predictions)
        kept = has_split(run.predictions, "train")
        trained = Predictions.read(run.predictions, split="train") if kept else None
        features = Features.read(run.features) if run.features.exists() else None
        if features is not None:
            predicted, described = set(predictions.case_id), set(features.of_split("test").case_id)
            alone = sorted(predicted ^ described)
            if alone:
                raise InputError(
                    str(run.features),
                    f"test case {alone[0]} here or in predictions.csv, not in both",
                    "the same test cases in both",
                    "predict with this run again",
                )
        overlaps = read_overlaps(run.overlap) if run.overlap.exists() else None
        planted = read_planted(run.planted) if run.planted.exists() else None
        return cls(run, predictions, trained, features, overlaps, planted)

    @property
    def keys(self) -> Row:
        """What names the run in every table."""
        run = self.run
        return {"backbone": run.backbone, "supervision": run.supervision, "seed": run.seed}


@dataclass(frozen=True)
class Score:
    """A metric of one model: on the cases themselves and on every resample of them."""

    value: float
    samples: Float[np.ndarray, " b"]


def scores_of(found: Evidence, resamples: Resamples) -> dict[tuple[str, str], Score]:
    """Every metric of a run, by task and metric."""
    return {
        (task, name): Score(
            metric(found.predictions), sampled(metric, found.predictions, resamples)
        )
        for task in tasks_of(found.predictions)
        for name, metric in METRICS[task].items()
    }


def orders(found: Evidence) -> dict[str, Float[np.ndarray, " n"]]:
    """Everything in a run that puts the test knees in an order, by the name of its correlation.

    The OA score, E[k] of the KL head, and PC1, fitted and oriented on the training split.
    """
    orders = {"rho_oa_score": found.predictions.score_oa}
    if found.predictions.prob_kl is not None:
        orders["rho_expected"] = expected_grade(found.predictions)
    if found.features is None:
        return orders
    test, train = found.features.of_split("test"), found.features.of_split("train")
    if len(train.kl):
        orders["rho_pc1"] = oriented(principal_axis(train.z), train).score(test.z)
    return orders


def check_cases(evidence: Sequence[Evidence]) -> None:
    """Refuse runs that did not predict the same test cases.

    Raises:
        InputError: Naming the first case that only one of two runs has, or whose grade differs.
    """
    first = evidence[0]
    for other in evidence[1:]:
        ids, others = set(first.predictions.case_id), set(other.predictions.case_id)
        alone = sorted(ids ^ others)
        if alone:
            has, lacks = (first, other) if alone[0] in ids else (other, first)
            raise InputError(
                f"case {alone[0]}",
                f"it in the test predictions of {has.run.name} and not of {lacks.run.name}",
                "the same test cases in every run",
                "predict the same split with every run",
            )
        check_same_cases(first.predictions, other.predictions)


def run_row(found: Evidence) -> Row:
    """What the run is, and what `run.json` says it was made with."""
    record = found.run.record()
    asked, trained, made_with = (record.get(k, {}) for k in ("asked", "trained", "made_with"))
    backbone = asked.get("backbone", {})
    return {
        **found.keys,
        "n_test": len(found.predictions),
        "oa_source": found.predictions.oa_source,
        "size": backbone.get("size"),
        "grid": "x".join(str(side) for side in backbone.get("grid", ())),
        **{key: trained.get(key) for key in ("parameters", "epochs", "train_seconds")},
        **{key: made_with.get(key) for key in ("device", "torch")},
        "weights_digest": trained.get("weights_digest"),
        "oa_rules_differ": _oa_rules_differ(found.predictions),
    }


def performance_rows(
    found: Evidence, scores: dict[tuple[str, str], Score], resamples: Resamples
) -> list[Row]:
    """Each metric with its percentile interval; accuracies also with Wilson's.

    The interval is missing where more than 1 % of the resamples are without a class.
    """
    rows: list[Row] = []
    n, source = len(found.predictions), found.predictions.oa_source
    for (task, metric), score in scores.items():
        row = {**found.keys, "task": task, "metric": metric, "value": score.value, "n": n}
        row["oa_source"] = source if task == "oa" else ""
        row["ci_low"], row["ci_high"] = resamples.interval(score.samples)
        if metric == "accuracy":
            row["correct"] = round(score.value * n)
            row["wilson_low"], row["wilson_high"] = wilson_interval(row["correct"], n)
        rows.append(row)
    return rows


def published_form_rows(found: Evidence) -> list[Row]:
    """Mean and deviation over five chunks of the test cases, the form that Chen et al. print."""
    n = len(found.predictions)
    return [{**found.keys, **asdict(form), "n": n} for form in published_form(found.predictions)]


def attribution_rows(found: Evidence) -> list[Row]:
    """Share of the absolute weight by region and class of feature; none for a network.

    Raises:
        InputError: If `attribution.csv` lacks a column.
    """
    path = found.run.attribution
    if not path.exists():
        return []
    table = pd.read_csv(path)
    missing = [name for name in ("region", "feature", "weight") if name not in table.columns]
    if missing:
        raise InputError(
            str(path), f"no column {missing[0]}", "region, feature, weight", "fit this system again"
        )
    weight = table["weight"].abs()
    share = weight / weight.sum() if weight.sum() > 0 else weight * np.nan
    classes = table["feature"].astype(str).map(family).rename("family")
    grouped = share.groupby([table["region"], classes], sort=True)
    return [
        {**found.keys, "region": region, "family": name, "share": of.sum(), "features": len(of)}
        for (region, name), of in grouped
    ]


def confusion_rows(found: Evidence) -> list[Row]:
    """Cells of the confusion table of each head that the model has."""
    predictions = found.predictions
    tables = {}
    if predictions.oa_source != "kl":
        tables["oa"] = oa_confusion(predictions)
    if predictions.prob_kl is not None:
        tables["kl"] = kl_confusion(predictions)
    return [
        {**found.keys, "head": head, "reference": i, "predicted": j, "count": int(table[i, j])}
        for head, table in tables.items()
        for i, j in np.ndindex(table.shape)
    ]


def geometry_rows(found: Evidence, *, seed: int) -> list[Row]:
    """Severity axis by where it is fitted, see `StudyResult`; the headline has intervals."""
    if found.features is None:
        return []
    test, train = found.features.of_split("test"), found.features.of_split("train")
    if not len(train.kl):
        axes = {"test": severity_axis(test)}
    else:
        axes = {
            "test": severity_axis(test, oriented_on=train),
            "train": severity_axis(test, fitted_on=train, oriented_on=train),
            "train_in_sample": severity_axis(train, oriented_on=train),
        }
    rows: list[Row] = [{**found.keys, "fit": fit, **asdict(axis)} for fit, axis in axes.items()]
    intervals = axis_intervals(test, rng=np.random.default_rng(seed), resamples=GEOMETRY_RESAMPLES)
    for name, interval in intervals.items():
        rows[0] |= dict(zip(bounds_of(name), interval, strict=True))
    return rows


def embedding_rows(found: Evidence, *, seed: int) -> list[Row]:
    """t-SNE of the test cases; none where there are no features or too few cases."""
    if found.features is None:
        return []
    test = found.features.of_split("test")
    if len(test.kl) < FEWEST_CASES:
        return []
    picture = embed(test.z, seed=seed)
    quality = {
        "kl_divergence": picture.kl_divergence,
        "trustworthiness": picture.trustworthiness,
    }
    cases = zip(test.case_id, test.kl.tolist(), picture.place.tolist(), strict=True)
    return [
        {**found.keys, "case_id": case_id, "kl": kl, "x": x, "y": y, **quality}
        for case_id, kl, (x, y) in cases
    ]


def measures_of(overlaps: pd.DataFrame) -> list[str]:
    """The measures in a table of overlaps: its columns of numbers."""
    return [c for c in overlaps.select_dtypes("number").columns if c not in NOT_MEASURES]


def interference_rows(found: Evidence) -> list[Row]:
    """How the gradients of the two heads agreed, by epoch and stage; none where nobody looked."""
    if not found.run.log.exists():
        return []
    log = read_log(found.run.log)
    stages = [c.removeprefix("cosine_") for c in log.columns if c.startswith("cosine_")]
    return [
        {**found.keys, "epoch": int(row["epoch"]), "stage": stage}
        | {name: float(row[f"{name}_{stage}"]) for name in ("cosine", "conflict", "likeness")}
        for _, row in log.iterrows()
        for stage in stages
    ]


def overlap_rows(found: Evidence, *, resamples: int, seed: int) -> list[Row]:
    """Mean over cases of each saliency measure, per head, with its percentile interval.

    Cases without a value are left out and not counted in n.
    """
    if found.overlaps is None:
        return []
    rows: list[Row] = []
    measures = measures_of(found.overlaps)
    for head, table in found.overlaps.groupby("head", sort=True):
        values = table[measures].to_numpy(dtype=np.float64)
        drawn = resample(len(values), resamples=resamples, rng=np.random.default_rng(seed))
        for i, samples in enumerate(sampled_means(values, drawn)):
            row = {**found.keys, "head": head, "metric": measures[i]}
            rows.append({**row, **_mean_and_interval(values[:, i], samples, drawn)})
            rows[-1]["chance"] = _chance(measures[i], table)
    return rows


def _mean_and_interval(
    values: Float[np.ndarray, " n"], samples: Float[np.ndarray, " b"], drawn: Resamples
) -> Row:
    present = values[~np.isnan(values)]
    row: Row = {"value": float(present.mean()) if len(present) else None, "n": len(present)}
    row["ci_low"], row["ci_high"] = drawn.interval(samples)
    return row


def _chance(metric: str, table: pd.DataFrame) -> float | None:
    if "cartilage_share" not in table.columns:
        return None
    shares = table["cartilage_share"].to_numpy(dtype=np.float64)
    chance = chance_of(metric, shares[shares > 0])
    return float(chance.mean()) if len(chance) and not np.isnan(chance).any() else None


def _oa_rules_differ(predictions: Predictions) -> int | None:
    """Cases where the two ways to read OA off a KL head disagree; None without that reading."""
    if predictions.oa_source != "kl":
        return None
    return int((called_oa(predictions) != oa_from_kl(called_kl(predictions))).sum())
