"""Verbs for a new scan."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kellgren.cli.options import Device, OnDevice, device_of

app = typer.Typer()


class Side(StrEnum):
    """Which knee."""

    right = "right"
    left = "left"


@app.command()
def grade(
    scan: Annotated[Path, typer.Argument(help="NIfTI, NRRD, or a folder of DICOM slices.")],
    weights: Annotated[list[Path], typer.Option(help="Run folder; give it once per run.")],
    side: Annotated[Side | None, typer.Option(help="Which knee; a left one is mirrored.")] = None,
    out: Annotated[Path | None, typer.Option(help="Default grade-<digest of the scan>.")] = None,
    device: OnDevice = Device.auto,
) -> None:
    """Grade a new scan: KL probabilities, OA from both heads, saliency, a picture."""
    from kellgren.learn.grade import grade_scan, write_grading
    from kellgren.report.grading import write_picture
    from kellgren.runs import Run

    runs = [Run.at(path.resolve()) for path in weights]
    grading = grade_scan(scan, runs, side=side and side.value, device=device_of(device))
    folder = out or Path(f"grade-{grading.summary['scan'][:8]}")
    write_grading(grading, folder)
    write_picture(grading.summary, grading.views, folder / "grade.png")
    for warning in grading.summary["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(grading.text)
    typer.echo(f"{folder}: grade.json, grade.png and saliency maps. Research use only.")
