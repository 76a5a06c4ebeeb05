"""Print the tables of docs/progression.md: the published predictions against later grades.

Run from the root of the repository:

    python benchmarks/progression_revisited.py PREDICTIONS RELEASE LATER OUT

PREDICTIONS holds the per-knee predictions that the paper's author released, RELEASE the tables of
OAIZIB-CM (subjects and sides), LATER is a table of the OAI's later grades, and OUT is the folder to
write run folders, `follow_up.csv`, tables and figures in.
"""

import sys
from pathlib import Path

from paper_revisited import run_folders, show

from kellgren.config import AnalysisSettings
from kellgren.follow_up import write_follow_up
from kellgren.importers import IMPORTERS
from kellgren.importers.follow_up import follow_up
from kellgren.progression import Progression, progression
from kellgren.report.progression import cautions, write_figures

KEYS = ["backbone", "supervision", "predictor"]


def show_progression(found: Progression) -> None:
    show("Knees", found.counts)
    for measure, rows in found.measures.groupby("measure", sort=False):
        columns = ["value", "ci_low", "ci_high", "n", "events"]
        if rows["pairs"].notna().any():
            columns += ["pairs", "difference", "difference_low", "difference_high"]
            rows = rows.astype({"pairs": int})
        show(str(measure), rows[[*KEYS, *columns]])
    print("\n" + "\n".join(cautions(found)))


def main() -> None:
    predictions, release, later, out = (Path(given) for given in sys.argv[1:5])
    cases = IMPORTERS["oaizib-cm"](release, tables_only=True).cases
    readings = follow_up(cases, [later])
    write_follow_up(out / "follow_up.csv", readings)
    runs = run_folders(predictions, out / "runs")
    found = progression(runs, readings, horizon=48.0, settings=AnalysisSettings())
    found.write(out)
    write_figures(found, out)
    show_progression(found)


if __name__ == "__main__":
    main()
