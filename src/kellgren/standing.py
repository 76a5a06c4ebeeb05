"""How far each run of a study is, from its files alone; no torch."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from kellgren.files import readable
from kellgren.lease import LEASE_S
from kellgren.runs import Run


@dataclass(frozen=True)
class Standing:
    """How far a run is.

    Attributes:
        run: Its name.
        state: "done", "at work" (a process showed a sign of life in its folder within a lease),
            "partial" or "to do".
        epoch: Epochs that are over.
        epochs: Epochs of the whole training.
        loss: Mean loss of the last of them; None before the first.
        seconds_left: Of training, at the median pace so far; None before the first epoch.
    """

    run: str
    state: str
    epoch: int
    epochs: int
    loss: float | None
    seconds_left: float | None

    @classmethod
    def of(
        cls, run: Run, ends: Sequence[Path], *, epochs: int, now: float | None = None
    ) -> "Standing":
        """The standing of a run.

        Args:
            run: Its folder need not exist.
            ends: The files that stand when it is done.
            epochs: Epochs of its training.
            now: Seconds since the epoch; the time of the call where None.

        Raises:
            InputError: If its log cannot be read.
        """
        log = log_of(run)
        left = epochs_left(run, epochs)
        state = state_of(run, ends)
        if state != "done" and at_work(run.folder, time.time() if now is None else now):
            state = "at work"
        pace = float(log["seconds"].median()) if len(log) else None
        return cls(
            run.name,
            state,
            epochs - left,
            epochs,
            float(log["loss"].iloc[-1]) if len(log) else None,
            None if pace is None else pace * left,
        )

    def as_row(self) -> dict[str, Any]:
        """The standing as words of a table."""
        left = "" if self.seconds_left is None or self.state == "done" else said(self.seconds_left)
        return {
            "run": self.run,
            "state": self.state,
            "epoch": f"{self.epoch} of {self.epochs}",
            "loss": "" if self.loss is None else f"{self.loss:.4f}",
            "training left": left,
        }


def state_of(run: Run, ends: Sequence[Path]) -> str:
    """Whether a run is done, which is when those files stand, has begun, or is to do."""
    if all(path.exists() for path in ends):
        return "done"
    return "partial" if run.log.exists() or run.weights.exists() else "to do"


def epochs_left(run: Run, epochs: int) -> int:
    """Epochs that a run has still to train; each epoch that is over has a row in its log."""
    return 0 if run.weights.exists() else max(epochs - len(log_of(run)), 0)


def log_of(run: Run) -> pd.DataFrame:
    """Rows of `log.csv`; none where it is absent.

    Raises:
        InputError: If it cannot be read.
    """
    if not run.log.exists():
        return pd.DataFrame({"epoch": [], "loss": [], "seconds": []})
    with readable(run.log, todo="give the command of the run again, which goes on"):
        return pd.read_csv(run.log)


def at_work(folder: Path, now: float) -> bool:
    """Whether the marker of `kellgren.lease` in a folder was touched within the lease."""
    try:
        touched = os.stat(folder / ".lock").st_mtime
    except FileNotFoundError:
        return False
    return now - touched < LEASE_S


def said(seconds: float) -> str:
    """A time for people, to the minute or, below one, the second.

    >>> said(93784), said(42.3)
    ('1 day, 2:03', '42 s')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return str(timedelta(minutes=round(seconds / 60))).rsplit(":", 1)[0]
