"""The key findings of a study, put into careful words by computation, and the caveats they need."""

from dataclasses import dataclass

import pandas as pd

from kellgren.report import facts
from kellgren.report.comparison_tables import ALPHA, dual_minus_single
from kellgren.report.networks import networks
from kellgren.report.table import interval, number, over_seeds, p_value
from kellgren.report.terms import (
    BACKBONES,
    CONTROLS,
    METRICS,
    PERFORMANCE,
    SUPERVISIONS,
    TASKS,
    in_order,
    spoken,
)
from kellgren.study import NETWORK_VS_RADIOMICS, StudyResult

CAVEATS: dict[str, str] = {
    "seed": (
        "A p-value or an interval here resamples knees, not trainings. From one seed it says"
        " that two trained networks differ on knees like these, not that one way of training is"
        " better than another; that takes several seeds."
    ),
    "family": (
        "Holm’s correction is applied within each family of tests that was declared beforehand:"
        " Dual against single models, backbone against backbone, and network against radiomics."
        " A raw p below 0.05 that does not survive it is not evidence."
    ),
    "chance": (
        "With few knees, predictions that know nothing can score high: calling every knee OA has"
        " a high F1 where OA is common. The chance rows of Table 1 are the floor, not zero."
    ),
    "sign": (
        "The sign of a principal axis is arbitrary; only magnitudes are compared. The trend of"
        " four centroid distances can never be significant."
    ),
    "grid": (
        "Saliency overlap depends on the grid, on the share of cartilage in the volume, and on"
        " how a map is smoothed. It says where a gradient is large, not what the model uses."
    ),
    "control": (
        "To exceed a control shows only that the control does not explain the overlap. Whatever"
        " edges of a scan lie on cartilage, an edge detector finds without any training."
    ),
    "ceiling": (
        "The agreement of readers is assumed, not measured on this reference, and their errors are"
        " taken to be one grade and independent of the knee."
    ),
    "picture": (
        "t-SNE does not preserve distances between groups and depends on its seed; exemplar maps"
        " show one knee. Both are illustrations."
    ),
    "reference": (
        "The reference is a KL grade that was read from a radiograph, not from the MRI. Readers"
        " disagree most between adjacent grades, so no model can be expected to reach 1."
    ),
    "device": "For research only. Nothing here is a medical device or supports a diagnosis.",
}


@dataclass(frozen=True)
class Finding:
    """One sentence or two, and the caveats (keys of `CAVEATS`) that it must not be read without."""

    text: str
    caveats: tuple[str, ...]


def key_findings(result: StudyResult) -> list[Finding]:
    """What the numbers say, most important first; a part that was not measured is left out."""
    parts = (_chance, _ceiling, _axis, _overlap, _controls)
    of_networks = networks(result)
    found = [_dual(of_networks), _seeds(result), *(part(of_networks) for part in parts)]
    found.append(_radiomics(result))
    return [finding for finding in found if finding is not None]


def caveat_number(key: str) -> int:
    """Number of a caveat as it is printed.

    >>> caveat_number("seed")
    1
    """
    return list(CAVEATS).index(key) + 1


def _dual(result: StudyResult) -> Finding | None:
    rows = dual_minus_single(result.comparisons)
    if rows.empty:
        return None
    survivors = rows[rows["p_holm"] < ALPHA]
    gains, losses = survivors[survivors["difference"] > 0], survivors[survivors["difference"] < 0]
    raw = int((rows["p"] < ALPHA).sum())
    text = (
        f"Of {len(rows)} differences between a Dual model and the single model of the same task,"
        f" {_count(len(survivors), 'survives', 'survive')} Holm’s correction at {ALPHA};"
        f" {_count(raw, 'has', 'have')} a raw p below {ALPHA}."
    )
    if len(gains):
        text += f" Higher with Dual: {_listed(gains)}."
    if len(losses):
        text += f" Lower with Dual: {_listed(losses)}."
    return Finding(f"{text} {_scope(result)}", ("seed", "family"))


def _count(n: int, one: str, many: str) -> str:
    """A count with its verb.

    >>> _count(0, "has", "have"), _count(1, "has", "have"), _count(2, "has", "have")
    ('none has', '1 has', '2 have')
    """
    return f"{n or 'none'} {one if n < 2 else many}"


def _scope(result: StudyResult) -> str:
    if len(facts.seeds(result)) > 1:
        return "Each line is about the trained networks of one seed."
    return (
        "Each is a statement about two trained networks of one seed on"
        f" {facts.test_cases(result)} knees."
    )


def _listed(rows: pd.DataFrame) -> str:
    several = rows["seed"].nunique() > 1
    return "; ".join(
        (f"seed {row['seed']} " if several else "")
        + f"{spoken(BACKBONES, str(row['backbone']))} {spoken(TASKS, str(row['task']))}"
        f" {spoken(METRICS, str(row['metric']))}"
        f" {number(row['difference'], digits=3, signed=True)}"
        f" {interval(row['ci_low'], row['ci_high'])}, Holm p {p_value(row['p_holm'])}"
        for _, row in rows.iterrows()
    )


def _chance(result: StudyResult) -> Finding | None:
    if result.chance.empty or result.performance.empty:
        return None
    floor = _floors(result.chance)
    scores = over_seeds(result.performance, ["backbone", "supervision", "task", "metric"])
    inside = [
        f"{spoken(BACKBONES, b)} {spoken(SUPERVISIONS, s)}"
        f" {TASKS[task]} {METRICS[metric]} ({number(scores[b, s, task, metric][0], digits=3)})"
        for b in in_order(result.performance["backbone"], BACKBONES)
        for s in in_order(result.performance["supervision"], SUPERVISIONS)
        for task, metric in PERFORMANCE
        if (b, s, task, metric) in scores
        and (task, metric) in floor
        and scores[b, s, task, metric][0] <= floor[task, metric]
    ]
    total = sum(key[2:] in floor for key in scores)
    if not inside:
        return Finding(f"All {total} scores of Table 1 are above its chance rows.", ("chance",))
    verb = "is" if len(inside) == 1 else "are"
    text = (
        f"{len(inside)} of {total} scores of Table 1 {verb} not above the highest chance row of"
        f" the column: {'; '.join(inside)}."
    )
    return Finding(text, ("chance",))


def _floors(chance: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Highest chance level of each task and metric."""
    floors: dict[tuple[str, str], float] = {}
    for task, metric, value in zip(chance["task"], chance["metric"], chance["value"], strict=True):
        floors[task, metric] = max(float(value), floors.get((task, metric), float("-inf")))
    return floors


def _axis(result: StudyResult) -> Finding | None:
    if result.geometry.empty:
        return None
    test = result.geometry[result.geometry["fit"] == "test"]
    mean = test.groupby(["backbone", "supervision"])["abs_rho_kl"].mean()
    lines = []
    for backbone in in_order(test["backbone"], BACKBONES):
        rho = mean[backbone].dropna()
        if len(rho):
            order = rho.sort_values(ascending=False)
            named = ", ".join(
                f"{spoken(SUPERVISIONS, str(s))} {number(v, digits=3)}" for s, v in order.items()
            )
            lines.append(f"{spoken(BACKBONES, backbone)}: {named}")
    text = "|ρ(PC1, KL)| of the first principal axis of the features, highest first. "
    return Finding(text + "; ".join(lines) + ".", ("sign", "seed"))


def _overlap(result: StudyResult) -> Finding | None:
    rows = result.overlap[result.overlap["metric"] == "mass_roi"].dropna(subset=["value", "chance"])
    if rows.empty:
        return None
    ratio = rows["value"].astype(float) / rows["chance"].astype(float)
    above = int((rows["ci_low"] > rows["chance"]).sum())
    text = (
        f"The share of saliency that lies in cartilage (mass@ROI) is {ratio.min():.1f} to"
        f" {ratio.max():.1f} times the share of cartilage in the volume; in {above} of"
        f" {len(rows)} branches the whole 95 % interval is above that chance level."
    )
    return Finding(text, ("grid",))


def _seeds(result: StudyResult) -> Finding | None:
    """How many differences are about methods, where there are enough seeds to say so."""
    rows = result.seeds[result.seeds["p"].notna()]
    if rows.empty:
        return None
    apart = rows[(rows["ci_low"] > 0) | (rows["ci_high"] < 0)]
    fewest = int(rows[["model_seeds", "reference_seeds"]].to_numpy().min())
    text = (
        f"Over seeds as well as knees (at least {fewest} seeds of each method), the unadjusted"
        f" 95 % interval excludes zero in {len(apart)} of {len(rows)} comparisons of Table S3."
    )
    return Finding(text, ("family",))


def _ceiling(result: StudyResult) -> Finding | None:
    """Best KL accuracy as a share of what a perfect reader could score."""
    rows = result.noise
    rows = rows[(rows["task"] == "kl") & (rows["metric"] == "accuracy")]
    if rows.empty:
        return None
    middle = sorted(rows["agreement"].unique())[rows["agreement"].nunique() // 2]
    rows = rows[rows["agreement"] == middle]
    share = rows.groupby(["backbone", "supervision"])["share"].mean()
    text = (
        f"If readers agreed exactly on {100 * middle:.0f} % of knees, a perfect reader would score"
        f" a KL accuracy of {number(rows['ceiling'].iloc[0], digits=2)} against this reference;"
        f" the models reach {number(share.min(), digits=2)} to {number(share.max(), digits=2)} of"
        " that."
    )
    return Finding(text, ("ceiling", "reference"))


def _controls(result: StudyResult) -> Finding | None:
    """How many branches exceed each control in mass@ROI."""
    rows = result.controls[result.controls["metric"] == "mass_roi"]
    if rows.empty:
        return None
    counted = []
    for control in in_order(rows["control"], CONTROLS):
        mine = rows[rows["control"] == control]
        above = int((mine["difference_low"] > 0).sum())
        counted.append(f"{spoken(CONTROLS, control)} in {above} of {len(mine)}")
    text = (
        "Branches whose mass@ROI exceeds a control with the whole 95 % interval of the paired"
        f" difference: {'; '.join(counted)}."
    )
    return Finding(text, ("control", "grid"))


def _radiomics(result: StudyResult) -> Finding | None:
    """How many differences between a network and a radiomics system survive, and which way."""
    rows = result.comparisons[result.comparisons["family"] == NETWORK_VS_RADIOMICS]
    if rows.empty:
        return None
    survivors = rows[rows["p_holm"] < ALPHA]
    higher = int((survivors["difference"] > 0).sum())
    text = (
        f"Of {len(rows)} differences between a network and a radiomics system (Table S17),"
        f" {_count(len(survivors), 'survives', 'survive')} Holm’s correction at {ALPHA}"
    )
    if len(survivors):
        text += f": in {higher} the network is higher, in {len(survivors) - higher} the system"
    return Finding(
        f"{text}. Each is about two fitted models on the same knees.", ("seed", "family")
    )
