"""How healthy knees differ: size, proportions, joint space, thickness of cartilage."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A knee without disease; lengths in mm.

    Attributes:
        size: Factor on all bone lengths, 1 for the mean knee.
        width: Further factor on the width of the bones.
        gap: Distance from bone to bone, medial and lateral.
        femoral: Thickness of the femoral cartilage.
        tibial: Thickness of the tibial cartilage at its thickest, medial and lateral.
        condyles: Deviation of the centre and the two radii of each condyle, medial then lateral.
        girth: Factor on the outline of the leg.
        marrow: Intensity of the marrow before the gain of the scanner.
        grain: Standard deviation of the texture of the marrow, relative.
        spots: Mean number of bright places that the marrow has without disease.
    """

    size: float
    width: float
    gap: tuple[float, float]
    femoral: float
    tibial: tuple[float, float]
    condyles: tuple[float, ...]
    girth: float
    marrow: float
    grain: float
    spots: float


def draw_shape(*, male: bool, bmi: float, rng: np.random.Generator) -> Shape:
    """Draw a knee; sex moves the volume of the bones by about a third.

    Args:
        male: Sex.
        bmi: Body mass index, kg/m2; moves the outline of the leg only.
        rng: Source of randomness.
    """
    size = (1.03 if male else 0.935) * float(np.exp(rng.normal(0, 0.035)))
    deviation = rng.normal(0, 1, 14)
    return Shape(
        size=size,
        width=1 + 0.02 * float(deviation[0]),
        gap=(4.0 + 0.5 * float(deviation[1]), 4.8 + 0.6 * float(deviation[2])),
        femoral=size * (2.35 + 0.18 * float(deviation[3])),
        tibial=(
            size * (1.75 + 0.2 * float(deviation[4])),
            size * (2.25 + 0.3 * float(deviation[5])),
        ),
        condyles=tuple(0.9 * float(value) for value in deviation[6:12]),
        girth=float(np.exp(0.006 * (bmi - 28) + 0.03 * deviation[12])),
        marrow=45.0 * float(np.exp(0.08 * deviation[13])),
        grain=float(rng.uniform(0.08, 0.2)),
        spots=float(rng.gamma(2.0, 0.8)),
    )
