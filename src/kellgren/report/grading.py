"""The picture of one graded scan: where each head looked, and how sure the KL head is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kellgren.faults import printable
from kellgren.files import completed
from kellgren.grading import NOTICE, View
from kellgren.labels import KL_GRADES
from kellgren.report.figures.style import INK, MUTED, SMALL, STYLE

ROW_HEIGHT = 1.75  # inches
SHOWN_FROM = 0.25  # saliency below this share of its maximum is left transparent


def write_picture(summary: dict[str, Any], views: Sequence[View], path: Path) -> None:
    """Write a PNG with a row per head of each run: sagittal, coronal, KL probabilities."""
    figure = picture(summary, views)
    with completed(path) as temporary:
        figure.savefig(temporary, dpi=200, metadata={"Software": None})


def picture(summary: dict[str, Any], views: Sequence[View]) -> Figure:
    """One row per head of each run; slices are those with the most saliency."""
    probabilities = {row["run"]: row for row in summary["runs"]}
    with mpl.rc_context(STYLE):
        height = ROW_HEIGHT * len(views) + 0.75
        figure = Figure(figsize=(7.2, height))
        axes = figure.subplots(len(views), 3, squeeze=False, width_ratios=(1, 1, 1.1))
        figure.subplots_adjust(
            left=0.06,
            right=0.98,
            top=1 - 0.5 / height,
            bottom=0.45 / height,
            hspace=0.45,
            wspace=0.25,
        )
        for row, view in zip(axes, views, strict=True):
            _slices(row[0], row[1], view)
            _bars(row[2], view, probabilities[view.run])
        axes[-1, 2].set_xlabel("KL grade")
        title = printable(f"{summary['scan']}: {_verdict(summary['mean'])}")
        place = (0.06, 1 - 0.2 / height)
        figure.text(*place, title, fontsize=9, weight="bold", va="center")
        figure.text(0.06, 0.1 / height, NOTICE, fontsize=SMALL, color=MUTED)
    return figure


def _slices(sagittal: Axes, coronal: Axes, view: View) -> None:
    d = int(view.saliency.sum(axis=(1, 2)).argmax())
    w = int(view.saliency.sum(axis=(0, 1)).argmax())
    low, high = np.percentile(view.scan, [1, 99])
    thick, tall, deep = view.spacing_mm
    planes = (
        (sagittal, view.scan[d], view.saliency[d], tall / deep, "sagittal"),
        (coronal, view.scan[:, :, w].T, view.saliency[:, :, w].T, tall / thick, "coronal"),
    )
    for axis, scan, saliency, aspect, name in planes:
        axis.imshow(scan, cmap="gray", vmin=low, vmax=high, aspect=aspect)
        shown = np.ma.masked_less(saliency, SHOWN_FROM)
        axis.imshow(shown, cmap="hot", vmin=0, vmax=1, alpha=0.6, aspect=aspect)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(f"{name}, {view.head.upper()} head", fontsize=SMALL + 0.5, color=MUTED)
    sagittal.set_ylabel(view.run, fontsize=SMALL + 0.5)


def _bars(axis: Axes, view: View, row: dict[str, Any]) -> None:
    if view.head == "oa":
        axis.barh([0], [row["prob_oa"]], color="#0072B2", height=0.4)
        axis.axvline(0.5, color=INK, linewidth=0.6, linestyle="--")
        axis.set(xlim=(0, 1), ylim=(-1, 1), yticks=[], xlabel="probability of OA (OA head)")
        return
    axis.bar(range(KL_GRADES), row["prob_kl"], color="#0072B2", width=0.7)
    axis.set(xticks=range(KL_GRADES), ylim=(0, 1), ylabel="probability")


def _verdict(mean: dict[str, Any]) -> str:
    parts = []
    if mean["kl"] is not None:
        parts.append(f"KL {mean['kl']} (p = {mean['prob_kl'][mean['kl']]:.2f})")
        parts.append(f"OA from KL head {mean['prob_oa_from_kl']:.2f}")
    if mean["prob_oa"] is not None:
        parts.append(f"OA head {mean['prob_oa']:.2f}")
    return ", ".join(parts)
