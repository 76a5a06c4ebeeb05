"""The command line: its verbs, and how every one of them ends."""

import logging
import os
import sys
from io import TextIOWrapper

import typer

from kellgren.cli import data, progression, radiomics, scan, share, study
from kellgren.cli.signals import stop_on_signals
from kellgren.faults import InputError

app = typer.Typer(
    help="Grade knee osteoarthritis from 3-D MRI, and prove what such a model has learned. "
    "Research use only: not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for room in (study, data, scan, share, progression):
    app.add_typer(room.app)
app.add_typer(radiomics.app, name="radiomics")


def main() -> None:
    """Entry point: bad input and a missing file end in one clear last line and exit code 2."""
    # GNU OpenMP's threads spin for long while they wait; on a shared machine that starves the very
    # thread they wait for. A short spin costs nothing measurable on a quiet one.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
    logging.basicConfig(format="%(message)s")
    logging.getLogger("kellgren").setLevel(logging.INFO)
    stop_on_signals()
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
