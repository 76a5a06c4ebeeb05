"""What training does to a knee is what was drawn, within its bounds, and never a mirror image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from kellgren.config import AugmentationSettings, BackboneSettings, TrainingSettings
from kellgren.learn.augmentation import POINTS, change_of, changed, changes_of
from kellgren.learn.dataset import batches
from kellgren.learn.predict import predict
from kellgren.learn.train import train
from kellgren.runs import Run
from tests.conftest import GRID

CPU = torch.device("cpu")
MM = (3.5, 2.0, 2.5)
EVERYTHING = AugmentationSettings(
    rotation_deg=15, translation_mm=8, elastic_mm=5, bias=0.4, gamma=0.3, noise_sd=0.2
)
NOTHING = change_of("knee", settings=AugmentationSettings(), seed=0, epoch=0)


@pytest.fixture(autouse=True)
def one_thread():
    """As the reader has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_volume(*shape, margin=0):
    """Values of a z-scored volume, the same ones along a margin."""
    image = torch.full(shape, -1.0)
    inner = image[tuple(slice(margin, n - margin) for n in shape)]
    inner += torch.rand(inner.shape, generator=torch.Generator().manual_seed(0)).exp()
    return (image - image.mean()) / image.std(correction=0)


def draws(n=200, settings=EVERYTHING):
    return [change_of(f"knee_{i}", settings=settings, seed=0, epoch=i % 7) for i in range(n)]


def at(lattice, places):
    """Values of a lattice at places of -1 to 1, linear in between: scipy's own."""
    where = [(place + 1) / 2 * (POINTS - 1) for place in places]
    return np.stack([map_coordinates(values, where, order=1) for values in lattice])


def z(values):
    return (values - values.mean()) / values.std()


def test_no_change_is_no_change():
    image = some_volume(9, 10, 11)
    torch.testing.assert_close(changed(image, NOTHING, spacing_mm=MM), image)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxels", [1, -2])
def test_a_translation_by_whole_voxels_is_a_shift(axis, voxels):
    image = some_volume(12, 16, 14, margin=3)
    move = replace(NOTHING, translation_mm=np.eye(3)[axis] * MM[axis] * voxels)
    moved = changed(image, move, spacing_mm=MM)
    torch.testing.assert_close(moved, image.roll(voxels, axis), rtol=0, atol=1e-4)


def test_beyond_the_border_the_outer_voxels_go_on():
    image = torch.linspace(-1, 1, 8)[:, None, None].expand(8, 8, 8).contiguous()
    move = replace(NOTHING, translation_mm=np.array([2 * MM[0], 0, 0]))
    moved = changed(image, move, spacing_mm=MM)
    wanted = image[[0, 0, 0, 1, 2, 3, 4, 5]]
    np.testing.assert_allclose(z(moved.numpy()), z(wanted.numpy()), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_is_a_quarter_turn(axis):
    image = some_volume(11, 11, 11)
    turn = replace(NOTHING, rotation_deg=90 * np.eye(3)[axis])
    others = tuple(k for k in range(3) if k != axis)
    # From the first to the second of the other axes; about the middle one these are w and d.
    wanted = torch.rot90(image, -1 if axis == 1 else 1, others)
    turned = changed(image, turn, spacing_mm=(2.0, 2.0, 2.0))
    torch.testing.assert_close(turned, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("i", range(4))
def test_a_marker_moves_by_what_was_drawn(i):
    shape = np.array([32, 48, 40])
    half = (shape - 1) / 2 * MM
    places = np.stack(
        np.meshgrid(
            *[np.linspace(-x, x, n) for x, n in zip(half, shape, strict=True)], indexing="ij"
        )
    )
    start = np.random.default_rng(i).uniform(-0.5, 0.5, 3) * half
    marker = np.exp(-((places - start[:, None, None, None]) ** 2).sum(0) / (2 * 5.0**2))
    motion = EVERYTHING.model_copy(update={"bias": 0.0, "gamma": 0.0, "noise_sd": 0.0})
    change = change_of(f"knee_{i}", settings=motion, seed=0, epoch=0)
    seen = changed(torch.from_numpy(marker).float(), change, spacing_mm=MM).numpy()
    weight = seen - np.median(seen)
    weight[weight < 0.05 * weight.max()] = 0
    found = (places * weight).sum((1, 2, 3)) / weight.sum()
    turned = Rotation.from_rotvec(change.rotation_deg, degrees=True).apply(start)
    wanted = turned + change.translation_mm
    wanted = wanted + at(change.displacement_mm, (wanted / half)[:, None])[:, 0]
    assert np.linalg.norm(wanted - start) > 2
    assert np.linalg.norm(found - wanted) < 0.4


def test_every_draw_stays_within_its_bound_and_some_come_near():
    sizes = {
        "rotation_deg": [np.linalg.norm(c.rotation_deg) for c in draws()],
        "translation_mm": [np.linalg.norm(c.translation_mm) for c in draws()],
        "elastic_mm": [np.linalg.norm(c.displacement_mm, axis=0).max() for c in draws()],
        "bias": [np.abs(c.log_gain).max() for c in draws()],
        "gamma": [abs(c.log_gamma) for c in draws()],
        "noise_sd": [c.noise_sd for c in draws()],
    }
    for name, found in sizes.items():
        largest = getattr(EVERYTHING, name)
        assert 0.9 * largest < max(found) <= largest * (1 + 1e-12), name
        assert min(found) < 0.1 * largest, name


def test_fields_are_cubic_within_a_third_of_the_volume_and_change_little_from_point_to_point():
    for change in draws(50):
        for field in (change.displacement_mm, change.log_gain):
            for axis in (1, 2, 3):
                third = field.take(range(6), axis)
                np.testing.assert_allclose(np.diff(third, 4, axis), 0, atol=1e-12)
                assert np.abs(np.diff(field, axis=axis)).max() < 0.5 * np.abs(field).max()


def test_no_draw_mirrors_or_folds_a_knee():
    """The volume of every piece stays positive, in a knee of 100 mm and at the widest settings."""
    widest = AugmentationSettings(rotation_deg=30, translation_mm=30, elastic_mm=5)
    step = 100 / (POINTS - 1)
    for change in draws(settings=widest):
        slopes = [np.diff(change.displacement_mm, axis=axis) / step for axis in (1, 2, 3)]
        inner = [s[:, : POINTS - 1, : POINTS - 1, : POINTS - 1] for s in slopes]
        jacobian = np.eye(3) - np.moveaxis(np.stack(inner, 1), (0, 1), (-2, -1))
        assert np.linalg.det(jacobian).min() > 0
        turn = Rotation.from_rotvec(change.rotation_deg, degrees=True)
        assert turn.magnitude() <= np.radians(30) + 1e-12
        assert np.linalg.det(turn.as_matrix()) > 0


def test_a_marker_stays_on_its_side():
    image = torch.zeros(16, 16, 16)
    image[3:6, 6:10, 6:10] = 1.0
    where = torch.arange(16.0)[:, None, None] - 7.5
    for change in draws(60):
        seen = changed(image, change, spacing_mm=(7.0, 7.0, 7.0))
        high = seen > seen.amax() / 2
        assert (where * high).sum() < 0


def test_a_gain_multiplies_the_height_above_the_lowest_value():
    image, change = some_volume(12, 16, 14), replace(NOTHING, log_gain=draws(1)[0].log_gain)
    ends = np.meshgrid(*[np.linspace(-1, 1, n) for n in image.shape], indexing="ij")
    gain = at(np.exp(change.log_gain), ends)[0]
    assert np.exp(-0.4) <= gain.min() < gain.max() <= np.exp(0.4)
    seen = changed(image, change, spacing_mm=MM).numpy()
    wanted = (image.numpy() - image.min().item()) * gain
    np.testing.assert_allclose(z(seen), z(wanted), atol=1e-4)


def test_gamma_is_the_exponent_of_the_height_above_the_lowest_value():
    image = some_volume(12, 16, 14)
    seen = changed(image, replace(NOTHING, log_gamma=np.log(1.5)), spacing_mm=MM).numpy()
    wanted = (image.numpy() - image.min().item()) ** 1.5
    np.testing.assert_allclose(z(seen), z(wanted), atol=1e-4)


def test_noise_has_the_drawn_deviation_and_no_structure():
    image = some_volume(32, 32, 32)
    seen = changed(image, replace(NOTHING, noise_sd=0.5, noise_seed=3), spacing_mm=MM)
    # The sum of signal and noise was brought back to the deviation of the signal.
    noise = seen * (1 + 0.5**2) ** 0.5 - image
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)
    assert abs(np.corrcoef(noise.flatten(), image.flatten())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[1:].flatten(), noise[:-1].flatten())[0, 1]) < 0.02
    other = changed(image, replace(NOTHING, noise_sd=0.5, noise_seed=4), spacing_mm=MM)
    assert abs(np.corrcoef((other - image).flatten(), noise.flatten())[0, 1]) < 0.02


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (-0.9, 1.4)])
def test_mean_and_deviation_stay_those_of_the_prepared_volume(mean, sd):
    image = some_volume(16, 16, 16) * sd + mean
    for change in draws(20):
        seen = changed(image, change, spacing_mm=MM)
        assert seen.mean().item() == pytest.approx(mean, abs=1e-5)
        assert seen.std(correction=0).item() == pytest.approx(sd, rel=1e-5)
        assert not torch.equal(seen, image)


def test_a_draw_depends_on_seed_epoch_and_case_alone():
    def drawn(case_id="a", seed=0, epoch=0, settings=EVERYTHING):
        return change_of(case_id, settings=settings, seed=seed, epoch=epoch)

    one = drawn()
    assert all(np.array_equal(getattr(one, n), getattr(drawn(), n)) for n in vars(one))
    for other in (drawn("b"), drawn(seed=1), drawn(epoch=1)):
        assert not any(np.array_equal(getattr(one, n), getattr(other, n)) for n in vars(one))
    still = drawn(settings=EVERYTHING.model_copy(update={"rotation_deg": 0.0}))
    assert np.array_equal(one.displacement_mm, still.displacement_mm)
    assert one.noise_seed == still.noise_seed


def test_the_other_knees_of_a_batch_change_nothing(store, knees):
    changes = changes_of(EVERYTHING, seed=3, epoch=1)
    seen = {}
    for order, size in ((knees[:6], 4), (knees[5::-1], 1)):
        for batch in batches(store, order, batch_size=size, device=CPU, changes=changes):
            for case, image in zip(batch.cases, batch.image, strict=True):
                assert torch.equal(seen.setdefault(case.case_id, image), image)
    first = torch.from_numpy(store.load(knees[0].case_id).image)
    change = change_of(knees[0].case_id, settings=EVERYTHING, seed=3, epoch=1)
    spacing_mm = store.load(knees[0].case_id).spacing_mm
    wanted = changed(first, change, spacing_mm=spacing_mm)
    assert torch.equal(seen[knees[0].case_id][0], wanted)


def test_the_network_keeps_its_threads(store, knees):
    torch.set_num_threads(2)
    changes = changes_of(EVERYTHING, seed=0, epoch=0)
    for _ in batches(store, knees[:4], batch_size=1, device=CPU, changes=changes):
        assert torch.get_num_threads() == 2


def trained(folder, store, knees, **settings):
    run = Run.at(folder / "resnet3d-dual-s0")
    training = TrainingSettings(epochs=1, batch_size=5, threads=1, **settings)
    small = BackboneSettings(size="small", grid=GRID)
    train(run, store, knees[:10], backbone=small, training=training, device=CPU)
    return run


def test_an_augmented_run_has_its_own_bits_and_the_same_each_time(store, knees, tmp_path):
    one = trained(tmp_path / "one", store, knees, augmentation=EVERYTHING)
    two = trained(tmp_path / "two", store, knees, augmentation=EVERYTHING)
    plain = trained(tmp_path / "plain", store, knees)
    assert one.weights.read_bytes() == two.weights.read_bytes() != plain.weights.read_bytes()
    assert one.record()["asked"]["training"]["augmentation"] == EVERYTHING.model_dump()


def test_without_augmentation_nothing_is_changed_and_nothing_said(
    store, knees, tmp_path, monkeypatch
):
    monkeypatch.delattr("kellgren.learn.dataset.changed")
    run = trained(tmp_path, store, knees, augmentation=AugmentationSettings())
    assert "augmentation" not in run.record()["asked"]["training"]
    image = next(batches(store, knees[:2], batch_size=2, device=CPU)).image
    assert np.array_equal(image[1, 0], store.load(knees[1].case_id).image)


def test_prediction_sees_knees_as_they_were_prepared(store, knees, tmp_path, monkeypatch):
    run = trained(tmp_path, store, knees, augmentation=EVERYTHING)
    monkeypatch.delattr("kellgren.learn.dataset.changed")
    predict(run, store, knees[10:14], device=CPU)
    assert run.predictions.exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_the_change_is_that_of_the_cpu_but_for_the_noise():
    image, change = some_volume(24, 28, 32), replace(draws(1)[0], noise_sd=0.0)
    there = [changed(image.cuda(), change, spacing_mm=MM).cpu() for _ in range(2)]
    assert torch.equal(*there)
    torch.testing.assert_close(there[0], changed(image, change, spacing_mm=MM), rtol=0, atol=1e-3)
