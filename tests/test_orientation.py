"""However a scan lies in its file: one tensor for the network, and the map back in its place."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from kellgren.config import PreparationSettings
from kellgren.preparation import network_input
from kellgren.volume import crop, read_mask, read_scan, share_of, to_scan_grid, write_nifti
from tests.conftest import SHARED

SHAPE = (30, 40, 44)
GRID = (15, 20, 22)
ANGLE = np.radians(15)
# Oblique by 15 degrees about the right-left axis, then about the vertical one.
TILT = np.array([[1, 0, 0], [0, np.cos(ANGLE), -np.sin(ANGLE)], [0, np.sin(ANGLE), np.cos(ANGLE)]])
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN @ TILT * (1.4, 0.9, 0.8)
AFFINE[:3, 3] = (-20, 10, 5)
MARKER = (7, 30, 12)


def planted():
    """Noise with one bright ball."""
    voxels = np.random.default_rng(0).normal(100, 1, SHAPE).astype(np.float32)
    i, j, k = np.indices(SHAPE)
    distance = (i - MARKER[0]) ** 2 + (j - MARKER[1]) ** 2 + (k - MARKER[2]) ** 2
    voxels[distance <= 9] = 200
    return nib.Nifti1Image(voxels, AFFINE)


ORDERS = [
    list(zip(order, flips, strict=True))
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("crop_mm", [None, (30.0, 30.0, 30.0)])
def test_all_48_orders_give_one_tensor_and_the_map_lands_on_the_marker(tmp_path, side, crop_mm):
    base, seen = planted(), []
    settings, mirrored = PreparationSettings(crop_mm=crop_mm), side == "left"
    place = AFFINE @ [*MARKER, 1]
    for order in ORDERS:
        nib.save(base.as_reoriented(np.array(order)), tmp_path / "scan.nii")
        scan = read_scan(tmp_path / "scan.nii")
        seen.append(network_input(scan, GRID, mirrored=mirrored, preparation=settings))
        bright = np.where(seen[-1] > seen[-1].max() / 2, seen[-1], 0)
        on_scan, affine = to_scan_grid(bright, scan, mirrored=mirrored, crop_mm=crop_mm)
        write_nifti(tmp_path / "map.nii", on_scan, affine)
        file, written = nib.load(tmp_path / "scan.nii"), nib.load(tmp_path / "map.nii")
        assert written.shape == file.shape
        np.testing.assert_allclose(written.affine, file.affine, atol=1e-5)
        found = written.affine @ [*ndimage.center_of_mass(np.asarray(written.dataobj)), 1]
        assert np.linalg.norm(found - place) < 1.0  # mm; a voxel of the grid is 2.8 mm
    for other in seen[1:]:
        np.testing.assert_array_equal(other, seen[0])


def test_a_left_knee_is_seen_as_the_right_one_that_is_its_mirror_image(tmp_path):
    nib.save(planted(), tmp_path / "scan.nii")
    scan = read_scan(tmp_path / "scan.nii")
    right, left = (network_input(scan, GRID, mirrored=side) for side in (False, True))
    np.testing.assert_allclose(left, right[::-1], atol=2e-3)


@pytest.mark.skipif(
    not (SHARED / "data" / "oaizib_masks").is_dir(), reason="the ten real label maps are not here"
)
def test_a_central_box_of_10_cm_holds_all_cartilage_of_ten_real_knees():
    for path in sorted((SHARED / "data" / "oaizib_masks").glob("*.nii.gz")):
        mask = read_mask(path)
        cut = crop.box(mask.labels.shape, mask.spacing_mm, (105.0, 100.0, 110.0))
        lost = share_of(mask.labels, (2, 4)) * mask.labels.size
        lost -= share_of(mask.labels[cut], (2, 4)) * mask.labels[cut].size
        assert round(lost) == 0
