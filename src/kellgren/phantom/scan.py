"""A synthetic scan: field of view, how the knee lies in it, and the affine of the file."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16, UInt8

from kellgren.phantom.lattice import Lattice, Pose
from kellgren.phantom.render import render
from kellgren.phantom.severity import draw_disease
from kellgren.phantom.shape import draw_shape
from kellgren.phantom.tissue import tissues

# Slices and rows of the smallest and the real grid; their fields of view across and within a
# slice, mm; and the centre of the latter in the frame of the mean knee, mm.
SMALL_GRID, FULL_GRID = (24, 48), (160, 384)
SMALL_FOV, FULL_FOV = (100.0, 56.0), (112.0, 140.0)
SMALL_CENTRE, FULL_CENTRE = (-2.0, 4.0, 11.0), (-3.0, 6.8, 16.4)
# Between-knee deviation of that place, mm, along x, y and z.
SMALL_JITTER, FULL_JITTER = (2.5, 2.0, 2.0), (3.0, 4.0, 6.5)
TURN_SD = (2.0, 2.0, 2.5)
OBLIQUE_SD = 4.0


@dataclass(frozen=True)
class Knee:
    """A synthetic scan in the orientation of the files: toward right, front and head (RAS+).

    Attributes:
        image: Raw intensities.
        labels: 1 femur, 2 femoral cartilage, 3 tibia, 4 medial and 5 lateral tibial cartilage.
        signs: Where the signs of the disease lie, see `kellgren.phantom.severity.SIGNS`.
        affine: From voxel indices to world coordinates in mm.
        spacing: Size of a voxel along the three axes, mm.
    """

    image: Int16[np.ndarray, "d w h"]
    labels: UInt8[np.ndarray, "d w h"]
    signs: UInt8[np.ndarray, "d w h"]
    affine: Float[np.ndarray, "4 4"]
    spacing: tuple[float, float, float]


def make_knee(
    severity: float,
    *,
    grid: tuple[int, int, int],
    rng: np.random.Generator,
    contrast: float,
    male: bool = True,
    bmi: float = 28.0,
    visit: int = 0,
) -> Knee:
    """Make one right knee of a true severity in [0, 5).

    Args:
        severity: True severity; its whole part is the true KL grade.
        grid: Slices, rows and columns. The arrays hold slices, columns, rows.
        rng: Source of randomness. Its children draw person, disease, pose, texture and noise, so
            that the same seed gives the same person in the same pose at any severity.
        contrast: Factor on how strongly severity shows, see `kellgren.phantom.severity.CONTRAST`.
        male: Sex.
        bmi: Body mass index, kg/m2; moves the outline of the leg.
        visit: Visits of one person, from 0, differ in pose and noise. Signs of disease are drawn
            anew at the severity of the visit, from the same stream: how much is lost or grown
            follows severity, while single lesions may move.
    """
    d, h, w = grid
    across, tall, deep = field_of_view(grid)
    sizes, spacing = (d, w, h), (across / d, deep / w, tall / h)
    streams = rng.spawn(5)
    if visit:
        streams[2], streams[4] = rng.spawn(2 * visit)[-2:]
    shape = draw_shape(male=male, bmi=bmi, rng=streams[0])
    disease = draw_disease(severity, shape, contrast=contrast, rng=streams[1])
    lattice = Lattice.over((across, deep, tall), _draw_pose(grid, streams[2]))
    affine = _draw_affine(sizes, spacing, streams[2])
    tissue = tissues(lattice, shape, disease, rng=streams[3])
    image, labels, signs = render(tissue, lattice, sizes, spacing, rng=streams[4])
    return Knee(image, labels, signs, affine, spacing)


def field_of_view(grid: tuple[int, int, int]) -> tuple[float, float, float]:
    """Field of view of a grid (slices, rows, columns), in mm along d, h and w.

    160 x 384 x 384 is the real geometry, 112 x 140 x 140 mm; 24 x 48 x 48 covers the joint alone,
    100 x 56 x 56 mm, so that cartilage stays more than a voxel thick. In between, the field grows
    with the logarithm of the number of slices, and of the geometric mean of rows and columns;
    beyond, it stays. Voxels are square within a slice.

    >>> field_of_view((160, 384, 384)), field_of_view((24, 48, 48))
    ((112.0, 140.0, 140.0), (100.0, 56.0, 56.0))
    """
    d, h, w = grid
    side = float(np.sqrt(h * w))
    across = _between(SMALL_FOV[0], FULL_FOV[0], _share(float(d), SMALL_GRID[0], FULL_GRID[0]))
    voxel = _between(SMALL_FOV[1], FULL_FOV[1], _share(side, SMALL_GRID[1], FULL_GRID[1])) / side
    return across, h * voxel, w * voxel


def _share(value: float, low: int, high: int) -> float:
    return float(np.clip(np.log(value / low) / np.log(high / low), 0, 1))


def _between(low: float, high: float, share: float) -> float:
    return low + share * (high - low)


def _draw_pose(grid: tuple[int, int, int], rng: np.random.Generator) -> Pose:
    share = _share(float(np.sqrt(grid[1] * grid[2])), SMALL_GRID[1], FULL_GRID[1])
    centre = np.add(SMALL_CENTRE, share * np.subtract(FULL_CENTRE, SMALL_CENTRE))
    jitter = np.add(SMALL_JITTER, share * np.subtract(FULL_JITTER, SMALL_JITTER))
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(rng.normal(0, TURN_SD))):
        turn = turn @ _rotation(axis, float(angle))
    return Pose(turn, centre + jitter * rng.normal(0, 1, 3))


def _draw_affine(
    sizes: tuple[int, int, int], spacing: tuple[float, float, float], rng: np.random.Generator
) -> Float[np.ndarray, "4 4"]:
    """Slices that are turned a few degrees about the z axis, as OAI slices are."""
    turn = _rotation(2, float(np.radians(rng.normal(0, OBLIQUE_SD))))
    affine = np.eye(4)
    affine[:3, :3] = turn * np.asarray(spacing)
    centre = (np.asarray(sizes) - 1) / 2
    affine[:3, 3] = rng.normal(0, 8, 3) - affine[:3, :3] @ centre
    return affine


def _rotation(axis: int, angle: float) -> Float[np.ndarray, "3 3"]:
    turn = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[j, i] = np.sin(angle)
    turn[i, j] = -np.sin(angle)
    return turn
