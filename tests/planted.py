"""Knees whose files name a patient wherever a format can, and a search for those names."""

import base64
import gzip
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pydicom
from nibabel.nifti1 import Nifti1Extension
from pydicom.datadict import DicomDictionary, keyword_dict
from pydicom.uid import MRImageStorage

from tests.test_dicom import made_slice

NAME = "ZQXJWV"  # stands in every text of every header
FILE = "QJXKVZ"  # stands in the names of files and folders
ROOT = "1.2.826.0.1.90210777"  # of every UID
DATE, TIME = "19031117", "094412.731337"
IN_HEADERS = (NAME, ".90210777", DATE, "1903-11-17", "11/17/1903", "17.11.1903", TIME[:10])
IN_NAMES = (FILE,)

# Longest text of each kind of value; the kinds that only hold numbers and codes are left out.
TEXTS = {"PN": 64, "LO": 64, "SH": 16, "ST": 64, "LT": 64, "UT": 64, "UC": 64, "UR": 64, "AE": 16}
WHEN = {"DA": DATE, "TM": TIME, "DT": DATE + TIME}
# What decoding goes by; all else is filled in.
LEFT = {"SpecificCharacterSet", "RescaleType", "SeriesDescription"}

GRID = (24, 24, 24)
AFFINE = np.diag([1.4, 1.4, 1.4, 1.0])


def voxels(number: int, kl: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy scan, brighter in its middle the higher the grade, and its label map."""
    rng = np.random.default_rng(number)
    scan = rng.integers(60, 140, GRID).astype(np.int16)
    scan[6:10, 6:10, 6:10] += 20 * kl
    labels = np.zeros(GRID, np.uint8)
    labels[6:10, 6:10, 6:8], labels[6:10, 6:10, 8:10], labels[2:4] = 2, 4, 1
    return scan, labels


def planted_nifti(path: Path, values: np.ndarray) -> Path:
    """NIfTI with names in all texts of its header, and in two extensions."""
    image = nib.Nifti1Image(values, AFFINE)
    for field in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[field] = f"{NAME} {field}"[: image.header[field].dtype.itemsize]
    image.header.set_xyzt_units("mm")
    for code in (4, 6):  # AFNI, comment
        image.header.extensions.append(Nifti1Extension(code, f"{NAME} {DATE}".encode()))
    nib.save(image, path)
    return path


def planted_nrrd(path: Path, values: np.ndarray) -> Path:
    """NRRD, or its header beside its voxels, with names in comments, fields and key-values."""
    header = {
        "space": "right-anterior-superior",
        "space directions": AFFINE[:3, :3],
        "space origin": np.zeros(3),
        "content": NAME,
        f"{NAME}_key": f"{NAME} {DATE}",
        "PatientName": NAME,
    }
    nrrd.write(str(path), values, header)
    return path


def planted_dicom(folder: Path, values: np.ndarray) -> Path:
    """A series with a name in every text element of the dictionary, and in a private block."""
    folder.mkdir(parents=True)
    for number, rows in enumerate(values):
        slice_ = made_slice(0)
        slice_.InstanceNumber = number + 1
        sign(slice_)
        if number < 2:  # thousands of texts a slice would only take time
            fill(slice_)
        slice_.SeriesDescription = f"SAG DESS {NAME}"
        slice_.ImagePositionPatient = [1.4 * number, 0, 0]
        slice_.PixelSpacing, slice_.SliceThickness = [1.4, 1.4], 1.4
        slice_.Rows, slice_.Columns = rows.shape
        slice_.PixelData = rows.astype(np.uint16).tobytes()
        slice_.save_as(folder / f"{FILE}_{number:03d}")
    return folder


def fill(dataset: pydicom.Dataset) -> None:
    """Put a name or date into every element of the dictionary that can hold one."""
    for number, (tag, (kind, *_, keyword)) in enumerate(DicomDictionary.items()):
        if keyword not in keyword_dict or keyword in LEFT or tag >> 16 in (0, 2):
            continue
        if kind in TEXTS:
            setattr(dataset, keyword, f"{NAME}{number:05d}{keyword}"[: TEXTS[kind]])
        elif kind in WHEN:
            setattr(dataset, keyword, WHEN[kind])


def sign(dataset: pydicom.Dataset) -> None:
    """Name the patient, root every UID, and add a block that only its maker understands."""
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = NAME, NAME, DATE
    for keyword in ("Study", "Series"):
        setattr(dataset, f"{keyword}InstanceUID", f"{ROOT}.1")
    dataset.FrameOfReferenceUID = f"{ROOT}.2"
    dataset.SOPInstanceUID = f"{ROOT}.3.{dataset.InstanceNumber}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    block = dataset.private_block(0x0029, f"{NAME} HEADER", create=True)
    block.add_new(0x10, "LO", f"{NAME} private")
    block.add_new(0x11, "OB", f"{NAME} {DATE}".encode())


def zipped(folder: Path) -> Path:
    """The folder as a zip archive beside it."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{FILE}/{file.name}")
    return path


def planted_knees(folder: Path, n: int) -> list[str]:
    """Rows of a table of knees in many formats, with columns that nobody asked for.

    The last four, of the test split, are two series of DICOM and two NRRD files.
    """
    folder.mkdir(parents=True)
    rows = ["case_id,subject,side,split,kl,image,segmentation,age,sex,site,name,born"]
    for number in range(n):
        scan, labels = voxels(number, number % 5)
        stem = folder / f"{FILE}_{number}"
        image = {
            n - 4: lambda s=stem, v=scan: planted_dicom(s, v),
            n - 3: lambda s=stem, v=scan: zipped(planted_dicom(s, v)),
            n - 2: lambda s=stem, v=scan: planted_nrrd(s.with_suffix(".nrrd"), v),
            n - 1: lambda s=stem, v=scan: planted_nrrd(s.with_suffix(".nhdr"), v),
        }.get(number, lambda s=stem, v=scan: planted_nifti(s.with_suffix(".nii.gz"), v))()
        dicom = number in (n - 4, n - 3)
        mask = folder / f"{FILE}_{number}-mask.nii.gz"
        planted_mask(mask, labels, like=image if dicom else None)
        split = "train" if number < n // 2 else "test"
        cells = [f"k{number}", f"s{number}", "right", split, str(number % 5)]
        cells += [image.name, mask.name, "61", ("female", "male")[number % 2], "north"]
        rows.append(",".join([*cells, NAME, DATE]))
    return rows


def planted_mask(path: Path, labels: np.ndarray, *, like: Path | None) -> None:
    """A label map on the grid of the scan, which for DICOM is read off the scan itself."""
    planted_nifti(path, labels)
    if like is not None:
        affine = np.zeros((4, 4))
        affine[0, 0], affine[1, 1], affine[2, 2], affine[3, 3] = -1.4, -1.4, -1.4, 1
        image = nib.load(path)
        turned = nib.Nifti1Image(labels.transpose(0, 2, 1), affine, image.header)
        turned.set_sform(affine, 1)
        turned.set_qform(affine, 1)
        nib.save(turned, path)


def leaks(content: bytes, words: Sequence[str]) -> list[str]:
    """Every word that stands anywhere in a file, however it is packed, with what is around it.

    The case of letters does not matter; a date is none in the middle of a longer number.
    """
    alone = [re.compile(rb"(?<!\d)%s(?!\d)" % re.escape(word.lower().encode())) for word in words]
    return [
        f"{word}: ...{layer[max(0, found.start() - 60) : found.end() + 40]!r}"
        for layer in map(bytes.lower, layers(content))
        for word, pattern in zip(words, alone, strict=True)
        if word.lower().encode() in layer and (found := pattern.search(layer))
    ]


def layers(content: bytes) -> Iterator[bytes]:
    """The bytes themselves, the same without zero bytes (UTF-16, UTF-32), and all that is packed.

    Packed are gzip, zip (NPZ), the chunks of PNG, the streams of PDF, and base64 in HTML and SVG.
    """
    yield content
    if b"\0" in content[:4096]:
        yield content.replace(b"\0", b"")
    for inner in unpacked(content):
        yield from layers(inner)


def unpacked(content: bytes) -> Iterator[bytes]:
    if content.startswith(b"\x1f\x8b"):
        yield gzip.decompress(content)
    elif content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(BytesIO(content)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif content.startswith(b"\x89PNG"):
        yield from chunks_of_png(content)
    elif content.startswith(b"%PDF"):
        for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
            yield inflated(stream)
    else:
        for text in re.findall(rb"base64,([A-Za-z0-9+/=\s]+)", content):
            yield base64.b64decode(text)


def chunks_of_png(content: bytes) -> Iterator[bytes]:
    at, pixels = 8, b""
    while at < len(content):
        (length,), kind = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
        body = content[at + 8 : at + 8 + length]
        pixels += body if kind == b"IDAT" else b""
        if kind in (b"zTXt", b"iCCP"):
            yield inflated(body.split(b"\0", 1)[1][1:])
        at += 12 + length
    yield inflated(pixels)


def inflated(packed: bytes) -> bytes:
    """What zlib makes of it; nothing where it is not packed so."""
    try:
        return zlib.decompress(packed)
    except zlib.error:
        return b""
