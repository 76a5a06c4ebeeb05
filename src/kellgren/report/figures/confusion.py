"""Fig. 5: confusion matrices, backbones by branches."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from kellgren.labels import KL_GRADES
from kellgren.report.figures.style import FULL_WIDTH, INK, MUTED, SMALL, STYLE
from kellgren.report.terms import BACKBONES, BRANCHES, in_order, spoken
from kellgren.study import StudyResult

CLASSES: dict[str, tuple[str, ...]] = {
    "oa": ("no OA", "OA"),
    "kl": tuple(str(grade) for grade in range(KL_GRADES)),
}
COLOURS = "Blues"
PANEL_HEIGHT = 1.72  # inches


def confusion(result: StudyResult) -> Figure | None:
    """Counts, coloured by their share of the row; None where nothing was predicted.

    Where there are several seeds the first is drawn.
    """
    table = result.confusion
    if table.empty:
        return None
    table = table[table["seed"] == table["seed"].min()]
    backbones = in_order(table["backbone"], BACKBONES)
    with mpl.rc_context(STYLE):
        height = PANEL_HEIGHT * len(backbones) + 0.72
        figure = Figure(figsize=(FULL_WIDTH, height))
        axes = figure.subplots(len(backbones), len(BRANCHES), squeeze=False)
        figure.subplots_adjust(
            left=0.085,
            right=0.99,
            top=1 - 0.36 / height,
            bottom=0.78 / height,
            wspace=0.3,
            hspace=0.34,
        )
        for row, backbone in enumerate(backbones):
            mine = table[table["backbone"] == backbone]
            for column, (branch, (supervision, head)) in enumerate(BRANCHES.items()):
                axis = axes[row, column]
                counts = matrix(mine[mine["supervision"] == supervision], head)
                _panel(axis, counts, head)
                _title(axis, branch if row == 0 else "", counts)
            axes[row, 0].set_ylabel(f"{spoken(BACKBONES, backbone)}\nreference", labelpad=2)
        for axis in axes[-1]:
            axis.set_xlabel("predicted", labelpad=2)
        _colour_bar(figure, height)
    return figure


def matrix(rows: pd.DataFrame, head: str) -> Int[np.ndarray, "k k"]:
    """Counts by reference (rows) and predicted class (columns); zeros where nothing is known."""
    counts = np.zeros((len(CLASSES[head]),) * 2, dtype=np.int64)
    mine = rows[rows["head"] == head]
    np.add.at(
        counts,
        (mine["reference"].to_numpy(dtype=np.int64), mine["predicted"].to_numpy(dtype=np.int64)),
        mine["count"].to_numpy(dtype=np.int64),
    )
    return counts


def _panel(axis: Axes, counts: Int[np.ndarray, "k k"], head: str) -> None:
    names = CLASSES[head]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap=COLOURS, vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    if head == "oa":
        axis.tick_params(axis="y", labelrotation=90)
        for label in axis.get_yticklabels():
            label.set_verticalalignment("center")
    axis.tick_params(length=0, pad=2)
    axis.spines[:].set_linewidth(0.4)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.55 else INK
        axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=7)


def _title(axis: Axes, branch: str, counts: Int[np.ndarray, "k k"]) -> None:
    n = int(counts.sum())
    words = f"{int(np.trace(counts))}/{n} right" if n else "no predictions"
    axis.set_title(words, fontsize=SMALL + 0.5, color=MUTED, pad=2.5)
    if branch:
        axis.annotate(
            branch,
            (0.5, 1),
            (0, 12),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            weight="bold",
        )


def _colour_bar(figure: Figure, height: float) -> None:
    bar = figure.add_axes((0.69, 0.2 / height, 0.28, 0.08 / height))
    colours = figure.colorbar(
        ScalarMappable(mpl.colors.Normalize(0, 1), COLOURS), cax=bar, orientation="horizontal"
    )
    colours.outline.set_linewidth(0.4)
    bar.tick_params(length=1.5, pad=1.5)
    figure.text(
        0.68,
        0.24 / height,
        "share of the reference class",
        ha="right",
        va="center",
        fontsize=SMALL + 0.5,
    )
