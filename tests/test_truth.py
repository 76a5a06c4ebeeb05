"""Models against the truth, which only a phantom tells."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from kellgren.analysis.geometry import sampled_spearman, spearman
from kellgren.analysis.noise import oa_noise, read_again, reader
from kellgren.analysis.performance import METRICS
from kellgren.analysis.resampling import resample
from kellgren.analysis.seeds import Seeds, seed_interval
from kellgren.config import AnalysisSettings
from kellgren.evidence import Evidence
from kellgren.faults import InputError
from kellgren.labels import oa_from_kl
from kellgren.runs import Run
from kellgren.study import analyze
from kellgren.tables import Features
from kellgren.truth import Truth, run_rows, true_scores

N = 60


@pytest.fixture(scope="module")
def truth() -> Truth:
    severity = np.random.default_rng(0).uniform(0, 5, N)
    ids = np.array([f"k{i:02d}" for i in range(N)], dtype=object)
    return Truth(ids, severity, severity.astype(np.int64))


def made(folder, truth: Truth, supervision: str, seed: int) -> Run:
    """A run that knows the severity up to a deviation, and whose reference is a noisy reading."""
    rng = np.random.default_rng([seed, len(supervision)])
    run = Run.at(folder / f"resnet3d-{supervision}-s{seed}")
    run.folder.mkdir()
    kl = read_again(truth.kl, agreement=0.6, draws=1, rng=np.random.default_rng(1))[:, 0]
    guess = truth.severity + rng.normal(0, 0.5, N)
    table = pd.DataFrame({"case_id": truth.case_id, "split": "test", "kl": kl})
    if supervision != "single_kl":
        table["logit_oa"] = guess - 2
    if supervision != "single_oa":
        for k in range(5):
            table[f"logit_kl_{k}"] = -((guess - k - 0.5) ** 2)
    table.to_csv(run.predictions, index=False)
    z, split = guess[:, None] * np.array([[1.0, -1.0]]), np.repeat(["train", "test"], N)
    ids = np.concatenate([np.char.add("t", truth.case_id.astype(str)), truth.case_id.astype(str)])
    Features(ids, split, np.tile(kl, 2), np.tile(z, (2, 1))).write(run.features)
    return run


def test_scores_against_the_truth_are_those_of_predictions_with_the_true_grade(tmp_path, truth):
    found = Evidence.of(made(tmp_path, truth, "dual", 0))
    drawn = resample(N, resamples=100, rng=np.random.default_rng(0))
    rows = {
        (r["against"], r["task"], r["metric"]): r
        for r in run_rows(true_scores(found, truth, drawn), drawn)
    }
    told = replace(found.predictions, kl=truth.kl)
    for task in ("oa", "kl"):
        for name, metric in METRICS[task].items():
            assert rows["truth", task, name]["value"] == metric(told)
            assert rows["reading", task, name]["value"] == metric(found.predictions)
    assert rows["truth", "kl", "accuracy"]["value"] > rows["reading", "kl", "accuracy"]["value"]


def test_the_latent_axis_rises_with_severity_and_its_interval_holds_the_value(tmp_path, truth):
    found = Evidence.of(made(tmp_path, truth, "dual", 0))
    drawn = resample(N, resamples=100, rng=np.random.default_rng(0))
    row = next(
        r
        for r in run_rows(true_scores(found, truth, drawn), drawn)
        if (r["against"], r["metric"]) == ("truth", "rho_pc1")
    )
    score = found.features.of_split("test").z[:, 0]
    assert row["value"] == pytest.approx(spearman(score, truth.severity))
    assert row["ci_low"] < row["value"] < row["ci_high"]


def test_a_study_with_the_truth_says_how_methods_differ_over_seeds_and_knees(tmp_path, truth):
    runs = [made(tmp_path, truth, s, i) for s, i in product(("single_kl", "dual"), range(5))]
    settings = AnalysisSettings(resamples=100)
    for run in runs:
        run.features.unlink()
    tables = analyze(runs, settings=settings, truth=truth)
    assert set(tables.truth["against"]) == {"truth", "reading"}
    rows = tables.truth_methods.set_index(["model", "against", "task", "metric"])
    row = rows.loc[("resnet3d-dual", "truth", "kl", "accuracy")]
    assert (row["reference"], row["seeds"], row["n"]) == ("resnet3d-single_kl", 5, N)
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert row["ci_low"] < row["mean"] < row["ci_high"]
    each = tables.truth.query("supervision == 'dual' and against == 'truth' and task == 'kl'")
    assert row["mean"] == pytest.approx(each.query("metric == 'accuracy'")["value"].mean())
    assert rows.loc[("resnet3d-single_kl", "truth", "kl", "accuracy"), "reference"] == ""


def test_a_test_knee_without_a_truth_is_named(truth):
    with pytest.raises(InputError, match=r"case other.*severity"):
        truth.of(np.array(["k00", "other"], dtype=object))


def test_severity_is_read_as_the_phantom_writes_it(tmp_path):
    path = tmp_path / "severity.csv"
    path.write_text("case_id,split,severity,true_kl,kl\n007,test,3.25,3,2\n", encoding="utf-8")
    found = Truth.read(path)
    assert (found.case_id.tolist(), found.severity[0], found.kl[0]) == (["007"], 3.25, 3)


def test_spearman_of_a_resample_is_that_of_the_repeated_cases():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=20), rng.integers(0, 5, 20)
    counts = resample(20, resamples=30, rng=rng).counts
    rows = [np.repeat(np.arange(20), count) for count in counts.T]
    expected = [spearman(x[r], y[r]) for r in rows]
    assert np.allclose(sampled_spearman(x, y, counts), expected)


def test_the_noise_of_oa_is_what_readings_show():
    shares = np.array([3.0, 2, 4, 5, 2])
    kl = np.repeat(np.arange(5), (shares * 100).astype(int))
    read = read_again(kl, agreement=0.6, draws=200, rng=np.random.default_rng(0))
    oa = oa_from_kl(kl)
    seen = [oa_from_kl(read[rows].ravel()).mean() for rows in (~oa, oa)]
    assert np.allclose(oa_noise(reader(0.6), shares)[:, 1], seen, atol=0.005)


def test_an_interval_over_seeds_shrinks_to_the_cases_where_seeds_agree():
    cases = np.random.default_rng(0).normal(size=500)
    alike = Seeds(np.zeros(5), np.tile(cases, (5, 1)))
    low, high = seed_interval(alike, rng=np.random.default_rng(0))
    assert np.allclose((low, high), np.percentile(cases, [2.5, 97.5]))
    few = Seeds(np.zeros(4), np.tile(cases, (4, 1)))
    assert np.isnan(seed_interval(few, rng=np.random.default_rng(0))).all()
