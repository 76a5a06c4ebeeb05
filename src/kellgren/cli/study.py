"""Verbs that do a study or a step of it. torch is imported only inside those that need it."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kellgren.cli.options import (
    Device,
    OnDevice,
    Out,
    StudyFile,
    Workers,
    workplace_of,
    workplaces_of,
)
from kellgren.faults import InputError

if TYPE_CHECKING:
    from kellgren.engine import Workplace

app = typer.Typer()


class Step(StrEnum):
    """A step of one run."""

    train = "train"
    predict = "predict"
    explain = "explain"


Only = Annotated[str, typer.Option(help="Only this run, such as resnet3d-dual-s0.")]


class Engine(StrEnum):
    """Who does the runs."""

    here = "here"
    ray = "ray"


Address = Annotated[
    str, typer.Option(help="Of a running Ray cluster; local starts one for this command.")
]
Part = Annotated[
    str, typer.Option(help="i/n: only the runs i, i + n, ... of all, from 0; for job arrays.")
]


@app.command()
def run(
    study: StudyFile,
    out: Out = None,
    device: OnDevice = Device.auto,
    engine: Annotated[
        Engine, typer.Option(help="here: one run after the other. ray: many at once.")
    ] = Engine.here,
    address: Address = "local",
    shard: Part = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is left, and what it will take.")
    ] = False,
) -> None:
    """Do a whole study, or each of a sweep: knees, training, statistics, figures, a page.

    With --shard only runs are done, of knees that `kellgren prepare` has prepared; a start without
    it does the rest.
    """
    from kellgren.engine import run_study
    from kellgren.plan import check_disk, plan_of

    _need_one_process("run")
    if engine is Engine.ray and not dry_run:
        _run_on_ray(study, out, device, address)
        return
    places = workplaces_of(study, out, device)
    if shard:
        _do_shard(places, shard)
        return
    plans = [plan_of(place, probed=dry_run) for place in places]
    if dry_run:
        typer.echo("\n\n".join(map(str, plans)))
    check_disk(plans)
    if dry_run:
        return
    for i, place in enumerate(places, start=1):
        if len(places) > 1:
            typer.echo(f"{place.folder}: study {i} of {len(places)}", err=True)
        run_study(place)
        report(place.folder / "study")


def _do_shard(places: "list[Workplace]", part: str) -> None:
    from kellgren.jobs import Shard, jobs_of

    shard = Shard.read(part)
    jobs = [job for place in places for job in jobs_of(place, place.cohort())]
    for job in shard.take(jobs):
        job.do()


def _run_on_ray(study: Path, out: Path | None, device: Device, address: str) -> None:
    """The runs of all variants at once. A GPU is asked of the cluster, not of this machine."""
    from dataclasses import replace

    import torch

    from kellgren import engine
    from kellgren.cluster import carry_out
    from kellgren.jobs import jobs_of
    from kellgren.plan import check_disk, plan_of
    from kellgren.progress import shown, silent

    places = workplaces_of(study, out, Device.cpu if device is Device.cuda else device)
    if device is Device.cuda:
        places = [replace(place, device=torch.device("cuda")) for place in places]
    check_disk([plan_of(place, probed=False) for place in places])
    begun = [(place, engine.begin_study(place)) for place in places]
    quiet = [(replace(place, stage=silent), cases) for place, cases in begun]
    jobs = [job for place, cases in quiet for job in jobs_of(place, cases)]
    carry_out(jobs, address=address, stage=shown)
    for place, cases in begun:
        engine.finish_study(place, cases)
        report(place.folder / "study")


@app.command()
def status(study: StudyFile, out: Out = None) -> None:
    """Say how far each run of a study is: state, epoch, loss, time left; also while it runs."""
    import pandas as pd

    from kellgren.standing import Standing

    for place in workplaces_of(study, out, Device.cpu):
        epochs = place.study.training.epochs
        found = [Standing.of(run, place.ends(run), epochs=epochs) for run in place.runs()]
        table = pd.DataFrame([standing.as_row() for standing in found])
        done = sum(standing.state == "done" for standing in found)
        page = "there" if (place.folder / "study" / "report.html").exists() else "not yet"
        typer.echo(f"{place.folder}: {done} of {len(found)} runs done, page {page}")
        typer.echo(table.to_string(index=False))


@app.command()
def prepare(
    study: StudyFile,
    out: Out = None,
    workers: Workers = 1,
) -> None:
    """Bring every scan into the anatomical frame, z-score and resample it, once."""
    from kellgren import engine

    place = workplace_of(study, out, Device.cpu)
    engine.prepare(place, place.cohort(), workers=workers)


@app.command()
def train(
    study: StudyFile, out: Out = None, only: Only = "", device: OnDevice = Device.auto
) -> None:
    """Train the runs of a study; an interrupted one goes on where it was.

    Under torchrun the processes train each run together, of knees that `kellgren prepare` has
    prepared.
    """
    from dataclasses import replace

    from kellgren.learn.group import group_of
    from kellgren.progress import silent

    place = workplace_of(study, out, device)
    with group_of(place.device) as (group, own):
        stage = place.stage if group.leads else silent
        _do(Step.train, replace(place, device=own, group=group, stage=stage), only)


@app.command()
def predict(
    study: StudyFile, out: Out = None, only: Only = "", device: OnDevice = Device.auto
) -> None:
    """Write logits and features of every knee for the trained runs."""
    _need_one_process("predict")
    _do(Step.predict, workplace_of(study, out, device), only)


@app.command()
def explain(
    study: StudyFile, out: Out = None, only: Only = "", device: OnDevice = Device.auto
) -> None:
    """Write saliency, its overlap with cartilage and its controls for the trained runs."""
    _need_one_process("explain")
    _do(Step.explain, workplace_of(study, out, device), only)


@app.command()
def analyze(
    runs: Annotated[Path, typer.Argument(help="Folder of run folders, or a study file.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables.")],
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=100)] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.", min=0)] = 42,
    paper_p: Annotated[
        bool, typer.Option("--paper-p", help="p-values counted as the paper's seem to be.")
    ] = False,
) -> None:
    """Measure and compare whatever stands in run folders; no torch needed."""
    from kellgren.config import AnalysisSettings
    from kellgren.runs import Run
    from kellgren.study import analyze as analyze_runs

    settings = AnalysisSettings(resamples=resamples, seed=seed, paper_p=paper_p)
    result = analyze_runs(Run.all_in(runs), settings=settings, name=runs.resolve().name)
    result.write(out)
    typer.echo(f"{out}: {len(result.runs)} runs, {len(result.comparisons)} comparisons")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder that `analyze` or `run` wrote.")],
) -> None:
    """Print tables, figures and the page from the tables of a study."""
    from kellgren.report import write_report
    from kellgren.study import StudyResult

    typer.echo(str(write_report(StudyResult.read(folder), folder)))


@app.command()
def agreement(
    study: StudyFile,
    out: Out = None,
    only: Only = "",
    folds: Annotated[int, typer.Option(help="Networks to train.", min=2, max=20)] = 5,
    device: OnDevice = Device.auto,
) -> None:
    """Estimate how often the reader of the training knees is right, by cross-fitting: a floor."""
    from kellgren.crossfit import reader_agreement

    place = workplace_of(study, out, device)
    path, found = reader_agreement(place, only, folds=folds)
    typer.echo(
        f"{path}: agreement {found.value:.2f} ({found.low:.2f} to {found.high:.2f}),"
        f" {found.n} knees in {folds} folds; the networks call the grade that was read on"
        f" {found.called:.0%}, and {found.beyond:.0%} of the readings seem two grades off or more"
    )
    typer.echo(
        "What the networks get wrong counts as misread: a floor. docs/choose-a-supervision.md"
    )


def _need_one_process(verb: str) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            f"kellgren {verb}",
            f"{os.environ['WORLD_SIZE']} processes (WORLD_SIZE)",
            "one",
            "start `kellgren train` alone by torchrun, and then this without it",
        )


def _do(step: Step, place: "Workplace", only: str) -> None:
    from kellgren import engine

    runs = [run for run in place.runs() if only in ("", run.name)]
    if not runs:
        raise InputError(
            f"--only {only}",
            "no such run in the study",
            f"one of {[run.name for run in place.runs()]}",
            "choose one of them",
        )
    cases = place.cohort()
    if place.group.size == 1:
        engine.prepare(place, cases)
    for one in runs:
        engine.STEPS[step](place, one, cases)
