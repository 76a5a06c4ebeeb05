"""What the features say beyond Table 2: order along axes, shape, and likeness of two networks."""

from typing import Any

import pandas as pd

from kellgren.report import facts
from kellgren.report.cells import by_backbone, measured_cell, p_note, rows_by
from kellgren.report.table import Cell, Column, Group, Omitted, Table, mark_best
from kellgren.report.terms import AXES, BACKBONES, SUPERVISIONS, in_order, spoken
from kellgren.results import LIKENESS, ORDER, bounds_of
from kellgren.runs import RUN_NAME
from kellgren.study import StudyResult

PAIRS = {"auc_01": "0|1", "auc_12": "1|2", "auc_23": "2|3", "auc_34": "3|4", "auc_04": "0|4"}
DIFFER = {"seed": "Seed", "supervision": "Supervision", "backbone": "Backbone"}
NAMES = {name: name for name in (*BACKBONES.values(), *SUPERVISIONS.values())}
NO_FEATURES = "no run has features (features.npz) of test knees"


def order(result: StudyResult) -> Table | Omitted:
    """How PC1 and a supervised axis order the test knees, between neighbouring grades too."""
    title = "Table S9. Order of the grades along an axis"
    table = result.order
    if table.empty:
        return Omitted("table_s9", title, NO_FEATURES)
    return Table(
        name="table_s9",
        title=title,
        caption=(
            f"n = {int(table['n'].max())} test knees; {facts.seed_words(result)}. AUC of one grade"
            " against another along the axis, 0.5 where it says nothing. Below a value of one seed"
            " its 95 % percentile interval over resampled knees."
        ),
        stub=("Backbone", "Setting", "Axis"),
        spans=(("Grade and OA", 4), ("AUC of two grades", 5)),
        columns=(
            *(Column(title, marks) for title, marks in (("ρ", ""), ("τ-b", ""), ("η²", "a"))),
            Column("AUC OA"),
            *(Column(pair, "b" if pair == "1|2" else "") for pair in PAIRS.values()),
        ),
        groups=by_backbone(table, {"supervision": SUPERVISIONS, "axis": AXES}, _order_cells),
        footnotes=(
            "Share of the variance along the axis that lies between the grades.",
            "The boundary of OA.",
            "PC1, test-fit, was found on the knees that it is scored on; the other two were found"
            " on training knees. “0 to 4” is the line from the centroid of grade 0 to that of"
            " grade 4, which has seen the grades. An interval of the test-fit axis fits it anew on"
            " each resample; the other two axes stay as they are. An AUC whose interval holds 0.5"
            " is no evidence of order. An AUC of 1 has an interval of no width: a bootstrap cannot"
            " draw the knees that would be out of place.",
        ),
    )


def representation(result: StudyResult) -> Table | Omitted:
    """Order, straightness and dimension of all features, whatever the axis."""
    title = "Table S10. Shape of the feature space"
    table = result.representation
    if table.empty:
        return Omitted("table_s10", title, NO_FEATURES)
    groups = by_backbone(table, {"supervision": SUPERVISIONS}, _representation_cells)
    return Table(
        name="table_s10",
        title=title,
        caption=(
            f"Penultimate features of n = {int(table['n'].max())} test knees;"
            f" {facts.seed_words(result)}. Below a value of one seed its 95 % interval over knees,"
            " by the bootstrap (a, b) or the jackknife (c, d). Bold: highest of the backbone."
        ),
        stub=("Backbone", "Setting"),
        columns=(
            Column("Triplet order", "a"),
            Column("RSA ρ", "b"),
            Column("Straightness", "c"),
            Column("Participation ratio", "d"),
            Column("Effective rank", "d"),
            Column("Features"),
        ),
        groups=tuple(Group(g.name, mark_best(g.rows, (0, 1, 2))) for g in groups),
        footnotes=(
            "Share of triplets of knees of three different grades whose extreme two are farthest"
            " apart; 1/3 where the features do not know the grade.",
            "Spearman correlation, over all pairs of knees, of their distance with the difference"
            " of their grades; no knee is paired with itself. Below: p by relabelling the knees; it"
            " rejects only that features and grades have nothing to do with each other.",
            "Distance of the centroids of grades 0 and 4 over the length of the way through all"
            " five; 1 is a straight line. Knees that a bootstrap repeats would bend the way, so"
            " each knee is left out once instead.",
            "How many directions carry variance. Near 1 the features are one number for each knee:"
            " a straight path and a large share of PC1 then follow and say nothing more. Fewer"
            " different knees span fewer directions, so here too each is left out once.",
        ),
    )


def similarity(result: StudyResult) -> Table | Omitted:
    """Centred kernel alignment of runs that differ in seed, supervision or backbone."""
    title = "Table S11. Likeness of two networks"
    table = result.similarity
    if table.empty:
        reason = "no two runs that differ in one thing both have features (features.npz)"
        return Omitted("table_s11", title, reason)
    parts = pd.DataFrame([_halves(row) for _, row in table.iterrows()], index=table.index)
    table = pd.concat([table, parts], axis=1)
    return Table(
        name="table_s11",
        title=title,
        caption=(
            f"Linear centred kernel alignment (CKA) of the features of n ="
            f" {int(table['n'].max())} test knees; 1 for features that a rotation and a scale"
            " relate. Mean ± standard deviation where several pairs of seeds are compared; below a"
            " value of one pair its 95 % interval over knees, by the jackknife (CKA) or the"
            " bootstrap (debiased)."
        ),
        stub=("Differ in", "Shared", "Pair"),
        columns=(Column("CKA", "a"), Column("CKA, debiased", "a"), Column("Pairs")),
        groups=tuple(
            Group(
                spoken(DIFFER, differ),
                rows_by(
                    table[table["differ_in"] == differ], {"shared": NAMES, "pair": {}}, _cka_cells
                ),
            )
            for differ in in_order(table["differ_in"], DIFFER)
        ),
        footnotes=(
            "With few knees and many features CKA is high even for unrelated networks; the"
            " debiased estimate is 0 on average for those, and may be negative. A knee that is"
            " drawn twice is alike in every network: nothing repeats a knee in the first, and the"
            " second compares no knee with itself.",
            *_yardstick(table),
        ),
    )


def _yardstick(table: pd.DataFrame) -> tuple[str, ...]:
    if (table["differ_in"] == "seed").any():
        words = "Two seeds of one method are the yardstick: only what lies below them differs more"
        return (f"{words} than two trainings do.",)
    return (
        "There is one seed, so nothing says how alike two trainings of the same method are; a"
        " difference between settings cannot be told from one between trainings.",
    )


def _order_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    return tuple(measured_cell(rows, name, bounds=bounds_of(name)) for name in ORDER)


def _representation_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    p = p_note(rows, "similarity_p")
    return (
        measured_cell(rows, "triplet_order", bounds=bounds_of("triplet_order")),
        measured_cell(rows, "similarity_rho", bounds=bounds_of("similarity_rho"), notes=(p,)),
        measured_cell(rows, "straightness", bounds=bounds_of("straightness")),
        *(
            measured_cell(rows, name, bounds=bounds_of(name), digits=2)
            for name in ("participation_ratio", "effective_rank")
        ),
        Cell(str(int(rows["features"].iloc[0]))),
    )


def _cka_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    cells = (measured_cell(rows, name, bounds=bounds_of(name)) for name in LIKENESS)
    return (*cells, Cell(str(len(rows))))


def _halves(row: "pd.Series[Any]") -> dict[str, str]:
    """What the two runs of a row share and in what they differ, in words; seeds left out."""
    sides = [_named(str(row[side])) for side in ("model", "reference")]
    if not all(sides):
        return {"shared": "", "pair": f"{row['model']} and {row['reference']}"}
    first, second = sides
    if row["differ_in"] == "seed":
        return {"shared": f"{first['backbone']} {first['supervision']}", "pair": "two seeds"}
    other = "supervision" if row["differ_in"] == "backbone" else "backbone"
    differ = str(row["differ_in"])
    return {"shared": first[other], "pair": f"{first[differ]} and {second[differ]}"}


def _named(run: str) -> dict[str, str]:
    """Printed backbone and supervision of a run; empty where its name is of another form."""
    match = RUN_NAME.fullmatch(run)
    names = {"backbone": BACKBONES, "supervision": SUPERVISIONS}
    return {key: spoken(names[key], match[key]) for key in names} if match else {}
