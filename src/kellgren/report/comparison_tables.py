"""The declared comparisons of a study (section 3.6), line by line."""

import math
from typing import Any

import pandas as pd

from kellgren.comparisons import READER
from kellgren.report import facts
from kellgren.report.published import FIG2_P, published
from kellgren.report.table import (
    ABSENT,
    Cell,
    Column,
    Group,
    Omitted,
    Row,
    Table,
    interval,
    number,
    p_value,
    short,
)
from kellgren.report.terms import BACKBONES, METRICS, SUPERVISIONS, TASKS, in_order, spoken
from kellgren.runs import RUN_NAME
from kellgren.study import (
    BACKBONE_VS_BACKBONE,
    DUAL_VS_SINGLE,
    SUPERVISION_VS_SINGLE,
    StudyResult,
)

ALPHA = 0.05
TESTS: dict[str, str] = {"paired bootstrap": "bootstrap", "McNemar exact": "McNemar"}
PAPER_OVERLAP = ("mass_roi", "top1_roi", "dice_5", "dice_10")


def dual_minus_single(comparisons: pd.DataFrame) -> pd.DataFrame:
    """The declared family of Fig. 2: each Dual model against the single model of the same task."""
    return comparisons[comparisons["family"] == DUAL_VS_SINGLE]


def comparisons(result: StudyResult) -> Table | Omitted:
    """Every tested difference: interval, p-values raw and adjusted, test."""
    title = "Table S1. All comparisons"
    if result.comparisons.empty:
        return Omitted("table_s1", title, "no two runs of one seed can be compared")
    return Table(
        name="table_s1",
        title=title,
        caption=(
            f"Differences on the same n = {int(result.comparisons['n'].max())} test knees, first"
            " minus second, within a seed; 95 % percentile interval of the paired bootstrap."
            f" Bold: Holm-adjusted p below {ALPHA}."
        ),
        stub=("Group", "Comparison", "Metric"),
        columns=(
            Column("Δ", "a"),
            Column("95 % CI"),
            Column("p", "b"),
            Column("p, Holm", "c"),
            Column("p, max-T", "d"),
            Column("Detectable Δ", "e"),
            Column("Sign kept", "f"),
            Column("Test", "g"),
        ),
        groups=tuple(_groups(result)),
        footnotes=(
            "Point difference of the table values, below it the mean of the bootstrap; the paper"
            " prints the latter and quotes it only where it calls it significant."
            f" {facts.measured_on(result)}",
            "Accuracy of OA: McNemar’s exact test; b knees that only the first model calls"
            " right, c that only the second does. Everything else: paired bootstrap over knees.",
            "Holm, and below it Benjamini–Hochberg, within one family and seed: Dual against single"
            f" ({_family_size(result, DUAL_VS_SINGLE)} tests), backbone against backbone"
            f" ({_family_size(result, BACKBONE_VS_BACKBONE)} tests), a supervision beyond the"
            f" paper’s against single ({_family_size(result, SUPERVISION_VS_SINGLE)} tests).",
            "Adjusted by the largest studentised difference of the family in the shared resamples;"
            " it uses how the tests go together, but leans on a normal shape. Always of the paired"
            " bootstrap, for OA accuracy too.",
            "Where Holm’s p is not below 0.05: the true difference that an unadjusted two-sided"
            " test at 0.05 would have found four times in five. A smaller one has not been"
            " excluded; “not significant” is not “the same”.",
            "Share of readings by another reader, who agrees exactly on"
            f" {100 * READER:.0f} % of knees and is one grade off otherwise, that leave the sign of"
            " the difference as it is.",
            "Below it another test of the same difference, unadjusted: DeLong’s for the AUC of"
            " OA, McNemar’s mid-p for its accuracy.",
            about_networks(result),
            *_warnings(result.comparisons),
        ),
    )


def about_networks(result: StudyResult) -> str:
    """What a p-value of a single seed is about, and where that of methods is."""
    words = "Every p-value here is about two trained networks on knees like these, not two methods"
    if len(facts.seeds(result)) > 1:
        return f"{words}: see Table S3."
    return f"{words}: one seed cannot say how another training would have come out."


def overlap_comparisons(result: StudyResult) -> Table | Omitted:
    """Dual minus single for the saliency measures of Table 3, paired over knees."""
    title = "Table S2. Saliency overlap, Dual minus single"
    table = result.overlap_comparisons
    table = table[table["metric"].isin(PAPER_OVERLAP)]
    if table.empty:
        reason = "no Dual run and single run of one seed both have saliency overlaps"
        return Omitted("table_s2", title, reason)
    return Table(
        name="table_s2",
        title=title,
        caption=(
            f"Mean difference over up to n = {int(table['n'].max())} test knees that both models"
            " have a value for; paired bootstrap over knees. Bold: Holm-adjusted p below"
            f" {ALPHA}."
        ),
        stub=("Backbone", "Comparison", "Measure"),
        columns=(
            Column("Δ"),
            Column("SE"),
            Column("95 % CI"),
            Column("p"),
            Column("p, Holm", "a"),
            Column("p, BH", "a"),
            Column("Detectable Δ", "b"),
            Column("n (left out)"),
        ),
        groups=tuple(
            Group(
                spoken(BACKBONES, backbone),
                tuple(
                    _overlap_row(row) for _, row in table[table["backbone"] == backbone].iterrows()
                ),
            )
            for backbone in in_order(table["backbone"], BACKBONES)
        ),
        footnotes=(
            "Holm and Benjamini–Hochberg over the rows of this table, within a seed.",
            "Where Holm’s p is not below 0.05: the true difference that an unadjusted two-sided"
            " test at 0.05 would have found four times in five.",
        ),
    )


def _groups(result: StudyResult) -> list[Group]:
    table, groups = result.comparisons, []
    to_single = table[table["family"].isin([DUAL_VS_SINGLE, SUPERVISION_VS_SINGLE])]
    for backbone in in_order(to_single["backbone"], BACKBONES):
        rows = to_single[to_single["backbone"] == backbone]
        groups.append(Group(spoken(BACKBONES, backbone), _rows(rows, of="supervision")))
    between = table[table["family"] == BACKBONE_VS_BACKBONE]
    for supervision in in_order(between["supervision"], SUPERVISIONS):
        rows = between[between["supervision"] == supervision]
        groups.append(Group(spoken(SUPERVISIONS, supervision), _rows(rows, of="backbone")))
    return groups


def _rows(rows: pd.DataFrame, *, of: str) -> tuple[Row, ...]:
    several = rows["seed"].nunique() > 1
    return tuple(
        Row(
            (
                _versus(row, of) + (f", seed {row['seed']}" if several else ""),
                f"{spoken(TASKS, str(row['task']))} {spoken(METRICS, str(row['metric']))}",
            ),
            _cells(row),
        )
        for _, row in rows.iterrows()
    )


def _versus(row: "pd.Series[Any]", of: str) -> str:
    """Both sides of a comparison by what differs: the supervision or the backbone."""
    names = {"supervision": SUPERVISIONS, "backbone": BACKBONES}[of]
    sides = (RUN_NAME.fullmatch(str(row[side])) for side in ("model", "reference"))
    first, second = (spoken(names, side[of]) if side else ABSENT for side in sides)
    return f"{first} − {second}"


def _cells(row: "pd.Series[Any]") -> tuple[Cell, ...]:
    theirs, their_p = _printed(row)
    survives = bool(row["p_holm"] < ALPHA)
    return (
        Cell(
            number(row["difference"], signed=True),
            row["difference"],
            survives,
            published=theirs,
            notes=(f"mean {number(row['boot_mean'], signed=True)}",),
        ),
        Cell(interval(row["ci_low"], row["ci_high"]) or ABSENT, notes=(f"SE {number(row['se'])}",)),
        Cell(p_value(row["p"]), published=their_p),
        Cell(
            p_value(row["p_holm"]),
            row["p_holm"],
            survives,
            notes=(f"BH {p_value(row['p_bh'])}",),
        ),
        Cell(p_value(row["p_max_t"])),
        _detectable(row),
        Cell(number(row["sign_kept"], digits=2)),
        Cell(spoken(TESTS, str(row["test"])), notes=_beside(row)),
    )


def _detectable(row: "pd.Series[Any]") -> Cell:
    """The minimum detectable difference beside a result that is not significant."""
    return Cell(ABSENT if row["p_holm"] < ALPHA else number(row["mde"], digits=3))


def _printed(row: "pd.Series[Any]") -> tuple[str, str]:
    """Difference and p that the paper prints for this row; empty where it prints none."""
    if row["family"] != DUAL_VS_SINGLE:
        return "", ""
    backbone, task, metric = str(row["backbone"]), str(row["task"]), str(row["metric"])
    difference = short(published("fig2", backbone, task, metric))
    return difference, FIG2_P.get((backbone, task, metric), "")


def _beside(row: "pd.Series[Any]") -> tuple[str, ...]:
    """The other test of a row, and the discordant pairs of McNemar's."""
    if not math.isnan(row["p_delong"]):
        return (f"DeLong {p_value(row['p_delong'])}",)
    if math.isnan(row["mcnemar_b"]):
        return ()
    pairs = f"b, c = {int(row['mcnemar_b'])}, {int(row['mcnemar_c'])}"
    return pairs, f"mid-p {p_value(row['p_mid'])}"


def _family_size(result: StudyResult, family: str) -> int:
    rows = result.comparisons[result.comparisons["family"] == family]
    return int(rows.groupby("seed").size().max()) if len(rows) else 0


def _warnings(table: pd.DataFrame) -> tuple[str, ...]:
    """One footnote that lists what the analysis warns of; none where it warns of nothing."""
    rows = table[table["warning"].fillna("") != ""]
    listed = "; ".join(
        f"{row['model']} against {row['reference']}, {row['task']} {row['metric']}:"
        f" {row['warning']}"
        for _, row in rows.iterrows()
    )
    return (f"Warnings of the analysis: {listed}.",) if listed else ()


def _overlap_row(row: "pd.Series[Any]") -> Row:
    survives = bool(row["p_holm"] < ALPHA)
    head = spoken(TASKS, str(row["head"]))
    labels = (f"Dual-{head} − Single-{head}", spoken(METRICS, str(row["metric"])))
    cells = (
        Cell(number(row["difference"], signed=True), row["difference"], survives),
        Cell(number(row["se"])),
        Cell(interval(row["ci_low"], row["ci_high"], digits=4) or ABSENT),
        Cell(p_value(row["p"])),
        Cell(p_value(row["p_holm"]), row["p_holm"], survives),
        Cell(p_value(row["p_bh"])),
        _detectable(row),
        Cell(f"{int(row['n'])} ({int(row['dropped'])})"),
    )
    return Row(labels, cells)
