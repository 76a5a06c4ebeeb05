"""Tables 1 to 3 of a study; best values are found by computation, the paper's stand beside."""

import pandas as pd

from kellgren.report import facts
from kellgren.report.published import published
from kellgren.report.table import (
    ABSENT,
    Cell,
    Column,
    Group,
    Omitted,
    Row,
    Table,
    count_behind,
    interval,
    mark_best,
    number,
    seed_cell,
    short,
)
from kellgren.report.terms import (
    BACKBONES,
    METRICS,
    PERFORMANCE,
    SUPERVISIONS,
    in_order,
    spoken,
)
from kellgren.study import StudyResult

CHANCE_RULES: dict[str, str] = {
    "constant": "One score for all",
    "majority": "Majority class",
    "all_positive": "All called OA",
    "shuffled_mean": "Labels shuffled, mean",
    "shuffled_97.5": "Labels shuffled, 97.5 %",
}
PUBLISHED_BRANCH: dict[tuple[str, str], str] = {
    ("single_oa", "oa"): "single_oa",
    ("single_kl", "kl"): "single_kl",
    ("dual", "kl"): "dual_kl",
    ("dual", "oa"): "dual_oa",
}
OVERLAP = ("mass_roi", "top1_roi", "dice_5", "dice_10")
TOP_SHARE = 0.01


def table1(result: StudyResult) -> Table | Omitted:
    """Predictive performance of every model (section 3.5.1), with chance levels at the foot."""
    title = "Table 1. Predictive performance"
    if result.performance.empty:
        return Omitted("table1", title, "no run has predictions of test knees")
    return Table(
        name="table1",
        title=title,
        caption=(
            f"n = {facts.test_cases(result)} test knees; {facts.seed_words(result)}. Below each"
            " value its 95 % percentile interval over resampled knees where there is one seed,"
            " and the count behind an accuracy. Bold: best of the backbone in that column, ties"
            " all bold."
        ),
        stub=("Backbone", "Setting"),
        spans=(("OA", 3), ("KL grade", 3)),
        columns=tuple(
            Column(METRICS[metric], "a" if task == "oa" else "b") for task, metric in PERFORMANCE
        ),
        groups=(*_performance_groups(result), *_chance_group(result.chance)),
        footnotes=(
            "OA is KL grade 2 or above; it is called at a probability of 0.5. Single-KL models"
            " are scored on OA through the sum of their probabilities of grades 2, 3 and 4."
            " F1 is that of the OA class.",
            "AUC is one grade against the rest, mean of five; F1 is the unweighted mean over"
            " five grades, 0 for a grade that is never predicted.",
            facts.measured_on(result),
            "A difference between two rows is tested in Table S1, not here. A"
            " value at or below the chance rows is not evidence that a model has learned that"
            " task.",
        ),
    )


def table2(result: StudyResult) -> Table | Omitted:
    """Geometry of the severity axis (section 3.5.2)."""
    title = "Table 2. Severity-axis geometry"
    on_test = result.geometry[result.geometry["fit"] == "test"]
    if on_test.empty:
        return Omitted("table2", title, "no run has features (features.npz) of test knees")
    return Table(
        name="table2",
        title=title,
        caption=(
            f"First principal axis (PC1) of the penultimate features of n ="
            f" {int(on_test['n'].max())} test knees, centred and unscaled;"
            f" {facts.seed_words(result)}. Bold: highest of the backbone."
        ),
        stub=("Backbone", "Setting"),
        columns=(
            Column("EVR of PC1", "a"),
            Column("|ρ(PC1, KL)|", "b"),
            Column("|ρ(PC1, OA)|", "b"),
            Column("AUROC OA, in sample", "c"),
            Column("AUROC OA, train-fit", "d"),
            Column("ρ(k, d_adj)", "e"),
        ),
        groups=tuple(
            _geometry_group(result.geometry, backbone)
            for backbone in facts.backbone_column(result.geometry, BACKBONES)
        ),
        footnotes=(
            "Share of variance along PC1. Neither high nor low is better, so none is bold: a"
            " share near 1 is also what a collapsed representation gives.",
            "The sign of a principal axis is arbitrary and carries no meaning; the magnitude is"
            " the headline, with its 95 % percentile interval over resampled knees. The signed"
            " value follows the rule that PC1 rises with KL on the training knees.",
            "Axis found and scored on the test knees. A one-dimensional probe is monotone, so"
            f" without ties this AUROC A is tied to the column before it: {_identity(result)}."
            " The pairs that the paper prints do not satisfy this identity.",
            "Axis found and oriented on the training knees, scored on the test knees: the"
            " honest column; below 0.5 means that the order did not carry over.",
            "Spearman correlation of the grade k with the distance between the centroids of"
            " grades k and k + 1. There are four distances and 24 orders, so the smallest"
            " two-sided p is 2/24 = 0.083: this column can never be significant.",
            facts.measured_on(result),
        ),
    )


def table3(result: StudyResult) -> Table | Omitted:
    """Overlap of saliency with cartilage (section 3.5.3), with chance levels and ceilings."""
    title = "Table 3. Saliency and cartilage"
    if result.overlap.empty:
        return Omitted(
            "table3", title, "no run has saliency overlaps (overlap.csv); explain the runs first"
        )
    groups = [
        _overlap_group(result.overlap, backbone)
        for backbone in facts.backbone_column(result.overlap, BACKBONES)
    ]
    return Table(
        name="table3",
        title=title,
        caption=(
            f"Mean over up to n = {int(result.overlap['n'].max())} test knees, below it the 95 %"
            f" bootstrap interval over knees; {facts.seed_words(result)}. Bold: best of the"
            " backbone."
        ),
        stub=("Backbone", "Branch"),
        columns=tuple(
            Column(METRICS[metric], "a" if metric == "mass_roi" else "") for metric in OVERLAP
        ),
        groups=tuple(group for pair in groups for group in pair),
        footnotes=(
            "mass@ROI: share of all saliency that lies in cartilage. top1@ROI: share of the 1 %"
            " most salient voxels that are cartilage. Dice@q: overlap of the q % most salient"
            " voxels with cartilage. Voxels tied at a threshold count in part.",
            "Chance is a map that knows nothing: for the first two columns the cartilage share c"
            " of the volume, for Dice@q 2qc/(q + c). Ceiling is a map that ranks all cartilage"
            " first. Both are means over knees.",
            "All four depend on the grid that they are computed on, here the network’s own input"
            " grid; backbones with different grids cannot be compared.",
            facts.measured_on(result),
        ),
    )


def _performance_groups(result: StudyResult) -> list[Group]:
    groups = []
    for backbone in facts.backbone_column(result.performance, BACKBONES):
        mine = result.performance[result.performance["backbone"] == backbone]
        rows = [
            _performance_row(mine[mine["supervision"] == supervision], backbone, supervision)
            for supervision in in_order(mine["supervision"], SUPERVISIONS)
        ]
        groups.append(Group(spoken(BACKBONES, backbone), mark_best(rows, range(len(PERFORMANCE)))))
    return groups


def _performance_row(scores: pd.DataFrame, backbone: str, supervision: str) -> Row:
    cells = []
    for task, metric in PERFORMANCE:
        rows = scores[(scores["task"] == task) & (scores["metric"] == metric)]
        theirs = short(published("table1", backbone, supervision, f"{task}_{metric}"))
        cells.append(_score_cell(rows, theirs, counted=metric == "accuracy"))
    return Row((spoken(SUPERVISIONS, supervision),), tuple(cells))


def _score_cell(rows: pd.DataFrame, theirs: str, *, counted: bool) -> Cell:
    """Mean over seeds; for one seed with its interval, and its count where it is a share."""
    if rows.empty:
        return Cell(ABSENT, published=theirs)
    first, sd = rows.iloc[0], float(rows["value"].std())
    count = count_behind(float(first["value"]), int(first["n"])) if counted else ""
    doubt = interval(float(first["ci_low"]), float(first["ci_high"]))
    mean = float(rows["value"].mean())
    return seed_cell(mean, sd, published=theirs, notes=(f"{count} {doubt}".strip(),))


def _chance_group(chance: pd.DataFrame) -> list[Group]:
    if chance.empty:
        return []
    value = chance.set_index(["rule", "task", "metric"])["value"]
    rows = [
        Row(
            (spoken(CHANCE_RULES, rule),),
            tuple(
                Cell(number(float(value.get((rule, *column), float("nan")))))
                for column in PERFORMANCE
            ),
        )
        for rule in in_order(chance["rule"], CHANCE_RULES)
    ]
    return [Group("Chance", tuple(rows), reference=True)]


def _identity(result: StudyResult) -> str:
    grades = facts.test_grades(result)
    if not grades:
        return "|ρ(PC1, OA)| = (2A − 1)·√(3·n₀·n₁/(n² − 1))"
    n0, n1 = sum(grades[:2]), sum(grades[2:])
    factor = (3 * n0 * n1 / ((n0 + n1) ** 2 - 1)) ** 0.5
    return f"|ρ(PC1, OA)| = (2A − 1)·{factor:.4f} for {n0} knees without and {n1} with OA"


def _geometry_group(geometry: pd.DataFrame, backbone: str) -> Group:
    mine = geometry[geometry["backbone"] == backbone]
    rows = [
        Row(
            (spoken(SUPERVISIONS, supervision),),
            _geometry_cells(mine[mine["supervision"] == supervision], backbone, supervision),
        )
        for supervision in in_order(mine["supervision"], SUPERVISIONS)
    ]
    return Group(spoken(BACKBONES, backbone), mark_best(rows, (1, 2, 3, 4)))


def _geometry_cells(rows: pd.DataFrame, backbone: str, supervision: str) -> tuple[Cell, ...]:
    test, carried = rows[rows["fit"] == "test"], rows[rows["fit"] == "train"]

    def theirs(column: str) -> str:
        return short(published("table2", backbone, supervision, column), digits=3)

    return (
        _over_runs(test, "evr_pc1", published=theirs("evr_pc1")),
        _over_runs(test, "abs_rho_kl", published=theirs("rho_kl"), note=_signed(test, "rho_kl")),
        _over_runs(test, "abs_rho_oa", published=theirs("rho_oa"), note=_signed(test, "rho_oa")),
        _over_runs(test, "auroc_oa", published=theirs("auroc_oa")),
        _over_runs(carried, "auroc_oa"),
        _over_runs(
            test,
            "rho_adjacent",
            published=theirs("rho_adjacent"),
            note=_p_of_four(test),
        ),
    )


def _over_runs(rows: pd.DataFrame, name: str, *, published: str = "", note: str = "") -> Cell:
    known = rows[name].dropna()
    mean = float(known.mean()) if len(known) else float("nan")
    sd = float(known.std()) if len(known) > 1 else float("nan")
    doubt = ""
    if f"{name}_low" in rows.columns and len(rows) == 1:
        doubt = interval(float(rows[f"{name}_low"].iloc[0]), float(rows[f"{name}_high"].iloc[0]))
    return seed_cell(mean, sd, digits=3, published=published, notes=(doubt, note))


def _signed(rows: pd.DataFrame, name: str) -> str:
    if rows.empty:
        return ""
    return f"signed {number(float(rows[name].mean()), digits=3, signed=True)}"


def _p_of_four(rows: pd.DataFrame) -> str:
    return f"p {number(float(rows['p_adjacent'].iloc[0]), digits=2)}" if len(rows) == 1 else ""


def _overlap_group(overlap: pd.DataFrame, backbone: str) -> tuple[Group, Group]:
    mine = overlap[overlap["backbone"] == backbone]
    rows = []
    for (supervision, head), branch in PUBLISHED_BRANCH.items():
        part = mine[(mine["supervision"] == supervision) & (mine["head"] == head)]
        if part.empty:
            continue
        name = spoken(SUPERVISIONS, supervision)
        label = f"{name}-{head.upper()}" if supervision == "dual" else name
        cells = tuple(
            _overlap_cell(part[part["metric"] == m], published("table3", backbone, branch, m))
            for m in OVERLAP
        )
        rows.append(Row((label,), cells))
    name = spoken(BACKBONES, backbone)
    return Group(name, mark_best(rows, range(len(OVERLAP)))), _overlap_bounds(mine)


def _overlap_cell(rows: pd.DataFrame, theirs: float | None) -> Cell:
    if rows.empty:
        return Cell(ABSENT, published=short(theirs))
    sd = float(rows["value"].std()) if len(rows) > 1 else float("nan")
    first = rows.iloc[0]
    return seed_cell(
        float(rows["value"].mean()),
        sd,
        published=short(theirs),
        notes=(interval(float(first["ci_low"]), float(first["ci_high"])),),
    )


def _overlap_bounds(mine: pd.DataFrame) -> Group:
    numbers = mine.astype({"chance": float, "value": float}).groupby("metric")
    chance, value = numbers["chance"].mean(), numbers["value"].mean()
    known = [_bound(chance, metric) for metric in OVERLAP]
    ceiling = [Cell(number(1.0)), _top1_ceiling(value)]
    ceiling += [_bound(value, f"dice_ceiling_{q}") for q in (5, 10)]
    rows = (Row(("Chance",), tuple(known)), Row(("Ceiling",), tuple(ceiling)))
    return Group("", rows, reference=True)


def _bound(values: "pd.Series[float]", metric: str) -> Cell:
    return Cell(number(float(values.get(metric, float("nan")))))


def _top1_ceiling(value: "pd.Series[float]") -> Cell:
    """Cartilage over 1 % of the volume, at most 1; a mean over knees, so a close upper bound."""
    share = float(value.get("cartilage_share", float("nan")))
    return Cell(ABSENT if share != share else number(min(1.0, share / TOP_SHARE)))
