"""The contact sheet of a cohort: one slice a knee, to be looked over by a person."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kellgren.inspection import Finding, Inspection, Knee
from kellgren.report.figures.style import (
    FULL_WIDTH,
    INK,
    MUTED,
    ORANGE,
    SMALL,
    STYLE,
    YELLOW,
    write_figure,
)

COLUMNS = 6
ROWS = 8
CELL = 1.35  # inches
COLOURS = {"error": ORANGE, "warning": "#8a6d00", "note": MUTED}


def write_contact_sheets(
    inspection: Inspection,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write `contact_sheet_01.png` and so on, 48 knees a sheet, in the order of the cohort.

    Knees without a picture (not read) have an empty cell with what is wrong.

    Args:
        inspection: What a deep look found.
        folder: Where.
        progress: Called with how many knees are drawn, and how many there are.
    """
    page = COLUMNS * ROWS
    paths = []
    for first in range(0, len(inspection.knees), page):
        path = folder / f"contact_sheet_{first // page + 1:02d}.png"
        knees = inspection.knees[first : first + page]
        write_figure(contact_sheet(knees, inspection.findings), path)
        paths.append(path)
        if progress is not None:
            progress(first + len(knees), len(inspection.knees))
    return paths


def contact_sheet(knees: Sequence[Knee], findings: Sequence[Finding]) -> Figure:
    """Slices with the outline of the cartilage, grade, side and split, and each case's findings.

    Args:
        knees: At most 48.
        findings: Those of the whole cohort; each cell shows its own.
    """
    rows = -(-len(knees) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(FULL_WIDTH, CELL * rows + 0.3))
        axes = figure.subplots(rows, COLUMNS, squeeze=False)
        figure.subplots_adjust(left=0.01, right=0.99, top=0.96, bottom=0.03, hspace=0.42)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, knee in zip(axes.flat, knees, strict=False):
            _cell(axis, knee, [f for f in findings if f.case_id == knee.case.case_id])
    return figure


def _cell(axis: Axes, knee: Knee, findings: Sequence[Finding]) -> None:
    case, picture = knee.case, knee.picture
    axis.set_title(
        f"{case.case_id}\nKL {case.kl}, {case.side}, {case.split}", fontsize=SMALL, color=INK, pad=2
    )
    if picture is not None:
        axis.imshow(picture.scan, cmap="gray", vmin=0, vmax=255, aspect=picture.aspect)
        if picture.cartilage.any():
            axis.contour(picture.cartilage, levels=[0.5], colors=[YELLOW], linewidths=0.5)
    worst = next((s for s in COLOURS if any(f.severity == s for f in findings)), None)
    if worst is not None:
        kinds = ", ".join(dict.fromkeys(f.kind for f in findings))
        axis.text(
            0.5,
            -0.03,
            f"{worst}: {kinds}",
            transform=axis.transAxes,
            ha="center",
            va="top",
            fontsize=SMALL - 1,
            color=COLOURS[worst],
        )
