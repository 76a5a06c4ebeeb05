"""What the grids of small panels share: size, clean axes, headings, a line of legend below."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kellgren.report.figures.style import FULL_WIDTH, MUTED, RULE

FOOT = 0.72  # inches below the panels: labels of the lowest axes and the legend
HEAD = 0.3  # inches above them: headings


def panels(
    rows: int,
    columns: int,
    *,
    height: float,
    left: float = 0.08,
    foot: float = FOOT,
    head: float = HEAD,
    wspace: float = 0.12,
    hspace: float = 0.22,
    sharex: bool = True,
    sharey: bool = True,
) -> tuple[Figure, np.ndarray]:
    """A figure of full width with a grid of plain axes.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        height: Height of a row, inches.
        left: Share of the width left of the panels.
        foot: Inches below the panels.
        head: Inches above them.
        wspace: Space between columns, in widths of a panel.
        hspace: Space between rows, in heights of a panel.
        sharex: Whether all panels have one horizontal scale.
        sharey: Whether all panels have one vertical scale.

    Returns:
        The figure, and its axes as an array of rows and columns.
    """
    tall = height * rows + foot + head
    figure = Figure(figsize=(FULL_WIDTH, tall))
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    figure.subplots_adjust(
        left=left,
        right=0.985,
        top=1 - head / tall,
        bottom=foot / tall,
        wspace=wspace,
        hspace=hspace,
    )
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def heading(axis: Axes, words: str) -> None:
    """Bold heading above a panel."""
    axis.set_title(words, fontweight="bold", pad=4)


def heading_above(axis: Axes, words: str) -> None:
    """Bold heading above the small title that a panel has."""
    axis.annotate(
        words,
        (0.5, 1),
        (0, 12),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        fontsize=7.5,
        weight="bold",
    )


def nothing(axis: Axes, words: str) -> None:
    """A panel for which there is nothing to draw."""
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, labelleft=False, labelbottom=False)
    axis.text(0.5, 0.5, words, transform=axis.transAxes, ha="center", va="center", color=MUTED)


def level(axis: Axes, y: float) -> None:
    """A dashed line at a level that means nothing was found."""
    axis.axhline(y, color=RULE, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """One line of legend at the foot of the figure."""
    figure.legend(
        handles=list(handles),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=len(handles),
        handletextpad=0.5,
        columnspacing=1.6,
        borderaxespad=0.3,
    )
