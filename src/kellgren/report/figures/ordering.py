"""Fig. S7: how an axis of the features orders neighbouring grades, backbones by settings."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kellgren.report.feature_tables import PAIRS
from kellgren.report.figures.grid import heading, legend_below, level, nothing, panels
from kellgren.report.figures.style import BLUE, GREEN, ORANGE, PURPLE, RULE, STYLE
from kellgren.report.terms import AXES, BACKBONES, SUPERVISIONS, in_order, spoken
from kellgren.results import bounds_of
from kellgren.study import StudyResult

LOOKS = {"test": (BLUE, "o"), "train": (ORANGE, "s"), "supervised": (GREEN, "^")}


def ordering(result: StudyResult) -> Figure | None:
    """AUC of each pair of neighbouring grades, and of 0 against 4; None without features.

    Each point is a mean over seeds; that of one seed has its interval over knees.
    """
    table = result.order
    if table.empty:
        return None
    backbones = in_order(table["backbone"], BACKBONES)
    supervisions = in_order(table["supervision"], SUPERVISIONS)
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(backbones), len(supervisions), height=1.3, foot=0.66)
        for row, backbone in enumerate(backbones):
            for column, supervision in enumerate(supervisions):
                mine = table[
                    (table["backbone"] == backbone) & (table["supervision"] == supervision)
                ]
                _panel(axes[row, column], mine)
                if row == 0:
                    heading(axes[row, column], spoken(SUPERVISIONS, supervision))
            axes[row, 0].set_ylabel(f"{spoken(BACKBONES, backbone)}\nAUC", labelpad=2)
        lowest = float(table[[*PAIRS, *(bounds_of(name)[0] for name in PAIRS)]].min().min())
        axes[0, 0].set_ylim(min(lowest, 0.5) - 0.06, 1.05)
        for axis in axes[-1]:
            axis.set_xlabel("grades that are told apart", labelpad=2)
        legend_below(figure, _handles(in_order(table["axis"], AXES)))
    return figure


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    if rows.empty:
        nothing(axis, "no features")
        return
    level(axis, 0.5)
    axis.axvline(3.5, color=RULE, linewidth=0.5)
    names = in_order(rows["axis"], AXES)
    for place, name in enumerate(names):
        colour, marker = LOOKS.get(name, (PURPLE, "v"))
        mine = rows[rows["axis"] == name]
        values = mine[list(PAIRS)].astype(float).mean().tolist()
        x = [k + 0.2 * (place - (len(names) - 1) / 2) for k in range(len(PAIRS))]
        axis.plot(x, values, marker, color=colour, markersize=3.4, linestyle="")
        if len(mine) == 1:
            low, high = ([float(mine[bounds_of(p)[i]].iloc[0]) for p in PAIRS] for i in (0, 1))
            axis.vlines(x, low, high, color=colour, linewidth=0.8)
    axis.set_xticks(range(len(PAIRS)), list(PAIRS.values()))


def _handles(names: list[str]) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            color=colour,
            marker=marker,
            linestyle="",
            markersize=4,
            label=spoken(AXES, name),
        )
        for name in names
        for colour, marker in [LOOKS.get(name, (PURPLE, "v"))]
    ]
