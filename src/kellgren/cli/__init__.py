"""The command line: `kellgren VERB`."""

from kellgren.cli.verbs import app, main

__all__ = ["app", "main"]
