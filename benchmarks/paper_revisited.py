"""Print the tables of docs/paper-revisited.md from the paper's published predictions.

Run from the root of the repository:

    python benchmarks/paper_revisited.py FOLDER

FOLDER holds the per-knee predictions that the paper's author released, one CSV a model
(`resnet3d_dual.csv`, ...), and `severity_axis_trainfit_summary.csv`.
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd

from kellgren.analysis.geometry import rho_of_auroc
from kellgren.config import AnalysisSettings
from kellgren.results import StudyResult
from kellgren.runs import Run
from kellgren.study import analyze

MODELS = [
    f"{backbone}_{supervision}"
    for backbone in ("resnet3d", "m3t")
    for supervision in ("single_oa", "single_kl", "dual")
]
METHOD = ["backbone", "supervision"]


def run_folders(given: Path, folder: Path) -> list[Run]:
    """The published predictions as run folders."""
    runs = []
    for model in MODELS:
        backbone, _, supervision = model.partition("_")
        table = pd.read_csv(given / f"{model}.csv", dtype=str)
        table = table.rename(columns={"CMT_ID": "case_id", "label_kl": "kl"})
        table["case_id"] = "oaizib_" + table["case_id"].str.zfill(3)  # as the importer names them
        heads = [c for c in table.columns if c == "prob_oa" or c.startswith("prob_kl_")]
        run = Run.at(folder / f"{backbone}-{supervision}-s0")
        run.folder.mkdir(parents=True)
        table[["case_id", "kl", *heads]].to_csv(run.predictions, index=False)
        runs.append(run)
    return runs


def show(title: str, table: pd.DataFrame, *, digits: int = 3) -> None:
    print(f"\n### {title}\n\n| {' | '.join(table.columns)} |\n|{'---|' * len(table.columns)}")
    for row in table.itertuples(index=False):
        cells = [f"{v:.{digits}f}" if isinstance(v, float) else str(v) for v in row]
        print("| " + " | ".join("" if cell == "nan" else cell for cell in cells) + " |")


def show_study(result: StudyResult) -> None:
    tests = result.comparisons.query("family == 'dual-vs-single'")
    columns = ["difference", "ci_low", "ci_high", "p", "p_holm", "p_bh", "p_max_t", "mde"]
    columns.append("sign_kept")
    show("Dual minus single", tests[["backbone", "task", "metric", *columns]], digits=4)
    others = tests.query("p_mid == p_mid or p_delong == p_delong")
    columns = ["mcnemar_b", "mcnemar_c", "p", "p_mid", "p_delong"]
    show("Other tests of the OA task", others[["backbone", "metric", *columns]], digits=4)
    show("Chance", result.chance[["task", "metric", "rule", "value"]])
    shown = result.performance.query("metric in ('accuracy', 'f1', 'macro_f1')")
    show("Performance", shown[[*METHOD, "task", "metric", "value", "ci_low", "ci_high"]])
    columns = ["metric", "value", "ci_low", "ci_high"]
    show("Ordered grades", result.ordinal[[*METHOD, *columns]])
    noise = result.noise.query("agreement == 0.7")
    columns = ["task", "metric", "value", "ceiling", "share", "rescored"]
    show("Against a reader of exact agreement 0.7", noise[[*METHOD, *columns]])
    columns = ["head", "brier", "log_loss", "ece", "ece_if_calibrated", "p_calibrated", "slope"]
    show("Calibration", result.calibration[[*METHOD, *columns]])
    columns = ["stratum", "n", "agreement_argmax", "agreement_implied", "soft_gap", "divergence"]
    columns += ["inconsistent", "right_oa", "right_kl", "ensemble_auc"]
    show("The two heads of Dual", result.hierarchy[[*METHOD, *columns]], digits=4)


def show_axis(given: Path) -> None:
    table = pd.read_csv(given / "severity_axis_trainfit_summary.csv")
    table["implied"] = [
        rho_of_auroc(area, positive=65, negative=33) for area in table["OA_probe_AUROC_test"]
    ]
    columns = ["backbone", "setting", "EVR_PC1", "abs_spearman_PC1_KL", "abs_spearman_PC1_OA"]
    columns += ["implied", "OA_probe_AUROC_test", "OA_probe_AUROC_train"]
    show("Severity axis, fitted on train", table[columns], digits=4)


def main() -> None:
    given = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        show_study(analyze(run_folders(given, Path(folder)), settings=AnalysisSettings()))
    show_axis(given)


if __name__ == "__main__":
    main()
