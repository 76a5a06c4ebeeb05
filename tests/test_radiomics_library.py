"""What PyRadiomics measures through kellgren; where it is not installed, all of this skips."""

import dataclasses
import json
import logging

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from kellgren.cli.radiomics import extract
from kellgren.cohort import Case, write_cohort
from kellgren.faults import InputError
from kellgren.radiomics.library import CLASSES, Recipe
from kellgren.radiomics.table import FeatureTable
from tests.conftest import SHARED

pytest.importorskip("radiomics", reason="the extra [radiomics] is not installed")

SPACING = (0.7, 0.36, 0.5)
# What depends on the axes in PyRadiomics itself: a mesh is ambiguous where voxels meet at an edge.
OF_THE_AXES = {
    *("MeshVolume", "SurfaceArea", "SurfaceVolumeRatio", "Sphericity"),
    *("Maximum2DDiameterSlice", "Maximum2DDiameterRow", "Maximum2DDiameterColumn"),
}


def made(seed=0):
    """A scan and a label map in RAS: five ragged regions in smooth noise."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, (36, 30, 33)), 1)
    scan = np.round(150 + 200 * noise).astype(np.int16)
    labels = np.zeros(scan.shape, np.uint8)
    ragged = ndimage.gaussian_filter(rng.normal(0, 1, scan.shape), 1.2) > 0.05
    for label in range(1, 6):
        part = np.s_[7 * label - 6 : 7 * label, 3 + label : 18 + label, 8:25]
        labels[part] = label * ragged[part]
    return scan, labels


def stored(folder, scan, labels, order=(0, 1, 2), flips=(1, 1, 1), name="k1"):
    """The knee as files whose axes are turned and flipped."""
    affine = np.diag([*SPACING, 1.0])
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for axis, source in enumerate(order):
        turn[source, axis] = flips[source]
        turn[source, 3] += 0 if flips[source] == 1 else scan.shape[source] - 1
    paths = []
    for kind, values in (("scan", scan), ("mask", labels)):
        turned = values[tuple(slice(None, None, flip) for flip in flips)].transpose(order)
        image = nib.Nifti1Image(turned, affine @ turn, dtype=values.dtype)
        image.header.set_xyzt_units("mm")
        paths.append(folder / f"{name}-{kind}.nii.gz")
        nib.save(image, paths[-1])
    return Case(name, name, "right", "test", 2, *paths)


def plain(case):
    """PyRadiomics alone on the arrays of the files, whole, with its own defaults."""
    import SimpleITK as sitk
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    logging.getLogger("radiomics").setLevel(logging.ERROR)
    scan, mask = nib.load(case.image), nib.load(case.segmentation)
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0).tolist()
    extractor = RadiomicsFeatureExtractor(additionalInfo=False)
    extractor.disableAllFeatures()
    for name in CLASSES:
        extractor.enableFeatureClassByName(name)
    labels = np.asarray(mask.dataobj).T
    regions, image = {}, sitk.GetImageFromArray(np.asarray(scan.dataobj).T)
    image.SetSpacing(spacing)
    for label in range(1, 6):
        region = sitk.GetImageFromArray((labels == label).astype(np.uint8))
        region.SetSpacing(spacing)
        found = extractor.execute(image, region)
        regions[f"roi_{label}"] = {name: float(value) for name, value in found.items()}
    return regions


def differing(one, other, tolerance=1e-9):
    """Features that differ in any region by more than a relative tolerance."""
    assert one.keys() == other.keys()
    return {
        name.split("_")[2]
        for region in one
        for name, value in one[region].items()
        if not np.isclose(value, other[region][name], rtol=tolerance, atol=0)
    }


def test_535_values_are_those_of_pyradiomics_on_the_files_of_a_released_scan(tmp_path):
    case = stored(tmp_path, *made())
    ours = Recipe().measure(case)
    assert sum(map(len, ours.values())) == 535
    assert differing(ours, plain(case)) == set()


def test_values_do_not_depend_on_how_a_file_is_stored_though_seven_of_pyradiomics_do(tmp_path):
    ours = Recipe().measure(stored(tmp_path, *made()))
    case = stored(tmp_path, *made(), order=(2, 0, 1), flips=(-1, 1, -1))
    assert differing(Recipe().measure(case), ours, 1e-12) == set()
    moved = differing(plain(case), ours)
    assert {"MeshVolume", "Maximum2DDiameterRow"} <= moved <= OF_THE_AXES


def test_the_scale_of_the_scan_moves_the_published_pool_and_not_the_mr_pool(tmp_path):
    scan, labels = made()
    case = stored(tmp_path, scan, labels)
    mr, published = Recipe("mr", (2,)).measure(case), Recipe("published", (2,)).measure(case)
    stored(tmp_path, 2 * scan, labels)
    assert differing(Recipe("mr", (2,)).measure(case), mr) == set()
    assert "JointEntropy" in differing(Recipe("published", (2,)).measure(case), published)


def test_features_are_named_and_ordered_as_in_the_released_tables(tmp_path):
    path = SHARED / "data" / "radiomics" / "radiomics_test_wide.csv.gz"
    if not path.exists():
        pytest.skip("shared/data/radiomics is not here")
    regions = Recipe(labels=(1,)).measure(stored(tmp_path, *made()))
    assert list(regions["roi_1"]) == pd.read_csv(path, nrows=0).columns.tolist()[2:]


def test_diameters_of_a_real_cartilage_are_in_the_planes_of_the_released_tables():
    path = SHARED / "data" / "oaizib_masks" / "oaizib_002.nii.gz"
    released = SHARED / "data" / "radiomics" / "radiomics_train_wide.csv.gz"
    if not (path.exists() and released.exists()):
        pytest.skip("shared/data/oaizib_masks and radiomics are not here")
    table = pd.read_csv(released, nrows=20).set_index(["case_id", "roi_name"])
    mask = nib.load(path)
    region = np.asarray(mask.dataobj)[::4, ::8, ::8].transpose(0, 2, 1)[:, ::-1, ::-1] == 2
    d, w, h = (float(mm) for mm in np.linalg.norm(mask.affine[:3, :3], axis=0) * (4, 8, 8))
    voxels = np.arange(region.size, dtype=np.float32).reshape(region.shape)
    found = Recipe().features(voxels, region, (d, h, w), "oaizib_002")
    names = [f"original_shape_Maximum2DDiameter{plane}" for plane in ("Slice", "Row", "Column")]
    assert [found[name] for name in names] == pytest.approx(
        table.loc[("oaizib_002", "roi_2"), names].tolist(), rel=0.05
    )


def test_a_region_at_the_edge_is_measured_whole(tmp_path):
    scan, labels = made()
    inner = np.s_[7:15, 4:21, 7:26]  # around label 2, less than the margin from the new edges
    case = stored(tmp_path, scan, np.where(labels == 2, labels, 0).astype(np.uint8))
    whole = Recipe().measure(case)
    assert list(whole) == ["roi_2"]
    cropped = Recipe().measure(stored(tmp_path, scan[inner], labels[inner] * (labels[inner] == 2)))
    assert differing(whole, cropped) == set()


@pytest.mark.parametrize(
    ("marked", "said"), [(1, "label 2.*PyRadiomics refuses"), (0, "labels \\[0\\]")]
)
def test_a_region_without_extent_is_refused_by_name(tmp_path, marked, said):
    scan, labels = made()
    labels[:] = 0
    labels[5, 5, 5] = 2 * marked
    with pytest.raises(InputError, match=f"k1-mask.nii.gz.*{said}"):
        Recipe().measure(stored(tmp_path, scan, labels))


def test_a_cohort_becomes_a_table_by_child_processes(tmp_path, capsys):
    cases = [stored(tmp_path, *made(seed), name=f"k{seed}") for seed in range(2)]
    cases[0] = dataclasses.replace(cases[0], split="train")
    write_cohort(tmp_path / "cohort.csv", cases)
    extract(tmp_path / "cohort.csv", tmp_path / "features.csv", workers=2)
    assert "features.csv: 2 knees" in capsys.readouterr().out
    ours = [value for region in Recipe().measure(cases[1]).values() for value in region.values()]
    table = FeatureTable.read([tmp_path / "features.csv"])
    np.testing.assert_allclose(table.of(["k1"]).flat()[0], ours, rtol=1e-15)
    record = json.loads((tmp_path / "features.json").read_text())["asked"]
    assert record["library"]["version"]
    assert record["settings"]["binWidth"] == 25
