"""From tissues to voxels: partial volume, receive coil, gain and noise."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16, UInt8

from kellgren.phantom.anatomy import SPINE_X
from kellgren.phantom.lattice import LATTICE_MM, Box, Field, Lattice, Taps, sample
from kellgren.phantom.tissue import Tissues

FLUID, MENISCUS, CORTEX = 280.0, 26.0, 14.0
# Cartilage next to bone, and what each mm toward the joint adds.
DEEP_CARTILAGE, PER_MM = 143.0, 47.0
NOISE_SD = 10.0
GAIN_SD = 0.11
BLUR_MM = 0.55
SLAB_VOXELS = 200_000


@dataclass(frozen=True)
class Canvas:
    """Voxels that are painted tissue by tissue.

    Attributes:
        image: Intensity without noise.
        labels: Labels of the segmentation.
        taps: Which lattice points surround the voxels, along each axis.
        edge: Width of the blur at the border of a tissue, mm.
    """

    image: Float[np.ndarray, "i j k"]
    labels: UInt8[np.ndarray, "i j k"]
    taps: tuple[Taps, Taps, Taps]
    edge: float

    @classmethod
    def blank(
        cls,
        sizes: tuple[int, int, int],
        spacing: tuple[float, float, float],
        lattice: Lattice,
    ) -> "Canvas":
        """An empty canvas of that many voxels over the field of view of a lattice."""
        taps = [
            Taps.of(centres(n, s), start)
            for n, s, start in zip(sizes, spacing, lattice.starts, strict=True)
        ]
        return cls(
            np.empty(sizes, np.float32),
            np.zeros(sizes, np.uint8),
            (taps[0], taps[1], taps[2]),
            max(BLUR_MM, spacing[1]),
        )

    def slabs(self, body: Field | None = None) -> Iterator[Box]:
        """Boxes small enough for the cache that cover a body, or everything."""
        box = self._box(body)
        if any(side.start >= side.stop for side in box):
            return
        plane = (box[1].stop - box[1].start) * (box[2].stop - box[2].start)
        step = max(1, SLAB_VOXELS // plane)
        for start in range(box[0].start, box[0].stop, step):
            yield slice(start, min(start + step, box[0].stop)), box[1], box[2]

    def _box(self, body: Field | None) -> Box:
        if body is None:
            sides = [slice(0, n) for n in self.image.shape]
        else:
            inside = body < self.edge
            flat = [inside.any(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
            points = [np.flatnonzero(line) for line in flat]
            sides = [
                taps.reached(slice(int(p[0]), int(p[-1]) + 1)) if len(p) else slice(0, 0)
                for taps, p in zip(self.taps, points, strict=True)
            ]
        return sides[0], sides[1], sides[2]

    def share(self, distance: Field) -> Field:
        """Share of each voxel that lies inside a body."""
        return np.clip(np.float32(0.5) - distance * np.float32(1 / self.edge), 0, 1)


def render(
    tissue: Tissues,
    lattice: Lattice,
    sizes: tuple[int, int, int],
    spacing: tuple[float, float, float],
    *,
    rng: np.random.Generator,
) -> tuple[Int16[np.ndarray, "d w h"], UInt8[np.ndarray, "d w h"], UInt8[np.ndarray, "d w h"]]:
    """Image and labels of a knee, and where the signs of the disease lie, see `SIGNS`.

    Slices thicker than the lattice are the mean of an odd number of thinner ones; labels and signs
    are those at the centre of the voxel.

    Args:
        tissue: The knee on a lattice.
        lattice: That lattice.
        sizes: Number of voxels along each axis.
        spacing: Size of a voxel along each axis, mm.
        rng: Source of noise, gain and the place of the coil.
    """
    fine = 2 * round((spacing[0] / LATTICE_MM - 1) / 2) + 1 if spacing[0] > LATTICE_MM else 1
    fine_sizes = (sizes[0] * fine, sizes[1], sizes[2])
    canvas = Canvas.blank(fine_sizes, (spacing[0] / fine, spacing[1], spacing[2]), lattice)
    _paint(canvas, tissue)
    image = canvas.image
    if fine > 1:
        image = image.reshape(sizes[0], fine, *sizes[1:]).mean(axis=1)
    signs = _signs(Canvas.blank(sizes, spacing, lattice), tissue)
    return _receive(image, spacing, rng), canvas.labels[fine // 2 :: fine].copy(), signs


def centres(n: int, spacing: float) -> Float[np.ndarray, " _"]:
    """Centres of n voxels, in mm from the centre of the field of view."""
    return (np.arange(n) - (n - 1) / 2) * spacing


def _paint(canvas: Canvas, tissue: Tissues) -> None:
    for box in canvas.slabs():
        canvas.image[box] = sample(tissue.soft, canvas.taps, box)
    for body, tone in ((tissue.fluid, FLUID), (tissue.meniscus, MENISCUS)):
        for box in canvas.slabs(body):
            part = canvas.image[box]
            part += canvas.share(sample(body, canvas.taps, box)) * (np.float32(tone) - part)
    for bone, covered, label in (
        (tissue.fibula, None, 0),
        (tissue.patella, tissue.patellar, 0),
        (tissue.femur, tissue.femoral, 1),
        (tissue.tibia, tissue.tibial, 3),
    ):
        _paint_bone(canvas, tissue, bone, covered, label)
    _tell_sides(canvas, tissue)


def _paint_bone(
    canvas: Canvas, tissue: Tissues, bone: Field, covered: Field | None, label: int
) -> None:
    """Paint a bone and its cartilage, whose label is the bone's plus one; label 0 is unlabelled."""
    for box in canvas.slabs(bone if covered is None else covered):
        image, labels = canvas.image[box], canvas.labels[box]
        inner = sample(bone, canvas.taps, box)
        if covered is not None:
            outer = sample(covered, canvas.taps, box)
            tone = inner * np.float32(PER_MM)
            tone += sample(tissue.grain, canvas.taps, box) * np.float32(18)
            tone += np.float32(DEEP_CARTILAGE)
            image += canvas.share(outer) * (tone - image)
            if label:
                labels[outer < 0] = label + 1
        marrow = sample(tissue.marrow, canvas.taps, box)
        marrow += np.clip(inner * np.float32(1 / 1.1) + 1, 0, 1) * (np.float32(CORTEX) - marrow)
        image += canvas.share(inner) * (marrow - image)
        if label:
            labels[inner < 0] = label


def _tell_sides(canvas: Canvas, tissue: Tissues) -> None:
    """Tell the lateral tibial cartilage (5) from the medial one (4)."""
    for box in canvas.slabs(tissue.tibial):
        labels = canvas.labels[box]
        labels[(labels == 4) & (sample(tissue.across, canvas.taps, box) > SPINE_X)] = 5


def _signs(canvas: Canvas, tissue: Tissues) -> UInt8[np.ndarray, "d w h"]:
    bones = np.minimum(tissue.femur, tissue.tibia)
    for box in canvas.slabs(np.minimum(bones, tissue.thinned)):
        labels = canvas.labels[box]
        bone = sample(bones, canvas.taps, box) < 0
        labels[~bone & (sample(tissue.thinned, canvas.taps, box) < 0)] = 1
        labels[bone & (sample(tissue.bare, canvas.taps, box) >= 0)] = 2
        labels[bone & (labels == 0) & (sample(tissue.spots, canvas.taps, box) < 0)] = 3
    return canvas.labels


def _receive(
    image: Float[np.ndarray, "d w h"],
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
) -> Int16[np.ndarray, "d w h"]:
    """Gain of the scanner, fall-off of the coil, and the noise of a magnitude image."""
    d, w, h = image.shape
    y, z = centres(w, spacing[1])[:, None], centres(h, spacing[2])
    along = np.exp(-0.5 * ((z - rng.normal(0, 6)) / 70) ** 2)
    field = np.exp(rng.normal(0, GAIN_SD)) * along * (1 - 0.0015 * (y - rng.normal(0, 10)))
    field = field.astype(np.float32)
    received = np.empty((d, w, h), np.int16)
    step = max(1, SLAB_VOXELS // (w * h))
    for start in range(0, d, step):
        clean = image[start : start + step] * field
        noise = rng.standard_normal((2, *clean.shape), dtype=np.float32)
        noise *= np.float32(NOISE_SD)
        noise[0] += clean
        noise *= noise
        received[start : start + step] = np.rint(np.sqrt(noise[0] + noise[1]))
    return received
