"""The declared comparisons once seeds vary too: three standard errors (methods, not networks)."""

from typing import Any

import pandas as pd

from kellgren.report import facts
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
    BACKBONES,
    METRICS,
    SUPERVISIONS,
    SYSTEMS,
    TASKS,
    in_order,
    spoken,
)
from kellgren.study import (
    BACKBONE_VS_BACKBONE,
    DUAL_VS_SINGLE,
    NETWORK_VS_RADIOMICS,
    SUPERVISION_VS_SINGLE,
    StudyResult,
)

TITLE = "Table S3. Comparisons over seeds and knees"


def seeds(result: StudyResult) -> Table | Omitted:
    """Every declared comparison with several seeds of either side; a sentence where none has."""
    if result.seeds.empty:
        return Omitted("table_s3", TITLE, "no two methods can be compared")
    table = result.seeds[(result.seeds[["model_seeds", "reference_seeds"]] > 1).any(axis=1)]
    if table.empty:
        return Omitted(
            "table_s3",
            TITLE,
            "every method was trained once, so each p-value and interval of this study is about"
            " two trained networks and not about two methods; that takes at least five seeds of"
            " each",
        )
    return Table(
        name="table_s3",
        title=TITLE,
        caption=(
            f"n = {int(table['n'].max())} test knees, {facts.seed_words(result)}. Differences are"
            " first minus second, of the means over seeds."
        ),
        stub=("Group", "Comparison", "Metric"),
        columns=(
            Column("First"),
            Column("Second"),
            Column("Δ"),
            Column("SE, knees", "a"),
            Column("SE, seeds", "a"),
            Column("SE, both", "a"),
            Column("95 % CI", "b"),
            Column("p", "b"),
            Column("P(first > second)", "c"),
        ),
        groups=tuple(_groups(table)),
        footnotes=(
            "Standard error from resampling knees alone, trainings alone, and both. The first is"
            " the only one that a study of one seed can have; the last is that of a claim about"
            " methods.",
            "Pigeonhole bootstrap over seeds and knees, unadjusted for the number of tests; not"
            " given with fewer than five seeds of either method, where the rows only list what"
            " was found.",
            "Share of pairs of seeds in which the first is better on these knees, ties one half."
            " It says nothing about other knees.",
            "Below a mean its interquartile mean, which one failed training cannot move.",
        ),
    )


def _groups(table: pd.DataFrame) -> list[Group]:
    groups = []
    sides = {
        DUAL_VS_SINGLE: BACKBONES,
        SUPERVISION_VS_SINGLE: BACKBONES,
        BACKBONE_VS_BACKBONE: SUPERVISIONS,
        NETWORK_VS_RADIOMICS: SYSTEMS,
    }
    for family, names in sides.items():
        rows = table[table["family"] == family]
        side = "reference" if names is SYSTEMS else "model"
        shared = pd.Series([_part(str(m), of=names) for m in rows[side]], index=rows.index)
        for key in in_order(shared, names):
            lines = tuple(_row(row, names) for _, row in rows[shared == key].iterrows())
            groups.append(Group(spoken(names, key), lines))
    return groups


def _part(method: str, *, of: dict[str, str]) -> str:
    """The half of "backbone-supervision" that is asked for."""
    backbone, _, supervision = method.partition("-")
    return supervision if of is SUPERVISIONS else backbone


def _names(row: "pd.Series[Any]", shared: dict[str, str]) -> tuple[str, str]:
    """What the two sides are called where they share that; a system is named by its group."""
    model, reference = str(row["model"]), str(row["reference"])
    if shared is SYSTEMS:
        backbone, _, supervision = model.partition("-")
        return f"{spoken(BACKBONES, backbone)} {spoken(SUPERVISIONS, supervision)}", "system"
    differ = SUPERVISIONS if shared is BACKBONES else BACKBONES
    first, second = (spoken(differ, _part(side, of=differ)) for side in (model, reference))
    return first, second


def _row(row: "pd.Series[Any]", shared: dict[str, str]) -> Row:
    first, second = _names(row, shared)
    metric = f"{spoken(TASKS, str(row['task']))} {spoken(METRICS, str(row['metric']))}"
    cells = (
        _side(row, "model"),
        _side(row, "reference"),
        Cell(number(row["difference"], signed=True), row["difference"]),
        *(Cell(number(row[f"se_{of}"])) for of in ("cases", "seeds", "both")),
        Cell(interval(row["ci_low"], row["ci_high"]) or ABSENT),
        Cell(p_value(row["p"])),
        Cell(number(row["probability"], digits=2)),
    )
    return Row((f"{first} − {second}", metric), cells)


def _side(row: "pd.Series[Any]", side: str) -> Cell:
    text = number(row[f"{side}_mean"])
    if not pd.isna(row[f"{side}_sd"]):
        text += f" ± {number(row[f'{side}_sd'])}"
    count = int(row[f"{side}_seeds"])
    seeds_of = f"{count} seeds" if count > 1 else "1 seed"
    return Cell(text, row[f"{side}_mean"], notes=(seeds_of, f"IQM {number(row[f'{side}_iqm'])}"))
