"""A whole study file: read, checked, and its paths taken relative to its folder."""

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from kellgren.config.knees import CohortSettings, PhantomSettings, PreparationSettings
from kellgren.config.networks import (
    PAPER_GRIDS,
    AugmentationSettings,
    BackboneSettings,
    ExplanationSettings,
    TrainingSettings,
)
from kellgren.config.radiomics import (
    ImageSettings,
    RadiomicsSettings,
    RetrievalSettings,
    TopKSettings,
)
from kellgren.config.settings import Grid, RunPart, Seed, Settings, Share
from kellgren.config.supervision import SUPERVISIONS, Supervision
from kellgren.config.sweep import Content, variants
from kellgren.faults import InputError

SIZE_LIMIT = 256 << 10  # bytes of a study file


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
    """A whole study file. Without `explain` no saliency is computed by `kellgren run`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    title: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    supervisions: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "single_oa",
        "single_kl",
        "dual",
    )
    supervision: dict[RunPart, Supervision] = Field(default={})
    cohort: CohortSettings
    preparation: PreparationSettings = PreparationSettings()
    backbones: dict[str, BackboneSettings] = Field(default={})
    training: TrainingSettings = TrainingSettings()
    explain: bool = True
    explanation: ExplanationSettings = ExplanationSettings()
    analysis: AnalysisSettings = AnalysisSettings()
    radiomics: RadiomicsSettings | None = None

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
        for name in self.supervisions:
            if name not in self.ways:
                raise ValueError(f"supervisions: '{name}' is unknown; there are {list(self.ways)}")
        if taken := SUPERVISIONS.keys() & self.supervision.keys():
            raise ValueError(f"supervision.{sorted(taken)[0]} is the name of a built-in setting")
        if not self.backbones and self.radiomics is None:
            raise ValueError("give a [backbones.<name>], or [radiomics]; there is nothing to train")
        for name in self.backbones:
            if name not in PAPER_GRIDS:
                raise ValueError(f"backbones.{name} is unknown; there are {list(PAPER_GRIDS)}")
        m3t = self.backbones.get("m3t")
        if m3t is not None and len(set(m3t.grid)) != 1:
            raise ValueError(f"backbones.m3t.grid {list(m3t.grid)} must be a cube")
        if self.training.lambda_oa == 0 and self.training.lambda_kl == 0:
            raise ValueError("training.lambda_oa and training.lambda_kl are both 0")
        return self

    @property
    def ways(self) -> dict[str, Supervision]:
        """Every supervision that a run of this study may have, by name."""
        return SUPERVISIONS | self.supervision

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Every grid that scans are prepared on, each once, those of the backbones first."""
        found = [settings.grid for settings in self.backbones.values()]
        systems = self.radiomics
        if systems is not None and any(map(systems.reads_scans, systems.systems)):
            found.append(systems.grid)
        return tuple(dict.fromkeys(found))

    def protocol(self) -> dict[str, Any]:
        """The study file with defaults filled in, without the paths of the machine it ran on."""
        content = self.model_dump(mode="json")
        if self.cohort.table is not None:
            content["cohort"]["table"] = self.cohort.table.name
        for name, settings in self.backbones.items():
            if settings.weights is not None:
                content["backbones"][name]["weights"] = settings.weights.name
        if self.radiomics is not None:
            content["radiomics"]["features"] = [path.name for path in self.radiomics.features]
        return content


def read_study(path: Path) -> Study:
    """Read a study file; paths inside it are relative to its folder.

    Raises:
        InputError: If the file is missing, is not TOML, has an unknown key or a bad value, or is a
            sweep, which is several studies.
    """
    studies = read_studies(path)
    if "" not in studies:
        raise InputError(
            f"{path}, key 'sweep'",
            f"{len(studies)} studies",
            "one study",
            "use `kellgren run`, which does each of them, or a file without [sweep]",
        )
    return studies[""]


def read_studies(path: Path) -> dict[str, Study]:
    """Read a study file that may be a sweep: every variant by its name, see `sweep.variants`.

    Raises:
        InputError: If the file is missing, is not TOML, or has an unknown key or a bad value.
    """
    found = variants(_content(path), str(path))
    return {name: _read(path, name, content) for name, content in found.items()}


def _content(path: Path) -> Content:
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
        if len(content) > SIZE_LIMIT:
            raise ValueError(f"more than {SIZE_LIMIT} bytes")
        return tomllib.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise InputError(
            str(path), "no such file", "a study file", "check the path, or copy one from studies/"
        ) from None
    except RecursionError:
        raise InputError(
            str(path), "tables or lists in one another without end", "TOML", "correct the file"
        ) from None
    except ValueError as error:  # of TOML, of UTF-8, or of a number with thousands of digits
        raise InputError(str(path), str(error), "TOML", "correct the line") from error


def _read(path: Path, variant: str, content: Content) -> Study:
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise _explain(path, error) from error
    if variant:
        study = study.model_copy(update={"title": f"{study.title or study.name}: {variant}"})
    return _beside(path.parent, study)


def _beside(folder: Path, study: Study) -> Study:
    """The study with its paths taken relative to a folder."""
    cohort, backbones, radiomics = study.cohort, dict(study.backbones), study.radiomics
    if cohort.table is not None:
        cohort = cohort.model_copy(update={"table": folder / cohort.table})
    for name, settings in backbones.items():
        if settings.weights is not None:
            there = {"weights": folder / settings.weights}
            backbones[name] = settings.model_copy(update=there)
    if radiomics is not None:
        tables = tuple(folder / path for path in radiomics.features)
        radiomics = radiomics.model_copy(update={"features": tables})
    return study.model_copy(
        update={"cohort": cohort, "backbones": backbones, "radiomics": radiomics}
    )


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
        "radiomics": RadiomicsSettings,
        "supervision": Supervision,
        "radiomics.top_k": TopKSettings,
        "radiomics.retrieval": RetrievalSettings,
        "radiomics.image": ImageSettings,
    }
    name = ".".join(str(part) for part in location)
    name = "supervision" if location[:1] == ("supervision",) else name
    return sorted(tables.get(name, BackboneSettings).model_fields)
