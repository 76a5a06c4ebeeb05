"""Fig. S6: AUC of OA by age, sex, side and site, one panel a backbone."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kellgren.report.figures.grid import heading, legend_below, panels
from kellgren.report.figures.style import (
    MUTED,
    RULE,
    STYLE,
    SUPERVISION_COLOURS,
    SUPERVISION_MARKERS,
)
from kellgren.report.terms import (
    BACKBONES,
    COVARIATES,
    SUPERVISIONS,
    in_order,
    levels_in_order,
    spoken,
)
from kellgren.study import StudyResult

STEP = 0.22  # of a line, between settings


def strata(result: StudyResult) -> Figure | None:
    """AUC of OA in each stratum; None where the knees are not divided.

    Where there are several seeds the first is drawn.
    """
    table = result.strata
    table = table[(table["task"] == "oa") & (table["metric"] == "auc")]
    if table.empty:
        return None
    table = table[table["seed"] == table["seed"].min()]
    backbones = in_order(table["backbone"], BACKBONES)
    named = [
        (covariate, level)
        for covariate in in_order(table["covariate"], COVARIATES)
        for level in levels_in_order(table.loc[table["covariate"] == covariate, "level"])
    ]
    with mpl.rc_context(STYLE):
        figure, axes = panels(
            1, len(backbones), height=0.36 * len(named) + 0.15, left=0.21, foot=0.72, wspace=0.08
        )
        for axis, backbone in zip(axes[0], backbones, strict=True):
            heading(axis, spoken(BACKBONES, backbone))
            _panel(axis, table[table["backbone"] == backbone], named)
            axis.set_xlabel("AUC of OA", labelpad=2)
        axes[0, 0].set_yticks(range(len(named)), [_label(table, *name) for name in named])
        axes[0, 0].set_ylim(len(named) - 0.5, -0.5)
        axes[0, 0].set_xlim(right=1.02)
        legend_below(figure, _handles(table))
    return figure


def _label(table: pd.DataFrame, covariate: str, level: str) -> str:
    row = table[(table["covariate"] == covariate) & (table["level"] == level)].iloc[0]
    knees = f"n = {int(row['n'])}, {int(row['positives'])} OA"
    return f"{spoken(COVARIATES, covariate)}: {level}\n{knees}"


def _panel(axis: Axes, rows: pd.DataFrame, named: list[tuple[str, str]]) -> None:
    axis.tick_params(axis="y", length=0)
    supervisions = in_order(rows["supervision"], SUPERVISIONS)
    for place, (covariate, level) in enumerate(named):
        axis.axhline(place + 0.5, color=RULE, linewidth=0.4)
        mine = rows[(rows["covariate"] == covariate) & (rows["level"] == level)]
        for _, row in mine.iterrows():
            supervision = str(row["supervision"])
            at = place + STEP * (supervisions.index(supervision) - (len(supervisions) - 1) / 2)
            colour = SUPERVISION_COLOURS.get(supervision, MUTED)
            axis.plot([row["ci_low"], row["ci_high"]], [at] * 2, color=colour, linewidth=1.1)
            marker = SUPERVISION_MARKERS.get(supervision, "^")
            axis.plot([row["value"]], [at], marker, color=colour, markersize=3.6)


def _handles(table: pd.DataFrame) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            color=SUPERVISION_COLOURS.get(s, MUTED),
            marker=SUPERVISION_MARKERS.get(s, "^"),
            markersize=4,
            label=spoken(SUPERVISIONS, s),
        )
        for s in in_order(table["supervision"], SUPERVISIONS)
    ]
