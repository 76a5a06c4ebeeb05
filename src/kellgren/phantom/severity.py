"""What osteoarthritis of a given severity does to a synthetic knee.

Severity is a number in [0, 5); its whole part is the true KL grade. Each sign of the disease
(cartilage loss, osteophytes, marrow lesions, effusion, growth of the bone) follows severity with a
deviation of its own, because in real knees the signs do not go in lockstep.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kellgren.phantom.anatomy import Bone, Shape

CONTRAST = {"real": 1.0, "clear": 2.0}
SIGN_SD = 0.28


@dataclass(frozen=True)
class Disease:
    """The signs of osteoarthritis in one knee; lengths in mm, places in the frame of the knee.

    Attributes:
        lesions: Cartilage lesions of each bone: x, y, radius, depth (1 is denuded).
        osteophytes: Bone spurs of each bone: x, y, z, radius.
        spots: Bright places in the marrow of both bones: x, y, z, radius, added intensity.
        narrowing: Loss of joint space, medial and lateral.
        effusion: Thickness of the layer of fluid in the recesses.
        growth: Factor on the size of the bones.
    """

    lesions: dict[Bone, Float[np.ndarray, "_ 4"]]
    osteophytes: dict[Bone, Float[np.ndarray, "_ 4"]]
    spots: Float[np.ndarray, "_ 5"]
    narrowing: tuple[float, float]
    effusion: float
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
    mean = contrast * (max(severity - 0.5, 0.0) / 4.0) ** 1.3
    loss, spurs, marrow, fluid, growth = np.maximum(mean + rng.normal(0, SIGN_SD, 5), 0)
    lesions = {bone: _lesions(bone, float(loss), rng) for bone in ("femur", "tibia")}
    return Disease(
        lesions=lesions,
        osteophytes={bone: _osteophytes(bone, float(spurs), shape, rng) for bone in lesions},
        spots=_spots(float(marrow), shape, rng),
        narrowing=(1.3 * float(loss), 0.7 * float(loss) * rng.random()),
        effusion=float(rng.gamma(2.0, 0.35) + 3.0 * fluid),
        growth=1.0 + 0.02 * float(growth) + 0.015 * float(spurs),
    )


def _lesions(bone: Bone, dose: float, rng: np.random.Generator) -> Float[np.ndarray, "_ 4"]:
    count = rng.poisson(0.4 + 2.2 * dose)
    medial = rng.random(count) < 0.72
    x = np.where(medial, -23.0, 20.0) + rng.normal(0, 6, count)
    y = rng.normal(3.0 if bone == "femur" else 1.0, 8, count)
    radius = rng.uniform(3, 6, count) + 6 * min(dose, 1.5) * rng.random(count)
    depth = np.clip(rng.uniform(0.2, 0.6, count) + 0.6 * dose * rng.random(count), 0, 1)
    return np.stack([x, y, radius, depth], axis=1)


def _osteophytes(
    bone: Bone, dose: float, shape: Shape, rng: np.random.Generator
) -> Float[np.ndarray, "_ 4"]:
    count = rng.poisson(1.0 + 9 * dose)
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = rng.uniform(1.2, 2.2, count) + 2.6 * min(dose, 2.0) * rng.random(count)
    if bone == "tibia":
        x, y = 37 * np.cos(angle), 2 + 25 * np.sin(angle)
        z = rng.normal(-4, 1.5, count)
    else:
        x = np.where(np.cos(angle) < 0, -40.0, 36.0) + rng.normal(0, 1.5, count)
        y, z = 8 + 27 * np.sin(angle), 24 - 18 * np.abs(np.cos(angle)) + rng.normal(0, 4, count)
    return np.stack([x, y, z, radius], axis=1) * np.array([*[shape.size] * 3, 1.0])


def _spots(dose: float, shape: Shape, rng: np.random.Generator) -> Float[np.ndarray, "_ 5"]:
    count = rng.poisson(1.0 + 5 * dose)
    femoral = rng.random(count) < 0.5
    x = np.where(rng.random(count) < 0.65, -23.0, 20.0) + rng.normal(0, 6, count)
    depth = rng.uniform(3, 9, count)
    place = np.stack([x, rng.normal(3, 9, count), np.where(femoral, 5 + depth, -2 - depth)], axis=1)
    radius = rng.uniform(1.5, 3.5, count) + 2.5 * min(dose, 1.5) * rng.random(count)
    added = rng.uniform(25, 70, count) + 70 * min(dose, 1.5) * rng.random(count)
    return np.concatenate([place * shape.size, np.stack([radius, added], axis=1)], axis=1)
