"""Fig. S3: reliability diagrams, backbones by branches, with the number of knees of each group."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kellgren.analysis.performance import wilson_interval
from kellgren.report.figures.grid import heading_above, legend_below, nothing, panels
from kellgren.report.figures.style import BLUE, MUTED, ORANGE, RULE, SMALL, STYLE
from kellgren.report.table import number
from kellgren.report.terms import BACKBONES, BRANCHES, in_order, spoken
from kellgren.study import StudyResult

STRIP = 0.16  # height of the strip of counts, in probability
EVENT = {"oa": "probability of OA", "kl": "confidence in the grade"}


def reliability(result: StudyResult) -> Figure | None:
    """Observed frequency against stated probability; None where nothing was predicted.

    Where there are several seeds the first is drawn.
    """
    table = result.reliability
    if table.empty:
        return None
    table = table[table["seed"] == table["seed"].min()]
    measured = result.calibration[result.calibration["seed"] == table["seed"].min()]
    backbones = in_order(table["backbone"], BACKBONES)
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(backbones), len(BRANCHES), height=1.62, foot=0.66, head=0.42)
        for row, backbone in enumerate(backbones):
            for column, (branch, of_branch) in enumerate(BRANCHES.items()):
                axis = axes[row, column]
                _panel(axis, _of(table, backbone, of_branch))
                _error(axis, _of(measured, backbone, of_branch))
                if row == 0:
                    heading_above(axis, branch)
            axes[row, 0].set_ylabel(f"{spoken(BACKBONES, backbone)}\nobserved", labelpad=2)
        for axis, (_, head) in zip(axes[-1], BRANCHES.values(), strict=True):
            axis.set_xlabel(EVENT[head], labelpad=2)
        legend_below(figure, _handles())
    return figure


def _of(table: pd.DataFrame, backbone: str, branch: tuple[str, str]) -> pd.DataFrame:
    supervision, head = branch
    mine = (table["backbone"] == backbone) & (table["supervision"] == supervision)
    return table[mine & (table["head"] == head)]


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    axis.set_xlim(-0.04, 1.04)
    axis.set_ylim(-0.04 - STRIP, 1.04)
    axis.set_xticks([0, 0.5, 1])
    axis.set_yticks([0, 0.5, 1])
    if rows.empty:
        nothing(axis, "no such head")
        return
    axis.plot([0, 1], [0, 1], color=RULE, linewidth=0.8, zorder=0)
    raw, scaled = (rows[rows["scaling"] == name] for name in ("none", "temperature"))
    for _, group in raw.iterrows():
        events = round(group["frequency"] * group["count"])
        low, high = wilson_interval(events, int(group["count"]))
        axis.plot([group["confidence"]] * 2, [low, high], color=BLUE, linewidth=0.6, alpha=0.45)
    axis.plot(raw["confidence"], raw["frequency"], "o", color=BLUE, markersize=3.2, zorder=3)
    axis.plot(
        scaled["confidence"],
        scaled["frequency"],
        "D",
        color=ORANGE,
        markerfacecolor="none",
        markersize=3.6,
        markeredgewidth=0.7,
        zorder=4,
    )
    floor = -0.04 - STRIP
    tallest = STRIP * 0.8 / max(int(raw["count"].max()), 1)
    axis.vlines(
        raw["confidence"],
        floor,
        floor + tallest * raw["count"],
        color=BLUE,
        linewidth=1.4,
        alpha=0.7,
    )
    axis.axhline(-0.04, color=RULE, linewidth=0.5)


def _error(axis: Axes, rows: pd.DataFrame) -> None:
    raw = rows[rows["scaling"] == "none"]
    if len(raw):
        values = (float(raw[c].iloc[0]) for c in ("ece", "ece_if_calibrated"))
        ece, expected = (number(value, digits=2) for value in values)
        axis.set_title(
            f"ECE {ece} ({expected} if calibrated)", fontsize=SMALL, color=MUTED, pad=2.5
        )


def _handles() -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            color=BLUE,
            marker="o",
            linewidth=0.6,
            markersize=3.5,
            label="as it is, 95 % Wilson interval",
        ),
        Line2D(
            [],
            [],
            color=ORANGE,
            marker="D",
            linestyle="",
            markerfacecolor="none",
            markersize=3.8,
            label="temperature of training knees",
        ),
        Line2D(
            [],
            [],
            color=BLUE,
            marker="|",
            linestyle="",
            markersize=6,
            label="knees of the group (strip)",
        ),
        Line2D([], [], color=RULE, label="calibrated"),
    ]
