"""Long work tells how far it is and how long it takes: a bar on a terminal, else plain lines."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

Advance = Callable[[int, str], None]
Stage = Callable[[str, int], AbstractContextManager[Advance]]

SECONDS_BETWEEN_LINES = 15.0
# How far back the bar looks for the speed; rich's own 30 s see no two steps of slow work.
SECONDS_OF_SPEED = 3600.0


@contextmanager
def silent(title: str, total: int) -> Iterator[Advance]:
    """A stage that nobody watches."""

    def advance(done: int, note: str) -> None:
        pass

    yield advance


@contextmanager
def shown(title: str, total: int) -> Iterator[Advance]:
    """A stage on standard error; `advance(done, note)` says how much of `total` is done."""
    from rich.console import Console

    console = Console(stderr=True)
    show = _bar if console.is_interactive else _lines
    with show(title, total) as advance:
        yield advance


@contextmanager
def _bar(title: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:28}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(
        *columns, console=Console(stderr=True), speed_estimate_period=SECONDS_OF_SPEED
    ) as progress:
        task = progress.add_task(title, total=total, note="")
        yield lambda done, note: progress.update(task, completed=done, note=note)


@contextmanager
def _lines(title: str, total: int) -> Iterator[Advance]:
    from rich.console import Console

    started = last = time.monotonic()
    console, note_at_end = Console(stderr=True, soft_wrap=True, highlight=False), ""

    def advance(done: int, note: str) -> None:
        nonlocal last, note_at_end
        note_at_end, now = note, time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and 0 < done < total:
            last, left = now, round((now - started) / done * (total - done))
            said = f"{title}: {done}/{total}, {note}, about {timedelta(seconds=left)} left"
            console.print(said, markup=False)

    yield advance
    seconds = time.monotonic() - started
    note = f", {note_at_end}" if note_at_end else ""
    console.print(f"{title}: done in {seconds:.1f} s{note}", markup=False)
