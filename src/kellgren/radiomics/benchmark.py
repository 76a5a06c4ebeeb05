"""The systems of the contextual benchmark by name (Appendix C; Chen et al., arXiv 2603.02367)."""

from kellgren.radiomics.systems import System

SYSTEMS: dict[str, System] = {}
"""How each system is fitted. Those that need torch import it when they are called."""

NEEDS_IMAGES: frozenset[str] = frozenset({"image", "image_mask", "image_mask_onehot"})
NEEDS_NO_FEATURES: frozenset[str] = NEEDS_IMAGES | {"demographics"}
