"""The bones, cartilage and soft tissue of a right knee as signed distances.

Frame of the knee, in mm: x from medial to lateral, y from back to front, z upward; the origin lies
between the tibial plateaus, on the joint line. Distances are negative inside. Measures of the
bones follow published label maps of OAI knees to within a few mm.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from kellgren.phantom.severity import Disease

Bone = Literal["femur", "tibia"]
Field = Float[np.ndarray, "i j k"]

# Height, centre in x and y, and semi-axes in x and y of the femoral metaphysis and shaft.
FEMORAL_SHAFT = np.array(
    [
        [22, -2, 12, 36, 20],
        [40, -3, 13, 37, 24],
        [50, -1, 16, 30, 20],
        [60, 1, 20, 23.5, 16],
        [75, 2, 20.5, 19, 14.5],
        [110, 2, 21, 16, 14],
    ],
    dtype=np.float64,
)
TIBIAL_SHAFT = np.array(
    [
        [-110, 0, 12, 14, 16],
        [-60, 0, 12.5, 18, 20],
        [-40, 0, 11, 22, 20.5],
        [-25, 0.5, 8, 32, 21.5],
        [-15, 0.5, 4, 36.5, 25],
        [-8, 0, 2.5, 38, 26],
        [8, 0, 2, 38, 24.5],
    ],
    dtype=np.float64,
)


@dataclass(frozen=True)
class Shape:
    """A knee without disease; lengths in mm.

    Attributes:
        size: Factor on all bone lengths, 1 for the mean knee.
        width: Further factor on x.
        gap: Distance from bone to bone, medial and lateral.
        femoral: Thickness of the femoral cartilage.
        tibial: Thickness of the tibial cartilage, medial and lateral.
        offsets: Deviation of the condyles in y and z and of their radii, in the mean knee's mm.
        girth: Factor on the outline of the leg.
    """

    size: float
    width: float
    gap: tuple[float, float]
    femoral: float
    tibial: tuple[float, float]
    offsets: tuple[float, ...]
    girth: float


def draw_shape(*, male: bool, bmi: float, rng: np.random.Generator) -> Shape:
    """Draw a knee: sex moves the bone volume by about a third, the rest varies at random."""
    size = (1.035 if male else 0.94) * np.exp(rng.normal(0, 0.04))
    return Shape(
        size=float(size),
        width=float(np.exp(rng.normal(0, 0.02))),
        gap=(float(4.2 + rng.normal(0, 0.5)), float(4.9 + rng.normal(0, 0.6))),
        femoral=float(size * (2.45 + rng.normal(0, 0.18))),
        tibial=(
            float(size * (1.9 + rng.normal(0, 0.2))),
            float(size * (2.4 + rng.normal(0, 0.28))),
        ),
        offsets=tuple(float(v) for v in rng.normal(0, 1.0, 6)),
        girth=float(np.exp(0.006 * (bmi - 28) + rng.normal(0, 0.03))),
    )


@dataclass(frozen=True)
class Tissues:
    """Signed distances in mm and intensities of one knee on a lattice of points.

    Attributes:
        femur: Femur.
        femoral: Femur with its cartilage.
        tibia: Tibia.
        tibial: Tibia with its cartilage.
        patella: Patella.
        patellar: Patella with its cartilage.
        meniscus: Both menisci.
        fluid: Synovial fluid.
        skin: The whole leg.
        soft: Intensity of the tissue outside all of the above.
        marrow: Intensity of the tissue inside the bones.
    """

    femur: Field
    femoral: Field
    tibia: Field
    tibial: Field
    patella: Field
    patellar: Field
    meniscus: Field
    fluid: Field
    skin: Field
    soft: Field
    marrow: Field


def tissues(
    point: Float[np.ndarray, "3 i j k"],
    shape: Shape,
    disease: "Disease",
    *,
    spacing: float,
    rng: np.random.Generator,
) -> Tissues:
    """Evaluate a knee on a lattice.

    Args:
        point: Where, in the frame of the knee, mm.
        shape: The knee without disease.
        disease: What the disease does to it.
        spacing: Distance of neighbouring points, mm.
        rng: Source of the texture of muscle and marrow.
    """
    scale = shape.size * disease.growth
    unit = point / np.array([scale * shape.width, scale, scale], np.float32)[:, None, None, None]
    femur = scale * _femur(unit, shape, disease)
    tibia = scale * _tibia(unit)
    femur = _with_spurs(femur, point, disease.osteophytes["femur"])
    tibia = _with_spurs(tibia, point, disease.osteophytes["tibia"])
    femur, femur_normal = _as_distance(femur, spacing)
    tibia, tibia_normal = _as_distance(tibia, spacing)
    femur, tibia = _apart(femur, tibia, 0.4)
    femoral = femur - _femoral_thickness(unit, femur_normal, shape, disease, point)
    tibial = tibia - _tibial_thickness(unit, tibia_normal, shape, disease, point)
    femoral, tibial = _apart(femoral, tibial, 0.0)
    patella, patellar = _patella(unit, scale, femur)
    bones = np.minimum(np.minimum(femoral, tibial), patellar)
    return Tissues(
        femur,
        femoral,
        tibia,
        tibial,
        patella,
        patellar,
        _meniscus(unit, scale, femoral, tibial),
        _fluid(unit, disease, bones, femoral, tibial),
        _skin(point, shape),
        _soft_tissue(unit, shape, rng),
        _marrow(point, disease, rng),
    )


def plateau(x: Field, y: Field) -> Field:
    """Height of the tibial plateau of the mean knee, mm."""
    dish = 1.6 * np.clip((x + 23) / 14, -1.2, 1.2) ** 2 - 0.8 * np.clip((x - 21) / 14, -1, 1) ** 2
    spine = 7.5 * np.exp(-(((x + 8) / 4.5) ** 2) - ((y - 1) / 12) ** 2)
    spine += 5.5 * np.exp(-(((x - 4) / 4.5) ** 2) - ((y + 1) / 10) ** 2)
    return 0.06 * (y - 2) - 1.0 + dish * np.where(x < -4, 1, 1) + spine


def smooth_min(a: Field, b: Field, k: float) -> Field:
    """Union of two bodies, rounded over a length k where they meet."""
    return np.minimum(a, b) - np.maximum(k - np.abs(a - b), 0) ** 2 / (4 * k)


def _ellipsoid(
    unit: Float[np.ndarray, "3 i j k"], centre: tuple[float, ...], radii: tuple[float, ...]
) -> Field:
    near = np.sqrt(sum(((u - c) / r) ** 2 for u, c, r in zip(unit, centre, radii, strict=True)))
    return (near - 1) * np.float32(min(radii))


def _column(
    unit: Float[np.ndarray, "3 i j k"], table: Float[np.ndarray, "_ 5"], power: float
) -> Field:
    x, y, z = unit
    x0, y0, a, b = (np.interp(z, table[:, 0], table[:, i]).astype(np.float32) for i in range(1, 5))
    away = (np.abs((x - x0) / a) ** power + np.abs((y - y0) / b) ** power) ** (1 / power)
    return (away - 1) * np.minimum(a, b)


def _femur(unit: Float[np.ndarray, "3 i j k"], shape: Shape, disease: "Disease") -> Field:
    x, y, z = unit
    o = shape.offsets
    rest = [(g - n) / shape.size for g, n in zip(shape.gap, disease.narrowing, strict=True)]
    rest = [max(gap, 1.2) for gap in rest]
    body = _column(unit, FEMORAL_SHAFT, 2.3)
    body = np.maximum(body, 20 - z)
    for side, gap in ((-1, rest[0]), (1, rest[1])):
        x0 = -23.0 if side < 0 else 19.5
        base = gap - 0.9
        y1, y2 = (-1.5, 11.0) if side < 0 else (0.0, 14.0)
        i = 0 if side < 0 else 3
        back = _ellipsoid(unit, (x0, y1 + o[i], base + 20.5), (17.0, 20.5 + 0.5 * o[i + 1], 20.5))
        front = _ellipsoid(
            unit, (x0 + 1.5, y2 + o[i], base + 25.5), (18.0, 27.5 + 0.5 * o[i + 2], 25.0)
        )
        body = smooth_min(body, smooth_min(back, front, 6.0), 6.0)
    roof = np.sqrt(((x + 2) / 9.5) ** 2 + ((z - 6) / 20) ** 2)
    notch = np.maximum((1 - roof) * 9.5, (y - 13) + 0.35 * (z - 10))
    notch = (1 - roof) * 9.5
    notch = np.minimum(notch, 12 - y - 0.3 * (z - 10))
    return np.maximum(body, notch)


def _tibia(unit: Float[np.ndarray, "3 i j k"]) -> Field:
    x, y, z = unit
    body = _column(unit, TIBIAL_SHAFT, 2.5)
    top = z - plateau(x, y)
    body = -smooth_min(-body, -top, 3.0)
    back = 9.0 - np.sqrt((x + 2) ** 2 + (y + 27) ** 2)
    body = np.maximum(body, np.where(z > -30, back, -5))
    bump = _ellipsoid(unit, (2.0, 27.0, -38.0), (9.0, 7.0, 14.0))
    return smooth_min(body, bump, 6.0)


def _with_spurs(
    bone: Field, point: Float[np.ndarray, "3 i j k"], spurs: Float[np.ndarray, "_ 4"]
) -> Field:
    for x, y, z, radius in spurs.astype(np.float32):
        away = np.sqrt((point[0] - x) ** 2 + (point[1] - y) ** 2 + (point[2] - z) ** 2)
        bone = smooth_min(bone, away - radius, 2.0)
    return bone


def _as_distance(
    body: Field, spacing: float
) -> tuple[Field, Float[np.ndarray, "3 i j k"]]:
    """Divide a field by its slope, so that it is a distance near its surface; and its normals."""
    slope = np.stack(np.gradient(body, np.float32(spacing)))
    length = np.maximum(np.sqrt((slope**2).sum(axis=0)), 0.3)
    return body / np.clip(length, 0.5, 2.0), slope / length


def _apart(a: Field, b: Field, space: float) -> tuple[Field, Field]:
    """Cut two bodies at the surface that is as far from the one as from the other."""
    return np.maximum(a, (a - b + space) / 2), np.maximum(b, (b - a + space) / 2)


def _ramp(value: Field, start: float, end: float) -> Field:
    """From 0 at `start` to 1 at `end`, smoothly."""
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def _left(
    point: Float[np.ndarray, "3 i j k"], lesions: Float[np.ndarray, "_ 4"]
) -> Field:
    """Share of the cartilage that the lesions leave."""
    left = np.ones_like(point[0])
    for x, y, radius, depth in lesions.astype(np.float32):
        away = ((point[0] - x) ** 2 + (point[1] - y) ** 2) / radius**2
        left = left * (1 - depth * np.clip(1.6 * (1 - away), 0, 1))
    return left


def _femoral_thickness(
    unit: Float[np.ndarray, "3 i j k"],
    normal: Float[np.ndarray, "3 i j k"],
    shape: Shape,
    disease: "Disease",
    point: Float[np.ndarray, "3 i j k"],
) -> Field:
    x, y, z = unit
    covered = 1 - _ramp(np.abs(normal[0]), 0.7, 0.93)
    covered *= 1 - _ramp(z, 36, 42)
    covered *= 1 - _ramp(normal[2], 0.2, 0.6)
    covered *= 1 - _ramp(np.abs(x + 2), 11, 8) * _ramp(y, 15, 11)
    lesion = _left(point, disease.lesions["femur"])
    weight = _ramp(-normal[2], 0.2, 0.6) * (z < 22)
    return shape.femoral * covered * (1 - weight * (1 - lesion))


def _tibial_thickness(
    unit: Float[np.ndarray, "3 i j k"],
    normal: Float[np.ndarray, "3 i j k"],
    shape: Shape,
    disease: "Disease",
    point: Float[np.ndarray, "3 i j k"],
) -> Field:
    x, y, z = unit
    medial = ((x + 22) / 15.5) ** 2 + ((y - 1.5) / 23.5) ** 2
    lateral = ((x - 20) / 16.5) ** 2 + ((y - 1) / 20.5) ** 2
    covered = shape.tibial[0] * (1 - _ramp(medial, 0.55, 1.0))
    covered = np.maximum(covered, shape.tibial[1] * (1 - _ramp(lateral, 0.3, 1.0)))
    covered *= _ramp(normal[2], 0.5, 0.75) * (z > -8)
    return covered * _left(point, disease.lesions["tibia"])


def _patella(
    unit: Float[np.ndarray, "3 i j k"], scale: float, femur: Field
) -> tuple[Field, Field]:
    body = scale * _ellipsoid(unit, (0.0, 51.5, 36.0), (20.0, 10.0, 19.0))
    bone = np.maximum(body, 6.0 - femur)
    face = (1 - _ramp(unit[2], 48, 53)) * _ramp(unit[2], 20, 25)
    cartilage = np.maximum(body - 0.5, 3.2 - femur)
    return bone, np.where(face > 0.5, np.minimum(bone, cartilage), bone)


def _meniscus(
    unit: Float[np.ndarray, "3 i j k"], scale: float, femoral: Field, tibial: Field
) -> Field:
    x, y, z = unit
    medial = np.sqrt(((x + 23) / 18.5) ** 2 + ((y - 1) / 25) ** 2)
    lateral = np.sqrt(((x - 20) / 18.5) ** 2 + ((y - 1) / 22) ** 2)
    ring = np.where(x < -2, medial, lateral)
    body = np.maximum(ring - 1.04, 0.6 - ring) * 19 * scale
    body = np.maximum(body, np.abs(z - 2.5) * scale - 6)
    body = np.maximum(body, 7.5 - np.abs(x + 2))
    return np.maximum(body, np.maximum(0.15 - femoral, 0.15 - tibial))


def _fluid(
    unit: Float[np.ndarray, "3 i j k"],
    disease: "Disease",
    bones: Field,
    femoral: Field,
    tibial: Field,
) -> Field:
    x, y, z = unit
    pouch = _ramp(y, 18, 28) * _ramp(z, 30, 42) * (1 - _ramp(z, 70, 80)) * (np.abs(x) < 24)
    gutter = _ramp(np.abs(x + 2), 24, 34) * _ramp(z, 6, 12) * (1 - _ramp(z, 28, 38)) * (y > 5)
    behind = _ramp(-y, 10, 18) * _ramp(z, 4, 10) * (1 - _ramp(z, 22, 30))
    layer = disease.effusion * np.maximum(np.maximum(pouch, 0.6 * gutter), 0.6 * behind)
    film = np.maximum(femoral, tibial) - 0.9
    return np.minimum(bones - layer, film)


def _skin(point: Float[np.ndarray, "3 i j k"], shape: Shape) -> Field:
    x, y, z = point / np.float32(shape.girth)
    front = 66 - 0.08 * np.abs(z - 30)
    depth = np.where(y > 3, front - 3, 64 + 0.06 * z)
    away = (np.abs(x / 59) ** 2.3 + np.abs((y - 3) / depth) ** 2.3) ** (1 / 2.3)
    return (away - 1) * np.float32(58)


def _soft_tissue(
    unit: Float[np.ndarray, "3 i j k"], shape: Shape, rng: np.random.Generator
) -> Field:
    x, y, z = unit
    muscles = [
        ((-21.0, -42.0, -25.0), (19.0, 13.0, 60.0)),
        ((19.0, -41.0, -25.0), (18.0, 12.0, 58.0)),
        ((-30.0, -38.0, 60.0), (15.0, 15.0, 70.0)),
        ((30.0, -32.0, 60.0), (13.0, 15.0, 65.0)),
        ((-30.0, 22.0, 88.0), (17.0, 22.0, 52.0)),
        ((28.0, 24.0, 95.0), (16.0, 20.0, 52.0)),
        ((30.0, 10.0, -55.0), (14.0, 14.0, 42.0)),
        ((0.0, -26.0, -45.0), (26.0, 12.0, 38.0)),
    ]
    muscle = np.full_like(x, 50)
    for centre, radii in muscles:
        muscle = np.minimum(muscle, _ellipsoid(unit, centre, radii))
    texture = _texture(x.shape, rng)
    soft = 46 + 4 * texture + np.clip(0.5 - muscle / 2, 0, 1) * (64 + 14 * texture)
    for start, end, thick, wide, value in (
        ((0.0, 57.0, 22.0), (1.0, 37.0, -34.0), 2.6, 12.0, 22.0),
        ((0.0, 57.0, 50.0), (0.0, 45.0, 110.0), 3.0, 14.0, 24.0),
        ((-3.0, 9.0, 4.0), (7.0, -9.0, 24.0), 3.5, 3.5, 32.0),
        ((-3.0, -22.0, -4.0), (-8.0, 5.0, 16.0), 4.0, 4.0, 20.0),
    ):
        band = _band(unit, start, end, thick, wide)
        soft = soft + np.clip(0.5 - band, 0, 1) * (value - soft)
    return soft.astype(np.float32)


def _band(
    unit: Float[np.ndarray, "3 i j k"],
    start: tuple[float, ...],
    end: tuple[float, ...],
    thick: float,
    wide: float,
) -> Field:
    """A straight tendon: the distance to a segment, with x measured on another scale."""
    scale = np.array([thick / wide, 1, 1], np.float32)
    a, b = np.asarray(start, np.float32) * scale, np.asarray(end, np.float32) * scale
    way = b - a
    p = [unit[i] * scale[i] - a[i] for i in range(3)]
    t = np.clip(sum(p[i] * way[i] for i in range(3)) / (way @ way), 0, 1)
    return np.sqrt(sum((p[i] - t * way[i]) ** 2 for i in range(3))) - np.float32(thick)


def _texture(grid: tuple[int, ...], rng: np.random.Generator) -> Field:
    """Noise of mean 0 and standard deviation 1 whose neighbours are alike."""
    noise = rng.standard_normal(grid, dtype=np.float32)
    for axis in range(3):
        noise = (noise + np.roll(noise, 1, axis)) * np.float32(np.sqrt(0.5))
    return noise


def _marrow(
    point: Float[np.ndarray, "3 i j k"], disease: "Disease", rng: np.random.Generator
) -> Field:
    marrow = 43 * np.exp(0.2 * _texture(point.shape[1:], rng))
    for x, y, z, radius, added in disease.spots.astype(np.float32):
        away = (point[0] - x) ** 2 + (point[1] - y) ** 2 + (point[2] - z) ** 2
        marrow = marrow + added * np.exp(-away / (2 * radius**2 / 2))
    return marrow.astype(np.float32)
