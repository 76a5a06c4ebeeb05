"""The agreement of a reader, from what networks say of knees they never saw."""

import sys

import numpy as np
import pytest

from kellgren.analysis.agreement import agreement_of, estimated_agreement
from kellgren.analysis.noise import read_again, reader
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
    monkeypatch.setitem(sys.modules, "cleanlab.count", None)
    with pytest.raises(InputError, match=r"no cleanlab.*kellgren\[noise\]") as caught:
        estimated_agreement(*made(100, 0.8, error=0.2), rng=np.random.default_rng(0))
    assert "\n" not in str(caught.value)


def test_a_grade_that_no_knee_has_is_named():
    with pytest.raises(InputError, match="no knee of KL grade 4"):
        estimated_agreement(np.full((4, 5), 0.2), np.arange(4), rng=np.random.default_rng(0))
