"""Data as others lay it out, made into cohort tables."""

from pathlib import Path
from typing import Protocol

from kellgren.importers.bids import import_bids
from kellgren.importers.imported import Imported
from kellgren.importers.nnunet import import_nnunet
from kellgren.importers.oai import import_oai
from kellgren.importers.oaizib_cm import import_oaizib_cm
from kellgren.importers.options import PLAIN, Options, codes_of, constants_of, pairs
from kellgren.importers.plain import import_table

__all__ = [
    "IMPORTERS",
    "Imported",
    "Importer",
    "Options",
    "codes_of",
    "constants_of",
    "import_bids",
    "import_nnunet",
    "import_oai",
    "import_oaizib_cm",
    "import_table",
    "pairs",
]


class Importer(Protocol):
    """Reads a source as it was unpacked."""

    def __call__(
        self, root: Path, *, tables_only: bool = False, options: Options = PLAIN
    ) -> Imported:
        """Read it; with `tables_only` the scans need not be there."""


IMPORTERS: dict[str, Importer] = {
    "oaizib-cm": import_oaizib_cm,
    "oai": import_oai,
    "nnunet": import_nnunet,
    "bids": import_bids,
    "table": import_table,
}
