"""Tables 4 and 5: published radiomics rows beside this study's models (Appendix C).

Where the study fitted radiomics systems of its own they are those of `benchmark_tables`.
"""

from kellgren.report import facts
from kellgren.report.benchmark_tables import CONTROLLED, INPUT, controlled
from kellgren.report.networks import systems_of
from kellgren.report.published import CONTEXT, published
from kellgren.report.table import (
    ABSENT,
    Cell,
    Column,
    Group,
    Omitted,
    Row,
    Table,
    number,
    over_seeds,
    seed_cell,
    short,
)
from kellgren.report.terms import BACKBONES, SUPERVISIONS, in_order, spoken
from kellgren.study import StudyResult

NOT_CONTROLLED = (
    "This comparison is not controlled: the studies differ in preprocessing, input, validation"
    " (means and standard deviations over repetitions there, one fixed test split here) and in"
    " the definition of the metrics, so no row is marked as best and none should be ranked."
)


def table4(result: StudyResult) -> Table | Omitted:
    """Binary OA classification beside the rows of Chen et al."""
    f1 = (
        "Chen et al. report the macro-F1 of two classes, this work the F1 of the OA class: the"
        " two columns of numbers are not the same quantity."
    )
    return _contextual(result, "oa", ("table4", "Table 4. Contextual benchmark, OA", "F1", f1))


def table5(result: StudyResult) -> Table | Omitted:
    """Five-class KL grading beside the rows of Chen et al."""
    auc = "The definition of a five-class AUC may differ between the studies."
    names = ("table5", "Table 5. Contextual benchmark, KL grade", "Macro-F1", auc)
    return _contextual(result, "kl", names)


def _contextual(
    result: StudyResult, task: str, names: tuple[str, str, str, str]
) -> Table | Omitted:
    name, title, f1, footnote = names
    if systems_of(result):
        return controlled(result, task, name=name, title=title)
    rows = _our_rows(result, task)
    if not rows:
        return Omitted(name, title, f"no run was scored on the task {task.upper()}")
    return Table(
        name=name,
        title=title,
        caption=(
            "For context only. Chen et al. (2026), arXiv 2603.02367, mean ± standard deviation"
            f" as printed in the paper; this study: n = {facts.test_cases(result)} test knees,"
            f" {facts.seed_words(result)}."
        ),
        stub=("Study", "Method", "Input and supervision"),
        columns=(
            Column("Accuracy"),
            Column(f1, "b" if task == "oa" else ""),
            Column("AUC" if task == "oa" else "Macro-AUC", "" if task == "oa" else "b"),
        ),
        groups=(
            Group("Chen et al.", _their_rows(task), reference=True),
            Group("This study", tuple(rows)),
        ),
        footnotes=(NOT_CONTROLLED, footnote, facts.measured_on(result)),
    )


def _their_rows(task: str) -> tuple[Row, ...]:
    return tuple(
        Row(
            (row.method, row.images),
            tuple(
                Cell(f"{number(mean, digits=2)} ± {number(sd, digits=2)}", mean)
                for mean, sd in (row.accuracy, row.macro_f1, row.auc)
            ),
        )
        for row in CONTEXT[task]
    )


def _our_rows(result: StudyResult, task: str) -> list[Row]:
    scored = result.performance[result.performance["task"] == task]
    if scored.empty:
        return []
    values = over_seeds(scored, ["backbone", "supervision", "metric"])
    rows = []
    for backbone in in_order(scored["backbone"], BACKBONES):
        mine = scored[scored["backbone"] == backbone]
        for supervision in in_order(mine["supervision"], SUPERVISIONS):
            name = f"{spoken(BACKBONES, backbone)} {spoken(SUPERVISIONS, supervision)}"
            cells = tuple(
                _our_cell(values, (backbone, supervision, metric), task)
                for metric in CONTROLLED[task]
            )
            rows.append(Row((name, INPUT.get(supervision, supervision)), cells))
    return rows


def _our_cell(
    values: dict[tuple[str, ...], tuple[float, float]], key: tuple[str, str, str], task: str
) -> Cell:
    backbone, supervision, metric = key
    theirs = short(published("table1", backbone, supervision, f"{task}_{metric}"))
    if key not in values:
        return Cell(ABSENT, published=theirs)
    return seed_cell(*values[key], published=theirs)
