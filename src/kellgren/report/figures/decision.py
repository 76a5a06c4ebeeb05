"""Fig. S4: decision curves of the OA prediction, backbones by settings."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from kellgren.report.figures.grid import heading, legend_below, nothing, panels
from kellgren.report.figures.style import BACKBONE_COLOURS, INK, MUTED, PURPLE, STYLE
from kellgren.report.terms import BACKBONES, SUPERVISIONS, in_order, spoken
from kellgren.study import StudyResult

LOWEST = -0.15  # a curve that falls below is cut: it is worse than treating nobody


def decision(result: StudyResult) -> Figure | None:
    """Net benefit by threshold beside treating all and none; None where nothing was predicted.

    Where there are several seeds the first is drawn.
    """
    table = result.decision
    if table.empty:
        return None
    table = table[table["seed"] == table["seed"].min()]
    backbones = in_order(table["backbone"], BACKBONES)
    supervisions = in_order(table["supervision"], SUPERVISIONS)
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(backbones), len(supervisions), height=1.35, foot=0.66)
        for row, backbone in enumerate(backbones):
            for column, supervision in enumerate(supervisions):
                mine = table[
                    (table["backbone"] == backbone) & (table["supervision"] == supervision)
                ]
                _panel(axes[row, column], mine, BACKBONE_COLOURS.get(backbone, PURPLE))
                if row == 0:
                    heading(axes[row, column], spoken(SUPERVISIONS, supervision))
            axes[row, 0].set_ylabel(f"{spoken(BACKBONES, backbone)}\nnet benefit", labelpad=2)
        top = 1.08 * float(table[["ci_high", "treat_all"]].to_numpy().max())
        axes[0, 0].set_ylim(LOWEST, top)
        for axis in axes[-1]:
            axis.set_xlabel("threshold probability of OA", labelpad=2)
        legend_below(figure, _handles())
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, colour: str) -> None:
    axis.set_xlim(0, 1)
    axis.set_xticks([0.2, 0.4, 0.6, 0.8])
    if rows.empty:
        nothing(axis, "no such run")
        return
    rows = rows.sort_values("threshold")
    axis.axhline(0, color=INK, linewidth=0.7, linestyle=":")
    axis.plot(rows["threshold"], rows["treat_all"], color=MUTED, linewidth=0.9, linestyle="--")
    axis.fill_between(
        rows["threshold"], rows["ci_low"], rows["ci_high"], color=colour, alpha=0.22, linewidth=0
    )
    axis.plot(rows["threshold"], rows["net_benefit"], color=colour, linewidth=1.4)


def _handles() -> list[Line2D | Patch]:
    return [
        Line2D([], [], color=INK, linewidth=1.4, label="model (colour of its backbone)"),
        Patch(color=MUTED, alpha=0.3, linewidth=0, label="95 % interval over knees"),
        Line2D([], [], color=MUTED, linewidth=0.9, linestyle="--", label="all called OA"),
        Line2D([], [], color=INK, linewidth=0.7, linestyle=":", label="none called OA"),
    ]
