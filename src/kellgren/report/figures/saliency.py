"""Fig. 3: where each model looks in one knee, with its cartilage, in two views."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from kellgren.report.figures.style import FULL_WIDTH, MUTED, SMALL, STYLE
from kellgren.report.terms import BACKBONES, BRANCHES, spoken
from kellgren.study import Exemplar, StudyResult

CARTILAGE = "#00d060"
TOP = "#35d0ff"
OPACITY = 0.75
FULL_AT = 2.0  # saliency is fully bright at this many times the volume's 99th percentile
MARGIN_MM = 6.0  # around the cartilage, in the zoomed picture
ROW_HEIGHT = 0.93  # inches


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
    backbones = [b for b in BACKBONES if any(p.backbone == b for p in pictures)]
    backbones += sorted({p.backbone for p in pictures} - set(backbones))
    with mpl.rc_context(STYLE):
        height = 2 * ROW_HEIGHT * len(backbones) + 0.95
        figure = Figure(figsize=(FULL_WIDTH, height))
        axes = figure.subplots(2 * len(backbones), 2 * len(BRANCHES), squeeze=False)
        figure.subplots_adjust(
            left=0.055, right=0.995, top=1 - 0.38 / height, bottom=0.55 / height, wspace=0.05,
            hspace=0.05,
        )
        for row, backbone in enumerate(backbones):
            for column, key in enumerate(BRANCHES.values()):
                picture = named.get((backbone, *key))
                block = axes[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                _cell(block, picture)
        _headings(figure, axes, backbones, height)
        first = pictures[0]
        figure.text(
            0.055, 1 - 0.1 / height, f"Knee {first.case_id}, KL grade {first.kl}", va="center",
            fontsize=7.5, weight="bold", parse_math=False,
        )
        _legend(figure, height)
    return figure


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


def _cell(block: "np.ndarray", picture: Exemplar | None) -> None:  # axes, an array of objects
    for axis in block.ravel():
        axis.set_axis_off()
    if picture is None:
        block[0, 0].text(1.0, 0.0, "no map", ha="center", va="center", color=MUTED,
                         transform=block[0, 0].transAxes)
        return
    for pair, view_of in zip(block, VIEWS.values(), strict=True):
        view = view_of(picture)
        box = crop_box(view)
        _draw(pair[0], view, line=0.4)
        _draw(pair[1], view, line=0.7)
        if box is None:
            continue
        top, bottom, left, right = box
        pair[0].add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False,
                      edgecolor="white", linewidth=0.5)
        )
        pair[1].set_xlim(left - 0.5, right - 0.5)
        pair[1].set_ylim(bottom - 0.5, top - 0.5)


def crop_box(view: View) -> tuple[int, int, int, int] | None:
    """First and past-the-last row and column of cartilage with a margin; None without any."""
    if not view.cartilage.any():
        return None
    edges = []
    for axis, (size, mm) in enumerate(zip(view.cartilage.shape, view.pixel_mm, strict=True)):
        at = np.flatnonzero(view.cartilage.any(axis=1 - axis))
        margin = round(MARGIN_MM / mm)
        edges += [max(int(at[0]) - margin, 0), min(int(at[-1]) + 1 + margin, size)]
    return edges[0], edges[1], edges[2], edges[3]


def display(view: View) -> Float[np.ndarray, "h x"]:
    """Saliency from 0 to 1 as it is drawn: 1 at `FULL_AT` times the volume's 99th percentile.

    The same rule for every model; maps whose 99th percentile is 0 are drawn as they are.
    """
    full = FULL_AT * view.threshold if view.threshold > 0 else 1.0
    return np.clip(view.saliency.astype(np.float64) / full, 0, 1)


def _draw(axis: Axes, view: View, *, line: float) -> None:
    low, high = np.percentile(view.scan, [1, 99.5])
    aspect = view.pixel_mm[0] / view.pixel_mm[1]
    axis.imshow(view.scan, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
    shown = display(view)
    opacity = OPACITY * np.clip(FULL_AT * shown, 0, 1)
    axis.imshow(shown, cmap="hot", vmin=0, vmax=1, alpha=opacity, aspect=aspect,
                interpolation="nearest")
    top = view.saliency > view.threshold
    for mask, colour, width in ((view.cartilage, CARTILAGE, line), (top, TOP, 0.6 * line)):
        if mask.any() and not mask.all():
            axis.contour(mask.astype(np.float64), levels=[0.5], colors=[colour],
                         linewidths=[width])


def _headings(
    figure: Figure, axes: "np.ndarray", backbones: list[str], height: float
) -> None:  # axes, an array of objects
    for column, branch in enumerate(BRANCHES):
        left = axes[0, 2 * column].get_position().x0
        right = axes[0, 2 * column + 1].get_position().x1
        figure.text((left + right) / 2, 1 - 0.28 / height, branch, ha="center", va="center",
                    fontsize=7.5, weight="bold")
    for row, backbone in enumerate(backbones):
        for offset, view in enumerate(VIEWS):
            place = axes[2 * row + offset, 0].get_position()
            figure.text(0.045, (place.y0 + place.y1) / 2, view, rotation=90, ha="center",
                        va="center", fontsize=SMALL)
        lower = axes[2 * row + 1, 0].get_position().y0
        upper = axes[2 * row, 0].get_position().y1
        figure.text(0.02, (lower + upper) / 2, spoken(BACKBONES, backbone), rotation=90,
                    ha="center", va="center", fontsize=7.5, weight="bold")


def _legend(figure: Figure, height: float) -> None:
    handles = [
        Line2D([], [], color=CARTILAGE, linewidth=1.4, label="cartilage"),
        Line2D([], [], color=TOP, linewidth=1.4, label="1 % most salient voxels of the volume"),
    ]
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.045, 0.08 / height),
                  ncols=2, handlelength=1.4, columnspacing=1.4)
    bar = figure.add_axes((0.66, 0.26 / height, 0.3, 0.09 / height))
    hot = mpl.colormaps["hot"](np.linspace(0, 1, 256))
    colours = figure.colorbar(
        ScalarMappable(Normalize(0, FULL_AT), ListedColormap(hot)), cax=bar,
        orientation="horizontal",
    )
    colours.set_ticks([0, 1, 2], labels=["0", "1", "≥ 2"])
    colours.outline.set_linewidth(0.4)
    bar.tick_params(length=1.5, pad=1.5)
    figure.text(0.65, 0.3 / height, "saliency / its 99th percentile", ha="right", va="center",
                fontsize=SMALL + 0.5)
