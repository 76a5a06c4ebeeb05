"""Fig. 1: the label hierarchy, the network that is taught with it, and what is measured."""

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon

from kellgren.report.figures.embedding import KL_COLOURS
from kellgren.report.figures.style import (
    FULL_WIDTH,
    INK,
    MUTED,
    OA_COLOURS,
    RULE,
    SMALL,
    STYLE,
)
from kellgren.study import StudyResult

HEIGHT = 2.75  # inches
GRADES = ("none", "doubtful", "minimal", "moderate", "severe")
MEASURES = (
    ("Performance", "AUC, accuracy, F1, paired tests", "Tables 1, 4, 5; Figs. 2, 5"),
    ("Severity axis", "PC1 of z against KL and OA", "Table 2; Fig. 4"),
    ("Saliency and cartilage", "|∂ logit / ∂ voxel| inside the mask", "Table 3; Fig. 3"),
)
BOX = "round,pad=0,rounding_size=0.06"


def concept(result: StudyResult) -> Figure | None:
    """The schematic; it needs nothing of the study, so it can always be drawn."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(FULL_WIDTH, HEIGHT))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set_xlim(0, FULL_WIDTH)
        axis.set_ylim(0, HEIGHT)
        axis.set_axis_off()
        _labels(axis)
        _network(axis)
        _measures(axis)
        for x, title in (
            (0.12, "(a) Label hierarchy"),
            (2.35, "(b) One encoder, two heads"),
            (5.32, "(c) What is measured"),
        ):
            axis.text(x, HEIGHT - 0.17, title, fontsize=8, weight="bold", va="center")
    return figure


def _labels(axis: Axes) -> None:
    for oa, (low, high, name) in enumerate(((0.28, 0.64, "no OA"), (1.0, 1.72, "OA"))):
        middle = (low + high) / 2
        _box(axis, (middle - 0.29, 1.88), (0.58, 0.27), name, face=OA_COLOURS[oa])
        for grade in range(2) if oa == 0 else range(2, 5):
            axis.plot([middle, 0.28 + 0.36 * grade], [1.88, 1.33], color=MUTED, linewidth=0.7)
    for grade, name in enumerate(GRADES):
        x = 0.28 + 0.36 * grade
        axis.add_patch(
            Circle((x, 1.19), 0.135, facecolor=KL_COLOURS(grade), edgecolor=INK, linewidth=0.5)
        )
        colour = "white" if grade > 1 else INK
        axis.text(x, 1.185, str(grade), ha="center", va="center", color=colour, weight="bold")
        axis.text(
            x - 0.02,
            1.0,
            name,
            ha="right",
            va="top",
            rotation=40,
            rotation_mode="anchor",
            fontsize=SMALL,
        )
    axis.text(0.12, 2.3, "coarse: OA = 1 where KL ≥ 2", fontsize=SMALL + 0.5, color=MUTED)
    axis.text(
        0.12,
        0.38,
        "fine: Kellgren–Lawrence grade,\nordinal, read with noise",
        fontsize=SMALL + 0.5,
        color=MUTED,
        va="top",
    )


def _network(axis: Axes) -> None:
    for step in range(4):
        corner = (2.32 + 0.045 * step, 1.02 + 0.045 * step)
        axis.add_patch(
            FancyBboxPatch(
                corner,
                0.46,
                0.5,
                boxstyle="square,pad=0",
                facecolor="#e9edf1",
                edgecolor=INK,
                linewidth=0.5,
            )
        )
    axis.text(2.62, 0.93, "3-D DESS\nMRI, x", ha="center", va="top", fontsize=SMALL + 0.5)
    _arrow(axis, (2.97, 1.34), (3.15, 1.34))
    axis.add_patch(
        Polygon(
            [(3.17, 0.86), (3.17, 1.82), (3.72, 1.58), (3.72, 1.1)],
            facecolor="#dfe7ef",
            edgecolor=INK,
            linewidth=0.6,
            joinstyle="round",
        )
    )
    axis.text(3.445, 1.34, "encoder\nf", ha="center", va="center")
    axis.text(
        3.445, 0.78, "ResNet3D, M3T\nor nnMamba", ha="center", va="top", fontsize=SMALL, color=MUTED
    )
    _arrow(axis, (3.74, 1.34), (3.87, 1.34))
    _box(axis, (3.89, 0.98), (0.18, 0.72), "z", face="#f4f4f4")
    _arrow(axis, (4.09, 1.48), (4.29, 1.92))
    _arrow(axis, (4.09, 1.20), (4.29, 0.76))
    _box(axis, (4.31, 1.76), (0.78, 0.36), "head g\n1 OA logit", face=OA_COLOURS[1] + "55")
    _box(axis, (4.31, 0.54), (0.78, 0.36), "head h\n5 KL logits", face="#d8c9e8")
    axis.text(4.70, 2.19, "Single-OA, Dual", ha="center", fontsize=SMALL, color=MUTED)
    axis.text(4.70, 0.47, "Single-KL, Dual", ha="center", va="top", fontsize=SMALL, color=MUTED)
    axis.text(
        4.68,
        1.34,
        "loss = λ(OA)·BCE\n+ λ(KL)·CE",
        ha="center",
        va="center",
        fontsize=SMALL,
        color=MUTED,
    )


def _measures(axis: Axes) -> None:
    for position, (name, how, where) in enumerate(MEASURES):
        y = 1.74 - 0.72 * position
        axis.add_patch(
            FancyBboxPatch(
                (5.34, y), 1.76, 0.6, boxstyle=BOX, facecolor="white", edgecolor=RULE, linewidth=0.8
            )
        )
        axis.text(5.42, y + 0.47, name, weight="bold", va="center")
        axis.text(5.42, y + 0.29, how, fontsize=SMALL, va="center")
        axis.text(5.42, y + 0.12, where, fontsize=SMALL, va="center", color=MUTED)
        _arrow(axis, (5.15, 1.34), (5.32, y + 0.3))


def _box(
    axis: Axes, corner: tuple[float, float], size: tuple[float, float], text: str, *, face: str
) -> None:
    axis.add_patch(
        FancyBboxPatch(corner, *size, boxstyle=BOX, facecolor=face, edgecolor=INK, linewidth=0.6)
    )
    axis.text(corner[0] + size[0] / 2, corner[1] + size[1] / 2, text, ha="center", va="center")


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=6,
            color=INK,
            linewidth=0.7,
            shrinkA=0,
            shrinkB=0,
        )
    )
