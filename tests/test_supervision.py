import numpy as np
import pandas as pd
import pytest
import torch

from kellgren.analysis.performance import tasks_of
from kellgren.cohort import Case
from kellgren.config import (
    SUPERVISIONS,
    AnalysisSettings,
    BackboneSettings,
    ExplanationSettings,
    Supervision,
    TrainingSettings,
)
from kellgren.learn.explain import explain
from kellgren.learn.predict import predict
from kellgren.learn.train import train
from kellgren.report import page
from kellgren.report.figures import FIGURES
from kellgren.report.tables import TABLES
from kellgren.report.terms import SUPERVISIONS as SPOKEN
from kellgren.report.terms import spoken
from kellgren.runs import Run
from kellgren.store import Store
from kellgren.study import analyze
from kellgren.tables import Predictions
from tests.conftest import GRID

CPU = torch.device("cpu")
SMALL = BackboneSettings(size="small", grid=GRID)
BRIEF = TrainingSettings(epochs=2, batch_size=5, lr=1e-3, threads=1, interference=1)


class Stopped(Exception):
    """A kill after the first epoch."""


def trained(run: Run, store: Store, knees: list[Case], watch=lambda step: None, **more) -> Run:
    train(run, store, knees[:10], backbone=SMALL, training=BRIEF, device=CPU, watch=watch, **more)
    return run


def killed_once(run: Run, store: Store, knees: list[Case], **more) -> Run:
    def stop(step):
        if step.epoch == 1:
            raise Stopped

    with pytest.raises(Stopped):
        trained(run, store, knees, stop, **more)
    return trained(run, store, knees, **more)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUPERVISIONS)
def test_every_supervision_trains_resumes_predicts_explains_and_reports(
    name, store, knees, tmp_path
):
    if name == "dual_upgrad":
        pytest.importorskip("torchjd", reason="torchjd is not installed")
    run = trained(Run.at(tmp_path / f"resnet3d-{name}-s0"), store, knees)
    again = killed_once(Run.at(tmp_path / "again" / run.name), store, knees)
    assert run.weights.read_bytes() == again.weights.read_bytes()
    predict(run, store, knees, device=CPU)
    found = Predictions.read(run.predictions)
    assert tasks_of(found) == ["oa", "kl"][: 1 if name == "single_oa" else 2]
    if found.prob_kl is not None:
        np.testing.assert_allclose(found.prob_kl.sum(1), 1)
    shown = ExplanationSettings(exemplars=("knee_010",))
    explain(run, store, knees[:12], settings=shown, exemplars=("knee_010",), device=CPU)
    maps = pd.read_csv(run.overlap)
    assert set(maps["head"]) == set(SUPERVISIONS[name].tasks)
    assert maps["mass_roi"].between(0, 1).all()
    result = analyze([run], settings=AnalysisSettings(resamples=100))
    assert set(result.performance["supervision"]) == {name}
    tables = {key: make(result) for key, make in TABLES.items()}
    assert spoken(SPOKEN, name) in page(result, tables=tables, figures=dict.fromkeys(FIGURES))


def test_a_study_may_name_a_supervision_of_its_own(store, knees, tmp_path):
    mine = Supervision(tasks=("oa", "kl"), kl_loss="corn", consistency="squared")
    run = trained(Run.at(tmp_path / "resnet3d-mine-s0"), store, knees, supervision=mine)
    log = pd.read_csv(run.log)
    assert {"loss_oa", "loss_kl", "loss_consistency", "cosine_encoder"} <= set(log.columns)
    predict(run, store, knees, device=CPU)
    assert Predictions.read(run.predictions).oa_source == "head"
