"""Cells and rows of what was measured on runs: mean and spread over seeds, or one interval."""

from collections.abc import Callable, Iterable, Mapping
from itertools import product

import pandas as pd

from kellgren.report.table import ABSENT, Cell, Group, Row, interval, number, p_value, seed_cell
from kellgren.report.terms import METHODS, in_order, spoken


def measured_cell(
    rows: pd.DataFrame,
    name: str = "value",
    *,
    bounds: tuple[str, str] | None = None,
    digits: int = 3,
    signed: bool = False,
    notes: Iterable[str] = (),
) -> Cell:
    """Mean of a column over runs that differ in their seed, with its standard deviation.

    One run has its interval and the notes below the value instead. A dash where nothing is known.

    Args:
        rows: One row a seed.
        name: Column.
        bounds: Columns that hold the interval of one run; None where it has none.
        digits: Decimal places of the value; the interval has no more than three.
        signed: Whether a plus sign is printed.
        notes: Further lines below the value of one run.
    """
    known = rows[name].astype(float).dropna()
    if known.empty:
        return Cell(ABSENT)
    doubt = interval(*_ends(rows, bounds), digits=min(digits, 3)) if bounds else ""
    sd = float(known.std()) if len(known) > 1 else float("nan")
    return seed_cell(float(known.mean()), sd, digits=digits, signed=signed, notes=(doubt, *notes))


def count_cell(rows: pd.DataFrame, name: str, *, notes: Iterable[str] = ()) -> Cell:
    """A count of one run; its mean and standard deviation over several."""
    return measured_cell(rows, name, digits=0 if len(rows) == 1 else 1, notes=notes)


def p_note(rows: pd.DataFrame, name: str) -> str:
    """The p-value of one run; empty for several, of which no mean would be a p-value."""
    return f"p {p_value(float(rows[name].iloc[0]))}" if len(rows) == 1 else ""


def range_note(rows: pd.DataFrame, low: str, high: str, *, digits: int = 2) -> str:
    """A range of one run, such as that of the folds; empty for several or where not known."""
    return interval(*_ends(rows, (low, high)), digits=digits) if len(rows) == 1 else ""


def value_note(words: str, rows: pd.DataFrame, name: str, *, digits: int = 3) -> str:
    """Words and a value of one run; empty for several or where it is not known."""
    if len(rows) != 1 or pd.isna(rows[name].iloc[0]):
        return ""
    return f"{words} {number(float(rows[name].iloc[0]), digits=digits)}"


def by_backbone(
    table: pd.DataFrame,
    keys: Mapping[str, Mapping[str, str]],
    cells_of: Callable[[pd.DataFrame], tuple[Cell, ...]],
) -> tuple[Group, ...]:
    """One group a backbone, one row for each combination of keys that was measured.

    Args:
        table: Rows of runs.
        keys: Columns that make a row, each with the printed names of its values in order.
        cells_of: Makes the cells from the rows of all seeds.
    """
    groups = []
    for backbone in in_order(table["backbone"], METHODS):
        mine = table[table["backbone"] == backbone]
        groups.append(Group(spoken(METHODS, backbone), rows_by(mine, keys, cells_of)))
    return tuple(groups)


def rows_by(
    table: pd.DataFrame,
    keys: Mapping[str, Mapping[str, str]],
    cells_of: Callable[[pd.DataFrame], tuple[Cell, ...]],
) -> tuple[Row, ...]:
    """One row for each combination of keys that was measured; see `by_backbone`."""
    values = [in_order(table[column], names) for column, names in keys.items()]
    rows = []
    for combination in product(*values):
        part = table
        for column, value in zip(keys, combination, strict=True):
            part = part[part[column].astype(str) == value]
        if len(part):
            labels = map(spoken, keys.values(), combination)
            rows.append(Row(tuple(labels), cells_of(part)))
    return tuple(rows)


def _ends(rows: pd.DataFrame, bounds: tuple[str, str]) -> tuple[float, float]:
    low, high = (float(rows[name].iloc[0]) for name in bounds)
    return low, high
