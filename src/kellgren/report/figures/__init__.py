"""Figures of a study, 1 to 5 of the paper and S1 to S11 beyond it; only the caller saves them."""

from collections.abc import Callable

from matplotlib.figure import Figure

from kellgren.report.figures.attribution import attribution
from kellgren.report.figures.benchmark import benchmark
from kellgren.report.figures.ceiling import ceiling
from kellgren.report.figures.concept import concept
from kellgren.report.figures.confusion import confusion
from kellgren.report.figures.controls import controls
from kellgren.report.figures.decision import decision
from kellgren.report.figures.embedding import embedding
from kellgren.report.figures.forest import forest
from kellgren.report.figures.hierarchy import hierarchy
from kellgren.report.figures.ordering import ordering
from kellgren.report.figures.randomisation import randomisation
from kellgren.report.figures.reliability import reliability
from kellgren.report.figures.saliency import saliency
from kellgren.report.figures.seeds import seeds
from kellgren.report.figures.strata import strata
from kellgren.report.figures.style import save_figure, write_figure
from kellgren.report.networks import of_networks
from kellgren.study import StudyResult

__all__ = ["FIGURES", "NEEDS", "TITLES", "save_figure", "write_figure"]

FIGURES: dict[str, Callable[[StudyResult], Figure | None]] = {
    "fig1": concept,
    "fig2": of_networks(forest),
    "fig3": of_networks(saliency),
    "fig4": of_networks(embedding),
    "fig5": of_networks(confusion),
    "fig_s1": of_networks(seeds),
    "fig_s2": of_networks(ceiling),
    "fig_s3": of_networks(reliability),
    "fig_s4": of_networks(decision),
    "fig_s5": of_networks(hierarchy),
    "fig_s6": of_networks(strata),
    "fig_s7": of_networks(ordering),
    "fig_s8": of_networks(controls),
    "fig_s9": of_networks(randomisation),
    "fig_s10": benchmark,
    "fig_s11": attribution,
}

TITLES: dict[str, str] = {
    "fig1": "Figure 1. Label hierarchy, network and measurements",
    "fig2": "Figure 2. Dual against the single model of the same task",
    "fig3": "Figure 3. Saliency and cartilage",
    "fig4": "Figure 4. Feature space",
    "fig5": "Figure 5. Confusion matrices",
    "fig_s1": "Figure S1. Dual against single over seeds and knees",
    "fig_s2": "Figure S2. Noise ceiling",
    "fig_s3": "Figure S3. Reliability diagrams",
    "fig_s4": "Figure S4. Decision curves",
    "fig_s5": "Figure S5. Agreement of the two heads by grade",
    "fig_s6": "Figure S6. AUC of OA by stratum",
    "fig_s7": "Figure S7. Order of neighbouring grades",
    "fig_s8": "Figure S8. Saliency beside its controls",
    "fig_s9": "Figure S9. Cascaded randomisation",
    "fig_s10": "Figure S10. Networks against radiomics systems",
    "fig_s11": "Figure S11. Where the weight of radiomics systems lies",
}

# Why a figure cannot be made, where its function gives None.
NEEDS: dict[str, str] = {
    "fig1": "the schematic needs nothing",
    "fig2": "no Dual model stands beside a single model of the same backbone and seed",
    "fig3": "no run has exemplars (exemplars.npz); explain the runs first",
    "fig4": "no run has features (features.npz) of test knees",
    "fig5": "no run has predictions of test knees",
    "fig_s1": "every method was trained once; it takes several seeds",
    "fig_s2": "no run has predictions of test knees",
    "fig_s3": "no run has predictions of test knees",
    "fig_s4": "no run has predictions of test knees",
    "fig_s5": "no run has both heads",
    "fig_s6": "age, sex, side and site are not recorded, or are the same for all test knees",
    "fig_s7": "no run has features (features.npz) of test knees",
    "fig_s8": "no run has controls (controls.csv); explain the runs first",
    "fig_s9": "no run has randomised maps (randomisation.csv); explain the runs first",
    "fig_s10": "no network stands beside a radiomics system of the same seed and task",
    "fig_s11": "no radiomics system says what its features weigh (attribution.csv)",
}
