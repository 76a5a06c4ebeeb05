"""The verbs of the contextual benchmark: `kellgren radiomics ...`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Radiomics systems of Chen et al. beside the networks.", no_args_is_help=True
)


@app.command()
def fit(
    study: Annotated[Path, typer.Argument(help="Study file with a table [radiomics].")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study; default results/<name of the study>.")
    ] = None,
) -> None:
    """Fit the radiomics systems of a study; each becomes a run folder like that of a network."""
    import torch

    from kellgren.config import read_study
    from kellgren.engine import Workplace, fit_radiomics
    from kellgren.progress import shown

    settings = read_study(study)
    folder = out or Path("results") / settings.name
    place = Workplace(settings, folder, torch.device("cpu"), shown)
    fit_radiomics(place, place.cohort())
