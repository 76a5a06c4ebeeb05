"""Faults V and M: voxels and masks that a reader may take, but a person would not."""

import numpy as np
import pytest
from scipy import ndimage

from kellgren.inspection import look_deep
from kellgren.store import Store
from kellgren.volume import mirror, read_mask
from tests.faults import (
    KNEE,
    assert_last_line_names,
    case_of,
    checked,
    made_knee,
    small_file,
    told,
    write,
)

CARTILAGE = (2, 4, 5)
EXIT = {"error": 2, "warning": 1}


@pytest.fixture(scope="module")
def knee():
    return made_knee()


def files(folder, scan, labels=None):
    image = write(folder / "a.nii", scan)
    return case_of(image, None if labels is None else write(folder / "a-mask.nii", labels))


def test_a_sound_knee_is_sound(tmp_path, knee):
    scan, labels = knee
    assert told(files(tmp_path, scan, labels)) == []
    assert look_deep(files(tmp_path, scan, labels), CARTILAGE).cartilage_share > 0.004


def _set(scan, value):
    scan = scan.astype(np.float32)
    scan[40, 96, 96] = value
    return scan


def _empty(scan, share):
    scan = scan.copy()
    scan[: int(share * len(scan))] = 0
    return scan


def _doubled(scan):
    scan = scan.copy()
    scan[31] = scan[30]
    return scan


def _wrapped(scan):
    return (scan.astype(np.int64) * 170).astype(np.uint16).view(np.int16)


VOXELS = [
    ("V01 NaN", lambda s, m: _set(s, np.nan), "error", "1 voxels that are NaN"),
    ("V02 Inf", lambda s, m: _set(s, np.inf), "error", "NaN or infinite"),
    ("V02 -Inf", lambda s, m: _set(s, -np.inf), "error", "NaN or infinite"),
    ("V03 all zero", lambda s, m: np.zeros_like(s), "error", "same value 0"),
    ("V04 constant", lambda s, m: np.full_like(s, 7), "error", "same value 7"),
    ("V05 outlier", lambda s, m: _set(s, 1e30), "error", "standard deviations from the mean"),
    ("V07 wrapped round", lambda s, m: _wrapped(s), "error", "neighbours more than 32768 apart"),
    ("V08 inverted", lambda s, m: (400 - s).astype(s.dtype), "warning", "corners brighter"),
    ("V09 80 % empty slices", lambda s, m: _empty(s, 0.8), "error", "64 of 80 slices"),
    ("V09 a few empty slices", lambda s, m: _empty(s, 0.05), "warning", "4 of 80 slices"),
    ("V10 a slice twice", lambda s, m: _doubled(s), "error", "1 slices that repeat"),
    ("V12 noise",
     lambda s, m: np.random.default_rng(0).integers(0, 300, KNEE).astype(np.int16),
     "warning", "correlate at"),
    ("V12 checkerboard",
     lambda s, m: (np.indices(KNEE).sum(0) % 2 * 30 + s % 20).astype(np.int16),
     "warning", "correlate at"),
    ("V13 a mask as scan", lambda s, m: m, "error", "only the values 0, 1, 2, 3, 4, 5"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "severity", "said"), [pytest.param(c, s, t, id=n) for n, c, s, t in VOXELS]
)
def test_voxels_that_are_no_knee_are_told(tmp_path, knee, change, severity, said):
    assert_told(files(tmp_path, change(*knee)), severity, said, "a.nii")


def assert_told(case, severity, said, name):
    """`check` says it of the case and file, and ends accordingly."""
    code, lines = checked(case, case.image.parent)
    hits = [line for line in lines if said in line]
    assert hits, lines
    assert hits[0].startswith(f"{severity}: case knee_7: ")
    assert name in hits[0]
    assert code == EXIT[severity]
    if severity == "error":
        assert_last_line_names(lines, "case knee_7", name)


def test_V06_no_z_score_that_is_stored_exceeds_float16(tmp_path, knee):
    scan = knee[0].astype(np.float32)
    scan[40, 96, 96] = 4e4
    store = Store(tmp_path / "s", (40, 96, 96), CARTILAGE)
    case = files(tmp_path, scan)
    store.prepare(case)
    assert np.isfinite(store.load(case.case_id).image).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 9)])
def test_V11_a_volume_has_two_voxels_or_more_along_each_axis(tmp_path, shape):
    path = write(tmp_path / "a.nii", np.arange(np.prod(shape), dtype=np.int16).reshape(shape))
    assert_told(case_of(path), "error", "three axes of 2 voxels or more", "a.nii")


def _moved(labels, *by):
    return np.roll(labels, by, (0, 1, 2))


def _all_cartilage(labels):
    return np.full_like(labels, 2)


MASKS = [
    ("M04 mirrored right-left", lambda m: mirror(m), "error", "medial tibial cartilage (4)"),
    ("M04 mirrored top-bottom", lambda m: np.ascontiguousarray(m[:, ::-1]), "error",
     "mirrored top-bottom"),
    ("M05 5 slices off", lambda m: _moved(m, 5, 0, 0), "warning", "moved by (-5, 0, 0) voxels"),
    ("M05 5 rows off", lambda m: _moved(m, 0, 5, 0), "warning", "moved by (0, -5, 0) voxels"),
    ("M05 5 columns off", lambda m: _moved(m, 0, 0, -5), "warning", "moved by (0, 0, 5) voxels"),
    ("M06 label beyond the schema", lambda m: np.where(m == 1, 9, m), "warning", "the labels [9]"),
    ("M07 soft labels", lambda m: m * np.float32(0.999), "error", "found the label"),
    ("M08 empty", lambda m: np.zeros_like(m), "warning", "none of them cartilage"),
    ("M09 everything", _all_cartilage, "error", "1e+02 % of the scan"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "severity", "said"), [pytest.param(c, s, t, id=n) for n, c, s, t in MASKS]
)
def test_a_mask_that_does_not_fit_is_told(tmp_path, knee, change, severity, said):
    scan, labels = knee
    assert_told(files(tmp_path, scan, change(labels)), severity, said, "a-mask.nii")


def test_M04_a_mirrored_mask_without_sides_is_found_by_the_scan(tmp_path, knee):
    scan, labels = knee
    scan, labels = np.roll(scan, 6, axis=0), np.roll(labels, 6, axis=0)  # off the centre
    labels = np.where(labels == 5, 4, labels)
    lines = told(files(tmp_path, scan, mirror(labels)))
    assert any("mirrored right-left" in line for line in lines)


def test_M01_M02_M03_a_mask_of_another_scan_is_refused(tmp_path, knee):
    scan, labels = knee
    image = write(tmp_path / "a.nii", scan)
    gone = case_of(image, tmp_path / "gone.nii")
    other = case_of(image, write(tmp_path / "shape.nii", labels[:, :, 1:]))
    moved = np.diag([1.4, 0.72, 0.72, 1.0])
    moved[0, 3] = 3
    away = case_of(image, write(tmp_path / "away.nii", labels, affine=moved))
    for case, said in ((gone, "no such file"), (other, "a mask of"), (away, "3 mm off")):
        assert len(told(case)) == 1
        assert_told(case, "error", said, case.segmentation.name)


def test_M08_without_cartilage_the_share_is_0_and_saliency_overlap_is_undefined(tmp_path, knee):
    scan, labels = knee
    case, store = files(tmp_path, scan, np.zeros_like(labels)), None
    assert look_deep(case, CARTILAGE).cartilage_share == 0
    store = Store(tmp_path / "s", (20, 48, 48), CARTILAGE)
    store.prepare(case)
    assert store.load(case.case_id).cartilage_share == 0


def test_the_other_side_in_the_table_is_an_error(tmp_path, knee):
    scan, labels = knee
    image, mask = write(tmp_path / "a.nii", scan), write(tmp_path / "m.nii", labels)
    assert any(
        "a left knee, as the table says" in t for t in told(case_of(image, mask, side="left"))
    )
    image, mask = write(tmp_path / "b.nii", mirror(scan)), write(tmp_path / "n.nii", mirror(labels))
    assert told(case_of(image, mask, side="left")) == []


def test_a_reader_of_labels_takes_no_fraction(tmp_path):
    path = small_file(tmp_path / "a.nii", np.float32)
    assert read_mask(path).labels.dtype == np.uint8


def test_a_blurred_scan_keeps_its_place(tmp_path, knee):
    """The overlap test looks for contrast, not for sharp edges."""
    scan, labels = knee
    blurred = ndimage.gaussian_filter(scan.astype(np.float32), 1)
    assert told(files(tmp_path, blurred, labels)) == []
