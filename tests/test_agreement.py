"""The agreement of a reader, from what networks say of knees they never saw."""

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from kellgren.analysis.agreement import agreement_of, estimated_agreement
from kellgren.analysis.noise import read_again, reader
from kellgren.cli import app
from kellgren.cohort import write_cohort
from kellgren.crossfit import folds_of
from kellgren.faults import InputError

SHARES = [0.21, 0.12, 0.22, 0.29, 0.16]


def made(n: int, agreement: float, *, error: float, seed: int = 0):
    """Readings of a reader of that agreement, and probabilities of one who knows the severity.

    But for a deviation of so many grades (SD), of which he knows.
    """
    rng = np.random.default_rng(seed)
    true = rng.choice(5, n, p=SHARES)
    guess = true + rng.normal(0, error, n)
    like = np.exp(-((guess[:, None] - np.arange(5)) ** 2) / (2 * error**2))
    kl = read_again(true, agreement=agreement, draws=1, rng=rng)[:, 0]
    return like / like.sum(1, keepdims=True) @ reader(agreement), kl


@pytest.mark.parametrize("agreement", [0.5, 0.7, 0.9, 1.0])
def test_the_agreement_of_a_known_matrix_is_found_in_it(agreement):
    joint = (np.array([SHARES]).T * reader(agreement)).T
    assert agreement_of(joint) == pytest.approx(agreement)


def test_readings_further_off_do_not_count():
    joint = (np.array([SHARES]).T * reader(0.7)).T
    joint[4, 0] += 0.1
    joint[0, 0] -= 0.1
    assert agreement_of(joint) < agreement_of((np.array([SHARES]).T * reader(0.7)).T)


@pytest.mark.parametrize("agreement", [0.6, 0.75, 0.9])
def test_where_the_network_knows_the_grade_the_interval_holds_the_agreement(agreement):
    pytest.importorskip("cleanlab", reason="cleanlab is not installed")
    prob, kl = made(600, agreement, error=0.15)
    found = estimated_agreement(prob, kl, rng=np.random.default_rng(0), resamples=200)
    assert found.low < agreement < found.high
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.15
    assert (found.n, found.beyond < 0.01) == (600, True)


def test_where_it_does_not_the_estimate_is_a_floor():
    pytest.importorskip("cleanlab", reason="cleanlab is not installed")
    found = [
        estimated_agreement(
            *made(600, 0.8, error=error), rng=np.random.default_rng(0), resamples=20
        )
        for error in (0.15, 0.4, 0.8)
    ]
    assert 0.8 > found[1].high > found[1].value > found[2].value
    assert found[2].beyond > found[1].beyond > found[0].beyond


def test_without_cleanlab_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(InputError, match=r"no cleanlab.*kellgren\[noise\]") as caught:
        estimated_agreement(*made(100, 0.8, error=0.2), rng=np.random.default_rng(0))
    assert "\n" not in str(caught.value)


def test_a_grade_that_no_knee_has_is_named():
    with pytest.raises(InputError, match="no knee of KL grade 4"):
        estimated_agreement(np.full((4, 5), 0.2), np.arange(4), rng=np.random.default_rng(0))


def test_folds_hold_every_training_knee_out_once_and_keep_subjects_together(knees):
    twins = [replace(case, subject=f"S{i // 2}") for i, case in enumerate(knees)]
    parts = folds_of(twins, folds=3, seed=0)
    held = [{case.case_id for case in part if case.split == "test"} for part in parts]
    assert sorted(name for names in held for name in names) == [f"knee_{i:03d}" for i in range(10)]
    for part in parts:
        assert len(part) == 10
        sides = [{c.subject for c in part if c.split == split} for split in ("train", "test")]
        assert not sides[0] & sides[1]
    assert parts == folds_of(twins, folds=3, seed=0)


def test_folds_are_alike_in_their_grades(knees):
    many = [
        replace(knees[0], case_id=f"k{i:03d}", subject=f"S{i:03d}", kl=i % 5) for i in range(100)
    ]
    for part in folds_of(many, folds=5, seed=1):
        assert np.bincount([c.kl for c in part if c.split == "test"]).tolist() == [4] * 5


def test_more_folds_than_subjects_are_refused(knees):
    with pytest.raises(InputError, match="10 training subjects"):
        folds_of(knees, folds=11, seed=0)


STUDY = """
name = "floor"
supervisions = ["single_oa", "single_kl"]
[cohort]
table = "cohort.csv"
[backbones.resnet3d]
size = "small"
grid = [24, 24, 24]
[training]
epochs = 1
batch_size = 5
threads = 1
"""


def test_the_verb_asks_networks_of_knees_that_they_never_saw_and_does_nothing_twice(
    knees, tmp_path
):
    pytest.importorskip("cleanlab", reason="cleanlab is not installed")
    write_cohort(tmp_path / "cohort.csv", knees)
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8")
    out = tmp_path / "out"
    verb = ["agreement", str(tmp_path / "study.toml"), "--out", str(out), "--folds", "2"]
    said = CliRunner().invoke(app, verb)
    assert said.exit_code == 0, said.output
    assert "10 knees in 2 folds" in said.output
    table = pd.read_csv(out / "agreement" / "resnet3d-single_kl-s0.csv")
    assert sorted(table["case_id"]) == [case.case_id for case in knees[:10]]
    found = json.loads((out / "agreement" / "resnet3d-single_kl-s0.json").read_text("utf-8"))
    assert found["low"] <= found["value"] <= found["high"]
    weights = sorted(out.glob("agreement/fold-*-of-2/*/weights.safetensors"))
    times = [path.stat().st_mtime_ns for path in weights]
    assert len(times) == 2
    assert CliRunner().invoke(app, verb).output.splitlines()[-2:] == said.output.splitlines()[-2:]
    assert times == [path.stat().st_mtime_ns for path in weights]
    refused = CliRunner().invoke(app, [*verb, "--only", "resnet3d-single_oa-s0"]).exception
    assert "no such run with a KL head" in str(refused)
