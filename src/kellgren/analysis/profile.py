"""Where saliency lies when it misses: distance to cartilage, and the tissues that hold it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt

EDGES_MM = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True)
class Ring:
    """The voxels at some distance from cartilage.

    Attributes:
        beyond_mm: Distance that they are farther than; the first ring is the cartilage itself.
        up_to_mm: Largest distance; infinite for the last ring.
        mass: Share of the saliency that lies there; NaN where there is no saliency.
        volume: Share of the voxels, what a map that looks nowhere would give.
    """

    beyond_mm: float
    up_to_mm: float
    mass: float
    volume: float


@dataclass(frozen=True)
class Region:
    """One tissue or compartment.

    Attributes:
        name: Name of the region.
        mass: Share of the saliency that lies in it; NaN where there is no saliency.
        volume: Share of the voxels that are of it.
        enrichment: Mass over volume, 1 at chance; NaN where the region is empty.
    """

    name: str
    mass: float
    volume: float
    enrichment: float


def distance_profile(
    saliency: Float[np.ndarray, "d h w"],
    cartilage: Bool[np.ndarray, "d h w"],
    *,
    spacing_mm: tuple[float, float, float],
    edges_mm: Sequence[float] = EDGES_MM,
) -> list[Ring]:
    """Share of the saliency by distance to the nearest voxel of cartilage, near misses apart.

    Args:
        saliency: At least 0.
        cartilage: True inside cartilage; without any there is no ring.
        spacing_mm: Distance of neighbouring voxels along each axis.
        edges_mm: Upper ends of the rings, rising from 0.
    """
    if not cartilage.any():
        return []
    distance = distance_transform_edt(~cartilage, sampling=spacing_mm)
    ring = np.searchsorted(np.asarray(edges_mm), distance.ravel(), side="left")
    mass = np.bincount(ring, weights=saliency.ravel(), minlength=len(edges_mm) + 1)
    voxels = np.bincount(ring, minlength=len(edges_mm) + 1)
    total = mass.sum() or np.nan
    beyond, up_to = (0.0, *edges_mm), (*edges_mm, np.inf)
    return [
        Ring(float(a), float(b), float(m / total), float(v / saliency.size))
        for a, b, m, v in zip(beyond, up_to, mass, voxels, strict=True)
    ]


def mean_distance(
    saliency: Float[np.ndarray, "d h w"],
    cartilage: Bool[np.ndarray, "d h w"],
    *,
    spacing_mm: tuple[float, float, float],
) -> float:
    """Mean distance of the saliency to the nearest cartilage, in mm; NaN without either."""
    total = float(saliency.sum(dtype=np.float64))
    if not cartilage.any() or not total:
        return float("nan")
    distance = distance_transform_edt(~cartilage, sampling=spacing_mm)
    return float((distance * saliency).sum() / total)


def regions(
    saliency: Float[np.ndarray, "d h w"],
    labels: Int[np.ndarray, "d h w"],
    *,
    names: Mapping[str, Sequence[int]],
) -> list[Region]:
    """Share of the saliency in each region, and in what no region names, called "background".

    Args:
        saliency: At least 0.
        labels: Label map on the same grid.
        names: Labels of each region, such as {"bone": (1, 3), "femoral cartilage": (2,)}.
    """
    size = int(labels.max()) + 1
    mass = np.bincount(labels.ravel(), weights=saliency.ravel(), minlength=size)
    voxels = np.bincount(labels.ravel(), minlength=size)
    named = {label for group in names.values() for label in group}
    rest = [label for label in range(size) if label not in named]
    total = mass.sum() or np.nan
    found = []
    for name, group in (*names.items(), ("background", rest)):
        inside = [label for label in group if label < size]
        share = float(mass[inside].sum() / total)
        volume = float(voxels[inside].sum() / labels.size)
        found.append(Region(name, share, volume, share / volume if volume else float("nan")))
    return found
