"""Fig. S9: what is left of saliency when the weights are randomised from the heads down."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kellgren.report.control_tables import branches_of, stage_name
from kellgren.report.figures.grid import heading, legend_below, level, panels
from kellgren.report.figures.style import BLUE, ORANGE, PURPLE, SKY, STYLE
from kellgren.report.terms import BACKBONES, BRANCHES, in_order, spoken
from kellgren.study import StudyResult

LOOKS = dict(zip(BRANCHES, ((SKY, "o"), (PURPLE, "s"), (BLUE, "^"), (ORANGE, "D")), strict=True))


def randomisation(result: StudyResult) -> Figure | None:
    """Rank correlation with the map of the trained network, by depth; None where not measured.

    Each point is a mean over exemplar knees and seeds.
    """
    table = result.randomisation
    if table.empty:
        return None
    backbones = in_order(table["backbone"], BACKBONES)
    with mpl.rc_context(STYLE):
        figure, axes = panels(1, len(backbones), height=1.9, foot=1.02, sharex=False)
        for axis, backbone in zip(axes[0], backbones, strict=True):
            heading(axis, spoken(BACKBONES, backbone))
        for axis, backbone in zip(axes[0], backbones, strict=True):
            _panel(axis, table[table["backbone"] == backbone])
        lowest = float(table["rho"].min())
        axes[0, 0].set_ylim(min(lowest, 0.0) - 0.06, 1.05)
        axes[0, 0].set_ylabel("Spearman ρ with the map\nof the trained network", labelpad=2)
        legend_below(figure, _handles())
    return figure


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    level(axis, 0.0)
    for branch, mine in branches_of(rows):
        mean = mine.groupby("depth")["rho"].mean()
        colour, marker = LOOKS[branch]
        axis.plot(
            [0, *mean.index], [1.0, *mean], color=colour, marker=marker, markersize=3.4, linewidth=1
        )
    stages = rows.groupby("depth")["stage"].first()
    axis.set_xticks(
        [0, *stages.index],
        ["trained", *map(stage_name, stages)],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
    )


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=colour, marker=marker, markersize=3.6, label=branch)
        for branch, (colour, marker) in LOOKS.items()
    ]
