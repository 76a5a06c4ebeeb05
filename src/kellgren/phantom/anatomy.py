"""The bones and cartilage of a right knee as signed distances.

Frame of the knee, in mm: x from medial to lateral, y from back to front, z upward; the origin lies
between the tibial plateaus, on the joint line. Distances are negative inside. Measures of the
bones are read off published label maps of OAI knees to within a few mm.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kellgren.phantom.lattice import LATTICE_MM, Field, Lattice, Points
from kellgren.phantom.severity import Disease
from kellgren.phantom.shape import Shape

# Height; centre in x and y; semi-axes in x and y.
FEMORAL_SHAFT = np.array(
    [
        [22, -2, 14, 35, 18],
        [32, -2.5, 13, 38, 21],
        [40, -2.5, 14.5, 38, 22.5],
        [50, -1, 17.5, 31, 19],
        [60, 1, 20, 24, 16.5],
        [75, 2, 20.5, 19.5, 15],
        [110, 2, 21, 16, 14],
    ],
    dtype=np.float64,
)
TIBIAL_SHAFT = np.array(
    [
        [-110, 0, 12, 13, 15],
        [-60, 0, 12, 16, 18],
        [-40, 0, 10, 21.5, 19.5],
        [-25, 0.5, 7, 32, 21.5],
        [-15, 0.5, 3.5, 36.5, 25],
        [-8, 0, 2.5, 38, 26],
        [8, 0, 2, 37, 24.5],
    ],
    dtype=np.float64,
)
MEDIAL_X, LATERAL_X, SPINE_X = -23.0, 20.0, -3.0
# Cartilage counts as thinned where it lost so much of its thickness, mm.
LOSS_MM = 0.25


@dataclass(frozen=True)
class Bones:
    """The bones and their cartilage, with and without what the disease does to them.

    Attributes:
        femur: Femur.
        femoral: Femur with its cartilage.
        tibia: Tibia.
        tibial: Tibia with its cartilage.
        bare: Both bones without their osteophytes, bit for bit the same away from those.
        thinned: What the cartilage was, bone below it included, where it lost more than `LOSS_MM`.
    """

    femur: Field
    femoral: Field
    tibia: Field
    tibial: Field
    bare: Field
    thinned: Field


def bones(lattice: Lattice, unit: Points, scale: float, shape: Shape, disease: Disease) -> Bones:
    """The bones of one knee on a lattice.

    Args:
        lattice: Where to evaluate.
        unit: Its points in the mean knee's mm.
        scale: mm of this knee per mm of the mean knee.
        shape: The knee without disease.
        disease: What the disease does to it.
    """
    bare_femur = scale * _femur(unit, shape, disease)
    bare_tibia = scale * _tibia(unit)
    point = unit * np.float32(scale)
    femur = _with_spurs(bare_femur, point, lattice, disease.femoral_spurs)
    tibia = _with_spurs(bare_tibia, point, lattice, disease.tibial_spurs)
    femur, femur_normal = _as_distance(femur)
    tibia, tibia_normal = _as_distance(tibia)
    femur, tibia = apart(femur, tibia, 0.5)
    bare = np.minimum(_as_distance(bare_femur)[0], _as_distance(bare_tibia)[0])
    thickness = np.float32(shape.femoral * disease.growth**2)
    cover, left = _femoral_cover(unit, femur_normal, disease)
    femoral, whole_femoral = femur - thickness * (cover * left), femur - thickness * cover
    cover, left = _tibial_cover(unit, tibia_normal, shape, disease)
    tibial, whole_tibial = tibia - cover * left, tibia - cover
    lost = femoral - whole_femoral, tibial - whole_tibial
    whole_femoral, whole_tibial = apart(whole_femoral, whole_tibial, 0.0)
    thinned = np.minimum(
        np.maximum(whole_femoral, LOSS_MM - lost[0]), np.maximum(whole_tibial, LOSS_MM - lost[1])
    )
    femoral, tibial = apart(femoral, tibial, 0.0)
    return Bones(femur, femoral, tibia, tibial, bare, thinned)


def plateau(x: Field, y: Field) -> Field:
    """Height of the tibial plateau of the mean knee: a dish, a dome, and two spines between."""
    dish = 1.8 * np.clip((x - MEDIAL_X) / 14, -1.1, 1.1) ** 2
    dome = 1.0 * np.clip((x - LATERAL_X) / 14, -1.2, 1.2) ** 2
    spine = 5.5 * np.exp(-(((x + 7.5) / 4.5) ** 2) - ((y - 1) / 11) ** 2)
    spine = spine + 4.5 * np.exp(-(((x - 3.5) / 4.5) ** 2) - ((y + 2) / 10) ** 2)
    return 0.05 * (y - 2) - 1.2 + np.where(x < SPINE_X, dish, 0.9 - dome) + spine


def smooth_min(a: Field, b: Field, k: float) -> Field:
    """Union of two bodies, rounded over a length k where they meet."""
    return np.minimum(a, b) - np.maximum(k - np.abs(a - b), 0) ** 2 / np.float32(4 * k)


def smooth_max(a: Field, b: Field, k: float) -> Field:
    """Intersection of two bodies, rounded over a length k where they meet."""
    return -smooth_min(-a, -b, k)


def apart(a: Field, b: Field, space: float) -> tuple[Field, Field]:
    """Cut two bodies at the surface that is as far from the one as from the other."""
    half = (a - b) / 2
    return np.maximum(a, half + space / 2), np.maximum(b, space / 2 - half)


def ramp(value: Field, start: float, end: float) -> Field:
    """From 0 at `start` to 1 at `end`, smoothly."""
    t = np.clip((value - np.float32(start)) / np.float32(end - start), 0, 1)
    return t * t * (3 - 2 * t)


def ellipsoid(unit: Points, centre: tuple[float, ...], radii: tuple[float, ...]) -> Field:
    """About the distance to an ellipsoid, exact in sign."""
    parts = [
        (u - np.float32(c)) / np.float32(r) for u, c, r in zip(unit, centre, radii, strict=True)
    ]
    return (np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2) - 1) * np.float32(min(radii))


def _column(unit: Points, table: Float[np.ndarray, "_ 5"], power: float) -> Field:
    """A shaft whose section is a superellipse that changes with height."""
    x, y, z = unit
    step = np.arange(table[0, 0], table[-1, 0] + 1)
    fine = [np.interp(step, table[:, 0], table[:, i]).astype(np.float32) for i in range(1, 5)]
    level = np.clip(z - np.float32(step[0]), 0, len(step) - 1.001)
    low = level.astype(np.int32)
    part = level - low.astype(np.float32)
    x0, y0, a, b = (column[low] + part * (column[low + 1] - column[low]) for column in fine)
    away = np.abs((x - x0) / a) ** power + np.abs((y - y0) / b) ** power
    return (away ** np.float32(1 / power) - 1) * np.minimum(a, b)


def _femur(unit: Points, shape: Shape, disease: Disease) -> Field:
    x, y, z = unit
    body = smooth_max(_column(unit, FEMORAL_SHAFT, 2.4), 25 - z - 0.15 * np.abs(x + 2), 16.0)
    for side, x0, y_back, y_front in ((0, MEDIAL_X, -1.5, 10.0), (1, LATERAL_X - 0.5, 0.0, 13.5)):
        centre, back, front = shape.condyles[3 * side : 3 * side + 3]
        base = _gap(shape, disease, side) - 0.4
        posterior = ellipsoid(
            unit, (x0, y_back + centre, base + 20), (17.0, 20 + 0.5 * back, 20 + 0.5 * back)
        )
        distal = ellipsoid(
            unit, (x0 + 1, y_front + centre, base + 25.5), (18.0, 28 + 0.5 * front, 25.5)
        )
        body = smooth_min(body, smooth_min(posterior, distal, 6.0), 7.0)
    body = smooth_min(body, ellipsoid(unit, (-2.0, 19.5, 29.5), (25.0, 18.0, 20.5)), 6.0)
    arch = (1 - np.sqrt(((x + 2) / 10) ** 2 + ((z - 5) / 21) ** 2)) * 10
    notch = smooth_min(arch, 13 - y - 0.35 * (z - 10), 5.0)
    return smooth_max(body, notch, 3.0)


def _gap(shape: Shape, disease: Disease, side: int) -> float:
    return max(shape.gap[side] - disease.narrowing[side], 1.5) / shape.size


def _tibia(unit: Points) -> Field:
    x, y, z = unit
    body = smooth_max(_column(unit, TIBIAL_SHAFT, 2.4), z - plateau(x, y), 3.0)
    groove = 9.0 - np.sqrt((x + 2) ** 2 + (y + 27) ** 2 + np.maximum(-12 - z, 0) ** 2)
    body = smooth_max(body, groove, 3.0)
    return smooth_min(body, ellipsoid(unit, (2.0, 25.0, -38.0), (9.0, 7.0, 14.0)), 7.0)


def _with_spurs(
    bone: Field, point: Points, lattice: Lattice, spurs: Float[np.ndarray, "_ 4"]
) -> Field:
    bone = bone.copy()
    for *place, radius in spurs:
        box = lattice.around(np.asarray(place), radius + 8)
        near = [point[i][box] - np.float32(place[i]) for i in range(3)]
        away = np.sqrt(near[0] ** 2 + near[1] ** 2 + near[2] ** 2) - np.float32(radius)
        bone[box] = smooth_min(bone[box], away, 2.5)
    return bone


def _as_distance(body: Field) -> tuple[Field, Points]:
    """Divide a field by its slope, so that it is a distance near its surface; and its normals."""
    slope = np.stack(np.gradient(body, np.float32(LATTICE_MM)))
    length = np.sqrt(slope[0] ** 2 + slope[1] ** 2 + slope[2] ** 2)
    return body / np.clip(length, 0.5, 2.0), slope / np.maximum(length, 0.2)


def _femoral_cover(unit: Points, normal: Points, disease: Disease) -> tuple[Field, Field]:
    """Share of the full thickness at each place of the femoral surface, and what is left of it."""
    x, y, z = unit
    cover = 1 - ramp(np.abs(normal[0]), 0.72, 0.95)
    cover *= 1 - ramp(z + 0.12 * y, 34.0, 41.0)
    cover *= 1 - ramp(normal[2], 0.3, 0.7)
    cover *= 1 - ramp(np.abs(x + 2), 12.0, 8.0) * ramp(y, 17.0, 12.0)
    cover *= cover > 0.25
    bearing = ramp(-normal[2], 0.1, 0.5)
    return cover, 1 - bearing * (1 - _left(unit, disease.femoral_lesions))


def _tibial_cover(
    unit: Points, normal: Points, shape: Shape, disease: Disease
) -> tuple[Field, Field]:
    """Thickness of whole cartilage at each place of the tibial surface, and what is left of it."""
    x, y, z = unit
    medial = ((x - MEDIAL_X + 0.5) / 17) ** 2 + ((y - 1.5) / 25.5) ** 2
    lateral = ((x - LATERAL_X) / 18) ** 2 + ((y - 1) / 22.5) ** 2
    cover = np.maximum(
        shape.tibial[0] * (1 - ramp(medial, 0.65, 1.05)),
        shape.tibial[1] * (1 - ramp(lateral, 0.5, 1.05)),
    )
    cover *= ramp(normal[2], 0.45, 0.7) * (z > -8)
    return cover, _left(unit, disease.tibial_lesions)


def _left(unit: Points, lesions: Float[np.ndarray, "_ 4"]) -> Field:
    left = np.ones_like(unit[0])
    for x, y, radius, depth in lesions.astype(np.float32):
        away = ((unit[0] - x) ** 2 + (unit[1] - y) ** 2) / radius**2
        left *= 1 - depth * np.clip(np.float32(1.6) * (1 - away), 0, 1)
    return left
