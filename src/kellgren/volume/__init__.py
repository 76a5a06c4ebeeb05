"""Scans and label maps: NIfTI, NRRD or DICOM in, one anatomical frame out.

Letters i, j, k stand for the axes of an array as its file stores them; d, h, w for the frame.
"""

import os
from collections.abc import Callable
from pathlib import Path

from kellgren.faults import InputError
from kellgren.volume.crop import box
from kellgren.volume.dicom import is_dicom, read_dicom
from kellgren.volume.frame import (
    Geometry,
    Mask,
    Raster,
    Scan,
    check_same_geometry,
    geometry_in_frame,
    mask_of,
    scan_of,
    shape_of,
    share_of,
)
from kellgren.volume.grid import (
    grid_spacing_mm,
    mirror,
    moments,
    resample,
    resample_mask,
    standardised,
    to_scan_grid,
    zscore,
)
from kellgren.volume.inflate import read_file_head
from kellgren.volume.intensity import clipped, foreground, n4
from kellgren.volume.nifti import read_nifti, read_nifti_geometry, write_nifti
from kellgren.volume.nrrd_file import data_file, read_nrrd
from kellgren.volume.protocol import dess_warnings, geometry_warnings
from kellgren.volume.series import dicom_files, series_label

__all__ = [
    "Geometry",
    "Mask",
    "Scan",
    "box",
    "check_same_geometry",
    "clipped",
    "dess_warnings",
    "foreground",
    "geometry_warnings",
    "grid_spacing_mm",
    "mirror",
    "moments",
    "n4",
    "read_geometry",
    "read_mask",
    "read_scan",
    "resample",
    "resample_mask",
    "series_label",
    "shape_of",
    "share_of",
    "source_files",
    "standardised",
    "to_scan_grid",
    "write_nifti",
    "zscore",
]

FORMATS: dict[str, Callable[[Path], Raster]] = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".zip": read_dicom,
    ".dcm": read_dicom,
}


def read_scan(path: Path) -> Scan:
    """Read a scan into the frame: NIfTI, NRRD, or one DICOM series (folder, zip, multi-frame file).

    Raises:
        InputError: If it is damaged, is not one finite volume, or does not say how it lies in the
            patient. Orientation is never guessed.
    """
    return scan_of(read_dicom(path) if os.path.isdir(path) else _reader(path)(path))


def read_geometry(path: Path) -> Geometry:
    """Where the voxels of a scan or label map lie; from the header alone where it is NIfTI.

    Raises:
        InputError: As for `read_scan`, for what can be known from the header.
    """
    if os.path.isdir(path):
        raster = read_dicom(path)
    elif (reader := _reader(path)) is read_nifti:
        return read_nifti_geometry(path)
    else:
        raster = reader(path)
    return geometry_in_frame(raster.values.shape, raster.affine)


def read_mask(path: Path, *, like: Scan | None = None) -> Mask:
    """Read a label map into the frame: NIfTI or NRRD.

    Args:
        path: The label map.
        like: The scan that it belongs to; its shape must be the same and its voxels must lie
            within 0.1 mm.

    Raises:
        InputError: As for `read_scan`, and if a label is not a whole number from 0 to 255 or the
            geometry is not that of `like`.
    """
    if os.path.isdir(path):
        raise InputError(str(path), "a folder", "a label map as NIfTI or NRRD", "check the path")
    return mask_of(_reader(path)(path), like=like)


def source_files(path: Path) -> list[Path]:
    """Every file that `read_scan` or `read_mask` reads for this path.

    Raises:
        InputError: If a file that must be looked into for that cannot be read.
    """
    if os.path.isdir(path):
        return dicom_files(path)
    voxels = data_file(path) if path.suffix.lower() == ".nhdr" else None
    return [path] if voxels is None else [path, voxels]


def _reader(path: Path) -> Callable[[Path], Raster]:
    name = path.name.lower()
    for ending, reader in FORMATS.items():
        if name.endswith(ending):
            return reader
    if is_dicom(path):
        return read_dicom
    if not os.path.exists(path):
        read_file_head(path)  # says what is wrong
    raise InputError(
        str(path),
        "a name that tells no format",
        f"a name that ends in {', '.join(FORMATS)}, or the folder of a DICOM series",
        "convert the scan, or give the folder of its slices",
    )
