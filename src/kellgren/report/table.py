"""The record that every printed table passes through, before HTML, Markdown or LaTeX."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

ABSENT = "–"
TIE = 1e-12


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What is printed.
        value: The unrounded number behind the text; None where there is none.
        best: Whether the cell holds the best value of its group and column; ties are all best.
        published: What the paper printed for this cell, such as ".8807"; empty where nothing.
        notes: Lines printed small below the text, such as the count "78/98" of an accuracy.
    """

    text: str
    value: float | None = None
    best: bool = False
    published: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """Labels at the left, then one cell a column."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """Rows that belong together, such as the models of one backbone.

    Attributes:
        name: Printed once, at the left of the group.
        rows: Rows of the group.
        reference: Whether these rows are for reference only (chance levels, published rows).
    """

    name: str
    rows: tuple[Row, ...]
    reference: bool = False


@dataclass(frozen=True)
class Column:
    """Heading of a column; `marks` are the letters of the footnotes that it carries."""

    title: str
    marks: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be printed.

    Attributes:
        name: Name of its files, such as "table1".
        title: Title, such as "Table 1. Predictive performance".
        caption: What is shown and how much doubt it carries: n, seeds, interval, correction.
        stub: Headings of the group names and of the row labels.
        columns: Headings of the cells.
        spans: Headings above the columns, each with the number of columns that it spans; empty
            where there are none.
        groups: Body.
        footnotes: Lettered a, b, c in this order.
    """

    name: str
    title: str
    caption: str
    stub: tuple[str, ...]
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    spans: tuple[tuple[str, int], ...] = ()
    footnotes: tuple[str, ...] = ()

    def lettered(self) -> list[tuple[str, str]]:
        """Footnotes with their letters."""
        return [(letter(position), text) for position, text in enumerate(self.footnotes)]

    @property
    def title_marks(self) -> str:
        """Letters of the footnotes that no column carries: they belong to the whole table."""
        carried = "".join(column.marks for column in self.columns)
        return ",".join(mark for mark, _ in self.lettered() if mark not in carried)


@dataclass(frozen=True)
class Omitted:
    """A table or figure that cannot be made from this study, and why."""

    name: str
    title: str
    reason: str


def letter(position: int) -> str:
    """Letter of a footnote.

    >>> letter(0), letter(2)
    ('a', 'c')
    """
    return chr(ord("a") + position)


def number(value: float, *, digits: int = 4, signed: bool = False) -> str:
    """A number as it is printed, with a true minus sign; NaN is a dash.

    >>> number(0.88066), number(-0.5, digits=2), number(0.5, digits=1, signed=True)
    ('0.8807', '−0.50', '+0.5')
    >>> number(float("nan")), number(-0.00001)
    ('–', '0.0000')
    """
    if math.isnan(value):
        return ABSENT
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def p_value(value: float) -> str:
    """A p-value as it is printed.

    >>> p_value(0.0423), p_value(0.00002), p_value(1.0), p_value(float("nan"))
    ('0.0423', '<0.0001', '1.0000', '–')
    """
    return "<0.0001" if value < 1e-4 else number(value)


def short(value: float | None, *, digits: int = 4) -> str:
    """A published value without its leading zero; empty for None.

    >>> short(0.8807), short(-0.802, digits=3), short(1.0, digits=3), short(None)
    ('.8807', '−.802', '1.000', '')
    """
    if value is None:
        return ""
    text = number(value, digits=digits)
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def count_behind(value: float, n: int) -> str:
    """The count k of an accuracy k/n, as "k/n"; empty where the value is not one.

    >>> count_behind(78 / 98, 98), count_behind(0.5, 3)
    ('78/98', '')
    """
    k = value * n
    if math.isnan(k) or abs(k - round(k)) > 1e-6:
        return ""
    return f"{round(k)}/{n}"


def interval(low: float, high: float, *, digits: int = 3) -> str:
    """An interval as it is printed; empty where it is not known.

    >>> interval(-0.01, 0.25)
    '[−0.010, 0.250]'
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{number(low, digits=digits)}, {number(high, digits=digits)}]"


def over_seeds(
    table: pd.DataFrame, keys: Sequence[str], value: str = "value"
) -> dict[tuple[str, ...], tuple[float, float]]:
    """Mean and standard deviation (n - 1; NaN for one seed) over seeds, by combination of keys.

    >>> runs = pd.DataFrame({"task": ["oa", "oa"], "metric": ["auc", "auc"], "value": [0.5, 0.7]})
    >>> [f"{v:.3f}" for v in over_seeds(runs, ["task", "metric"])["oa", "auc"]]
    ['0.600', '0.141']
    """
    found = {}
    for key, rows in table.groupby(list(keys), sort=False):
        values = rows[value]
        sd = float(values.std()) if len(values) > 1 else float("nan")
        found[tuple(map(str, key))] = (float(values.mean()), sd)
    return found


def seed_cell(
    mean: float,
    sd: float,
    *,
    digits: int = 4,
    signed: bool = False,
    published: str = "",
    notes: tuple[str, ...] = (),
) -> Cell:
    """A value over seeds, with its standard deviation where there is one.

    Notes belong to a single seed, so they stand only where there is no standard deviation.
    """
    if math.isnan(mean):
        return Cell(ABSENT, None, published=published)
    text = number(mean, digits=digits, signed=signed)
    if not math.isnan(sd):
        text, notes = f"{text} ± {number(sd, digits=digits)}", ()
    return Cell(text, mean, published=published, notes=tuple(filter(None, notes)))


def mark_best(
    rows: Sequence[Row], columns: Iterable[int], *, lowest: Iterable[int] = ()
) -> tuple[Row, ...]:
    """Mark the best value of each of these columns; ties are all marked.

    A column with fewer than two values has no best one.

    Args:
        rows: Rows that are compared.
        columns: Columns whose highest value is the best.
        lowest: Columns whose lowest value is the best, such as errors.

    >>> rows = [Row(("a",), (Cell("1", 1.0),)), Row(("b",), (Cell("1", 1.0),))]
    >>> [row.cells[0].best for row in mark_best(rows, [0])]
    [True, True]
    """
    best = {column: _best(rows, column, max) for column in columns}
    best |= {column: _best(rows, column, min) for column in lowest}
    return tuple(
        replace(row, cells=tuple(_marked(c, best.get(i)) for i, c in enumerate(row.cells)))
        for row in rows
    )


def _best(rows: Sequence[Row], column: int, of: Callable[[Iterable[float]], float]) -> float | None:
    values = [v for row in rows if (v := row.cells[column].value) is not None]
    return of(values) if len(values) > 1 else None


def _marked(cell: Cell, best: float | None) -> Cell:
    if best is None or cell.value is None:
        return cell
    return replace(cell, best=abs(cell.value - best) <= TIE)
