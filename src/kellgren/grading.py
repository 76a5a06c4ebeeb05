"""What is said about one new scan: probabilities, and where each head looked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

NOTICE = "Research use only: not a medical device."


@dataclass(frozen=True)
class View:
    """What one head of one run looked at, on the network's grid.

    Attributes:
        run: Name of the run.
        head: "oa" or "kl".
        spacing_mm: Size of a voxel along d, h and w.
        scan: The z-scored input of the network.
        saliency: Absolute gradient, divided by its maximum.
    """

    run: str
    head: str
    spacing_mm: tuple[float, float, float]
    scan: Float[np.ndarray, "d h w"]
    saliency: Float[np.ndarray, "d h w"]


@dataclass(frozen=True)
class Grading:
    """All that is said about one scan.

    Attributes:
        summary: What `grade.json` holds.
        views: One per run and head.
        maps: Saliency on the scan's own grid, by "<run>-<head>", with the affine of that grid.
    """

    summary: dict[str, Any]
    views: tuple[View, ...]
    maps: dict[str, tuple[Float[np.ndarray, "_ _ _"], Float[np.ndarray, "4 4"]]]

    @property
    def text(self) -> str:
        """One line a run, and the mean over runs where there are several."""
        rows = [*self.summary["runs"]]
        if len(rows) > 1:
            rows.append({"run": "mean", **self.summary["mean"]})
        return "\n".join(_line(row) for row in rows)


def _line(row: dict[str, Any]) -> str:
    parts = []
    if row["kl"] is not None:
        probs = " ".join(f"{p:.3f}" for p in row["prob_kl"])
        parts.append(f"KL {row['kl']} (P of 0..4: {probs})")
        parts.append(f"OA from KL head {row['prob_oa_from_kl']:.3f}")
    if row["prob_oa"] is not None:
        parts.append(f"OA head {row['prob_oa']:.3f}")
    lines = [f"{row['run']}: " + ", ".join(parts)]
    if row.get("place") is not None:
        lines.append(f"  {_among(row['place'])}")
    return "\n".join(lines)


def _among(place: dict[str, Any]) -> str:
    near = ", ".join(f"{one['case_id']} (KL {one['kl']})" for one in place["nearest"])
    return (
        f"higher on the severity axis than {place['position']:.0%} of {place['n']} training knees;"
        f" nearest by features: {near}"
    )
