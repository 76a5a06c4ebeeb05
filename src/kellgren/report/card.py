"""What is said about a trained network to somebody who did not train it: its model card."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kellgren.analysis.resampling import resample
from kellgren.config import AnalysisSettings
from kellgren.evidence import Evidence, performance_rows, scores_of
from kellgren.grading import NOTICE
from kellgren.labels import KL_GRADES
from kellgren.report.table import interval, number
from kellgren.report.terms import BACKBONES, METRICS, SUPERVISIONS, TASKS, spoken
from kellgren.runs import Run

# Parts of run.json that say what a network is; the others name knees, or are about its pictures.
SHARED = ("asked", "made_with", "started_from", "trained")
LIMITS = """\
- It learned one cohort, one sequence and one set of readers; on other scanners, sequences or
  populations its performance is unknown.
- KL grades are radiographic readings on which readers agree only in part; a network cannot be
  better than the reference it was held against.
- Probabilities are not calibrated for any prevalence but that of the test knees.
- A saliency map shows what moves the answer, not what is diseased."""


def shared_record(run: Run) -> dict[str, Any]:
    """`run.json` without anything that names a knee."""
    record = run.record()
    return {name: record[name] for name in SHARED if name in record}


def performance_of(run: Run, settings: AnalysisSettings) -> pd.DataFrame:
    """Every metric of a run on its test knees with its interval; empty without predictions."""
    if not run.predictions.exists():
        return pd.DataFrame()
    found = Evidence.of(run)
    rng = np.random.default_rng(settings.seed)
    drawn = resample(len(found.predictions), resamples=settings.resamples, rng=rng)
    return pd.DataFrame(performance_rows(found, scores_of(found, drawn), drawn))


def facts_of(run: Run, settings: AnalysisSettings) -> dict[str, Any]:
    """What a run is, as JSON: its record, its files and their sizes in bytes, its performance."""
    table = performance_of(run, settings)
    rows = table[["task", "metric", "value", "ci_low", "ci_high", "n"]] if len(table) else table
    files = sorted(path for path in run.folder.glob("*") if path.is_file())
    return {
        "run": run.name,
        "notice": NOTICE,
        "trained": run.weights.exists(),
        "record": shared_record(run),
        "files": {path.name: path.stat().st_size for path in files},
        "resamples": settings.resamples,
        "performance": rows.astype(object).where(rows.notna(), None).to_dict("records"),
    }


def model_card(
    run: Run,
    *,
    settings: AnalysisSettings,
    data: str,
    licence: str,
    parities: Sequence[Mapping[str, Any]],
) -> str:
    """The card as Markdown.

    Args:
        run: A finished run.
        settings: Resamples and seed of the intervals.
        data: What it was trained on, in the sharer's words; empty where nothing was said.
        licence: Under which it is shared; empty where nothing was said.
        parities: Forms beside the weights, as in `parity.json`.
    """
    record = shared_record(run)
    asked, trained = record["asked"], record.get("trained", {})
    training, backbone = asked["training"], asked["backbone"]
    name, setting = spoken(BACKBONES, run.backbone), spoken(SUPERVISIONS, run.supervision)
    grid = " x ".join(map(str, backbone["grid"]))
    counts = (
        f"{asked['train_cases']} knees with a KL grade"
        f" (digest of ids and grades {asked['grades_digest']})"
    )
    parts = [
        f"# {run.name}",
        f"**{NOTICE}** Not for diagnosis, treatment or any decision about a patient.",
        f"{name} ({backbone['size']}), {setting}, seed {run.seed}: grades knee osteoarthritis from"
        f" one 3-D MRI. {trained.get('parameters', 0):,} parameters.",
        "## Use",
        "```\nkellgren grade scan.nii.gz --weights . --side right\n```",
        _input(asked, grid),
        "## Data",
        data or "The sharer did not describe the data (`kellgren export --data`).",
        f"Trained on {counts}. {_test_knees(run)}",
        "## Protocol",
        f"{trained.get('epochs', training['epochs'])} epochs, batch {training['batch_size']}, AdamW"
        f" with learning rate {training['lr']:g} and weight decay {training['weight_decay']:g},"
        f" {training['precision']}; loss {_loss(asked['tasks'], training)}; the weights after the"
        f" last epoch. Started from {record.get('started_from') or 'random weights'}. All settings"
        " stand in `run.json`.",
        "## Performance",
        _performance(run, settings),
        "## Limits",
        LIMITS,
        "## Forms",
        _forms(parities),
        "## Licence",
        licence or "None was stated, so that nobody may use it yet (`kellgren export --licence`).",
    ]
    return "\n\n".join(parts) + "\n"


def _input(asked: Mapping[str, Any], grid: str) -> str:
    preparation = asked.get("preparation", {})
    crop = preparation.get("crop_mm")
    shown = f"the central {' x '.join(map(str, crop))} mm of the scan" if crop else "the whole scan"
    mirrored = preparation.get("mirror_left", True)
    return (
        "Input of the other forms: one channel, slices x rows x columns"
        f" {grid} ({shown}, first axis from right to left of the patient's frame as `kellgren"
        f" prepare` writes it), {preparation.get('normalisation', 'zscore')} over the scan"
        f"{', left knees mirrored' if mirrored else ''}. Logits: one log-odds of OA (KL 2 or"
        " above), five of the grades 0 to 4."
    )


def _test_knees(run: Run) -> str:
    if not run.predictions.exists():
        return "It was not evaluated."
    kl = Evidence.of(run).predictions.kl
    counts = np.bincount(kl, minlength=KL_GRADES)
    mix = ", ".join(f"{count} of grade {grade}" for grade, count in enumerate(counts))
    return f"Evaluated once on {len(kl)} other knees: {mix}."


def _loss(tasks: Sequence[str], training: Mapping[str, Any]) -> str:
    parts = [
        f"{training[f'lambda_{task}']:g} x {training[f'{task}_loss']} ({TASKS[task]})"
        for task in tasks
    ]
    return " + ".join(parts)


def _performance(run: Run, settings: AnalysisSettings) -> str:
    table = performance_of(run, settings)
    if table.empty:
        return "Not evaluated."
    rows = [
        f"| {TASKS[row['task']]} | {METRICS[row['metric']]} | {number(row['value'], digits=3)} |"
        f" {interval(row['ci_low'], row['ci_high'])} |"
        for _, row in table.iterrows()
    ]
    return "\n".join(
        [
            "| task | metric | value | 95 % CI |",
            "|---|---|---|---|",
            *rows,
            "",
            f"n = {int(table['n'].iloc[0])} knees; percentile bootstrap, {settings.resamples:,}"
            f" resamples of knees, seed {settings.seed}. One training: what another seed would give"
            " is not in these intervals. An interval is missing where resamples lack a class.",
        ]
    )


def _forms(parities: Sequence[Mapping[str, Any]]) -> str:
    lines = ["- `weights.safetensors` with `run.json`: exact; what `kellgren grade` reads."]
    for parity in parities:
        worst = max(parity["largest"], key=lambda name: parity["largest"][name])
        lines.append(
            f"- {parity['form']} ({parity['library']}): largest difference"
            f" {parity['largest'][worst]:.1e} ({worst}) on {parity['volumes']} volumes of noise."
        )
    return "\n".join(lines)
