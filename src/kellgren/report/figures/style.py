"""How every figure looks, and how it is written so that the same study gives the same bytes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from kellgren.files import completed

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

COLUMN_WIDTH = 3.5  # inches, one column of a journal
FULL_WIDTH = 7.2  # inches, both columns
SMALL = 6.0  # points, the smallest text of any figure
RASTER_DPI = 300

# Okabe and Ito (2008): eight colours that stay apart for colour-blind readers.
INK = "#1a1a1a"
MUTED = "#6b6b6b"
RULE = "#c8c8c8"
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"

BACKBONE_COLOURS: dict[str, str] = {"resnet3d": BLUE, "m3t": ORANGE, "nnmamba": GREEN}
# Settings and heads are told apart by marker as well as by colour.
SUPERVISION_COLOURS: dict[str, str] = {"single_oa": SKY, "single_kl": PURPLE, "dual": INK}
SUPERVISION_MARKERS: dict[str, str] = {"single_oa": "o", "single_kl": "s", "dual": "D"}
OA_COLOURS: tuple[str, str] = (SKY, ORANGE)  # without OA, with OA

STYLE: "dict[RcKeyType, Any]" = {  # matplotlib's own settings take values of many types
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a name with two "$" is a name
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "kellgren",
    "pdf.fonttype": 42,
    "legend.frameon": False,
    "axes.unicode_minus": True,
}

UNDATED: dict[str, dict[str, str | None]] = {
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
}


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure whole, in the format of the suffix: ".svg", ".pdf" or ".png" (300 dpi).

    The same figure gives the same bytes: no date is written and SVG ids are salted alike.
    """
    with mpl.rc_context(STYLE), completed(path) as temporary:
        figure.savefig(temporary, dpi=RASTER_DPI, metadata=UNDATED[path.suffix])


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as SVG, PDF and PNG into a folder; the paths are returned."""
    paths = [folder / f"{name}{suffix}" for suffix in UNDATED]
    for path in paths:
        write_figure(figure, path)
    return paths
