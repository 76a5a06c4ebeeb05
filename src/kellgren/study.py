"""A study: the runs, their declared comparisons, and the tidy tables that come out of them.

Reads run folders, calls `kellgren.analysis`, and never imports torch.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Exemplar:
    """Two views of one test knee, and where one model looks in them (Fig. 3).

    Slices are the ones with the most cartilage, on the network's input grid.

    Attributes:
        case_id: Identifier of the knee.
        kl: Reference KL grade.
        backbone: Backbone of the model.
        supervision: Supervision of the model.
        seed: Seed of the run.
        head: "oa" or "kl": whose logit is explained.
        spacing_mm: Size of a voxel of that grid along d, h and w.
        sagittal_scan: Slice of the z-scored scan.
        sagittal_cartilage: The same slice of the cartilage mask.
        sagittal_saliency: The same slice of the map, divided by the maximum of the volume.
        coronal_scan: Slice of the z-scored scan.
        coronal_cartilage: The same slice of the cartilage mask.
        coronal_saliency: The same slice of the map.
        top1_threshold: Saliency above which a voxel is among the volume's 1 % most salient.
    """

    case_id: str
    kl: int
    backbone: str
    supervision: str
    seed: int
    head: str
    spacing_mm: tuple[float, float, float]
    sagittal_scan: Float[np.ndarray, "h w"]
    sagittal_cartilage: Bool[np.ndarray, "h w"]
    sagittal_saliency: Float[np.ndarray, "h w"]
    coronal_scan: Float[np.ndarray, "h d"]
    coronal_cartilage: Bool[np.ndarray, "h d"]
    coronal_saliency: Float[np.ndarray, "h d"]
    top1_threshold: float


@dataclass(frozen=True)
class StudyResult:
    """All that a study found, as tidy tables: keys first, then values.

    Every table is also a CSV of that name in the study folder; `docs/files.md` lists the columns.

    Attributes:
        name: Name of the study.
        protocol: The study file with defaults filled in, and provenance; empty where unknown.
        cohort: split, cases, kl0..kl4, oa_negative, oa_positive, age_mean, age_sd, female.
        runs: backbone, supervision, seed, n_test, oa_source, size, grid, parameters, epochs,
            train_seconds, device, torch, weights_digest.
        performance: backbone, supervision, seed, task, metric, value, n.
        chance: task, metric, rule, value, n.
        comparisons: model, reference, backbone, task, metric, model_value, reference_value,
            difference, boot_mean, se, ci_low, ci_high, p, p_holm, p_bh, test, and more.
        geometry: backbone, supervision, seed, fit, n, evr_pc1, rho_kl, rho_oa, auroc_oa, ...
        overlap: backbone, supervision, seed, head, metric, value, ci_low, ci_high, n, chance.
        overlap_comparisons: dual minus single, paired over cases, per head and metric.
        confusion: backbone, supervision, seed, head, reference, predicted, count.
        embedding: backbone, supervision, seed, case_id, kl, x, y, kl_divergence, trustworthiness.
        exemplars: Pictures for Fig. 3.
    """

    name: str
    protocol: dict[str, Any]
    cohort: pd.DataFrame
    runs: pd.DataFrame
    performance: pd.DataFrame
    chance: pd.DataFrame
    comparisons: pd.DataFrame
    geometry: pd.DataFrame
    overlap: pd.DataFrame
    overlap_comparisons: pd.DataFrame
    confusion: pd.DataFrame
    embedding: pd.DataFrame
    exemplars: tuple[Exemplar, ...] = field(default=())

    @classmethod
    def read(cls, folder: Path) -> "StudyResult":
        """Read what `write` wrote."""
        raise NotImplementedError

    def write(self, folder: Path) -> None:
        """Write each table as CSV, the protocol as JSON and the exemplars as NPZ."""
        raise NotImplementedError
