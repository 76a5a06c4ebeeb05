"""A study: the runs, their declared comparisons, and the tidy tables that come out of them.

Reads run folders, calls `kellgren.analysis`, and never imports torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from kellgren.analysis.chance import chance_levels
from kellgren.analysis.comparison import delong, difference, oa_mcnemar
from kellgren.analysis.multiplicity import adjusted
from kellgren.analysis.resampling import Resamples, resample, sampled_means
from kellgren.config import AnalysisSettings
from kellgren.evidence import (
    Evidence,
    Row,
    Score,
    check_cases,
    confusion_rows,
    embedding_rows,
    geometry_rows,
    measures_of,
    overlap_rows,
    performance_rows,
    run_row,
    scores_of,
)
from kellgren.exemplars import Exemplar, read_exemplars
from kellgren.faults import InputError
from kellgren.labels import KL_GRADES, oa_from_kl
from kellgren.results import StudyResult, tidy
from kellgren.runs import Run

__all__ = ["Comparison", "Exemplar", "StudyResult", "analyze", "planned_comparisons"]

BACKBONES = ("resnet3d", "m3t", "nnmamba")  # the order of the paper; any other follows by name
SUPERVISIONS = ("single_oa", "single_kl", "dual")
SINGLE_OF_TASK = {"oa": "single_oa", "kl": "single_kl"}
TASKS_COMPARED = {"single_oa": ("oa",), "single_kl": ("kl",), "dual": ("oa", "kl")}
DUAL_VS_SINGLE, BACKBONE_VS_BACKBONE = "dual-vs-single", "backbone-vs-backbone"
MEASURES = ("mass_roi", "top1_roi", "dice_5", "dice_10")  # those of section 3.5.3
OF_THE_KNEE = ("cartilage_share", "dice_ceiling")
DISAGREEMENT = 0.02  # of the DeLong and the bootstrap p-value, above which a row carries a warning

Scores = dict[str, dict[tuple[str, str], Score]]


@dataclass(frozen=True)
class Comparison:
    """A declared comparison of two runs of one seed on one task.

    Attributes:
        model: The run of interest; differences are model minus reference.
        reference: The run that it is compared with.
        task: "oa" or "kl".
        family: Tests that are adjusted together: "dual-vs-single" or "backbone-vs-backbone".
    """

    model: Run
    reference: Run
    task: str
    family: str


def analyze(
    runs: Sequence[Run],
    *,
    settings: AnalysisSettings,
    name: str = "study",
    cohort: pd.DataFrame | None = None,
    protocol: dict[str, Any] | None = None,  # any JSON object
) -> StudyResult:
    """Measure every run and every declared comparison.

    Each run needs `predictions.csv`; features, overlaps, pictures and `run.json` are used where
    they stand. One set of case resamples serves every metric and comparison.

    Args:
        runs: Runs that predicted the same test cases.
        settings: Number of resamples, seed, kind of p-value.
        name: Name of the study.
        cohort: Summary of the cohort, one row a split; None to count the test cases.
        protocol: What the study asked for.

    Raises:
        InputError: If there is no run, a file cannot be used, or the test cases differ.
    """
    if not runs:
        raise InputError("the study", "no run", "at least one", "train and predict first")
    evidence = [Evidence.of(run) for run in sorted(runs, key=_place)]
    check_cases(evidence)
    kl, seed = evidence[0].predictions.kl, settings.seed
    drawn = resample(len(kl), resamples=settings.resamples, rng=np.random.default_rng(seed))
    scores = {found.run.name: scores_of(found, drawn) for found in evidence}
    means = {"resamples": settings.resamples, "seed": seed}
    return StudyResult(
        name=name,
        protocol=protocol or {},
        cohort=tidy("cohort", [_test_cohort(kl)] if cohort is None else cohort.to_dict("records")),
        runs=tidy("runs", [run_row(f) for f in evidence]),
        performance=tidy(
            "performance",
            [row for f in evidence for row in performance_rows(f, scores[f.run.name], drawn)],
        ),
        chance=tidy(
            "chance", chance_levels(kl, rng=np.random.default_rng(seed)).to_dict("records")
        ),
        comparisons=comparison_table(evidence, scores, resamples=drawn, settings=settings),
        geometry=tidy("geometry", [r for f in evidence for r in geometry_rows(f, seed=seed)]),
        overlap=tidy("overlap", [row for f in evidence for row in overlap_rows(f, **means)]),
        overlap_comparisons=overlap_comparison_table(evidence, settings=settings),
        confusion=tidy("confusion", [row for f in evidence for row in confusion_rows(f)]),
        embedding=tidy("embedding", [r for f in evidence for r in embedding_rows(f, seed=seed)]),
        exemplars=tuple(
            exemplar
            for f in evidence
            if f.run.exemplars.exists()
            for exemplar in read_exemplars(f.run.exemplars)
        ),
    )


def planned_comparisons(runs: Sequence[Run]) -> Iterator[Comparison]:
    """The comparisons of section 3.6 that the runs allow, within each seed.

    Dual against Single-OA on OA and against Single-KL on KL, per backbone; then each pair of
    backbones, in the order of the paper, per supervision and task. With three backbones these are
    18 and 36 tests, three metrics each.
    """
    by_key = {(run.seed, run.backbone, run.supervision): run for run in runs}
    for seed in sorted({run.seed for run in runs}):
        backbones = sorted({run.backbone for run in runs if run.seed == seed}, key=_backbone_place)
        pairs = [
            ((backbone, "dual"), (backbone, single), task, DUAL_VS_SINGLE)
            for backbone in backbones
            for task, single in SINGLE_OF_TASK.items()
        ] + [
            ((first, supervision), (second, supervision), task, BACKBONE_VS_BACKBONE)
            for supervision in SUPERVISIONS
            for first, second in combinations(backbones, 2)
            for task in TASKS_COMPARED[supervision]
        ]
        for model, reference, task, family in pairs:
            if (seed, *model) in by_key and (seed, *reference) in by_key:
                yield Comparison(by_key[seed, *model], by_key[seed, *reference], task, family)


def comparison_table(
    evidence: Sequence[Evidence],
    scores: Scores,
    *,
    resamples: Resamples,
    settings: AnalysisSettings,
) -> pd.DataFrame:
    """Every declared comparison, adjusted inside each family and seed."""
    of_run = {found.run.name: found for found in evidence}
    rows: list[Row] = []
    for planned in planned_comparisons([found.run for found in evidence]):
        model, reference = of_run[planned.model.name], of_run[planned.reference.name]
        of_model, of_reference = scores[planned.model.name], scores[planned.reference.name]
        for key in of_model:
            if key[0] != planned.task or key not in of_reference:
                continue
            row = _comparison_keys(planned, metric=key[1], n=len(model.predictions))
            row |= _difference(of_model[key], of_reference[key], resamples, settings)
            rows.append(_with_other_tests(row, model, reference))
    return _adjusted(tidy("comparisons", rows), ["family", "seed"])


def overlap_comparison_table(
    evidence: Sequence[Evidence], *, settings: AnalysisSettings
) -> pd.DataFrame:
    """Dual minus single for each head and saliency measure, paired over cases.

    Cases without a value in either run are left out and counted in `dropped`. p-values are
    adjusted over backbones, heads and measures of a seed, the four measures of section 3.5.3
    apart from the further ones.
    """
    of_run = {found.run.name: found for found in evidence}
    rows: list[Row] = []
    for planned in planned_comparisons([found.run for found in evidence]):
        model, reference = of_run[planned.model.name], of_run[planned.reference.name]
        if planned.family == DUAL_VS_SINGLE:
            rows.extend(_overlap_differences(model, reference, planned.task, settings))
    return _adjusted(tidy("overlap_comparisons", rows), ["family", "seed"])


def _comparison_keys(planned: Comparison, *, metric: str, n: int) -> Row:
    dual_vs_single = planned.family == DUAL_VS_SINGLE
    return {
        "model": planned.model.name,
        "reference": planned.reference.name,
        "backbone": planned.model.backbone if dual_vs_single else "",
        "task": planned.task,
        "metric": metric,
        "test": "paired bootstrap",
        "family": planned.family,
        "supervision": "" if dual_vs_single else planned.model.supervision,
        "seed": planned.model.seed,
        "n": n,
    }


def _difference(
    model: Score, reference: Score, resamples: Resamples, settings: AnalysisSettings
) -> Row:
    """Values and bootstrap of a difference; a warning in place of numbers that are not defined."""
    samples = model.samples - reference.samples
    values = {"model_value": model.value, "reference_value": reference.value}
    if not resamples.suffice(samples):
        share = float(np.isnan(samples).mean())
        warning = f"no interval: {share:.1%} of the resamples lack a class that the metric needs"
        return {**values, "difference": model.value - reference.value, "warning": warning}
    found = difference(
        model.value - reference.value, samples, resamples=resamples, paper_p=settings.paper_p
    )
    return {**values, **asdict(found)}


def _with_other_tests(row: Row, model: Evidence, reference: Evidence) -> Row:
    """McNemar's test for the accuracy of OA, DeLong's beside the bootstrap for its AUC."""
    first, second = model.predictions, reference.predictions
    if (row["task"], row["metric"]) == ("oa", "accuracy"):
        test = oa_mcnemar(first, second)
        counts = {"mcnemar_b": test.b, "mcnemar_c": test.c}
        return {**row, "p": test.p, "test": "McNemar exact", "p_mid": test.p_mid, **counts}
    if (row["task"], row["metric"]) == ("oa", "auc"):
        normal = delong(oa_from_kl(first.kl), first.score_oa, second.score_oa)
        row = {**row, "p_delong": normal.p, "z_delong": normal.z}
        row |= {"delong_low": normal.ci_low, "delong_high": normal.ci_high}
        if abs(normal.p - row.get("p", normal.p)) > DISAGREEMENT:
            row["warning"] = f"DeLong's p is {normal.p:.3f}, the bootstrap's {row['p']:.3f}"
    return row


def _overlap_differences(
    model: Evidence, reference: Evidence, head: str, settings: AnalysisSettings
) -> list[Row]:
    pairs = _paired_overlaps(model, reference, head)
    if pairs.empty:
        return []
    rng = np.random.default_rng(settings.seed)
    drawn = resample(len(pairs), resamples=settings.resamples, rng=rng)
    keys = {"model": model.run.name, "reference": reference.run.name, "head": head}
    keys["backbone"] = model.run.backbone
    rows: list[Row] = []
    for metric in pairs["model"].columns:
        values = pairs.xs(metric, axis=1, level=1).to_numpy(dtype=np.float64, copy=True)
        missing = np.isnan(values).any(axis=1)
        values[missing] = np.nan
        means = values[~missing].mean(axis=0) if not missing.all() else (np.nan, np.nan)
        samples = sampled_means(values, drawn)
        scores = [Score(float(mean), of_run) for mean, of_run in zip(means, samples, strict=True)]
        counts = {"seed": model.run.seed, "n": int((~missing).sum()), "dropped": int(missing.sum())}
        row = _difference(scores[0], scores[1], drawn, settings)
        family = DUAL_VS_SINGLE if metric in MEASURES else "further measures"
        rows.append({**keys, "metric": metric, "family": family, **row, **counts})
    return rows


def _paired_overlaps(model: Evidence, reference: Evidence, head: str) -> pd.DataFrame:
    """Measures of the cases that both runs explain, columns by run and measure.

    The share of cartilage and the ceilings that follow from it belong to the knee, not the model.
    """
    sides = []
    for found in (model, reference):
        if found.overlaps is None:
            return pd.DataFrame()
        of_head = found.overlaps[found.overlaps["head"] == head].set_index("case_id")
        measures = [m for m in measures_of(of_head) if not m.startswith(OF_THE_KNEE)]
        sides.append(of_head[measures])
    shared = [m for m in sides[0].columns if m in sides[1].columns]
    sides = [side[shared] for side in sides]
    return pd.concat(sides, axis=1, join="inner", keys=["model", "reference"])


def _adjusted(table: pd.DataFrame, family: list[str]) -> pd.DataFrame:
    """The table with `p_holm` and `p_bh`, adjusted inside each family."""
    table = table.copy()
    for column, method in (("p_holm", "holm"), ("p_bh", "fdr_bh")):
        table[column] = np.nan
        for _, rows in table.groupby(family, sort=False):
            table.loc[rows.index, column] = adjusted(
                rows["p"].to_numpy(dtype=np.float64), method=method
            )
    return table


def _test_cohort(kl: np.ndarray) -> Row:  # " n"
    grades = {f"kl{k}": int((kl == k).sum()) for k in range(KL_GRADES)}
    positive = int(oa_from_kl(kl).sum())
    counts = {"oa_negative": len(kl) - positive, "oa_positive": positive}
    return {"split": "test", "cases": len(kl), **grades, **counts}


def _backbone_place(backbone: str) -> tuple[int, str]:
    known = BACKBONES.index(backbone) if backbone in BACKBONES else len(BACKBONES)
    return known, backbone


def _place(run: Run) -> tuple[tuple[int, str], int, str, int]:
    known = SUPERVISIONS.index(run.supervision) if run.supervision in SUPERVISIONS else 3
    return _backbone_place(run.backbone), known, run.supervision, run.seed
