"""Fig. 3: where each model looks in one knee, with its cartilage, in two views."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from kellgren.report.figures.style import FULL_WIDTH, INK, MUTED, SMALL, STYLE
from kellgren.report.terms import BACKBONES, BRANCHES, in_order, spoken
from kellgren.study import Exemplar, StudyResult

CARTILAGE = "#00d060"
TOP = "#35d0ff"
OPACITY = 0.75
FULL_AT = 2.0  # saliency is fully bright at this many times the volume's 99th percentile
MARGIN_MM = 6.0  # around the cartilage, in the zoomed picture

# Layout, in inches: a cell is two panels wide and two high.
LEFT_MARGIN, TOP_MARGIN = 0.36, 0.4
PAIR_GAP, BRANCH_GAP, BLOCK_GAP = 0.03, 0.12, 0.12
PANEL = (FULL_WIDTH - LEFT_MARGIN - 0.03 - 4 * PAIR_GAP - 3 * BRANCH_GAP) / 8
BLOCK_HEIGHT = 2 * PANEL + PAIR_GAP + BLOCK_GAP


class View(NamedTuple):
    """One slice of an exemplar: pixels, size of a pixel (down, across) and its threshold."""

    scan: Float[np.ndarray, "h x"]
    cartilage: Bool[np.ndarray, "h x"]
    saliency: Float[np.ndarray, "h x"]
    pixel_mm: tuple[float, float]
    threshold: float


def saliency(result: StudyResult) -> Figure | None:
    """Backbones and views as rows, branches as columns; None where there is no exemplar.

    The knee is the one with most pictures; of several, the one whose grade is the median of
    theirs. No map has a say in it. Where there are several seeds the first is drawn.
    """
    if not result.exemplars:
        return None
    seed = min(exemplar.seed for exemplar in result.exemplars)
    pictures = [exemplar for exemplar in result.exemplars if exemplar.seed == seed]
    return overlays([e for e in pictures if e.case_id == typical_case(pictures)])


def typical_case(pictures: Sequence[Exemplar]) -> str:
    """Case with most pictures; of several, that of the median grade (the lower of two)."""
    count: dict[tuple[int, str], int] = {}
    for picture in pictures:
        key = (picture.kl, picture.case_id)
        count[key] = count.get(key, 0) + 1
    full = sorted(key for key, pictured in count.items() if pictured == max(count.values()))
    return full[(len(full) - 1) // 2][1]


def overlays(pictures: Sequence[Exemplar]) -> Figure:
    """Overlays of one knee; each cell is the slice and, beside it, its cartilage enlarged."""
    named = {(p.backbone, p.supervision, p.head): p for p in pictures}
    backbones = in_order(pd.Series([p.backbone for p in pictures]), BACKBONES)
    height = len(backbones) * BLOCK_HEIGHT + TOP_MARGIN + 0.55
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(FULL_WIDTH, height))
        for row, backbone in enumerate(backbones):
            top = height - TOP_MARGIN - row * BLOCK_HEIGHT
            _row_names(figure, spoken(BACKBONES, backbone), top)
            for column, key in enumerate(BRANCHES.values()):
                _cell(figure, named.get((backbone, *key)), (_left(column), top))
        for column, branch in enumerate(BRANCHES):
            _write(figure, _left(column) + PANEL, height - TOP_MARGIN + 0.09, branch, bold=True)
        first = pictures[0]
        words = f"Knee {first.case_id}, KL grade {first.kl}"
        _write(figure, _left(0), height - 0.11, words, align="left", bold=True)
        _legend(figure, height)
    return figure


def _left(column: int) -> float:
    """Left edge of a branch, in inches."""
    return LEFT_MARGIN + column * (2 * PANEL + PAIR_GAP + BRANCH_GAP)


def sagittal(picture: Exemplar) -> View:
    """Sagittal slice: rows downward, columns toward the back."""
    _, down, across = picture.spacing_mm
    return View(
        picture.sagittal_scan,
        picture.sagittal_cartilage,
        picture.sagittal_saliency,
        (down, across),
        picture.top1_threshold,
    )


def coronal(picture: Exemplar) -> View:
    """Coronal slice: rows downward, columns toward the patient's right."""
    across, down, _ = picture.spacing_mm
    return View(
        picture.coronal_scan,
        picture.coronal_cartilage,
        picture.coronal_saliency,
        (down, across),
        picture.top1_threshold,
    )


VIEWS = {"sagittal": sagittal, "coronal": coronal}


def _cell(figure: Figure, picture: Exemplar | None, corner: tuple[float, float]) -> None:
    """Both views of a picture, from the upper left corner in inches downward."""
    left, top = corner
    if picture is None:
        _write(figure, left + PANEL, top - PANEL, "no map", muted=True)
        return
    for row, view_of in enumerate(VIEWS.values()):
        view, bottom = view_of(picture), top - PANEL - row * (PANEL + PAIR_GAP)
        whole = _panel(figure, left, bottom)
        close = _panel(figure, left + PANEL + PAIR_GAP, bottom)
        _draw(whole, view, contours=((view.cartilage, CARTILAGE, 0.4),))
        brightest = view.saliency > view.threshold
        _draw(close, view, contours=((brightest, TOP, 0.3), (view.cartilage, CARTILAGE, 0.7)))
        box = crop_box(view)
        if box is None:
            continue
        y, x, down, across = box
        whole.add_patch(
            Rectangle((x, y), across, down, fill=False, edgecolor="white", linewidth=0.5)
        )
        close.set_xlim(x, x + across)
        close.set_ylim(y + down, y)


def _panel(figure: Figure, left: float, bottom: float) -> Axes:
    width, height = figure.get_size_inches()
    axis = figure.add_axes((left / width, bottom / height, PANEL / width, PANEL / height))
    axis.set_axis_off()
    return axis


def crop_box(view: View) -> tuple[float, float, float, float] | None:
    """Upper and left edge, height and width in pixels of a square (in mm) around the cartilage.

    It holds the bounding box of the cartilage and a margin; it may reach beyond the picture.
    None without cartilage.
    """
    if not view.cartilage.any():
        return None
    middle, size_mm = [], []
    for axis, mm in enumerate(view.pixel_mm):
        at = np.flatnonzero(view.cartilage.any(axis=1 - axis))
        middle.append((float(at[0]) + float(at[-1])) / 2)
        size_mm.append((float(at[-1]) - float(at[0]) + 1) * mm + 2 * MARGIN_MM)
    down, across = (max(size_mm) / mm for mm in view.pixel_mm)
    return middle[0] - down / 2, middle[1] - across / 2, down, across


def display(view: View) -> Float[np.ndarray, "h x"]:
    """Saliency from 0 to 1 as it is drawn: 1 at `FULL_AT` times the volume's 99th percentile.

    The same rule for every model; maps whose 99th percentile is 0 are drawn as they are.
    """
    full = FULL_AT * view.threshold if view.threshold > 0 else 1.0
    return np.clip(view.saliency.astype(np.float64) / full, 0, 1)


def _draw(
    axis: Axes, view: View, *, contours: tuple[tuple[Bool[np.ndarray, "h x"], str, float], ...]
) -> None:
    low, high = np.percentile(view.scan, [1, 99.5])
    aspect = view.pixel_mm[0] / view.pixel_mm[1]
    axis.imshow(view.scan, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
    shown = display(view)
    opacity = OPACITY * np.clip(FULL_AT * shown, 0, 1)
    axis.imshow(
        shown, cmap="hot", vmin=0, vmax=1, alpha=opacity, aspect=aspect, interpolation="nearest"
    )
    for mask, colour, width in contours:
        if mask.any() and not mask.all():
            axis.contour(mask.astype(np.float64), levels=[0.5], colors=[colour], linewidths=[width])


def _row_names(figure: Figure, backbone: str, top: float) -> None:
    for row, view in enumerate(VIEWS):
        middle = top - PANEL / 2 - row * (PANEL + PAIR_GAP)
        _write(figure, LEFT_MARGIN - 0.07, middle, view, rotation=90.0)
    _write(figure, 0.11, top - PANEL - PAIR_GAP / 2, backbone, bold=True, rotation=90.0)


def _write(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    *,
    align: str = "center",
    bold: bool = False,
    muted: bool = False,
    rotation: float = 0.0,
) -> None:
    """Text at a place in inches."""
    width, height = figure.get_size_inches()
    figure.text(
        x / width,
        y / height,
        text,
        ha=align,
        va="center",
        rotation=rotation,
        fontsize=7.5 if bold else SMALL,
        weight="bold" if bold else "normal",
        color=MUTED if muted else INK,
    )


def _legend(figure: Figure, height: float) -> None:
    handles = [
        Line2D([], [], color=CARTILAGE, linewidth=1.4, label="cartilage"),
        Line2D(
            [],
            [],
            color=TOP,
            linewidth=1.4,
            label="1 % most salient of the volume (enlarged)",
        ),
    ]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.045, 0.08 / height),
        ncols=2,
        handlelength=1.4,
        columnspacing=1.4,
    )
    bar = figure.add_axes((0.72, 0.26 / height, 0.25, 0.09 / height))
    hot = mpl.colormaps["hot"](np.linspace(0, 1, 256))
    colours = figure.colorbar(
        ScalarMappable(Normalize(0, FULL_AT), ListedColormap(hot)),
        cax=bar,
        orientation="horizontal",
    )
    colours.set_ticks([0, 1, 2], labels=["0", "1", "≥ 2"])
    colours.outline.set_linewidth(0.4)
    bar.tick_params(length=1.5, pad=1.5)
    figure.text(
        0.71,
        0.3 / height,
        "saliency / its 99th percentile",
        ha="right",
        va="center",
        fontsize=SMALL + 0.5,
    )
