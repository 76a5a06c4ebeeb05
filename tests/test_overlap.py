from dataclasses import astuple

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from kellgren.analysis.overlap import chance_of, saliency_overlap, top_threshold, top_voxels
from kellgren.faults import InputError

SHAPE = (10, 20, 20)
PERCENTS = (1, 5, 10)


def made_mask(share=0.02, *, seed=0):
    mask = np.zeros(np.prod(SHAPE), dtype=bool)
    mask[: round(share * mask.size)] = True
    return np.random.default_rng(seed).permutation(mask).reshape(SHAPE)


@pytest.fixture
def noise():
    return np.random.default_rng(1).random(SHAPE)


class TestAnalytic:
    def test_a_uniform_map_is_chance_exactly(self):
        mask = made_mask()
        found, c = saliency_overlap(np.full(SHAPE, 0.3), mask), np.array([mask.mean()])
        for name in ("mass_roi", "top1_roi", "dice_5", "dice_10", "recall_5", "enrichment_10"):
            assert getattr(found, name) == pytest.approx(chance_of(name, c)[0], abs=1e-12)

    @pytest.mark.parametrize("share", [0.002, 0.02, 0.07])
    def test_the_mask_itself_reaches_the_ceilings(self, share):
        mask = made_mask(share)
        found, c = saliency_overlap(mask.astype(float), mask), mask.mean()
        assert found.mass_roi == 1.0
        if c >= 0.01:
            assert found.top1_roi == 1.0
            assert found.enrichment_1 == pytest.approx(1 / c)
        if c >= 0.05:
            assert found.dice_5 == pytest.approx(found.dice_ceiling_5)
        assert found.dice_ceiling_5 == pytest.approx(2 * min(0.05, c) / (0.05 + c))

    def test_saliency_outside_of_the_mask_scores_zero(self):
        mask = made_mask(0.05)
        found = saliency_overlap((~mask).astype(float), mask)
        assert (found.mass_roi, found.top1_roi, found.dice_5, found.dice_10) == (0, 0, 0, 0)

    def test_untied_measures_are_those_of_sorting(self, noise):
        mask = made_mask()
        found = saliency_overlap(noise, mask)
        order = np.argsort(-noise.ravel())
        for percent in PERCENTS:
            top = np.zeros(noise.size, dtype=bool)
            top[order[: percent * noise.size // 100]] = True
            hits = (top & mask.ravel()).sum()
            assert getattr(found, f"recall_{percent}") == pytest.approx(hits / mask.sum())
            precision = hits / top.sum()
            assert getattr(found, f"enrichment_{percent}") == pytest.approx(precision / mask.mean())
        assert found.mass_roi == pytest.approx(noise[mask].sum() / noise.sum(), rel=1e-12)
        assert found.share_top1_mass == pytest.approx(
            noise.ravel()[order[:40]].sum() / noise.sum(), rel=1e-12
        )


class TestTies:
    def test_part_membership_is_the_mean_over_random_tie_breaks(self):
        rng = np.random.default_rng(2)
        saliency, mask = rng.integers(0, 3, SHAPE).astype(float), made_mask(0.05)
        saliency[rng.random(SHAPE) < 0.92] = 0.0
        found = saliency_overlap(saliency, mask)
        hits, k = [], saliency.size // 10
        for _ in range(400):
            shuffled = rng.permutation(saliency.size)
            best = shuffled[np.argsort(-saliency.ravel()[shuffled], kind="stable")[:k]]
            hits.append(mask.ravel()[best].sum())
        # five standard errors of the mean over the tie-breaks
        bound = 5 * np.std(hits) / np.sqrt(len(hits))
        assert found.recall_10 * mask.sum() == pytest.approx(np.mean(hits), abs=bound)

    def test_the_top_has_exactly_its_size(self):
        values = np.repeat([0.0, 1.0, 2.0], [900, 60, 40])
        for percent, top in zip(PERCENTS, top_voxels(values), strict=True):
            tied = (values == top.threshold).sum()
            assert top.size == 10 * percent
            assert top.above + tied * top.tied_share == pytest.approx(top.size)

    def test_the_size_is_rounded_up_in_whole_numbers(self):
        assert [top.size for top in top_voxels(np.arange(101.0))] == [2, 6, 11]


class TestInvariance:
    def test_a_positive_factor_changes_nothing(self, noise):
        mask = made_mask()
        one, other = (saliency_overlap(noise * a, mask) for a in (1.0, 2.0**-20))
        assert astuple(one) == astuple(other)

    def test_an_increasing_map_leaves_the_top_voxels(self, noise):
        mask = made_mask()
        one, other = saliency_overlap(noise, mask), saliency_overlap(noise**3, mask)
        assert (one.top1_roi, one.dice_5, one.dice_10) == (
            other.top1_roi,
            other.dice_5,
            other.dice_10,
        )

    def test_single_precision_is_summed_in_double(self, noise):
        mask = made_mask()
        single, double = (saliency_overlap(noise.astype(d), mask) for d in (np.float32, np.float64))
        assert single.mass_roi == pytest.approx(double.mass_roi, abs=1e-8)


class TestUndefined:
    def test_without_saliency_the_mass_is_missing_and_the_rest_is_chance(self):
        mask = made_mask()
        found = saliency_overlap(np.zeros(SHAPE), mask)
        assert np.isnan([found.mass_roi, found.share_top1_mass]).all()
        assert found.top1_roi == pytest.approx(mask.mean())
        assert found.fault == "no saliency"

    def test_without_cartilage_there_is_nothing_to_compare_with(self, noise):
        found = saliency_overlap(noise, np.zeros(SHAPE, dtype=bool))
        measures = ("mass_roi", "top1_roi", "dice_5", "dice_10", "recall_5", "enrichment_1")
        assert np.isnan([getattr(found, name) for name in measures]).all()
        assert found.fault == "no cartilage"

    @pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
    def test_values_that_are_no_saliency_are_refused(self, noise, bad):
        noise[0, 0, 0] = bad
        with pytest.raises(InputError, match="at least 0"):
            saliency_overlap(noise, made_mask())

    def test_an_empty_volume_is_refused(self):
        with pytest.raises(InputError, match="no voxel"):
            saliency_overlap(np.zeros((0, 2, 2)), np.zeros((0, 2, 2), dtype=bool))


def test_the_threshold_is_that_of_the_most_salient_percent(noise):
    above = (noise >= top_threshold(noise, 1)).sum()
    assert above == noise.size // 100


def test_a_measure_without_a_chance_level_has_none():
    assert np.isnan(chance_of("share_top1_mass", np.array([0.01]))).all()
    assert np.isnan(chance_of("dice_ceiling_5", np.array([0.01]))).all()


class TestRanking:
    def test_it_is_that_of_scikit_learn_for_values_that_keep_their_bits(self, noise):
        mask = made_mask()
        values = np.floor(256 * noise) + 64 * mask  # ten bits, many ties
        found = saliency_overlap(values, mask)
        assert found.ap == pytest.approx(average_precision_score(mask.ravel(), values.ravel()))
        assert found.auroc == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()))

    def test_rounding_hardly_shows(self, noise):
        mask = made_mask()
        found = saliency_overlap(noise, mask)
        expected = roc_auc_score(mask.ravel(), noise.ravel())
        assert found.auroc == pytest.approx(expected, abs=2**-11)

    def test_a_uniform_map_ranks_at_chance_and_the_truth_perfectly(self):
        mask = made_mask()
        uniform, truth = (saliency_overlap(s, mask) for s in (np.ones(SHAPE), mask.astype(float)))
        chance = [float(chance_of(name, np.array([mask.mean()]))[0]) for name in ("ap", "auroc")]
        assert [uniform.ap, uniform.auroc] == pytest.approx(chance)
        assert [truth.ap, truth.auroc] == pytest.approx([1, 1])
