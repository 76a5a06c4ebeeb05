"""A folder that holds one DICOM series of single slices."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from kellgren.faults import InputError
from kellgren.volume.frame import Raster, check_geometry

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
_DESCRIPTION_LENGTH = 64


def read_dicom(folder: Path) -> Raster:
    """Read the series of a folder, whatever its files are named and in whatever order.

    Files that are no DICOM images (notes, DICOMDIR, reports) are passed over; folders below are
    not entered.

    Raises:
        InputError: If there is no series or more than one, a slice is missing, double, damaged or
            unlike the others, or slices do not say where they lie.
    """
    with warnings.catch_warnings():
        # pydicom warns of values outside the standard; those that matter are checked below.
        warnings.simplefilter("ignore")
        slices = _slices(folder)
        _check_series(folder, slices)
        volume = _volume(folder, slices)
        affine = _LPS_TO_RAS @ np.asarray(volume.affine, dtype=np.float64)
        check_geometry(folder, volume.array.shape, affine, voxel_bytes=volume.array.itemsize)
        return Raster(folder, volume.array, affine, slices[0].description, slices[0].modality)


def dicom_files(folder: Path) -> list[Path]:
    """Every plain file directly in the folder, by name.

    Raises:
        InputError: If the folder cannot be read or holds no file.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(
            str(folder),
            f"a folder that cannot be read ({error.strerror})",
            "a DICOM series",
            "check the path and its permissions",
        ) from error
    if not files:
        raise InputError(
            str(folder),
            "no files in the folder",
            "the files of one DICOM series",
            "give the folder that holds the slices themselves",
        )
    return files


@dataclass(frozen=True)
class _Slice:
    """One image, with what is asked of it before any voxel is read."""

    path: Path
    dataset: pydicom.Dataset
    series: str
    number: str
    description: str
    modality: str
    frames: int
    size: tuple[int, int]
    missing: tuple[str, ...]


def _slices(folder: Path) -> list[_Slice]:
    files = dicom_files(folder)
    slices = [found for path in files if (found := _slice(path)) is not None]
    if not slices:
        raise InputError(
            str(folder),
            f"{len(files)} files, none of them a DICOM image",
            "one DICOM series",
            "give the folder that holds the slices",
        )
    return slices


def _slice(path: Path) -> _Slice | None:
    """The image in the file; None where the file holds none."""
    try:
        dataset = pydicom.dcmread(path)
        if "Rows" not in dataset and "PixelData" not in dataset:
            return None
        return _Slice(
            path,
            dataset,
            series=str(dataset.get("SeriesInstanceUID")),
            number=_plain(str(dataset.get("SeriesNumber") or "")),
            description=_plain(str(dataset.get("SeriesDescription") or "")),
            modality=_plain(str(dataset.get("Modality") or "")),
            frames=int(dataset.get("NumberOfFrames") or 1),
            size=(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)),
            missing=tuple(name for name in _NEEDED if dataset.get(name) in (None, "")),
        )
    except InvalidDicomError:
        return None
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise _unreadable(path, error) from error


def _check_series(folder: Path, slices: list[_Slice]) -> None:
    members: dict[str, list[_Slice]] = {}
    for found in slices:
        members.setdefault(found.series, []).append(found)
    if len(members) > 1:
        listed = ", ".join(
            f"series {same[0].number} '{same[0].description}' ({len(same)} files)"
            for same in members.values()
        )
        raise InputError(
            str(folder),
            f"{len(members)} series: {listed}",
            "one series",
            "put each series into a folder of its own",
        )
    for found in slices:
        if found.frames > 1:
            raise InputError(
                str(found.path),
                "an enhanced multi-frame image",
                "one slice a file",
                "convert the series to NIfTI first",
            )
        if found.missing:
            raise InputError(
                str(found.path),
                f"no {found.missing[0]}",
                "slices that say where they lie",
                "export the series again",
            )
    if len(slices) < 2:
        raise InputError(
            str(folder), "a single slice", "a series of slices", "export the whole series"
        )


def _volume(folder: Path, slices: list[_Slice]) -> highdicom.Volume:
    rows, columns = (max(found.size[axis] for found in slices) for axis in (0, 1))
    check_geometry(folder, (len(slices), rows, columns), np.eye(4), voxel_bytes=4)
    try:
        return highdicom.get_volume_from_series(
            [found.dataset for found in slices],
            dtype=np.float32,
            apply_real_world_transform=False,
        )
    except Exception as error:  # highdicom and its decoders raise many kinds
        raise _unreadable(folder, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    said = _plain(f"{type(error).__name__}: {error}", length=300)
    return InputError(
        str(path),
        f"a DICOM series that cannot be read ({said})",
        "one complete series of undamaged slices at even distances",
        "export the series again",
    )


def _plain(text: str, *, length: int = _DESCRIPTION_LENGTH) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:length].strip()
