"""Fig. S5: agreement of the OA head with the KL head of the Dual models, by reference grade."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kellgren.analysis.performance import wilson_interval
from kellgren.labels import KL_GRADES
from kellgren.report.figures.grid import heading, legend_below, nothing, panels
from kellgren.report.figures.style import BLUE, ORANGE, RULE, STYLE
from kellgren.report.terms import BACKBONES, in_order, spoken
from kellgren.study import StudyResult

RULES = {"agreement_argmax": (BLUE, "o", -0.12), "agreement_implied": (ORANGE, "D", 0.12)}


def hierarchy(result: StudyResult) -> Figure | None:
    """Agreement above, soft gap below, one column a backbone; None where no run has both heads.

    Where there are several seeds or settings with both heads the first is drawn.
    """
    table = result.hierarchy
    if table.empty:
        return None
    table = table[table["seed"] == table["seed"].min()]
    table = table[table["supervision"] == table["supervision"].iloc[0]]
    backbones = in_order(table["backbone"], BACKBONES)
    with mpl.rc_context(STYLE):
        figure, axes = panels(2, len(backbones), height=1.45, foot=0.7, hspace=0.16, sharey=False)
        gap = 1.15 * float(table["soft_gap"].max())
        for column, backbone in enumerate(backbones):
            mine = table[table["backbone"] == backbone]
            heading(axes[0, column], spoken(BACKBONES, backbone))
            _agreement(axes[0, column], mine)
            _gap(axes[1, column], mine, top=max(gap, 0.02))
            for axis in axes[:, column] if column else ():
                axis.tick_params(labelleft=False)
        axes[0, 0].set_ylabel("share of knees on\nwhich both agree", labelpad=2)
        axes[1, 0].set_ylabel("mean gap of the two\nOA probabilities", labelpad=2)
        figure.align_ylabels(axes[:, 0])
        legend_below(figure, _handles())
    return figure


def _agreement(axis: Axes, rows: pd.DataFrame) -> None:
    for name, (colour, marker, shift) in RULES.items():
        for grade in range(KL_GRADES):
            of_grade = rows[rows["stratum"] == f"KL {grade}"]
            if of_grade.empty:
                continue
            n, share = int(of_grade["n"].iloc[0]), float(of_grade[name].iloc[0])
            low, high = wilson_interval(round(share * n), n)
            axis.plot([grade + shift] * 2, [low, high], color=colour, linewidth=1.0)
            axis.plot([grade + shift], [share], marker=marker, color=colour, markersize=4)
    axis.set_ylim(0, 1.05)
    axis.set_yticks([0, 0.5, 1])
    axis.axvline(1.5, color=RULE, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)


def _gap(axis: Axes, rows: pd.DataFrame, *, top: float) -> None:
    known = [k for k in range(KL_GRADES) if (rows["stratum"] == f"KL {k}").any()]
    if not known:
        nothing(axis, "not known by grade")
        return
    of_grade = rows.set_index("stratum")
    axis.bar(known, [of_grade["soft_gap"][f"KL {k}"] for k in known], color=RULE, width=0.55)
    axis.axvline(1.5, color=RULE, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    axis.set_ylim(0, top)
    axis.set_xticks(known, [f"KL {k}\nn = {int(of_grade['n'][f'KL {k}'])}" for k in known])


def _handles() -> list[Line2D]:
    labels = {
        "agreement_argmax": "OA head and most likely grade",
        "agreement_implied": "OA head and Eq. (4)",
    }
    drawn = [
        Line2D([], [], color=colour, marker=marker, markersize=4, label=labels[name])
        for name, (colour, marker, _) in RULES.items()
    ]
    border = Line2D([], [], color=RULE, linestyle=(0, (4, 3)), label="border of OA")
    return [*drawn, border]
