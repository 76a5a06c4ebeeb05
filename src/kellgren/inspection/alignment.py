"""Whether a label map lies on the anatomy of its scan, judged by the scan itself.

In DESS, cartilage is brighter than what touches it. The mean brightness of the labelled cartilage
less that of a shell around it, in standard deviations of the scan, is therefore highest where the
mask belongs; a mask that fits better elsewhere was shifted or mirrored.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8
from scipy import ndimage

from kellgren.inspection.finding import Finding

REACH = 8  # voxels searched along each axis
SHELL = 3  # voxels around the cartilage that it is compared with
POINTS = 4000
LEAST_SHIFT_MM = 1.2
LEAST_GAIN = 0.15
# Real knees have 0.5 to 1.5 % cartilage in the field of view of the OAI's DESS.
USUAL_SHARE = (0.002, 0.03)
KNOWN_LABELS = 5
LEAST_SIDE_MM = 10.0

Offsets = Int[np.ndarray, "_ 3"]


@dataclass(frozen=True)
class Alignment:
    """How well a mask fits its scan, as it lies and elsewhere.

    Attributes:
        contrast: Brightness of the cartilage over its shell, in standard deviations of the scan.
        shift: Voxels along d, h, w by which it would fit best.
        best: Contrast there.
        mirrored: Contrast with the mask mirrored along d, h and w.
    """

    contrast: float
    shift: tuple[int, int, int]
    best: float
    mirrored: tuple[float, float, float]


def alignment(
    voxels: Float32[np.ndarray, "d h w"], cartilage: Bool[np.ndarray, "d h w"]
) -> Alignment | None:
    """Search for the place at which the cartilage fits the scan best.

    A grid of shifts up to 8 voxels along each axis is tried in steps of 2, then the neighbours of
    the best one.

    Returns:
        None where there is no cartilage, or nothing but cartilage.
    """
    inside, around = _points(cartilage)
    if not len(inside) or not len(around):
        return None
    sd = float(voxels[::2, ::4, ::4].std()) or 1.0
    steps = np.arange(-REACH, REACH + 1, 2)
    coarse = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    first = coarse[_contrasts(voxels, inside, around, coarse).argmax()]
    fine = first + np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    tried = np.concatenate([np.zeros((1, 3), np.intp), fine])
    contrast = _contrasts(voxels, inside, around, tried) / sd
    d, h, w = (int(n) for n in tried[contrast.argmax()])
    x, y, z = (_mirrored(voxels, inside, around, axis) / sd for axis in range(3))
    return Alignment(float(contrast[0]), (d, h, w), float(contrast.max()), (x, y, z))


def mask_findings(
    voxels: Float32[np.ndarray, "d h w"],
    labels: UInt8[np.ndarray, "d h w"],
    *,
    cartilage: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    side: str,
    case_id: str,
    where: str,
) -> list[Finding]:
    """Findings on a mask that has the geometry of its scan.

    Args:
        voxels: The scan in the frame.
        labels: The mask in the frame.
        cartilage: Labels that count as cartilage.
        spacing_mm: Size of a voxel.
        side: Side of the knee by the cohort table; medial and lateral tibial cartilage (labels 4
            and 5 of OAIZIB-CM) must lie accordingly.
        case_id: The case.
        where: The file of the mask.
    """
    # Voxels of each label in each slice.
    counts = np.stack([np.bincount(slice_.ravel(), minlength=256) for slice_ in labels])
    found = [*_of_labels(counts, cartilage)]
    if not any(kind == "mask-empty" for _, kind, *_ in found):
        found += _of_place(voxels, labels, cartilage, spacing_mm)
        found += _of_side(counts, cartilage, spacing_mm, side)
    return [
        Finding(s, kind, case_id, where, what, needed, todo)
        for s, kind, what, needed, todo in found
    ]


def _of_labels(
    counts: Int[np.ndarray, "d 256"], cartilage: tuple[int, ...]
) -> list[tuple[str, str, str, str, str]]:
    present = np.flatnonzero(counts.any(axis=0))
    share, found = int(counts[:, sorted(set(cartilage))].sum()) / int(counts.sum()), []
    needed = f"cartilage labels {list(cartilage)} in about 1 % of the scan"
    if share == 0:
        what = f"the labels {present.tolist()}, none of them cartilage"
        todo = "overlap with saliency will be undefined; give the right mask, or none"
        return [("warning", "mask-empty", what, needed, todo)]
    if not USUAL_SHARE[0] <= share <= USUAL_SHARE[1]:
        severity = "error" if share > 0.5 else "warning"
        what = f"{100 * share:.2g} % of the scan labelled as cartilage"
        found.append((severity, "mask-share", what, needed, "look at the mask"))
    beyond = [int(n) for n in present if n > max(KNOWN_LABELS, *cartilage)]
    if beyond:
        todo = "name the cartilage labels in the study file, or correct the mask"
        what = f"the labels {beyond}"
        found.append(("warning", "mask-labels", what, "labels of the study's schema", todo))
    return found


def _of_place(
    voxels: Float32[np.ndarray, "d h w"],
    labels: UInt8[np.ndarray, "d h w"],
    cartilage: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
) -> list[tuple[str, str, str, str, str]]:
    place = alignment(voxels, labelled(labels, cartilage))
    if place is None:
        return []
    needed = "cartilage brighter than what touches it, as in DESS"
    best_mirror = int(np.argmax(place.mirrored))
    if place.mirrored[best_mirror] > max(place.contrast + LEAST_GAIN, place.best):
        axis = ("right-left", "top-bottom", "front-back")[best_mirror]
        what = f"a mask that fits the scan better when it is mirrored {axis}"
        return [("error", "mask-mirrored", what, needed, "export the mask again from the scan")]
    moved = [abs(n) * mm for n, mm in zip(place.shift, spacing_mm, strict=True)]
    if place.best > place.contrast + LEAST_GAIN and max(moved) >= LEAST_SHIFT_MM:
        what = (
            f"a mask that fits the scan better when it is moved by {place.shift} voxels (d, h, w)"
        )
        todo = "look at the contact sheet: the mask of another knee, or one that lost its place"
        return [("warning", "mask-shifted", what, needed, todo)]
    if place.contrast <= 0:
        what = f"labelled cartilage {-place.contrast:.2f} standard deviations darker than around it"
        return [("warning", "mask-contrast", what, needed, "look at the contact sheet")]
    return []


def _of_side(
    counts: Int[np.ndarray, "d 256"],
    cartilage: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    side: str,
) -> list[tuple[str, str, str, str, str]]:
    if not {4, 5} <= set(cartilage):
        return []
    slices, tibial = np.arange(len(counts)), counts[:, [4, 5]]
    if tibial.sum(axis=0).min() == 0:
        return []
    medial, lateral = (slices @ tibial / tibial.sum(axis=0)).tolist()
    apart = (lateral - medial) * spacing_mm[0] * (1 if side == "right" else -1)
    if apart > -LEAST_SIDE_MM:
        return []
    other = "left" if side == "right" else "right"
    what = (
        f"a {other} knee: medial tibial cartilage (4) lies {-apart:.0f} mm from the lateral one (5)"
        f" on the side where a {side} knee has the lateral one"
    )
    todo = "correct one of three: the table's side, the mask's labels, or the scan's orientation"
    return [("error", "side", what, f"a {side} knee, as the table says", todo)]


def labelled(
    labels: UInt8[np.ndarray, "d h w"], which: tuple[int, ...]
) -> Bool[np.ndarray, "d h w"]:
    """Where a mask has one of the labels.

    >>> labelled(np.array([[[0, 2, 4]]], dtype=np.uint8), (2, 5)).ravel().tolist()
    [False, True, False]
    """
    found = np.zeros(labels.shape, bool)
    for label in which:
        found |= labels == label
    return found


def _points(cartilage: Bool[np.ndarray, "d h w"]) -> tuple[Offsets, Offsets]:
    """A sample of the voxels of the cartilage and of the shell around it."""
    planes = [np.flatnonzero(cartilage.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if not all(len(plane) for plane in planes):
        none = np.zeros((0, 3), np.intp)
        return none, none
    box = tuple(
        slice(max(0, plane[0] - SHELL), min(n, plane[-1] + 1 + SHELL))
        for plane, n in zip(planes, cartilage.shape, strict=True)
    )
    part = cartilage[box]
    shell = ndimage.binary_dilation(part, iterations=SHELL) & ~part
    first = np.array([axis.start for axis in box])
    return _some(part) + first, _some(shell) + first


def _some(which: Bool[np.ndarray, "d h w"]) -> Offsets:
    points = np.flatnonzero(which)
    some = points[:: max(1, len(points) // POINTS)]
    return np.stack(np.unravel_index(some, which.shape), axis=-1)


def _contrasts(
    voxels: Float32[np.ndarray, "d h w"], inside: Offsets, around: Offsets, shifts: Offsets
) -> Float32[np.ndarray, " _"]:
    return _means(voxels, inside, shifts) - _means(voxels, around, shifts)


def _means(
    voxels: Float32[np.ndarray, "d h w"], points: Offsets, shifts: Offsets
) -> Float32[np.ndarray, " _"]:
    """Mean of the voxels at the points moved by each shift, or at the edge that they moved past."""
    (_, height, width), flat = voxels.shape, voxels.reshape(-1)
    along_d, along_h, along_w = (
        {by: np.clip(points[:, axis] + by, 0, n - 1) * step for by in set(shifts[:, axis].tolist())}
        for axis, (n, step) in enumerate(zip(voxels.shape, (height * width, width, 1), strict=True))
    )
    places = (along_d[d] + along_h[h] + along_w[w] for d, h, w in shifts.tolist())
    return np.array([flat.take(place).mean() for place in places], np.float32)


def _mirrored(
    voxels: Float32[np.ndarray, "d h w"], inside: Offsets, around: Offsets, axis: int
) -> float:
    turned, last = np.arange(3) == axis, voxels.shape[axis] - 1
    within, about = (np.where(turned, last - points, points) for points in (inside, around))
    return float(_contrasts(voxels, within, about, np.zeros((1, 3), np.intp))[0])
