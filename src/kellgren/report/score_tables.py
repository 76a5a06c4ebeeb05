"""Scores beyond Table 1: measures that know the order, the noise ceiling, strata."""

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
    mark_best,
    number,
)
from kellgren.report.terms import (
    BACKBONES,
    COVARIATES,
    METRICS,
    PERFORMANCE,
    SUPERVISIONS,
    in_order,
    levels_in_order,
    spoken,
)
from kellgren.study import StudyResult

INTERVAL = ("ci_low", "ci_high")
ORDINAL = ("quadratic_kappa", "tau_b", "off_by_one", "mae", "mae_expected", "macro_mae", "rps")
HIGHER_IS_BETTER = 3  # of these the first three; the others are errors
CEILED = (*PERFORMANCE, ("kl", "quadratic_kappa"))


def ordinal(result: StudyResult) -> Table | Omitted:
    """Measures of the KL head that know the order of the grades."""
    title = "Table S4. Grades in order"
    table = result.ordinal
    if table.empty:
        return Omitted("table_s4", title, "no run has a KL head")
    groups = by_backbone(table, {"supervision": SUPERVISIONS}, _ordinal_cells)
    up, down = range(HIGHER_IS_BETTER), range(HIGHER_IS_BETTER, len(ORDINAL))
    return Table(
        name="table_s4",
        title=title,
        caption=(
            f"n = {int(table['n'].max())} test knees; {facts.seed_words(result)}. Below a value"
            " of one seed its 95 % percentile interval over resampled knees. Bold: best of the"
            " backbone."
        ),
        stub=("Backbone", "Setting"),
        spans=(("Higher is better", 3), ("Lower is better", 4)),
        columns=tuple(
            Column(METRICS[m], {"quadratic_kappa": "a", "tau_b": "b", "rps": "c"}.get(m, ""))
            for m in ORDINAL
        ),
        groups=tuple(Group(g.name, mark_best(g.rows, up, lowest=down)) for g in groups),
        footnotes=(
            "Cohen’s κ with quadratic weights: a call that is one grade off costs a sixteenth of"
            " one that is four off. It depends on how many knees each grade has.",
            "Kendall’s τ-b of the expected grade E[k] with the reference grade.",
            "Ranked probability score, summed over the four boundaries between grades; 0 is"
            " perfect, 4 the worst.",
            "These are not tested against each other; an interval is of one value, not of a"
            " difference.",
        ),
    )


def noise(result: StudyResult) -> Table | Omitted:
    """Each score as a share of what a perfect reader would score against one noisy reading."""
    title = "Table S5. Scores as a share of the noise ceiling"
    table = result.noise
    if table.empty:
        return Omitted("table_s5", title, "no run has predictions of test knees")
    agreements = sorted(table["agreement"].unique())
    middle = agreements[len(agreements) // 2]
    groups = by_backbone(
        table, {"supervision": SUPERVISIONS}, lambda rows: _share_cells(rows, middle)
    )
    return Table(
        name="table_s5",
        title=title,
        caption=(
            f"Score over ceiling for readers who agree exactly with the truth on {middle:.0%} of"
            f" knees, one grade off otherwise; n = {int(table['n'].max())} test knees,"
            f" {facts.seed_words(result)}. Below, for one seed: the same share for"
            f" {agreements[-1]:.0%} and {agreements[0]:.0%}, then the mean score ± standard"
            f" deviation had the reference been read again ({middle:.0%})."
        ).replace("%", " %"),
        stub=("Backbone", "Setting"),
        spans=(("OA", 3), ("KL grade", 4)),
        columns=tuple(Column(METRICS[metric], "a") for _, metric in CEILED),
        groups=(*groups, Group("Ceiling", _ceiling_rows(table), reference=True)),
        footnotes=(
            "A share of 1 means as good as one who knows the true grade could be expected to score"
            " on a reference that was read once. A model may exceed it by luck.",
            "Ceiling: mean ± standard deviation over readings. The agreement is an assumption,"
            " not measured here: 55 to 85 % is published for KL grades. Errors are taken to be"
            " one grade, alike in both directions and independent; real readers’ errors are not.",
        ),
    )


def strata(result: StudyResult) -> Table | Omitted:
    """Every score of Table 1 by age, sex, side and site."""
    title = "Table S8. Performance by stratum"
    table = result.strata
    if table.empty:
        reason = "age, sex, side and site are not recorded, or are the same for all test knees"
        return Omitted("table_s8", title, reason)
    return Table(
        name="table_s8",
        title=title,
        caption=(
            f"Scores within strata of the test knees; {facts.seed_words(result)}. Below a value of"
            " one seed its 95 % percentile interval over resampled knees of the stratum, where"
            " the classes allow one."
        ),
        stub=("Stratum", "Model"),
        spans=(("", 1), ("OA", 3), ("KL grade", 3)),
        columns=(
            Column("n (with OA)"),
            *(Column(METRICS[metric], "a") for _, metric in PERFORMANCE),
        ),
        groups=tuple(
            _stratum(table, covariate, level)
            for covariate in in_order(table["covariate"], COVARIATES)
            for level in levels_in_order(table.loc[table["covariate"] == covariate, "level"])
        ),
        footnotes=(
            "Strata are small and were not tested against each other: overlapping intervals do"
            " not show that a model is fair, and no interval is corrected for the number of"
            " strata. A dash: a class is absent.",
        ),
    )


def _ordinal_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    return tuple(measured_cell(rows[rows["metric"] == m], bounds=INTERVAL) for m in ORDINAL)


def _share_cells(rows: pd.DataFrame, middle: float) -> tuple[Cell, ...]:
    cells = []
    for task, metric in CEILED:
        mine = rows[(rows["task"] == task) & (rows["metric"] == metric)]
        cells.append(measured_cell(mine[mine["agreement"] == middle], "share", notes=_aside(mine)))
    return tuple(cells)


def _aside(rows: pd.DataFrame) -> tuple[str, ...]:
    """Shares at the other agreements, and the score against the reference read again."""
    if rows["seed"].nunique() != 1:
        return ()
    rows = rows.sort_values("agreement", ascending=False)
    shares = [number(v, digits=3) for v in rows["share"]]
    again = rows.iloc[len(rows) // 2]
    words = f"{number(again['rescored'], digits=2)} ± {number(again['rescored_sd'], digits=2)}"
    return f"{shares[0]}, {shares[-1]}", words


def _ceiling_rows(table: pd.DataFrame) -> tuple[Row, ...]:
    rows = []
    for agreement in sorted(table["agreement"].unique()):
        mine = table[table["agreement"] == agreement].groupby(["task", "metric"])
        mean, sd = mine["ceiling"].first(), mine["ceiling_sd"].first()
        cells = [
            Cell(f"{number(mean[key], digits=3)} ± {number(sd[key], digits=3)}", mean[key])
            if key in mean.index
            else Cell(ABSENT)
            for key in CEILED
        ]
        rows.append(Row((f"Reader, {100 * agreement:.0f} %",), tuple(cells)))
    return tuple(rows)


def _stratum(table: pd.DataFrame, covariate: str, level: str) -> Group:
    mine = table[(table["covariate"] == covariate) & (table["level"] == level)]
    rows = [
        Row((f"{spoken(BACKBONES, b)} {spoken(SUPERVISIONS, s)}",), _stratum_cells(part))
        for b in in_order(mine["backbone"], BACKBONES)
        for s in in_order(mine["supervision"], SUPERVISIONS)
        if len(part := mine[(mine["backbone"] == b) & (mine["supervision"] == s)])
    ]
    return Group(f"{spoken(COVARIATES, covariate)}: {level}", tuple(rows))


def _stratum_cells(rows: pd.DataFrame) -> tuple[Cell, ...]:
    first = rows.iloc[0]
    cells = [Cell(f"{int(first['n'])} ({int(first['positives'])})")]
    for task, metric in PERFORMANCE:
        mine = rows[(rows["task"] == task) & (rows["metric"] == metric)]
        if mine.empty:
            cells.append(Cell(ABSENT))
            continue
        doubt = interval(mine["ci_low"].iloc[0], mine["ci_high"].iloc[0], digits=2)
        cells.append(measured_cell(mine, notes=(doubt,)))
    return tuple(cells)
