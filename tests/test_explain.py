import shutil
from functools import cache

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

from kellgren.config import BackboneSettings, ExplanationSettings, TrainingSettings
from kellgren.exemplars import read_exemplars
from kellgren.files import write_text
from kellgren.learn.explain import exemplar_cases, explain
from kellgren.learn.parts import part_of
from kellgren.learn.predict import predict
from kellgren.learn.train import train
from kellgren.runs import Run
from kellgren.store import Store
from kellgren.tables import Features, Predictions, read_overlaps
from tests.conftest import GRID

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(store, knees, tmp_path_factory) -> Run:
    run = Run.at(tmp_path_factory.mktemp("runs") / "resnet3d-dual-s0")
    training = TrainingSettings(epochs=1, batch_size=4, threads=1)
    backbone = BackboneSettings(size="small", grid=GRID)
    train(run, store, knees[:10], backbone=backbone, training=training, device=CPU)
    predict(run, store, knees, device=CPU)
    kept = exemplar_cases(store, knees[10:])
    settings = ExplanationSettings()
    explain(run, store, knees[10:], settings=settings, exemplars=kept, device=CPU)
    return run


@pytest.fixture(scope="module")
def explained(finished, store, knees, tmp_path_factory):
    """The run, explained by a method without being stopped."""

    @cache
    def by(method: str) -> Run:
        run = Run.at(
            shutil.copytree(finished.folder, tmp_path_factory.mktemp(method) / finished.name)
        )
        explain_test_knees(run, store, knees, method=method)
        return run

    return by


def explain_test_knees(run, store, knees, *, method, watch=lambda done: None) -> None:
    settings = ExplanationSettings(method=method, copies=2)
    kept = exemplar_cases(store, knees[10:])
    explain(run, store, knees[10:], settings=settings, exemplars=kept, device=CPU, watch=watch)


def files_of(run: Run) -> dict[str, bytes]:
    paths = [run.overlap, run.exemplars, *run.saliency.glob("*.nii.gz")]
    return {path.name: path.read_bytes() for path in paths}


def test_predictions_hold_logits_of_both_heads_for_both_splits(finished, knees):
    test, train_ = (Predictions.read(finished.predictions, split=s) for s in ("test", "train"))
    assert test.case_id.tolist() == [c.case_id for c in knees[10:]]
    assert train_.kl.tolist() == [c.kl for c in knees[:10]]
    assert test.oa_source == "head"
    assert np.allclose(test.prob_kl.sum(1), 1)


def test_features_are_the_input_of_the_heads(finished):
    features = Features.read(finished.features).of_split("test")
    from kellgren.learn.model import load_model

    model = load_model(finished, device=CPU)
    logits = model.heads["oa"](torch.tensor(features.z, dtype=torch.float32))[:, 0]
    test = Predictions.read(finished.predictions)
    assert np.allclose(logits.detach().numpy(), test.score_oa, atol=1e-5)


def test_each_test_knee_has_an_overlap_per_head(finished, knees):
    table = read_overlaps(finished.overlap)
    assert sorted(zip(table["case_id"], table["head"], strict=True)) == sorted(
        (c.case_id, head) for c in knees[10:] for head in ("oa", "kl")
    )
    assert table["mass_roi"].between(0, 1).all()
    assert (table["cartilage_share"] == 64 / 24**3).all()


def test_shares_of_the_saliency_by_region_add_up_to_one(finished):
    table = read_overlaps(finished.overlap)
    shares = table[[c for c in table.columns if c.startswith("mass_") and "within" not in c]]
    assert shares.drop(columns="mass_roi").sum(axis=1).to_numpy() == pytest.approx(1)
    two = table["mass_femoral_cartilage"] + table["mass_medial_tibial_cartilage"]
    assert two.to_numpy() == pytest.approx(table["mass_roi"].to_numpy(), rel=1e-5)


def test_saliency_within_a_distance_of_cartilage_rises_with_it(finished):
    table = read_overlaps(finished.overlap)
    columns = ["mass_roi", *(f"mass_within_{mm}mm" for mm in (1, 2, 5, 10, 20))]
    assert (table[columns].diff(axis=1).iloc[:, 1:] >= -1e-6).all(axis=None)


def test_exemplars_are_one_knee_a_grade_chosen_without_a_model(finished, knees):
    kept = {e.case_id: e.kl for e in read_exemplars(finished.exemplars)}
    assert sorted(kept.values()) == [0, 1, 2, 3, 4]


def test_every_grid_keeps_the_same_exemplars(store, knees, tmp_path):
    coarse = Store(tmp_path, (12, 24, 24), (2, 4, 5))
    coarse.prepare_all(knees[10:])
    assert exemplar_cases(coarse, knees[10:]) == exemplar_cases(store, knees[10:])


def test_kept_maps_lie_on_the_scans_own_grid(finished, knees):
    maps = sorted(finished.saliency.glob("*.nii.gz"))
    assert len(maps) == 10
    case = next(c for c in knees if maps[0].name.startswith(c.case_id))
    saliency, scan = nibabel.load(maps[0]), nibabel.load(case.image)
    assert saliency.shape == scan.shape
    assert np.allclose(saliency.affine, scan.affine)
    assert saliency.get_fdata().max() > 0


@pytest.mark.parametrize("stopped", [6, 8], ids=["inside a batch", "between batches"])
@pytest.mark.parametrize("method", ["gradient", "noisy_gradient_input"])
def test_explaining_goes_on_after_the_last_knee(explained, store, knees, tmp_path, method, stopped):
    whole = explained(method)
    again = Run.at(shutil.copytree(whole.folder, tmp_path / whole.name))
    again.overlap.unlink()

    def stop(done: int) -> None:
        if done == stopped:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_test_knees(again, store, knees, method=method, watch=stop)
    assert not again.overlap.exists()
    assert part_of(again.overlap).read_text().count("\n") == 1 + 2 * stopped
    seen: list[int] = []
    explain_test_knees(again, store, knees, method=method, watch=seen.append)
    assert seen == list(range(stopped + 1, 11))
    assert files_of(again) == files_of(whole)


def test_a_knee_whose_picture_was_written_and_whose_row_was_not_is_explained_once_more(
    explained, store, knees, tmp_path, monkeypatch
):
    whole = explained("gradient")
    again = Run.at(shutil.copytree(whole.folder, tmp_path / whole.name))
    again.overlap.unlink()
    kept = {e.case_id for e in read_exemplars(whole.exemplars)}
    pictured = next(case.case_id for case in knees[12:] if case.case_id in kept)

    def fail(path, text):
        if f"\n{pictured}," in text:
            raise KeyboardInterrupt
        write_text(path, text)

    with monkeypatch.context() as patched:
        patched.setattr("kellgren.learn.parts.write_text", fail)
        with pytest.raises(KeyboardInterrupt):
            explain_test_knees(again, store, knees, method="gradient")
    assert pictured in {e.case_id for e in read_exemplars(again.exemplars)}
    explain_test_knees(again, store, knees, method="gradient")
    assert files_of(again) == files_of(whole)


def test_explaining_that_was_stopped_does_not_pass_for_what_stood_before(
    explained, store, knees, tmp_path
):
    whole = explained("gradient")
    again = Run.at(shutil.copytree(whole.folder, tmp_path / whole.name))

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_test_knees(again, store, knees, method="noisy_gradient_input", watch=stop)
    explain_test_knees(again, store, knees, method="gradient")
    assert files_of(again) == files_of(whole)


def test_explaining_again_with_other_settings_is_done_anew(finished, store, knees):
    before = pd.read_csv(finished.overlap)
    settings = ExplanationSettings(method="noisy_gradient_input", copies=2)
    explain(finished, store, knees[10:], settings=settings, exemplars=(), device=CPU)
    after = pd.read_csv(finished.overlap)
    assert not np.allclose(before["mass_roi"], after["mass_roi"])
    assert finished.record()["explained"]["method"] == "noisy_gradient_input"
