"""Draw docs/images/phantom_grades.png: one synthetic knee at five severities.

Run from the root of the repository: python benchmarks/phantom_picture.py
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from kellgren.phantom import Knee, make_knee
from kellgren.phantom.severity import CONTRAST

SEED = 2
GRID = (160, 384, 384)
CARTILAGE = (2, 4, 5)
OUTPUT = Path("docs/images/phantom_grades.png")


def draw() -> Figure:
    figure = Figure(figsize=(11, 4.3), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 5)
    for kl in range(5):
        rng = np.random.default_rng(SEED)
        knee = make_knee(kl + 0.6, grid=GRID, rng=rng, contrast=CONTRAST["real"])
        place = np.argwhere(knee.labels == 4).mean(axis=0).astype(int)
        show(axes[0, kl], knee, axis=0, index=place[0])
        show(axes[1, kl], knee, axis=1, index=place[1])
        axes[0, kl].set_title(f"true KL {kl}", fontsize=9)
    axes[0, 0].set_ylabel("sagittal, medial", fontsize=8)
    axes[1, 0].set_ylabel("coronal", fontsize=8)
    return figure


def show(ax: Axes, knee: Knee, *, axis: int, index: int) -> None:
    scan = knee.image.take(index, axis).T
    cartilage = np.isin(knee.labels.take(index, axis).T, CARTILAGE)
    side, up = (knee.spacing[i] for i in range(3) if i != axis)
    extent = (0, scan.shape[1] * side, 0, scan.shape[0] * up)
    ax.imshow(scan, origin="lower", cmap="gray", vmin=0, vmax=260, extent=extent)
    ax.contour(cartilage, levels=[0.5], colors="lime", linewidths=0.3, extent=extent)
    if axis == 0:
        ax.invert_xaxis()
    ax.set_xticks([])
    ax.set_yticks([])


if __name__ == "__main__":
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    draw().savefig(OUTPUT, dpi=130)
    Image.open(OUTPUT).convert("RGB").quantize(64).save(OUTPUT, optimize=True)
