"""All tissues of a synthetic knee on one lattice: bones, cartilage, and what lies around them."""

from dataclasses import dataclass

import numpy as np

from kellgren.phantom.anatomy import (
    LATERAL_X,
    MEDIAL_X,
    SPINE_X,
    apart,
    bones,
    ellipsoid,
    ramp,
    smooth_max,
)
from kellgren.phantom.lattice import LATTICE_MM, Field, Lattice, Points
from kellgren.phantom.severity import Disease
from kellgren.phantom.shape import Shape

# Intensities relative to marrow at about 45, after rendered OAI DESS slices.
MUSCLE, FAT, SYNOVIUM, AIR = 118.0, 54.0, 88.0, 0.0
# Centre and semi-axes in mm of the mean knee.
MUSCLES = (
    ((-20.0, -41.0, -30.0), (18.0, 14.0, 62.0)),
    ((20.0, -40.0, -30.0), (17.0, 13.0, 58.0)),
    ((-24.0, -36.0, 75.0), (22.0, 20.0, 62.0)),
    ((27.0, -30.0, 72.0), (15.0, 19.0, 60.0)),
    ((-27.0, 20.0, 92.0), (19.0, 24.0, 56.0)),
    ((25.0, 22.0, 98.0), (19.0, 22.0, 54.0)),
    ((0.0, 40.0, 115.0), (25.0, 12.0, 50.0)),
    ((30.0, 14.0, -62.0), (13.0, 15.0, 42.0)),
    ((0.0, -19.0, -46.0), (27.0, 11.0, 38.0)),
)
# Start, end, thickness and width, intensity.
BANDS = (
    ((0.0, 59.0, 22.0), (1.0, 35.0, -34.0), 2.7, 12.0, 18.0),
    ((0.0, 58.0, 50.0), (0.0, 46.0, 110.0), 3.0, 14.0, 20.0),
    ((-3.0, 9.0, 4.0), (7.0, -9.0, 24.0), 3.5, 3.5, 30.0),
    ((-3.0, -22.0, -6.0), (-8.0, 4.0, 17.0), 4.0, 4.0, 18.0),
    ((3.0, -36.0, -90.0), (0.0, -38.0, 110.0), 3.6, 3.6, 175.0),
    ((8.0, -41.0, -90.0), (5.0, -42.0, 110.0), 3.2, 3.2, 150.0),
)


@dataclass(frozen=True)
class Tissues:
    """Signed distances in mm, and intensities, of one knee on a lattice.

    Attributes:
        femur: Femur.
        femoral: Femur with its cartilage.
        tibia: Tibia.
        tibial: Tibia with its cartilage.
        patella: Patella.
        patellar: Patella with its cartilage.
        fibula: Fibula.
        meniscus: Both menisci.
        fluid: Synovial fluid.
        across: Place along x in the mean knee's mm.
        soft: Intensity outside all of the above.
        marrow: Intensity inside the bones.
        grain: Texture of the cartilage, mean 0 and standard deviation 1.
        bare: Both bones without their osteophytes.
        thinned: What the cartilage was where it lost more than `anatomy.LOSS_MM`.
        spots: Bright places in the marrow, without the vessels.
    """

    femur: Field
    femoral: Field
    tibia: Field
    tibial: Field
    patella: Field
    patellar: Field
    fibula: Field
    meniscus: Field
    fluid: Field
    across: Field
    soft: Field
    marrow: Field
    grain: Field
    bare: Field
    thinned: Field
    spots: Field


def tissues(
    lattice: Lattice, shape: Shape, disease: Disease, *, rng: np.random.Generator
) -> Tissues:
    """Evaluate a knee on a lattice.

    Args:
        lattice: Where.
        shape: The knee without disease.
        disease: What the disease does to it.
        rng: Source of the texture of muscle, marrow and cartilage.
    """
    scale = shape.size * disease.growth
    point = lattice.points()
    unit = point / np.array([scale * shape.width, scale, scale], np.float32)[:, None, None, None]
    bone = bones(lattice, unit, scale, shape, disease)
    femur, femoral, tibia, tibial = bone.femur, bone.femoral, bone.tibia, bone.tibial
    patella, patellar = _patella(unit, scale, femur)
    fibula = scale * ellipsoid(unit, (33.0, -16.0, -52.0), (9.0, 9.0, 40.0))
    fibula = apart(fibula, tibia, 1.5)[0]
    texture = _texture(lattice.sizes, rng)
    soft = _soft_tissue(unit, np.minimum(femur, tibia), texture)
    return Tissues(
        femur=femur,
        femoral=femoral,
        tibia=tibia,
        tibial=tibial,
        patella=patella,
        patellar=patellar,
        fibula=fibula,
        meniscus=_meniscus(unit, scale, femoral, tibial, disease),
        fluid=_fluid(unit, femoral, tibial, disease),
        across=unit[0],
        soft=AIR + np.clip(0.5 - _skin(point, shape) / 2, 0, 1) * (soft - AIR),
        marrow=_marrow(point, lattice, shape, disease, rng),
        grain=texture,
        bare=bone.bare,
        thinned=bone.thinned,
        spots=_spots(point, lattice, disease),
    )


def _patella(unit: Points, scale: float, femur: Field) -> tuple[Field, Field]:
    body = np.float32(scale) * ellipsoid(unit, (0.0, 51.5, 36.0), (21.0, 11.0, 20.0))
    bone = np.maximum(body, 6.2 - femur)
    face = (unit[2] > 24) & (unit[2] < 50)
    return bone, np.where(face, np.minimum(bone, np.maximum(body + 0.5, 3.2 - femur)), bone)


def _meniscus(unit: Points, scale: float, femoral: Field, tibial: Field, disease: Disease) -> Field:
    """Wedges between femur and tibia along the rims of both plateaus, pushed out by disease."""
    x, y, z = unit
    out = disease.extrusion
    medial = np.sqrt(((x - MEDIAL_X + out) / 17) ** 2 + ((y - 1) / 24) ** 2)
    lateral = np.sqrt(((x - LATERAL_X - out) / 18) ** 2 + ((y - 1) / 21) ** 2)
    ring = np.where(x < SPINE_X, medial, lateral)
    body = smooth_max(ring - 1.03, 0.62 - ring, 0.1) * np.float32(18 * scale)
    body = smooth_max(body, np.abs(z - 2.6) * np.float32(scale) - 4.2, 3.0)
    body = np.maximum(body, 6.0 - np.abs(x - SPINE_X))
    return np.maximum(body, 0.45 - np.minimum(femoral, tibial))


def _fluid(unit: Points, femoral: Field, tibial: Field, disease: Disease) -> Field:
    """A film on the cartilage, and a layer in the recesses whose thickness is the effusion."""
    x, y, z = unit
    pouch = (
        ramp(y, 18.0, 28.0)
        * ramp(z, 26.0, 40.0)
        * (1 - ramp(z, 68.0, 82.0))
        * (1 - ramp(np.abs(x), 20.0, 28.0))
    )
    gutter = (
        ramp(np.abs(x + 2), 26.0, 36.0)
        * ramp(z, 4.0, 12.0)
        * (1 - ramp(z, 26.0, 38.0))
        * ramp(y, -4.0, 8.0)
    )
    behind = ramp(-y, 12.0, 20.0) * ramp(z, 2.0, 10.0) * (1 - ramp(z, 20.0, 30.0))
    recess = np.maximum(pouch, np.maximum(0.55 * gutter, 0.5 * behind))
    layer = np.float32(disease.effusion) * recess
    pool = np.maximum(femoral - np.minimum(layer, 5.5), 0.5 * (1.2 - layer))
    return np.minimum(pool, np.maximum(femoral, tibial) - 0.7)


def _skin(point: Points, shape: Shape) -> Field:
    x, y, z = point / np.float32(shape.girth)
    depth = np.where(y > 3, 62 - 0.08 * np.abs(z - 34), 62 + 0.06 * z)
    away = np.abs(x / 59) ** 2.3 + np.abs((y - 3) / depth) ** 2.3
    return (away ** np.float32(1 / 2.3) - 1) * np.float32(58)


def _soft_tissue(unit: Points, bone: Field, texture: Field) -> Field:
    """Intensity of fat, muscle, synovium, tendons, ligaments and vessels."""
    x, y, z = unit
    muscle = ellipsoid(unit, *MUSCLES[0])
    for centre, radii in MUSCLES[1:]:
        muscle = np.minimum(muscle, ellipsoid(unit, centre, radii))
    soft = FAT + 5 * texture + ramp(muscle, 1.2, -1.2) * (MUSCLE - FAT + 12 * texture)
    lining = ramp(bone, 7.0, 1.0) * ramp(np.abs(z - 10), 42.0, 26.0) * ramp(np.abs(x), 50.0, 40.0)
    soft += lining * ramp(muscle, 0.0, 3.0) * (SYNOVIUM - FAT + 8 * texture)
    hoffa = np.sqrt(((y - 42) / 13) ** 2 + ((z - 8) / 18) ** 2 + (x / 22) ** 2)
    soft += ramp(hoffa, 1.1, 0.8) * (FAT - 6 + 6 * texture - soft)
    for start, end, thick, wide, value in BANDS:
        soft += ramp(_band(unit, start, end, thick, wide), 0.8, -0.8) * (value - soft)
    return soft


def _band(
    unit: Points, start: tuple[float, ...], end: tuple[float, ...], thick: float, wide: float
) -> Field:
    """About the distance to a straight band; its width lies along x."""
    scale = np.array([thick / wide, 1, 1], np.float32)
    a, b = np.asarray(start, np.float32) * scale, np.asarray(end, np.float32) * scale
    way = b - a
    p = [unit[i] * scale[i] - a[i] for i in range(3)]
    t = np.clip((p[0] * way[0] + p[1] * way[1] + p[2] * way[2]) / (way @ way), 0, 1)
    q = [p[i] - t * way[i] for i in range(3)]
    return np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2) - np.float32(thick)


def _texture(sizes: tuple[int, int, int], rng: np.random.Generator) -> Field:
    """Noise of mean 0 and standard deviation 1 in which neighbours are alike."""
    noise = rng.standard_normal(sizes, dtype=np.float32)
    for axis in range(3):
        noise = (noise + np.roll(noise, 1, axis)) * np.float32(np.sqrt(0.5))
    return noise


def _marrow(
    point: Points, lattice: Lattice, shape: Shape, disease: Disease, rng: np.random.Generator
) -> Field:
    texture = _texture(lattice.sizes, rng)
    marrow = np.float32(shape.marrow) * np.exp(np.float32(shape.grain) * texture)
    for x, y, z, radius, added in np.concatenate([disease.vessels, disease.spots]):
        box = lattice.around(np.array([x, y, z]), 2.5 * radius)
        near = [point[i][box] - np.float32(v) for i, v in enumerate((x, y, z))]
        away = (near[0] ** 2 + near[1] ** 2 + near[2] ** 2) / np.float32(radius**2)
        marrow[box] += np.float32(added) * np.exp(-away)
    return marrow


def _spots(point: Points, lattice: Lattice, disease: Disease) -> Field:
    body = np.full_like(point[0], LATTICE_MM)
    for *place, radius, _ in disease.spots:
        box = lattice.around(np.asarray(place), radius + LATTICE_MM)
        near = [point[i][box] - np.float32(place[i]) for i in range(3)]
        away = np.sqrt(near[0] ** 2 + near[1] ** 2 + near[2] ** 2) - np.float32(radius)
        body[box] = np.minimum(body[box], away)
    return body
