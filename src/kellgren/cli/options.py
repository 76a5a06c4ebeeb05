"""Options that several verbs share, and what they stand for."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kellgren.faults import InputError

if TYPE_CHECKING:
    import torch

    from kellgren.engine import Workplace


class Device(StrEnum):
    """Where networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


StudyFile = Annotated[Path, typer.Argument(help="Study file, such as studies/phantom.toml.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder of the study; default results/<name of the study>.")
]
OnDevice = Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")]


def _told(workers: int) -> int:
    cores = len(os.sched_getaffinity(0))
    if workers > cores:
        said = f"warning: {workers} workers on {cores} cores wait for each other"
        typer.echo(f"{said}, and each holds a scan in memory", err=True)
    return workers


Workers = Annotated[int, typer.Option(help="Processes at work.", min=1, max=64, callback=_told)]


def workplace_of(study: Path, out: Path | None, device: Device) -> "Workplace":
    """Where the one study of a file is done; a sweep is refused."""
    from kellgren.config import read_study

    read_study(study)
    return workplaces_of(study, out, device)[0]


def workplaces_of(study: Path, out: Path | None, device: Device) -> "list[Workplace]":
    """One folder for each variant of the study, below that of the study; itself without a sweep."""
    from kellgren.config import read_studies
    from kellgren.engine import Workplace
    from kellgren.progress import shown

    where = device_of(device)
    return [
        Workplace(settings, (out or Path("results") / settings.name) / variant, where, shown)
        for variant, settings in read_studies(study).items()
    ]


def device_of(device: Device) -> "torch.device":
    """The device of torch; InputError for CUDA where there is none."""
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise InputError(
            "--device cuda", "no CUDA GPU", "a GPU that torch sees", "use --device cpu"
        )
    if device is Device.auto:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device.value)
