"""Saliency beside its controls, as rows: does a map say more than a map that knows nothing?"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from kellgren.analysis.resampling import resample, sampled_means
from kellgren.evidence import Evidence, Row
from kellgren.faults import InputError
from kellgren.files import readable
from kellgren.volume import read_scan

MEASURES = ["mass_roi", "top1_roi", "dice_5", "dice_10"]


def control_rows(found: Evidence, *, resamples: int, seed: int) -> list[Row]:
    """Mean over cases of each control, and of the run's own saliency minus the control.

    Differences are paired over the cases that have both; intervals are percentile intervals. None
    where the run has no overlaps or no controls.
    """
    if found.overlaps is None or not found.run.controls.exists():
        return []
    controls = _read(found.run.controls, ["case_id", "head", "control", *MEASURES])
    rows: list[Row] = []
    for head, own in found.overlaps.groupby("head", sort=True):
        about = controls[controls["head"].isin(["", head])]
        for name, table in about.groupby("control", sort=True):
            both = own.merge(table, on="case_id", suffixes=("", "_control"))
            values = both[MEASURES].to_numpy(dtype=np.float64)
            others = both[[f"{m}_control" for m in MEASURES]].to_numpy(dtype=np.float64)
            keys = {**found.keys, "head": head, "control": name}
            rows += _compared(keys, values, others, resamples=resamples, seed=seed)
    return rows


def deletion_rows(found: Evidence, *, resamples: int, seed: int) -> list[Row]:
    """Mean absolute change of the explained logit when a region is deleted, over cases."""
    if not found.run.deletion.exists():
        return []
    table = _read(found.run.deletion, ["case_id", "head", "region", "change_of_logit"])
    rows: list[Row] = []
    for (head, region), group in table.groupby(["head", "region"], sort=True):
        change = group["change_of_logit"].abs().to_numpy(dtype=np.float64)[:, None]
        low, high = _interval(change, resamples=resamples, seed=seed)
        keys = {**found.keys, "head": head, "region": region}
        values = {"value": float(change.mean()), "ci_low": float(low[0]), "ci_high": float(high[0])}
        rows.append({**keys, **values, "n": len(change)})
    return rows


def randomisation_rows(found: Evidence) -> list[Row]:
    """Mean rank correlation over the exemplars, from the heads down to the whole network.

    Maps that were constant have no rank correlation and are left out and not counted in n.
    """
    if not found.run.randomisation.exists():
        return []
    table = _read(found.run.randomisation, ["case_id", "head", "depth", "stage", "rho"])
    rows: list[Row] = []
    table = table.astype({"depth": int})
    for (head, depth, stage), group in table.groupby(["head", "depth", "stage"], sort=True):
        present = pd.to_numeric(group["rho"], errors="coerce").dropna()
        mean = float(present.mean()) if len(present) else None
        keys = {**found.keys, "head": head, "depth": depth, "stage": stage}
        rows.append({**keys, "rho": mean, "n": len(present)})
    return rows


def repeatability_rows(evidence: Sequence[Evidence]) -> list[Row]:
    """Rank correlation of the kept maps of one knee between two seeds of the same model."""
    rows: list[Row] = []
    for first, second in _pairs_of_seeds(evidence):
        for path in sorted(first.run.saliency.glob("*.nii.gz")):
            other = second.run.saliency / path.name
            if other.exists():
                case_id, head = path.name.removesuffix(".nii.gz").rsplit("-", 1)
                rows.append(
                    {
                        "backbone": first.run.backbone,
                        "supervision": first.run.supervision,
                        "head": head,
                        "case_id": case_id,
                        "seed": first.run.seed,
                        "other_seed": second.run.seed,
                        "rho": float(spearmanr(_voxels(path), _voxels(other)).statistic),
                    }
                )
    return rows


def _pairs_of_seeds(evidence: Sequence[Evidence]) -> Iterator[tuple[Evidence, Evidence]]:
    for i, first in enumerate(evidence):
        for second in evidence[i + 1 :]:
            same = ("backbone", "supervision")
            if all(getattr(first.run, key) == getattr(second.run, key) for key in same):
                yield first, second


def _compared(
    keys: Row, values: np.ndarray, others: np.ndarray, *, resamples: int, seed: int
) -> Iterator[Row]:
    """One row a measure; `values` and `others` are `n m`, NaN where undefined."""
    both = ~np.isnan(values) & ~np.isnan(others)
    own, other = np.where(both, values, np.nan), np.where(both, others, np.nan)
    low, high = _interval(other, resamples=resamples, seed=seed)
    less, more = _interval(own - other, resamples=resamples, seed=seed)
    for i, metric in enumerate(MEASURES):
        n = int(both[:, i].sum())
        if n:
            mean, control = float(np.nanmean(own[:, i])), float(np.nanmean(other[:, i]))
            yield {
                **keys,
                "metric": metric,
                "value": control,
                "ci_low": float(low[i]),
                "ci_high": float(high[i]),
                "n": n,
                "saliency": mean,
                "difference": mean - control,
                "difference_low": float(less[i]),
                "difference_high": float(more[i]),
            }


def _interval(values: np.ndarray, *, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = resample(len(values), resamples=resamples, rng=np.random.default_rng(seed))
    samples = sampled_means(values, drawn)
    low, high = np.nanpercentile(samples, [2.5, 97.5], axis=1)
    return low, high


def _read(path: Path, needed: list[str]) -> pd.DataFrame:
    text = {"case_id": str, "head": str, "control": str, "region": str, "stage": str}
    with readable(path, todo="explain with this run again"):
        table = pd.read_csv(
            path, dtype=text, keep_default_na=False, na_values={m: "" for m in MEASURES}
        )
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise InputError(
            str(path), f"the columns {list(table.columns)}", f"{needed}", f"add {missing}"
        )
    return table


def _voxels(path: Path) -> np.ndarray:
    return read_scan(path).voxels.ravel()
