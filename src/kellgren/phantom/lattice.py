"""A coarse lattice of points on which anatomy is evaluated, and how a knee lies in it.

Signed distances are smooth, so they are evaluated every h = 1.6 mm and interpolated linearly to
the voxels: on a sphere of radius r = 20 mm the error along an axis, h^2 / (8 r), is 0.016 mm.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Field = Float[np.ndarray, "i j k"]
Points = Float[np.ndarray, "3 i j k"]
Box = tuple[slice, slice, slice]

LATTICE_MM = 1.6


@dataclass(frozen=True)
class Pose:
    """How the knee lies in the scanner.

    Attributes:
        turn: Rotation from the scanner to the frame of the knee.
        shift: Place of the centre of the field of view, in the frame of the knee, mm.
    """

    turn: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, " 3"]


@dataclass(frozen=True)
class Lattice:
    """Points that cover a field of view with one point to spare on every side.

    Attributes:
        starts: First point along each axis, mm from the centre of the field of view.
        sizes: Number of points along each axis.
        pose: How the knee lies.
    """

    starts: tuple[float, float, float]
    sizes: tuple[int, int, int]
    pose: Pose

    @classmethod
    def over(cls, fov: tuple[float, float, float], pose: Pose) -> "Lattice":
        """The lattice over a field of view of that many mm along each axis."""
        starts = tuple(-side / 2 - LATTICE_MM for side in fov)
        sizes = tuple(int(np.ceil(side / LATTICE_MM)) + 3 for side in fov)
        return cls((starts[0], starts[1], starts[2]), (sizes[0], sizes[1], sizes[2]), pose)

    def points(self) -> Points:
        """Where the points are, in the frame of the knee, mm."""
        axes = [s + LATTICE_MM * np.arange(n) for s, n in zip(self.starts, self.sizes, strict=True)]
        x, y, z = np.ix_(*(axis.astype(np.float32) for axis in axes))
        turn, shift = self.pose.turn.astype(np.float32), self.pose.shift.astype(np.float32)
        return np.stack(
            [turn[i, 0] * x + turn[i, 1] * y + turn[i, 2] * z + shift[i] for i in range(3)]
        )

    def around(self, place: Float[np.ndarray, " 3"], reach: float) -> Box:
        """The points within `reach` mm of a place along every axis; none where it is outside."""
        centre = self.pose.turn.T @ (place - self.pose.shift)
        first = np.ceil((centre - reach - self.starts) / LATTICE_MM).astype(int)
        last = np.floor((centre + reach - self.starts) / LATTICE_MM).astype(int)
        sides = [slice(max(a, 0), max(b + 1, 0)) for a, b in zip(first, last, strict=True)]
        return sides[0], sides[1], sides[2]


@dataclass(frozen=True)
class Taps:
    """Which lattice points surround the voxels of one axis.

    Attributes:
        low: The point before each voxel.
        part: How far the voxel is on the way to the next point, 0 to 1.
    """

    low: Int[np.ndarray, " _"]
    part: Float[np.ndarray, " _"]

    @classmethod
    def of(cls, centres: Float[np.ndarray, " _"], start: float) -> "Taps":
        """The taps of voxel centres, in mm from the centre of the field of view."""
        place = (centres - start) / LATTICE_MM
        low = np.floor(place).astype(np.int64)
        return cls(low, (place - low).astype(np.float32))

    def blend(
        self, field: Float[np.ndarray, "..."], axis: int, voxels: slice
    ) -> Float[np.ndarray, "..."]:
        """Interpolate a field linearly along one axis to the given voxels."""
        low, shape = self.low[voxels], [1, 1, 1]
        shape[axis] = len(low)
        before = field.take(low, axis)
        after = field.take(low + 1, axis)
        after -= before
        after *= self.part[voxels].reshape(shape)
        after += before
        return after

    def reached(self, points: slice) -> slice:
        """The voxels that need one of the given lattice points."""
        first = np.searchsorted(self.low, points.start - 1)
        return slice(int(first), int(np.searchsorted(self.low, points.stop)))


def sample(field: Field, taps: tuple[Taps, Taps, Taps], box: Box) -> Float[np.ndarray, "d w h"]:
    """Interpolate a field trilinearly to a box of voxels."""
    i = taps[0].low[box[0]]
    near = field[i[0] : i[-1] + 2]
    near = taps[2].blend(near, 2, box[2])
    near = taps[1].blend(near, 1, box[1])
    return Taps(taps[0].low - i[0], taps[0].part).blend(near, 0, box[0])
