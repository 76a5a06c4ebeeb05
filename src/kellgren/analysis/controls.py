"""Maps that look at no model: what saliency must beat before it says anything about one.

Each has the shape of the volume and is at least 0, so that `analysis.overlap` scores it like any
saliency map.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float

from kellgren.faults import InputError

Volume = Float[np.ndarray, "d h w"]


def uniform(shape: tuple[int, int, int]) -> Volume:
    """The same saliency everywhere: chance, exactly, by the way that ties are counted."""
    return np.ones(shape, dtype=np.float32)


def centre_gaussian(shape: tuple[int, int, int], *, share: float = 0.25) -> Volume:
    """A Gaussian in the middle of the volume: the habit of pointing at the centre.

    Args:
        shape: Shape of the volume.
        share: Standard deviation along each axis, as a share of its length.
    """
    sides = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (share * n)) ** 2) for n in shape]
    d, h, w = (side.astype(np.float32) for side in sides)
    return d[:, None, None] * h[None, :, None] * w[None, None, :]


def mean_mask(masks: Iterable[Bool[np.ndarray, "d h w"]]) -> Volume:
    """Share of the training knees that have cartilage at each voxel: anatomy without the knee.

    Args:
        masks: Cartilage of the training knees, all on one grid; they are read one at a time.

    Raises:
        InputError: If there is no mask.
    """
    total, count = None, 0
    for mask in masks:
        total = mask.astype(np.float32) if total is None else total + mask
        count += 1
    if total is None:
        raise InputError("the mean cartilage", "no training mask", "at least one", "prepare masks")
    return np.asarray(total / np.float32(count))


def gradient_magnitude(
    volume: Volume, *, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Volume:
    """Magnitude of the gradient of the image: an edge detector (Adebayo et al. 2018).

    Central differences inside, one-sided at the border, per millimetre.

    Args:
        volume: The image.
        spacing_mm: Distance of neighbouring voxels along each axis.
    """
    squares = np.zeros(volume.shape, dtype=np.float32)
    for axis, step in enumerate(spacing_mm):
        if volume.shape[axis] > 1:
            squares += np.gradient(volume.astype(np.float32), step, axis=axis) ** 2
    return np.sqrt(squares)


def of_another(mask: Bool[np.ndarray, "d h w"]) -> Volume:
    """The cartilage of another patient as if it were saliency: right anatomy, wrong knee."""
    return mask.astype(np.float32)


def partners(n: int) -> list[int]:
    """Which other case lends its mask to each: the next one, the last the first.

    >>> partners(3)
    [1, 2, 0]

    Raises:
        InputError: With fewer than two cases.
    """
    if n < 2:
        raise InputError("another patient's mask", f"{n} cases", "at least two", "use more cases")
    return [(i + 1) % n for i in range(n)]
