"""The contextual benchmark, controlled: radiomics systems of this study beside the published rows.

Tables 4 and 5 of a study that fitted such systems, and every network against every system.
"""

import math
from dataclasses import replace
from typing import Any

import pandas as pd

from kellgren.report import facts
from kellgren.report.cells import measured_cell
from kellgren.report.comparison_tables import ALPHA, about_networks
from kellgren.report.networks import OF_SYSTEMS, networks
from kellgren.report.published import CONTEXT, ContextRow, published
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
    short,
)
from kellgren.report.terms import (
    BACKBONES,
    METHODS,
    METRICS,
    SUPERVISIONS,
    SYSTEMS,
    TASKS,
    in_order,
    spoken,
)
from kellgren.runs import RUN_NAME
from kellgren.study import NETWORK_VS_RADIOMICS, StudyResult

ROWS = ("image", "image_mask", "all_radiomics", "top_k", "retrieval")  # those of Chen et al.
REFITTED = "all_radiomics_refit"
SETTING = {"oa": "single_oa", "kl": "single_kl"}
INPUT: dict[str, str] = {
    "image": "MRI image",
    "image_mask": "MRI image + mask",
    "image_mask_onehot": "MRI image + masks of five regions",
    "all_radiomics": "Full radiomic feature pool",
    "all_radiomics_ordinal": "Full radiomic feature pool",
    REFITTED: "Full radiomic feature pool",
    "top_k": "Adaptive radiomics",
    "top_k_released": "Adaptive radiomics",
    "retrieval": "Patient-specific radiomics",
    "retrieval_released": "Patient-specific radiomics",
    "shape": "Shape of five regions",
    "texture": "Grey values of five regions",
    "cartilage": "Features of cartilage",
    "bone": "Features of bone",
    "demographics": "Age, sex, body-mass index",
    "single_oa": "3-D MRI, OA labels",
    "single_kl": "3-D MRI, KL grades",
    "dual": "3-D MRI, OA labels and KL grades",
}
CHUNKED: dict[str, tuple[str, str, str]] = {
    "oa": ("accuracy", "macro_f1", "auc"),
    "kl": ("accuracy", "macro_f1", "macro_auc"),
}
CONTROLLED: dict[str, tuple[str, str, str]] = {
    "oa": ("accuracy", "f1", "auc"),
    "kl": ("accuracy", "macro_f1", "macro_auc"),
}
NOT_CONTROLLED = (
    "Not controlled: these columns, and the paper’s values beside our networks, are numbers of"
    " other studies with their own preprocessing, input and validation; none should be ranked"
    " against a number that was measured here."
)
CHUNKS = (
    "The form in which Chen et al. print their rows: mean and standard deviation over five"
    " stratified chunks of the test knees. The deviation says how much a score on a fifth of the"
    " knees varies, not how sure the mean is."
)
SAME = (
    "Controlled: every row was fitted and selected on the training knees of this study alone and"
    " scored once on the same test knees by the same code. Differences are tested in Table S17."
)
IN_TEST = (
    "“Refitted in test” is the protocol behind the published row of all radiomics: fitted on four"
    " fifths of the test knees and scored on the last fifth, five times. It has never seen a"
    " training knee, so its controlled columns are empty."
)
F1 = {
    "oa": (
        "Macro-F1 is the mean of the F1 of both classes, F1 (OA) that of the OA class, as in Table"
        " 1: two quantities, in columns of their own."
    ),
    "kl": (
        "Macro-F1 is the mean over five grades among all test knees, but over the grades that are"
        " present or called in a chunk; the AUC of a published row may be defined otherwise."
    ),
}


def controlled(result: StudyResult, task: str, *, name: str, title: str) -> Table:
    """Table 4 or 5 of a study with radiomics systems: published, published form, controlled."""
    f1 = "F1 (OA)" if task == "oa" else "Macro-F1"
    auc = "AUC" if task == "oa" else "Macro-AUC"
    return Table(
        name=name,
        title=title,
        caption=(
            "Published: Chen et al. (2026), arXiv 2603.02367, mean ± standard deviation as printed"
            f" in the paper. This study: n = {facts.test_cases(result)} test knees,"
            f" {facts.seed_words(result)}; below a controlled value of one seed its 95 % percentile"
            " interval over resampled knees."
        ),
        stub=("Rows", "Method", "Input and supervision"),
        spans=(("Published", 3), ("Here, published form", 3), ("Here, controlled", 3)),
        columns=(
            *(Column(title, "a") for title in ("Accuracy", "Macro-F1", auc)),
            *(Column(title, "b") for title in ("Accuracy", "Macro-F1", auc)),
            *(Column("Accuracy", "c"), Column(f1, "c,d"), Column(auc, "c")),
        ),
        groups=tuple(_groups(result, task)),
        footnotes=(NOT_CONTROLLED, CHUNKS, SAME, F1[task], IN_TEST, facts.measured_on(result)),
    )


def against_radiomics(result: StudyResult) -> Table | Omitted:
    """Every network minus every radiomics system of its task, on the same knees."""
    title = "Table S17. Networks against radiomics systems"
    table = result.comparisons[result.comparisons["family"] == NETWORK_VS_RADIOMICS]
    if table.empty:
        reason = "no network stands beside a radiomics system of the same seed and task"
        return Omitted("table_s17", title, reason)
    size = int(table.groupby("seed").size().max())
    return Table(
        name="table_s17",
        title=title,
        caption=(
            f"Network minus system on the same n = {int(table['n'].max())} test knees, within a"
            " seed; 95 % percentile interval of the paired bootstrap. Bold: Holm-adjusted p below"
            f" {ALPHA}."
        ),
        stub=("System", "Network", "Metric"),
        columns=(
            Column("Network"),
            Column("System"),
            Column("Δ"),
            Column("95 % CI"),
            Column("p", "a"),
            Column("p, Holm", "b"),
            Column("Detectable Δ", "c"),
        ),
        groups=tuple(_versus_groups(table)),
        footnotes=(
            "Accuracy of OA: McNemar’s exact test. Everything else: paired bootstrap over knees.",
            f"Holm, and below it Benjamini–Hochberg, over all {size} tests of a seed.",
            "Where Holm’s p is not below 0.05: the true difference that an unadjusted two-sided"
            " test at 0.05 would have found four times in five. A smaller one has not been"
            " excluded; “not significant” is not “the same”.",
            about_networks(result),
            "A system that was refitted in the test set has seen other knees than the network.",
        ),
    )


def network_of(run: str) -> tuple[str, str]:
    """Backbone and setting of a run by its name.

    >>> network_of("m3t-dual-s0")
    ('m3t', 'dual')
    """
    match = RUN_NAME.fullmatch(run)
    return (match["backbone"], match["supervision"]) if match else (run, "")


def network_name(run: str) -> str:
    """Printed name of a run of a network.

    >>> network_name("m3t-dual-s0")
    'M3T Dual'
    """
    backbone, supervision = network_of(run)
    return f"{spoken(BACKBONES, backbone)} {spoken(SUPERVISIONS, supervision)}".strip()


def _groups(result: StudyResult, task: str) -> list[Group]:
    theirs = dict(zip(ROWS, CONTEXT[task], strict=True))
    scored = result.performance[result.performance["task"] == task]
    own = scored[scored["backbone"].isin(OF_SYSTEMS) & (scored["supervision"] == SETTING[task])]
    further = [name for name in in_order(own["backbone"], SYSTEMS) if name not in ROWS]
    groups = [
        Group("Chen et al.", tuple(_row(result, task, name, row) for name, row in theirs.items())),
        Group("Variants and parts", tuple(_row(result, task, name, None) for name in further)),
        Group("Networks", tuple(_network_rows(result, task))),
    ]
    return [group for group in groups if group.rows]


def _row(result: StudyResult, task: str, system: str, theirs: ContextRow | None) -> Row:
    of = (system, SETTING[task])
    empty = (Cell(ABSENT),) * 3
    measured = empty if system == REFITTED else _controlled(result, task, of)
    printed = empty if theirs is None else _published(theirs)
    name = spoken(SYSTEMS, system) if theirs is None else theirs.method
    return Row((name, INPUT[system]), (*printed, *_chunked(result, task, of), *measured))


def _network_rows(result: StudyResult, task: str) -> list[Row]:
    scored = networks(result).performance
    scored = scored[scored["task"] == task]
    rows = []
    for backbone in in_order(scored["backbone"], BACKBONES):
        mine = scored[scored["backbone"] == backbone]
        for setting in in_order(mine["supervision"], SUPERVISIONS):
            cells = _controlled(result, task, (backbone, setting))
            values = [
                published("table1", backbone, setting, f"{task}_{m}") for m in CONTROLLED[task]
            ]
            beside = tuple(
                replace(c, published=short(v)) for c, v in zip(cells, values, strict=True)
            )
            name = f"{spoken(METHODS, backbone)} {spoken(SUPERVISIONS, setting)}"
            chunked = _chunked(result, task, (backbone, setting))
            empty = (Cell(ABSENT),) * 3
            rows.append(Row((name, INPUT.get(setting, setting)), (*empty, *chunked, *beside)))
    return rows


def _published(row: ContextRow) -> tuple[Cell, ...]:
    pairs = (row.accuracy, row.macro_f1, row.auc)
    return tuple(_plus_minus(mean, sd) for mean, sd in pairs)


def _plus_minus(mean: float, sd: float) -> Cell:
    if math.isnan(mean):
        return Cell(ABSENT)
    return Cell(f"{number(mean, digits=2)} ± {number(sd, digits=2)}", mean)


def _chunked(result: StudyResult, task: str, of: tuple[str, str]) -> tuple[Cell, ...]:
    """Mean and deviation over chunks; of several seeds the mean of each."""
    mine = _of_run(result.published_form, task, of)
    parts = [mine[mine["metric"] == metric][["mean", "sd"]].mean() for metric in CHUNKED[task]]
    return tuple(_plus_minus(float(part["mean"]), float(part["sd"])) for part in parts)


def _controlled(result: StudyResult, task: str, of: tuple[str, str]) -> tuple[Cell, ...]:
    mine = _of_run(result.performance, task, of)
    return tuple(
        measured_cell(mine[mine["metric"] == metric], bounds=("ci_low", "ci_high"))
        if (mine["metric"] == metric).any()
        else Cell(ABSENT)
        for metric in CONTROLLED[task]
    )


def _of_run(table: pd.DataFrame, task: str, of: tuple[str, str]) -> pd.DataFrame:
    backbone, setting = of
    mine = (table["backbone"] == backbone) & (table["supervision"] == setting)
    return table[mine & (table["task"] == task)]


def _versus_groups(table: pd.DataFrame) -> list[Group]:
    system = table["reference"].map(lambda run: network_of(str(run))[0])
    several = table["seed"].nunique() > 1
    return [
        Group(
            spoken(SYSTEMS, name),
            tuple(_versus(row, several=several) for _, row in table[system == name].iterrows()),
        )
        for name in in_order(system, SYSTEMS)
    ]


def _versus(row: "pd.Series[Any]", *, several: bool) -> Row:
    survives = bool(row["p_holm"] < ALPHA)
    name = network_name(str(row["model"])) + (f", seed {row['seed']}" if several else "")
    metric = f"{spoken(TASKS, str(row['task']))} {spoken(METRICS, str(row['metric']))}"
    cells = (
        Cell(number(row["model_value"], digits=3)),
        Cell(number(row["reference_value"], digits=3)),
        Cell(number(row["difference"], digits=3, signed=True), row["difference"], survives),
        Cell(interval(row["ci_low"], row["ci_high"]) or ABSENT),
        Cell(p_value(row["p"])),
        Cell(p_value(row["p_holm"]), None, survives, notes=(f"BH {p_value(row['p_bh'])}",)),
        Cell(ABSENT if survives else number(row["mde"], digits=3)),
    )
    return Row((name, metric), cells)
