"""The declared comparisons, and the tables of differences that they make.

Those of section 3.6 are among networks; beside them stands each network against each radiomics
system of Chen et al. that grades the same task.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from typing import get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from kellgren.analysis.comparison import delong, difference, minimum_detectable, oa_mcnemar
from kellgren.analysis.multiplicity import adjusted, max_t
from kellgren.analysis.noise import read_again, scores_under
from kellgren.analysis.resampling import Resamples, resample, sampled_means
from kellgren.analysis.seeds import Seeds, interquartile_mean, seed_difference
from kellgren.config import SUPERVISIONS as WAYS
from kellgren.config import AnalysisSettings, SystemName
from kellgren.evidence import Evidence, Row, Score, measures_of
from kellgren.labels import oa_from_kl
from kellgren.results import tidy
from kellgren.runs import Run

BACKBONES = ("resnet3d", "m3t", "nnmamba")  # the order of the paper; any other follows by name
SYSTEMS = get_args(SystemName)  # radiomics systems; every other name is a network's
SUPERVISIONS = ("single_oa", "single_kl", "dual")
SINGLE_OF_TASK = {"oa": "single_oa", "kl": "single_kl"}
TASKS_COMPARED = {"single_oa": ("oa",), "single_kl": ("kl",), "dual": ("oa", "kl")}
DUAL_VS_SINGLE, BACKBONE_VS_BACKBONE = "dual-vs-single", "backbone-vs-backbone"
NETWORK_VS_RADIOMICS = "network-vs-radiomics"
SUPERVISION_VS_SINGLE = "supervision-vs-single"
MEASURES = ("mass_roi", "top1_roi", "dice_5", "dice_10")  # those of section 3.5.3
OF_THE_KNEE = ("cartilage_share", "dice_ceiling")
DISAGREEMENT = 0.02  # of the DeLong and the bootstrap p-value, above which a row carries a warning
ABOUT = {True: "two methods", False: "the trained networks, not the methods"}

READER, READINGS = 0.7, 1000  # exact agreement and number of readings behind `sign_kept`

Scores = dict[str, dict[tuple[str, str], Score]]
Rescored = dict[tuple[str, str], Float[np.ndarray, " b"]]


@dataclass(frozen=True)
class Comparison:
    """A declared comparison of two runs of one seed on one task.

    Attributes:
        model: The run of interest; differences are model minus reference.
        reference: The run that it is compared with.
        task: "oa" or "kl".
        family: Tests that are adjusted together: "dual-vs-single", "backbone-vs-backbone",
            "supervision-vs-single" or "network-vs-radiomics".
    """

    model: Run
    reference: Run
    task: str
    family: str


def planned_comparisons(runs: Sequence[Run]) -> Iterator[Comparison]:
    """The declared comparisons that the runs allow, within each seed.

    Dual against Single-OA on OA and against Single-KL on KL, per backbone; then each pair of
    backbones, in the order of the paper, per supervision and task. With three backbones these are
    18 and 36 tests, three metrics each. Then every supervision beyond the paper's three against
    the single model of the same task, and each network of a built-in supervision against each
    radiomics system, on every task that both were made for.
    """
    networks = [run for run in runs if run.backbone not in SYSTEMS]
    by_key = {(run.seed, run.backbone, run.supervision): run for run in networks}
    for seed in sorted({run.seed for run in networks}):
        backbones = sorted({key[1] for key in by_key if key[0] == seed}, key=_backbone_place)
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
        pairs += [
            ((backbone, supervision), (backbone, single), task, SUPERVISION_VS_SINGLE)
            for of_seed, backbone, supervision in by_key
            if of_seed == seed and supervision not in SUPERVISIONS
            for task, single in SINGLE_OF_TASK.items()
        ]
        for model, reference, task, family in pairs:
            if (seed, *model) in by_key and (seed, *reference) in by_key:
                yield Comparison(by_key[seed, *model], by_key[seed, *reference], task, family)
        yield from _against_radiomics([run for run in runs if run.seed == seed])


def _against_radiomics(runs: Sequence[Run]) -> Iterator[Comparison]:
    """Each network against each radiomics system, in the order of the tables."""
    in_turn = sorted(runs, key=in_order)
    networks = [run for run in in_turn if run.backbone not in SYSTEMS]
    for task, single in SINGLE_OF_TASK.items():
        systems = [r for r in in_turn if r.backbone in SYSTEMS and r.supervision == single]
        for network, system in product(networks, systems):
            way = WAYS.get(network.supervision)
            if way is not None and task in way.tasks:
                yield Comparison(network, system, task, NETWORK_VS_RADIOMICS)


def comparison_table(
    evidence: Sequence[Evidence],
    scores: Scores,
    *,
    resamples: Resamples,
    settings: AnalysisSettings,
) -> pd.DataFrame:
    """Every declared comparison, adjusted inside each family and seed."""
    of_run = {found.run.name: found for found in evidence}
    readings = _read_again(evidence, settings)
    rows: list[Row] = []
    samples: list[Float[np.ndarray, " b"]] = []
    for planned in planned_comparisons([found.run for found in evidence]):
        model, reference = of_run[planned.model.name], of_run[planned.reference.name]
        of_model, of_reference = scores[planned.model.name], scores[planned.reference.name]
        for key in of_model:
            if key[0] != planned.task or key not in of_reference:
                continue
            row = _comparison_keys(planned, metric=key[1], n=len(model.predictions))
            row |= _difference(of_model[key], of_reference[key], resamples, settings)
            again = readings[planned.model.name][key] - readings[planned.reference.name][key]
            row["sign_kept"] = float(np.mean(np.sign(again) == np.sign(row["difference"])))
            rows.append(_with_other_tests(row, model, reference))
            samples.append(of_model[key].samples - of_reference[key].samples)
    table = _adjusted(tidy("comparisons", rows), ["family", "seed"])
    for _, family in table.groupby(["family", "seed"], sort=False):
        together = np.stack([samples[i] for i in family.index])
        table.loc[family.index, "p_max_t"] = max_t(family["difference"].to_numpy(), together)
    return table


def _read_again(evidence: Sequence[Evidence], settings: AnalysisSettings) -> dict[str, Rescored]:
    """The metrics of every run against the same readings of a reader who agrees 7 times in 10."""
    labels = read_again(
        evidence[0].predictions.kl,
        agreement=READER,
        draws=min(settings.resamples, READINGS),
        rng=np.random.default_rng(settings.seed),
    )
    return {found.run.name: scores_under(found.predictions, labels) for found in evidence}


def seed_table(
    evidence: Sequence[Evidence], scores: Scores, *, settings: AnalysisSettings
) -> pd.DataFrame:
    """Every declared comparison over all seeds: methods instead of trained networks."""
    rng = np.random.default_rng(settings.seed)
    rows: list[Row] = []
    seen: set[tuple[str, str, str]] = set()
    for planned in planned_comparisons([found.run for found in evidence]):
        sides = _method(planned.model), _method(planned.reference)
        if (*sides, planned.task) in seen:
            continue
        seen.add((*sides, planned.task))
        runs = [[f.run.name for f in evidence if _method(f.run) == side] for side in sides]
        keys = {"model": sides[0], "reference": sides[1], "task": planned.task}
        keys["family"] = planned.family
        for task, metric in scores[planned.model.name]:
            if task == planned.task and all((task, metric) in scores[r] for s in runs for r in s):
                model, reference = (_seeds(side, scores, (task, metric)) for side in runs)
                row = {**keys, "metric": metric, "n": len(evidence[0].predictions)}
                rows.append(row | _over_seeds(model, reference, rng=rng))
    return tidy("seeds", rows)


def _over_seeds(model: Seeds, reference: Seeds, *, rng: np.random.Generator) -> Row:
    found = asdict(seed_difference(model, reference, rng=rng))
    row: Row = {"about": ABOUT[not np.isnan(found["p"])], **found}
    for name, side in (("model", model), ("reference", reference)):
        row[f"{name}_seeds"] = len(side.values)
        row[f"{name}_mean"] = float(side.values.mean())
        row[f"{name}_iqm"] = interquartile_mean(side.values)
        if len(side.values) > 1:
            row[f"{name}_sd"] = float(side.values.std(ddof=1))
    return row


def _seeds(runs: Sequence[str], scores: Scores, key: tuple[str, str]) -> Seeds:
    of_runs = [scores[run][key] for run in runs]
    return Seeds(np.array([s.value for s in of_runs]), np.stack([s.samples for s in of_runs]))


def _method(run: Run) -> str:
    return f"{run.backbone}-{run.supervision}"


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
    of_one_backbone = planned.family in (DUAL_VS_SINGLE, SUPERVISION_VS_SINGLE)
    return {
        "model": planned.model.name,
        "reference": planned.reference.name,
        "backbone": planned.model.backbone if of_one_backbone else "",
        "task": planned.task,
        "metric": metric,
        "test": "paired bootstrap",
        "family": planned.family,
        "supervision": "" if of_one_backbone else planned.model.supervision,
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
    return {**values, **asdict(found), "mde": minimum_detectable(found.se)}


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


def in_order(run: Run) -> tuple[tuple[int, str], int, str, int]:
    """Where a run stands in the tables: by backbone and supervision as in the paper, then seed."""
    known = SUPERVISIONS.index(run.supervision) if run.supervision in SUPERVISIONS else 3
    return _backbone_place(run.backbone), known, run.supervision, run.seed


def _backbone_place(backbone: str) -> tuple[int, str]:
    known = BACKBONES.index(backbone) if backbone in BACKBONES else len(BACKBONES)
    return known, backbone
