"""Keep the tables of studies/noise.toml and studies/supervision.toml, and write docs/noise.md.

Run from the root of the repository, after `kellgren run` of both:

    python benchmarks/noise_page.py results      # docs/results/*.csv, then the page
    python benchmarks/noise_page.py              # only the page and its figure
"""

import sys
from pathlib import Path

import pandas as pd

from kellgren.files import write_text
from kellgren.report.figures.noise import noise
from kellgren.report.figures.style import write_figure
from kellgren.report.noise_page import noise_page
from kellgren.tables import write_csv

DOCS = Path("docs")
KEPT = DOCS / "results"
STUDIES = ("noise", "supervision")
SWEPT = "cohort.phantom.agreement="
DIGITS = 4


def keep(results: Path, study: str, table: str) -> None:
    parts = []
    for folder in sorted((results / study).glob(f"{SWEPT}*"), reverse=True):
        part = pd.read_csv(folder / "study" / f"{table}.csv")
        part.insert(0, "agreement", float(folder.name.removeprefix(SWEPT)))
        parts.append(part)
    write_csv(KEPT / f"{study}-{table}.csv", pd.concat(parts).round(DIGITS))


def kept(study: str) -> pd.DataFrame:
    table = pd.read_csv(KEPT / f"{study}-truth_methods.csv")
    return table.assign(reference=table["reference"].fillna(""))


def page() -> str:
    text = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    return noise_page(text, kept("noise"), kept("supervision"))


if __name__ == "__main__":
    for study in STUDIES if len(sys.argv) > 1 else ():
        for table in ("truth", "truth_methods"):
            keep(Path(sys.argv[1]), study, table)
    write_text(DOCS / "noise.md", page())
    write_figure(noise(kept("noise")), DOCS / "images" / "noise.svg")
