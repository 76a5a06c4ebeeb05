"""All that a study found, as tidy tables on disk and in memory."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from kellgren.exemplars import Exemplar, read_exemplars, write_exemplars
from kellgren.faults import InputError
from kellgren.files import readable, write_json
from kellgren.tables import write_csv

RUN_KEYS = ["backbone", "supervision", "seed"]
PAIR_VALUES = ["model_value", "reference_value", "difference"]
BOOTSTRAP = ["boot_mean", "se", "ci_low", "ci_high", "p", "p_holm", "p_bh"]
ORDER = ["rho_kl", "tau_kl", "eta2_kl", "auc_oa"]
ORDER += ["auc_01", "auc_12", "auc_23", "auc_34", "auc_04"]
SHAPE = ["triplet_order", "straightness", "participation_ratio", "effective_rank", "similarity_rho"]
LIKENESS = ["cka", "cka_debiased"]


def bounds_of(name: str) -> tuple[str, str]:
    """Columns of the ends of a measure's interval.

    >>> bounds_of("tau_kl")
    ('tau_kl_low', 'tau_kl_high')
    """
    return f"{name}_low", f"{name}_high"


# The columns that every table has, first and in this order; also those of an empty table.
COLUMNS: dict[str, list[str]] = {
    "cohort": [
        *["split", "cases", "kl0", "kl1", "kl2", "kl3", "kl4", "oa_negative", "oa_positive"],
        *["age_mean", "age_sd", "female"],
    ],
    "runs": [
        *RUN_KEYS,
        *["n_test", "oa_source", "size", "grid", "parameters", "epochs", "train_seconds"],
        *["device", "torch", "weights_digest", "oa_rules_differ"],
    ],
    "performance": [
        *RUN_KEYS,
        *["task", "metric", "value", "n", "oa_source", "ci_low", "ci_high"],
        *["correct", "wilson_low", "wilson_high"],
    ],
    "published_form": [*RUN_KEYS, "task", "metric", "mean", "sd", "chunks", "n"],
    "attribution": [*RUN_KEYS, "region", "family", "share", "features"],
    "chance": ["task", "metric", "rule", "value", "n"],
    "comparisons": [
        *["model", "reference", "backbone", "task", "metric", *PAIR_VALUES, *BOOTSTRAP, "test"],
        *["family", "supervision", "seed", "n", "resamples", "redrawn"],
        *["mcnemar_b", "mcnemar_c", "p_mid", "p_delong", "z_delong", "delong_low", "delong_high"],
        *["warning", "mde", "p_max_t", "sign_kept"],
    ],
    "seeds": [
        *["model", "reference", "task", "metric", "family", "about", "difference"],
        *["se_cases", "se_seeds", "se_both", "ci_low", "ci_high", "p", "probability", "n"],
        *["model_seeds", "model_mean", "model_sd", "model_iqm"],
        *["reference_seeds", "reference_mean", "reference_sd", "reference_iqm"],
    ],
    "ordinal": [*RUN_KEYS, "metric", "value", "ci_low", "ci_high", "n"],
    "noise": [
        *[*RUN_KEYS, "task", "metric", "agreement", "value", "ceiling", "ceiling_sd", "share"],
        *["rescored", "rescored_sd", "n"],
    ],
    "calibration": [
        *[*RUN_KEYS, "head", "scaling", "n", "brier", "log_loss", "ece", "ece_if_calibrated"],
        *["p_calibrated", "slope", "intercept"],
        *["temperature", "temperature_low", "temperature_high"],
    ],
    "reliability": [*RUN_KEYS, "head", "scaling", "confidence", "frequency", "count"],
    "hierarchy": [
        *[*RUN_KEYS, "stratum", "n", "agreement_argmax", "agreement_implied", "soft_gap"],
        *["divergence", "inconsistent", "right_oa", "right_kl"],
        *["ensemble_auc", "ensemble_accuracy", "ensemble_f1"],
    ],
    "decision": [*RUN_KEYS, "threshold", "net_benefit", "ci_low", "ci_high", "treat_all", "n"],
    "strata": [
        *[*RUN_KEYS, "covariate", "level", "task", "metric", "value", "ci_low", "ci_high"],
        *["n", "positives"],
    ],
    "geometry": [
        *RUN_KEYS,
        *["fit", "n", "evr_pc1", "rho_kl", "rho_oa", "abs_rho_kl", "abs_rho_oa", "auroc_oa"],
        *["rho_adjacent", "p_adjacent", "distance_01", "distance_12", "distance_23", "distance_34"],
        *["evr_pc1_low", "evr_pc1_high", "abs_rho_kl_low", "abs_rho_kl_high"],
        *["abs_rho_oa_low", "abs_rho_oa_high"],
    ],
    "order": [
        *[*RUN_KEYS, "axis", "n", *ORDER],
        *[bound for name in ORDER for bound in bounds_of(name)],
    ],
    "representation": [
        *[*RUN_KEYS, "n", "features", *SHAPE, "similarity_p"],
        *[bound for name in SHAPE for bound in bounds_of(name)],
    ],
    "similarity": [
        *["model", "reference", "differ_in", *LIKENESS, "n"],
        *[bound for name in LIKENESS for bound in bounds_of(name)],
    ],
    "interference": [*RUN_KEYS, "epoch", "stage", "cosine", "conflict", "likeness"],
    "overlap": [*RUN_KEYS, "head", "metric", "value", "ci_low", "ci_high", "n", "chance"],
    "overlap_comparisons": [
        *["model", "reference", "backbone", "seed", "head", "metric"],
        *[*PAIR_VALUES, *BOOTSTRAP, "family", "n", "dropped", "resamples", "redrawn", "warning"],
        "mde",
    ],
    "controls": [
        *[*RUN_KEYS, "head", "control", "metric", "value", "ci_low", "ci_high", "n"],
        *["saliency", "difference", "difference_low", "difference_high"],
    ],
    "deletion": [*RUN_KEYS, "head", "region", "value", "ci_low", "ci_high", "n"],
    "randomisation": [*RUN_KEYS, "head", "depth", "stage", "rho", "n"],
    "repeatability": ["backbone", "supervision", "head", "case_id", "seed", "other_seed", "rho"],
    "truth": [
        *[*RUN_KEYS, "against", "task", "metric", "value", "ci_low", "ci_high", "n"],
        *["left_out", "chance"],
    ],
    "truth_methods": [
        *["model", "reference", "against", "task", "metric", "n", "seeds"],
        *["mean", "sd", "ci_low", "ci_high", "difference", "difference_low", "difference_high"],
        *["se_cases", "se_seeds", "se_both", "p", "probability", "left_out", "chance"],
    ],
    "confusion": [*RUN_KEYS, "head", "reference", "predicted", "count"],
    "embedding": [*RUN_KEYS, "case_id", "kl", "x", "y", "kl_divergence", "trustworthiness"],
}
TEXT = {
    *["split", "backbone", "supervision", "oa_source", "size", "grid", "device", "torch"],
    *["weights_digest", "task", "metric", "rule", "model", "test", "family", "warning"],
    *["fit", "head", "case_id", "about", "scaling", "stratum", "covariate", "level", "axis"],
    *["differ_in", "control", "region", "stage", "against"],
}
TEXT_REFERENCE = {
    "comparisons",
    "overlap_comparisons",
    "seeds",
    "similarity",
    "truth_methods",
}  # a run there, a class in `confusion`


@dataclass(frozen=True)
class StudyResult:
    """All that a study found, as tidy tables: keys first, then values.

    Every table is also a CSV of that name in the study folder; `docs/files.md` lists the columns,
    and `COLUMNS` names them all. Further columns may follow; they are read as text.

    Attributes:
        name: Name of the study.
        protocol: The study file with defaults filled in, and provenance; empty where unknown.
        cohort: One row a split.
        runs: One row a run: what it is and what it was made with. `oa_rules_differ` counts the
            cases where the summed probability of Eq. (4) and the most likely grade disagree on OA.
        performance: One row per run, task and metric; `correct` of n cases where it is a share.
        published_form: Mean and standard deviation over five chunks of the test cases, the form in
            which Chen et al. print their rows.
        attribution: Where the weight of a radiomics system lies: share of the sum of absolute
            weights by region and class of feature.
        chance: Scores of rules that do not look at the knee.
        comparisons: Paired differences, model minus reference, with p-values raw and adjusted
            inside each declared family and seed: Holm, Benjamini-Hochberg, and max-T from the
            shared resamples. `mde` is the difference that would be found four times in five,
            `sign_kept` the share of readings by a reader of exact agreement 0.7 that keep the sign.
        seeds: The same comparisons over all seeds; `about` says whether p is about two methods or
            about the trained networks only.
        ordinal: Measures that know the order of the grades.
        noise: Scores beside what a perfect reader would score against a reference read with an
            exact agreement of `agreement`, and their mean had the reference been read again.
        calibration: Calibration of the OA probability and of the confidence in the grade, as they
            are and at a temperature fitted on training predictions.
        reliability: The reliability diagrams of the same.
        hierarchy: Agreement of the OA head and the KL head, over all cases and by grade.
        decision: Net benefit of acting on the OA prediction by threshold.
        strata: Performance by age, sex, side and site.
        geometry: Severity axis; `fit` is "test" (fitted and evaluated on the test split, the
            headline), "train" (fitted on train, evaluated on test) or "train_in_sample" (fitted
            and evaluated on train).
        order: How PC1 (fitted on "test" or "train") and the axis from grade 0 to grade 4 of the
            training split ("supervised") order the test cases.
        representation: Order, straightness, dimension and representational similarity of all
            features of the test cases.
        similarity: Centred kernel alignment of each two runs that differ in one thing.
        interference: Agreement of the gradients of the two heads, by epoch and stage.
        overlap: Mean over cases of each saliency measure, per run and head.
        overlap_comparisons: Dual minus single, paired over cases, per head and metric; adjusted
            inside each seed, the four measures of section 3.5.3 apart from the further ones.
        controls: Each control map, and the saliency of the run minus it, per head and metric.
        deletion: Change of the explained logit when cartilage, or as much elsewhere, is deleted.
        randomisation: Saliency of networks randomised from the heads down against the run's own.
        repeatability: Saliency of one knee between two seeds.
        truth: Of a phantom: performance, and rank correlation with severity, `against` the true
            grade and severity ("truth") and against the grade that was read ("reading"); and how
            saliency lies on planted signs of disease, see `kellgren.truth.planted_scores`.
        truth_methods: The same over seeds; differences are from the single model of the task, for
            severity from Single-KL, over seeds and knees.
        confusion: Counts of the test cases per head, reference class and predicted class.
        embedding: t-SNE of the test cases.
        exemplars: Pictures for Fig. 3.
    """

    name: str
    protocol: dict[str, Any]  # any JSON object
    cohort: pd.DataFrame
    runs: pd.DataFrame
    performance: pd.DataFrame
    published_form: pd.DataFrame
    attribution: pd.DataFrame
    chance: pd.DataFrame
    comparisons: pd.DataFrame
    seeds: pd.DataFrame
    ordinal: pd.DataFrame
    noise: pd.DataFrame
    calibration: pd.DataFrame
    reliability: pd.DataFrame
    hierarchy: pd.DataFrame
    decision: pd.DataFrame
    strata: pd.DataFrame
    geometry: pd.DataFrame
    order: pd.DataFrame
    representation: pd.DataFrame
    similarity: pd.DataFrame
    interference: pd.DataFrame
    overlap: pd.DataFrame
    overlap_comparisons: pd.DataFrame
    controls: pd.DataFrame
    deletion: pd.DataFrame
    randomisation: pd.DataFrame
    repeatability: pd.DataFrame
    truth: pd.DataFrame
    truth_methods: pd.DataFrame
    confusion: pd.DataFrame
    embedding: pd.DataFrame
    exemplars: tuple[Exemplar, ...] = field(default=())

    @classmethod
    def read(cls, folder: Path) -> "StudyResult":
        """Read what `write` wrote; a table that is absent is empty, with its columns.

        Raises:
            InputError: If the folder holds no `protocol.json`, or a table lacks a column.
        """
        path = folder / "protocol.json"
        if not path.exists():
            raise InputError(
                str(folder), "no protocol.json", "a study folder", "analyze the runs first"
            )
        with readable(path, todo="analyze the runs again"):
            content = json.loads(path.read_text(encoding="utf-8"))
        pictures = folder / "exemplars.npz"
        return cls(
            name=content["name"],
            protocol=content["protocol"],
            **{name: _read_table(folder / f"{name}.csv") for name in COLUMNS},
            exemplars=read_exemplars(pictures) if pictures.exists() else (),
        )

    def write(self, folder: Path) -> None:
        """Write each table as CSV and the exemplars as NPZ, then the protocol as JSON."""
        for name in COLUMNS:
            write_csv(folder / f"{name}.csv", getattr(self, name))
        write_exemplars(folder / "exemplars.npz", self.exemplars)
        write_json(folder / "protocol.json", {"name": self.name, "protocol": self.protocol})


def tidy(name: str, rows: Sequence[Mapping[Any, Any]]) -> pd.DataFrame:  # cells of many types
    """The rows as the table of that name: its columns first, further ones after them.

    >>> tidy("chance", [{"rule": "constant", "value": 0.5}]).columns.tolist()
    ['task', 'metric', 'rule', 'value', 'n']
    """
    table = pd.DataFrame(rows)
    further = [column for column in table.columns if column not in COLUMNS[name]]
    table = table.reindex(columns=[*COLUMNS[name], *further])
    text = _text_columns(name, table)
    for column in COLUMNS[name]:
        if column not in text:
            table[column] = pd.to_numeric(table[column])
    return table.astype(dict.fromkeys(text, object)).fillna(dict.fromkeys(text, ""))


def _read_table(path: Path) -> pd.DataFrame:
    name = path.stem
    if not path.exists():
        return tidy(name, [])
    with readable(path, todo="analyze the runs again"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [column for column in COLUMNS[name] if column not in table.columns]
    if missing:
        raise InputError(
            str(path), f"no column {missing[0]}", f"{COLUMNS[name]}", "analyze the runs again"
        )
    numbers = [column for column in COLUMNS[name] if column not in _text_columns(name, table)]
    return table.astype(object).assign(**{column: _numbers(table[column]) for column in numbers})


def _numbers(cells: "pd.Series[str]") -> "pd.Series[Any]":  # integers, or floats with NaN
    # Python reads the digits that `repr` wrote back to the same bits; pandas need not.
    if len(cells) and cells.str.fullmatch(r"-?\d+").all():
        return cells.astype("int64")
    return cells.map(lambda cell: float(cell or "nan")).astype("float64")


def _text_columns(name: str, table: pd.DataFrame) -> list[str]:
    known = TEXT | ({"reference"} if name in TEXT_REFERENCE else set())
    return [column for column in table.columns if column in known]
