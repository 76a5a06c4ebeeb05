"""From a scan to the grid of a network and back: z-score, resampling, mirroring (section 3.4)."""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Num, UInt8
from scipy import sparse

from kellgren.faults import InputError
from kellgren.volume.crop import Millimetres, box, put_back, size_of
from kellgren.volume.frame import Scan, Shape, shape_of, to_file_axes

Weights: TypeAlias = sparse.csr_array  # new voxels x old voxels, along one axis


def moments(voxels: Float32[np.ndarray, "d h w"]) -> tuple[float, float]:
    """Mean and population standard deviation over the whole volume, computed in float64.

    >>> moments(np.array([[[1.0, 3.0]]], dtype=np.float32))
    (2.0, 1.0)
    """
    centre = float(voxels.flat[0])
    total = squares = 0.0
    for slice_ in voxels:
        off = slice_.astype(np.float64).ravel() - centre
        total += float(off.sum())
        squares += float(off @ off)
    mean = total / voxels.size
    return centre + mean, max(squares / voxels.size - mean * mean, 0.0) ** 0.5


def zscore(voxels: Float32[np.ndarray, "d h w"]) -> Float32[np.ndarray, "d h w"]:
    """Mean 0 and standard deviation 1 over the whole volume, computed in float64.

    No result exceeds sqrt(n - 1) for n voxels (Samuelson's inequality), so float16 can hold it.

    Raises:
        InputError: If all voxels have the same value.
    """
    mean, sd = moments(voxels)
    return standardised(voxels, mean=mean, sd=sd)


def standardised(
    voxels: Float32[np.ndarray, "d h w"], *, mean: float, sd: float
) -> Float32[np.ndarray, "d h w"]:
    """The voxels less `mean`, divided by `sd`, computed in float64.

    Raises:
        InputError: If `sd` is 0.
    """
    if not sd > 0:
        raise InputError("the scan", "the same value in all voxels", "a scan", "export it again")
    scaled = np.empty_like(voxels)
    for source, target in zip(voxels, scaled, strict=True):
        np.divide(source.astype(np.float64) - mean, sd, out=target, casting="same_kind")
    return scaled


def resample(
    image: Float32[np.ndarray, "d h w"], grid: Shape, *, method: str = "trilinear"
) -> Float32[np.ndarray, "_ _ _"]:
    """Bring a volume onto another number of voxels over the same field of view.

    Voxels are cells: the outer faces of the volume stay where they are.

    Args:
        image: The volume.
        grid: Slices, rows and columns of the result.
        method: "trilinear" interpolates between the nearest voxel centres and smooths nothing
            beforehand, as the paper says nothing of it; "area" averages all voxels that a new one
            touches, so that nothing is skipped where the grid is coarser.
    """
    along_d, along_h, along_w = (
        WEIGHTS[method](old, new) for old, new in zip(image.shape, grid, strict=True)
    )
    inner = np.empty((image.shape[0], grid[1], grid[2]), np.float32)
    for source, target in zip(image, inner, strict=True):
        rows = source if along_h is None else along_h @ source
        columns = rows if along_w is None else (along_w @ np.ascontiguousarray(rows.T)).T
        target[:] = columns
    if along_d is None:
        return inner
    outer: Float32[np.ndarray, "_ _ _"] = along_d @ inner.reshape(len(inner), -1)
    return np.ascontiguousarray(outer.reshape(grid), dtype=np.float32)


@lru_cache(maxsize=64)
def _linear(old: int, new: int) -> Weights | None:
    if old == new:
        return None
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = np.minimum(centre.astype(np.intp), max(old - 2, 0))
    share = centre - low
    columns = np.concatenate([low, np.minimum(low + 1, old - 1)])
    return _weights(np.concatenate([1 - share, share]), np.tile(np.arange(new), 2), columns, old)


@lru_cache(maxsize=64)
def _area(old: int, new: int) -> Weights | None:
    if old == new:
        return None
    first = np.arange(new) * old // new
    past = -(-(np.arange(new) + 1) * old // new)
    rows = np.repeat(np.arange(new), past - first)
    columns = np.concatenate([np.arange(a, b) for a, b in zip(first, past, strict=True)])
    return _weights(1 / (past - first)[rows], rows, columns, old)


WEIGHTS: dict[str, Callable[[int, int], Weights | None]] = {"trilinear": _linear, "area": _area}


def _weights(
    share: Float[np.ndarray, " _"],
    rows: Int[np.ndarray, " _"],
    columns: Int[np.ndarray, " _"],
    old: int,
) -> Weights:
    size = (int(rows.max()) + 1, old)
    return sparse.csr_array((share.astype(np.float32), (rows, columns)), shape=size)


def resample_mask(labels: UInt8[np.ndarray, "d h w"], grid: Shape) -> UInt8[np.ndarray, "_ _ _"]:
    """Label of the voxel in which each new centre lies; on a face, of the higher one.

    The same voxel centres as `resample`, in exact integers.

    >>> resample_mask(np.arange(4, dtype=np.uint8).reshape(1, 1, 4), (1, 1, 2)).ravel().tolist()
    [1, 3]
    """
    for axis, (new, old) in enumerate(zip(grid, labels.shape, strict=True)):
        labels = labels.take((2 * np.arange(new) + 1) * old // (2 * new), axis)
    return labels


def grid_spacing_mm(
    scan: Scan, grid: Shape, *, crop_mm: Millimetres | None = None
) -> tuple[float, float, float]:
    """Size in mm of a voxel of the grid, over the field of view of the scan or its central box."""
    shape = size_of(box(shape_of(scan.voxels), scan.spacing_mm, crop_mm))
    d, h, w = (
        spacing * old / new for spacing, old, new in zip(scan.spacing_mm, shape, grid, strict=True)
    )
    return d, h, w


def mirror(values: Num[np.ndarray, "d h w"]) -> Num[np.ndarray, "d h w"]:
    """The same volume with right and left exchanged; its own inverse."""
    return np.ascontiguousarray(values[::-1])


def to_scan_grid(
    values: Float[np.ndarray, "_ _ _"],
    scan: Scan,
    *,
    mirrored: bool,
    crop_mm: Millimetres | None = None,
) -> tuple[Float32[np.ndarray, "i j k"], Float64[np.ndarray, "4 4"]]:
    """Bring a map on a network's grid back to the scan's own voxels and axis order.

    Returns the map and the scan's own affine: written together, they lie on the scan in any viewer.

    Args:
        values: The map, on any grid over the field of view of the scan.
        scan: The scan that the map is about.
        mirrored: True if the network saw the scan with right and left exchanged.
        crop_mm: The central box that the network saw; the map is 0 outside it.
    """
    unmirrored = np.ascontiguousarray(values[::-1] if mirrored else values, dtype=np.float32)
    cut = box(shape_of(scan.voxels), scan.spacing_mm, crop_mm)
    on_scan = put_back(resample(unmirrored, size_of(cut)), shape_of(scan.voxels), cut)
    return to_file_axes(on_scan, scan.file_affine), scan.file_affine
