"""Where the signs of the disease were planted in a synthetic knee, on the grid of a network."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kellgren.cohort import Case
from kellgren.phantom.release import signs_of
from kellgren.store import Prepared
from kellgren.volume import box, mirror, read_mask, resample_mask, shape_of


def read_signs(folder: Path, case: Case, knee: Prepared) -> UInt8[np.ndarray, "d h w"]:
    """Labels of the signs of one knee, by `severity.SIGNS`, on the voxels that a network sees.

    Args:
        folder: Of the phantom.
        case: The knee.
        knee: The same, prepared.

    Raises:
        InputError: If the phantom has no such file, or it is no label map.
    """
    signs = read_mask(signs_of(folder, case.case_id, case.split))
    part = signs.labels[box(shape_of(signs.labels), signs.spacing_mm, knee.crop_mm)]
    return resample_mask(mirror(part) if knee.mirrored else part, shape_of(knee.image))
