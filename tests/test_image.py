from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kellgren.analysis.performance import auc
from kellgren.cohort import write_cohort
from kellgren.config import RadiomicsSettings, Study
from kellgren.engine import Workplace, fit_radiomics
from kellgren.faults import InputError
from kellgren.radiomics.benchmark import SYSTEMS
from kellgren.radiomics.image import MASKS, Volumes, onehot, union
from kellgren.radiomics.r3d import R3D18
from kellgren.radiomics.systems import Material, empty_table, fit_run
from kellgren.runs import Run
from kellgren.store import Store
from tests.conftest import made_case
from tests.made_radiomics import quiet

NAMES = {"image": 1, "image_mask": 2, "image_mask_onehot": 6}
GRID = (8, 32, 16)
SHORT = {"width": 4, "epochs": 6, "lr": 1e-2}
STAGES = ("layer1", "layer2", "layer3", "layer4")


def with_images(material, **changed):
    settings = RadiomicsSettings(systems=("image",), grid=GRID, image=SHORT | changed)
    return replace(material, settings=settings)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """Thirty training and ten test knees whose centre is brighter the higher the grade."""
    folder = tmp_path_factory.mktemp("scans")
    cases = tuple(made_case(folder, i, "train" if i < 30 else "test", i % 5) for i in range(40))
    store = Store(folder / "prepared", GRID, (2, 4, 5))
    store.prepare_all(cases)
    settings = RadiomicsSettings(systems=("image",))
    return with_images(Material(cases, empty_table(cases), store, settings))


# The network


def test_it_has_as_many_parameters_as_the_published_r3d_18():
    with torch.device("meta"):
        net = R3D18(3, 1)
    assert sum(p.numel() for p in net.parameters()) == 33_166_785


def test_the_stem_keeps_the_slices_and_later_stages_halve_every_axis():
    with torch.device("meta"):
        net, shapes = R3D18(1, 2), []
    for name in ("bn1", *STAGES):
        net.get_submodule(name).register_forward_hook(lambda _m, _x, y: shapes.append(y.shape[1:]))
    net(torch.empty(1, 1, 32, 128, 128, device="meta"))
    assert [tuple(shape) for shape in shapes] == [
        (64, 32, 64, 64),
        (64, 32, 64, 64),
        (128, 16, 32, 32),
        (256, 8, 16, 16),
        (512, 4, 8, 8),
    ]


def written_out(w, x):
    """The published network as one formula of its weights."""

    def norm(x, name):
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, w[f"{name}.weight"], w[f"{name}.bias"])

    x = F.conv3d(x, w["conv1.weight"], stride=(1, 2, 2), padding=(1, 3, 3))
    x = F.relu(norm(x, "bn1"))
    for layer in STAGES:
        for block in (f"{layer}.0", f"{layer}.1"):
            stride = 2 if block.endswith("0") and layer != "layer1" else 1
            y = F.conv3d(x, w[f"{block}.conv1.weight"], stride=stride, padding=1)
            y = F.conv3d(F.relu(norm(y, f"{block}.bn1")), w[f"{block}.conv2.weight"], padding=1)
            if stride == 2:
                x = F.conv3d(x, w[f"{block}.downsample.0.weight"], stride=2)
                x = norm(x, f"{block}.downsample.1")
            x = F.relu(x + norm(y, f"{block}.bn2"))
    return F.linear(x.mean(dim=(2, 3, 4)), w["fc.weight"], w["fc.bias"])


def test_it_is_the_formula_of_its_weights():
    torch.manual_seed(0)
    net, x = R3D18(2, 4, width=4).double(), torch.randn(3, 2, 6, 33, 20, dtype=torch.float64)
    net(x)  # moves the running statistics away from 0 and 1
    found = net.eval()(x)
    assert found.std() > 1e-4
    torch.testing.assert_close(found, written_out(net.state_dict(), x), rtol=1e-10, atol=1e-12)


# What it sees


def test_one_channel_a_region_is_the_one_hot_of_the_mask():
    labels = torch.randint(6, (3, 4, 5, 6), generator=torch.Generator().manual_seed(0))
    wanted = F.one_hot(labels, 6).movedim(-1, 1)[:, 1:].float()
    found = onehot(labels.to(torch.uint8))
    assert torch.equal(found, wanted)
    assert torch.equal(union(labels.to(torch.uint8)), found.sum(dim=1, keepdim=True))


@pytest.mark.parametrize(("name", "channels"), [("none", 1), ("union", 2), ("onehot", 6)])
def test_the_scan_comes_first_and_then_the_masks(name, channels, scanned):
    rows = torch.tensor([7, 3])
    seen = Volumes.of(scanned, MASKS[name]).seen(rows)
    assert seen.shape == (2, channels, *GRID)
    for knee, row in zip(seen, rows.tolist(), strict=True):
        prepared = scanned.store.load(scanned.cases[row].case_id)
        assert (knee[0].numpy() == prepared.image).all()
        if channels == 6:
            label = knee[1:].argmax(dim=0).numpy() + 1
            assert (np.where(knee[1:].any(dim=0), label, 0) == prepared.mask).all()


# The systems


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("task", ["oa", "kl"])
def test_a_network_of_scans_is_fitted_with_the_same_bits(name, task, scanned, tmp_path):
    runs = [Run.at(tmp_path / folder / f"{name}-single_{task}-s0") for folder in ("one", "other")]
    for run in runs:
        fit_run(run, SYSTEMS[name], with_images(scanned, epochs=2), watch=quiet)
    one, other = (run.predictions.read_bytes() for run in runs)
    assert one == other
    record = runs[0].record()
    assert record["fitted"]["channels"] == NAMES[name]
    assert record["made_with"]["device"] == "cpu"
    assert not runs[0].attribution.exists()


def test_another_seed_gives_another_network(scanned):
    short = with_images(scanned, epochs=1)
    one, other = (SYSTEMS["image"](short, "oa", seed=s, watch=quiet).logits for s in (0, 1))
    assert (one != other).any()


def test_it_learns_what_is_brighter_in_knees_with_oa(scanned):
    found = SYSTEMS["image"](with_images(scanned, epochs=12), "oa", seed=0, watch=quiet)
    test = scanned.rows("test")
    assert auc(scanned.target("oa")[test] == 1, found.logits[test, 0]) > 0.8
    assert found.z.shape == (40, 8 * SHORT["width"])


def test_knees_without_masks_are_graded_by_the_scan_and_refused_where_masks_are_seen(
    scanned, tmp_path
):
    cases = tuple(replace(case, segmentation=None) for case in scanned.cases)
    store = replace(scanned.store, folder=tmp_path)
    store.prepare_all(cases)
    bare = with_images(replace(scanned, cases=cases, store=store), epochs=1)
    assert len(SYSTEMS["image"](bare, "oa", seed=0, watch=quiet).logits) == 40
    for name in ("image_mask", "image_mask_onehot"):
        with pytest.raises(InputError, match=r"knee_000.*no segmentation"):
            SYSTEMS[name](bare, "oa", seed=0, watch=quiet)


def test_volumes_of_another_grid_are_refused(scanned):
    other = replace(scanned, store=replace(scanned.store, grid=(16, 32, 16)))
    with pytest.raises(InputError, match="other settings"):
        SYSTEMS["image"](other, "oa", seed=0, watch=quiet)


def test_a_grid_of_which_nothing_is_left_is_refused(scanned):
    small = replace(scanned, store=replace(scanned.store, grid=(16, 16, 16)))
    with pytest.raises(InputError, match=r"radiomics.grid.*more than 16"):
        SYSTEMS["image"](small, "oa", seed=0, watch=quiet)


def test_a_run_is_refused_for_other_volumes_or_settings_of_its_own(scanned, tmp_path):
    run, short = Run.at(tmp_path / "image-single_oa-s0"), with_images(scanned, epochs=1)
    fit_run(run, SYSTEMS["image"], short, watch=quiet)
    others = short.settings.model_copy(
        update={"top_k": short.settings.top_k.model_copy(update={"k": 3})}
    )
    fit_run(run, SYSTEMS["image"], replace(short, settings=others), watch=quiet)
    with pytest.raises(InputError, match="other radiomics"):
        fit_run(run, SYSTEMS["image"], with_images(scanned, epochs=2), watch=quiet)
    moved = replace(short.store, folder=tmp_path / "prepared")
    brighter = (replace(scanned.cases[0], image=scanned.cases[1].image), *scanned.cases[1:])
    moved.prepare_all(brighter)
    with pytest.raises(InputError, match="other volumes_digest"):
        fit_run(run, SYSTEMS["image"], replace(short, store=moved), watch=quiet)


# In a study


def test_a_study_prepares_the_scans_that_its_systems_look_at(scanned, tmp_path):
    table = tmp_path / "cohort.csv"
    write_cohort(table, scanned.cases)
    radiomics = {
        "systems": ["image"],
        "tasks": ["oa"],
        "grid": GRID,
        "image": SHORT | {"epochs": 1},
    }
    study = Study.model_validate(
        {"name": "images", "cohort": {"table": table}, "radiomics": radiomics}
    )
    place = Workplace(study, tmp_path, torch.device("cpu"))
    fit_radiomics(place, place.cohort())
    assert len(list((tmp_path / "prepared" / "8x32x16").iterdir())) == 40
    assert (tmp_path / "runs" / "image-single_oa-s0" / "predictions.csv").exists()


@pytest.mark.parametrize(
    ("systems", "top_k", "grids"),
    [
        (["shape", "top_k"], {}, ()),
        (["shape", "top_k"], {"image": True}, (GRID,)),
        (["image_mask"], {}, (GRID,)),
    ],
)
def test_scans_are_prepared_on_the_grid_of_the_systems_only_where_one_looks(systems, top_k, grids):
    radiomics = {"systems": systems, "grid": GRID, "top_k": top_k}
    study = Study.model_validate(
        {"name": "images", "cohort": {"table": "cohort.csv"}, "radiomics": radiomics}
    )
    assert study.grids == grids
