"""How often the reader of a cohort is right, asked of networks that never saw the knee.

The training knees are dealt into folds; one network a fold is trained on the others and asked about
it. Test knees are not touched, so what is found may be used in training.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kellgren.analysis.agreement import Agreement, estimated_agreement, require_cleanlab
from kellgren.cohort import Case
from kellgren.engine import Workplace, predict_run, prepare, train_run
from kellgren.faults import InputError
from kellgren.files import write_json
from kellgren.runs import Run
from kellgren.tables import LOGIT_KL, Predictions, write_csv


def reader_agreement(place: Workplace, only: str, *, folds: int) -> tuple[Path, Agreement]:
    """Estimate the agreement of the reader of a study's training knees.

    Writes the out-of-fold predictions and the estimate to `agreement/`, and returns the path of the
    predictions. What was trained already is not trained again.

    Args:
        place: The study, and where it is carried out.
        only: Name of the run whose network is asked; empty for the first with a KL head.
        folds: How many.

    Raises:
        InputError: If cleanlab is not installed, there is no such run with a KL head, or there are
            too few subjects.
    """
    require_cleanlab()
    run, cases = graded_run(place, only), place.cohort()
    prepare(place, cases)
    parts = folds_of(cases, folds=folds, seed=run.seed)
    folder = place.folder / "agreement"
    table = pd.concat(
        [
            _asked(place, Run.at(folder / f"fold-{i}-of-{folds}" / run.name), part)
            for i, part in enumerate(parts, start=1)
        ]
    )
    path = folder / f"{run.name}.csv"
    write_csv(path, table)
    found = Predictions.read(path)
    assert found.prob_kl is not None  # it has a KL head
    rng = np.random.default_rng(place.study.analysis.seed)
    agreement = estimated_agreement(found.prob_kl, found.kl, rng=rng)
    write_json(path.with_suffix(".json"), {"folds": folds, **asdict(agreement)})
    return path, agreement


def graded_run(place: Workplace, only: str) -> Run:
    """The run of a study whose network is asked: the one of that name, or the first that grades.

    Raises:
        InputError: If there is none.
    """
    graded = [run for run in place.runs() if "kl" in place.study.ways[run.supervision].tasks]
    for run in graded:
        if only in ("", run.name):
            return run
    raise InputError(
        f"--only {only}" if only else place.study.name,
        "no such run with a KL head",
        f"one of {[run.name for run in graded]}",
        "choose one of them" if graded else "add a supervision with a KL head",
    )


def folds_of(cases: Sequence[Case], *, folds: int, seed: int) -> list[list[Case]]:
    """The training knees once for each fold: those of the fold as "test", the others as "train".

    The knees of a subject stay together. Subjects are dealt in the order of their highest grade, so
    that folds are alike in grades; the seed decides among those of one grade.

    Raises:
        InputError: If there are fewer subjects than folds.
    """
    knees = [case for case in cases if case.split == "train"]
    rng, highest = np.random.default_rng(seed), dict[str, int]()
    for case in knees:
        highest[case.subject] = max(case.kl, highest.get(case.subject, 0))
    if len(highest) < folds:
        raise InputError(
            f"--folds {folds}",
            f"{len(highest)} training subjects",
            "at least one subject a fold",
            "ask for fewer folds, or bring more knees",
        )
    chance = {subject: rng.random() for subject in highest}
    dealt = sorted(highest, key=lambda subject: (highest[subject], chance[subject]))
    fold = {subject: i % folds for i, subject in enumerate(dealt)}
    return [
        [replace(case, split="test" if fold[case.subject] == i else "train") for case in knees]
        for i in range(folds)
    ]


def _asked(place: Workplace, run: Run, cases: Sequence[Case]) -> pd.DataFrame:
    """Predictions of a fold's own knees by the network of the others."""
    train_run(place, run, cases)
    predict_run(place, run, cases)
    table = pd.read_csv(run.predictions, dtype={"case_id": str})
    columns = ["case_id", "split", "kl", *LOGIT_KL]
    return table.loc[table["split"] == "test", columns]
