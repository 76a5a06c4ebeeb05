"""The systems of the contextual benchmark by name (Appendix C; Chen et al., arXiv 2603.02367)."""

from functools import partial

from kellgren.radiomics import linear
from kellgren.radiomics.systems import Fitted, Material, System, Watch


def _top_k(material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    from kellgren.radiomics.top_k import top_k

    return top_k(material, task, seed=seed, watch=watch)


def _top_k_released(material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    from kellgren.radiomics.top_k import top_k_released

    return top_k_released(material, task, seed=seed, watch=watch)


def _retrieval(material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    from kellgren.radiomics.retrieval import retrieval

    return retrieval(material, task, seed=seed, watch=watch)


def _retrieval_released(material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    from kellgren.radiomics.retrieval import retrieval_released

    return retrieval_released(material, task, seed=seed, watch=watch)


def _image(seen: str, material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    from kellgren.radiomics.image import image

    return image(seen, material, task, seed=seed, watch=watch)


SYSTEMS: dict[str, System] = {
    "demographics": partial(linear.tuned, linear.LOGISTIC, linear.person),
    "shape": partial(linear.tuned, linear.LOGISTIC, linear.shape),
    "texture": partial(linear.tuned, linear.LOGISTIC, linear.texture),
    "cartilage": partial(linear.tuned, linear.LOGISTIC, linear.cartilage),
    "bone": partial(linear.tuned, linear.LOGISTIC, linear.bone),
    "all_radiomics": partial(linear.tuned, linear.LOGISTIC, linear.features),
    "all_radiomics_ordinal": partial(linear.tuned, linear.ORDINAL, linear.features),
    "all_radiomics_refit": linear.refit,
    "top_k": _top_k,
    "top_k_released": _top_k_released,
    "retrieval": _retrieval,
    "retrieval_released": _retrieval_released,
    "image": partial(_image, "none"),
    "image_mask": partial(_image, "union"),
    "image_mask_onehot": partial(_image, "onehot"),
}
"""How each system is fitted. Those that need torch import it when they are called."""

NEEDS_NO_FEATURES: frozenset[str] = frozenset(
    {"demographics", "image", "image_mask", "image_mask_onehot"}
)
