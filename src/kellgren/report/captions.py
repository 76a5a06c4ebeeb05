"""Captions of the figures: what is drawn, by which rule, and what not to read into it."""

from kellgren.report import facts
from kellgren.study import StudyResult


def caption(name: str, result: StudyResult) -> str:
    """Caption of a figure of this study."""
    n, seeds = facts.test_cases(result), facts.seeds(result)
    drawn = f" Drawn for seed {seeds[0]} of {len(seeds)}." if len(seeds) > 1 else ""
    return {
        "fig1": (
            "(a) Every KL grade implies an OA label. (b) Models differ only in which heads they"
            " are trained with. (c) What is measured on the test knees, and where it is printed."
        ),
        "fig2": (
            f"Points: difference on n = {n} test knees; bars: 95 % percentile interval of the"
            " paired bootstrap; tick: bootstrap mean. Filled: Holm-adjusted p below 0.05 within"
            " the family of these comparisons. p of OA accuracy is McNemar’s exact p, all others"
            " are bootstrap p. Each line compares two trained networks of one seed." + drawn
        ),
        "fig3": (
            "Left of each pair: the slice with most cartilage; right: the square around its"
            " cartilage, enlarged. Every map is scaled by the 99th percentile of its own volume,"
            " so brightness cannot be compared between models; the blue contour, the 1 % most"
            " salient voxels of the volume, can. The knee is chosen by its grade, not by any map."
            + drawn
        ),
        "fig4": (
            f"t-SNE of the penultimate features of n = {n} test knees; the axes have no unit. The"
            " two Dual columns are one embedding, coloured twice. In each panel: final"
            " Kullback–Leibler divergence of the embedding, and its trustworthiness for 10"
            " neighbours (1 is best). Qualitative only." + drawn
        ),
        "fig5": (
            f"Counts of n = {n} test knees; colour is the share of the reference class, that is of"
            " the row. Above each panel: knees on the diagonal." + drawn
        ),
    }[name]
