"""Signs of disease that were planted in a phantom, and the saliency that lies on them."""

import shutil
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from kellgren.analysis.planted import ANY, on_signs
from kellgren.analysis.resampling import resample
from kellgren.config import BackboneSettings, ExplanationSettings, TrainingSettings
from kellgren.evidence import Evidence
from kellgren.faults import InputError
from kellgren.learn.parts import part_of
from kellgren.learn.planted import locate
from kellgren.learn.predict import predict
from kellgren.learn.train import train
from kellgren.phantom.lattice import Lattice, Pose
from kellgren.phantom.render import render
from kellgren.phantom.severity import SIGNS, Disease, draw_disease
from kellgren.phantom.shape import draw_shape
from kellgren.phantom.signs import read_signs
from kellgren.phantom.tissue import tissues
from kellgren.runs import Run
from kellgren.tables import read_planted
from kellgren.truth import Truth, method_rows, planted_scores, run_rows, true_scores
from kellgren.volume import write_nifti
from tests.conftest import GRID

CPU = torch.device("cpu")
SIZES, SPACING = (48, 96, 96), (100 / 48, 56 / 96, 56 / 96)
RNG = np.random.default_rng


def drawn(**changes) -> tuple[np.ndarray, np.ndarray]:
    """Labels and signs of one person with the given signs and no others."""
    shape = draw_shape(male=True, bmi=28.0, rng=RNG(0))
    nothing, places = np.empty((0, 4)), ("femoral_lesions", "tibial_lesions")
    places += ("femoral_spurs", "tibial_spurs")
    clean = replace(
        draw_disease(1.0, shape, contrast=1.0, rng=RNG(1)),
        **dict.fromkeys(places, nothing),
        spots=np.empty((0, 5)),
        growth=1.0,
    )
    disease: Disease = replace(clean, **changes)
    lattice = Lattice.over((100.0, 56.0, 56.0), Pose(np.eye(3), np.array([-2.0, 4.0, 11.0])))
    tissue = tissues(lattice, shape, disease, rng=RNG(2))
    _, labels, signs = render(tissue, lattice, SIZES, SPACING, rng=RNG(3))
    return labels, signs


@pytest.fixture(scope="module")
def clean() -> tuple[np.ndarray, np.ndarray]:
    return drawn()


def test_a_knee_without_signs_has_no_mask_of_any(clean):
    assert not clean[1].any()


def test_cartilage_that_a_lesion_took_away_was_in_its_mask(clean):
    deep = np.array([[-23.0, 3.0, 9.0, 1.0]])
    labels, signs = drawn(femoral_lesions=deep)
    lost = np.isin(clean[0], (2, 4, 5)) & ~np.isin(labels, (2, 4, 5))
    assert lost.sum() > 50
    assert (signs[lost] == 1).mean() > 0.98
    assert set(np.unique(signs)) == {0, 1}
    assert (clean[0][signs == 1] == 2).mean() > 0.9  # the femur's, not the tibia's below it
    place = np.argwhere(signs == 1).mean(axis=0) * SPACING - np.array([50, 28, 28]) + [-2, 4, 11]
    assert abs(place[0] + 23) < 3
    assert abs(place[1] - 3) < 3


def test_osteophytes_are_the_bone_that_was_not_there_before(clean):
    labels, signs = drawn(
        femoral_spurs=np.array([[-40.0, 7.0, 20.0, 4.0]]),
        tibial_spurs=np.array([[36.0, 4.0, -4.0, 3.0]]),
    )
    grown = np.isin(labels, (1, 3)) & ~np.isin(clean[0], (1, 3))
    assert grown.sum() > 50
    assert ((signs == 2) == grown).all()


def test_spots_of_the_marrow_lie_where_they_were_planted_and_inside_bone():
    labels, signs = drawn(spots=np.array([[-23.0, 4.0, 14.0, 5.0, 60.0]]))
    assert set(np.unique(labels[signs == 3])) == {1}
    volume = (signs == 3).sum() * np.prod(SPACING)
    assert volume == pytest.approx(4 / 3 * np.pi * 5**3, rel=0.1)


def test_signs_are_read_on_the_grid_of_the_network(store, knees, tmp_path):
    case, knee = knees[12], store.load(knees[12].case_id)
    signs = np.zeros(GRID, np.uint8)
    signs[4:8, 6:10, 8:12] = 2
    write_nifti(tmp_path / "signsTs" / f"{case.case_id}.nii.gz", signs, np.diag([0.7, 0.5, 0.5, 1]))
    found = read_signs(tmp_path, case, knee)
    assert found.shape == knee.image.shape
    assert (found == 2).sum() == 64
    other = read_signs(tmp_path, case, replace(knee, mirrored=True))
    assert (other == found[::-1]).all()
    with pytest.raises(InputError, match="knee_013"):
        read_signs(tmp_path, knees[13], knee)


SIGNED = np.zeros(GRID, np.uint8)
SIGNED[2:5, 3:9, 4:7], SIGNED[10:12, 10:12, 10:12] = 1, 2
CARTILAGE = np.zeros(GRID, bool)
CARTILAGE[0:6, 3:9, 4:7] = True


def measured(saliency: np.ndarray) -> dict[str, dict[str, float]]:
    rows = on_signs(saliency.astype(np.float32), SIGNED, CARTILAGE, names=SIGNS)
    return {row.sign: asdict(row) for row in rows}


def test_saliency_that_is_the_mask_has_all_its_mass_there_and_the_largest_enrichment():
    found = measured(SIGNED == 1)["thinned_cartilage"]
    assert found["mass"] == 1
    assert found["enrichment"] == pytest.approx(1 / found["share"])
    assert np.isnan(found["over_cartilage"])  # there is none on the rest of the cartilage


def test_uniform_saliency_gives_the_share_of_the_mask_and_no_enrichment():
    found = measured(np.ones(GRID))
    for sign in ("thinned_cartilage", "osteophyte", ANY):
        assert found[sign]["mass"] == pytest.approx(found[sign]["share"])
        assert found[sign]["enrichment"] == pytest.approx(1)
        assert found[sign]["over_cartilage"] == pytest.approx(1)
    assert found[ANY]["share"] == pytest.approx((SIGNED > 0).mean())


def test_saliency_on_cartilage_alone_is_not_taken_for_saliency_on_lesions():
    found = measured(CARTILAGE)["thinned_cartilage"]
    assert found["enrichment"] > 5
    assert found["over_cartilage"] == pytest.approx(1)


def test_a_sign_that_the_knee_has_not_has_no_value():
    found = measured(np.ones(GRID))["marrow_spot"]
    assert found["share"] == 0
    assert all(np.isnan(found[name]) for name in ("mass", "enrichment", "over_cartilage"))


def planted_in(case, knee) -> np.ndarray:
    """The last digit of a case says which of the signs it has."""
    kept = {"5": (1,), "6": (2,), "7": (), "8": (1, 2)}.get(case.case_id[-1], (1,))
    return np.where(np.isin(SIGNED, kept), SIGNED, 0).astype(np.uint8)


@pytest.fixture(scope="module")
def run(store, knees, tmp_path_factory) -> Run:
    made = Run.at(tmp_path_factory.mktemp("runs") / "resnet3d-dual-s0")
    training = TrainingSettings(epochs=1, batch_size=4, threads=1)
    backbone = BackboneSettings(size="small", grid=GRID)
    train(made, store, knees[:10], backbone=backbone, training=training, device=CPU)
    predict(made, store, knees, device=CPU)
    located(made, store, knees)
    return made


def located(run, store, knees, watch=lambda done: None) -> None:
    settings = ExplanationSettings()
    locate(run, store, knees, signs=planted_in, settings=settings, device=CPU, watch=watch)


def test_every_test_knee_has_three_maps_by_sign(run, knees):
    table = read_planted(run.planted)
    counts = table.groupby(["map", "head", "sign"])["case_id"].nunique()
    assert (counts == 10).all()
    heads = [(m, h) for m in ("saliency", "untrained") for h in ("oa", "kl")]
    assert {key[:2] for key in counts.index} == {*heads, ("image_gradient", "")}
    assert {key[2] for key in counts.index} == {*SIGNS, ANY}
    assert set(table["case_id"]) == {case.case_id for case in knees[10:]}


def test_locating_goes_on_after_the_last_knee_and_ends_with_the_same_bytes(
    run, store, knees, tmp_path
):
    again = Run.at(shutil.copytree(run.folder, tmp_path / run.name))
    again.planted.unlink()

    def stop(done: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        located(again, store, knees, watch=stop)
    assert part_of(again.planted).exists()
    seen: list[int] = []
    located(again, store, knees, watch=seen.append)
    assert seen == [7, 8, 9, 10]
    assert again.planted.read_bytes() == run.planted.read_bytes()
    located(again, store, knees, watch=seen.append)
    assert len(seen) == 4


def test_truth_tables_say_on_how_many_knees_and_how_many_had_none(run):
    found = Evidence.of(run)
    n = len(found.predictions)
    draws = resample(n, resamples=200, rng=RNG(0))
    truth = Truth(found.predictions.case_id, np.linspace(0, 4.9, n), found.predictions.kl)
    true = true_scores(found, truth, draws)
    rows = pd.DataFrame(run_rows(true, draws)).set_index(["against", "task", "metric"])
    row = rows.loc["planted", "kl", "mass_osteophyte"]
    assert (row["n"], row["left_out"]) == (2, 8)  # the knees 016 and 018
    table = read_planted(run.planted).query("head == 'kl' and sign == 'osteophyte'")
    values = table.query("map == 'saliency'")["mass"]
    assert row["value"] == pytest.approx(values.mean())
    assert row["chance"] == pytest.approx((SIGNED == 2).mean())
    row = rows.loc["planted", "oa", "enrichment_thinned_cartilage"]
    assert (row["n"], row["left_out"], row["chance"]) == (8, 2, 1)
    assert row["ci_low"] < row["value"] < row["ci_high"]
    over = table.query("map == 'untrained'")["mass"].to_numpy()
    difference = rows.loc["untrained", "kl", "mass_osteophyte"]["value"]
    assert difference == pytest.approx((values.to_numpy() - over)[~np.isnan(over)].mean())
    assert not any(metric.endswith("marrow_spot") for _, _, metric in rows.index)  # no knee had it
    methods = pd.DataFrame(method_rows([true], rng=RNG(0)))
    assert set(methods["against"]) == {"truth", "reading", "planted", "untrained", "image_gradient"}


def test_a_run_whose_saliency_is_the_planted_mask_has_all_of_it_on_the_lesions(run, tmp_path):
    found = Evidence.of(run)
    rows = [
        {"case_id": name, "head": "kl", "map": "saliency", **asdict(on)}
        for name in found.predictions.case_id
        for on in on_signs((SIGNED == 1).astype(np.float32), SIGNED, CARTILAGE, names=SIGNS)
    ]
    others = [{**row, "map": "untrained"} for row in rows]
    others += [{**row, "map": "image_gradient", "head": ""} for row in rows]
    same = replace(found, planted=pd.DataFrame([*rows, *others]))
    scores = planted_scores(same, resample(10, resamples=100, rng=RNG(0)))
    assert scores["planted", "kl", "mass_thinned_cartilage"].score.value == 1
    assert (scores["planted", "kl", "mass_thinned_cartilage"].score.samples == 1).all()
    assert scores["untrained", "kl", "mass_thinned_cartilage"].score.value == 0


def test_a_table_without_a_column_is_named(tmp_path):
    path = tmp_path / "planted.csv"
    path.write_text("case_id,head,map,sign\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"planted\.csv.*over_cartilage"):
        read_planted(path)
