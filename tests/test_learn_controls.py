import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from kellgren.config import BackboneSettings, ExplanationSettings, TrainingSettings
from kellgren.files import write_json, write_text
from kellgren.learn.controls import (
    anatomical_controls,
    cascade,
    control,
    deletion,
    stages,
    untrained,
)
from kellgren.learn.explain import cartilage_of
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.model import load_model
from kellgren.learn.parts import part_of
from kellgren.learn.train import train
from kellgren.runs import Run
from tests.conftest import GRID

CPU = torch.device("cpu")
TRAINING = TrainingSettings(epochs=1, batch_size=5, threads=1)


@pytest.fixture(scope="module")
def run(store, knees, tmp_path_factory) -> Run:
    made = Run.at(tmp_path_factory.mktemp("runs") / "resnet3d-dual-s0")
    backbone = BackboneSettings(size="small", grid=GRID)
    train(made, store, knees[:10], backbone=backbone, training=TRAINING, device=CPU)
    return made


@pytest.fixture(scope="module")
def tables(run, store, knees) -> dict[str, pd.DataFrame]:
    kept = [knees[10].case_id]
    control(run, store, knees, settings=ExplanationSettings(), exemplars=kept, device=CPU)
    files = (run.controls, run.deletion, run.randomisation)
    return {path.stem: pd.read_csv(path, keep_default_na=False) for path in files}


def test_each_test_knee_has_every_control(tables, knees):
    counts = tables["controls"].groupby(["control", "head"])["case_id"].nunique()
    assert (counts == 10).all()
    assert {name for name, _ in counts.index} == {
        *("uniform", "centre", "mean_cartilage", "image_gradient", "other_patient", "untrained")
    }


def test_a_uniform_map_scores_the_share_of_cartilage_exactly(tables):
    rows = tables["controls"].query("control == 'uniform'")
    assert rows["mass_roi"].to_numpy() == pytest.approx(64 / 24**3, rel=1e-6)
    assert rows["top1_roi"].to_numpy() == pytest.approx(64 / 24**3, rel=1e-6)


def test_knees_that_share_one_mask_have_all_mean_saliency_in_it(store, knees):
    rows = pd.DataFrame([row for of_case in anatomical_controls(store, knees) for row in of_case])
    anatomy = rows[rows["control"].isin(["mean_cartilage", "other_patient"])]
    assert anatomy["mass_roi"].to_numpy() == pytest.approx(1)


def test_an_untrained_network_has_the_same_shape_and_other_weights(run):
    trained, blank = load_model(run, device=CPU), untrained(run, device=CPU)
    ours, others = trained.state_dict(), blank.state_dict()
    assert ours.keys() == others.keys()
    assert not torch.equal(ours["heads.kl.weight"], others["heads.kl.weight"])


def test_deleting_what_is_already_at_the_mean_changes_nothing(run, store, knees):
    model = load_model(run, device=CPU)
    tasks = list(weighted_tasks(("oa", "kl"), TRAINING))
    image = torch.zeros(1, 1, *GRID)
    rows = deletion(model, store, knees[10:11], image=image, tasks=tasks)
    assert [row["change_of_logit"] for row in rows] == [0.0] * 4
    assert [row["region"] for row in rows] == ["cartilage", "cartilage", "elsewhere", "elsewhere"]


def test_the_other_region_has_the_size_of_cartilage_and_another_place(store, knees):
    mask = cartilage_of(store.load(knees[10].case_id), store.cartilage)
    moved = np.roll(mask, [n // 2 for n in mask.shape], axis=(0, 1, 2))
    assert moved.sum() == mask.sum()
    assert not (moved & mask).any()


def test_randomisation_goes_from_the_heads_down_to_the_whole_network(run, store, knees, tables):
    model = load_model(run, device=CPU)
    names = stages(model)
    assert names[0] == "heads"
    assert names[-1] == ""
    rows = tables["randomisation"]
    assert rows["depth"].max() == len(names)
    assert rows["rho"].astype(float).between(-1, 1).all()


def test_a_network_that_is_not_changed_correlates_perfectly_with_itself(
    run, store, knees, monkeypatch
):
    monkeypatch.setattr("kellgren.learn.controls.untrained", load_model)
    model, tasks = load_model(run, device=CPU), list(weighted_tasks(("oa", "kl"), TRAINING))
    image = torch.from_numpy(store.load(knees[10].case_id).image)[None, None].float()
    rows = list(cascade(run, model, image, knees[10], tasks, ExplanationSettings()))
    assert [row["rho"] for row in rows] == pytest.approx([1.0] * len(rows))


def test_controls_that_stand_are_not_made_again(run, store, knees, tables):
    before = run.controls.stat().st_mtime_ns
    kept = [knees[10].case_id]
    control(run, store, knees, settings=ExplanationSettings(), exemplars=kept, device=CPU)
    assert run.controls.stat().st_mtime_ns == before


def test_controls_that_were_stopped_again_and_again_go_on_after_the_last_knee(
    run, store, knees, tables, tmp_path, monkeypatch
):
    again = Run.at(shutil.copytree(run.folder, tmp_path / run.name))
    write_json(again.settings_file, {**again.record(), "controlling": None, "controlled": None})
    seen: list[int] = []
    kept = [knees[10].case_id]
    ask = partial(
        control, again, store, knees, settings=ExplanationSettings(), exemplars=kept, device=CPU
    )
    stops = {
        "in the anatomy": lambda path, text: text.count(",uniform,") == 4,
        "inside a batch": lambda path, text: text.count(",untrained,") == 2 * 8,
        "in the cascade": lambda path, text: path.name.startswith("randomisation"),
    }
    for stopped in stops.values():

        def fail(path, text, stopped=stopped):
            if stopped(path, text):
                raise KeyboardInterrupt
            write_text(path, text)

        with monkeypatch.context() as patched:
            patched.setattr("kellgren.learn.parts.write_text", fail)
            with pytest.raises(KeyboardInterrupt):
                ask(watch=seen.append)
    ask()
    assert seen == list(range(1, 11))
    for path in (run.controls, run.deletion, run.randomisation):
        assert (again.folder / path.name).read_bytes() == path.read_bytes()
        assert not part_of(again.folder / path.name).exists()
