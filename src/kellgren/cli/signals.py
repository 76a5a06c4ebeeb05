"""Signals that ask the command line to stop, and the exit code of each.

Whatever is finished is on disk already, whole, so stopping is leaving at once: temporary files are
removed, locks given back, and the same command goes on after the last whole epoch or knee. A second
signal of the same kind ends the process without that.
"""

import signal
import sys
from types import FrameType

# 128 + number, as a shell says it; for the signal by which Slurm announces the end of the time that
# was asked for, sysexits' EX_TEMPFAIL: not done yet, put it into the queue again.
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 75}


def stop_on_signals() -> None:
    """From now on the signals of `EXIT_CODES` raise SystemExit with their code."""
    for name in EXIT_CODES:
        if hasattr(signal, name):  # Windows has no SIGUSR1
            signal.signal(getattr(signal, name), _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    name = signal.Signals(number).name
    print(f"stopped by {name}: give the same command again to go on", file=sys.stderr)
    raise SystemExit(EXIT_CODES[name])
