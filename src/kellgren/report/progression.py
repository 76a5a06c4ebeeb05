"""What `kellgren progress` says and draws."""

from pathlib import Path

from kellgren.analysis.progression import FEWEST_EVENTS
from kellgren.progression import Progression
from kellgren.report.figures.progression import concordances, curves
from kellgren.report.figures.style import save_figure

FIGURES = {"progression": concordances, "progression_curves": curves}
SHOWN = ["value", "ci_low", "ci_high", "n", "events", "pairs"]
SHOWN += ["difference", "difference_low", "difference_high"]


def write_figures(found: Progression, folder: Path) -> list[Path]:
    """Write both figures as SVG, PDF and PNG; the paths are returned."""
    return [
        path for name, draw in FIGURES.items() for path in save_figure(draw(found), folder, name)
    ]


def summary(found: Progression) -> str:
    """The tables as text, and what their size allows to say."""
    parts = [found.counts.to_string(index=False)]
    for measure, rows in found.measures.groupby("measure", sort=False):
        shown = rows[["backbone", "supervision", "seed", "predictor", *SHOWN]]
        shown = shown.dropna(axis="columns", how="all").round(3)
        parts.append(f"{measure}\n{shown.to_string(index=False, na_rep='')}")
    return "\n\n".join([*parts, *cautions(found)])


def cautions(found: Progression) -> list[str]:
    """What a reader must know before believing the numbers."""
    events = int(found.counts["progressed"].sum())
    again, knees = int(found.counts["read_again"].sum()), int(found.counts["knees"].sum())
    words = [
        f"{events} of {again} knees that were read again progressed within {found.horizon:g}"
        f" months; {knees - again} of {knees} were not read again and are in no number.",
        "Intervals are percentiles of a bootstrap over knees, of one training each, and are not"
        " corrected for the number of predictors.",
    ]
    if events < FEWEST_EVENTS:
        words.append(f"With fewer than {FEWEST_EVENTS} progressions no hazard ratio is given.")
    elif events < 10 * FEWEST_EVENTS:
        words.append("So few progressions leave wide intervals: read them, not the points.")
    return words
