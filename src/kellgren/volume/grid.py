"""From a scan to the grid of a network and back: z-score, resampling, mirroring (section 3.4)."""

import numpy as np
from jaxtyping import Float, Float32, Float64, Num, UInt8
from scipy import ndimage

from kellgren.faults import InputError
from kellgren.volume.frame import Scan, Shape, to_file_axes


def zscore(voxels: Float32[np.ndarray, "d h w"]) -> Float32[np.ndarray, "d h w"]:
    """Mean 0 and standard deviation 1 over the whole volume, computed in float64.

    No result exceeds sqrt(n - 1) for n voxels (Samuelson's inequality), so float16 can hold it.

    Raises:
        InputError: If all voxels have the same value.
    """
    mean = float(voxels.mean(dtype=np.float64))
    squares = sum(float(np.square(s - mean, dtype=np.float64).sum()) for s in voxels)
    sd = (squares / voxels.size) ** 0.5
    if not sd > 0:
        raise InputError("the scan", "the same value in all voxels", "a scan", "export it again")
    scaled = np.empty_like(voxels)
    for source, target in zip(voxels, scaled, strict=True):
        np.divide(source.astype(np.float64) - mean, sd, out=target, casting="same_kind")
    return scaled


def resample(image: Float32[np.ndarray, "d h w"], grid: Shape) -> Float32[np.ndarray, "_ _ _"]:
    """Trilinear interpolation onto another number of voxels over the same field of view.

    Voxels are cells: the outer faces of the volume stay where they are. Nothing is smoothed
    beforehand, as the paper says nothing of it.
    """
    factors = [new / old for new, old in zip(grid, image.shape, strict=True)]
    resampled: Float32[np.ndarray, "_ _ _"] = ndimage.zoom(
        image, factors, order=1, mode="nearest", grid_mode=True, prefilter=False
    )
    return resampled


def resample_mask(labels: UInt8[np.ndarray, "d h w"], grid: Shape) -> UInt8[np.ndarray, "_ _ _"]:
    """Label of the voxel in which each new centre lies; on a face, of the higher one.

    The same voxel centres as `resample`, in exact integers.

    >>> resample_mask(np.arange(4, dtype=np.uint8).reshape(1, 1, 4), (1, 1, 2)).ravel().tolist()
    [1, 3]
    """
    rows = [
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(grid, labels.shape, strict=True)
    ]
    return labels[np.ix_(*rows)]


def grid_spacing_mm(scan: Scan, grid: Shape) -> tuple[float, float, float]:
    """Size in mm of a voxel of the grid, over the field of view of the scan."""
    d, h, w = (
        spacing * old / new
        for spacing, old, new in zip(scan.spacing_mm, scan.voxels.shape, grid, strict=True)
    )
    return d, h, w


def mirror(values: Num[np.ndarray, "d h w"]) -> Num[np.ndarray, "d h w"]:
    """The same volume with right and left exchanged; its own inverse."""
    return np.ascontiguousarray(values[::-1])


def to_scan_grid(
    values: Float[np.ndarray, "d h w"], scan: Scan, *, mirrored: bool
) -> tuple[Float32[np.ndarray, "i j k"], Float64[np.ndarray, "4 4"]]:
    """Bring a map on a network's grid back to the scan's own voxels and axis order.

    Returns the map and the scan's own affine: written together, they lie on the scan in any viewer.

    Args:
        values: The map, on any grid over the field of view of the scan.
        scan: The scan that the map is about.
        mirrored: True if the network saw the scan with right and left exchanged.
    """
    unmirrored = values[::-1] if mirrored else values
    d, h, w = scan.voxels.shape
    on_scan = resample(np.ascontiguousarray(unmirrored, dtype=np.float32), (d, h, w))
    return to_file_axes(on_scan, scan.file_affine), scan.file_affine
