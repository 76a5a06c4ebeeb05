"""Synthetic knees: their layout, their anatomy, and how hard they are to grade."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import skew, spearmanr

from kellgren.faults import InputError
from kellgren.phantom import make_knee, write_release
from kellgren.phantom.lattice import Lattice, Pose, Taps, sample
from kellgren.phantom.reader import GRADE_MIX, read_grade, true_grades
from kellgren.phantom.render import centres
from kellgren.phantom.scan import field_of_view
from kellgren.phantom.severity import CONTRAST

SMALL = (24, 48, 48)


def release(folder: Path, **changes) -> Path:
    settings = {"train": 5, "test": 2, "grid": SMALL, "seed": 3}
    settings |= {"contrast": "real", "agreement": 0.8} | changes
    write_release(folder, **settings)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def knee(severity: float = 2.5, seed: int = 0, grid=SMALL, contrast: float = 1.0):
    rng = np.random.default_rng(seed)
    return make_knee(severity, grid=grid, rng=rng, contrast=contrast)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return release(tmp_path_factory.mktemp("phantom") / "release")


def test_release_has_the_files_of_oaizib_cm(written):
    numbers = range(1, 8)
    split = ["Tr"] * 5 + ["Ts"] * 2
    expected = {"phantom.json", "severity.csv", "subInfo_train.csv", "subInfo_test.csv"}
    for s, i in zip(split, numbers, strict=True):
        expected |= {f"images{s}/oaizib_{i:03d}_0000.nii.gz"}
        expected |= {f"{kind}{s}/oaizib_{i:03d}.nii.gz" for kind in ("labels", "signs")}
    assert set(contents(written)) == expected


def test_tables_are_the_csv_twins_of_the_release(written):
    columns = "OAI-SubjectID,CMT-ID,OAI-Path,OAI-MRBarCode,KneeSide,KLGrade,Gender,Age,BMI"
    content = (written / "subInfo_train.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf" + columns.encode() + b"\n")
    table = pd.read_csv(written / "subInfo_train.csv", encoding="utf-8-sig", dtype=str)
    assert table["CMT-ID"].tolist() == ["001", "002", "003", "004", "005"]
    assert (table["KneeSide"] == "1").all()
    assert not table["OAI-SubjectID"].str.isdecimal().any()
    assert table["KLGrade"].is_monotonic_increasing


def test_severity_stands_only_in_its_own_table(written):
    severity = pd.read_csv(written / "severity.csv")
    assert severity.columns.tolist() == ["case_id", "split", "severity", "true_kl", "kl"]
    assert (np.floor(severity["severity"]) == severity["true_kl"]).all()
    assert sorted(severity["true_kl"][:5]) == [0, 1, 2, 3, 4]
    tables = [pd.read_csv(written / f"subInfo_{s}.csv") for s in ("train", "test")]
    assert pd.concat(tables)["KLGrade"].tolist() == severity["kl"].tolist()


def test_scans_are_ras_with_both_codes_and_the_stated_voxels(written):
    image = nib.load(written / "imagesTr/oaizib_001_0000.nii.gz")
    labels = nib.load(written / "labelsTr/oaizib_001.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.get_data_dtype() == np.int16
    assert labels.get_data_dtype() == np.uint8
    assert set(np.unique(labels.dataobj)) == {0, 1, 2, 3, 4, 5}
    for scan in (image, labels):
        assert scan.shape == SMALL
        assert (int(scan.header["sform_code"]), int(scan.header["qform_code"])) == (1, 1)
        assert scan.header.get_xyzt_units()[0] == "mm"
        assert bytes(scan.header["descrip"]).strip(b"\0") == b""
        np.testing.assert_allclose(scan.get_qform(), scan.get_sform(), atol=1e-4)
        np.testing.assert_allclose(scan.header.get_zooms(), (100 / 24, 56 / 48, 56 / 48), rtol=1e-6)


def test_rows_columns_and_slices_land_on_their_axes():
    made = knee(grid=(26, 40, 60))
    assert made.image.shape == made.labels.shape == (26, 60, 40)
    assert made.spacing[1] == pytest.approx(made.spacing[2])


def test_same_seed_gives_the_same_bytes_however_many_workers(written, tmp_path):
    again = release(tmp_path / "again", workers=2)
    assert contents(again) == contents(written)


def test_another_seed_gives_another_knee():
    assert (knee(seed=0).image != knee(seed=1).image).any()


def test_finished_files_are_left_alone_and_missing_ones_are_restored(tmp_path):
    folder = release(tmp_path / "release", train=2, test=1)
    before = contents(folder)
    kept = folder / "labelsTr/oaizib_002.nii.gz"
    stamp = kept.stat().st_mtime_ns
    (folder / "imagesTr/oaizib_001_0000.nii.gz").unlink()
    shutil.rmtree(folder / "signsTs")  # as in a phantom that an earlier version made
    seen = []
    release(folder, train=2, test=1, progress=lambda done, of: seen.append((done, of)))
    assert contents(folder) == before
    assert kept.stat().st_mtime_ns == stamp
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    folder = release(tmp_path / "release", train=1, test=0)
    with pytest.raises(InputError, match=r"phantom\.json"):
        release(folder, train=1, test=0, seed=4)
    assert json.loads((folder / "phantom.json").read_text())["seed"] == 3


def test_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="empty or absent folder"):
        release(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"contrast": "loud"},
        {"agreement": 1.2},
        {"train": -1},
        {"grid": (4, 48, 48)},
        {"seed": -1},
        {"workers": 0},
    ],
)
def test_setting_out_of_range_is_named(tmp_path, changes):
    with pytest.raises(InputError, match=f"'{next(iter(changes))}'"):
        release(tmp_path / "release", **changes)
    assert not (tmp_path / "release").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_paper_sized_splits_have_the_papers_grades(split):
    mix = GRADE_MIX[split]
    assert tuple(np.bincount(true_grades(sum(mix), mix))) == mix


@pytest.mark.parametrize("count", range(12))
def test_true_grades_are_as_many_as_asked_and_all_present_from_five(count):
    grades = true_grades(count, GRADE_MIX["train"])
    assert len(grades) == count
    assert count < 5 or set(grades) == {0, 1, 2, 3, 4}


def test_reader_keeps_the_grade_as_often_as_stated():
    rng = np.random.default_rng(0)
    for grade, kept in ((0, 0.85), (2, 0.7), (4, 0.85)):
        read = np.array([read_grade(grade, 0.7, rng=rng) for _ in range(4000)])
        assert abs((read == grade).mean() - kept) < 0.03
        assert np.abs(read - grade).max() == 1
    assert all(read_grade(3, 1.0, rng=rng) == 3 for _ in range(20))


@pytest.mark.parametrize("grid", [(24, 48, 48), (40, 96, 80), (80, 192, 192), (160, 384, 384)])
def test_field_of_view_grows_from_the_joint_to_the_real_one(grid):
    across, tall, deep = field_of_view(grid)
    assert 100 <= across <= 112
    assert 56**2 <= tall * deep * 1.000001 <= 140**2 * 1.00001
    assert tall / grid[1] == pytest.approx(deep / grid[2])


def test_lattice_interpolates_a_plane_exactly():
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    lattice = Lattice.over((20.0, 16.0, 12.0), Pose(turn, np.array([1.0, 2.0, 3.0])))
    x, y, z = lattice.points()
    sizes, spacing = (7, 5, 9), (20 / 7, 16 / 5, 12 / 9)
    at = [centres(n, s) for n, s in zip(sizes, spacing, strict=True)]
    taps = tuple(Taps.of(c, start) for c, start in zip(at, lattice.starts, strict=True))
    box = (slice(1, 6), slice(0, 5), slice(2, 9))
    i, j, k = np.ix_(*(c[side] for c, side in zip(at, box, strict=True)))
    expected = 2 * (1 - j) - 3 * (2 + i) + (3 + k)
    np.testing.assert_allclose(sample(2 * x - 3 * y + z, taps, box), expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_right_knee_has_its_medial_plateau_at_low_x_and_femur_above_tibia(seed):
    labels = knee(seed=seed).labels
    centre = {label: np.argwhere(labels == label).mean(axis=0) for label in range(1, 6)}
    assert centre[4][0] < centre[5][0]
    assert centre[3][2] < centre[4][2] < centre[2][2] < centre[1][2]


def test_cartilage_lies_on_bone():
    from scipy.ndimage import distance_transform_edt

    made = knee(1.0, grid=(48, 96, 96))
    for cartilage, bone in ((2, 1), (4, 3), (5, 3)):
        away = distance_transform_edt(made.labels != bone, sampling=made.spacing)
        assert away[made.labels == cartilage].max() < 6.5


def test_same_seed_is_the_same_person_in_the_same_pose_at_any_severity():
    well, ill = knee(0.0, seed=5), knee(4.9, seed=5)
    np.testing.assert_array_equal(well.affine, ill.affine)
    femur = (well.labels == 1) & (ill.labels == 1)
    assert femur.sum() > 0.9 * (well.labels == 1).sum()


@pytest.mark.slow
def test_full_size_knee_has_the_measures_of_real_ones():
    """Ranges are those of 507 real knees (OAIZIB-CM): mean plus or minus three SD."""
    made = knee(1.5, seed=2, grid=(160, 384, 384))
    assert made.spacing == pytest.approx((0.7, 0.3646, 0.3646), abs=1e-4)
    share = np.isin(made.labels, (2, 4, 5)).mean()
    assert 0.005 < share < 0.015
    voxel = float(np.prod(made.spacing))
    for label, volume, sd, intensity, its_sd in (
        (1, 182_650, 35_750, 44.2, 6.2),
        (2, 15_130, 3_170, 175.4, 18.9),
        (3, 120_050, 23_700, 46.3, 7.3),
        (4, 2_090, 500, 157.7, 17.8),
        (5, 2_400, 670, 175.2, 20.5),
    ):
        inside = made.labels == label
        assert abs(inside.sum() * voxel - volume) < 3 * sd
        assert abs(made.image[inside].mean() - intensity) < 3 * its_sd


@pytest.mark.slow
def test_no_single_statistic_gives_the_grade_away():
    severity = np.linspace(0.05, 4.95, 50)
    rows = []
    for i, s in enumerate(severity):
        made = knee(float(s), seed=100 + i, contrast=CONTRAST["real"])
        image, labels = made.image.astype(float), made.labels
        rois = [image[labels == label] for label in range(1, 6)]
        rows.append(
            [image.mean(), image.std(), image.max(), np.isin(labels, (2, 4, 5)).mean()]
            + [f(roi) for roi in rois for f in (np.mean, np.size, skew)]
        )
    rho = [abs(spearmanr(column, severity).statistic) for column in np.array(rows).T]
    assert max(rho) < 0.75
    assert max(rho[:4]) < 0.5


def test_a_second_visit_is_the_same_person_in_another_pose_with_other_noise():
    first, second = (
        make_knee(2.0, grid=(24, 48, 48), rng=np.random.default_rng(7), contrast=1.0, visit=visit)
        for visit in (0, 1)
    )
    assert not np.array_equal(first.affine, second.affine)
    assert not np.array_equal(first.image, second.image)
    share = (first.labels > 0).mean(), (second.labels > 0).mean()
    assert share[0] == pytest.approx(share[1], rel=0.1)
