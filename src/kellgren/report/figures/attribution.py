"""Fig. S11: which regions and classes of features carry the weight of radiomics systems."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from kellgren.report.attribution_table import by_part
from kellgren.report.figures.style import FULL_WIDTH, INK, SMALL, STYLE
from kellgren.report.terms import FAMILIES, REGIONS, SYSTEMS, TASKS, in_order, spoken
from kellgren.study import StudyResult

# Those that choose among all regions and classes; any other is drawn where there are none of them.
WHOLE_POOL = ("all_radiomics", "all_radiomics_ordinal", "top_k", "retrieval")
MOST = 4
COLOURS = "PuOr_r"  # purple below, orange above; told apart by colour-blind readers
REACH = 4.0  # times the share of features, at either end of the colours
PANEL_HEIGHT = 1.12  # inches


def attribution(result: StudyResult) -> Figure | None:
    """Share of the weight by region and class, coloured by how it exceeds the share of features.

    None where no system has weights. Of several seeds the mean is drawn.
    """
    table = by_part(result)
    if table.empty:
        return None
    systems = [name for name in in_order(table["backbone"], SYSTEMS) if name in WHOLE_POOL]
    systems = (systems or in_order(table["backbone"], SYSTEMS))[:MOST]
    table = table[table["backbone"].isin(systems)]
    tasks, families = in_order(table["task"], TASKS), in_order(table["family"], FAMILIES)
    with mpl.rc_context(STYLE):
        height = PANEL_HEIGHT * len(tasks) + 1.07
        figure = Figure(figsize=(FULL_WIDTH, height))
        axes = figure.subplots(len(tasks), MOST, squeeze=False)
        figure.subplots_adjust(
            left=0.205, right=0.99, top=1 - 0.42 / height, bottom=0.9 / height, hspace=0.12,
            wspace=0.06,
        )  # fmt: skip
        for column, axis in enumerate(axes[0]):
            if column < len(systems):
                name = spoken(SYSTEMS, systems[column]).replace(", ", ",\n")
                axis.set_title(name, fontweight="bold", pad=4)
        for row, task in enumerate(tasks):
            for column, system in enumerate(systems):
                mine = table[(table["backbone"] == system) & (table["task"] == task)]
                _panel(axes[row, column], mine, families)
            _left(axes[row, 0], spoken(TASKS, task))
        for axis in axes[-1, : len(systems)]:
            names = [spoken(FAMILIES, name) for name in families]
            axis.set_xticks(range(len(families)), names, rotation=90)
        for axis in axes[:, len(systems) :].flat:
            axis.set_visible(False)
        _colour_bar(figure, height)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, families: list[str]) -> None:
    share, features = (_grid(rows, name, families) for name in ("share", "features"))
    alike = features / max(features.sum(), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.clip(share / alike, 1 / REACH, REACH)
    axis.imshow(ratio, cmap=COLOURS, norm=LogNorm(1 / REACH, REACH), aspect="auto")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.tick_params(length=0, pad=2)
    axis.spines[:].set_linewidth(0.4)
    for (row, column), value in np.ndenumerate(share):
        if features[row, column]:
            strong = abs(np.log(ratio[row, column])) > 0.75 * np.log(REACH)
            colour = "white" if strong else INK
            words = f"{100 * value:.0f}"
            axis.text(column, row, words, ha="center", va="center", color=colour, fontsize=SMALL)


def _grid(rows: pd.DataFrame, name: str, families: list[str]) -> Float[np.ndarray, "r f"]:
    """Mean over seeds by region and class; 0 where there is no such feature."""
    mean = rows.groupby(["region", "family"])[name].mean()
    keys = pd.MultiIndex.from_product([list(REGIONS), families])
    grid = mean.reindex(keys).fillna(0.0).to_numpy(dtype=np.float64)
    return grid.reshape(len(REGIONS), len(families))


def _left(axis: Axes, task: str) -> None:
    axis.set_yticks(range(len(REGIONS)), list(REGIONS.values()))
    axis.set_ylabel(task, fontweight="bold", labelpad=3)


def _colour_bar(figure: Figure, height: float) -> None:
    bar = figure.add_axes((0.67, 0.2 / height, 0.28, 0.08 / height))
    colours = figure.colorbar(
        ScalarMappable(LogNorm(1 / REACH, REACH), COLOURS), cax=bar, orientation="horizontal"
    )
    ticks = {1 / REACH: "¼ or less", 0.5: "½", 1.0: "1", 2.0: "2", REACH: "4 or more"}
    colours.set_ticks(list(ticks), labels=list(ticks.values()))
    colours.minorticks_off()
    colours.outline.set_linewidth(0.4)
    bar.tick_params(length=1.5, pad=1.5)
    figure.text(
        0.625,
        0.24 / height,
        "share of the weight over share of the features",
        ha="right",
        va="center",
        fontsize=SMALL + 0.5,
    )
