"""One knee of a cohort, looked at: findings, numbers for the tables, a picture for the sheet."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from jaxtyping import Bool, Float16, Float32, UInt8

from kellgren.cohort import Case
from kellgren.faults import InputError
from kellgren.files import digest_of
from kellgren.inspection.alignment import labelled, mask_findings
from kellgren.inspection.finding import Finding
from kellgren.inspection.voxels import scan_findings
from kellgren.preparation import check_side
from kellgren.volume import (
    Scan,
    check_same_geometry,
    dess_warnings,
    geometry_warnings,
    read_geometry,
    read_mask,
    read_scan,
    resample,
    share_of,
)

PRINT_GRID = (20, 36, 36)
PICTURE_WIDTH = 160
PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True)
class Picture:
    """A sagittal slice through the most cartilage, or through the middle.

    Attributes:
        scan: Grey values from 0 to 255 between the percentiles 1 and 99.
        cartilage: Where the mask says cartilage.
        aspect: Height of a voxel over its width.
    """

    scan: UInt8[np.ndarray, "h w"]
    cartilage: Bool[np.ndarray, "h w"]
    aspect: float


@dataclass(frozen=True)
class Knee:
    """What is known of one case after looking at it.

    Attributes:
        case: The row of the cohort table.
        findings: What is wrong with it.
        shape: Voxels along d, h and w; None where the scan cannot be read.
        spacing_mm: Distance between them.
        intensity: Lowest value, percentiles 1 and 99, highest; None without a deep look.
        cartilage_share: Share of the scan that the mask calls cartilage; None without a deep look.
        digest: Of the voxels as stored; None without a deep look.
        fingerprint: The scan on a coarse grid, for near-duplicates; None without a deep look.
        picture: For the contact sheet; None without a deep look.
    """

    case: Case
    findings: tuple[Finding, ...]
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    intensity: tuple[float, float, float, float] | None = None
    cartilage_share: float | None = None
    digest: str | None = None
    fingerprint: Float16[np.ndarray, " _"] | None = None
    picture: Picture | None = None


def look(case: Case) -> Knee:
    """Look at the headers of a case: can they be read, is it a knee, does the mask lie on the scan.

    DICOM and NRRD have no header apart, so they are read whole.
    """
    try:
        scan = read_geometry(case.image)
    except InputError as fault:
        return Knee(case, (Finding.of(fault, "scan", case_id=case.case_id), *_mask_alone(case)))
    findings = [_warning(case, "protocol", said) for said in geometry_warnings(scan)]
    findings += _neighbours(case)
    if case.segmentation is not None:
        try:
            check_same_geometry(case.segmentation, read_geometry(case.segmentation), scan)
        except InputError as fault:
            findings.append(Finding.of(fault, "mask", case_id=case.case_id))
    return Knee(case, tuple(findings), scan.shape, scan.spacing_mm)


def look_deep(case: Case, cartilage: tuple[int, ...]) -> Knee:
    """Look at every voxel of a case; what `look` does is part of it.

    Args:
        case: The case.
        cartilage: Labels that count as cartilage.
    """
    try:
        scan = read_scan(case.image)
        check_side(case, scan)
    except InputError as fault:
        return Knee(case, (Finding.of(fault, "scan", case_id=case.case_id), *_mask_alone(case)))
    findings = [_warning(case, "protocol", said) for said in dess_warnings(scan)]
    findings += _neighbours(case)
    findings += _surplus(case, case.image, scan.surplus)
    findings += scan_findings(scan.voxels, case_id=case.case_id, where=str(case.image))
    labels, share = None, None
    if case.segmentation is not None:
        try:
            mask = read_mask(case.segmentation, like=scan)
            labels = mask.labels
            findings += _surplus(case, case.segmentation, mask.surplus)
        except InputError as fault:
            findings.append(Finding.of(fault, "mask", case_id=case.case_id))
    if labels is not None:
        share = share_of(labels, cartilage)
        findings += mask_findings(
            scan.voxels,
            labels,
            cartilage=cartilage,
            spacing_mm=scan.spacing_mm,
            side=case.side,
            case_id=case.case_id,
            where=str(case.segmentation),
        )
    low, high = (float(v) for v in np.percentile(scan.voxels[::2, ::2, ::2], PERCENTILES))
    return Knee(
        case,
        tuple(findings),
        scan.geometry.shape,
        scan.spacing_mm,
        (float(scan.voxels.min()), low, high, float(scan.voxels.max())),
        share,
        digest_of([list(scan.voxels.shape), _digest(scan)]),
        fingerprint(scan.voxels),
        _picture(scan, labels, cartilage, low, high),
    )


def fingerprint(voxels: Float32[np.ndarray, "d h w"]) -> Float16[np.ndarray, " _"]:
    """What is particular to a scan, of length 1: a coarse copy less an even coarser one.

    Two copies of one scan, resampled, brightened or with some noise, have an inner product near 1;
    scans of two knees have one near 0, because what all knees share is smooth.
    """
    d, h, w = (min(n, old) for n, old in zip(PRINT_GRID, voxels.shape, strict=True))
    fine = resample(voxels, (d, h, w), method="area")
    grid = (max(1, d // 3), max(1, h // 3), max(1, w // 3))
    smooth = resample(resample(fine, grid, method="area"), (d, h, w))
    particular = resample(fine - smooth, PRINT_GRID).ravel().astype(np.float64)
    norm = float(np.sqrt(particular @ particular)) or 1.0
    return (particular / norm).astype(np.float16)


def _mask_alone(case: Case) -> list[Finding]:
    if case.segmentation is None:
        return []
    try:
        read_geometry(case.segmentation)
    except InputError as fault:
        return [Finding.of(fault, "mask", case_id=case.case_id)]
    return []


def _neighbours(case: Case) -> list[Finding]:
    """Other programs read x.nii where x.nii.gz was asked for."""
    name = case.image.name
    packed = name.endswith(".nii.gz")
    twin = case.image.with_name(name[:-3] if packed else name + ".gz")
    if not (".nii" in name and os.path.exists(twin)):
        return []
    found, needed = f"a {'.nii' if packed else '.nii.gz'} of its name beside it", "one of the two"
    todo = "kellgren reads the one that is named; remove the other, for other programs do not"
    return [Finding("warning", "twin-name", case.case_id, str(case.image), found, needed, todo)]


def _surplus(case: Case, path: Path, count: int) -> list[Finding]:
    """The checksum vouches for the voxels; but what else has such a file been through?"""
    if count == 0:
        return []
    found, needed = f"{count} bytes after the end of the gzip stream", "nothing after it"
    todo = "they are passed over, and the checksum holds; copy the file again to be rid of them"
    return [Finding("warning", "surplus", case.case_id, str(path), found, needed, todo)]


def _warning(case: Case, kind: str, said: str) -> Finding:
    found, _, meaning = said.partition(": ")
    needed, todo = "a DESS scan of one knee", "look at the scan and its header"
    if meaning:
        found = f"{found} ({meaning.rstrip('.')})"
    found = f"that {found[0].lower()}{found[1:].rstrip('.')}"
    return Finding("warning", kind, case.case_id, str(case.image), found, needed, todo)


def _digest(scan: Scan) -> str:
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(scan.voxels).data)


def _picture(
    scan: Scan,
    labels: UInt8[np.ndarray, "d h w"] | None,
    cartilage: tuple[int, ...],
    low: float,
    high: float,
) -> Picture:
    at, inside = len(scan.voxels) // 2, np.zeros(scan.voxels.shape[1:], bool)
    if labels is not None:
        where = labelled(labels, cartilage)
        if where.any():
            at = int(where.sum(axis=(1, 2)).argmax())
            inside = where[at]
    step = max(1, -(-max(inside.shape) // PICTURE_WIDTH))
    grey = np.clip((scan.voxels[at] - low) / ((high - low) or 1.0), 0, 1) * 255
    _, tall, deep = scan.spacing_mm
    return Picture(
        grey[::step, ::step].astype(np.uint8), inside[::step, ::step].copy(), tall / deep
    )
