"""Where a new knee lies among the training knees."""

import numpy as np
import pytest

from kellgren.analysis.neighbours import STRANGE, place_among
from kellgren.faults import InputError
from kellgren.tables import Features


def on_a_line(n=100):
    """Knees along a line of which the grade rises with the place; the axis may point either way."""
    x = np.arange(n, dtype=np.float64)
    ids = np.array([f"t{i:03d}" for i in range(n)], dtype=object)
    split = np.full(n, "train", dtype=object)
    return Features(ids, split, (x * 5 // n).astype(np.int64), np.stack([-x, 2 * x], axis=1))


def test_position_is_the_share_of_training_knees_that_lie_lower():
    place = place_among(on_a_line(), np.array([-30.5, 61.0]))
    assert place.position == pytest.approx(0.31)
    assert [one.case_id for one in place.nearest[:2]] == ["t030", "t031"]
    assert place.nearest[0].kl == 1
    assert place.nearest[0].distance == pytest.approx(np.hypot(0.5, 1.0))


def test_a_training_knee_lies_at_its_own_place_and_is_its_own_neighbour():
    train = on_a_line()
    place = place_among(train, train.z[50])
    assert place.position == pytest.approx(0.505)
    assert (place.nearest[0].case_id, place.nearest[0].distance) == ("t050", 0.0)
    assert place.strangeness == 0.0


def test_a_knee_far_from_all_others_is_strange():
    assert place_among(on_a_line(), np.array([500.0, 500.0])).strangeness >= STRANGE


@pytest.mark.parametrize(("n", "z"), [(1, np.zeros(2)), (10, np.zeros(3))])
def test_too_few_knees_and_features_of_another_network_are_refused(n, z):
    with pytest.raises(InputError, match=r"features\.npz"):
        place_among(on_a_line(n), z)
