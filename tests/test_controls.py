"""What saliency must beat, shown on synthetic knees whose cartilage is known."""

import numpy as np
import pytest

from kellgren.analysis.controls import (
    centre_gaussian,
    gradient_magnitude,
    mean_mask,
    of_another,
    partners,
    uniform,
)
from kellgren.analysis.overlap import chance_of, saliency_overlap
from kellgren.analysis.profile import distance_profile, mean_distance, regions
from kellgren.faults import InputError
from kellgren.phantom import make_knee
from kellgren.phantom.severity import CONTRAST

GRID = (24, 48, 48)
CARTILAGE = (2, 4, 5)
MEASURES = ("mass_roi", "top1_roi", "dice_5", "dice_10", "ap", "auroc")


@pytest.fixture(scope="module")
def knees():
    """Volume and label map of six synthetic knees of rising severity."""
    made = [
        make_knee(0.8 * i, grid=GRID, rng=np.random.default_rng(i), contrast=CONTRAST["real"])
        for i in range(6)
    ]
    return [(knee.image.astype(np.float32), knee.labels.astype(np.int64)) for knee in made]


@pytest.fixture(scope="module")
def masks(knees):
    return [np.isin(labels, CARTILAGE) for _, labels in knees]


class TestPlanted:
    def test_a_saliency_that_is_the_truth_scores_at_its_ceiling(self, masks):
        for mask in masks:
            found = saliency_overlap(mask.astype(np.float32), mask)
            assert found.mass_roi == found.ap == found.auroc == pytest.approx(1.0)
            assert found.dice_5 == pytest.approx(found.dice_ceiling_5)
            assert found.dice_10 == pytest.approx(found.dice_ceiling_10)

    def test_a_uniform_map_is_chance(self, masks):
        found = saliency_overlap(uniform(GRID), masks[0])
        share = np.array([found.cartilage_share])
        for name in MEASURES:
            assert getattr(found, name) == pytest.approx(
                float(chance_of(name, share)[0]), rel=2e-3
            ), name

    def test_an_edge_detector_beats_chance_and_is_exposed_by_its_control(self, knees, masks):
        """One map never saw a label, the other lies on cartilage; both look good beside chance."""
        edges, informed = [], []
        for i, ((volume, _), mask) in enumerate(zip(knees, masks, strict=True)):
            noise = np.random.default_rng(i).gamma(4.0, size=GRID).astype(np.float32)
            control = gradient_magnitude(volume)
            found = [saliency_overlap(s * noise, mask) for s in (control, 0.2 + mask)]
            assert min(f.enrichment_5 for f in found) > 1.5
            beside = saliency_overlap(control, mask).dice_5
            edges.append(found[0].dice_5 - beside)
            informed.append(found[1].dice_5 - beside)
        assert max(edges) < 0  # blurred by noise it is even below the control
        assert min(informed) > 0

    def test_anatomy_without_the_knee_beats_chance(self, masks):
        """The cartilage of other knees: a saliency that stays below it may know nothing more."""
        prior = saliency_overlap(mean_mask(masks[1:]), masks[0])
        other = saliency_overlap(of_another(masks[partners(6)[0]]), masks[0])
        assert prior.ap > 2 * prior.cartilage_share
        assert other.mass_roi > 2 * other.cartilage_share


class TestMaps:
    def test_the_gaussian_is_highest_in_the_middle_and_symmetric(self):
        found = centre_gaussian((5, 7, 9))
        assert np.unravel_index(found.argmax(), found.shape) == (2, 3, 4)
        np.testing.assert_allclose(found, found[::-1, ::-1, ::-1])

    def test_the_gradient_of_a_ramp_is_its_slope_per_millimetre(self):
        ramp = np.broadcast_to(3.0 * np.arange(6.0)[:, None, None], (6, 4, 1)).astype(np.float32)
        np.testing.assert_allclose(gradient_magnitude(ramp, spacing_mm=(0.5, 1.0, 1.0)), 6.0)

    def test_no_mask_and_no_other_patient_are_refused(self):
        with pytest.raises(InputError, match="no training mask"):
            mean_mask([])
        with pytest.raises(InputError, match="1 cases"):
            partners(1)

    def test_every_case_lends_its_mask_once_and_never_to_itself(self):
        assert sorted(partners(7)) == list(range(7))
        assert all(i != lent for i, lent in enumerate(partners(7)))


class TestProfile:
    def test_near_misses_lie_in_the_near_rings(self):
        cartilage = np.zeros((1, 1, 41), dtype=bool)
        cartilage[0, 0, 20] = True
        saliency = np.zeros((1, 1, 41))
        saliency[0, 0, [20, 21, 24]] = 1, 1, 2
        rings = distance_profile(saliency, cartilage, spacing_mm=(1.0, 1.0, 0.7))
        assert [ring.mass for ring in rings] == [0.25, 0.25, 0, 0.5, 0, 0, 0]
        assert sum(ring.volume for ring in rings) == pytest.approx(1)
        assert [ring.up_to_mm for ring in rings][-1] == np.inf
        found = mean_distance(saliency, cartilage, spacing_mm=(1.0, 1.0, 0.7))
        assert found == pytest.approx((0 + 0.7 + 2 * 2.8) / 4)

    def test_a_uniform_map_has_the_mass_of_the_volume(self, masks):
        rings = distance_profile(uniform(GRID), masks[0], spacing_mm=(4.0, 2.5, 2.5))
        assert [ring.mass for ring in rings] == pytest.approx([ring.volume for ring in rings])

    def test_regions_share_out_all_of_the_saliency(self, knees):
        volume, labels = knees[2]
        saliency = gradient_magnitude(volume)
        names = {"bone": (1, 3), "femoral": (2,), "tibial": (4, 5)}
        found = regions(saliency, labels, names=names)
        assert [region.name for region in found] == [*names, "background"]
        assert sum(region.mass for region in found) == pytest.approx(1)
        assert sum(region.volume for region in found) == pytest.approx(1)
        inside = saliency[labels == 2].sum() / saliency.sum()
        assert found[1].mass == pytest.approx(inside, rel=1e-5)

    def test_without_cartilage_or_saliency_there_is_nothing_to_say(self):
        nothing = np.zeros((2, 2, 2))
        assert distance_profile(nothing, nothing > 0, spacing_mm=(1.0, 1.0, 1.0)) == []
        assert np.isnan(mean_distance(nothing, nothing == 0, spacing_mm=(1.0, 1.0, 1.0)))
        found = regions(nothing, nothing.astype(np.int64), names={"bone": (1,)})
        assert np.isnan([found[0].mass, found[0].enrichment, found[1].mass]).all()
