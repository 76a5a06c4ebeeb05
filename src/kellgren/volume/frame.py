"""The one frame that every volume is brought into, decided by the affine and never by file order.

Axes of an array in this frame: d toward the patient's right, h downward (inferior), w toward the
back (posterior). Affines map voxel indices to millimetres in RAS: x right, y front, z up.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Num, UInt8

from kellgren.faults import InputError
from kellgren.volume.inflate import SIZE_LIMIT

# d, h and w: index of the axis of RAS that each lies along, and its sign there.
AXES = ((0, 1), (2, -1), (1, -1))
SPACING_MM = (0.05, 10.0)
GEOMETRY_TOLERANCE_MM = 0.1

_ORTHOGONALITY = 1e-3
# Past this tilt (44 degrees) it would be a guess which axis of the patient an axis stands for.
_LEAST_COSINE = 0.72
# From here on two spacings differ by more than what a header's rounding does.
_SPACING_TOLERANCE = 0.01

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Raster:
    """A volume as its file stores it, before the axes are put in order.

    Attributes:
        path: Where it was read, for messages.
        values: Voxels in the axis order of the file, of any real dtype.
        affine: From voxel indices to mm in RAS.
        description: What a DICOM series says that it is; None for other formats.
        modality: Such as "MR", of a DICOM series; None for other formats.
        side: "right" or "left" where a DICOM series says so (Laterality, or the description).
        burned_in: Whether a DICOM series says that text is burned into its pixels.
        surplus: How many bytes follow the end of a gzip stream, which were not looked at.
    """

    path: Path
    values: Num[np.ndarray, "i j k"]
    affine: Float64[np.ndarray, "4 4"]
    description: str | None = None
    modality: str | None = None
    side: str | None = None
    burned_in: bool = False
    surplus: int = 0


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a volume in the frame lie, without the voxels.

    Attributes:
        shape: Slices, rows and columns.
        affine: From indices to mm in RAS.
    """

    shape: Shape
    affine: Float64[np.ndarray, "4 4"]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along d, h and w."""
        return spacing_of(self.affine)


@dataclass(frozen=True)
class Scan:
    """A scan in the anatomical frame, with what is needed to go back to its file's own axes.

    Attributes:
        voxels: Intensities as stored.
        affine: From indices of `voxels` to mm in RAS.
        file_shape: Shape of the array in the file.
        file_affine: Affine of the array in the file.
        description: What a DICOM series says that it is; None for other formats.
        modality: Such as "MR", of a DICOM series; None for other formats.
        side: "right" or "left" where a DICOM series says so (Laterality, or the description).
        burned_in: Whether a DICOM series says that text is burned into its pixels.
        surplus: How many bytes follow the end of a gzip stream, which were not looked at.
    """

    voxels: Float32[np.ndarray, "d h w"]
    affine: Float64[np.ndarray, "4 4"]
    file_shape: Shape
    file_affine: Float64[np.ndarray, "4 4"]
    description: str | None = None
    modality: str | None = None
    side: str | None = None
    burned_in: bool = False
    surplus: int = 0

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along d, h and w."""
        return spacing_of(self.affine)

    @property
    def geometry(self) -> Geometry:
        """Where the voxels lie."""
        return Geometry(shape_of(self.voxels), self.affine)


@dataclass(frozen=True)
class Mask:
    """A label map in the anatomical frame.

    Attributes:
        labels: Label of each voxel; 0 is background.
        affine: From indices of `labels` to mm in RAS.
        surplus: How many bytes follow the end of a gzip stream, which were not looked at.
    """

    labels: UInt8[np.ndarray, "d h w"]
    affine: Float64[np.ndarray, "4 4"]
    surplus: int = 0

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along d, h and w."""
        return spacing_of(self.affine)


def share_of(labels: UInt8[np.ndarray, "d h w"], which: tuple[int, ...]) -> float:
    """Share of the voxels that have one of the labels.

    >>> share_of(np.array([[[0, 2, 4, 1]]], dtype=np.uint8), (2, 4, 5))
    0.5
    """
    return sum(int(np.count_nonzero(labels == label)) for label in set(which)) / labels.size


def scan_of(raster: Raster) -> Scan:
    """Bring a scan into the frame.

    Raises:
        InputError: If a voxel is NaN or infinite, or all have the same value.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        voxels, affine = to_frame(raster.values, raster.affine, np.dtype(np.float32))
    _check_voxels(raster.path, raster.values.dtype.kind, voxels)
    return Scan(
        voxels,
        affine,
        shape_of(raster.values),
        raster.affine,
        raster.description,
        raster.modality,
        raster.side,
        raster.burned_in,
        raster.surplus,
    )


def _check_voxels(path: Path, kind: str, voxels: Float32[np.ndarray, "d h w"]) -> None:
    low, high = float(voxels.min()), float(voxels.max())
    if kind == "f" and not np.isfinite(high - low):  # NaN wins in min and max
        count = int(np.count_nonzero(~np.isfinite(voxels)))
        raise InputError(
            str(path),
            f"{count} voxels that are NaN or infinite",
            "a number in each voxel",
            "export the scan again, or repair the voxels",
        )
    if low == high:
        raise InputError(
            str(path),
            f"the same value {low:g} in all voxels",
            "a scan",
            "export the scan again",
        )


def mask_of(raster: Raster, *, like: Scan | None = None) -> Mask:
    """Bring a label map into the frame.

    Raises:
        InputError: If a voxel is not a whole number from 0 to 255, or the geometry is not that of
            `like`.
    """
    values, affine = to_frame(raster.values, raster.affine, raster.values.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        labels = values.astype(np.uint8, copy=False)
    if labels is not values and not np.array_equal(labels, values):
        wrong = values[labels != values].flat[0]
        raise InputError(
            str(raster.path),
            f"the label {wrong:g}",
            "whole numbers from 0 to 255",
            "give a label map, resampled without interpolation",
        )
    if like is not None:
        check_same_geometry(raster.path, Geometry(shape_of(labels), affine), like.geometry)
    return Mask(labels, affine, raster.surplus)


def to_frame(
    values: Num[np.ndarray, "i j k"], affine: Float64[np.ndarray, "4 4"], dtype: np.dtype[Any]
) -> tuple[Num[np.ndarray, "d h w"], Float64[np.ndarray, "4 4"]]:
    """Turn and flip axes into the frame; voxels are moved and cast, never interpolated."""
    order, flipped = _turn(affine)
    turned = np.flip(values.transpose(order), flipped)
    placed = np.empty(turned.shape, dtype)
    # By slices of the file: what is read from memory once then stays in the cache.
    slowest = int(np.argmax(np.abs(turned.strides)))
    for source, target in zip(
        np.moveaxis(turned, slowest, 0), np.moveaxis(placed, slowest, 0), strict=True
    ):
        target[:] = source
    return placed, geometry_in_frame(values.shape, affine).affine


def geometry_in_frame(shape: tuple[int, ...], affine: Float64[np.ndarray, "4 4"]) -> Geometry:
    """Shape and affine that a volume of the file will have in the frame."""
    order, flipped = _turn(affine)
    into_file = np.zeros((4, 4))
    into_file[3, 3] = 1
    for axis, source in enumerate(order):
        into_file[source, axis] = -1 if axis in flipped else 1
        into_file[source, 3] = shape[source] - 1 if axis in flipped else 0
    d, h, w = (shape[source] for source in order)
    return Geometry((d, h, w), affine @ into_file)


def to_file_axes(
    values: Float[np.ndarray, "d h w"], file_affine: Float64[np.ndarray, "4 4"]
) -> Float[np.ndarray, "i j k"]:
    """The inverse of `to_frame`, onto the axes of the file with that affine."""
    order, flipped = _turn(file_affine)
    return np.ascontiguousarray(np.flip(values, flipped).transpose(np.argsort(order)))


def _turn(affine: Float64[np.ndarray, "4 4"]) -> tuple[Shape, tuple[int, ...]]:
    """Which axis of the file becomes d, h and w, and which of d, h and w are then flipped."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    d, h, w = (int(np.abs(cosines[world]).argmax()) for world, _ in AXES)
    flipped = [
        axis
        for axis, (source, (world, sign)) in enumerate(zip((d, h, w), AXES, strict=True))
        if cosines[world, source] * sign < 0
    ]
    return (d, h, w), tuple(flipped)


@np.errstate(all="ignore")  # whatever is not finite is refused
def check_geometry(
    path: Path, shape: tuple[int, ...], affine: Float[np.ndarray, "4 4"], *, voxel_bytes: int
) -> None:
    """Refuse a volume whose place in the patient is unknown or not that of a scan.

    Called before any voxel is read.

    Raises:
        InputError: If it is not 3-D, larger than 4 GiB, or the affine is singular, sheared, too
            oblique to name its axes, or of an absurd spacing.
    """
    if len(shape) != 3 or min(shape) < 2:
        raise InputError(
            str(path),
            f"an array of shape {shape}",
            "a volume: three axes of 2 voxels or more",
            "give one 3-D scan",
        )
    size = voxel_bytes * int(np.prod([int(n) for n in shape], dtype=object))
    if size > SIZE_LIMIT:
        raise InputError(
            str(path),
            f"a declared size of {size} bytes",
            f"at most {SIZE_LIMIT} bytes",
            "check the header; no knee scan is that large",
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(
            str(path), "a singular affine", "an affine that places each voxel", _EXPORT
        )
    spacing = spacing_of(affine)
    if min(spacing) < SPACING_MM[0] or max(spacing) > SPACING_MM[1]:
        found = " x ".join(f"{s:g}" for s in spacing)
        raise InputError(
            str(path),
            f"voxels of {found} mm",
            f"{SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm along each axis",
            "check the unit: it must be mm",
        )
    _check_directions(path, affine[:3, :3] / np.array(spacing))


def spacing_of(affine: Float[np.ndarray, "4 4"]) -> tuple[float, float, float]:
    """Distance in mm between neighbouring voxels, along each axis of the array."""
    first, second, third = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return first, second, third


_EXPORT = "export the scan again with its orientation"


def _check_directions(path: Path, cosines: Float[np.ndarray, "3 3"]) -> None:
    off = float(np.abs(cosines.T @ cosines - np.eye(3)).max())
    if off > _ORTHOGONALITY:
        raise InputError(
            str(path),
            f"axes that are not at right angles (cosine {off:.3g})",
            f"right angles (cosine at most {_ORTHOGONALITY:g})",
            "resample the scan onto a rectangular grid",
        )
    least = float(np.abs(cosines).max(axis=0).min())
    if least < _LEAST_COSINE:
        raise InputError(
            str(path),
            f"an axis {np.degrees(np.arccos(least)):.0f} degrees from the patient's axes",
            "at most 44 degrees",
            "resample the scan along the patient's axes",
        )


def check_same_geometry(path: Path, mask: Geometry, scan: Geometry) -> None:
    """Refuse a mask whose voxels are not those of the scan.

    Raises:
        InputError: If the shapes differ, or a corner lies more than 0.1 mm off.
    """
    if mask.shape != scan.shape:
        raise InputError(
            str(path),
            f"a mask of {mask.shape} voxels (d, h, w)",
            f"the scan's {scan.shape}",
            "give the mask of this very scan",
        )
    if not np.allclose(mask.spacing_mm, scan.spacing_mm, rtol=_SPACING_TOLERANCE):
        raise InputError(
            str(path),
            f"a mask with voxels of {_size(mask)} mm (d, h, w)",
            f"the scan's {_size(scan)} mm",
            "find out which of the two headers is wrong, and export that file again",
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in mask.shape], (1,))).reshape(4, -1)
    apart = float(np.linalg.norm((mask.affine - scan.affine) @ corners, axis=0).max())
    if apart > GEOMETRY_TOLERANCE_MM:
        raise InputError(
            str(path),
            f"a mask that lies up to {apart:.3g} mm off the scan",
            f"at most {GEOMETRY_TOLERANCE_MM} mm",
            "give the mask of this very scan, with the scan's place in its header",
        )


def _size(volume: Geometry) -> str:
    return " x ".join(f"{mm:.4g}" for mm in volume.spacing_mm)


def shape_of(values: Num[np.ndarray, "_ _ _"]) -> Shape:
    """Shape of a volume, as three numbers."""
    i, j, k = values.shape
    return i, j, k
