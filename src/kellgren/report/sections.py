"""Sections of the page, and in words what the tests of each do and do not show."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """What one section of the page is about.

    Attributes:
        title: Its heading.
        anchor: Its address within the page.
        names: Its tables and figures.
        words: What is shown and what is not, sentence by sentence; empty where captions suffice.
        beyond: Whether the paper has no such section.
    """

    title: str
    anchor: str
    names: tuple[str, ...]
    words: tuple[str, ...] = ()
    beyond: bool = False


TOPICS: tuple[Topic, ...] = (
    Topic("Design", "design", ("fig1",)),
    Topic("Predictive performance", "performance", ("table1", "fig2", "fig5")),
    Topic("Severity axis", "severity", ("table2", "fig4")),
    Topic("Saliency and cartilage", "saliency", ("table3", "fig3")),
    Topic("Context", "context", ("table4", "table5")),
    Topic(
        "Networks against radiomics",
        "radiomics",
        ("fig_s10", "table_s17", "fig_s11", "table_s18"),
        (
            "The systems of Chen et al. fitted on the training knees of this study, and each"
            " network against each of them on the same test knees with the same metrics.",
            "A difference that is not significant does not show that the two are as good. Weights"
            " say what a fitted model adds up, not which region causes or shows osteoarthritis:"
            " correlated features share a weight in ways that another fit would share otherwise.",
        ),
        beyond=True,
    ),
    Topic(
        "Seeds and knees",
        "seeds",
        ("fig_s1", "table_s3"),
        (
            "A test over knees asks whether two trained networks differ on knees like these. A"
            " test over seeds and knees asks whether two ways of training differ.",
            "With one seed only the first question can be asked; with two to four the seeds are"
            " listed and no interval over seeds is given. Neither test says how a method does on"
            " another cohort.",
        ),
        beyond=True,
    ),
    Topic(
        "Ordered grades and the noise ceiling",
        "ceiling",
        ("fig_s2", "table_s4", "table_s5"),
        (
            "These measures know that grade 1 is nearer to 2 than to 4, and how much of a score"
            " could be reached at all when the reference itself is one noisy reading.",
            "They do not say how noisy this reference is: the agreement of readers is assumed, and"
            " real errors are neither symmetric nor independent of the knee.",
        ),
        beyond=True,
    ),
    Topic(
        "Against the truth",
        "truth",
        ("table_s19", "table_s20", "table_s21"),
        (
            "A phantom has a true severity, so what a model learned is told apart from what the"
            " noise of its reference hides.",
            "It says nothing of patients: signs of disease and noise were made by hand. What two"
            " methods differ by on other knees, or on other readings of these, is not in the"
            " intervals.",
        ),
        beyond=True,
    ),
    Topic(
        "Calibration and decisions",
        "calibration",
        ("fig_s3", "fig_s4", "table_s6"),
        (
            "Calibration asks whether a stated probability of 0.8 comes true eight times in ten;"
            " decision curves ask what acting on it would be worth at a given threshold.",
            "With few knees the calibration error is far from zero even for perfect probabilities,"
            " so it is printed beside that level. Neither says that a model ranks knees well, nor"
            " what it would do at another prevalence.",
        ),
        beyond=True,
    ),
    Topic(
        "Agreement of the two heads",
        "hierarchy",
        ("fig_s5", "table_s7", "fig_s12"),
        (
            "A grade implies an OA label, so the two heads of a Dual model can contradict each"
            " other; here is how often, by grade, and which one was right.",
            "Agreement is not accuracy: both heads read the same features.",
        ),
        beyond=True,
    ),
    Topic(
        "Strata",
        "strata",
        ("fig_s6", "table_s8"),
        (
            "The scores of Table 1 within groups of knees, with the number of knees of each.",
            "Groups are small and were not tested against each other; the table can raise a"
            " suspicion, and can neither show nor exclude a difference.",
        ),
        beyond=True,
    ),
    Topic(
        "Order in the features",
        "order",
        ("fig_s7", "table_s9", "table_s10", "table_s11"),
        (
            "Table 2 asks how far one axis goes with severity over all knees. These ask whether"
            " neighbouring grades are told apart, whether distances follow grades, and how alike"
            " two networks are.",
            "An order of grades in the features does not show that a model uses it. Likeness of"
            " two settings means little without that of two seeds of one setting.",
        ),
        beyond=True,
    ),
    Topic(
        "Saliency against its controls",
        "controls",
        ("fig_s8", "fig_s9", "table_s12", "table_s13", "table_s14", "table_s15", "table_s16"),
        (
            "Overlap with cartilage counts for something only where maps that know nothing of the"
            " network, such as the edges of the scan or an untrained network, overlap less.",
            "To exceed a control does not show that a network uses cartilage, only that this"
            " control does not explain the overlap. Deletion changes the scan in a way that no"
            " knee does; randomisation can refute a map but not confirm it.",
        ),
        beyond=True,
    ),
    Topic("Appendix: all comparisons", "appendix", ("table_s1", "table_s2")),
)
