"""Fig. S1: Dual against single over seeds: each seed, the mean, and three kinds of doubt."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kellgren.report.comparison_tables import dual_minus_single
from kellgren.report.figures.grid import legend_below
from kellgren.report.figures.style import (
    FULL_WIDTH,
    INK,
    MUTED,
    ORANGE,
    RULE,
    SKY,
    STYLE,
)
from kellgren.report.terms import BACKBONES, METRICS, in_order, spoken
from kellgren.study import DUAL_VS_SINGLE, StudyResult

PANELS: dict[str, str] = {
    "oa": "(a) OA: Dual minus Single-OA",
    "kl": "(b) KL grade: Dual minus Single-KL",
}
LINE_HEIGHT = 0.3  # inches
REACH = 1.96  # standard errors
DOUBTS: dict[str, tuple[str, float, str]] = {
    "se_cases": (SKY, -0.22, "knees alone (± 1.96 SE)"),
    "se_seeds": (ORANGE, 0.22, "seeds alone (± 1.96 SE)"),
}


def seeds(result: StudyResult) -> Figure | None:
    """Difference over seeds with its standard errors; None where every method has one seed."""
    table = result.seeds[result.seeds["family"] == DUAL_VS_SINGLE]
    if table.empty or table["model_seeds"].max() < 2:
        return None
    table = table.assign(backbone=[str(m).partition("-")[0] for m in table["model"]])
    tasks = [task for task in PANELS if (table["task"] == task).any()]
    lines = [int((table["task"] == task).sum()) for task in tasks]
    each = dual_minus_single(result.comparisons)
    with mpl.rc_context(STYLE):
        height = LINE_HEIGHT * max(lines) + 0.95
        figure = Figure(figsize=(FULL_WIDTH, height))
        axes = figure.subplots(1, len(tasks), squeeze=False)[0]
        figure.subplots_adjust(
            left=0.185, right=0.985, top=1 - 0.3 / height, bottom=0.66 / height, wspace=0.62
        )
        for axis, task in zip(axes, tasks, strict=True):
            _panel(axis, table[table["task"] == task], each[each["task"] == task])
            axis.set_title(PANELS[task], loc="left", fontweight="bold", pad=4)
            axis.set_xlabel("difference; right of zero favours Dual", labelpad=2)
        legend_below(figure, _handles())
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, each: pd.DataFrame) -> None:
    axis.axvline(0, color=INK, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    at, labels = 0, []
    for backbone in in_order(rows["backbone"], BACKBONES):
        for _, row in rows[rows["backbone"] == backbone].iterrows():
            one = each[(each["backbone"] == backbone) & (each["metric"] == row["metric"])]
            _line(axis, at, row, _of_seeds(one))
            labels.append(f"{spoken(BACKBONES, backbone)} {spoken(METRICS, str(row['metric']))}")
            at += 1
        axis.axhline(at - 0.5, color=RULE, linewidth=0.5)
    axis.set_yticks(range(at), labels)
    axis.set_ylim(at - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.spines[["top", "right", "left"]].set_visible(False)


def _line(axis: Axes, at: int, row: "pd.Series[float]", each: list[float]) -> None:
    difference = row["difference"]
    for name, (colour, shift, _) in DOUBTS.items():
        if not pd.isna(row[name]):
            ends = [difference - REACH * row[name], difference + REACH * row[name]]
            axis.plot(ends, [at + shift] * 2, color=colour, linewidth=1.6)
    if not pd.isna(row["ci_low"]):
        axis.plot([row["ci_low"], row["ci_high"]], [at, at], color=INK, linewidth=1.2)
    axis.plot(each, [at] * len(each), "o", color=MUTED, markerfacecolor="none", markersize=3)
    axis.plot([difference], [at], "D", color=INK, markersize=3.6)


def _of_seeds(rows: pd.DataFrame) -> list[float]:
    return [float(v) for v in rows["difference"]]


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=INK, marker="D", markersize=3.6, label="mean; 95 % interval, both"),
        *(Line2D([], [], color=c, linewidth=1.6, label=words) for c, _, words in DOUBTS.values()),
        Line2D(
            [],
            [],
            color=MUTED,
            marker="o",
            linestyle="",
            markerfacecolor="none",
            markersize=3,
            label="one seed",
        ),
    ]
