"""The verbs of the contextual benchmark: `kellgren radiomics ...`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kellgren.cli.options import Device, OnDevice, Out, StudyFile, Workers, workplace_of
from kellgren.faults import InputError

app = typer.Typer(
    help="Radiomics systems of Chen et al. beside the networks.", no_args_is_help=True
)


class Pool(StrEnum):
    """Pool of features, see `kellgren.radiomics.library.POOLS`."""

    published = "published"
    mr = "mr"


@app.command()
def extract(
    cohort: Annotated[Path, typer.Argument(help="Cohort table (.csv) with scans and masks.")],
    out: Annotated[Path, typer.Option(help="Wide table to write, such as features.csv.")],
    pool: Annotated[
        Pool, typer.Option(help="published: bins of width 25. mr: z-scored scan, 32 bins.")
    ] = Pool.published,
    labels: Annotated[str, typer.Option(help="Labels of the regions.")] = "1,2,3,4,5",
    mask_source: Annotated[
        str, typer.Option(help="Who or what drew the masks; noted beside the table.")
    ] = "not stated",
    workers: Workers = 1,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on with the other knees after a fault.")
    ] = False,
) -> None:
    """Measure PyRadiomics' features of each region of each knee; goes on where it was stopped."""
    from kellgren.cohort import read_cohort
    from kellgren.progress import shown
    from kellgren.radiomics.extraction import Extraction
    from kellgren.radiomics.library import Recipe

    recipe = Recipe(pool.value, _labels(labels))
    asked = recipe.record() | {"mask_source": mask_source}
    cases = read_cohort(cohort)
    with shown("extract features", len(cases)) as advance:
        faults = Extraction(out, asked, recipe.measure).run(
            cases,
            workers=workers,
            keep_going=keep_going,
            progress=lambda done, total: advance(done, f"{done} knees"),
        )
    for fault in faults.values():
        typer.echo(str(fault), err=True)
    if faults:
        raise InputError(
            str(out),
            f"no features of {len(faults)} of {len(cases)} knees, so no table",
            "the features of every knee",
            "correct these, or take them out of the cohort, and run this again; the rest is kept",
        )
    typer.echo(f"{out}: {len(cases)} knees")


def _labels(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and 1 <= int(part) <= 255 for part in parts):
        raise InputError("--labels", f"'{text}'", "numbers from 1 to 255", "write them as 2,4,5")
    return tuple(sorted({int(part) for part in parts}))


@app.command()
def fit(study: StudyFile, out: Out = None, device: OnDevice = Device.auto) -> None:
    """Fit the radiomics systems of a study; each becomes a run folder like that of a network."""
    from kellgren.engine import fit_radiomics

    place = workplace_of(study, out, device)
    fit_radiomics(place, place.cohort())
