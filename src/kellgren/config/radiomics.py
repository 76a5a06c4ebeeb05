"""The radiomics systems of Chen et al. (arXiv 2603.02367) that a study sets beside its networks."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from kellgren.config.settings import Grid, NotNegative, Positive, Settings, Share

Count = Annotated[int, Field(ge=1)]

SystemName = Literal[
    "demographics",
    "shape",
    "texture",
    "cartilage",
    "bone",
    "all_radiomics",
    "all_radiomics_ordinal",
    "all_radiomics_refit",
    "top_k",
    "top_k_released",
    "retrieval",
    "retrieval_released",
    "image",
    "image_mask",
    "image_mask_onehot",
]

SETTINGS_OF: dict[str, str] = {
    "top_k": "top_k",
    "top_k_released": "top_k",
    "retrieval": "retrieval",
    "retrieval_released": "retrieval",
    "image": "image",
    "image_mask": "image",
    "image_mask_onehot": "image",
}
"""System -> the table of `[radiomics]` that it has to itself; the others have none."""


class ImageSettings(Settings):
    """A network on the scan, or on scan and mask; the defaults are as released.

    `width` is the number of channels of the first stage: 64 is r3d_18 as it is published.
    """

    width: Count = 64
    epochs: Count = 200
    batch_size: Count = 4
    lr: Positive = 1e-4
    weight_decay: NotNegative = 1e-4


class TopKSettings(Settings):
    """Top-k selection: a gate for each knee keeps k features; the defaults are as released.

    In the first `warmup_epochs` a mask is soft, above a threshold that rises to `threshold`, while
    the weight of the loss on the number of features rises between the two `k_weights`; afterwards
    the mask has exactly k ones. Training ends early after `patience` epochs without a better
    macro-F1 on the validation knees. With `image` the gate reads the prepared scan, as released;
    without, the knee's standardised features.
    """

    k: Count = 30
    epochs: Count = 500
    warmup_epochs: Annotated[int, Field(ge=0)] = 100
    patience: Count = 300
    batch_size: Count = 8
    lr: Positive = 1e-4
    weight_decay: NotNegative = 1e-5
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.5
    k_weights: tuple[NotNegative, NotNegative] = (0.005, 0.05)
    diversity_weight: NotNegative = 0.2
    entropy_weight: NotNegative = 0.05
    image: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "TopKSettings":
        if self.warmup_epochs >= self.epochs:
            raise ValueError("warmup_epochs must be below epochs: knees are graded by hard masks")
        return self


class RetrievalSettings(Settings):
    """Feature-set retrieval: sets are drawn, ranked by a scorer and classified; as released.

    At every step each knee draws sets of `k` features, in the first `warmup_epochs` as many as
    `probed`, later `pool_size`, of which the best and a share `exploration` of random ones are
    probed: their worth is what the scorer learns, and the `top_m` best classify the knee. A fitted
    system draws `recall` sets, keeps the `kept` best, changes the `parents` best `mutations` times
    each, and answers with the mean of the `final_top` best. `reward` is the worth of a set for
    `retrieval`; `retrieval_released` has its own. With `image` the scorer reads the prepared scan,
    as released; without, the knee's standardised features.
    """

    k: Count = 25
    epochs: Count = 800
    warmup_epochs: Annotated[int, Field(ge=0)] = 80
    batch_size: Count = 4
    lr: Positive = 1e-4
    weight_decay: NotNegative = 5e-3
    probed: Count = 50
    pool_size: Count = 2000
    top_m: Count = 5
    exploration: Share = 0.6
    rank_weight: NotNegative = 0.5
    reward: Literal["ridge", "patient"] = "ridge"
    recall: Count = 4000
    kept: Count = 100
    parents: Count = 5
    mutations: Count = 200
    final_top: Count = 10
    image: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "RetrievalSettings":
        rising = {
            "top_m": [self.top_m, self.probed, self.pool_size],
            "parents": [self.parents, self.kept, self.recall],
            "final_top": [self.final_top, self.kept, self.recall],
        }
        for name, sizes in rising.items():
            if sizes != sorted(sizes):
                raise ValueError(f"{name} and what it is chosen from must not shrink: {sizes}")
        return self


class RadiomicsSettings(Settings):
    """Systems that grade knees from tables of features, or as Chen et al. do from images.

    `features` are wide tables, relative to the study file: `case_id, roi_name, <features>`. Where
    none is named, the features are those that `kellgren radiomics extract` wrote to
    `features.csv` in the folder of the study. `tasks` are what each system is fitted for; each task
    is a model of its own. `grid` is the input of the systems that look at images.
    """

    systems: Annotated[tuple[SystemName, ...], Field(min_length=1)]
    features: tuple[Path, ...] = ()
    tasks: Annotated[tuple[Literal["oa", "kl"], ...], Field(min_length=1)] = ("oa", "kl")
    grid: Grid = (32, 128, 128)
    top_k: TopKSettings = TopKSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    image: ImageSettings = ImageSettings()

    def reads_scans(self, system: str) -> bool:
        """Whether a system looks at prepared scans; the rows of features do where asked.

        >>> RadiomicsSettings(systems=("top_k",)).reads_scans("top_k")
        False
        """
        asked = {"image": True, "top_k": self.top_k.image, "retrieval": self.retrieval.image}
        return asked.get(SETTINGS_OF.get(system, ""), False)
