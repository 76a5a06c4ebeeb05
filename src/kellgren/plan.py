"""What a study will take before it starts: what is done, and time, memory and disk of the rest.

Disk is counted. Time and memory come from a short probe of each network on the machine that asks;
the statistics and the page at the end, and the radiomics systems, are not in it.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from kellgren.cohort import read_cohort
from kellgren.config import ExplanationSettings
from kellgren.engine import Workplace
from kellgren.faults import InputError
from kellgren.inspection.estimate import SECONDS_PER_VOXEL, STORED_BYTES_PER_VOXEL
from kellgren.learn.backbones import build_encoder
from kellgren.learn.probe import Probe, probe
from kellgren.runs import Run
from kellgren.standing import epochs_left, said, state_of

Shape = tuple[int, int, int]

FULL_SCAN: Shape = (160, 384, 384)  # of OAI's DESS; for cohorts whose scans are not yet looked at
PHANTOM_BYTES_PER_VOXEL = 2
WEIGHT_BYTES = 4
CHECKPOINT_BYTES = 12  # a weight and AdamW's two moments
CHECKPOINTS = 3  # the last, the one before it, and one being written
KNEE_BYTES = 4_000  # predictions, features and overlaps of a knee
EXEMPLARS = 5  # one a grade
STAGES = 8  # parts that are randomised one after the other
FORWARDS = 3  # of the deletion test
# Of one core of an AMD EPYC: overlap of one map with cartilage, rank correlation of two maps.
MAP_S_PER_VOXEL, RANK_S_PER_VOXEL = 2.0e-7, 3.6e-7


@dataclass(frozen=True)
class Knees:
    """How many knees a study has, and how large their scans are."""

    train: int
    test: int
    scan: Shape

    @classmethod
    def of(cls, place: Workplace) -> "Knees":
        """Those of the cohort, without making or reading a scan."""
        phantom, table = place.study.cohort.phantom, place.study.cohort.table
        if table is None:
            assert phantom is not None  # the study file has one or the other
            return cls(phantom.train, phantom.test, phantom.grid)
        splits = [case.split for case in read_cohort(table)]
        return cls(splits.count("train"), splits.count("test"), FULL_SCAN)


@dataclass(frozen=True)
class Line:
    """What is left of one run.

    Attributes:
        name: The run.
        state: "done", "partial" or "to do".
        epochs_left: Epochs that are still to be trained.
        epochs: Epochs of the whole training.
        seconds: Of training, prediction and explanation, with nothing else at work; None where
            the network was not probed.
        memory_bytes: Of the GPU, or of the process.
        disk_bytes: That the run will add.
    """

    name: str
    state: str
    epochs_left: int
    epochs: int
    seconds: float | None
    memory_bytes: int | None
    disk_bytes: int

    def __str__(self) -> str:
        time = "" if self.seconds is None else said(self.seconds)
        memory = "" if self.memory_bytes is None else f"{self.memory_bytes / 1e9:.1f} GB"
        epochs, disk = f"{self.epochs_left} of {self.epochs}", f"{self.disk_bytes / 1e9:.2f} GB"
        return f"{self.name:32} {self.state:8} {epochs:>12} {time:>12} {memory:>9} {disk:>9}"


HEADING = f"{'run':32} {'state':8} {'epochs left':>12} {'time':>12} {'memory':>9} {'disk':>9}"


@dataclass(frozen=True)
class Plan:
    """What is left of a study.

    Attributes:
        folder: Of the study.
        lines: One a run.
        knees_bytes: Of knees that are still to be made and prepared.
        knees_seconds: Of one core, to prepare them.
        checkpoint_bytes: Of the largest run while it trains; given back at its end.
        free_bytes: On the disk of the folder.
    """

    folder: Path
    lines: tuple[Line, ...]
    knees_bytes: int
    knees_seconds: float
    checkpoint_bytes: int
    free_bytes: int

    @property
    def disk_bytes(self) -> int:
        """The most that the study will add to the disk, one run after the other."""
        runs = sum(line.disk_bytes for line in self.lines)
        return self.knees_bytes + runs + self.checkpoint_bytes

    def __str__(self) -> str:
        seconds = [line.seconds for line in self.lines if line.seconds is not None]
        total = said(sum(seconds) + self.knees_seconds)
        runs = "\n".join([HEADING, *map(str, self.lines)])
        return (
            f"{self.folder}\n{runs}\n"
            f"knees to prepare: {self.knees_bytes / 1e9:.2f} GB, {said(self.knees_seconds)} of one "
            f"core\n"
            f"in all, one run after the other: {total}; {self.disk_bytes / 1e9:.2f} GB of disk, "
            f"{self.free_bytes / 1e9:.2f} GB are free\n"
            "not in it: statistics, figures, page and radiomics systems"
        )


def plan_of(place: Workplace, *, probed: bool) -> Plan:
    """The plan of a study.

    Args:
        place: The study; nothing is written into its folder.
        probed: Whether time and memory are asked for, which takes a few training steps.

    Raises:
        InputError: If the cohort table cannot be read, or a network does not fit into memory.
    """
    knees = Knees.of(place)
    weights = {name: _weights(place, name) for name in place.study.backbones}
    lines = [_line(place, run, knees, weights[run.backbone], probed=probed) for run in place.runs()]
    left = [run for run, line in zip(place.runs(), lines, strict=True) if line.epochs_left]
    missing = _missing(place, knees)
    made = prod(knees.scan) * PHANTOM_BYTES_PER_VOXEL * _to_make(place, knees)
    return Plan(
        place.folder,
        tuple(lines),
        made + sum(n * prod(grid) * STORED_BYTES_PER_VOXEL for grid, n in missing.items()),
        sum(missing.values()) * prod(knees.scan) * SECONDS_PER_VOXEL,
        CHECKPOINTS * CHECKPOINT_BYTES * max((weights[run.backbone] for run in left), default=0),
        shutil.disk_usage(_standing(place.folder)).free,
    )


def _line(place: Workplace, run: Run, knees: Knees, weights: int, *, probed: bool) -> Line:
    epochs = place.study.training.epochs
    left, state = epochs_left(run, epochs), state_of(run, place.ends(run))
    heads = len(place.study.ways[run.supervision].tasks)
    found = _probe_of(place, run) if probed and state != "done" else None
    seconds = None
    if found is not None:
        seconds = left * math.ceil(knees.train / place.study.training.batch_size) * found.step_s
        if not run.predictions.exists():
            seconds += (knees.train + knees.test) * found.forward_s
        if place.study.explain and not run.randomisation.exists():
            seconds += explain_seconds(place, run, knees, found)
    maps = EXEMPLARS * heads * prod(knees.scan) * 4 if place.study.explain else 0
    disk = WEIGHT_BYTES * weights + KNEE_BYTES * (knees.train + knees.test) + maps
    return Line(
        run.name,
        state,
        left,
        epochs,
        seconds,
        found.memory_bytes if found is not None else None,
        0 if state == "done" else disk,
    )


def explain_seconds(place: Workplace, run: Run, knees: Knees, cost: Probe) -> float:
    """Saliency of the network and of an untrained one, the deletion test, and the exemplars."""
    settings, grid = place.study.explanation, place.settings(run.backbone).grid
    heads = len(place.study.ways[run.supervision].tasks)
    gradient = cost.forward_s + (cost.saliency_s - cost.forward_s) * heads / 2
    maps = passes(settings, grid) * gradient
    voxels = heads * prod(grid)
    each = 2 * maps + FORWARDS * cost.forward_s + MAP_S_PER_VOXEL * voxels
    exemplar = STAGES * (maps + RANK_S_PER_VOXEL * voxels)
    return knees.test * each + EXEMPLARS * exemplar


def passes(settings: ExplanationSettings, grid: Shape) -> int:
    """How many times a method of saliency asks the network about a knee.

    >>> passes(ExplanationSettings(), (160, 256, 256))
    1
    """
    if settings.method == "occlusion":
        return prod(math.ceil(n / w) for n, w in zip(grid, settings.window, strict=True))
    many = {"integrated_gradients": settings.steps, "gradient": 1}
    return many.get(settings.method, settings.copies)


def _probe_of(place: Workplace, run: Run) -> Probe:
    training = place.study.training
    settings = place.settings(run.backbone)
    return probe(run.backbone, settings, training, str(place.device))


def _weights(place: Workplace, backbone: str) -> int:
    settings = place.settings(backbone)
    with torch.device("meta"):
        encoder = build_encoder(backbone, size=settings.size, grid=settings.grid)
    return sum(p.numel() for p in encoder.parameters())


def _missing(place: Workplace, knees: Knees) -> dict[Shape, int]:
    """Knees that are still to be prepared, of each grid."""
    n, stores = knees.train + knees.test, {}
    for name, settings in place.study.backbones.items():
        stores[settings.grid] = place.store(name).folder
    standing = {grid: len(list(path.glob("*.safetensors"))) for grid, path in stores.items()}
    return {grid: max(n - standing[grid], 0) for grid in stores}


def _to_make(place: Workplace, knees: Knees) -> int:
    if place.study.cohort.phantom is None:
        return 0
    made = len(list((place.folder / "phantom").glob("images*/*.nii.gz")))
    return max(knees.train + knees.test - made, 0)


def _standing(folder: Path) -> Path:
    """The nearest folder that exists."""
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())


def check_disk(plans: Sequence[Plan]) -> None:
    """Refuse studies that the disk cannot hold, before any work.

    Raises:
        InputError: If it cannot hold all of them.
    """
    needed, free = sum(plan.disk_bytes for plan in plans), plans[0].free_bytes
    if needed > free:
        raise InputError(
            str(plans[0].folder),
            f"{free / 1e9:.2f} GB of free disk",
            f"{needed / 1e9:.2f} GB",
            "free some, or give an --out on another disk",
        )
