"""Fig. S2: what a perfect reader would score, by agreement of readers, and what the models do."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kellgren.report.figures.grid import legend_below, panels
from kellgren.report.figures.style import (
    BACKBONE_COLOURS,
    INK,
    MUTED,
    PURPLE,
    RULE,
    STYLE,
    SUPERVISION_MARKERS,
)
from kellgren.report.terms import (
    BACKBONES,
    METRICS,
    PERFORMANCE,
    SUPERVISIONS,
    TASKS,
    in_order,
    spoken,
)
from kellgren.study import StudyResult

DRAWN = (*PERFORMANCE, ("kl", "quadratic_kappa"))
COLUMNS = 4


def ceiling(result: StudyResult) -> Figure | None:
    """One panel a metric; None where nothing was predicted.

    Left: ceiling by agreement, with its standard deviation. Right of it: the score of each model
    (mean over seeds), which does not depend on the agreement.
    """
    table = result.noise
    drawn = [key for key in DRAWN if len(_of(table, key))] if len(table) else []
    if not drawn:
        return None
    rows = -(-len(drawn) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure, axes = panels(
            rows, COLUMNS, height=1.6, left=0.055, wspace=0.3, hspace=0.5, foot=0.7, sharey=False
        )
        for axis, key in zip(axes.flat, drawn, strict=False):
            _panel(axis, _of(table, key))
            axis.set_title(f"{TASKS[key[0]]} {METRICS[key[1]]}", fontweight="bold", pad=4)
        for axis in list(axes.flat)[len(drawn) :]:
            axis.set_visible(False)
        legend_below(figure, _handles(table))
    return figure


def _of(table: pd.DataFrame, key: tuple[str, str]) -> pd.DataFrame:
    return table[(table["task"] == key[0]) & (table["metric"] == key[1])]


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    limits = rows.groupby("agreement")[["ceiling", "ceiling_sd"]].first()
    axis.fill_between(
        limits.index,
        limits["ceiling"] - limits["ceiling_sd"],
        limits["ceiling"] + limits["ceiling_sd"],
        color=RULE,
        alpha=0.7,
        linewidth=0,
    )
    axis.plot(limits.index, limits["ceiling"], color=INK, marker="o", markersize=2.6)
    low, high = float(limits.index.min()), float(limits.index.max())
    step = max(high - low, 0.1) / 3
    backbones = in_order(rows["backbone"], BACKBONES)
    for place, backbone in enumerate(backbones, start=1):
        mine = rows[rows["backbone"] == backbone]
        _models(axis, mine, high + step * place, step, BACKBONE_COLOURS.get(backbone, PURPLE))
    axis.axvline(high + step / 2, color=RULE, linewidth=0.5)
    middle = high + step * (1 + len(backbones)) / 2
    axis.set_xticks([*limits.index, middle], [*(f"{a:.1f}" for a in limits.index), "models"])
    axis.set_xlim(low - step / 2, high + step * (len(backbones) + 0.6))
    axis.set_ylim(top=1.0)
    axis.tick_params(labelbottom=True)
    low_end, high_end = axis.get_xlim()
    axis.set_xlabel("agreement of readers", labelpad=2)
    axis.xaxis.set_label_coords(((low + high) / 2 - low_end) / (high_end - low_end), -0.19)


def _models(axis: Axes, rows: pd.DataFrame, x: float, step: float, colour: str) -> None:
    """The models of one backbone side by side, so that equal scores do not hide each other."""
    mean = rows.groupby("supervision")["value"].mean()
    for place, supervision in enumerate(SUPERVISION_MARKERS):
        if supervision in mean.index:
            axis.plot(
                [x + 0.26 * step * (place - 1)],
                [mean[supervision]],
                marker=SUPERVISION_MARKERS[supervision],
                color=colour,
                markersize=3.6,
            )


def _handles(table: pd.DataFrame) -> list[Line2D]:
    return [
        Line2D([], [], color=INK, marker="o", markersize=2.6, label="ceiling ± SD"),
        *(
            Line2D([], [], color=BACKBONE_COLOURS.get(b, PURPLE), linewidth=3, label=name)
            for b in in_order(table["backbone"], BACKBONES)
            for name in [spoken(BACKBONES, b)]
        ),
        *(
            Line2D([], [], color=MUTED, linestyle="", marker=m, markersize=4, label=SUPERVISIONS[s])
            for s, m in SUPERVISION_MARKERS.items()
            if (table["supervision"] == s).any()
        ),
    ]
