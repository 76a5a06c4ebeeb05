import multiprocessing
import os
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from kellgren.cohort import Case
from kellgren.config import PreparationSettings
from kellgren.faults import InputError
from kellgren.preparation import network_input, widened
from kellgren.store import Store
from kellgren.volume import (
    foreground,
    n4,
    read_mask,
    read_scan,
    resample,
    resample_mask,
    share_of,
    zscore,
)

SHAPE = (10, 14, 12)
AFFINE = np.diag([0.7, 0.4, 0.4, 1.0])
GRID = (8, 16, 10)


def made_case(folder, case_id="knee", *, side="right", seed=0, masked=True):
    rng = np.random.default_rng(seed)
    image, mask = folder / f"{case_id}.nii.gz", folder / f"{case_id}-mask.nii.gz"
    nib.save(nib.Nifti1Image(rng.integers(0, 300, SHAPE, dtype=np.int16), AFFINE), image)
    nib.save(nib.Nifti1Image(rng.integers(0, 6, SHAPE, dtype=np.uint8), AFFINE), mask)
    return Case(case_id, "s" + case_id, side, "train", 2, image, mask if masked else None)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "prepared", GRID, (2, 4, 5))


def test_a_knee_is_z_scored_and_resampled(tmp_path, store):
    case = made_case(tmp_path)
    store.prepare(case)
    knee = store.load("knee")
    scan, mask = read_scan(case.image), read_mask(case.segmentation)
    expected = resample(zscore(scan.voxels), GRID)
    assert knee.image.dtype == np.float32
    np.testing.assert_allclose(knee.image, expected, rtol=2**-11, atol=1e-7)
    np.testing.assert_array_equal(knee.mask, resample_mask(mask.labels, GRID))
    np.testing.assert_allclose(
        np.array(knee.spacing_mm) * GRID, np.array(scan.spacing_mm) * scan.voxels.shape
    )
    assert not knee.mirrored
    assert knee.cartilage_share == share_of(knee.mask, (2, 4, 5))
    assert knee.cartilage_share_scan == share_of(mask.labels, (2, 4, 5))


def test_a_left_knee_is_the_mirrored_right_one(tmp_path, store):
    right, left = made_case(tmp_path, "right"), made_case(tmp_path, "left", side="left")
    store.prepare_all([right, left])
    seen, mirrored = store.load("right"), store.load("left")
    assert mirrored.mirrored
    np.testing.assert_allclose(mirrored.image, seen.image[::-1], atol=2e-3)
    assert mirrored.cartilage_share_scan == seen.cartilage_share_scan


def test_a_scan_seen_directly_equals_the_stored_one(tmp_path, store):
    case = made_case(tmp_path, side="left")
    store.prepare(case)
    seen = network_input(read_scan(case.image), GRID, mirrored=True)
    np.testing.assert_array_equal(seen, store.load("knee").image)


def test_a_knee_without_segmentation_has_no_mask(tmp_path, store):
    store.prepare(made_case(tmp_path, masked=False))
    knee = store.load("knee")
    assert (knee.mask, knee.cartilage_share, knee.cartilage_share_scan) == (None, None, None)


class TestDoneOnce:
    def stamp(self, store):
        status = store.path("knee").stat()
        return status.st_ino, status.st_mtime_ns

    def test_what_stands_is_left_alone(self, tmp_path, store):
        case = made_case(tmp_path)
        store.prepare(case)
        before = self.stamp(store)
        store.prepare(replace(case, kl=4))
        os.utime(case.image, (0, 0))
        store.prepare(case)
        assert self.stamp(store) == before

    def test_another_source_side_or_setting_is_prepared_again(self, tmp_path, store):
        case = made_case(tmp_path)
        store.prepare(case)
        changes = [
            lambda: store.prepare(replace(case, side="left")),
            lambda: store.prepare(replace(case, segmentation=None)),
            lambda: store.prepare(made_case(tmp_path, seed=1)),
            lambda: replace(store, cartilage=(2, 4)).prepare(case),
            lambda: replace(store, grid=(4, 4, 4)).prepare(case),
        ]
        for change in changes:
            before = self.stamp(store)
            change()
            assert self.stamp(store) != before

    def test_a_damaged_file_is_prepared_again(self, tmp_path, store):
        case = made_case(tmp_path)
        store.prepare(case)
        content = store.path("knee").read_bytes()
        store.path("knee").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        store.prepare(case)
        assert store.path("knee").read_bytes() == content


class TestFaults:
    def test_a_flipped_bit_or_a_cut_is_found(self, tmp_path, store):
        store.prepare(made_case(tmp_path))
        content = store.path("knee").read_bytes()
        rng = np.random.default_rng(0)
        for bit in rng.integers(8 * len(content), size=200):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << (bit % 8)
            store.path("knee").write_bytes(damaged)
            with pytest.raises(InputError, match="run prepare again"):
                store.load("knee")
        store.path("knee").write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match="run prepare again"):
            store.load("knee")

    def test_a_missing_knee_asks_for_prepare(self, store):
        with pytest.raises(InputError, match=r"knee\.safetensors.*run prepare again"):
            store.load("knee")

    def test_other_settings_are_refused(self, tmp_path, store):
        store.prepare(made_case(tmp_path))
        for other in (replace(store, grid=(4, 4, 4)), replace(store, cartilage=(2,))):
            with pytest.raises(InputError, match="other settings"):
                other.load("knee")
            with pytest.raises(InputError, match="other settings"):
                other.digest(["knee"])

    def test_a_file_under_another_name_is_refused(self, tmp_path, store):
        store.prepare(made_case(tmp_path))
        store.path("knee").rename(store.path("other"))
        with pytest.raises(InputError, match="the case knee"):
            store.load("other")

    @pytest.mark.parametrize("case_id", ["../knee", "a/b", "", "CON", ".hidden"])
    def test_no_id_leads_out_of_the_folder(self, store, case_id):
        with pytest.raises(InputError, match="case id"):
            store.load(case_id)

    def test_a_voxel_that_drowns_the_others_is_refused(self, tmp_path, store):
        case = made_case(tmp_path)
        voxels = np.random.default_rng(0).normal(100, 9, (110, 100, 100)).astype(np.float32)
        voxels[3, 3, 3] = 1e30
        nib.save(nib.Nifti1Image(voxels, AFFINE), case.image)
        with pytest.raises(InputError, match=r"case knee: .*knee\.nii\.gz.*standard deviations"):
            store.prepare(case)

    def test_a_mask_of_another_scan_is_refused_with_case_and_file(self, tmp_path, store):
        case = made_case(tmp_path)
        nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), AFFINE), case.segmentation)
        with pytest.raises(InputError, match=r"case knee: .*knee-mask\.nii\.gz"):
            store.prepare(case)
        assert not store.path("knee").exists()

    def test_a_failed_preparation_keeps_what_stood_there(self, tmp_path, store):
        case = made_case(tmp_path)
        store.prepare(case)
        before = store.path("knee").read_bytes()
        case.image.write_bytes(b"torn")
        with pytest.raises(InputError, match="case knee"):
            store.prepare(case)
        assert store.path("knee").read_bytes() == before
        assert len(list(store.folder.iterdir())) == 1


class TestAll:
    def cases(self, folder):
        cases = [made_case(folder, name, seed=n) for n, name in enumerate("abc")]
        cases[1].image.unlink()
        return cases

    def test_the_other_cases_go_on_if_asked(self, tmp_path, store):
        seen = []
        faults = store.prepare_all(
            self.cases(tmp_path),
            keep_going=True,
            progress=lambda done, total: seen.append((done, total)),
        )
        assert list(faults) == ["b"]
        assert "case b" in str(faults["b"])
        assert "b.nii.gz: found no such file" in str(faults["b"])
        assert seen == [(1, 3), (2, 3), (3, 3)]
        assert store.path("a").exists()
        assert store.path("c").exists()

    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_first_fault_stops_and_what_is_done_stays(self, tmp_path, store, workers):
        a, b, _ = self.cases(tmp_path)
        store.prepare(a)
        before = store.path("a").read_bytes()
        with pytest.raises(InputError, match="case b"):
            store.prepare_all([a, b], workers=workers)
        assert store.path("a").read_bytes() == before

    def test_workers_change_nothing(self, tmp_path, store):
        cases = self.cases(tmp_path)
        twin = replace(store, folder=tmp_path / "twin")
        alone = store.prepare_all(cases, keep_going=True)
        shared = twin.prepare_all(cases, keep_going=True, workers=2)
        assert str(alone["b"]) == str(shared["b"])
        for name in "ac":
            assert store.path(name).read_bytes() == twin.path(name).read_bytes()

    def test_a_killed_worker_is_told_as_such(self, tmp_path, store):
        cases = [made_case(tmp_path, f"c{n}", seed=n) for n in range(9)]
        slow = replace(store, grid=(60, 150, 150))

        def kill(*_):
            for child in multiprocessing.active_children():
                child.kill()

        with pytest.raises(InputError, match="use fewer workers"):
            slow.prepare_all(cases, workers=2, progress=kill)


class TestDigest:
    def test_it_forgets_the_order_and_nothing_else(self, tmp_path, store):
        store.prepare_all([made_case(tmp_path, name, seed=n) for n, name in enumerate("ab")])
        both = store.digest(["a", "b"])
        assert store.digest(["b", "a"]) == both
        assert store.digest(["a"]) != both
        store.prepare(made_case(tmp_path, "a", seed=9))
        assert store.digest(["a", "b"]) != both


class TestPreparation:
    """Options of the study file; the paper's are the default."""

    def made(self, folder, **settings):
        case = made_case(folder)
        store = Store(folder / "p", GRID, (2, 4, 5), PreparationSettings(**settings))
        store.prepare(case)
        return read_scan(case.image), store.load(case.case_id)

    def test_each_option_makes_another_digest(self, tmp_path):
        case, digests = made_case(tmp_path), set()
        options = (
            {},
            {"normalisation": "foreground_zscore"},
            {"clip_percentiles": (1, 99)},
            {"resampling": "area"},
            {"crop_mm": (4, 4, 4)},
            {"mirror_left": False},
        )
        for n, settings in enumerate(options):
            store = Store(tmp_path / str(n), GRID, (2, 4, 5), PreparationSettings(**settings))
            store.prepare(case)
            digests.add(store.digest(["knee"]))
            with pytest.raises(InputError, match="other settings"):
                replace(store, preparation=PreparationSettings(clip_percentiles=(2, 3))).load(
                    "knee"
                )
        assert len(digests) == len(options)

    def test_area_averages_what_trilinear_skips(self, tmp_path):
        torch = pytest.importorskip("torch")
        scan, knee = self.made(tmp_path, resampling="area")
        expected = torch.nn.functional.adaptive_avg_pool3d(
            torch.from_numpy(zscore(scan.voxels))[None], GRID
        )
        np.testing.assert_allclose(knee.image, expected[0].numpy(), rtol=2**-10, atol=1e-3)

    def test_clipping_limits_both_ends(self, tmp_path):
        scan, knee = self.made(tmp_path, clip_percentiles=(10, 90))
        low, high = np.percentile(scan.voxels, (10, 90))
        limited = zscore(np.clip(scan.voxels, np.float32(low), np.float32(high)))
        np.testing.assert_allclose(knee.image, resample(limited, GRID), rtol=2**-10, atol=1e-3)

    def test_the_foreground_has_mean_0_and_deviation_1(self, tmp_path):
        scan, knee = self.made(tmp_path, normalisation="foreground_zscore")
        tissue = scan.voxels[foreground(scan.voxels)]
        expected = (resample(scan.voxels, GRID) - tissue.mean()) / tissue.std()
        np.testing.assert_allclose(knee.image, expected, rtol=2**-10, atol=1e-3)

    def test_a_crop_keeps_the_centre_and_its_own_spacing(self, tmp_path):
        scan, knee = self.made(tmp_path, crop_mm=(4.2, 3.2, 3.2))
        middle = scan.voxels[2:8, 2:10, 3:11]
        mean, sd = scan.voxels.mean(), scan.voxels.std()
        expected = (resample(np.ascontiguousarray(middle), GRID) - mean) / sd
        np.testing.assert_allclose(knee.image, expected, rtol=2**-10, atol=1e-3)
        assert knee.crop_mm == (4.2, 3.2, 3.2)
        np.testing.assert_allclose(np.array(knee.spacing_mm) * GRID, (4.2, 3.2, 3.2), rtol=1e-5)

    def test_a_crop_beyond_the_field_of_view_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"knee\.nii\.gz.*field of view of 7 mm"):
            self.made(tmp_path, crop_mm=(50, 4, 4))

    def test_mirroring_can_be_switched_off(self, tmp_path):
        case = made_case(tmp_path, side="left")
        store = Store(tmp_path / "p", GRID, (2,), PreparationSettings(mirror_left=False))
        store.prepare(case)
        right = replace(case, case_id="right", side="right")
        store.prepare(right)
        assert not store.load("knee").mirrored
        np.testing.assert_array_equal(store.load("knee").image, store.load("right").image)

    def test_n4_takes_out_a_smooth_field(self):
        pytest.importorskip("SimpleITK", reason="the extra kellgren[n4] is not installed")
        voxels = np.random.default_rng(0).normal(100, 3, (40, 64, 64)).astype(np.float32)
        voxels[:, :10] = 5
        field = np.linspace(0.6, 1.4, 40, dtype=np.float32)[:, None, None]
        before, after = (v[:, 20:].mean(axis=(1, 2)) for v in (voxels * field, n4(voxels * field)))
        assert after.std() / after.mean() < before.std() / before.mean() / 10

    def test_n4_without_its_package_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "SimpleITK", None)
        with pytest.raises(InputError, match=r"kellgren\[n4\]"):
            n4(np.zeros((8, 8, 8), np.float32))

    def test_every_finite_half_is_widened_to_the_bit(self):
        every = np.arange(2**16, dtype=np.uint16).view(np.float16)
        half = every[np.isfinite(every)].reshape(62, 32, 32)
        expected = half.astype(np.float32)
        np.testing.assert_array_equal(widened(half).view(np.uint32), expected.view(np.uint32))

    def test_the_stored_half_is_the_loaded_image(self, tmp_path, store):
        store.prepare(made_case(tmp_path))
        half = store.load_half("knee")
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half.astype(np.float32), store.load("knee").image)
