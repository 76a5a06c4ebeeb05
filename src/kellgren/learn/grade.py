"""The answer for one new scan: grades by one or more trained runs, and where they looked."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import expit, softmax

from kellgren.analysis.neighbours import STRANGE, Place, place_among
from kellgren.config import BackboneSettings, ExplanationSettings, PreparationSettings
from kellgren.faults import InputError
from kellgren.files import write_json
from kellgren.grading import NOTICE, Grading, View
from kellgren.labels import oa_log_odds
from kellgren.learn.attribution import absolute_gradient
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.model import load_model, preparation_of, settings_of, tasks_of, training_of
from kellgren.learn.train import deterministic
from kellgren.preparation import network_input
from kellgren.runs import Run
from kellgren.store import source_digest
from kellgren.tables import Features
from kellgren.volume import (
    Scan,
    dess_warnings,
    grid_spacing_mm,
    read_scan,
    to_scan_grid,
    write_nifti,
)


def grade_scan(
    path: Path, runs: Sequence[Run], *, side: str | None, device: torch.device
) -> Grading:
    """Grade one scan with each of the runs.

    Args:
        path: NIfTI, NRRD, or a folder of DICOM slices.
        runs: Trained runs; their probabilities are averaged.
        side: "right" or "left"; a left knee is mirrored into the frame of right knees, in which
            the networks were trained. Where it is None the scan is taken as it is, with a warning.
        device: Where the networks run.

    Raises:
        InputError: If the scan cannot be read or a run is not trained.
    """
    if not runs:
        raise InputError("grade", "no run", "at least one trained run", "give --weights RUN")
    scan = read_scan(path)
    side = _side_of(path, scan, side)
    warnings = [*dess_warnings(scan), *_side_warnings(side)]
    rows, views, maps = [], [], {}
    for run in runs:
        preparation = preparation_of(run)
        mirrored = side == "left" and preparation.mirror_left
        row, seen = _ask(run, scan, preparation, mirrored=mirrored, device=device)
        rows.append(row)
        warnings += _doubts(row)
        for view in seen:
            views.append(view)
            name = f"{view.run}-{view.head}"
            maps[name] = to_scan_grid(
                view.saliency, scan, mirrored=mirrored, crop_mm=preparation.crop_mm
            )
    summary = {
        "notice": NOTICE,
        "scan": source_digest(path),  # its name may be that of the patient
        "spacing_mm": [round(float(s), 4) for s in scan.spacing_mm],
        "shape_dhw": list(scan.voxels.shape),
        "side": side,
        "warnings": warnings,
        "runs": rows,
        "mean": _mean(rows),
    }
    return Grading(summary, tuple(views), maps)


def write_grading(grading: Grading, folder: Path) -> None:
    """Write `grade.json` and one saliency map a run and head, on the scan's own grid."""
    for name, (saliency, affine) in grading.maps.items():
        write_nifti(folder / f"saliency-{name}.nii.gz", saliency, affine)
    write_json(folder / "grade.json", grading.summary)


def _ask(
    run: Run,
    scan: Scan,
    preparation: PreparationSettings,
    *,
    mirrored: bool,
    device: torch.device,
) -> tuple[dict[str, Any], list[View]]:
    training = training_of(run)
    grid = BackboneSettings.model_validate(settings_of(run)["backbone"]).grid
    voxels = network_input(scan, grid, mirrored=mirrored, preparation=preparation)
    tasks = list(weighted_tasks(tasks_of(run), training))
    with deterministic(training.threads):
        model = load_model(run, device=device)
        image = torch.from_numpy(voxels)[None, None].to(device)
        with torch.no_grad():
            output = model(image)
        logits = output.logits
        stored = {task.name: task.stored(logits[task.name]).cpu().numpy() for task in tasks}
        maps = absolute_gradient(model, image, tasks, ExplanationSettings())
    spacing = grid_spacing_mm(scan, grid, crop_mm=preparation.crop_mm)
    views = []
    for head, gradient in maps.items():
        saliency = gradient[0].cpu().numpy()
        peak = max(float(saliency.max()), np.finfo(np.float32).tiny)
        views.append(View(run.name, head, spacing, voxels, saliency / peak))
    place = _place(run, output.features.cpu().numpy()[0].astype(np.float64))
    return {
        "run": run.name,
        **_probabilities(stored),
        "place": None if place is None else asdict(place),
    }, views


def _place(run: Run, z: Float[np.ndarray, " f"]) -> Place | None:
    """Where the knee lies among the training knees; None where the run came without them."""
    if not run.features.exists():
        return None
    train = Features.read(run.features).of_split("train")
    return place_among(train, z) if len(train.kl) else None


def _probabilities(stored: dict[str, Float[np.ndarray, "1 _"]]) -> dict[str, Any]:
    names = ("kl", "prob_kl", "prob_oa", "prob_oa_from_kl", "heads_agree")
    row: dict[str, Any] = dict.fromkeys(names)
    if "kl" in stored:
        prob = softmax(stored["kl"].astype(np.float64), axis=1)[0]
        row |= {"kl": int(prob.argmax()), "prob_kl": prob.tolist()}
        row["prob_oa_from_kl"] = float(expit(oa_log_odds(stored["kl"].astype(np.float64)))[0])
    if "oa" in stored:
        row["prob_oa"] = float(expit(np.float64(stored["oa"][0, 0])))
    if len(stored) == 2:
        row["heads_agree"] = (row["prob_oa"] >= 0.5) == (row["prob_oa_from_kl"] >= 0.5)
    return row


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean probabilities over the runs that have the head; the grade is that of the mean."""
    mean: dict[str, Any] = {}
    for key in ("prob_kl", "prob_oa", "prob_oa_from_kl"):
        values = [row[key] for row in rows if row[key] is not None]
        mean[key] = np.mean(values, axis=0).tolist() if values else None
    mean["kl"] = None if mean["prob_kl"] is None else int(np.argmax(mean["prob_kl"]))
    return mean


def _side_of(path: Path, scan: Scan, side: str | None) -> str | None:
    """The side that was given or that the series names, which must not contradict each other."""
    if side is not None and scan.side not in (None, side):
        raise InputError(
            str(path),
            f"a series that says '{scan.side}' (Laterality)",
            f"'{side}', as was given",
            "find out which is right",
        )
    return side or scan.side


def _doubts(row: dict[str, Any]) -> list[str]:
    """What speaks against believing the answer of one run."""
    doubts = []
    if row["heads_agree"] is False:
        doubts.append(f"{row['run']}: the OA head and the KL head disagree on OA")
    place = row["place"]
    if place is not None and place["strangeness"] >= STRANGE:
        doubts.append(
            f"{row['run']}: by its features this scan is further from every training knee than"
            f" {place['strangeness']:.0%} of them are from each other: predictions are unfounded"
        )
    return doubts


def _side_warnings(side: str | None) -> list[str]:
    if side is not None:
        return []
    return [
        "the side of the knee was not given: the scan is taken as it is, in the frame of right "
        "knees; give --side left for a left knee"
    ]
