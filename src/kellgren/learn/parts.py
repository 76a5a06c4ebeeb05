"""Tables that are written row by row, so that work that was stopped goes on after the last knee.

What there is so far stands beside the table to come, as `<name>.part.csv`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from kellgren.files import write_json, write_text
from kellgren.runs import Run


def begin(
    run: Run, tables: Sequence[Path], *, asked: Mapping[str, object], work: str, done: str
) -> dict[Path, str]:
    """Text of each table as an earlier session left it; empty if it was asked for something else.

    Args:
        run: The run that is worked on.
        tables: Where the tables will stand.
        asked: Settings of this session.
        work: Entry of `run.json` that holds the settings of work that is under way.
        done: Entry that holds the settings of work that was done, which is no longer true of what
            new work overwrites.
    """
    parts = {path: part_of(path) for path in tables}
    if run.record().get(work) == asked:
        return {path: _whole_lines(part) if part.exists() else "" for path, part in parts.items()}
    for part in parts.values():
        part.unlink(missing_ok=True)
    record = {key: value for key, value in run.record().items() if key != done}
    write_json(run.settings_file, {**record, work: asked})
    return dict.fromkeys(tables, "")


def _whole_lines(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1]


def grow(text: dict[Path, str], path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Add rows to the text of a table, and write what there is of it."""
    first = not text[path]
    text[path] += pd.DataFrame(rows).to_csv(index=False, header=first, lineterminator="\n")
    write_text(part_of(path), text[path])


def finish(run: Run, text: Mapping[Path, str], *, asked: Mapping[str, object], done: str) -> None:
    """Write the tables, say in `run.json` that they are done, and remove the parts."""
    for path, whole in text.items():
        write_text(path, whole or "\n")
    write_json(run.settings_file, {**run.record(), done: dict(asked)})
    for path in text:
        part_of(path).unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where the rows stand that were made so far.

    >>> part_of(Path("overlap.csv")).name
    'overlap.part.csv'
    """
    return path.with_suffix(".part.csv")
