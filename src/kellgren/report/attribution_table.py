"""Where the weight of each radiomics system lies: the counterpart of saliency for features."""

import pandas as pd

from kellgren.report import facts
from kellgren.report.cells import measured_cell
from kellgren.report.table import ABSENT, Cell, Column, Group, Omitted, Row, Table
from kellgren.report.terms import FAMILIES, REGIONS, SYSTEMS, TASKS, in_order, spoken
from kellgren.study import StudyResult

TASK_OF = {"single_oa": "oa", "single_kl": "kl"}
TITLE = "Table S18. Weight of regions and classes of features"


def by_part(result: StudyResult) -> pd.DataFrame:
    """The attribution of radiomic features, with the task; what is known of persons is left out."""
    table = result.attribution
    table = table[table["region"].isin(list(REGIONS))]
    return table.assign(task=table["supervision"].map(TASK_OF))


def attribution(result: StudyResult) -> Table | Omitted:
    """Share of the absolute weight by region and class of feature, of each system and task."""
    table = by_part(result)
    if table.empty:
        return Omitted(
            "table_s18", TITLE, "no radiomics system says what its features weigh (attribution.csv)"
        )
    families = in_order(table["family"], FAMILIES)
    return Table(
        name="table_s18",
        title=TITLE,
        caption=(
            "Per cent of the sum of absolute weights over standardised features;"
            f" {facts.seed_words(result)}. Below a value the per cent of features that stand there,"
            " which is what features of equal weight give."
        ),
        stub=("System", "Task", "Region"),
        columns=(*(Column(spoken(FAMILIES, name)) for name in families), Column("All", "a")),
        groups=tuple(
            Group(spoken(SYSTEMS, system), _rows(table[table["backbone"] == system], families))
            for system in in_order(table["backbone"], SYSTEMS)
        ),
        footnotes=(
            "A weight says what the fitted model adds up. Correlated features share a weight, and"
            " another fit may share it otherwise; it does not show that a region is affected, nor"
            " how well the model would do without it: the systems of one region or class in"
            " Tables 4 and 5 show that.",
        ),
    )


def _rows(table: pd.DataFrame, families: list[str]) -> tuple[Row, ...]:
    rows = []
    for task in in_order(table["task"], TASKS):
        of_task = table[table["task"] == task]
        total = float(_of_seeds(of_task)["features"].max())
        for region in in_order(of_task["region"], REGIONS):
            mine = of_task[of_task["region"] == region]
            parts = [mine[mine["family"] == name] for name in families]
            cells = (*(_cell(part, total) for part in parts), _cell(_of_seeds(mine), total))
            rows.append(Row((spoken(TASKS, task), spoken(REGIONS, region)), cells))
    return tuple(rows)


def _of_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Shares and features of each seed, added up."""
    return table.groupby("seed", as_index=False)[["share", "features"]].sum()


def _cell(rows: pd.DataFrame, total: float) -> Cell:
    if rows.empty:
        return Cell(ABSENT)
    alike = f"{100 * rows['features'].iloc[0] / total:.1f}"
    return measured_cell(
        rows.assign(share=100 * rows["share"]), "share", digits=1, notes=(f"of {alike}",)
    )
