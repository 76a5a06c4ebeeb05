"""A network to share: the same answers, nothing that names a knee, and a card that says it all."""

import json
import subprocess
import sys
import zipfile

import pytest
import torch
from typer.testing import CliRunner

from kellgren.cli import app
from kellgren.config import AnalysisSettings, BackboneSettings, TrainingSettings
from kellgren.faults import InputError
from kellgren.learn import portable
from kellgren.learn.model import load_model
from kellgren.learn.predict import predict
from kellgren.learn.train import train
from kellgren.report.card import facts_of, model_card
from kellgren.runs import Run
from tests.conftest import GRID

CPU = torch.device("cpu")


def trained(folder, store, knees, *, name="resnet3d-dual-s0", training=None):
    run = Run.at(folder / name)
    training = training or TrainingSettings(epochs=1, batch_size=4, threads=1)
    backbone = BackboneSettings(size="small", grid=GRID)
    train(run, store, knees[:10], backbone=backbone, training=training, device=CPU)
    return run


@pytest.fixture(scope="module")
def run(store, knees, tmp_path_factory) -> Run:
    made = trained(tmp_path_factory.mktemp("runs"), store, knees)
    predict(made, store, knees, device=CPU)
    return made


@pytest.fixture(scope="module")
def shared(run, tmp_path_factory):
    """The exported folder, as the command line writes it."""
    out = tmp_path_factory.mktemp("shared")
    asked = ["export", str(run.folder), "--out", str(out), "--licence", "CC0-1.0"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    return out / run.name


def test_an_exported_folder_is_a_run_that_gives_the_same_answers(run, shared):
    image = portable.volumes_for(run)[0]
    with torch.no_grad():
        own, theirs = (load_model(one, device=CPU)(image).logits for one in (run, Run.at(shared)))
    assert all(torch.equal(own[head], theirs[head]) for head in own)


def test_the_program_runs_without_this_package_and_gives_stored_logits(run, shared):
    image = portable.volumes_for(run)[0]
    program = torch.export.load(shared / "models" / "model.pt2").module()
    with torch.no_grad():
        features, logit_oa, logit_kl = program(image)
        output = load_model(run, device=CPU)(image)
    assert torch.allclose(features, output.features, atol=1e-5)
    assert torch.allclose(logit_oa, output.logits["oa"], atol=1e-5)
    assert torch.allclose(logit_kl, output.logits["kl"], atol=1e-5)


def test_the_program_is_no_pickle(shared):
    with zipfile.ZipFile(shared / "models" / "model.pt2") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert not [name for name, content in contents.items() if content.startswith(b"\x80")]
    assert not [name for name, content in contents.items() if content.startswith(b"PK")]


def test_nothing_that_is_shared_names_a_knee(shared, knees):
    names = [word.encode() for knee in knees for word in (knee.case_id, knee.subject)]
    for path in sorted(shared.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content += b"".join(archive.read(name) for name in archive.namelist())
        assert not [name for name in names if name in content], path.name


def test_the_card_says_data_performance_limits_and_licence(shared, run):
    card = (shared / "README.md").read_text()
    assert "Research use only" in card
    assert "10 knees with a KL grade" in card
    assert "| KL | Macro-AUC |" in card
    assert "n = 10 knees" in card
    assert card.rstrip().endswith("CC0-1.0")
    bare = model_card(
        run, settings=AnalysisSettings(resamples=100), data="", licence="", parities=[]
    )
    assert "nobody may use it yet" in bare


def test_the_layout_is_that_of_a_monai_bundle(shared, run):
    metadata = json.loads((shared / "configs" / "metadata.json").read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    assert image["spatial_shape"] == list(GRID)
    assert set(metadata["network_data_format"]["outputs"]) == {"logit_oa", "logit_kl"}
    assert "models/model.pt2" in (shared / "configs" / "inference.json").read_text()


def test_a_folder_that_is_there_is_left_alone(shared, run):
    before = (shared / "README.md").stat().st_mtime_ns
    result = CliRunner().invoke(app, ["export", str(run.folder), "--out", str(shared.parent)])
    assert isinstance(result.exception, InputError)
    assert (shared / "README.md").stat().st_mtime_ns == before


def test_a_form_that_differs_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(portable, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="differs by"):
        portable.write_program(run, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_onnx_gives_what_the_network_gives(run, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra 'onnx' is not installed")
    parity = portable.write_onnx(run, tmp_path / "model.onnx")
    assert max(parity.largest.values()) < 1e-4
    assert (tmp_path / "model.onnx").exists()


def test_onnx_is_refused_in_one_line_where_it_is_not_installed(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'pip install "kellgren\[onnx\]"'):
        portable.write_onnx(run, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m3t-single_kl-s0", "nnmamba-single_oa-s0"])
def test_every_backbone_becomes_a_program(name, store, knees, tmp_path):
    trained(tmp_path, store, knees, name=name)
    # In a process of its own: under the checker of shapes, tracing the scan takes minutes.
    command = [sys.executable, "-m", "kellgren.cli", "export", name, "--out", "shared"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch.export" in done.stdout
    assert (tmp_path / "shared" / name / "models" / "model.pt2").exists()


def test_a_corn_head_is_shared_as_five_logits(store, knees, tmp_path):
    training = TrainingSettings(epochs=1, batch_size=4, threads=1, kl_loss="corn")
    made = trained(tmp_path, store, knees, training=training)
    network = portable.portable(made)
    with torch.no_grad():
        *_, kl = network(portable.volumes_for(made)[0])
    assert network.outputs == ["features", "logit_oa", "logit_kl"]
    assert kl.shape == (1, 5)


def test_info_says_what_a_run_is_and_scores(run):
    result = CliRunner().invoke(app, ["info", str(run.folder), "--json", "--resamples", "100"])
    facts = json.loads(result.output)
    assert facts == json.loads(json.dumps(facts_of(run, AnalysisSettings(resamples=100))))
    assert facts["trained"]
    assert {row["metric"] for row in facts["performance"]} >= {"auc", "macro_f1"}
    plain = CliRunner().invoke(app, ["info", str(run.folder), "--resamples", "100"])
    assert "record.asked.training.epochs: 1" in plain.output
