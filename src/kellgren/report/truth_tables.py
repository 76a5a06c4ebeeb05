"""Models of a phantom against the truth, beside the reading that a study of patients has."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kellgren.report import facts
from kellgren.report.cells import by_backbone, measured_cell
from kellgren.report.table import (
    ABSENT,
    Cell,
    Column,
    Group,
    Omitted,
    Row,
    Table,
    interval,
    number,
    p_value,
)
from kellgren.report.terms import (
    METHODS,
    METRICS,
    PERFORMANCE,
    REFERENCES,
    SUPERVISIONS,
    TASKS,
    in_order,
    spoken,
)
from kellgren.study import StudyResult

SEVERITY = (("severity", "rho_oa_score"), ("severity", "rho_expected"), ("severity", "rho_pc1"))
SHOWN = (*PERFORMANCE, *SEVERITY)
UNKNOWN = "the true grade is known of synthetic knees alone (truth.csv)"
KEYS = ["model", "against", "task", "metric"]
Lines = Mapping[tuple[Any, ...], "pd.Series[Any]"]  # of `truth_methods`, by their keys
SIGNS = {
    "thinned_cartilage": "Thinned cartilage",
    "osteophyte": "Osteophytes",
    "marrow_spot": "Marrow spots",
}
SIDES = {
    "planted": ("Saliency", ""),
    "untrained": ("− untrained", "a"),
    "image_gradient": ("− edges", "b"),
}
TITLE = "Table S20. Differences against the truth, over seeds and knees"


def truth(result: StudyResult) -> Table | Omitted:
    """Every model against the true grade and severity, and against the reading."""
    title = "Table S19. Scores against the truth and against the reading"
    table = result.truth[result.truth["against"].isin(REFERENCES)]
    if table.empty:
        return Omitted("table_s19", title, UNKNOWN)
    return Table(
        name="table_s19",
        title=title,
        caption=(
            f"n = {int(table['n'].max())} synthetic test knees, {facts.seed_words(result)}. Below"
            " a value of one seed its 95 % percentile interval over resampled knees, not adjusted"
            f" for the number of values.{_reader(result)}"
        ),
        stub=("Backbone", "Setting", "Against"),
        spans=(("OA", 3), ("KL grade", 3), ("Severity", 3)),
        columns=tuple(Column(METRICS[m], "a" if t == "severity" else "") for t, m in SHOWN),
        groups=by_backbone(
            table, {"supervision": SUPERVISIONS, "against": REFERENCES}, _score_cells
        ),
        footnotes=(
            "Spearman’s correlation with the true severity, or with the grade that was read, which"
            " has ties: of the OA score, of the expected grade E[k], and of PC1 fitted and turned"
            " on the training knees.",
            "Networks learned from readings. That a score against the reading is lower does not"
            " show that a model knows less; that noise of this kind is what patients’ grades have"
            " is an assumption.",
        ),
    )


def on_signs(result: StudyResult) -> Table | Omitted:
    """How strongly the saliency of each head lies on the signs that were planted."""
    title = "Table S21. Saliency on planted signs of disease"
    table = result.truth[result.truth["against"].isin(SIDES)]
    if table.empty:
        why = "no phantom was explained, so no planted sign was looked at (planted.csv)"
        return Omitted("table_s21", title, why)
    return Table(
        name="table_s21",
        title=title,
        caption=(
            "Mean enrichment over the test knees that show the sign"
            f" ({_knees(table)}), {facts.seed_words(result)}: saliency on the sign over the sign’s"
            " share of the voxels, 1 by chance. Below a value of one seed its 95 % percentile"
            " interval over resampled knees, not adjusted for the number of values."
        ),
        stub=("Backbone", "Setting", "Head"),
        spans=tuple((name, len(SIDES)) for name in SIGNS.values()),
        columns=tuple(Column(*side) for _ in SIGNS for side in SIDES.values()),
        groups=by_backbone(table, {"supervision": SUPERVISIONS, "task": TASKS}, _sign_cells),
        footnotes=(
            "Enrichment minus that of the same network before training, knee by knee.",
            "Enrichment minus that of the edges of the scan, which no network made.",
        ),
    )


def _knees(table: pd.DataFrame) -> str:
    of = table[table["against"] == "planted"]
    counts = [(name, of[of["metric"] == f"enrichment_{key}"]["n"]) for key, name in SIGNS.items()]
    return ", ".join(f"{name.lower()} {int(n.iloc[0])}" for name, n in counts if len(n))


def _sign_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    return tuple(
        measured_cell(
            rows[(rows["metric"] == f"enrichment_{sign}") & (rows["against"] == side)],
            bounds=("ci_low", "ci_high"),
            digits=2,
            signed=side != "planted",
        )
        for sign in SIGNS
        for side in SIDES
    )


def differences(result: StudyResult) -> Table | Omitted:
    """Each method minus the single model of the task, against the truth."""
    table = result.truth_methods
    if table.empty:
        return Omitted("table_s20", TITLE, UNKNOWN)
    pairs = table[(table["against"] == "truth") & (table["reference"] != "")]
    pairs = pairs[[pair in SHOWN for pair in zip(pairs["task"], pairs["metric"], strict=True)]]
    if pairs.empty:
        return Omitted("table_s20", TITLE, "there is no single model to compare with")
    if table["seeds"].max() < 2:
        return Omitted(
            "table_s20", TITLE, "every method was trained once; two methods take five seeds of each"
        )
    return Table(
        name="table_s20",
        title=TITLE,
        caption=(
            f"n = {int(table['n'].max())} synthetic test knees, {facts.seed_words(result)}. First"
            " minus second, of the means over seeds. Intervals and p are not adjusted for the"
            f" {len(pairs)} lines of this table."
        ),
        stub=("Backbone", "Comparison", "Metric"),
        columns=(
            Column("First"),
            Column("Second"),
            Column("Δ"),
            Column("Δ, reading", "a"),
            *(Column(f"SE, {of}", "b") for of in ("knees", "seeds", "both")),
            Column("95 % CI", "c"),
            Column("p", "c"),
            Column("P(first > second)", "d"),
        ),
        groups=_groups(pairs, {tuple(row[KEYS]): row for _, row in table.iterrows()}),
        footnotes=(
            "The same difference against the reading: what a study of patients would have found.",
            "Standard error from resampling knees alone, trainings alone, and both.",
            "Pigeonhole bootstrap over seeds and knees; not given with fewer than five seeds of"
            " either method. The knees of training, and their readings, are the same throughout.",
            "Share of pairs of seeds in which the first is better on these knees, ties one half.",
        ),
    )


def _reader(result: StudyResult) -> str:
    agreement = (facts.phantom(result) or {}).get("agreement")
    if agreement is None:
        return ""
    return (
        f" The reader gives the true grade on {100 * agreement:.0f} % of the knees of grades 1 to"
        " 3, and else one grade up or down."
    )


def _score_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    return tuple(
        measured_cell(
            rows[(rows["task"] == task) & (rows["metric"] == metric)],
            bounds=("ci_low", "ci_high"),
        )
        for task, metric in SHOWN
    )


def _groups(pairs: pd.DataFrame, of: Lines) -> tuple[Group, ...]:
    backbone = pairs["model"].str.partition("-")[0]
    return tuple(
        Group(
            spoken(METHODS, name),
            tuple(_row(row, of) for _, row in pairs[backbone == name].iterrows()),
        )
        for name in in_order(backbone, METHODS)
    )


def _row(row: "pd.Series[Any]", of: Lines) -> Row:
    first, second = (
        spoken(SUPERVISIONS, str(row[side]).partition("-")[2]) for side in ("model", "reference")
    )
    task, metric = str(row["task"]), str(row["metric"])
    other = of[row["reference"], "truth", task, metric]
    reading = of[row["model"], "reading", task, metric]
    cells = (
        _mean(row),
        _mean(other),
        Cell(number(row["difference"], signed=True), row["difference"]),
        Cell(number(reading["difference"], signed=True), reading["difference"]),
        *(Cell(number(row[f"se_{of_}"])) for of_ in ("cases", "seeds", "both")),
        Cell(interval(row["difference_low"], row["difference_high"]) or ABSENT),
        Cell(p_value(row["p"])),
        Cell(number(row["probability"], digits=2)),
    )
    return Row((f"{first} − {second}", _measure(task, metric)), cells)


def _measure(task: str, metric: str) -> str:
    if task == "severity":
        return f"{METRICS[metric]} and severity"
    return f"{TASKS[task]} {METRICS[metric]}"


def _mean(row: "pd.Series[Any]") -> Cell:
    text = number(row["mean"])
    if not pd.isna(row["sd"]):
        text += f" ± {number(row['sd'])}"
    count = int(row["seeds"])
    return Cell(text, row["mean"], notes=(f"{count} seeds" if count > 1 else "1 seed",))
