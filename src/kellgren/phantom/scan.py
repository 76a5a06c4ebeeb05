"""How a synthetic knee is scanned: field of view, pose, partial volume, coil and noise."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16, UInt8

from kellgren.phantom.anatomy import Tissues, draw_shape, tissues
from kellgren.phantom.severity import draw_disease

SMALL_GRID, FULL_GRID = (24, 48), (160, 384)
SMALL_FOV, FULL_FOV = (100.0, 56.0), (112.0, 140.0)
# Centre of the field of view in the frame of the mean knee.
SMALL_CENTRE, FULL_CENTRE = (-2.0, 3.0, 10.0), (-2.0, 6.8, 16.4)
LATTICE = 1.6
NOISE = 11.0


@dataclass(frozen=True)
class Knee:
    """A synthetic scan in the orientation of the files: toward right, front and head (RAS+).

    Attributes:
        image: Raw intensities.
        labels: 1 femur, 2 femoral cartilage, 3 tibia, 4 medial and 5 lateral tibial cartilage.
        affine: From voxel indices to world coordinates in mm.
        spacing: Size of a voxel along the three axes, mm.
    """

    image: Int16[np.ndarray, "d w h"]
    labels: UInt8[np.ndarray, "d w h"]
    affine: Float[np.ndarray, "4 4"]
    spacing: tuple[float, float, float]


def field_of_view(grid: tuple[int, int, int]) -> tuple[float, float, float]:
    """Field of view of a grid (slices, rows, columns), in mm along d, h and w.

    160 x 384 x 384 is the real geometry, 112 x 140 x 140 mm; 24 x 48 x 48 covers the joint alone,
    100 x 56 x 56 mm, so that cartilage stays about a voxel thick. In between, the field grows with
    the logarithm of the number of slices, and of the geometric mean of rows and columns; beyond, it
    stays. Voxels are square within a slice.

    >>> field_of_view((160, 384, 384)), field_of_view((24, 48, 48))
    ((112.0, 140.0, 140.0), (100.0, 56.0, 56.0))
    """
    d, h, w = grid
    across = _between(d, SMALL_GRID[0], FULL_GRID[0])
    within = _between(np.sqrt(h * w), SMALL_GRID[1], FULL_GRID[1])
    side = SMALL_FOV[1] + within * (FULL_FOV[1] - SMALL_FOV[1])
    voxel = side / np.sqrt(h * w)
    return (
        float(SMALL_FOV[0] + across * (FULL_FOV[0] - SMALL_FOV[0])),
        float(h * voxel),
        float(w * voxel),
    )


def make_knee(
    severity: float,
    *,
    grid: tuple[int, int, int],
    rng: np.random.Generator,
    contrast: float,
    male: bool = True,
    bmi: float = 28.0,
) -> Knee:
    """Make one right knee of a true severity in [0, 5).

    Args:
        severity: True severity; its whole part is the true KL grade.
        grid: Slices, rows and columns. The arrays are stored as slices, columns, rows.
        rng: Source of randomness.
        contrast: Factor on how strongly severity shows, see `CONTRAST`.
        male: Sex.
        bmi: Body mass index, kg/m2; moves the outline of the leg.
    """
    d, h, w = grid
    fov = field_of_view(grid)
    spacing = (fov[0] / d, fov[2] / w, fov[1] / h)
    shape = draw_shape(male=male, bmi=bmi, rng=rng)
    disease = draw_disease(severity, shape, contrast=contrast, rng=rng)
    turn, shift = _pose(grid, rng)
    axes = [_lattice_axis(n, s) for n, s in zip((d, w, h), spacing, strict=True)]
    point = _knee_frame(axes, turn, shift)
    lattice = tissues(point, shape, disease, spacing=LATTICE, rng=rng)
    image, labels = _render(lattice, axes, (d, w, h), spacing, turn, shift, rng)
    return Knee(image, labels, _affine((d, w, h), spacing, rng), spacing)


def _between(value: float, low: float, high: float) -> float:
    return float(np.clip(np.log(value / low) / np.log(high / low), 0, 1))


def _pose(
    grid: tuple[int, int, int], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """Rotation and position of the knee in the field of view."""
    share = _between(np.sqrt(grid[1] * grid[2]), SMALL_GRID[1], FULL_GRID[1])
    centre = np.asarray(SMALL_CENTRE) + share * np.subtract(FULL_CENTRE, SMALL_CENTRE)
    jitter = rng.normal(0, 1, 3) * np.array([2.5, 2.0 + 1.5 * share, 2.2 + 4.0 * share])
    a, b, c = np.radians(rng.normal(0, (2.0, 2.0, 2.5), 3))
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rx @ ry @ rz, centre + jitter


def _lattice_axis(n: int, spacing: float) -> Float[np.ndarray, " _"]:
    half = n * spacing / 2
    return (np.arange(int(2 * half / LATTICE) + 3) * LATTICE - half - LATTICE / 2).astype(
        np.float32
    )


def _knee_frame(
    axes: list[Float[np.ndarray, " _"]],
    turn: Float[np.ndarray, "3 3"],
    shift: Float[np.ndarray, " 3"],
) -> Float[np.ndarray, "3 _ _ _"]:
    x, y, z = np.ix_(*axes)
    t = turn.astype(np.float32)
    return np.stack(
        [np.float32(shift[i]) + t[i, 0] * x + t[i, 1] * y + t[i, 2] * z for i in range(3)]
    )


def _taps(at: Float[np.ndarray, " _"], axis: Float[np.ndarray, " _"]):
    place = (at - axis[0]) / LATTICE
    low = np.clip(np.floor(place).astype(np.int64), 0, len(axis) - 2)
    return low, (place - low).astype(np.float32)


def _centres(n: int, spacing: float) -> Float[np.ndarray, " _"]:
    return (np.arange(n) - (n - 1) / 2) * spacing


def _render(lattice, axes, sizes, spacing, turn, shift, rng):
    fine = int(2 * np.ceil((spacing[0] / 1.5 - 1) / 2) + 1) if spacing[0] > 1.5 else 1
    fields = np.stack(list(vars(lattice).values()))
    d, w, h = sizes
    image = np.empty(sizes, np.float32)
    labels = np.empty(sizes, np.uint8)
    slab = max(1, 400_000 // (w * h * fine))
    xs = _centres(d * fine, spacing[0] / fine)
    row, row_part = _taps(_centres(w, spacing[1]), axes[1])
    col, col_part = _taps(_centres(h, spacing[2]), axes[2])
    tone = {
        "cartilage": 200.0,
        "fluid": 265.0,
        "meniscus": 30.0,
    }
    for start in range(0, d, slab):
        stop = min(start + slab, d)
        at, part = _taps(xs[start * fine : stop * fine], axes[0])
        block = fields[:, at[0] : at[-1] + 2]
        block = block[..., col] + (block[..., col + 1] - block[..., col]) * col_part
        below = block[:, :, row]
        block = below + (block[:, :, row + 1] - below) * row_part[:, None]
        below = block[:, at - at[0]]
        block = below + (block[:, at - at[0] + 1] - below) * part[:, None, None]
        t = Tissues(*block)
        image[start:stop] = _shade(t, tone, spacing[1]).reshape(-1, fine, w, h).mean(axis=1)
        mid = [f[fine // 2 :: fine] for f in (t.femur, t.femoral, t.tibia, t.tibial)]
        labels[start:stop] = _label(*mid, _side(xs[start * fine + fine // 2 : stop * fine : fine],
                                                 sizes, spacing, turn, shift))
    gain = np.exp(rng.normal(0, 0.11))
    return _receive(image, sizes, spacing, float(gain), rng), labels


def _side(xs, sizes, spacing, turn, shift):
    y, z = _centres(sizes[1], spacing[1]), _centres(sizes[2], spacing[2])
    x, y, z = np.ix_(xs, y, z)
    return shift[0] + turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z


def _inside(distance, voxel):
    return np.clip(np.float32(0.5) - distance / np.float32(max(voxel, 0.3)), 0, 1)


def _shade(t: Tissues, tone: dict[str, float], voxel: float):
    image = t.soft.copy()
    image += _inside(t.fluid, voxel) * (tone["fluid"] - image)
    image += _inside(t.meniscus, voxel) * (tone["meniscus"] - image)
    for body, bone in ((t.patellar, t.patella), (t.femoral, t.femur), (t.tibial, t.tibia)):
        image += _inside(body, voxel) * (tone["cartilage"] - image)
        marrow = t.marrow * (1 - np.float32(0.5) * np.clip(1 + bone / np.float32(1.2), 0, 1))
        image += _inside(bone, voxel) * (marrow - image)
    return image * _inside(t.skin, voxel)


def _label(femur, femoral, tibia, tibial, side):
    labels = np.zeros(femur.shape, np.uint8)
    labels[tibial < 0] = 4
    labels[(tibial < 0) & (side > -2)] = 5
    labels[femoral < 0] = 2
    labels[tibia < 0] = 3
    labels[femur < 0] = 1
    return labels


def _receive(image, sizes, spacing, gain, rng):
    y, z = _centres(sizes[1], spacing[1]), _centres(sizes[2], spacing[2])
    coil = np.exp(-0.5 * ((z - rng.normal(0, 6)) / 75) ** 2)
    coil = coil * (1 - 0.0015 * (y[:, None] - rng.normal(0, 10)))
    image *= (gain * coil).astype(np.float32)
    noise = np.float32(NOISE)
    real = image + noise * rng.standard_normal(sizes, dtype=np.float32)
    other = noise * rng.standard_normal(sizes, dtype=np.float32)
    return np.rint(np.sqrt(real**2 + other**2)).astype(np.int16)


def _affine(sizes, spacing, rng):
    angle = np.radians(rng.normal(0, 4))
    affine = np.eye(4)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine[:3, :3] = turn * np.asarray(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(sizes) - 1) / 2) + rng.normal(0, 8, 3)
    return affine
