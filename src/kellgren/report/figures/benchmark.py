"""Fig. S10: every network against every radiomics system, one panel a task."""

import math

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from kellgren.report.benchmark_tables import network_name, network_of
from kellgren.report.comparison_tables import ALPHA
from kellgren.report.figures.style import (
    BACKBONE_COLOURS,
    FULL_WIDTH,
    INK,
    PURPLE,
    RULE,
    SMALL,
    STYLE,
    SUPERVISION_MARKERS,
)
from kellgren.report.table import p_value
from kellgren.report.terms import BACKBONES, SUPERVISIONS, SYSTEMS, in_order, spoken
from kellgren.study import NETWORK_VS_RADIOMICS, StudyResult

DRAWN = {"oa": ("auc", "OA AUC"), "kl": ("macro_auc", "KL macro-AUC")}
LINE_HEIGHT, GAP = 0.105, 0.07  # inches: a network, and the space between two systems
HEAD, FOOT = 0.42, 0.8  # inches


def benchmark(result: StudyResult) -> Figure | None:
    """Difference in AUC, network minus system, with its interval and Holm's p.

    Where there are several seeds the first is drawn. None where no network has a system to stand
    against.
    """
    table = result.comparisons[result.comparisons["family"] == NETWORK_VS_RADIOMICS]
    table = table[table["seed"] == table["seed"].min()]
    panels = {task: _of(table, task, metric) for task, (metric, _) in DRAWN.items()}
    panels = {task: rows for task, rows in panels.items() if len(rows)}
    if not panels:
        return None
    systems = in_order(pd.concat(panels.values())["system"], SYSTEMS)
    most = max(int(rows.groupby("system").size().max()) for rows in panels.values())
    step = most * LINE_HEIGHT + GAP
    height = len(systems) * step + HEAD + FOOT
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(FULL_WIDTH, height))
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        figure.subplots_adjust(
            left=0.2, right=0.94, top=1 - HEAD / height, bottom=FOOT / height, wspace=0.22
        )
        for axis, (task, rows) in zip(axes, panels.items(), strict=True):
            _panel(axis, rows, systems, step)
            axis.set_title(DRAWN[task][1], loc="left", fontweight="bold", pad=8)
        axes[0].set_yticks(
            [(i + 0.5) * step for i in range(len(systems))],
            [_two_lines(spoken(SYSTEMS, name)) for name in systems],
        )
        _legend(figure, pd.concat(panels.values()))
    return figure


def _of(table: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    rows = table[(table["task"] == task) & (table["metric"] == metric)]
    return rows.assign(system=[network_of(str(run))[0] for run in rows["reference"]])


def _two_lines(name: str) -> str:
    """A name of two parts below each other.

    >>> _two_lines("Top-k selection, as released").splitlines()
    ['Top-k selection,', 'as released']
    """
    return name.replace(", ", ",\n", 1)


def _panel(axis: Axes, rows: pd.DataFrame, systems: list[str], step: float) -> None:
    axis.axvline(0, color=INK, linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
    for i, system in enumerate(systems):
        mine = rows[rows["system"] == system]
        first = (i + 0.5) * step - LINE_HEIGHT * (len(mine) - 1) / 2
        for place, (_, row) in enumerate(mine.iterrows()):
            _line(axis, first + LINE_HEIGHT * place, row)
        if i:
            axis.axhline(i * step, color=RULE, linewidth=0.5, zorder=0)
    ends = rows[["ci_low", "ci_high", "difference"]].abs().to_numpy().ravel()
    reach = 1.08 * max([*(end for end in ends if not math.isnan(end)), 0.01])
    axis.set_xlim(-reach, reach)
    axis.set_ylim(len(systems) * step, 0)
    axis.set_xlabel("network − system", labelpad=2)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    _beside(axis, 0.0, "p, Holm", weight="bold", above=True)


def _line(axis: Axes, at: float, row: "pd.Series[float]") -> None:
    backbone, supervision = network_of(str(row["model"]))
    colour = BACKBONE_COLOURS.get(backbone, PURPLE)
    survives = row["p_holm"] < ALPHA
    axis.plot([row["ci_low"], row["ci_high"]], [at, at], color=colour, linewidth=0.9, zorder=2)
    axis.plot(
        [row["difference"]],
        [at],
        marker=SUPERVISION_MARKERS.get(supervision, "v"),
        markersize=3.4,
        color=colour,
        markerfacecolor=colour if survives else "white",
        markeredgewidth=0.8,
        zorder=3,
    )
    _beside(axis, at, p_value(row["p_holm"]), weight="bold" if survives else "normal")


def _beside(axis: Axes, y: float, text: str, *, weight: str, above: bool = False) -> None:
    place = blended_transform_factory(axis.transAxes, axis.transData)
    align = "bottom" if above else "center"
    axis.text(1.02, y, text, transform=place, va=align, ha="left", fontsize=SMALL, weight=weight)


def _legend(figure: Figure, rows: pd.DataFrame) -> None:
    """What each colour and marker is: one entry a network."""
    runs = {network_of(str(run)): str(run) for run in rows["model"]}
    backbones = in_order(pd.Series([key[0] for key in runs]), BACKBONES)
    settings = in_order(pd.Series([key[1] for key in runs]), SUPERVISIONS)
    handles = [
        Line2D(
            [],
            [],
            color=BACKBONE_COLOURS.get(backbone, PURPLE),
            marker=SUPERVISION_MARKERS.get(setting, "v"),
            markerfacecolor="white",
            markersize=4,
            label=network_name(runs[backbone, setting]),
        )
        for backbone in backbones
        for setting in settings
        if (backbone, setting) in runs
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=max(len(backbones), 1) if len(handles) > 3 else len(handles),
        columnspacing=1.6,
        borderaxespad=0.3,
        labelspacing=0.35,
    )
