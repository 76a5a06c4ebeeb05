"""Verbs that show and share a trained network."""

import shutil
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

RunFolder = Annotated[Path, typer.Argument(help="Run folder, such as runs/resnet3d-dual-s0.")]


@app.command()
def export(
    run: RunFolder,
    out: Annotated[
        Path, typer.Option(help="Folder for <name of the run>/, which must not exist yet.")
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help="Also as ONNX (extra 'onnx').")] = False,
    data: Annotated[str, typer.Option(help="What it was trained on, for the card.")] = "",
    licence: Annotated[str, typer.Option(help="Under which it is shared, for the card.")] = "",
) -> None:
    """Write a trained network to share: exact weights, a program, a card. No knee is named."""
    from kellgren.config import AnalysisSettings
    from kellgren.files import completed_folder, write_json, write_text
    from kellgren.learn.portable import write_onnx, write_program
    from kellgren.report import bundle
    from kellgren.report.card import model_card, shared_record
    from kellgren.runs import Run

    given = Run.at(run.resolve())
    with completed_folder(out / given.name) as folder:
        parities = [write_program(given, folder / bundle.PROGRAM)]
        if onnx:
            parities.append(write_onnx(given, folder / "models" / "model.onnx"))
        found = [asdict(parity) for parity in parities]
        card = model_card(
            given, settings=AnalysisSettings(), data=data, licence=licence, parities=found
        )
        write_json(folder / "configs" / "metadata.json", bundle.metadata(given, licence=licence))
        write_json(folder / "configs" / "inference.json", bundle.inference())
        write_json(folder / "parity.json", found)
        write_text(folder / "README.md", card)
        write_json(folder / "run.json", shared_record(given))
        shutil.copyfile(given.weights, folder / given.weights.name)
    for parity in parities:
        typer.echo(
            f"{parity.form} ({parity.library}): differs by at most"
            f" {max(parity.largest.values()):.1e} from the network"
        )
    typer.echo(f"{out / given.name}: weights, models, README.md. Research use only.")


@app.command()
def info(
    run: RunFolder,
    json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=100)] = 10_000,
) -> None:
    """Say what a run is, how it was trained and what it scores; no torch needed."""
    from kellgren.config import AnalysisSettings
    from kellgren.report.card import facts_of
    from kellgren.runs import Run

    facts = facts_of(Run.at(run.resolve()), AnalysisSettings(resamples=resamples))
    typer.echo(dumps(facts, indent=2) if json else "\n".join(lines_of(facts)))


def lines_of(facts: object, name: str = "") -> list[str]:
    """Nested facts as `name.of.fact: value` lines.

    >>> lines_of({"run": {"seed": 0, "grid": [2, 3]}})
    ['run.seed: 0', 'run.grid: 2, 3']
    """
    if isinstance(facts, dict):
        dot = f"{name}." if name else ""
        return [line for key, value in facts.items() for line in lines_of(value, f"{dot}{key}")]
    if isinstance(facts, list) and facts and isinstance(facts[0], dict):
        return [line for i, one in enumerate(facts) for line in lines_of(one, f"{name}[{i}]")]
    if isinstance(facts, list):
        return [f"{name}: {', '.join(map(str, facts))}"]
    return [f"{name}: {facts}"]
