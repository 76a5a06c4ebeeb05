"""Fig. 2: what Dual changes against the single model of the same task, with its uncertainty."""

import math

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from kellgren.report.comparison_tables import ALPHA, dual_minus_single
from kellgren.report.figures.style import (
    BACKBONE_COLOURS,
    FULL_WIDTH,
    INK,
    MUTED,
    PURPLE,
    RULE,
    SMALL,
    STYLE,
)
from kellgren.report.table import interval, number, p_value
from kellgren.report.terms import BACKBONES, METRICS, in_order, spoken
from kellgren.study import StudyResult

PANELS: dict[str, str] = {
    "oa": "(a) OA: Dual minus Single-OA",
    "kl": "(b) KL grade: Dual minus Single-KL",
}
LINE_HEIGHT = 0.175  # inches
TEXT_AT = {"difference": 1.03, "p": 1.45, "p_holm": 1.62}  # axes widths


def forest(result: StudyResult) -> Figure | None:
    """Point difference, 95 % percentile interval, bootstrap mean, and both p-values.

    Where there are several seeds the first is drawn. None where no Dual model has a single model
    to stand against.
    """
    rows = dual_minus_single(result.comparisons)
    rows = rows[rows["seed"] == rows["seed"].min()]
    tasks = [task for task in PANELS if (rows["task"] == task).any()]
    if not tasks:
        return None
    lines = [int((rows["task"] == task).sum()) for task in tasks]
    with mpl.rc_context(STYLE):
        height = LINE_HEIGHT * (sum(lines) + 3 * len(tasks)) + 0.45
        figure = Figure(figsize=(FULL_WIDTH, height))
        axes = figure.subplots(
            len(tasks), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": lines}
        )[:, 0]
        for axis, task in zip(axes, tasks, strict=True):
            _panel(axis, rows[rows["task"] == task], PANELS[task])
        reach = _reach(rows)
        axes[-1].set_xlim(-reach, reach)
        axes[-1].set_xlabel("Difference of the metric (Dual − single); right of zero favours Dual")
        top = LINE_HEIGHT * 2.4 / height
        figure.subplots_adjust(
            left=0.175, right=0.625, top=1 - top, bottom=0.55 / height, hspace=0.42
        )
        _legend(figure)
    return figure


def _reach(rows: pd.DataFrame) -> float:
    ends = rows[["ci_low", "ci_high", "difference"]].abs().to_numpy().ravel()
    known = [end for end in ends if not math.isnan(end)]
    return 1.08 * max([*known, 0.01])


def _panel(axis: Axes, rows: pd.DataFrame, title: str) -> None:
    at, ticks, labels = 0.0, [], []
    axis.axvline(0, color=INK, linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
    for backbone in in_order(rows["backbone"], BACKBONES):
        mine = rows[rows["backbone"] == backbone]
        middle = at + (len(mine) - 1) / 2
        _beside(axis, -0.375, middle, spoken(BACKBONES, backbone), weight="bold")
        for _, row in mine.iterrows():
            _line(axis, at, row, BACKBONE_COLOURS.get(backbone, PURPLE))
            ticks.append(at)
            labels.append(spoken(METRICS, str(row["metric"])))
            at += 1
        axis.axhline(at - 0.5, color=RULE, linewidth=0.5, zorder=0)
    for key, heading in (("difference", "Δ [95 % CI]"), ("p", "p"), ("p_holm", "p, Holm")):
        _beside(axis, TEXT_AT[key], -0.85, heading, weight="bold")
    axis.set_yticks(ticks, labels)
    axis.set_ylim(at - 0.5, -0.6)
    axis.set_title(title, loc="left", fontweight="bold", pad=7)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelbottom=True)


def _line(axis: Axes, at: float, row: "pd.Series[float]", colour: str) -> None:
    survives = row["p_holm"] < ALPHA
    axis.plot([row["ci_low"], row["ci_high"]], [at, at], color=colour, linewidth=1.3, zorder=2)
    axis.plot([row["boot_mean"]] * 2, [at - 0.3, at + 0.3], color=colour, linewidth=0.8, zorder=2)
    axis.plot(
        [row["difference"]],
        [at],
        marker="o",
        markersize=4.2,
        color=colour,
        markerfacecolor=colour if survives else "white",
        zorder=3,
    )
    words = f"{number(row['difference'], digits=3, signed=True)} " + interval(
        row["ci_low"], row["ci_high"]
    )
    _beside(axis, TEXT_AT["difference"], at, words)
    _beside(axis, TEXT_AT["p"], at, p_value(row["p"]))
    weight = "bold" if survives else "normal"
    _beside(axis, TEXT_AT["p_holm"], at, p_value(row["p_holm"]), weight=weight)


def _beside(axis: Axes, x: float, y: float, text: str, *, weight: str = "normal") -> None:
    place = blended_transform_factory(axis.transAxes, axis.transData)
    axis.text(
        x, y, text, transform=place, va="center", ha="left", fontsize=SMALL + 0.5, weight=weight
    )


def _legend(figure: Figure) -> None:
    words = "● Holm-adjusted p < 0.05    ○ not    │ bootstrap mean    ━ 95 % percentile interval"
    figure.text(0.99, 0.012, words, ha="right", va="bottom", fontsize=SMALL, color=MUTED)
