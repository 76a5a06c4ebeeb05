"""What osteoarthritis of a given severity does to a synthetic knee.

Severity is a number in [0, 5); its whole part is the true KL grade. Each sign of the disease
(cartilage loss, osteophytes, marrow lesions, effusion, growth of the bone) follows severity with a
deviation of its own, because in real knees the signs do not go in lockstep.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kellgren.phantom.shape import Shape

CONTRAST = {"real": 1.0, "clear": 2.0}
SIGN_SD = 0.32
VESSELS = 60
SIGNS = {"thinned_cartilage": (1,), "osteophyte": (2,), "marrow_spot": (3,)}
"""Labels of the signs that have a place: what is left of thinned cartilage and what was there,
outgrowth of the bone, bright places in the marrow."""

Rows = Float[np.ndarray, "_ _"]


@dataclass(frozen=True)
class Disease:
    """The signs of osteoarthritis in one knee, placed in the frame of the knee.

    Attributes:
        femoral_lesions: Places of lost cartilage: x, y, radius in mm, depth (1 is denuded).
        tibial_lesions: The same of the tibia.
        femoral_spurs: Osteophytes: x, y, z, radius in mm.
        tibial_spurs: The same of the tibia.
        vessels: Small bright places anywhere in the marrow, with and without disease: x, y, z,
            radius in mm, added intensity.
        spots: Bright places in the marrow near the joint, more of them with disease; the same.
        narrowing: Loss of joint space, medial and lateral, mm.
        effusion: Thickness of the layer of fluid in the recesses, mm.
        extrusion: Displacement of the menisci, mm.
        growth: Factor on the size of the bones.
    """

    femoral_lesions: Rows
    tibial_lesions: Rows
    femoral_spurs: Rows
    tibial_spurs: Rows
    vessels: Rows
    spots: Rows
    narrowing: tuple[float, float]
    effusion: float
    extrusion: float
    growth: float


def draw_disease(
    severity: float, shape: Shape, *, contrast: float, rng: np.random.Generator
) -> Disease:
    """Draw the signs that a knee of this severity shows.

    Args:
        severity: True severity, in [0, 5).
        shape: The knee without disease.
        contrast: Factor on how strongly severity shows; the variation between knees is not scaled.
        rng: Source of randomness.
    """
    shown = 0.9 * contrast * (severity / 5) ** 1.4
    dose = np.maximum(shown + rng.normal(0, SIGN_SD, 5), 0)
    loss, spurs, marrow, fluid, growth = (float(value) for value in dose)
    return Disease(
        femoral_lesions=_lesions(3.0, loss, rng),
        tibial_lesions=_lesions(1.0, 0.7 * loss, rng),
        femoral_spurs=_femoral_spurs(spurs, shape, rng),
        tibial_spurs=_tibial_spurs(spurs, shape, rng),
        vessels=_vessels(shape, rng),
        spots=_spots(marrow, shape, rng),
        narrowing=(1.4 * loss, 0.9 * loss * float(rng.random())),
        effusion=float(rng.gamma(2.0, 0.5)) + 3.0 * fluid,
        extrusion=float(abs(rng.normal(0, 0.6))) + 2.0 * loss,
        growth=1 + 0.05 * growth,
    )


def _lesions(y_centre: float, dose: float, rng: np.random.Generator) -> Rows:
    count = rng.poisson(0.5 + 2.5 * dose)
    x = np.where(rng.random(count) < 0.72, -23.0, 20.0) + rng.normal(0, 5, count)
    y = rng.normal(y_centre, 9, count)
    radius = rng.uniform(3, 6, count) + 6 * min(dose, 1.5) * rng.random(count)
    depth = np.clip(rng.uniform(0.2, 0.6, count) + dose * rng.random(count), 0, 1)
    return np.stack([x, y, radius, depth], axis=1)


def _spur_radii(count: int, dose: float, rng: np.random.Generator) -> Float[np.ndarray, " _"]:
    return rng.uniform(1.0, 2.2, count) + 3.0 * min(dose, 2.0) * rng.random(count)


def _tibial_spurs(dose: float, shape: Shape, rng: np.random.Generator) -> Rows:
    count = rng.poisson(1.0 + 9 * dose)
    angle = rng.uniform(0, 2 * np.pi, count)
    x, y = 37.5 * np.cos(angle), 2 + 25.5 * np.sin(angle)
    place = shape.size * np.stack([x, y, rng.normal(-4, 1.5, count)], axis=1)
    return np.column_stack([place, _spur_radii(count, dose, rng)])


def _femoral_spurs(dose: float, shape: Shape, rng: np.random.Generator) -> Rows:
    count = rng.poisson(1.0 + 9 * dose)
    angle = rng.uniform(0, 2 * np.pi, count)
    x = np.where(rng.random(count) < 0.6, -40.0, 36.5) + rng.normal(0, 1.0, count)
    y, z = 7 + 25 * np.cos(angle), 24 + 16 * np.sin(angle)
    place = shape.size * np.stack([x, y, z], axis=1)
    return np.column_stack([place, _spur_radii(count, dose, rng)])


def _spots(dose: float, shape: Shape, rng: np.random.Generator) -> Rows:
    count = rng.poisson(shape.spots + 4 * dose)
    x = np.where(rng.random(count) < 0.65, -23.0, 20.0) + rng.normal(0, 6, count)
    depth = rng.uniform(2, 12, count)
    z = np.where(rng.random(count) < 0.5, 4 + depth, -2 - depth)
    place = shape.size * np.stack([x, rng.normal(3, 10, count), z], axis=1)
    radius = rng.uniform(2.0, 5.0, count) + 4 * min(dose, 1.5) * rng.random(count)
    added = rng.uniform(20, 70, count) + 60 * min(dose, 1.5) * rng.random(count)
    return np.column_stack([place, radius, added])


def _vessels(shape: Shape, rng: np.random.Generator) -> Rows:
    count = rng.poisson(VESSELS)
    place = rng.uniform((-38, -18, -45), (38, 34, 60), (count, 3))
    return np.column_stack(
        [shape.size * place, rng.uniform(1.0, 3.6, count), rng.gamma(1.5, 26.0, count)]
    )
