"""The systems of the contextual benchmark by name (Appendix C; Chen et al., arXiv 2603.02367)."""

from functools import partial

from kellgren.radiomics import linear
from kellgren.radiomics.systems import System

SYSTEMS: dict[str, System] = {
    "demographics": partial(linear.tuned, linear.LOGISTIC, linear.person),
    "shape": partial(linear.tuned, linear.LOGISTIC, linear.shape),
    "texture": partial(linear.tuned, linear.LOGISTIC, linear.texture),
    "cartilage": partial(linear.tuned, linear.LOGISTIC, linear.cartilage),
    "bone": partial(linear.tuned, linear.LOGISTIC, linear.bone),
    "all_radiomics": partial(linear.tuned, linear.LOGISTIC, linear.features),
    "all_radiomics_ordinal": partial(linear.tuned, linear.ORDINAL, linear.features),
    "all_radiomics_refit": linear.refit,
}
"""How each system is fitted. Those that need torch import it when they are called."""

NEEDS_IMAGES: frozenset[str] = frozenset({"image", "image_mask", "image_mask_onehot"})
NEEDS_NO_FEATURES: frozenset[str] = NEEDS_IMAGES | {"demographics"}
