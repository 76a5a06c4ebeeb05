"""Captions of the figures: what is drawn, by which rule, and what not to read into it."""

from kellgren.report import facts
from kellgren.study import StudyResult


def caption(name: str, result: StudyResult) -> str:
    """Caption of a figure of this study."""
    n = facts.test_cases(result)
    words = {**_of_the_paper(n, _drawn(result)), **_beyond_the_paper(n, _drawn(result))}
    return words[name]


def _drawn(result: StudyResult) -> str:
    seeds = facts.seeds(result)
    return f" Drawn for seed {seeds[0]} of {len(seeds)}." if len(seeds) > 1 else ""


def _of_the_paper(n: int, drawn: str) -> dict[str, str]:
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
    }


def _beyond_the_paper(n: int, drawn: str) -> dict[str, str]:
    return {
        "fig_s1": (
            f"Diamonds: difference of the means over seeds on n = {n} test knees; circles: each"
            " seed. Coloured bars: ± 1.96 standard errors from resampling knees alone or seeds"
            " alone; black bar: 95 % interval of the pigeonhole bootstrap over both, drawn from"
            " five seeds on. Only the black bar is about two methods. Nothing here is adjusted for"
            " the number of lines."
        ),
        "fig_s2": (
            "Black: mean score of a perfect reader against a reference that was read once, by the"
            f" share of knees on which readers agree exactly; band: ± one standard deviation over"
            f" readings of n = {n} knees. Right of the rule: each model, mean over seeds. The"
            " agreement is assumed, errors are one grade; a model is not expected above the line."
        ),
        "fig_s3": (
            f"n = {n} test knees in up to 15 groups of equal mass, so that each point stands for"
            " few knees: bars are 95 % Wilson intervals of the observed frequency, and the strip"
            " below shows how many knees each group has and where. ECE beside what it would be on"
            " average if every probability were true. A point whose bar reaches the line is no"
            " evidence of miscalibration. Diamonds: after a temperature that only training knees"
            " chose. A branch without an OA head has no OA diagram here." + drawn
        ),
        "fig_s4": (
            "Net benefit of acting on the OA probability: hits minus false alarms, weighted by the"
            f" odds of the threshold, for each of n = {n} test knees. Below the dashed or dotted"
            " line it is better to call all or none. Prevalence is that of these knees; it is not"
            " that of a clinic, and no act or harm was measured." + drawn
        ),
        "fig_s5": (
            "Above: share of knees on which the OA head calls what the KL head implies, with 95 %"
            " Wilson intervals; below: mean gap of the two probabilities. Grades 1 and 2 lie at"
            " the border of OA. Heads on one feature vector can agree and both be wrong." + drawn
        ),
        "fig_s6": (
            "AUC of OA within groups of the test knees, with its 95 % percentile interval where the"
            " classes allow one; below a group its knees and how many have OA. Groups were not"
            " tested against each other: intervals that overlap do not show that a model does as"
            " well in both." + drawn
        ),
        "fig_s7": (
            f"AUC of one grade against its neighbour along an axis of the features, n = {n} test"
            " knees; dashed: 0.5, no order. Right of the rule: grade 4 against grade 0, which is"
            " easy. Mean over seeds. No interval: a grade may have few knees."
        ),
        "fig_s8": (
            f"Share of saliency in cartilage, mean over up to n = {n} test knees with its 95 %"
            " interval, for the trained network (blue, line) and for maps that no trained network"
            " made. Open squares: the interval of saliency minus control, paired over knees, lies"
            " above zero. A control that is not exceeded could have made the same overlap." + drawn
        ),
        "fig_s9": (
            "Spearman correlation over voxels of each map with that of the trained network, while"
            " weights are replaced by random ones from the heads (left) down to the whole network"
            " (right); mean over the exemplar knees and seeds. A curve that stays high shows the"
            " scan and the architecture rather than what was learned; a low one does not confirm"
            " a map."
        ),
        "fig_s10": (
            f"AUC of each network minus that of each radiomics system on n = {n} test knees, with"
            " its 95 % percentile interval (paired bootstrap over knees); right of zero favours the"
            " network. Number at the right, and filled: Holm-adjusted p, below 0.05, within all"
            " tests of Table S17, which has the other metrics. An interval that holds zero does not"
            " show that the two are alike." + drawn
        ),
        "fig_s11": (
            "Number: per cent of the sum of absolute weights over standardised features, by region"
            " and class, mean over seeds; a panel adds up to 100 but for rounding. Colour: that"
            " share over the share of features that stand there, so that white is what features of"
            " equal weight give. Weights are of the fitted model: correlated features share a"
            " weight, and a weight does not show that a region is affected."
        ),
    }
