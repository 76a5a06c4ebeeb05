"""Print the tables of docs/benchmark.md: radiomics beside the paper's published networks.

Run from the root of the repository:

    python benchmarks/contextual.py PREDICTIONS TABLES FEATURES

PREDICTIONS holds the per-knee predictions that the paper's author released (`resnet3d_dual.csv`,
...), TABLES the `subInfo_{train,test}` of OAIZIB-CM, and FEATURES the tables of Chen et al.,
`radiomics_{train,test}_wide.csv.gz`.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from paper_revisited import METHOD, run_folders, show
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from kellgren.analysis.chunks import published_form
from kellgren.analysis.comparison import difference
from kellgren.analysis.ordinal import ORDINAL, ordinal_performance, weighted_kappa
from kellgren.analysis.performance import METRICS, confusion
from kellgren.analysis.resampling import resample
from kellgren.config import AnalysisSettings, RadiomicsSettings
from kellgren.importers import import_oaizib_cm
from kellgren.labels import oa_from_kl
from kellgren.radiomics import linear
from kellgren.radiomics.benchmark import SYSTEMS
from kellgren.radiomics.ordinal import balance, grade_logits
from kellgren.radiomics.scaling import standardised
from kellgren.radiomics.systems import SUPERVISION_OF, Material, fit_run
from kellgren.radiomics.table import FeatureTable
from kellgren.report.published import CONTEXT, ContextRow
from kellgren.runs import Run
from kellgren.store import Store
from kellgren.study import NETWORK_VS_RADIOMICS, StudyResult, analyze
from kellgren.tables import LOGIT_KL, Predictions

COMPARED = ("all_radiomics", "all_radiomics_ordinal")  # declared: the two fitted on all features
LINEAR = (
    *("demographics", "shape", "texture", "cartilage", "bone"),
    *(*COMPARED, "all_radiomics_refit"),
)
DIFFERENCE = ["model_value", "reference_value", "difference", "ci_low", "ci_high", "p", "p_holm"]


def quiet(_share: int, _note: str) -> None:
    pass


def material(tables: Path, features: Path) -> Material:
    """The 383 training and 98 test knees with a grade, and their features."""
    cases = tuple(import_oaizib_cm(tables, tables_only=True).cases)
    paths = [features / f"radiomics_{split}_wide.csv.gz" for split in ("train", "test")]
    table = FeatureTable.read(paths).of([case.case_id for case in cases])
    store = Store(Path("prepared"), (32, 128, 128), (2, 4, 5))
    return Material(cases, table, store, RadiomicsSettings(systems=LINEAR))


def radiomics_runs(looked_at: Material, folder: Path) -> list[Run]:
    """Each linear system, fitted for each task."""
    runs = []
    for system, supervision in product(LINEAR, SUPERVISION_OF.values()):
        run = Run.at(folder / f"{system}-{supervision}-s0")
        run.folder.mkdir(parents=True)
        fit_run(run, SYSTEMS[system], looked_at, watch=quiet)
        runs.append(run)
    return runs


def show_performance(runs: Sequence[Run]) -> None:
    for task, supervision in SUPERVISION_OF.items():
        rows = []
        for run in [r for r in runs if r.supervision in (supervision, "dual")]:
            found = Predictions.read(run.predictions)
            values = {name: metric(found) for name, metric in METRICS[task].items()}
            if task == "kl":
                values |= ordinal_performance(found)
            strength = run.record().get("fitted", {}).get("strength", np.nan)
            rows.append({"system": run.backbone, "supervision": run.supervision, **values})
            rows[-1] |= {"C or L2": f"{strength:.3g}"}
        columns = ["accuracy", *{"oa": ["f1", "auc"], "kl": ["macro_f1", "macro_auc"]}[task]]
        columns += {"oa": [], "kl": ["quadratic_kappa", "mae", "off_by_one"]}[task]
        keys = ["system", "supervision", "C or L2"]
        show(f"Task {task}", pd.DataFrame(rows)[[*keys, *columns]])


def show_comparisons(result: StudyResult) -> None:
    family = result.comparisons.query(f"family == '{NETWORK_VS_RADIOMICS}'")
    for task in ("oa", "kl"):
        rows = family[family["task"] == task]
        columns = ["model", "reference", "metric", *DIFFERENCE, "p_max_t", "mde"]
        show(f"Network minus radiomics, {task}, of {len(family)} tests", rows[columns])


def show_kappas(runs: Sequence[Run]) -> None:
    """Differences of the quadratic kappa, which the declared family does not hold."""
    of_run = {run: Predictions.read(run.predictions) for run in runs}
    drawn = resample(98, resamples=10_000, rng=np.random.default_rng(42))
    kappa, once = ORDINAL["quadratic_kappa"], np.ones((98, 1), dtype=np.int32)
    graded = [run for run, found in of_run.items() if found.prob_kl is not None]
    networks = [run for run in graded if run.backbone not in LINEAR]
    rows = []
    for network, name in product(networks, COMPARED):
        system = next(run for run in graded if run.backbone == name)
        ends = [float(kappa(of_run[run], once)[0]) for run in (network, system)]
        samples = [kappa(of_run[run], drawn.counts) for run in (network, system)]
        found = difference(ends[0] - ends[1], samples[0] - samples[1], resamples=drawn)
        row = {"model": network.name, "reference": system.name}
        row |= {"model_value": ends[0], "reference_value": ends[1], "difference": ends[0] - ends[1]}
        rows.append({**row, "ci_low": found.ci_low, "ci_high": found.ci_high, "p": found.p})
    show("Quadratic kappa, network minus radiomics, not adjusted", pd.DataFrame(rows))


def show_published_form(runs: Sequence[Run]) -> None:
    for task, supervision in SUPERVISION_OF.items():
        rows = [
            [f"{row.method} (published)", *(f"{mean:.2f} ± {sd:.2f}" for mean, sd in _scores(row))]
            for row in CONTEXT[task]
        ]
        for run in [r for r in runs if r.supervision in (supervision, "dual")]:
            forms = [f for f in published_form(Predictions.read(run.predictions)) if f.task == task]
            cells = [f"{form.mean:.2f} ± {form.sd:.2f}" for form in forms]
            rows.append([f"{run.backbone} {run.supervision}", *cells])
        columns = ["row", "accuracy", "macro-F1", "AUC"]
        show(f"Over five chunks of the test knees, {task}", pd.DataFrame(rows, columns=columns))


def _scores(row: ContextRow) -> tuple[tuple[float, float], ...]:
    return row.accuracy, row.macro_f1, row.auc


def show_strengths(looked_at: Material) -> None:
    """Every strength of the grids: what cross-validation saw, and what the test knees would say."""
    for regression, task in product((linear.LOGISTIC, linear.ORDINAL), ("oa", "kl")):
        x, y = linear.features(looked_at).x, looked_at.target(task)
        train = looked_at.rows("train")
        losses = linear.fold_losses(regression, x[train], y[train], task, watch=quiet)
        z, rows = standardised(x, train), []
        for strength, loss in zip(regression.grid, losses, strict=True):
            scores = linear.scores_of(z, regression.fit(z[train], y[train], strength))
            logits = scores if task == "oa" else regression.logits(scores)
            row = {"C or L2": f"{strength:.3g}", "fold loss": loss}
            rows.append({**row, **_on_test(looked_at, logits, task)})
            if regression is linear.ORDINAL and task == "kl":
                clamped = _on_test(looked_at, np.log(_clamped(scores)), task)
                rows[-1] |= {f"{name}, clamped": value for name, value in clamped.items()}
        show(f"{regression.name}, {task}, by strength", pd.DataFrame(rows))


def show_bone(looked_at: Material) -> None:
    """The grade from bone alone by strength, and of features that are not cut off."""
    x, train, rows = linear.bone(looked_at).x, looked_at.rows("train"), []
    y = looked_at.kl
    grid = replace(linear.LOGISTIC, grid=tuple(sorted((*linear.C_GRID, 0.03))))
    losses = linear.fold_losses(grid, x[train], y[train], "kl", watch=quiet)
    scaled = {
        "": standardised(x, train),
        ", not cut off": StandardScaler().fit(x[train]).transform(x),
    }
    for strength, loss in zip(grid.grid, losses, strict=True):
        row: dict[str, float | str] = {"C": f"{strength:.3g}", "fold loss": loss}
        for name, z in scaled.items():
            scores = linear.scores_of(z, linear.fit_logistic(z[train], y[train], strength))
            found = _on_test(looked_at, scores, "kl")
            row |= {f"{metric}{name}": value for metric, value in found.items()}
        rows.append(row)
    show("Bone alone, kl, by strength", pd.DataFrame(rows))
    print(f"\n{int((scaled[''] != scaled[', not cut off']).sum())} of {x.size} values are cut off")


def show_other_choices(looked_at: Material) -> None:
    """The ordinal grade by other criteria out of fold, and without a penalty on the intercepts."""
    x, train = linear.features(looked_at).x, looked_at.rows("train")
    y, z, rows = looked_at.kl[train], standardised(x, train), []
    parts = linear.folds(y, "kl", "the training knees")
    order = np.concatenate([held for _, held in parts])
    for l2 in linear.L2_GRID:
        row: dict[str, float | str] = {"L2": f"{l2:.3g}"}
        for name, fit in (("", linear.ORDINAL.fit), ("free, ", free_intercepts)):
            held_out = []
            for on, held in parts:
                inside = standardised(x[train], on)
                held_out.append(linear.scores_of(inside[held], fit(inside[on], y[on], l2)))
            scores = np.concatenate(held_out)
            table = confusion(y[order], grade_logits(scores).argmax(axis=1), classes=5)
            row[f"{name}fold loss"] = linear.ORDINAL.loss(scores, y[order])
            row[f"{name}fold kappa"] = float(weighted_kappa(table))
            row[f"{name}fold clamped loss"] = linear.log_loss(np.log(_clamped(scores)), y[order])
        scores = linear.scores_of(z, free_intercepts(z[train], y, l2))
        found = _on_test(looked_at, grade_logits(scores), "kl")
        rows.append({**row, **{f"free, {name}": value for name, value in found.items()}})
    show("Ordinal, kl, other choices", pd.DataFrame(rows))


def free_intercepts(x: np.ndarray, y: np.ndarray, l2: float) -> np.ndarray:
    """The ordinal model with a penalty on the weights alone: a logistic model a threshold."""
    c = 1 / (2 * l2 * len(y) * 4)
    models = [
        LogisticRegression(C=c, max_iter=5000).fit(x, y > k, sample_weight=balance(y))
        for k in range(4)
    ]
    return np.hstack([np.vstack([model.coef_.T, model.intercept_]) for model in models])


def _clamped(scores: np.ndarray) -> np.ndarray:
    """Probabilities of the grades as the published code states them, kept above 0."""
    above = np.pad(expit(scores), ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    clamped = np.maximum(above[:, :-1] - above[:, 1:], 1e-12)
    return clamped / clamped.sum(axis=1, keepdims=True)


def _on_test(looked_at: Material, logits: np.ndarray, task: str) -> dict[str, float]:
    test = looked_at.rows("test")
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame({"case_id": looked_at.table.case_id, "kl": looked_at.kl})
        table[["logit_oa"] if task == "oa" else LOGIT_KL] = logits
        table.iloc[test].to_csv(Path(folder) / "predictions.csv", index=False)
        found = Predictions.read(Path(folder) / "predictions.csv")
    values = {name: metric(found) for name, metric in METRICS[task].items()}
    if task == "kl":
        values["quadratic_kappa"] = ordinal_performance(found)["quadratic_kappa"]
    return values


def show_implied_oa(runs: Sequence[Run]) -> None:
    """OA that the grades imply, Eq. (4), beside OA fitted on its own."""
    rows = []
    for run in [r for r in runs if r.backbone in COMPARED]:
        found = Predictions.read(run.predictions)
        values = {name: metric(found) for name, metric in METRICS["oa"].items()}
        rows.append({"system": run.backbone, "supervision": run.supervision, **values})
    show("OA, fitted or implied by the grades", pd.DataFrame(rows))


def main() -> None:
    given, tables, features = (Path(argument) for argument in sys.argv[1:4])
    looked_at = material(tables, features)
    with tempfile.TemporaryDirectory() as folder:
        networks = run_folders(given, Path(folder))
        systems = radiomics_runs(looked_at, Path(folder))
        show_performance([*systems, *networks])
        show_implied_oa(systems)
        compared = [run for run in systems if run.backbone in COMPARED]
        result = analyze([*networks, *compared], settings=AnalysisSettings())
        show_comparisons(result)
        show_kappas([*networks, *compared])
        show_published_form([*systems, *networks])
        axes = result.order[[*METHOD, "axis", "rho_kl", "auc_oa", "auc_01", "auc_34"]]
        show("Severity axis of the standardised features", axes[axes["supervision"] == "single_kl"])
    show_strengths(looked_at)
    show_bone(looked_at)
    show_other_choices(looked_at)
    oa = oa_from_kl(looked_at.kl[looked_at.rows("test")])
    print(f"\n{len(oa)} test knees, {int(oa.sum())} with OA")


if __name__ == "__main__":
    main()
