"""Keep the tables of the studies of noise, and write docs/noise.md from them.

Run from the root of the repository, after `kellgren run` of any of studies/noise.toml,
studies/supervision.toml, studies/size.toml and studies/lambda.toml:

    python benchmarks/noise_page.py results      # docs/results/*.csv, then the page
    python benchmarks/noise_page.py              # only the page and its figure

Tables of a study that is not in the folder of results stay as they are; a study of a sweep that has
not been done yet is left out.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from kellgren.files import write_text
from kellgren.report.figures.noise import noise
from kellgren.report.figures.style import write_figure
from kellgren.report.noise_page import noise_page
from kellgren.tables import write_csv

DOCS = Path("docs")
KEPT = DOCS / "results"
STUDIES = ("noise", "supervision", "size", "lambda")
TABLES = ("truth", "truth_methods", "seeds", "comparisons")
DIGITS = 4


def variants(folder: Path) -> Iterator[tuple[dict[str, float], Path]]:
    """What is swept over, such as {"agreement": 0.65}, and the folder; {} without a sweep."""
    if (folder / "study").exists():
        yield {}, folder
    for study in sorted(folder.glob("*=*/study"), reverse=True):
        part = study.parent
        pairs = [pair.split("=") for pair in part.name.split(",")]
        yield {key.rpartition(".")[2]: float(value) for key, value in pairs}, part


def keep(results: Path, study: str, table: str) -> None:
    parts = []
    for swept, folder in variants(results / study):
        part = pd.read_csv(folder / "study" / f"{table}.csv")
        parts.append(pd.DataFrame(swept, index=part.index).join(part))
    write_csv(KEPT / f"{study}-{table}.csv", pd.concat(parts).round(DIGITS))


def kept() -> dict[str, pd.DataFrame]:
    tables = {study: pd.read_csv(KEPT / f"{study}-truth_methods.csv") for study in STUDIES}
    return {name: of.assign(reference=of["reference"].fillna("")) for name, of in tables.items()}


def page() -> str:
    text = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    return noise_page(text, kept())


if __name__ == "__main__":
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for study in STUDIES:
        if results is not None and (results / study).exists():
            for table in TABLES:
                keep(results, study, table)
    write_text(DOCS / "noise.md", page())
    write_figure(noise(kept()["noise"]), DOCS / "images" / "noise.svg")
