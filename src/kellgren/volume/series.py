"""The slices of one DICOM series, or one multi-frame image, read in this very process.

`kellgren.volume.dicom` calls it in a process of its own, which may die of a hostile file.
"""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder

from kellgren.faults import InputError, unquoted
from kellgren.volume.archive import members
from kellgren.volume.frame import Raster, check_geometry

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
_DESCRIPTION_LENGTH = 64
_SIDE = re.compile(r"(?<![a-z])(right|left)(?![a-z])")
_LATERALITY = {"R": "right", "L": "left"}


def read_series(path: Path) -> Raster:
    """Read one series, whatever its files are named and in whatever order.

    Files that are no DICOM images (notes, DICOMDIR, reports) are passed over.

    Args:
        path: A folder, whose own folders are not entered; a zip file; or one multi-frame file.

    Raises:
        InputError: If there is no series or more than one, a slice is missing, double, damaged or
            unlike the others, or slices do not say where they lie.
    """
    with warnings.catch_warnings():
        # pydicom warns of values outside the standard; those that matter are checked below.
        warnings.simplefilter("ignore")
        slices = _slices(path)
        _check_series(path, slices)
        _check_packing(slices)
        volume = _frames(slices[0]) if slices[0].frames > 1 else _volume(path, slices)
        affine = _LPS_TO_RAS @ np.asarray(volume.affine, dtype=np.float64)
        check_geometry(path, volume.array.shape, affine, voxel_bytes=volume.array.itemsize)
        first = slices[0]
        return Raster(
            path,
            volume.array,
            affine,
            first.description,
            first.modality,
            _side(path, slices),
            burned_in=any(found.burned_in for found in slices),
        )


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
    side: str | None
    burned_in: bool


def _slices(path: Path) -> list[_Slice]:
    files = list(_files(path))
    slices = [found for name, file in files if (found := _slice(name, file)) is not None]
    if not slices:
        raise InputError(
            str(path),
            f"{len(files)} files, none of them a DICOM image",
            "one DICOM series",
            "give the folder that holds the slices",
        )
    return slices


def _files(path: Path) -> Iterator[tuple[Path, Path | BytesIO]]:
    if os.path.isdir(path):
        yield from ((file, file) for file in dicom_files(path))
    elif not os.path.exists(path):
        raise InputError(str(path), "no such file", "one DICOM series", "check the path")
    elif path.suffix.lower() == ".zip":
        yield from ((path / name, BytesIO(content)) for name, content in members(path))
    else:
        yield path, path


@dataclass(frozen=True)
class SeriesLabel:
    """What a folder of DICOM files says of itself, by its first image.

    Attributes:
        description: Its name.
        side: "right", "left" or None.
        files: How many files there are.
    """

    description: str
    side: str | None
    files: int


def series_label(folder: Path) -> SeriesLabel:
    """The label of a series, without its pixels.

    Raises:
        InputError: If the folder cannot be read, or holds no DICOM image.
    """
    files = dicom_files(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in files:
            first = _slice(file, file, pixels=False)
            if first is not None:
                return SeriesLabel(first.description, _side(folder, [first]), len(files))
    raise InputError(
        str(folder), "no DICOM image", "one DICOM series", "give the folder of the slices"
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


def _slice(path: Path, file: Path | BytesIO, *, pixels: bool = True) -> _Slice | None:
    """The image in the file; None where the file holds none."""
    try:
        dataset = pydicom.dcmread(file, stop_before_pixels=not pixels)
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
            side=_laterality(dataset),
            burned_in=str(dataset.get("BurnedInAnnotation") or "").upper() == "YES",
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
            f"number {same[0].number or 'unknown'} ({len(same)} files)" for same in members.values()
        )
        raise InputError(
            str(folder),
            f"{len(members)} series: {listed}",
            "one series",
            "put each series into a folder of its own",
        )
    many = [found for found in slices if found.frames > 1]
    if many and len(slices) > 1:
        raise InputError(
            str(many[0].path),
            f"a multi-frame image among {len(slices)} images",
            "one multi-frame image, or single slices",
            "put each into a folder of its own",
        )
    for found in slices:
        if found.missing and not many:
            raise InputError(
                str(found.path),
                f"no {found.missing[0]}",
                "slices that say where they lie",
                "export the series again",
            )
    if len(slices) < 2 and not many:
        raise InputError(
            str(folder), "a single slice", "a series of slices", "export the whole series"
        )


def _check_packing(slices: list[_Slice]) -> None:
    """Refuse voxels that no decoder here can unpack, and say which one can."""
    for found in slices:
        syntax = getattr(found.dataset, "file_meta", {}).get("TransferSyntaxUID")
        if syntax is None:
            continue
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            name, needed = _plain(str(syntax.name)), "voxels that pydicom can unpack"
            raise InputError(
                str(found.path), f"voxels packed as '{name}'", needed, "export them unpacked"
            ) from None
        if not decoder.is_available:
            raise InputError(
                str(found.path),
                f"voxels packed as '{_plain(str(syntax.name))}', and no decoder for it",
                " or ".join(decoder.missing_dependencies),
                "install one of these packages, or export the series unpacked",
            )


def _frames(image: _Slice) -> highdicom.Volume:
    """The volume of an enhanced multi-frame image."""
    rows, columns = image.size
    check_geometry(image.path, (image.frames, rows, columns), np.eye(4), voxel_bytes=4)
    try:
        return highdicom.Image.from_dataset(image.dataset, copy=False).get_volume(
            dtype=np.float32, apply_real_world_transform=False
        )
    except Exception as error:  # highdicom and its decoders raise many kinds
        raise _unreadable(image.path, error) from error


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
    said = _plain(f"{type(error).__name__}: {unquoted(str(error), keep=_is_keyword)}", length=300)
    return InputError(
        str(path),
        f"a DICOM series that cannot be read ({said})",
        "one complete series of undamaged slices at even distances",
        "export the series again",
    )


def _is_keyword(text: str) -> bool:
    """Whether it names an element of DICOM, and so is no value of one."""
    return tag_for_keyword(text) is not None


def _plain(text: str, *, length: int = _DESCRIPTION_LENGTH) -> str:
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())[:length]


def _side(path: Path, slices: Sequence[_Slice]) -> str | None:
    """What the images say of their side, or else what the series is called."""
    sides = {found.side for found in slices} - {None}
    if len(sides) > 1:
        raise InputError(
            str(path), "slices of both sides (Laterality)", "one knee", "export each knee alone"
        )
    named = set(_SIDE.findall(slices[0].description.lower()))
    sides = sides or (named if len(named) == 1 else set())
    return next(iter(sides), None)


def _laterality(dataset: pydicom.Dataset) -> str | None:
    shared = dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    anatomy = shared[0].get("FrameAnatomySequence") or [pydicom.Dataset()]
    for value in (
        dataset.get("Laterality"),
        dataset.get("ImageLaterality"),
        anatomy[0].get("FrameLaterality"),
    ):
        letter = "" if isinstance(value, MultiValue) else str(value or "").strip().upper()
        if letter in _LATERALITY:
            return _LATERALITY[letter]
    return None
