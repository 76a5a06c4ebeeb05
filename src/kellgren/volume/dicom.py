"""A folder that holds one DICOM series of single slices."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from kellgren.faults import InputError
from kellgren.volume.frame import Raster, check_geometry

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
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
        first = next(iter(slices.values()))
        return Raster(
            folder,
            volume.array,
            affine,
            description=_plain(str(first.get("SeriesDescription") or "")),
            modality=_plain(str(first.get("Modality") or "")),
        )


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


def _slices(folder: Path) -> dict[Path, pydicom.Dataset]:
    files = dicom_files(folder)
    read = {path: dataset for path in files if (dataset := _dataset(path)) is not None}
    if not read:
        raise InputError(
            str(folder),
            f"{len(files)} files, none of them a DICOM image",
            "one DICOM series",
            "give the folder that holds the slices",
        )
    return read


def _dataset(path: Path) -> pydicom.Dataset | None:
    """The image in the file; None where the file holds none."""
    try:
        dataset = pydicom.dcmread(path)
        is_image = "PixelData" in dataset or ("Rows" in dataset and "Columns" in dataset)
    except InvalidDicomError:
        return None
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise _unreadable(path, error) from error
    return dataset if is_image else None


def _check_series(folder: Path, slices: dict[Path, pydicom.Dataset]) -> None:
    counts = Counter(str(dataset.get("SeriesInstanceUID")) for dataset in slices.values())
    if len(counts) > 1:
        named = {str(dataset.get("SeriesInstanceUID")): dataset for dataset in slices.values()}
        listed = ", ".join(
            f"series {named[uid].get('SeriesNumber')}"
            f" '{_plain(str(named[uid].get('SeriesDescription') or ''))}' ({count} files)"
            for uid, count in counts.items()
        )
        raise InputError(
            str(folder),
            f"{len(counts)} series: {listed}",
            "one series",
            "put each series into a folder of its own",
        )
    for path, dataset in slices.items():
        if int(dataset.get("NumberOfFrames") or 1) > 1:
            raise InputError(
                str(path),
                "an enhanced multi-frame image",
                "one slice a file",
                "convert the series to NIfTI first",
            )
        missing = [name for name in _PLACE if dataset.get(name) in (None, "")]
        if missing:
            raise InputError(
                str(path),
                f"no {missing[0]}",
                "slices that say where they lie",
                "export the series again",
            )
    if len(slices) < 2:
        raise InputError(
            str(folder), "a single slice", "a series of slices", "export the whole series"
        )


def _volume(folder: Path, slices: dict[Path, pydicom.Dataset]) -> "highdicom.Volume":
    _check_size(folder, list(slices.values()))
    try:
        return highdicom.get_volume_from_series(
            list(slices.values()), dtype=np.float32, apply_real_world_transform=False
        )
    except Exception as error:  # highdicom and its decoders raise many kinds
        raise _unreadable(folder, error) from error


def _check_size(folder: Path, slices: Sequence[pydicom.Dataset]) -> None:
    rows = max(int(dataset.Rows) for dataset in slices)
    columns = max(int(dataset.Columns) for dataset in slices)
    check_geometry(folder, (len(slices), rows, columns), np.eye(4), voxel_bytes=4)


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
