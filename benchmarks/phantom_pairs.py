"""Print docs/progression.md's tables of synthetic pairs: two visits with a known change.

Run from the root of the repository, after `make demo`:

    python benchmarks/phantom_pairs.py results/phantom OUT --knees 300

Every knee is new to the trained runs of the study. Half of them do not change; the others get
worse by a severity drawn evenly from 0 to 1.5 in four years. A reader of the study's agreement
grades both visits. The runs see the baseline scan for the tables of progression, and both for those
of change.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from paper_revisited import show
from progression_revisited import show_progression

from kellgren.analysis.geometry import oriented, principal_axis, sampled_spearman, spearman
from kellgren.analysis.ordinal import GRADES
from kellgren.analysis.progression import concordance, course_of, horizon_pairs, within
from kellgren.analysis.resampling import resample
from kellgren.cohort import Case
from kellgren.config import AnalysisSettings, BackboneSettings, CohortSettings
from kellgren.follow_up import Reading, write_follow_up
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.model import load_model, preparation_of, settings_of, tasks_of, training_of
from kellgren.learn.predict import infer
from kellgren.phantom import make_knee
from kellgren.phantom.reader import GRADE_MIX, read_grade, true_grades
from kellgren.phantom.severity import CONTRAST
from kellgren.progression import progression
from kellgren.report.progression import write_figures
from kellgren.runs import Run
from kellgren.store import Store
from kellgren.tables import LOGIT_KL, Features
from kellgren.volume import write_nifti

FIRST = 100_000  # number of the first knee: far from those of any study
MONTHS = 48.0


@dataclass(frozen=True)
class Pair:
    """Two visits of one synthetic knee."""

    case_id: str
    severity: tuple[float, float]
    kl: tuple[int, int]

    @property
    def change(self) -> float:
        """Change of severity between the visits."""
        return self.severity[1] - self.severity[0]


def drawn_pairs(knees: int, settings: dict) -> list[Pair]:
    pairs = []
    for i, grade in enumerate(true_grades(knees, GRADE_MIX["test"])):
        rng = np.random.default_rng([settings["seed"], FIRST + i, 1])
        before = float(grade + rng.random())
        after = min(before + (1.5 * rng.random() if rng.random() < 0.5 else 0.0), 4.999)
        read = [read_grade(int(s), settings["agreement"], rng=rng) for s in (before, after)]
        pairs.append(Pair(f"pair_{i:04d}", (before, after), (read[0], read[1])))
    return pairs


def write_scans(pairs: list[Pair], settings: dict, folder: Path) -> tuple[list[Case], list[Case]]:
    visits: tuple[list[Case], list[Case]] = ([], [])
    for i, pair in enumerate(pairs):
        for visit, cases in enumerate(visits):
            path = folder / "scans" / f"{pair.case_id}_v{visit}.nii.gz"
            if not path.exists():
                knee = make_knee(
                    pair.severity[visit],
                    grid=tuple(settings["grid"]),
                    rng=np.random.default_rng([settings["seed"], FIRST + i]),
                    contrast=CONTRAST[settings["contrast"]],
                    visit=visit,
                )
                write_nifti(path, knee.image.astype(np.float32), knee.affine)
            name = f"{pair.case_id}_v{visit}"
            cases.append(Case(name, pair.case_id, "right", "test", pair.kl[visit], path))
    return visits


def seen(run: Run, cases: list[Case], folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Features and logits of the cases."""
    grid = BackboneSettings.model_validate(settings_of(run)["backbone"]).grid
    name = "x".join(map(str, grid))
    cartilage = CohortSettings.model_fields["cartilage"].default  # the pairs have no masks
    store = Store(folder / "prepared" / name, grid, cartilage, preparation_of(run))
    store.prepare_all(cases)
    device, training = torch.device("cpu"), training_of(run)
    model = load_model(run, device=device)
    tasks = list(weighted_tasks(tasks_of(run), training))
    return infer(model, store, cases, tasks=tasks, batch_size=training.batch_size, device=device)


def scores(run: Run, z: np.ndarray, logits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What orders the knees, as in `kellgren.evidence.orders`; the axis is that of training."""
    train = Features.read(run.features).of_split("train")
    found = {"pc1": oriented(principal_axis(train.z), train).score(z)}
    if "kl" in logits:
        kl = torch.from_numpy(logits["kl"]).double().softmax(dim=1).numpy()
        found["expected_kl"] = kl @ GRADES
    if "oa" in logits:
        found["oa_score"] = logits["oa"][:, 0].astype(np.float64)
    return found


def write_baseline(run: Run, pairs: list[Pair], z: np.ndarray, logits: dict, folder: Path) -> Run:
    """A run folder with the baseline predictions of the pairs."""
    made = Run.at(folder / "runs" / run.name)
    made.folder.mkdir(parents=True, exist_ok=True)
    kl = np.array([pair.kl[0] for pair in pairs])
    ids = np.array([pair.case_id for pair in pairs], dtype=object)
    table = pd.DataFrame({"case_id": ids, "split": "test", "kl": kl})
    for head, names in {"oa": ["logit_oa"], "kl": LOGIT_KL}.items():
        if head in logits:
            table[names] = logits[head]
    table.to_csv(made.predictions, index=False)
    train = Features.read(run.features).of_split("train")
    split = np.array(["train"] * len(train.kl) + ["test"] * len(pairs), dtype=object)
    Features(
        np.concatenate([train.case_id, ids]),
        split,
        np.concatenate([train.kl, kl]),
        np.concatenate([train.z, z]),
    ).write(made.features)
    return made


def change_rows(run: Run, pairs: list[Pair], before: dict, after: dict) -> list[dict]:
    change = np.array([pair.change for pair in pairs])
    drawn = resample(len(pairs), resamples=10_000, rng=np.random.default_rng(42))
    rows = []
    for name in before:
        moved = after[name] - before[name]
        low, high = drawn.interval(sampled_spearman(moved, change, drawn.counts))
        still = change == 0
        rows.append(
            {
                "backbone": run.backbone,
                "supervision": run.supervision,
                "predictor": name,
                "rho": spearman(moved, change),
                "ci_low": low,
                "ci_high": high,
                "n": len(pairs),
                # How far knees that did not change move, beside how far knees differ.
                "still": float(moved[still].std(ddof=1) / before[name].std(ddof=1)),
                "n_still": int(still.sum()),
            }
        )
    return rows


def show_ceiling(pairs: list[Pair], readings: list[Reading]) -> None:
    """What one who knew the true severity, or also the change to come, would score."""
    ids = np.array([pair.case_id for pair in pairs], dtype=object)
    course = course_of(ids, np.array([p.kl[0] for p in pairs]), readings, horizon=MONTHS)
    may = course.can_progress
    known = horizon_pairs(course.take(may), horizon=MONTHS)
    truth = {
        "severity at baseline": np.array([pair.severity[0] for pair in pairs])[may],
        "severity four years later": np.array([pair.severity[1] for pair in pairs])[may],
        "change": np.array([pair.change for pair in pairs])[may],
    }
    rows = [
        {
            "known": name,
            "auc": concordance(known, score),
            "auc_within": concordance(within(known, course.kl[may]), score),
        }
        for name, score in truth.items()
    ]
    show("What could be known", pd.DataFrame(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--knees", type=int, default=300)
    asked = parser.parse_args()
    settings = json.loads((asked.study / "phantom" / "phantom.json").read_text())
    pairs = drawn_pairs(asked.knees, settings)
    first, later = write_scans(pairs, settings, asked.out)
    readings = [Reading(pair.case_id, MONTHS, pair.kl[1]) for pair in pairs]
    write_follow_up(asked.out / "follow_up.csv", readings)
    made, moved = [], []
    for run in Run.all_in(asked.study / "runs"):
        z, logits = seen(run, first, asked.out)
        made.append(write_baseline(run, pairs, z, logits, asked.out))
        moved += change_rows(
            run, pairs, scores(run, z, logits), scores(run, *seen(run, later, asked.out))
        )
    found = progression(made, readings, horizon=MONTHS, settings=AnalysisSettings())
    found.write(asked.out)
    write_figures(found, asked.out)
    show_progression(found)
    show_ceiling(pairs, readings)
    show("Change of the prediction against change of the severity", pd.DataFrame(moved))


if __name__ == "__main__":
    main()
