"""Verbs that bring knees in: make, import, check them."""

from pathlib import Path
from typing import Annotated

import typer

from kellgren.cli.options import Workers
from kellgren.faults import InputError

app = typer.Typer()


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
    workers: Workers = 1,
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
        grids = list(study.grids)
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


def _grid(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise InputError("--grid", f"'{text}'", "three whole numbers d,h,w", "write it as 24,48,48")
    d, h, w = (int(part) for part in parts)
    return d, h, w
