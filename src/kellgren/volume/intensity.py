"""Intensities before they are standardised: bias field, foreground, outliers. All optional."""

import numpy as np
from jaxtyping import Bool, Float32

from kellgren.faults import InputError

# N4 fits a smooth field: every fourth voxel along each axis is enough to see it.
N4_SHRINK = 4
N4_ITERATIONS = (50, 50, 30)
HISTOGRAM_BINS = 256


def n4(voxels: Float32[np.ndarray, "d h w"]) -> Float32[np.ndarray, "d h w"]:
    """Divide out the bias field of the coil by N4 (Tustison et al. 2010), SimpleITK's filter.

    The field is fitted inside `foreground` on every fourth voxel and applied to all.

    Raises:
        InputError: If SimpleITK is not installed.
    """
    try:
        import SimpleITK as sitk
    except ModuleNotFoundError:
        raise InputError(
            "preparation.bias_correction",
            "no SimpleITK",
            "the package that holds the N4 filter",
            'pip install "kellgren[n4]"',
        ) from None
    steps = [max(1, min(N4_SHRINK, n // 8)) for n in voxels.shape]
    coarse = voxels[:: steps[0], :: steps[1], :: steps[2]]
    inside = sitk.GetImageFromArray(foreground(coarse).astype(np.uint8))
    image = sitk.GetImageFromArray(np.maximum(coarse, 1e-3))
    fit = sitk.N4BiasFieldCorrectionImageFilter()
    fit.SetMaximumNumberOfIterations(N4_ITERATIONS)
    fit.SetNumberOfThreads(1)  # the sums, and so the bits, depend on the number of threads
    fit.Execute(image, inside)
    full = sitk.GetImageFromArray(voxels)
    full.SetSpacing([1 / step for step in reversed(steps)])
    # Voxel 0 of the coarse grid is voxel 0 of the full one, so both start at the same origin.
    field = sitk.GetArrayFromImage(fit.GetLogBiasFieldAsImage(full))
    corrected: Float32[np.ndarray, "d h w"] = voxels / np.exp(field.astype(np.float32))
    return corrected


def foreground(voxels: Float32[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    """Voxels above Otsu's threshold (1979), which here parts tissue from air.

    >>> foreground(np.array([[[0.0, 1.0, 9.0, 10.0]]], dtype=np.float32)).ravel().tolist()
    [False, False, True, True]
    """
    counts, edges = np.histogram(voxels, bins=HISTOGRAM_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(counts), counts.sum()
    weight = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = weight / below - (weight[-1] - weight) / (total - below)
        between = np.nan_to_num(below * (total - below) * apart**2)
    # The same value holds across an empty valley; its middle is the threshold.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return voxels > (edges[best[0] + 1] + edges[best[-1] + 1]) / 2


def clipped(
    voxels: Float32[np.ndarray, "d h w"], percentiles: tuple[float, float]
) -> Float32[np.ndarray, "d h w"]:
    """Values beyond two percentiles are set to them.

    >>> clipped(np.arange(101, dtype=np.float32).reshape(1, 1, 101), (1, 99)).max()
    np.float32(99.0)
    """
    low, high = np.percentile(voxels, percentiles)
    return np.clip(voxels, np.float32(low), np.float32(high))
