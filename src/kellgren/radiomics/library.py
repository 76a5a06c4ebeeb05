"""What PyRadiomics measures in the regions of one knee: arrays in, numbers out.

The features are PyRadiomics' own (van Griethuysen et al. 2017), from whichever distribution
supplies the package `radiomics`; none is computed here.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Num, UInt8
from scipy import ndimage

from kellgren.cohort import Case
from kellgren.faults import InputError
from kellgren.volume import read_mask, read_scan, zscore

Millimetres = tuple[float, float, float]
Regions = dict[str, dict[str, float]]

LABELS = (1, 2, 3, 4, 5)
CLASSES = ("firstorder", "glcm", "gldm", "glrlm", "glszm", "ngtdm", "shape")
# Voxels kept around a region. PyRadiomics itself looks at nothing beyond the region's own box.
MARGIN = 5
# PyRadiomics' defaults, spelled out so that another distribution of it cannot change them.
SETTINGS: dict[str, Any] = {
    "normalize": False,
    "resampledPixelSpacing": None,
    "force2D": False,
    "distances": [1],
    "symmetricalGLCM": True,
    "voxelArrayShift": 0,
    "label": 1,
    "additionalInfo": False,
}


@dataclass(frozen=True)
class Pool:
    """How the intensities of a pool of features are scaled and binned.

    Attributes:
        bins: PyRadiomics' setting of the bins.
        zscored: Whether the whole scan is z-scored first.
    """

    bins: Mapping[str, int]
    zscored: bool


POOLS = {
    "published": Pool({"binWidth": 25}, zscored=False),
    "mr": Pool({"binCount": 32}, zscored=True),
}
"""The pool that Chen et al. released; and one for units that differ from scanner to scanner."""


@dataclass(frozen=True)
class Recipe:
    """What is measured: the features of a pool in each region of the label map.

    Attributes:
        pool: A name in `POOLS`.
        labels: Labels of the regions.
    """

    pool: str = "published"
    labels: tuple[int, ...] = LABELS

    @property
    def settings(self) -> dict[str, Any]:
        """What PyRadiomics is told."""
        return {**SETTINGS, **POOLS[self.pool].bins}

    def record(self) -> dict[str, Any]:
        """Everything on which the numbers depend but the files, as a JSON object.

        Raises:
            InputError: If PyRadiomics is not installed.
        """
        return {
            "pool": self.pool,
            "image": "original" + (", z-scored over the scan" if POOLS[self.pool].zscored else ""),
            "classes": list(CLASSES),
            "settings": self.settings,
            "labels": list(self.labels),
            "margin_voxels": MARGIN,
            "axes": "x right, y front, z up",
            "library": library(),
        }

    def measure(self, case: Case) -> Regions:
        """Features of each region that the knee's label map holds, by region and name.

        An absent region has no entry; a feature that is not defined is NaN.

        Raises:
            InputError: If scan or label map cannot be used, no region is there, or PyRadiomics
                refuses one, such as a region of a single voxel.
        """
        scan, path = read_scan(case.image), case.segmentation
        assert path is not None  # looked at before
        labels = read_mask(path, like=scan).labels
        voxels = zscore(scan.voxels) if POOLS[self.pool].zscored else scan.voxels
        boxes = ndimage.find_objects(labels, max_label=max(self.labels))
        regions: Regions = {}
        for label in self.labels:
            if boxes[label - 1] is not None:
                cut = _around(boxes[label - 1], labels)
                where = f"{path}, label {label}"
                region = labels[cut] == label
                regions[f"roi_{label}"] = self.features(voxels[cut], region, scan.spacing_mm, where)
        if not regions:
            found = f"the labels {np.unique(labels).tolist()}"
            raise InputError(str(path), found, f"one of {list(self.labels)}", "see --labels")
        return regions

    def features(
        self,
        voxels: Float32[np.ndarray, "d h w"],
        region: Bool[np.ndarray, "d h w"],
        spacing_mm: Millimetres,
        where: str,
    ) -> dict[str, float]:
        """The 107 features of one region, sorted by name as in the released tables.

        PyRadiomics is given the axes of the released scans: x to the right, y to the front, z up.
        Texture does not depend on them; the mesh and the diameters within a plane do.

        Raises:
            InputError: If PyRadiomics refuses the region; `where` says which it is.
        """
        images = [_image(values, spacing_mm) for values in (voxels, region.astype(np.uint8))]
        try:
            found = _executed(self.settings, *images)
        except (ValueError, RuntimeError) as error:
            raise InputError(
                where,
                f"a region that PyRadiomics refuses ({error})",
                "a region with a surface",
                "correct the label map",
            ) from error
        return {name: float(found[name]) for name in sorted(found)}


def library() -> dict[str, str]:
    """Name and version of the distribution that supplies the package `radiomics`.

    Raises:
        InputError: If none is installed.
    """
    try:
        import radiomics
    except ImportError as error:
        raise InputError(
            "radiomics extract",
            f"no PyRadiomics ({error})",
            "the package `radiomics`, which computes the features",
            'pip install "kellgren[radiomics]", which needs a C compiler',
        ) from None
    name = packages_distributions().get("radiomics", ["radiomics"])[0]
    known = name != "radiomics"
    return {"name": name, "version": version(name) if known else radiomics.__version__}


def _around(box: tuple[slice, ...], labels: UInt8[np.ndarray, "d h w"]) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, part.start - MARGIN), min(n, part.stop + MARGIN))
        for part, n in zip(box, labels.shape, strict=True)
    )


def _image(values: Num[np.ndarray, "d h w"], spacing_mm: Millimetres) -> object:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # as many processes as were asked for
    image = sitk.GetImageFromArray(np.ascontiguousarray(values[:, ::-1, ::-1].transpose(1, 2, 0)))
    d, h, w = spacing_mm
    image.SetSpacing((d, w, h))
    return image


def _executed(settings: dict[str, Any], image: object, region: object) -> Mapping[str, Any]:
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    logging.getLogger("radiomics").setLevel(logging.ERROR)
    extractor = RadiomicsFeatureExtractor(**settings)
    extractor.disableAllFeatures()
    for name in CLASSES:
        extractor.enableFeatureClassByName(name)
    found: Mapping[str, Any] = extractor.execute(image, region)
    return found
