"""Fig. S8: saliency on cartilage beside maps that no trained network made."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kellgren.report.figures.grid import heading, legend_below, panels
from kellgren.report.figures.style import BLUE, INK, MUTED, RULE, STYLE
from kellgren.report.terms import BACKBONES, BRANCHES, CONTROLS, METRICS, in_order, spoken
from kellgren.study import StudyResult

METRIC = "mass_roi"


def controls(result: StudyResult) -> Figure | None:
    """Share of saliency in cartilage, of the run and of each control; None without controls.

    Where there are several seeds the first is drawn.
    """
    table = result.controls
    table = table[table["metric"] == METRIC]
    if table.empty:
        return None
    table = table[table["seed"] == table["seed"].min()]
    backbones = in_order(table["backbone"], BACKBONES)
    names = in_order(table["control"], CONTROLS)
    with mpl.rc_context(STYLE):
        figure, axes = panels(
            len(backbones),
            len(BRANCHES),
            height=0.17 * len(names) + 0.42,
            left=0.185,
            foot=0.66,
            hspace=0.12,
        )
        for row, backbone in enumerate(backbones):
            for column, (branch, (supervision, head)) in enumerate(BRANCHES.items()):
                mine = (table["backbone"] == backbone) & (table["supervision"] == supervision)
                own = _own(result, backbone, supervision, head)
                _panel(axes[row, column], table[mine & (table["head"] == head)], own, names)
                if row == 0:
                    heading(axes[row, column], branch)
            axes[row, 0].set_ylabel(spoken(BACKBONES, backbone), fontweight="bold")
            axes[row, 0].yaxis.set_label_coords(-0.62, 0.5)
        for axis in axes[-1]:
            axis.set_xlabel(f"{METRICS[METRIC]}", labelpad=2)
        if (table[["value", "ci_low", "saliency"]] > 0).all(axis=None):
            axes[0, 0].set_xscale("log")
            _plain_ticks(axes[0, 0])
        legend_below(figure, _handles())
    return figure


def _own(result: StudyResult, backbone: str, supervision: str, head: str) -> pd.DataFrame:
    table = result.overlap[result.overlap["metric"] == METRIC]
    mine = (table["backbone"] == backbone) & (table["supervision"] == supervision)
    rows = table[mine & (table["head"] == head)]
    return rows[rows["seed"] == rows["seed"].min()]


def _panel(axis: Axes, rows: pd.DataFrame, own: pd.DataFrame, names: list[str]) -> None:
    axis.set_yticks(range(len(names) + 1), ["Saliency", *(spoken(CONTROLS, n) for n in names)])
    axis.set_ylim(len(names) + 0.6, -0.6)
    axis.tick_params(axis="y", length=0)
    if rows.empty:
        axis.spines[:].set_visible(False)
        axis.tick_params(axis="x", length=0)
        axis.text(0.5, 0.5, "no controls", transform=axis.transAxes, ha="center", color=MUTED)
        return
    value = float(rows["saliency"].iloc[0])
    axis.axvline(value, color=BLUE, linewidth=0.6, alpha=0.6, zorder=0)
    if len(own):
        low, high = float(own["ci_low"].iloc[0]), float(own["ci_high"].iloc[0])
        axis.plot([low, high], [0, 0], color=BLUE, linewidth=1.4)
    axis.plot([value], [0], "o", color=BLUE, markersize=4.4)
    for place, name in enumerate(names, start=1):
        mine = rows[rows["control"] == name]
        if mine.empty:
            continue
        row = mine.iloc[0]
        beaten = row["difference_low"] > 0
        axis.plot([row["ci_low"], row["ci_high"]], [place] * 2, color=INK, linewidth=1.0)
        axis.plot(
            [row["value"]],
            [place],
            "s",
            color=INK,
            markerfacecolor="white" if beaten else INK,
            markersize=3.6,
            markeredgewidth=0.8,
        )
    axis.grid(axis="y", color=RULE, linewidth=0.3)
    axis.set_axisbelow(True)


def _plain_ticks(axis: Axes) -> None:
    low, high = axis.get_xlim()
    ticks = [
        t for t in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if low <= t <= high
    ]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.set_xticks([], minor=True)


def _handles() -> list[Line2D]:
    return [
        Line2D(
            [], [], color=BLUE, marker="o", markersize=4.4, label="saliency of the trained network"
        ),
        Line2D(
            [],
            [],
            color=INK,
            marker="s",
            markerfacecolor="white",
            markersize=3.6,
            label="control that it exceeds",
        ),
        Line2D(
            [], [], color=INK, marker="s", markersize=3.6, label="control that it does not exceed"
        ),
    ]
