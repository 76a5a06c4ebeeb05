"""From a scan to what a network sees: intensities, box, resampling, rounding (section 3.4)."""

import numpy as np
from jaxtyping import Float16, Float32

from kellgren.cohort import Case
from kellgren.config import PreparationSettings
from kellgren.faults import InputError
from kellgren.volume import (
    Scan,
    box,
    clipped,
    foreground,
    moments,
    n4,
    resample,
    shape_of,
    standardised,
)

# A voxel this many standard deviations out leaves nothing of the knee in the z-scores.
OUTLIER_LIMIT = 1000.0
PAPER = PreparationSettings()
# Exponents of float16 count from 15, those of float32 from 127.
_EXPONENT_STEP = np.float32(2.0 ** (127 - 15))
_SIGN_AND_VALUE = ~np.int32(0x70000000)


def network_input(
    scan: Scan,
    grid: tuple[int, int, int],
    *,
    mirrored: bool,
    preparation: PreparationSettings = PAPER,
) -> Float32[np.ndarray, "_ _ _"]:
    """What a network sees of a scan: z-scored, resampled, and rounded as the store rounds.

    The values are those of float16, so that a scan that is read here and one that comes from the
    store are the same to the last bit.

    Args:
        scan: The scan.
        grid: Slices, rows and columns of the result.
        mirrored: True to exchange right and left, as for a left knee.
        preparation: What else is done; the default is the paper's.

    Raises:
        InputError: If one voxel lies so far out that the others are alike.
    """
    return widened(rounded_input(scan, grid, mirrored=mirrored, preparation=preparation))


def rounded_input(
    scan: Scan, grid: tuple[int, int, int], *, mirrored: bool, preparation: PreparationSettings
) -> Float16[np.ndarray, "_ _ _"]:
    """As `network_input`, in the type in which the store keeps it."""
    voxels = n4(scan.voxels) if preparation.bias_correction == "n4" else scan.voxels
    if preparation.clip_percentiles is not None:
        voxels = clipped(voxels, preparation.clip_percentiles)
    mean, sd = _centre_and_width(voxels, preparation.normalisation)
    part = voxels[box(shape_of(voxels), scan.spacing_mm, preparation.crop_mm)]
    # Resampling is linear, so it may come before the z-score, where there are fewer voxels.
    seen = resample(part[::-1] if mirrored else part, grid, method=preparation.resampling)
    return standardised(seen, mean=mean, sd=sd).astype(np.float16)


def widened(half: Float16[np.ndarray, "d h w"]) -> Float32[np.ndarray, "d h w"]:
    """The same values as float32, to the bit; NumPy's own cast takes twice as long.

    Args:
        half: Finite values.
    """
    wide = np.empty(half.shape, np.float32)
    for source, bits, target in zip(half.view(np.int16), wide.view(np.int32), wide, strict=True):
        bits[:] = source
        bits <<= 13
        bits &= _SIGN_AND_VALUE  # the sign was spread over three bits more
        target *= _EXPONENT_STEP
    return wide


def _centre_and_width(
    voxels: Float32[np.ndarray, "d h w"], normalisation: str
) -> tuple[float, float]:
    if normalisation == "zscore":
        mean, sd = moments(voxels)
    else:
        tissue = voxels[foreground(voxels)]
        mean, sd = float(tissue.mean(dtype=np.float64)), float(tissue.std(dtype=np.float64))
    farthest = max(float(voxels.max()) - mean, mean - float(voxels.min()))
    if farthest > OUTLIER_LIMIT * sd:
        raise InputError(
            "the scan",
            f"a voxel {farthest / sd if sd else np.inf:.0f} standard deviations from the mean",
            f"at most {OUTLIER_LIMIT:g}",
            "repair the voxel, or export the scan again",
        )
    return mean, sd


def check_side(case: Case, scan: Scan) -> None:
    """Refuse a scan that says of itself that it shows the other knee.

    Raises:
        InputError: If the DICOM series names a side and it is not that of the table.
    """
    if scan.side is not None and scan.side != case.side:
        raise InputError(
            str(case.image),
            f"a series that says '{scan.side}' (Laterality)",
            f"'{case.side}', as in the cohort table",
            "find out which is right, and correct the table",
        )
