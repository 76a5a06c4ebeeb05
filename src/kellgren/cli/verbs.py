"""The verbs. torch is imported only inside those that train, predict or explain."""

import logging
import os
import sys
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kellgren.cli.radiomics import app as radiomics
from kellgren.faults import InputError

if TYPE_CHECKING:
    import torch

    from kellgren.engine import Workplace

app = typer.Typer(
    help="Grade knee osteoarthritis from 3-D MRI, and prove what such a model has learned. "
    "Research use only: not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(radiomics, name="radiomics")


class Device(StrEnum):
    """Where networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Side(StrEnum):
    """Which knee."""

    right = "right"
    left = "left"


class Step(StrEnum):
    """A step of one run."""

    train = "train"
    predict = "predict"
    explain = "explain"


StudyFile = Annotated[Path, typer.Argument(help="Study file, such as studies/phantom.toml.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder of the study; default results/<name of the study>.")
]
OnDevice = Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")]
Only = Annotated[str, typer.Option(help="Only this run, such as resnet3d-dual-s0.")]


@app.command()
def run(study: StudyFile, out: Out = None, device: OnDevice = Device.auto) -> None:
    """Do a whole study, or each of a sweep: knees, training, statistics, figures, a page."""
    from kellgren.engine import run_study

    places = _workplaces(study, out, device)
    for i, place in enumerate(places, start=1):
        if len(places) > 1:
            typer.echo(f"{place.folder}: study {i} of {len(places)}", err=True)
        run_study(place)
        report(place.folder / "study")


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to make the release in.")],
    train: Annotated[int, typer.Option(help="Training knees.", min=1)] = 160,
    test: Annotated[int, typer.Option(help="Test knees.", min=1)] = 64,
    grid: Annotated[str, typer.Option(help="Slices,rows,columns: 24,48,48 to 160,384,384.")] = (
        "24,48,48"
    ),
    seed: Annotated[int, typer.Option(help="Seed of all knees.", min=0)] = 0,
    contrast: Annotated[
        str, typer.Option(help="How strongly severity shows: real or clear.")
    ] = "real",
    agreement: Annotated[
        float, typer.Option(help="How often the reader gives the true grade.", min=0.01, max=1)
    ] = 0.8,
) -> None:
    """Make synthetic knees in the layout of the OAIZIB-CM release."""
    from kellgren.phantom import write_release
    from kellgren.progress import shown

    with shown("make synthetic knees", train + test) as advance:
        write_release(
            out,
            train=train,
            test=test,
            grid=_grid(grid),
            seed=seed,
            contrast=contrast,
            agreement=agreement,
            progress=lambda done, total: advance(done, f"{done} knees"),
        )
    typer.echo(f"{out}: {train} training and {test} test knees, contrast {contrast}")


@app.command(name="import")
def import_(
    kind: Annotated[str, typer.Argument(help="Layout: oaizib-cm, oai, nnunet, bids or table.")],
    source: Annotated[Path, typer.Argument(help="Folder of the data, or the table.")],
    out: Annotated[Path | None, typer.Option(help="Cohort table to write.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what is found, what is missing and why.")
    ] = False,
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="Do not ask for the images.")
    ] = False,
    grades: Annotated[Path | None, typer.Option(help="Table of grades.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="kl=KLGrade: a column by another name.")
    ] = None,
    code: Annotated[list[str] | None, typer.Option(help="side:1=right: a code.")] = None,
    constant: Annotated[
        list[str] | None, typer.Option(help="side=right: one value for all.")
    ] = None,
    match: Annotated[str, typer.Option(help="Part of the name of the scans (bids).")] = "",
    visit: Annotated[str, typer.Option(help="Visit 00 to 10 (oai).")] = "00",
    test_share: Annotated[
        float | None, typer.Option(help="Share of persons drawn for the test (oai).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of that draw.", min=0)] = 0,
) -> None:
    """Write a cohort table from data in another layout."""
    from kellgren.cohort import check_cohort, cohort_faults, summary, write_cohort
    from kellgren.importers import IMPORTERS, Options, codes_of, constants_of, pairs

    if kind not in IMPORTERS:
        raise InputError(
            f"import {kind}", "an unknown layout", f"one of {', '.join(IMPORTERS)}", "choose one"
        )
    if not source.exists():
        raise InputError(str(source), "no such file or folder", "the data", "check the path")
    options = Options(
        pairs(column or [], "--column"),
        codes_of(code or []),
        constants_of(constant or []),
        grades,
        match,
        visit,
        test_share,
        seed,
    )
    imported = IMPORTERS[kind](source, tables_only=tables_only or dry_run, options=options)
    if imported.cases:
        known = summary(imported.cases).dropna(axis="columns", how="all")
        typer.echo(known.round(1).to_string(index=False))
    typer.echo(imported.report())
    if dry_run:
        for fault in cohort_faults(imported.cases, str(source)):
            typer.echo(f"to be mended: {fault}")
        return
    if out is None:
        raise InputError("import", "no --out", "the cohort table to write", "give --out FILE.csv")
    check_cohort(imported.cases, str(source))
    write_cohort(out, imported.cases)
    typer.echo(f"{out}: {len(imported.cases)} knees")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Study file (.toml) or cohort table (.csv).")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every voxel, not headers only.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write all that was found as JSON.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables and, with --deep, contact sheets.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes at work.", min=1, max=64)] = 1,
) -> None:
    """Look for everything that is wrong with a study file and its knees.

    Exit code 0: sound; 1: warnings; 2: errors.
    """
    from kellgren.config import PAPER_GRIDS, CohortSettings, read_studies

    if file.suffix not in (".toml", ".csv"):
        raise InputError(
            str(file),
            "a folder" if file.is_dir() else f"the name '{file.name}'",
            "a cohort table (.csv) or a study file (.toml)",
            "make a cohort table of your data by `kellgren import`",
        )
    table: Path | None = file
    grids, cartilage = [PAPER_GRIDS["resnet3d"]], CohortSettings.model_fields["cartilage"].default
    if file.suffix == ".toml":
        studies = read_studies(file)
        study = next(iter(studies.values()))
        runs = len(study.seeds) * len(study.backbones) * len(study.supervisions)
        if study.radiomics is not None:
            systems, tasks = study.radiomics.systems, study.radiomics.tasks
            runs += len(study.seeds) * len(systems) * len(tasks)
        many = "" if len(studies) == 1 else f" at each of {len(studies)} settings"
        epochs = study.training.epochs
        typer.echo(f"{file}: a sound study of {runs} runs{many}, {epochs} epochs each")
        table, cartilage = study.cohort.table, study.cohort.cartilage
        grids = list(dict.fromkeys(backbone.grid for backbone in study.backbones.values()))
    if table is not None and file.suffix == ".toml" and not table.exists():
        typer.echo(f"{table.name}: not there yet, so the knees were not checked; see `import`")
    elif table is not None:
        _check_cohort(
            table, grids, cartilage=cartilage, deep=deep, json=json, out=out, workers=workers
        )


def _check_cohort(
    table: Path,
    grids: list[tuple[int, int, int]],
    *,
    cartilage: tuple[int, ...],
    deep: bool,
    json: Path | None,
    out: Path | None,
    workers: int,
) -> None:
    from kellgren.cohort import read_rows
    from kellgren.inspection import estimate, grouped, inspect_cohort
    from kellgren.progress import shown

    with shown("check", len(read_rows(table)[0])) as advance:
        inspection = inspect_cohort(
            table,
            deep=deep,
            cartilage=cartilage,
            workers=workers,
            progress=lambda done, total: advance(done, f"{done} knees"),
        )
    if out is not None:
        from kellgren.report.contact_sheet import write_contact_sheets

        inspection.write(out)
        typer.echo(f"{out}: cases.csv, findings.csv, check.json")
        if deep:
            with shown("draw contact sheets", len(inspection.knees)) as advance:
                write_contact_sheets(
                    inspection,
                    out,
                    progress=lambda done, total: advance(done, f"{done} knees"),
                )
    if json is not None:
        inspection.write_json(json)
    typer.echo(inspection.text())
    typer.echo(str(estimate(inspection.knees, grids)))
    for line in grouped(inspection.findings):
        typer.echo(line, err=True)
    typer.echo(inspection.verdict(), err=inspection.exit_code == 2)
    raise typer.Exit(inspection.exit_code)


@app.command()
def prepare(
    study: StudyFile,
    out: Out = None,
    workers: Annotated[int, typer.Option(help="Processes at work.", min=1, max=64)] = 1,
) -> None:
    """Bring every scan into the anatomical frame, z-score and resample it, once."""
    from kellgren import engine

    place = _workplace(study, out, Device.cpu)
    engine.prepare(place, place.cohort(), workers=workers)


@app.command()
def train(
    study: StudyFile, out: Out = None, only: Only = "", device: OnDevice = Device.auto
) -> None:
    """Train the runs of a study; an interrupted one goes on where it was."""
    _do(Step.train, _workplace(study, out, device), only)


@app.command()
def predict(
    study: StudyFile, out: Out = None, only: Only = "", device: OnDevice = Device.auto
) -> None:
    """Write logits and features of every knee for the trained runs."""
    _do(Step.predict, _workplace(study, out, device), only)


@app.command()
def explain(
    study: StudyFile, out: Out = None, only: Only = "", device: OnDevice = Device.auto
) -> None:
    """Write saliency, its overlap with cartilage and its controls for the trained runs."""
    _do(Step.explain, _workplace(study, out, device), only)


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
def grade(
    scan: Annotated[Path, typer.Argument(help="NIfTI, NRRD, or a folder of DICOM slices.")],
    weights: Annotated[list[Path], typer.Option(help="Run folder; give it once per run.")],
    side: Annotated[Side | None, typer.Option(help="Which knee; a left one is mirrored.")] = None,
    out: Annotated[Path | None, typer.Option(help="Default <name of the scan>-grade.")] = None,
    device: OnDevice = Device.auto,
) -> None:
    """Grade a new scan: KL probabilities, OA from both heads, saliency, a picture."""
    from kellgren.learn.grade import grade_scan, write_grading
    from kellgren.report.grading import write_picture
    from kellgren.runs import Run

    folder = out or Path(f"{scan.name.split('.')[0] or 'scan'}-grade")
    runs = [Run.at(path.resolve()) for path in weights]
    grading = grade_scan(scan, runs, side=side and side.value, device=_device(device))
    write_grading(grading, folder)
    write_picture(grading.summary, grading.views, folder / "grade.png")
    for warning in grading.summary["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(grading.text)
    typer.echo(f"{folder}: grade.json, grade.png and saliency maps. Research use only.")


def _workplace(study: Path, out: Path | None, device: Device) -> "Workplace":
    from kellgren.config import read_study

    read_study(study)  # refuses a sweep
    return _workplaces(study, out, device)[0]


def _workplaces(study: Path, out: Path | None, device: Device) -> "list[Workplace]":
    """One folder for each variant of the study, below that of the study; itself without a sweep."""
    from kellgren.config import read_studies
    from kellgren.engine import Workplace
    from kellgren.progress import shown

    where = _device(device)
    return [
        Workplace(settings, (out or Path("results") / settings.name) / variant, where, shown)
        for variant, settings in read_studies(study).items()
    ]


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
    engine.prepare(place, cases)
    for one in runs:
        engine.STEPS[step](place, one, cases)


def _device(device: Device) -> "torch.device":
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise InputError(
            "--device cuda", "no CUDA GPU", "a GPU that torch sees", "use --device cpu"
        )
    if device is Device.auto:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device.value)


def _grid(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise InputError("--grid", f"'{text}'", "three whole numbers d,h,w", "write it as 24,48,48")
    d, h, w = (int(part) for part in parts)
    return d, h, w


def main() -> None:
    """Entry point: bad input and a missing file end in one clear last line and exit code 2."""
    # GNU OpenMP's threads spin for long while they wait; on a shared machine that starves the very
    # thread they wait for. A short spin costs nothing measurable on a quiet one.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
    logging.basicConfig(format="%(message)s")
    logging.getLogger("kellgren").setLevel(logging.INFO)
    try:
        app()
    except InputError as error:
        _end(str(error))
    except OSError as error:
        _end(f"{error.filename or 'a file'}: {error.strerror or error}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        _end('this verb needs torch: pip install "kellgren[learn]"')


def _end(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
