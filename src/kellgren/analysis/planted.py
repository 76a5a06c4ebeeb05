"""How saliency lies on the signs of disease that were planted in a synthetic knee."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from kellgren.analysis.profile import regions

ANY = "any_sign"


@dataclass(frozen=True)
class OnSign:
    """Saliency on the voxels of one sign; all but `share` are NaN where the knee has none of it.

    Attributes:
        sign: Name of the sign, or "any_sign" for all of them together.
        share: Share of the voxels that show it.
        mass: Share of the saliency that lies on it; NaN without saliency. Chance is `share`.
        enrichment: Mass over share; chance is 1.
        over_cartilage: Mean saliency of its voxels over that of cartilage without a sign; NaN where
            that is 0. Chance is 1.
    """

    sign: str
    share: float
    mass: float
    enrichment: float
    over_cartilage: float


def on_signs(
    saliency: Float[np.ndarray, "d h w"],
    signs: UInt8[np.ndarray, "d h w"],
    cartilage: Bool[np.ndarray, "d h w"],
    *,
    names: Mapping[str, Sequence[int]],
) -> list[OnSign]:
    """How much of the saliency lies on each sign, and on all of them together.

    Args:
        saliency: At least 0.
        signs: Label of the sign that each voxel shows; 0 is none.
        cartilage: True inside cartilage.
        names: Labels of each sign, such as {"osteophyte": (2,)}.

    >>> one = np.array([[[1.0, 3.0, 0.0, 4.0]]])
    >>> signs = np.array([[[0, 2, 0, 0]]], np.uint8)
    >>> on_signs(one, signs, one == 1, names={"osteophyte": (2,)})[0]
    OnSign(sign='osteophyte', share=0.25, mass=0.375, enrichment=1.5, over_cartilage=3.0)
    """
    sound = (cartilage & (signs == 0)).astype(np.int64)
    cartilage_alone = regions(saliency, sound, names={"sound": (1,)})[0].enrichment or np.nan
    every = tuple(label for labels in names.values() for label in labels)
    return [
        OnSign(
            region.name,
            region.volume,
            region.mass if region.volume else np.nan,
            region.enrichment,
            region.enrichment / cartilage_alone,
        )
        for region in regions(saliency, signs.astype(np.int64), names={**names, ANY: every})[:-1]
    ]
