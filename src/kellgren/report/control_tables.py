"""Saliency beside what a map must beat: controls, deletion, randomisation, another seed."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from kellgren.report import facts
from kellgren.report.cells import measured_cell
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
    seed_cell,
)
from kellgren.report.terms import BACKBONES, BRANCHES, CONTROLS, METRICS, in_order, spoken
from kellgren.study import StudyResult

MEASURES = ("mass_roi", "top1_roi", "dice_5", "dice_10")
FURTHER = ("enrichment_1", "enrichment_5", "ap", "auroc", "share_top1_mass")
NOT_CONTROLLED = "no run has controls (controls.csv); explain the runs first"


def further_overlap(result: StudyResult) -> Table | Omitted:
    """Saliency measures beyond Table 3 that chance and the cartilage share do not move."""
    title = "Table S12. Further saliency measures"
    table = result.overlap[result.overlap["metric"].isin(FURTHER)]
    if table.empty:
        return Omitted("table_s12", title, "no run has further saliency measures in overlap.csv")
    return Table(
        name="table_s12",
        title=title,
        caption=(
            f"Mean over up to n = {int(table['n'].max())} test knees; {facts.seed_words(result)}."
            " Below a value of one seed its 95 % interval over knees, then what a map without"
            " structure gives."
        ),
        stub=("Backbone", "Branch"),
        columns=tuple(
            Column(METRICS[m], {"enrichment_1": "a", "enrichment_5": "a", "ap": "b"}.get(m, ""))
            for m in FURTHER
        ),
        groups=by_branch(table, _further_cells),
        footnotes=(
            "Share of the 1 % or 5 % most salient voxels that are cartilage, over the share of"
            " cartilage in the volume: 1 is chance, so that grids can be compared better than by"
            " Table 3.",
            "AP and AUROC: average precision and area under the curve of saliency as a score of"
            " cartilage, over all voxels.",
        ),
    )


def controls(result: StudyResult) -> Table | Omitted:
    """Each saliency measure beside those of maps that no trained network made."""
    title = "Table S13. Saliency beside its controls"
    table = result.controls
    if table.empty:
        return Omitted("table_s13", title, NOT_CONTROLLED)
    names = in_order(table["control"], CONTROLS)
    rows_of_backbone = []
    for backbone in in_order(table["backbone"], BACKBONES):
        mine = table[table["backbone"] == backbone]
        rows = tuple(
            Row((branch, METRICS[metric]), _control_cells(part, names))
            for branch, of_branch in branches_of(mine)
            for metric in MEASURES
            if len(part := of_branch[of_branch["metric"] == metric])
        )
        rows_of_backbone.append(Group(spoken(BACKBONES, backbone), rows))
    return Table(
        name="table_s13",
        title=title,
        caption=(
            f"Mean over up to n = {int(table['n'].max())} test knees; {facts.seed_words(result)}."
            " Below a control of one seed: saliency minus control and its 95 % interval, paired"
            " over knees. Bold: the whole interval is above zero, in every seed, so the"
            " saliency of this trained network lies on cartilage more than that control does."
        ),
        stub=("Backbone", "Branch", "Measure"),
        columns=(
            Column("Saliency"),
            *(Column(spoken(CONTROLS, name), "abcdef"[i]) for i, name in enumerate(names)),
        ),
        groups=tuple(rows_of_backbone),
        footnotes=(*(CONTROL_WORDS.get(name, name) for name in names), NOT_ADJUSTED),
    )


CONTROL_WORDS: dict[str, str] = {
    "uniform": "The same value everywhere: chance.",
    "centre": "A Gaussian in the middle of the volume: the habit of pointing at the centre.",
    "mean_cartilage": (
        "Share of training knees with cartilage at a voxel: anatomy without looking at the knee."
    ),
    "image_gradient": (
        "Edges of the scan. Where this is as good, saliency may be no more than an edge detector."
    ),
    "other_patient": "Cartilage of another test knee: right anatomy, wrong knee; hard to beat.",
    "untrained": (
        "Saliency of the same architecture with new random weights. Where this is as good, the"
        " overlap comes from the architecture, not from what was learned."
    ),
}
NOT_ADJUSTED = "Intervals are not adjusted for the number of controls and measures."


def deletion(result: StudyResult) -> Table | Omitted:
    """What deleting cartilage changes, beside deleting as much elsewhere."""
    title = "Table S14. Deletion of cartilage"
    table = result.deletion
    if table.empty:
        reason = "no run has a deletion test (deletion.csv); explain the runs first"
        return Omitted("table_s14", title, reason)
    return Table(
        name="table_s14",
        title=title,
        caption=(
            "Mean absolute change of the explained logit when a region is set to the mean of the"
            f" scan, over up to n = {int(table['n'].max())} test knees;"
            f" {facts.seed_words(result)}. Below a value of one seed its 95 % interval."
        ),
        stub=("Backbone", "Branch"),
        columns=(Column("Cartilage"), Column("Elsewhere", "a"), Column("Ratio", "b")),
        groups=by_branch(table, _deletion_cells),
        footnotes=(
            "The same shape moved by half the volume along every axis. Such a place is often dark"
            " and empty, so that deleting it changes less for that reason alone.",
            "Above 1 the logit depends more on what is where cartilage is. A hole in the scan is"
            " something that the network has never seen: the change is not only that of missing"
            " cartilage.",
        ),
    )


def randomisation(result: StudyResult) -> Table | Omitted:
    """Whether saliency changes when the weights are randomised from the heads down."""
    title = "Table S15. Cascaded randomisation"
    table = result.randomisation
    if table.empty:
        reason = "no run has randomised maps (randomisation.csv); explain the runs first"
        return Omitted("table_s15", title, reason)
    return Table(
        name="table_s15",
        title=title,
        caption=(
            "Spearman correlation over voxels of a map with that of the network whose weights were"
            f" replaced by random ones from the heads down; mean over {int(table['n'].max())}"
            f" exemplar knees, {facts.seed_words(result)}."
        ),
        stub=("Backbone", "Branch"),
        columns=(Column("Heads only"), Column("Lowest on the way", "a"), Column("Whole network")),
        groups=by_branch(table, _randomisation_cells),
        footnotes=(
            "Below: the stage down to which weights were random. All stages are in Figure S9.",
            "A map that explains what was learned must lose its likeness to the trained one. A"
            " correlation that stays high at the whole network says that the map shows the scan"
            " and the architecture; a low one is needed but proves nothing by itself.",
        ),
    )


def repeatability(result: StudyResult) -> Table | Omitted:
    """Whether two seeds of one method give the same map of the same knee."""
    title = "Table S16. Repeatability of saliency"
    table = result.repeatability
    if table.empty:
        reason = (
            "no method has maps of the same knee from two seeds, so how far a map belongs to one"
            " training is not known"
        )
        return Omitted("table_s16", title, reason)
    return Table(
        name="table_s16",
        title=title,
        caption="Spearman correlation over voxels of the maps of one knee from two seeds.",
        stub=("Backbone", "Branch"),
        columns=(Column("ρ, mean ± SD"), Column("Lowest"), Column("Highest"), Column("Pairs")),
        groups=by_branch(table, _repeatability_cells),
        footnotes=(
            "Maps from two trainings that do not agree cannot both say what the task needs.",
        ),
    )


def branches_of(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The branches that the rows of one backbone have, by name and in the order of Fig. 3."""
    return [
        (branch, part)
        for branch, (supervision, head) in BRANCHES.items()
        if len(part := table[(table["supervision"] == supervision) & (table["head"] == head)])
    ]


def by_branch(
    table: pd.DataFrame, cells_of: Callable[[pd.DataFrame], tuple[Cell, ...]]
) -> tuple[Group, ...]:
    """One group a backbone, one row a branch."""
    return tuple(
        Group(
            spoken(BACKBONES, backbone),
            tuple(
                Row((branch,), cells_of(part))
                for branch, part in branches_of(table[table["backbone"] == backbone])
            ),
        )
        for backbone in in_order(table["backbone"], BACKBONES)
    )


def _further_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    cells = []
    for metric in FURTHER:
        mine = rows[rows["metric"] == metric]
        digits = 1 if metric.startswith("enrichment") else 3
        chance = (
            f"chance {number(float(mine['chance'].iloc[0]), digits=digits)}"
            if len(mine) and not pd.isna(mine["chance"].iloc[0])
            else ""
        )
        cells.append(
            measured_cell(mine, bounds=("ci_low", "ci_high"), digits=digits, notes=(chance,))
        )
    return tuple(cells)


def _control_cells(rows: pd.DataFrame, names: Sequence[str]) -> tuple[Cell, ...]:
    own = rows.drop_duplicates("seed")
    return (
        measured_cell(own, "saliency", digits=4),
        *(_control_cell(rows[rows["control"] == name]) for name in names),
    )


def _control_cell(rows: pd.DataFrame) -> Cell:
    if rows.empty:
        return Cell(ABSENT)
    difference = number(float(rows["difference"].iloc[0]), digits=3, signed=True)
    doubt = interval(rows["difference_low"].iloc[0], rows["difference_high"].iloc[0])
    sd = float(rows["value"].std())
    cell = seed_cell(float(rows["value"].mean()), sd, notes=(difference, doubt))
    return replace(cell, best=bool((rows["difference_low"] > 0).all()))


def _deletion_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    sides = [rows[rows["region"] == region] for region in ("cartilage", "elsewhere")]
    means = [float(side["value"].mean()) for side in sides]
    ratio = means[0] / means[1] if means[1] > 0 else float("nan")
    cells = [measured_cell(side, bounds=("ci_low", "ci_high")) for side in sides]
    return (*cells, Cell(number(ratio, digits=1)))


def _randomisation_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    mean = rows.groupby("depth").agg(rho=("rho", "mean"), stage=("stage", "first"))
    if mean["rho"].isna().all():
        return (Cell(ABSENT),) * 3
    lowest, deepest = mean.sort_values("rho").iloc[0], mean.index.max()
    return (
        measured_cell(rows[rows["depth"] == mean.index.min()], "rho", digits=2),
        Cell(number(lowest["rho"], digits=2), lowest["rho"], notes=(stage_name(lowest["stage"]),)),
        measured_cell(rows[rows["depth"] == deepest], "rho", digits=2),
    )


def stage_name(stage: str) -> str:
    """Printed name of a part of the network.

    >>> stage_name("encoder.layer4"), stage_name("whole network")
    ('layer4', 'whole network')
    """
    return stage.removeprefix("encoder.").replace("_", " ")


def _repeatability_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    rho = rows["rho"].astype(float)
    return (
        measured_cell(rows, "rho", digits=2),
        Cell(number(float(rho.min()), digits=2)),
        Cell(number(float(rho.max()), digits=2)),
        Cell(str(len(rho))),
    )
