import numpy as np
import pytest

from kellgren.analysis.performance import METRICS, oa_auc
from kellgren.analysis.resampling import (
    SAMPLED,
    Resamples,
    resample,
    sampled,
    sampled_means,
)
from kellgren.faults import InputError

from .predictions import made_predictions

EVERY_METRIC = [(task, name) for task, metrics in METRICS.items() for name in metrics]


class TestDrawing:
    def test_every_resample_has_as_many_cases_as_there_are(self):
        drawn = resample(30, resamples=1000, rng=np.random.default_rng(0))
        assert (drawn.counts.sum(axis=0) == 30).all()
        assert drawn.counts.shape == (30, 1010)

    def test_counts_are_those_of_the_drawn_indices(self):
        drawn = resample(30, resamples=100, rng=np.random.default_rng(0))
        rows = np.random.default_rng(0).integers(30, size=(101, 30), dtype=np.int32)
        expected = np.stack([np.bincount(row, minlength=30) for row in rows], axis=1)
        np.testing.assert_array_equal(drawn.counts, expected)

    def test_the_same_seed_gives_the_same_resamples(self):
        first, second = (resample(9, resamples=200, rng=np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(first.counts, second.counts)


class TestSampling:
    @pytest.mark.parametrize(("task", "name"), EVERY_METRIC)
    @pytest.mark.parametrize("decimals", [0, 1, 8])
    def test_all_at_once_is_the_metric_on_the_repeated_cases(self, task, name, decimals):
        p = made_predictions(n=40, decimals=decimals, seed=2)
        drawn = resample(40, resamples=200, rng=np.random.default_rng(1))
        metric = METRICS[task][name]
        one_by_one = [metric(p.take(np.repeat(np.arange(40), c))) for c in drawn.counts.T]
        np.testing.assert_allclose(sampled(metric, p, drawn), one_by_one, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(("task", "name"), EVERY_METRIC)
    def test_an_absent_grade_is_treated_as_by_the_metric(self, task, name):
        p = made_predictions(kl=[0, 0, 1, 2, 3, 4])
        drawn = resample(6, resamples=100, rng=np.random.default_rng(1))
        metric = METRICS[task][name]
        one_by_one = [metric(p.take(np.repeat(np.arange(6), c))) for c in drawn.counts.T]
        np.testing.assert_allclose(sampled(metric, p, drawn), one_by_one, rtol=0, atol=1e-12)

    def test_every_metric_of_table_1_has_a_fast_form(self):
        assert set(SAMPLED) == {METRICS[task][name] for task, name in EVERY_METRIC}

    def test_any_other_metric_is_called_once_a_resample(self):
        p = made_predictions(n=20)
        drawn = resample(20, resamples=100, rng=np.random.default_rng(1))
        np.testing.assert_array_equal(
            sampled(lambda q: oa_auc(q), p, drawn), sampled(oa_auc, p, drawn)
        )

    def test_blocks_do_not_show(self, monkeypatch):
        p = made_predictions(n=50)
        drawn = resample(50, resamples=300, rng=np.random.default_rng(1))
        whole = sampled(oa_auc, p, drawn)
        monkeypatch.setattr("kellgren.analysis.resampling.BLOCK_ENTRIES", 350)
        np.testing.assert_array_equal(sampled(oa_auc, p, drawn), whole)
        again = resample(50, resamples=300, rng=np.random.default_rng(1))
        np.testing.assert_array_equal(again.counts, drawn.counts)

    @pytest.mark.parametrize("n", [33_000, 66_000])
    def test_large_cohorts_do_not_overflow(self, n):  # 16 bits; 2 x positives x negatives 32 bits
        p = made_predictions(kl=np.arange(n) % 5)
        drawn = resample(n, resamples=1, rng=np.random.default_rng(0))
        repeated = p.take(np.repeat(np.arange(n), drawn.counts[:, 0]))
        assert sampled(oa_auc, p, drawn)[0] == pytest.approx(oa_auc(repeated), abs=1e-12)


class TestMeans:
    def test_cases_without_a_value_are_left_out(self):
        values = np.array([[1.0, 5.0], [3.0, np.nan], [8.0, 7.0]])
        drawn = Resamples(np.array([[1, 0], [1, 3], [1, 0]]), 1)
        np.testing.assert_array_equal(sampled_means(values, drawn), [[4.0, 3.0], [6.0, np.nan]])


class TestUndefined:
    def test_the_next_resample_stands_in(self):
        drawn = Resamples(np.ones((1, 4), dtype=np.int64), 3)
        values, redrawn = drawn.defined(np.array([1.0, np.nan, 2.0, 3.0]))
        assert values.tolist() == [1.0, 2.0, 3.0]
        assert redrawn == 1

    def test_spares_that_are_not_needed_are_not_used(self):
        drawn = Resamples(np.ones((1, 4), dtype=np.int64), 3)
        values, redrawn = drawn.defined(np.array([1.0, 2.0, 3.0, 4.0]))
        assert values.tolist() == [1.0, 2.0, 3.0]
        assert redrawn == 0

    def test_more_than_one_in_a_hundred_is_refused(self):
        drawn = resample(5, resamples=100, rng=np.random.default_rng(0))
        values = np.where(np.arange(101) < 2, np.nan, 1.0)
        with pytest.raises(InputError, match="rarest grade"):
            drawn.defined(values)
