from pathlib import Path

import pytest

from kellgren.faults import InputError
from kellgren.runs import Run


def test_a_folder_name_says_backbone_supervision_and_seed():
    run = Run.at(Path("runs/resnet3d-single_kl-s12"))
    assert (run.backbone, run.supervision, run.seed) == ("resnet3d", "single_kl", 12)
    assert run.name == "resnet3d-single_kl-s12"


@pytest.mark.parametrize("name", ["resnet3d-dual", "resnet3d-dual-0", "a-b-c-s0", "dual"])
def test_another_name_is_refused(name):
    with pytest.raises(InputError, match="<backbone>-<supervision>-s<seed>"):
        Run.at(Path(name))


def test_runs_of_a_folder_are_those_with_predictions(tmp_path):
    for name in ("m3t-dual-s0", "m3t-single_oa-s0", "m3t-single_kl-s0"):
        (tmp_path / name).mkdir()
    for name in ("m3t-dual-s0", "m3t-single_oa-s0"):
        (tmp_path / name / "predictions.csv").touch()
    assert [run.name for run in Run.all_in(tmp_path)] == ["m3t-dual-s0", "m3t-single_oa-s0"]


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no predictions\.csv"):
        Run.all_in(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        Run.all_in(tmp_path / "no")
