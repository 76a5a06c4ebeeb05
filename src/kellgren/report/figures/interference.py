"""Fig. S12: whether the gradients of the two heads agree while a Dual model trains, by stage."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kellgren.report.figures.grid import heading, legend_below, level, nothing, panels
from kellgren.report.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    STYLE,
    YELLOW,
)
from kellgren.report.terms import BACKBONES, SUPERVISIONS, in_order, spoken
from kellgren.study import StudyResult

WHOLE = "encoder"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW)
STYLES = ("-", "--", ":", "-.")


def interference(result: StudyResult) -> Figure | None:
    """Cosine of the two gradients over the epochs, mean over seeds; None where none was watched."""
    table = result.interference
    if table.empty:
        return None
    backbones = in_order(table["backbone"], BACKBONES)
    supervisions = in_order(table["supervision"], SUPERVISIONS)[:4]
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(backbones), len(supervisions), height=1.4, foot=0.8)
        for row, backbone in enumerate(backbones):
            of_backbone = table[table["backbone"] == backbone]
            for column, supervision in enumerate(supervisions):
                mine = of_backbone[of_backbone["supervision"] == supervision]
                _panel(axes[row, column], mine)
                if row == 0:
                    heading(axes[row, column], spoken(SUPERVISIONS, supervision))
            axes[row, 0].set_ylabel(f"{spoken(BACKBONES, backbone)}\ncosine", labelpad=2)
        axes[0, 0].set_ylim(-1.05, 1.05)
        for axis in axes[-1]:
            axis.set_xlabel("epoch", labelpad=2)
        legend_below(figure, _handles())
    return figure


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    if rows.empty:
        nothing(axis, "not watched")
        return
    level(axis, 0.0)
    stages = [stage for stage in dict.fromkeys(rows["stage"]) if stage != WHOLE]
    for i, stage in enumerate(stages):
        mean = rows[rows["stage"] == stage].groupby("epoch")["cosine"].mean()
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
        axis.plot(mean.index, mean.to_numpy(), style, color=colour, linewidth=0.8, label=stage)
    mean = rows[rows["stage"] == WHOLE].groupby("epoch")["cosine"].mean()
    axis.plot(mean.index, mean.to_numpy(), color=INK, linewidth=1.6)
    axis.legend(fontsize=SMALL, loc="lower right", ncols=2, handlelength=1.4, columnspacing=0.8)


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=INK, linewidth=1.6, label="whole encoder"),
        Line2D([], [], color=BLUE, linewidth=0.8, label="its stages, named in each panel"),
    ]
