"""A study file: what is studied, frozen and checked; defaults are the paper's (section 3.4)."""

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kellgren.faults import InputError

Grid = tuple[
    Annotated[int, Field(ge=8, le=512)],
    Annotated[int, Field(ge=8, le=1024)],
    Annotated[int, Field(ge=8, le=1024)],
]
SupervisionName = Literal["single_oa", "single_kl", "dual"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(gt=0, le=1)]
Label = Annotated[int, Field(ge=1, le=255)]
RegionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Settings(BaseModel):
    """A table of a study file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class BackboneSettings(Settings):
    """One encoder: its size, the grid that its input is resampled to, and where it starts.

    `weights` is a file that others released, relative to the study file; see
    `kellgren.learn.weights`. Without one, training starts from random weights.
    """

    size: str = "full"
    grid: Grid = (160, 256, 256)
    weights: Path | None = None


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


PAPER_GRIDS: dict[str, tuple[int, int, int]] = {
    "resnet3d": (160, 256, 256),
    "m3t": (128, 128, 128),
    "nnmamba": (160, 256, 256),
}


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
    heads: Literal["parallel", "stacked"] = "parallel"
    oa_loss: Literal["bce", "softmax"] = "bce"
    augmentation: AugmentationSettings = AugmentationSettings()
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    precision: Literal["float32", "bfloat16"] = "float32"
    accumulate: Annotated[int, Field(ge=1)] = 1
    checkpoint: bool = False
    channels_last: bool = False
    compile: bool = False

    @model_validator(mode="after")
    def _possible(self) -> "TrainingSettings":
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
    regions: dict[RegionName, tuple[Label, ...]] = {
        "femur": (1,),
        "femoral_cartilage": (2,),
        "tibia": (3,),
        "medial_tibial_cartilage": (4,),
        "lateral_tibial_cartilage": (5,),
    }
    exemplars: tuple[str, ...] = ()


class AnalysisSettings(Settings):
    """How differences are tested, section 3.6.

    `agreements` are the exact agreements of a reader for which the noise ceiling is stated; 0.55
    to 0.85 is published for KL grades.
    """

    resamples: Annotated[int, Field(ge=100)] = 10_000
    seed: Seed = 42
    paper_p: bool = False
    agreements: tuple[Share, ...] = (0.6, 0.7, 0.8)


class Study(Settings):
    """A whole study file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    title: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    supervisions: Annotated[tuple[SupervisionName, ...], Field(min_length=1)] = (
        "single_oa",
        "single_kl",
        "dual",
    )
    cohort: CohortSettings
    preparation: PreparationSettings = PreparationSettings()
    backbones: Annotated[dict[str, BackboneSettings], Field(min_length=1)]
    training: TrainingSettings = TrainingSettings()
    explanation: ExplanationSettings = ExplanationSettings()
    analysis: AnalysisSettings = AnalysisSettings()

    @model_validator(mode="before")
    @classmethod
    def _fill_paper_grids(cls, content: dict[str, Any]) -> dict[str, Any]:
        for name, settings in (content.get("backbones") or {}).items():
            if isinstance(settings, dict) and name in PAPER_GRIDS:
                settings.setdefault("grid", PAPER_GRIDS[name])
        return content

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} repeat; each seed is one run")
        for name in self.backbones:
            if name not in PAPER_GRIDS:
                raise ValueError(f"backbones.{name} is unknown; there are {list(PAPER_GRIDS)}")
        m3t = self.backbones.get("m3t")
        if m3t is not None and len(set(m3t.grid)) != 1:
            raise ValueError(f"backbones.m3t.grid {list(m3t.grid)} must be a cube")
        if self.training.lambda_oa == 0 and self.training.lambda_kl == 0:
            raise ValueError("training.lambda_oa and training.lambda_kl are both 0")
        return self


def read_study(path: Path) -> Study:
    """Read a study file; paths inside it are relative to its folder.

    Raises:
        InputError: If the file is missing, is not TOML, or has an unknown key or a bad value.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            str(path), "no such file", "a study file", "check the path, or copy one from studies/"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), str(error), "TOML", "correct the line") from error
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise _explain(path, error) from error
    return _beside(path.parent, study)


def _beside(folder: Path, study: Study) -> Study:
    """The study with its paths taken relative to a folder."""
    cohort, backbones = study.cohort, dict(study.backbones)
    if cohort.table is not None:
        cohort = cohort.model_copy(update={"table": folder / cohort.table})
    for name, settings in backbones.items():
        if settings.weights is not None:
            there = {"weights": folder / settings.weights}
            backbones[name] = settings.model_copy(update=there)
    return study.model_copy(update={"cohort": cohort, "backbones": backbones})


def _explain(path: Path, error: ValidationError) -> InputError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        near = get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "remove it"
        return InputError(f"{path}, key '{key}'", "an unknown key", f"one of {known}", hint)
    found = f"{first['input']!r}" if first["type"] != "missing" else "nothing"
    found = found if len(found) <= 80 else found[:77] + "..."
    needed = first["msg"].removeprefix("Value error, ")
    return InputError(
        f"{path}, key '{key or 'the study'}'", found, needed, "correct the study file"
    )


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    tables: dict[str, type[Settings]] = {
        "": Study,
        "cohort": CohortSettings,
        "cohort.phantom": PhantomSettings,
        "preparation": PreparationSettings,
        "training": TrainingSettings,
        "training.augmentation": AugmentationSettings,
        "explanation": ExplanationSettings,
        "analysis": AnalysisSettings,
    }
    name = ".".join(str(part) for part in location)
    return sorted(tables.get(name, BackboneSettings).model_fields)
