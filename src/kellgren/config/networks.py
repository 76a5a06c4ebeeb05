"""How networks are built, trained and explained; defaults are the paper's (section 3.4)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from kellgren.config.objective import Arrangement, Balance, Consistency, KlLoss, OaLoss
from kellgren.config.settings import Grid, Label, NotNegative, Positive, RegionName, Settings, Share

PAPER_GRIDS: dict[str, tuple[int, int, int]] = {
    "resnet3d": (160, 256, 256),
    "m3t": (128, 128, 128),
    "nnmamba": (160, 256, 256),
}


REGIONS: dict[str, tuple[int, ...]] = {
    "femur": (1,),
    "femoral_cartilage": (2,),
    "tibia": (3,),
    "medial_tibial_cartilage": (4,),
    "lateral_tibial_cartilage": (5,),
}
"""Labels of OAIZIB-CM by the region that they make up."""


class BackboneSettings(Settings):
    """One encoder: its size, the grid that its input is resampled to, and where it starts.

    `weights` is a file that others released, relative to the study file; see
    `kellgren.learn.weights`. Without one, training starts from random weights.
    """

    size: str = "full"
    grid: Grid = (160, 256, 256)
    weights: Path | None = None


class AugmentationSettings(Settings):
    """How far training may change a knee at random, see `kellgren.learn.augmentation`.

    Each value is the largest; what a knee gets is drawn between none and that, anew in every epoch.
    0 is none, and the default: the paper names no augmentation. Right and left are never exchanged.

    `rotation_deg` and `translation_mm` move the knee about and along any direction; `elastic_mm` is
    how far a point moves beyond that, in a smooth field. `bias` is the logarithm of a smooth factor
    of the intensity (0.3 is a third more), `gamma` that of its exponent, and `noise_sd` is in
    standard deviations of the volume.
    """

    rotation_deg: Annotated[float, Field(ge=0, le=30)] = 0.0
    translation_mm: Annotated[float, Field(ge=0, le=30)] = 0.0
    elastic_mm: Annotated[float, Field(ge=0, le=5)] = 0.0
    bias: Annotated[float, Field(ge=0, le=1)] = 0.0
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.0
    noise_sd: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def off(self) -> bool:
        """Whether knees stay as they were prepared."""
        return self == AugmentationSettings()


class TrainingSettings(Settings):
    """How a model is trained, section 3.4, and by which means.

    The means come last: they change speed and memory, and the paper does not state its own.
    `accumulate` averages the gradients of that many batches before an update. `checkpoint` keeps
    less for the gradient and computes it again. `precision`, `channels_last` and `compile` concern
    training alone; prediction and saliency are plain float32. docs/performance.md has
    measurements.
    """

    epochs: Annotated[int, Field(ge=1)] = 100
    batch_size: Annotated[int, Field(ge=1)] = 2
    lr: Positive = 1e-4
    weight_decay: NotNegative = 1e-4
    lambda_oa: NotNegative = 1.0
    lambda_kl: NotNegative = 1.0
    heads: Arrangement = "parallel"
    oa_loss: OaLoss = "bce"
    kl_loss: KlLoss = "ce"
    consistency: Consistency = "none"
    lambda_consistency: NotNegative = 1.0
    agreement: Share | None = None
    class_weights: bool = False
    balance: Balance = "fixed"
    interference: Annotated[int, Field(ge=0)] = 0
    augmentation: AugmentationSettings = AugmentationSettings()
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    precision: Literal["float32", "bfloat16"] = "float32"
    accumulate: Annotated[int, Field(ge=1)] = 1
    checkpoint: bool = False
    channels_last: bool = False
    compile: bool = False

    @model_validator(mode="after")
    def _possible(self) -> "TrainingSettings":
        if self.kl_loss == "forward" and self.agreement is None:
            raise ValueError("kl_loss 'forward' needs 'agreement', the share of equal readings")
        if self.compile and self.checkpoint:
            raise ValueError("training.compile and training.checkpoint exclude each other")
        return self


class ExplanationSettings(Settings):
    """How saliency is computed, section 3.5.3.

    "gradient" is the paper's absolute gradient. "noisy_gradient_input" is the release's variant:
    the positive part of gradient times input, averaged over `copies` copies of the volume with
    added noise of standard deviation `noise_sd`. "smoothgrad" averages the absolute gradient over
    such copies, "integrated_gradients" sums it over `steps` points from the mean to the volume,
    and "occlusion" sets one `window` of voxels after the other to the mean.

    `regions` names the labels of the mask whose share of the saliency is measured; the default are
    those of OAIZIB-CM. What no region names counts as background.

    `exemplars` are the cases whose maps are kept; empty means one per KL grade, the test knee of
    that grade whose share of cartilage is the median one, so that no model chooses its own picture.
    """

    method: Literal[
        "gradient", "noisy_gradient_input", "smoothgrad", "integrated_gradients", "occlusion"
    ] = "gradient"
    copies: Annotated[int, Field(ge=1)] = 8
    noise_sd: NotNegative = 0.05
    steps: Annotated[int, Field(ge=2)] = 32
    window: Grid = (8, 8, 8)
    regions: dict[RegionName, tuple[Label, ...]] = Field(default=REGIONS)
    exemplars: tuple[str, ...] = ()
