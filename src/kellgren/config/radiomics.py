"""The radiomics systems of Chen et al. (arXiv 2603.02367) that a study sets beside its networks."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kellgren.config.settings import Grid, Settings

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
