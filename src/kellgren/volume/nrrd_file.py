"""NRRD, attached (`.nrrd`) or with its voxels in a second file (`.nhdr`)."""

import io
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from jaxtyping import Float64

from kellgren.faults import InputError
from kellgren.volume.frame import Raster, check_geometry
from kellgren.volume.inflate import inflate, read_file

# Name of the space, long or short -> signs that turn it into RAS.
SPACES: dict[str, tuple[int, int, int]] = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}

ENCODINGS = ("txt", "text", "ascii", "hex", "bz2", "bzip2")  # of the format, but not read

_EXPORT = "save it again as a 3-D NRRD with its space, raw or gzip"

NrrdHeader = dict[str, Any]  # pynrrd parses each field into its own type


def read_nrrd(path: Path) -> Raster:
    """Read `.nrrd` or `.nhdr`.

    What a message quotes of a header is a word of the format: a field may hold a name.

    Raises:
        InputError: If the file is damaged, has no named space or no direction of an axis, or is
            encoded otherwise than raw or gzip.
    """
    header, after = _header(path)
    dtype, shape, affine = _dtype(path, header), _shape(path, header), _affine(path, header)
    check_geometry(path, shape, affine, voxel_bytes=dtype.itemsize)
    size = dtype.itemsize * int(np.prod(shape))
    detached = _data_file(path, header)
    packed = after if detached is None else read_file(detached)
    content, surplus = _decoded(detached or path, header, packed, size)
    values = np.frombuffer(content, dtype).reshape(shape, order="F")
    return Raster(path, values, affine, surplus=surplus)


def data_file(path: Path) -> Path | None:
    """The file that holds the voxels, where the header stands alone; None otherwise."""
    return _data_file(path, _header(path)[0])


def _header(path: Path) -> tuple[NrrdHeader, bytes]:
    stream = io.BytesIO(read_file(path))
    try:
        header = dict(nrrd.read_header(stream))
    except Exception as error:  # pynrrd lets errors of NumPy and of text decoding through
        raise InputError(
            str(path), f"no NRRD header ({type(error).__name__})", "an NRRD file", "check the file"
        ) from error
    return header, stream.read()


def _dtype(path: Path, header: NrrdHeader) -> np.dtype[Any]:
    """Type of a voxel, found by letting pynrrd read an empty array of that type."""
    empty = header | {"dimension": 1, "sizes": np.array([0]), "encoding": "raw"}
    for field in ("data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip"):
        empty.pop(field, None)
    try:
        dtype: np.dtype[Any] = nrrd.read_data(empty, io.BytesIO()).dtype
    except Exception as error:  # KeyError for an unknown type, NRRDError for a missing endian
        raise InputError(
            str(path),
            "voxels of an unknown type, or in no stated order of bytes",
            "one real number a voxel",
            _EXPORT,
        ) from error
    if dtype.kind not in "iuf":
        raise InputError(
            str(path), f"voxels of the type {header['type']!r}", "one real number a voxel", _EXPORT
        )
    return dtype


def _shape(path: Path, header: NrrdHeader) -> tuple[int, ...]:
    sizes = tuple(int(n) for n in header.get("sizes", ()))
    if len(sizes) != 3:
        raise InputError(str(path), f"sizes {sizes}", "three sizes", _EXPORT)
    return sizes


def _affine(path: Path, header: NrrdHeader) -> Float64[np.ndarray, "4 4"]:
    space = str(header.get("space", "")).strip().lower()
    if space not in SPACES:
        raise InputError(
            str(path),
            "another space" if space else "no space",
            f"one of {sorted(SPACES)}",
            _EXPORT,
        )
    units = [str(unit).strip('"') for unit in header.get("space units", [])]
    if any(unit not in ("mm", "") for unit in units):
        raise InputError(str(path), "lengths in other units", "lengths in mm", "convert them to mm")
    directions = np.asarray(header.get("space directions", ()), dtype=np.float64)
    origin = np.asarray(header.get("space origin", np.full(3, np.nan)), dtype=np.float64)
    if directions.shape != (3, 3) or origin.shape != (3,):
        raise InputError(
            str(path),
            "no direction of each axis or no origin",
            "space directions and space origin",
            _EXPORT,
        )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions.T, origin
    return np.diag([*SPACES[space], 1.0]) @ affine


def _data_file(path: Path, header: NrrdHeader) -> Path | None:
    name = header.get("data file", header.get("datafile"))
    if name is None:
        return None
    beside = path.parent / str(name)
    if Path(str(name)).name != str(name) or beside.is_symlink() or not beside.is_file():
        raise InputError(
            str(path),
            "its voxels in another folder, behind a link, in several files or nowhere",
            "one file in the same folder",
            "save it as one .nrrd file",
        )
    return beside


def _decoded(path: Path, header: NrrdHeader, packed: bytes, size: int) -> tuple[bytes, int]:
    """The voxels, and how many bytes follow them."""
    for field in ("line skip", "lineskip", "byte skip", "byteskip"):
        if int(header.get(field, 0)) != 0:
            raise InputError(str(path), f"a {field}", "voxels from the first byte on", _EXPORT)
    encoding = str(header.get("encoding")).lower()
    if encoding in ("gzip", "gz"):
        return inflate(path, packed, declared=lambda _: size)
    if encoding != "raw":
        named = f"the encoding '{encoding}'" if encoding in ENCODINGS else "an unknown encoding"
        raise InputError(str(path), named, "raw or gzip", _EXPORT)
    if len(packed) != size:
        raise InputError(
            str(path),
            f"{len(packed)} bytes of voxels",
            f"{size}, as the header declares",
            "download or copy the file again",
        )
    return packed, 0
