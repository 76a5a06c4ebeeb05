"""Whether the voxels of a scan look like a knee: what a reader cannot refuse but a person would."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from kellgren.inspection.finding import Finding
from kellgren.volume import foreground, moments

OUTLIER_SD = 1000.0
# Neighbours in a DESS scan correlate at 0.9 and more; noise has 0, a checkerboard -1.
LEAST_COHERENCE = 0.3
# A scan has hundreds of grey values; a label map a handful.
FEWEST_VALUES = 17
WRAP = 1 << 15
LARGEST = 1e6

Found = tuple[str, str, str, str, str]  # severity, kind, found, needed, todo


def scan_findings(
    voxels: Float32[np.ndarray, "d h w"], *, case_id: str, where: str
) -> list[Finding]:
    """Findings on the voxels of a scan in the frame, which is finite and not constant."""
    tests = (
        _labels,
        _scale,
        _outlier,
        _wrapped,
        _empty_slices,
        _double_slices,
        _incoherent,
        _inverted,
    )
    return [
        Finding(severity, kind, case_id, where, found, needed, todo)
        for test in tests
        for severity, kind, found, needed, todo in test(voxels)
    ]


def coherence(voxels: Float32[np.ndarray, "d h w"]) -> float:
    """Correlation of neighbouring voxels within slices, over every eighth slice.

    >>> checkerboard = (np.indices((1, 8, 8)).sum(axis=0) % 2).astype(np.float32)
    >>> coherence(checkerboard)
    -1.0
    """
    some = voxels[:: max(1, min(8, len(voxels) // 4))].astype(np.float64)
    some = some - some.mean()
    pairs = ((some[:, 1:], some[:, :-1]), (some[:, :, 1:], some[:, :, :-1]))
    power = float((some * some).mean())
    return min(float((a * b).mean()) for a, b in pairs) / power if power else 0.0


def _labels(voxels: Float32[np.ndarray, "d h w"]) -> Iterator[Found]:
    values = np.unique(voxels[::4, ::4, ::4])
    if len(values) < FEWEST_VALUES:
        values = np.unique(voxels)
    if len(values) < FEWEST_VALUES and np.array_equal(values, np.round(values)):
        found = f"only the values {', '.join(f'{v:g}' for v in values)}"
        yield "error", "label-map", found, "a scan, not a label map", "correct the column image"


def _scale(voxels: Float32[np.ndarray, "d h w"]) -> Iterator[Found]:
    peak = float(np.abs(voxels[::2, ::2, ::2]).max())
    if not 1 <= peak <= LARGEST:
        found = f"intensities up to {peak:.3g}"
        needed, todo = f"1 to {LARGEST:g}, as scanners write", "check the scale in the header"
        yield "warning", "scale", found, needed, todo


def _outlier(voxels: Float32[np.ndarray, "d h w"]) -> Iterator[Found]:
    mean, sd = moments(voxels)
    peak = max(float(voxels.max()) - mean, mean - float(voxels.min()))
    if peak > OUTLIER_SD * sd:
        found = f"a voxel {peak / sd:.0f} standard deviations from the mean"
        todo = "repair the voxel, or export the scan again"
        yield "error", "outlier", found, f"at most {OUTLIER_SD:g}", todo


def _wrapped(voxels: Float32[np.ndarray, "d h w"]) -> Iterator[Found]:
    """Bright values cast to 16 bits with a sign become negative: neighbours 2**15 apart."""
    if float(voxels.min()) >= 0 or float(np.ptp(voxels)) < WRAP:
        return
    jumps = sum(int(np.count_nonzero(np.abs(np.diff(slice_, axis=1)) > WRAP)) for slice_ in voxels)
    if jumps:
        found = f"{jumps} neighbours more than {WRAP} apart, some negative"
        todo = "export the scan again as unsigned or 32-bit"
        yield "error", "wrapped", found, "intensities that did not wrap round", todo


def _empty_slices(voxels: Float32[np.ndarray, "d h w"]) -> Iterator[Found]:
    empty = sum(float(slice_.min()) == float(slice_.max()) for slice_ in voxels)
    if empty:
        severity = "error" if empty > len(voxels) / 2 else "warning"
        found = f"{empty} of {len(voxels)} slices with one value throughout"
        yield severity, "empty-slices", found, "a knee in every slice", "export the scan again"


def _double_slices(voxels: Float32[np.ndarray, "d h w"]) -> Iterator[Found]:
    twice = [
        n
        for n in range(1, len(voxels))
        if voxels[n, 0, 0] == voxels[n - 1, 0, 0]
        and float(voxels[n].min()) != float(voxels[n].max())
        and np.array_equal(voxels[n], voxels[n - 1])
    ]
    if twice:
        found = f"{len(twice)} slices that repeat the one before, the first at {twice[0]}"
        yield "error", "double-slices", found, "each slice once", "export the scan again"


def _incoherent(voxels: Float32[np.ndarray, "d h w"]) -> Iterator[Found]:
    value = coherence(voxels)
    if value < LEAST_COHERENCE:
        found = f"neighbouring voxels that correlate at {value:.2f}"
        needed = f"anatomy (at least {LEAST_COHERENCE:g})"
        yield "warning", "no-anatomy", found, needed, "look at the scan"


def _inverted(voxels: Float32[np.ndarray, "d h w"]) -> Iterator[Found]:
    """Air lies in the corners of a knee scan, and is dark."""
    some = voxels[::2, ::4, ::4]
    bright = foreground(some)
    d, h, w = (max(1, n // 10) for n in some.shape)
    corners = np.concatenate(
        [bright[i, j, k].ravel() for i in _ends(d) for j in _ends(h) for k in _ends(w)]
    )
    if corners.mean() > 0.9 and bright.mean() > 0.5 and coherence(voxels) >= LEAST_COHERENCE:
        found = "corners brighter than most of the scan"
        yield "warning", "inverted", found, "dark air around the knee", "look at the scan"


def _ends(n: int) -> tuple[slice, slice]:
    return slice(None, n), slice(-n, None)
