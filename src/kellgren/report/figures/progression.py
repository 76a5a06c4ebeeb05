"""Figures of progression: how baseline predictions order what became of the knees."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kellgren.progression import BASELINE, Progression
from kellgren.report.figures.grid import legend_below, panels
from kellgren.report.figures.style import (
    BACKBONE_COLOURS,
    BLUE,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    RULE,
    SMALL,
    STYLE,
)
from kellgren.report.terms import BACKBONES, SUPERVISIONS, spoken

PREDICTORS = {
    BASELINE: "KL grade at baseline",
    "expected_kl": "E[k]",
    "oa_score": "OA score",
    "pc1": "PC1",
}
# Panel -> measure over all pairs, and over pairs of one baseline grade.
CONCORDANCES = {"AUC": ("auc", "auc_within"), "C-index": ("c_index", "c_index_within")}
LINE_HEIGHT = 0.2  # inches
COLUMNS = 3


def concordances(found: Progression) -> Figure:
    """AUC at the horizon and C-index of each predictor, over all pairs and within grades."""
    table = found.measures
    lines = table[["backbone", "supervision", "seed", "predictor"]].drop_duplicates()
    with mpl.rc_context(STYLE):
        figure, axes = panels(
            1, 2, height=LINE_HEIGHT * (len(lines) + 1), left=0.25, wspace=0.1, foot=0.72
        )
        for axis, (title, measures) in zip(axes[0], CONCORDANCES.items(), strict=True):
            _dots(axis, table, lines, measures[0], shift=-0.16, hollow=False)
            _dots(axis, table, lines, measures[1], shift=0.16, hollow=True)
            _scale(axis, title, found)
        axes[0, 0].set_yticks(range(len(lines)), [_name(row) for _, row in lines.iterrows()])
        axes[0, 0].set_ylim(len(lines) - 0.4, -0.6)
        legend_below(figure, _marks())
    return figure


def _dots(
    axis: Axes,
    table: pd.DataFrame,
    lines: pd.DataFrame,
    measure: str,
    *,
    shift: float,
    hollow: bool,
) -> None:
    keys = list(lines.columns)
    rows = lines.merge(table[table["measure"] == measure], on=keys, how="left")
    for at, row in rows.iterrows():
        colour = BACKBONE_COLOURS.get(str(row["backbone"]), INK if not row["backbone"] else PURPLE)
        y = int(str(at)) + shift
        axis.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, linewidth=1.0)
        fill = "white" if hollow else colour
        axis.plot([row["value"]], [y], "o", color=colour, markersize=3.6, markerfacecolor=fill)


def _scale(axis: Axes, title: str, found: Progression) -> None:
    of_all = found.measures[found.measures["measure"] == CONCORDANCES[title][0]]
    first = of_all.iloc[0]
    axis.axvline(0.5, color=RULE, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    axis.set_xlim(0, 1)
    until = f"{found.horizon:g} months"
    axis.set_title(f"{title}, {until}", fontweight="bold", pad=4)
    axis.set_xlabel(f"{title} ({first['events']:.0f} of {first['n']:.0f} knees progressed)")
    axis.tick_params(axis="y", length=0)


def _marks() -> list[Line2D]:
    return [
        Line2D([], [], color=INK, marker="o", markersize=3.6, label="all pairs of knees, 95 % CI"),
        Line2D(
            [],
            [],
            color=INK,
            marker="o",
            markersize=3.6,
            markerfacecolor="white",
            label="pairs of one baseline grade",
        ),
    ]


def _name(row: "pd.Series[str]") -> str:
    predictor = PREDICTORS[row["predictor"]]
    if row["predictor"] == BASELINE:
        return predictor
    return f"{_model(row)}, {predictor}"


def _model(row: "pd.Series[str]") -> str:
    supervision = spoken(SUPERVISIONS, row["supervision"])
    return f"{spoken(BACKBONES, row['backbone'])} {supervision} s{row['seed']}"


def curves(found: Progression) -> Figure:
    """Share free of progression, of knees at or below and above the median of each predictor."""
    groups = list(
        found.curves.groupby(["backbone", "supervision", "seed", "predictor"], sort=False)
    )
    rows = -(-len(groups) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure, axes = panels(
            rows, COLUMNS, height=1.65, left=0.07, wspace=0.1, hspace=0.62, foot=0.8
        )
        for axis, (_, table) in zip(axes.flat, groups, strict=False):
            _curve(axis, table, found.horizon)
        for axis in list(axes.flat)[len(groups) :]:
            axis.set_visible(False)
        lowest = float(np.nanmin(found.curves[["free", "ci_low"]].to_numpy()))
        axes[0, 0].set_ylim(max(0, np.floor(lowest * 10 - 1) / 10), 1.02)
        for axis in axes[:, 0]:
            axis.set_ylabel("free of progression")
        legend_below(figure, _halves())
    return figure


def _curve(axis: Axes, table: pd.DataFrame, horizon: float) -> None:
    for group, colour in (("at or below", BLUE), ("above", ORANGE)):
        mine = table[table["group"] == group]
        if not len(mine):
            continue
        months, free = mine["months"].tolist(), mine["free"].tolist()
        axis.step(months, free, where="post", color=colour, linewidth=1.1)
        # Before the first event and after the last the interval is unknown, not narrow.
        band = mine.dropna(subset=["ci_low"])
        axis.fill_between(
            band["months"], band["ci_low"], band["ci_high"], step="post", color=colour, alpha=0.15
        )
        words = f"{mine['events'].sum():.0f} of {mine['at_risk'].iloc[0]:.0f} progressed"
        place = (0.03, 0.2 if group == "above" else 0.08)
        axis.text(*place, words, transform=axis.transAxes, fontsize=SMALL, color=colour)
    first = table.iloc[0]
    axis.set_title(_name(first), fontsize=SMALL + 0.8, color=MUTED, pad=4)
    axis.set(xlim=(0, horizon * 1.06), xlabel="months since baseline")
    axis.set_xticks(np.arange(0, horizon + 1, max(12, 12 * (horizon // 60))))
    axis.tick_params(labelbottom=True)


def _halves() -> list[Line2D]:
    return [
        Line2D([], [], color=BLUE, label="at or below the median"),
        Line2D([], [], color=ORANGE, label="above it; shade: 95 % CI"),
    ]
