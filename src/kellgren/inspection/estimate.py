"""What a study will need before it starts: disk, memory and time to prepare."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from kellgren.inspection.knee import Knee

Shape = tuple[int, int, int]

# Measured on one core of an AMD EPYC at 160 x 384 x 384; see docs/checking-your-data.md.
SECONDS_PER_VOXEL = 0.75 / (160 * 384 * 384)
SCAN_BYTES_PER_VOXEL = 14
PROCESS_BYTES = 150_000_000
STORED_BYTES_PER_VOXEL = 3  # float16 scan, uint8 mask


@dataclass(frozen=True)
class Estimate:
    """What preparing a cohort takes.

    Attributes:
        disk_bytes: Of the prepared volumes of all grids.
        memory_bytes: Of one worker, for the largest scan.
        seconds: Of one core, for all grids.
    """

    disk_bytes: int
    memory_bytes: int
    seconds: float

    def __str__(self) -> str:
        disk, memory = self.disk_bytes / 1e9, self.memory_bytes / 1e6
        minutes = self.seconds / 60
        return (
            f"to prepare: {disk:.1f} GB of disk, {memory:.0f} MB of memory a worker, "
            f"about {minutes:.1f} minutes of one core"
        )


def estimate(knees: Sequence[Knee], grids: Sequence[Shape]) -> Estimate:
    """The estimate for knees whose shape is known, on every grid of a study.

    >>> estimate([], [(160, 256, 256)]).disk_bytes
    0
    """
    sizes = [prod(knee.shape) for knee in knees if knee.shape is not None]
    stored = sum(STORED_BYTES_PER_VOXEL * prod(grid) for grid in grids) * len(sizes)
    largest = max(sizes, default=0)
    return Estimate(
        stored,
        PROCESS_BYTES + SCAN_BYTES_PER_VOXEL * largest,
        SECONDS_PER_VOXEL * sum(sizes) * len(grids),
    )
