"""What a reader must know of a study before its numbers: which knees, how many, how many seeds."""

from typing import Any

import pandas as pd

from kellgren.report.terms import in_order
from kellgren.study import StudyResult

PAPER_TEST_GRADES = (21, 12, 22, 28, 15)


def phantom(result: StudyResult) -> dict[str, Any] | None:
    """Settings of the phantom that the knees come from; None where they are not synthetic."""
    settings: dict[str, Any] | None = (result.protocol.get("cohort") or {}).get("phantom")
    return settings


def contrast(result: StudyResult) -> str:
    """Which contrast the synthetic knees have, "real" or "clear"."""
    return str((phantom(result) or {}).get("contrast", "not recorded"))


def test_cases(result: StudyResult) -> int:
    """Number of test knees; 0 where no model was scored."""
    return int(result.performance["n"].max()) if len(result.performance) else 0


def seeds(result: StudyResult) -> list[int]:
    """Seeds of the runs, ascending."""
    return sorted(int(seed) for seed in result.performance["seed"].unique())


def seed_words(result: StudyResult) -> str:
    """How many seeds, in words that say what follows from it."""
    found = seeds(result)
    if len(found) == 1:
        return f"one seed ({found[0]})"
    listed = ", ".join(str(seed) for seed in found)
    return f"mean ± standard deviation over {len(found)} seeds ({listed})"


def test_grades(result: StudyResult) -> tuple[int, ...]:
    """Test knees of each KL grade; empty where the cohort is not known."""
    rows = result.cohort[result.cohort["split"] == "test"] if len(result.cohort) else result.cohort
    if rows.empty:
        return ()
    return tuple(int(rows.iloc[0][f"kl{k}"]) for k in range(5))


def measured_on(result: StudyResult) -> str:
    """On which knees ours was measured, and whether the paper's values can be set beside it."""
    n = test_cases(result)
    theirs = "the paper’s on the 98 graded test knees of OAIZIB-CM"
    if phantom(result) is not None:
        return (
            f"Ours was measured on {n} synthetic test knees of a phantom, {theirs}: the values"
            " are not comparable and stand side by side only to show where each belongs."
        )
    grades = test_grades(result)
    counts = "/".join(str(count) for count in grades) or "not recorded"
    if grades == PAPER_TEST_GRADES:
        return (
            f"Ours was measured on {n} test knees (KL 0 to 4: {counts}), {theirs}: the same"
            " counts of grades."
        )
    return (
        f"Ours was measured on {n} test knees (KL 0 to 4: {counts}), {theirs} (21/12/22/28/15):"
        " not the same knees, so the values are not comparable."
    )


def backbone_column(table: pd.DataFrame, names: dict[str, str]) -> list[str]:
    """Backbones of a table in the order in which they are printed; none for an empty table."""
    return in_order(table["backbone"], names) if len(table) else []
