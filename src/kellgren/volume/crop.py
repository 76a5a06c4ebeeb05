"""A box of millimetres around the centre of the field of view, cut out and put back."""

import numpy as np
from jaxtyping import Float32

from kellgren.faults import InputError
from kellgren.volume.frame import Shape

Millimetres = tuple[float, float, float]


def box(shape: Shape, spacing_mm: Millimetres, size_mm: Millimetres | None) -> tuple[slice, ...]:
    """The slices, rows and columns of a central box; everything where no size is given.

    The sides are symmetrical, so that a mirrored scan keeps the mirrored box.

    Raises:
        InputError: If the box is larger than the field of view.

    >>> box((10, 10, 10), (1.0, 1.0, 1.0), (4.0, 6.0, 10.0))
    (slice(3, 7, None), slice(2, 8, None), slice(0, 10, None))
    """
    if size_mm is None:
        return tuple(slice(0, n) for n in shape)
    cut = []
    for n, spacing, wanted in zip(shape, spacing_mm, size_mm, strict=True):
        margin = round((n - wanted / spacing) / 2)
        if margin < 0 or n - 2 * margin < 2:
            raise InputError(
                "the scan",
                f"a field of view of {n * spacing:.0f} mm",
                f"at least preparation.crop_mm, {wanted:g} mm",
                "crop less, or leave the scan out",
            )
        cut.append(slice(margin, n - margin))
    return tuple(cut)


def put_back(
    values: Float32[np.ndarray, "_ _ _"], shape: Shape, cut: tuple[slice, ...]
) -> Float32[np.ndarray, "d h w"]:
    """The values in their box, zeros around it."""
    whole = np.zeros(shape, np.float32)
    whole[cut] = values
    return whole


def size_of(cut: tuple[slice, ...]) -> Shape:
    """Number of slices, rows and columns of a box."""
    d, h, w = (part.stop - part.start for part in cut)
    return d, h, w
