"""Whether stated probabilities hold, and whether the two heads of a model say the same."""

import pandas as pd

from kellgren.report import facts
from kellgren.report.cells import (
    by_backbone,
    count_cell,
    measured_cell,
    p_note,
    range_note,
    value_note,
)
from kellgren.report.table import Cell, Column, Omitted, Table
from kellgren.report.terms import SCALINGS, SUPERVISIONS, TASKS
from kellgren.study import StudyResult


def calibration(result: StudyResult) -> Table | Omitted:
    """Calibration of each head, as it is and at a temperature chosen on training knees."""
    title = "Table S6. Calibration"
    table = result.calibration
    if table.empty:
        return Omitted("table_s6", title, "no run has predictions of test knees")
    keys = {"supervision": SUPERVISIONS, "head": TASKS, "scaling": SCALINGS}
    return Table(
        name="table_s6",
        title=title,
        caption=(
            f"n = {int(table['n'].max())} test knees; {facts.seed_words(result)}. Raw"
            " probabilities, and the same divided by a temperature on the logit scale."
        ),
        stub=("Backbone", "Setting", "Event", "Probability"),
        columns=(
            Column("Brier"),
            Column("Log-loss"),
            Column("ECE", "a"),
            Column("ECE if calibrated", "b"),
            Column("Slope", "c"),
            Column("Intercept", "c"),
            Column("Temperature", "d"),
        ),
        groups=by_backbone(table, keys, _calibration_cells),
        footnotes=(
            "Expected calibration error over 15 groups of equal mass. The event is OA for the OA"
            " column, and for KL that the most likely grade is the reference grade.",
            "What the ECE would be on average if every probability were exactly true: with few"
            " knees it is far from 0, and an ECE must be read against it. Below it the share of"
            " such draws that reach the observed ECE.",
            "Logistic regression of the event on the logit of its probability: slope 1 and"
            " intercept 0 are calibrated, a slope below 1 is overconfident. A dash: the classes"
            " are separated.",
            "Fitted by cross-validation on training predictions only, range over folds below. A"
            " network that has memorised its training knees makes it too low: a temperature that"
            " does not help here is a result, not a fault of the method.",
        ),
    )


def hierarchy(result: StudyResult) -> Table | Omitted:
    """Agreement of the OA head and the KL head of each Dual model, by grade."""
    title = "Table S7. Agreement of the two heads"
    table = result.hierarchy
    if table.empty:
        return Omitted("table_s7", title, "no run has both heads")
    strata = {name: name for name in ("all", *(f"KL {k}" for k in range(5)))}
    several = table["supervision"].nunique() > 1
    keys = {**({"supervision": SUPERVISIONS} if several else {}), "stratum": strata}
    return Table(
        name="table_s7",
        title=title,
        caption=(
            f"Models with an OA head and a KL head; {facts.seed_words(result)}. By reference grade."
        ),
        stub=("Backbone", *(("Setting",) if several else ()), "Knees"),
        columns=(
            Column("n"),
            Column("Agreement, grade", "a"),
            Column("Agreement, Eq. (4)", "b"),
            Column("Soft gap", "c"),
            Column("JS divergence", "c"),
            Column("Inconsistent", "d"),
            Column("AUC, mean of heads", "e"),
            Column("Accuracy, mean of heads", "e"),
        ),
        groups=by_backbone(table, keys, _hierarchy_cells),
        footnotes=(
            "Share of knees that the OA head calls as the most likely grade does (2 and above is"
            " OA).",
            "Share that it calls as the summed probability of grades 2, 3 and 4 does at 0.5.",
            "Mean absolute difference of the two OA probabilities, and their Jensen–Shannon"
            " divergence in bits.",
            "Knees on which the head and Eq. (4) disagree; below, how many of these each calls"
            " right. Agreement says nothing about being right: two heads on one feature vector"
            " can be wrong together.",
            "OA from the mean of the two probabilities.",
        ),
    )


def _calibration_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    ends = ("temperature_low", "temperature_high")
    return (
        measured_cell(rows, "brier"),
        measured_cell(rows, "log_loss"),
        measured_cell(rows, "ece"),
        measured_cell(rows, "ece_if_calibrated", notes=(p_note(rows, "p_calibrated"),)),
        measured_cell(rows, "slope", digits=2),
        measured_cell(rows, "intercept", digits=2, signed=True),
        measured_cell(rows, "temperature", digits=2, notes=(range_note(rows, *ends),)),
    )


def _hierarchy_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    heads = {"right_oa": "OA head right", "right_kl": "KL head right"}
    differing = rows["inconsistent"].sum() > 0
    right = [value_note(w, rows, h, digits=0) for h, w in heads.items() if differing]
    return (
        Cell(str(int(rows["n"].iloc[0]))),
        measured_cell(rows, "agreement_argmax"),
        measured_cell(rows, "agreement_implied"),
        measured_cell(rows, "soft_gap"),
        measured_cell(rows, "divergence"),
        count_cell(rows, "inconsistent", notes=right),
        measured_cell(rows, "ensemble_auc"),
        measured_cell(rows, "ensemble_accuracy"),
    )
