"""Cohort, protocol and origin of a study, as tables of the page."""

from typing import Any

import pandas as pd

from kellgren.report import facts
from kellgren.report.table import ABSENT, Cell, Column, Group, Omitted, Row, Table, number
from kellgren.report.terms import METHODS, SUPERVISIONS, spoken
from kellgren.study import StudyResult

RUN_COLUMNS: dict[str, str] = {
    "size": "Size",
    "grid": "Grid (d h w)",
    "parameters": "Parameters",
    "epochs": "Epochs",
    "train_seconds": "Training, min",
    "n_test": "Test knees",
    "oa_source": "OA from",
    "device": "Device",
    "torch": "torch",
    "weights_digest": "Weights (xxh3)",
}


def cohort_table(result: StudyResult) -> Table | Omitted:
    """Knees by split: grades, OA, age and sex (section 3.2)."""
    if result.cohort.empty:
        return Omitted("cohort", "Cohort", "the runs were given without a cohort table")
    rows = tuple(_cohort_row(row) for _, row in result.cohort.iterrows())
    return Table(
        name="cohort",
        title="Cohort",
        caption="Knees with a KL grade in each split; age in years, mean ± standard deviation.",
        stub=("Split",),
        spans=(("", 1), ("KL grade", 5), ("OA", 2), ("", 2)),
        columns=tuple(
            map(Column, ("Knees", "0", "1", "2", "3", "4", "no", "yes", "Age", "Female"))
        ),
        groups=tuple(Group(name, (row,)) for name, row in rows),
    )


def _cohort_row(row: "pd.Series[Any]") -> tuple[str, Row]:  # a row of mixed types
    counts = ["cases", *(f"kl{k}" for k in range(5)), "oa_negative", "oa_positive"]
    age = _optional(row, "age_mean", digits=1)
    if age != ABSENT:
        age += f" ± {_optional(row, 'age_sd', digits=1)}"
    cells = [_optional(row, name, digits=0) for name in counts] + [age]
    cells.append(_optional(row, "female", digits=0))
    return str(row["split"]), Row((), tuple(map(Cell, cells)))


def _optional(row: "pd.Series[Any]", name: str, *, digits: int) -> str:
    value = row.get(name)
    return ABSENT if value is None or pd.isna(value) else number(float(value), digits=digits)


def runs_table(result: StudyResult) -> Table | Omitted:
    """What each model is and what it was trained on."""
    if result.runs.empty:
        return Omitted("runs", "Runs", "no run was recorded")
    shown = {
        name: title
        for name, title in RUN_COLUMNS.items()
        if any(_run_value(name, value) != ABSENT for value in result.runs[name])
    }
    rows = result.runs.sort_values(
        ["backbone", "supervision", "seed"], key=_in_paper_order, kind="stable"
    )
    return Table(
        name="runs",
        title="Runs",
        caption="One line a trained network; empty where a run was made elsewhere.",
        stub=("Backbone", "Setting", "Seed"),
        columns=tuple(map(Column, shown.values())),
        groups=tuple(
            Group(
                spoken(METHODS, str(backbone)),
                tuple(_run_row(row, list(shown)) for _, row in part.iterrows()),
            )
            for backbone, part in rows.groupby("backbone", sort=False)
        ),
    )


def _in_paper_order(column: "pd.Series[Any]") -> "pd.Series[Any]":
    if column.name == "seed":
        return column
    names = list(METHODS) if column.name == "backbone" else list(SUPERVISIONS)
    return column.map(lambda key: f"{names.index(key) if key in names else len(names):02d}{key}")


def _run_row(row: "pd.Series[Any]", names: list[str]) -> Row:
    labels = (spoken(SUPERVISIONS, str(row["supervision"])), str(row["seed"]))
    return Row(labels, tuple(Cell(_run_value(name, row[name])) for name in names))


def _run_value(name: str, value: Any) -> str:  # noqa: ANN401, a cell of a table of mixed types
    if pd.isna(value) or value == "":
        return ABSENT
    if name == "train_seconds":
        return number(float(value) / 60, digits=1)
    if name in ("parameters", "epochs", "n_test"):
        return f"{int(value):,}"
    if name == "grid":
        return str(value).replace("x", " × ")
    return str(value)


def protocol_rows(result: StudyResult) -> list[tuple[str, str]]:
    """Every setting and every fact of provenance as (dotted name, value), in the study's order."""
    return _flattened("", result.protocol)


def _flattened(prefix: str, content: object) -> list[tuple[str, str]]:
    if isinstance(content, dict):
        return [
            line
            for key, value in content.items()
            for line in _flattened(f"{prefix}.{key}" if prefix else str(key), value)
        ]
    if isinstance(content, list | tuple):
        return [(prefix, ", ".join(str(value) for value in content) or "none")]
    return [(prefix, "none" if content is None or content == "" else str(content))]


def notice(result: StudyResult) -> str:
    """What must be said before anything else of a study of synthetic knees; empty for others."""
    settings = facts.phantom(result)
    if settings is None:
        return ""
    return (
        "The knees of this study are synthetic: a phantom with the contrast setting"
        f" “{facts.contrast(result)}” and a simulated reader. No number here says anything"
        " about patients, about OAIZIB-CM or about the paper’s results."
    )
