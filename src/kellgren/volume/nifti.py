"""NIfTI-1 and NIfTI-2, read with every claim of the header checked; writing without identifiers."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from jaxtyping import Float, Float64, Num
from nibabel.spatialimages import HeaderDataError

from kellgren.faults import InputError
from kellgren.files import completed
from kellgren.volume.frame import Geometry, Raster, check_geometry, geometry_in_frame
from kellgren.volume.inflate import GZIP_MAGIC, inflate, inflate_head, read_file, read_file_head

# Code of the datatype in the header -> NumPy type; colour, complex and 128-bit are left out.
DATATYPES: dict[int, str] = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}

_EXPORT = "export the scan again as NIfTI"
_FORM_TOLERANCE_MM = 1.0
_FORM_TOLERANCE_DEGREES = 1.0
_SPACING_TOLERANCE = 0.01

Header = Any  # nibabel's headers are not typed


def read_nifti(path: Path) -> Raster:
    """Read `.nii` or `.nii.gz`.

    Raises:
        InputError: If the file is damaged, the header contradicts itself or the file, the array is
            not one real volume, or neither sform nor qform says how it lies in the patient.
    """
    content = read_file(path)
    packed = content.startswith(GZIP_MAGIC)
    if packed != (path.suffix.lower() == ".gz"):
        kind, ending = ("a gzip file", ".nii.gz") if packed else ("no gzip file", ".nii")
        raise InputError(
            str(path), f"{kind} by its content", "a name that fits", f"rename it to '{ending}'"
        )
    surplus = 0
    if packed:
        content, surplus = inflate(path, content, declared=lambda head: _end_of(path, head))
    header = _header(path, content)
    if len(content) != _end(path, header):
        raise InputError(
            str(path),
            f"{len(content)} bytes",
            f"{_end(path, header)}, as the header declares",
            "download or copy the file again",
        )
    shape, affine = _shape(header), _affine(path, header)
    check_geometry(path, shape, affine, voxel_bytes=_dtype(path, header).itemsize)
    offset = int(header["vox_offset"])
    values = np.frombuffer(content, _dtype(path, header), int(np.prod(shape)), offset)
    scaled = _scaled(path, header, values.reshape(shape, order="F"))
    return Raster(path, scaled, affine, surplus=surplus)


def read_nifti_geometry(path: Path) -> Geometry:
    """Shape and place of a NIfTI file from its header alone, which is checked as `read_nifti` does.

    A plain file must be as long as its header declares; what a gzip file holds after its header is
    not looked at.

    Raises:
        InputError: As `read_nifti`, for what can be known from the header.
    """
    packed = path.suffix.lower() == ".gz"
    begin = read_file_head(path)
    if packed != begin.startswith(GZIP_MAGIC):
        return _geometry(read_nifti(path))  # says what is wrong
    header = _header(path, inflate_head(path, begin) if packed else begin)
    if not packed and path.stat().st_size != _end(path, header):
        return _geometry(read_nifti(path))  # says what is wrong
    shape, affine = _shape(header), _affine(path, header)
    check_geometry(path, shape, affine, voxel_bytes=_dtype(path, header).itemsize)
    return geometry_in_frame(shape, affine)


def _geometry(raster: Raster) -> Geometry:
    return geometry_in_frame(raster.values.shape, raster.affine)


def write_nifti(
    path: Path, values: Num[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]
) -> None:
    """Write a volume whole, with nothing in its header but shape, type and place in mm.

    Args:
        path: `.nii` or `.nii.gz`.
        values: uint8, int16 or float32.
        affine: From voxel indices to mm in RAS.
    """
    image: Any = nibabel.Nifti1Image(values, affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    with completed(path) as temporary:
        nibabel.save(image, temporary)


def _end_of(path: Path, head: bytes) -> int:
    """Length of the whole file that begins with `head`."""
    header = _header(path, head)
    shape = _shape(header)
    check_geometry(path, shape, _affine(path, header), voxel_bytes=_dtype(path, header).itemsize)
    return _end(path, header)


def _end(path: Path, header: Header) -> int:
    return int(header["vox_offset"]) + int(np.prod(_shape(header), dtype=object)) * (
        _dtype(path, header).itemsize
    )


def _header(path: Path, head: bytes) -> Header:
    kinds: dict[int, Any] = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    magics = {348: b"n+1\x00", 540: b"n+2\x00\r\n\x1a\n"}
    for order, mark in (("little", "<"), ("big", ">")):
        size = int.from_bytes(head[:4], order)  # type: ignore[arg-type]
        if size in kinds and len(head) >= size:
            header = kinds[size](binaryblock=head[:size], endianness=mark, check=False)
            magic = head[344:348] if size == 348 else head[4:12]
            if magic == magics[size]:
                _check_header(path, header, size)
                return header
    raise InputError(
        str(path),
        f"a file that begins with {head[:4].hex(' ')}",
        "a NIfTI header in one file",
        "check that this is a NIfTI file; convert .hdr/.img pairs and Analyze to .nii.gz",
    )


def _check_header(path: Path, header: Header, size: int) -> None:
    dims = [int(n) for n in header["dim"]]
    if not 3 <= dims[0] <= 7 or min(dims[1 : dims[0] + 1]) < 1:
        raise InputError(str(path), f"dimensions {dims}", "three of at least 1", _EXPORT)
    if int(header["bitpix"]) != 8 * _dtype(path, header).itemsize:
        raise InputError(
            str(path),
            f"{int(header['bitpix'])} bits a voxel for {_dtype(path, header).name}",
            "a header that agrees with itself",
            _EXPORT,
        )
    offset = float(header["vox_offset"])
    if not (size + 4 <= offset < 2**31 and offset == int(offset)):
        raise InputError(
            str(path), f"voxels that begin at byte {offset:g}", f"at {size + 4} or later", _EXPORT
        )
    unit = int(header["xyzt_units"]) & 7
    if unit not in (0, 2):
        name = {1: "metre", 3: "micrometre"}.get(unit, f"unit {unit}")
        raise InputError(str(path), f"lengths in {name}", "lengths in mm", "convert them to mm")


def _dtype(path: Path, header: Header) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in DATATYPES:
        raise InputError(
            str(path),
            f"voxels of the datatype {code}",
            "one real number a voxel",
            "convert colour or complex voxels to magnitude",
        )
    return np.dtype(DATATYPES[code]).newbyteorder(header.endianness)


def _shape(header: Header) -> tuple[int, ...]:
    dims = [int(n) for n in header["dim"]]
    shape = dims[1 : dims[0] + 1]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    return tuple(shape)


@np.errstate(all="ignore")  # whatever is not finite is refused
def _affine(path: Path, header: Header) -> Float64[np.ndarray, "4 4"]:
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if not (has_sform or has_qform):
        raise InputError(
            str(path), "neither sform nor qform", "a header that says how the scan lies", _EXPORT
        )
    pixdim = np.array(header["pixdim"][1:4], dtype=np.float64)
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        raise InputError(str(path), f"pixdim {pixdim.tolist()}", "positive spacings", _EXPORT)
    qform = _qform(path, header) if has_qform else None
    if not has_sform and qform is not None:
        return qform
    sform = np.asarray(header.get_sform(), dtype=np.float64)
    spacing = np.linalg.norm(sform[:3, :3], axis=0)
    if np.abs(spacing - pixdim).max() > _SPACING_TOLERANCE * pixdim.min():
        raise InputError(
            str(path),
            f"spacings {spacing.round(4).tolist()} in sform, {pixdim.tolist()} in pixdim",
            "a header that agrees with itself",
            _EXPORT,
        )
    if qform is not None:
        _check_forms(path, _shape(header), sform, qform)
    return sform


def _qform(path: Path, header: Header) -> Float64[np.ndarray, "4 4"]:
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise InputError(
            str(path), f"a qform that is no rotation ({error})", "a rotation", _EXPORT
        ) from error


def _check_forms(
    path: Path,
    shape: tuple[int, ...],
    sform: Float64[np.ndarray, "4 4"],
    qform: Float64[np.ndarray, "4 4"],
) -> None:
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape[:3]], (1,))).reshape(4, -1)
    apart = float(np.linalg.norm((sform - qform) @ corners, axis=0).max())
    turned = _degrees_apart(sform[:3, :3], qform[:3, :3])
    if not (apart <= _FORM_TOLERANCE_MM and turned <= _FORM_TOLERANCE_DEGREES):
        raise InputError(
            str(path),
            f"sform and qform that lie {apart:.3g} mm and {turned:.3g} degrees apart",
            f"at most {_FORM_TOLERANCE_MM:g} mm and {_FORM_TOLERANCE_DEGREES:g} degree",
            "find out which is right, and remove the other",
        )


def _degrees_apart(first: Float64[np.ndarray, "3 3"], second: Float64[np.ndarray, "3 3"]) -> float:
    """Largest angle between the same axis in two affines."""
    lengths = np.linalg.norm(first, axis=0) * np.linalg.norm(second, axis=0)
    cosines = (first * second).sum(axis=0) / lengths
    return float(np.degrees(np.arccos(np.minimum(cosines, 1))).max())


def _scaled(
    path: Path, header: Header, values: Num[np.ndarray, "i j k"]
) -> Num[np.ndarray, "i j k"]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or (np.isnan(slope) and np.isnan(intercept)):
        return values
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise InputError(
            str(path), f"a scale of {slope:g} and an offset of {intercept:g}", "numbers", _EXPORT
        )
    if (slope, intercept) == (1.0, 0.0):
        return values
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
        return values * slope + intercept
