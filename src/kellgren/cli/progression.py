"""Verbs for what became of the knees."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(name="follow-up")
def follow_up(
    cohort: Annotated[Path, typer.Argument(help="Cohort table (.csv).")],
    tables: Annotated[list[Path], typer.Argument(help="OAI tables of later grades.")],
    out: Annotated[Path, typer.Option(help="Table to write: case_id, months, kl.")],
) -> None:
    """Collect the later KL grades of the knees of a cohort from tables of the OAI."""
    from kellgren.cohort import read_cohort
    from kellgren.follow_up import write_follow_up
    from kellgren.importers.follow_up import follow_up as collected

    cases = read_cohort(cohort)
    readings = collected(cases, tables)
    write_follow_up(out, readings)
    knees = len({one.case_id for one in readings})
    typer.echo(f"{out}: {len(readings)} later grades of {knees} of {len(cases)} knees")


@app.command()
def progress(
    runs: Annotated[Path, typer.Argument(help="Folder of run folders.")],
    readings: Annotated[
        Path, typer.Option("--follow-up", help="Table of later grades: case_id, months, kl.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for tables and figures.")],
    horizon: Annotated[float, typer.Option(help="Months up to which grades count.", min=1)] = 48,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=100)] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.", min=0)] = 42,
) -> None:
    """Hold the predictions of baseline scans against later grades; no torch needed."""
    from kellgren.config import AnalysisSettings
    from kellgren.follow_up import read_follow_up
    from kellgren.progression import progression
    from kellgren.report.progression import summary, write_figures
    from kellgren.runs import Run

    found = progression(
        Run.all_in(runs),
        read_follow_up(readings),
        horizon=horizon,
        settings=AnalysisSettings(resamples=resamples, seed=seed),
    )
    found.write(out)
    write_figures(found, out)
    typer.echo(summary(found))
    typer.echo(f"{out}: progression.csv, progression_curves.csv and figures. Research use only.")
