"""Print the tables of docs/top-k-and-retrieval.md: the trained radiomics systems over seeds.

Run from the root of the repository, after `kellgren radiomics fit STUDY.toml`:

    python benchmarks/top_k_and_retrieval.py results/benchmark/runs PREDICTIONS

The folder holds the runs of the systems, `top_k-single_kl-s0` and so on, of as many seeds as were
fitted; where `all_radiomics` and `all_radiomics_ordinal` stand beside them, they are compared too.
PREDICTIONS holds the per-knee predictions that the paper's author released.
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from paper_revisited import run_folders, show

from kellgren.analysis.ordinal import ordinal_performance
from kellgren.analysis.performance import class_f1, oa_confusion
from kellgren.analysis.resampling import resample
from kellgren.config import AnalysisSettings
from kellgren.evidence import Evidence, Score, scores_of
from kellgren.radiomics.systems import SUPERVISION_OF
from kellgren.runs import Run

TRAINED = ("top_k", "top_k_released", "retrieval", "retrieval_released")
LINEAR = ("all_radiomics", "all_radiomics_ordinal")
METRICS = {"oa": ("accuracy", "f1", "auc"), "kl": ("accuracy", "macro_f1", "macro_auc")}
Method = tuple[str, str]  # backbone and supervision
Found = dict[Method, list[Evidence]]
Scores = dict[str, dict[tuple[str, str], Score]]


def of_methods(runs: Sequence[Run]) -> Found:
    """The runs of each method, one a seed."""
    found: Found = defaultdict(list)
    for run in runs:
        found[run.backbone, run.supervision].append(Evidence.of(run))
    return found


def over_knees(scores: Sequence[Score], others: Sequence[Score] = ()) -> tuple[float, float]:
    """95 % interval over knees of a mean over seeds, or of the difference of two."""
    samples = np.mean([score.samples for score in scores], axis=0)
    if others:
        samples = samples - np.mean([score.samples for score in others], axis=0)
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return float(low), float(high)


def show_scores(found: Found, scores: Scores, task: str) -> None:
    rows = []
    for name in (*TRAINED, *LINEAR):
        runs = found.get((name, SUPERVISION_OF[task]), [])
        if not runs:
            continue
        row = {"system": name, "seeds": len(runs)}
        for metric in METRICS[task]:
            of_runs = [scores[one.run.name][task, metric] for one in runs]
            row[metric] = _spread([score.value for score in of_runs])
            row[f"{metric}, 95 %"] = "{:.3f} to {:.3f}".format(*over_knees(of_runs))
        if task == "oa":
            both = [float(class_f1(oa_confusion(one.predictions)).mean()) for one in runs]
            row["macro-F1"] = _spread(both)
        else:
            kappas = [ordinal_performance(one.predictions)["quadratic_kappa"] for one in runs]
            row["quadratic kappa"] = _spread(kappas)
        rows.append(row)
    show(f"Task {task}, mean ± sd over seeds, interval over knees", pd.DataFrame(rows))


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def show_each_seed(found: Found, scores: Scores) -> None:
    rows = []
    for (name, supervision), runs in found.items():
        task = {"single_oa": "oa", "single_kl": "kl"}.get(supervision)
        for one in runs if name in TRAINED and task else ():
            fitted = one.run.record()["fitted"]
            values = {m: scores[one.run.name][task, m].value for m in METRICS[task]}
            row = {"run": one.run.name, "epoch": fitted["epoch"]}
            row |= {"of": fitted["epochs_fitted"], "validation F1": fitted["validation_macro_f1"]}
            row |= {"accuracy": values["accuracy"], "F1": values[METRICS[task][1]]}
            row |= {"AUC": values[METRICS[task][2]]}
            row |= {"in common": fitted["in_common_of_two_test_knees"]}
            row |= {"features used": fitted["used_for_any_test_knee"]}
            one_set = fitted.get("final_top", {}).get("1", {}).get("test", {})
            row |= {"accuracy of one set": one_set.get("accuracy", np.nan)}
            passes = fitted.get("passes", {})
            row |= {"fewer encoder passes": passes.get("times_fewer_knees", np.nan)}
            rows.append({**row, "fewer tokens": passes.get("times_fewer_tokens", np.nan)})
    show("Each run", pd.DataFrame(rows).sort_values("run"))


def show_differences(found: Found, scores: Scores, references: Sequence[str]) -> None:
    """Mean over seeds of every other method of the task minus that of each system."""
    rows = []
    for task, supervision in SUPERVISION_OF.items():
        for system in references:
            others = [
                method
                for method in found
                if method[0] not in TRAINED and method[1] in (supervision, "dual")
            ]
            for method in others if (system, supervision) in found else ():
                for metric in METRICS[task]:
                    first, second = (
                        [scores[one.run.name][task, metric] for one in found[side]]
                        for side in (method, (system, supervision))
                    )
                    gap = np.mean([s.value for s in first]) - np.mean([s.value for s in second])
                    low, high = over_knees(first, second)
                    row = {"model": "-".join(method), "reference": f"{system}-{supervision}"}
                    row |= {"metric": metric, "seeds": f"{len(first)}, {len(second)}"}
                    rows.append({**row, "difference": gap, "ci_low": low, "ci_high": high})
    show("Differences of means over seeds, interval over knees", pd.DataFrame(rows))


def main() -> None:
    folder, given = (Path(argument) for argument in sys.argv[1:3])
    settings = AnalysisSettings()
    with tempfile.TemporaryDirectory() as made:
        runs = [Run.at(path) for path in sorted(folder.iterdir())]
        runs = [run for run in runs if run.predictions.exists()]
        runs = [run for run in runs if run.backbone in (*TRAINED, *LINEAR)]
        found = of_methods([*runs, *run_folders(given, Path(made))])
        everyone = [one for several in found.values() for one in several]
        rng = np.random.default_rng(settings.seed)
        drawn = resample(len(everyone[0].predictions), resamples=settings.resamples, rng=rng)
        scores = {one.run.name: scores_of(one, drawn) for one in everyone}
    for task in SUPERVISION_OF:
        show_scores(found, scores, task)
    show_each_seed(found, scores)
    show_differences(found, scores, ("top_k", "retrieval"))


if __name__ == "__main__":
    main()
