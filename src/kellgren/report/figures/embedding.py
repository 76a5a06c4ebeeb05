"""Fig. 4: t-SNE of the penultimate features, backbones by branches; qualitative only."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kellgren.labels import KL_GRADES, OA_THRESHOLD
from kellgren.report.figures.style import FULL_WIDTH, INK, MUTED, OA_COLOURS, RULE, SMALL, STYLE
from kellgren.report.terms import BACKBONES, BRANCHES, in_order, spoken
from kellgren.study import StudyResult

MARKERS = ("o", "^")  # without OA, with OA
KL_COLOURS = ListedColormap(
    [mpl.colormaps["viridis"](0.97 - 0.235 * grade) for grade in range(KL_GRADES)]
)
PANEL_HEIGHT = 1.62  # inches


def embedding(result: StudyResult) -> Figure | None:
    """One panel a backbone and branch; None where no run has features.

    Both Dual columns are the same embedding, coloured once by OA and once by KL grade. Where
    there are several seeds the first is drawn.
    """
    table = result.embedding
    if table.empty:
        return None
    table = table[table["seed"] == table["seed"].min()]
    backbones = in_order(table["backbone"], BACKBONES)
    with mpl.rc_context(STYLE):
        height = PANEL_HEIGHT * len(backbones) + 0.85
        figure = Figure(figsize=(FULL_WIDTH, height))
        axes = figure.subplots(len(backbones), len(BRANCHES), squeeze=False)
        figure.subplots_adjust(
            left=0.05,
            right=0.995,
            top=1 - 0.25 / height,
            bottom=0.6 / height,
            wspace=0.06,
            hspace=0.08,
        )
        for row, backbone in enumerate(backbones):
            for column, (branch, (supervision, head)) in enumerate(BRANCHES.items()):
                mine = table[table["backbone"] == backbone]
                _panel(axes[row, column], mine[mine["supervision"] == supervision], head)
                if row == 0:
                    axes[row, column].set_title(branch, pad=4, fontweight="bold")
            axes[row, 0].set_ylabel(f"{spoken(BACKBONES, backbone)}\nt-SNE 2", labelpad=3)
        for axis in axes[-1]:
            axis.set_xlabel("t-SNE 1", labelpad=2)
        _legends(figure, height)
    return figure


def _panel(axis: Axes, points: pd.DataFrame, head: str) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_color(RULE)
    if points.empty:
        axis.text(0.5, 0.5, "no features", transform=axis.transAxes, ha="center", color=MUTED)
        return
    for oa, marker in enumerate(MARKERS):
        part = points[(points["kl"] >= OA_THRESHOLD) == bool(oa)]
        colours = (
            [OA_COLOURS[oa]] * len(part)
            if head == "oa"
            else [KL_COLOURS(int(grade)) for grade in part["kl"]]
        )
        axis.scatter(
            part["x"], part["y"], c=colours, marker=marker, s=11, linewidths=0.3, edgecolors=INK
        )
    axis.margins(0.09, 0.09)
    low, high = axis.get_ylim()
    axis.set_ylim(low - 0.13 * (high - low), high)
    first = points.iloc[0]
    words = f"KL div. {first['kl_divergence']:.2f}, trust. {first['trustworthiness']:.2f}"
    axis.text(0.03, 0.02, words, transform=axis.transAxes, fontsize=SMALL, color=MUTED, va="bottom")


def _legends(figure: Figure, height: float) -> None:
    handles = [
        Line2D(
            [],
            [],
            marker=m,
            linestyle="",
            markersize=4.5,
            markeredgecolor=INK,
            markeredgewidth=0.4,
            markerfacecolor=colour,
            label=label,
        )
        for m, colour, label in zip(
            MARKERS, OA_COLOURS, ("no OA (KL 0–1)", "OA (KL 2–4)"), strict=True
        )
    ]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.045, 0.02 / height),
        ncols=2,
        title="Marker in every column; colour in the OA columns",
        title_fontsize=SMALL + 0.5,
        alignment="left",
        handletextpad=0.2,
        columnspacing=1.2,
    )
    bar = figure.add_axes((0.66, 0.2 / height, 0.3, 0.09 / height))
    norm = BoundaryNorm([k - 0.5 for k in range(KL_GRADES + 1)], KL_GRADES)
    colours = figure.colorbar(ScalarMappable(norm, KL_COLOURS), cax=bar, orientation="horizontal")
    colours.set_ticks(list(range(KL_GRADES)))
    colours.outline.set_linewidth(0.4)
    bar.tick_params(length=0, pad=1.5)
    figure.text(0.65, 0.245 / height, "KL grade", ha="right", va="center", fontsize=SMALL + 0.5)
