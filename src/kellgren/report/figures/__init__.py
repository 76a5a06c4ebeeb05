"""Figures 1 to 5 of a study, each a function of its result; only the caller saves them."""

from collections.abc import Callable

from matplotlib.figure import Figure

from kellgren.report.figures.concept import concept
from kellgren.report.figures.confusion import confusion
from kellgren.report.figures.embedding import embedding
from kellgren.report.figures.forest import forest
from kellgren.report.figures.saliency import saliency
from kellgren.report.figures.style import save_figure, write_figure
from kellgren.study import StudyResult

__all__ = ["FIGURES", "NEEDS", "TITLES", "save_figure", "write_figure"]

FIGURES: dict[str, Callable[[StudyResult], Figure | None]] = {
    "fig1": concept,
    "fig2": forest,
    "fig3": saliency,
    "fig4": embedding,
    "fig5": confusion,
}

TITLES: dict[str, str] = {
    "fig1": "Figure 1. Label hierarchy, network and measurements",
    "fig2": "Figure 2. Dual against the single model of the same task",
    "fig3": "Figure 3. Saliency and cartilage",
    "fig4": "Figure 4. Feature space",
    "fig5": "Figure 5. Confusion matrices",
}

# Why a figure cannot be made, where its function gives None.
NEEDS: dict[str, str] = {
    "fig1": "the schematic needs nothing",
    "fig2": "no Dual model stands beside a single model of the same backbone and seed",
    "fig3": "no run has exemplars (exemplars.npz); explain the runs first",
    "fig4": "no run has features (features.npz) of test knees",
    "fig5": "no run has predictions of test knees",
}
