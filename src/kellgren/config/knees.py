"""Which knees are studied, and what is done to a scan before a network sees it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from kellgren.config.settings import Grid, Label, Percentile, Positive, Seed, Settings, Share


class PhantomSettings(Settings):
    """Synthetic knees to make first, see `kellgren.phantom`."""

    train: Annotated[int, Field(ge=1)]
    test: Annotated[int, Field(ge=1)]
    grid: Grid = (24, 48, 48)
    seed: Seed = 0
    contrast: Literal["real", "clear"] = "real"
    agreement: Share = 0.8


class CohortSettings(Settings):
    """Where the knees come from: a cohort table, or a phantom that is made first.

    `cartilage` names the labels of the masks that count as cartilage (section 3.5.3); the default
    are those of OAIZIB-CM: femoral, medial tibial and lateral tibial cartilage.
    """

    table: Path | None = None
    phantom: PhantomSettings | None = None
    cartilage: tuple[Label, ...] = (2, 4, 5)

    @model_validator(mode="after")
    def _one_source(self) -> "CohortSettings":
        if (self.table is None) == (self.phantom is None):
            raise ValueError("give either 'table' or '[cohort.phantom]', not both and not neither")
        return self


class PreparationSettings(Settings):
    """What is done to a scan before a network sees it; the defaults are the paper's (section 3.4).

    `bias_correction` "n4" needs the extra `kellgren[n4]`. `normalisation` takes mean and standard
    deviation over all voxels ("zscore") or over those above Otsu's threshold
    ("foreground_zscore"). `clip_percentiles`, such as [0.5, 99.5], limits outliers beforehand.
    `resampling` "area" averages where the grid is coarser than the scan. `crop_mm` keeps a central
    box (right-left, top-bottom, front-back). A mirrored knee is one of the left side; with
    `mirror_left` off every knee stays as it lies.
    """

    bias_correction: Literal["none", "n4"] = "none"
    clip_percentiles: tuple[Percentile, Percentile] | None = None
    normalisation: Literal["zscore", "foreground_zscore"] = "zscore"
    crop_mm: tuple[Positive, Positive, Positive] | None = None
    resampling: Literal["trilinear", "area"] = "trilinear"
    mirror_left: bool = True

    @model_validator(mode="after")
    def _ascending(self) -> "PreparationSettings":
        low, high = self.clip_percentiles or (0, 100)
        if not low < high:
            raise ValueError(f"preparation.clip_percentiles [{low}, {high}] must ascend")
        return self
