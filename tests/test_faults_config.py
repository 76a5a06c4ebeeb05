"""Faults C: study files that say what cannot be, and settings that changed on the way."""

import os

import pytest
import torch

from kellgren.config import read_study
from kellgren.engine import Workplace, check_backbones, train_run
from kellgren.faults import InputError
from tests.faults import ended

LEAST = 'name = "a"\n[cohort]\ntable = "cohort.csv"\n[backbones.resnet3d]\n'
TRAINING = LEAST + "[training]\n"
BOMB = 'a: &a ["x", "x"]\n' + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcd", "bcde", strict=True)
)

REFUSED = [
    ("C01 unknown key", TRAINING + "epoch = 3\n", "key 'training.epoch'", "did you mean 'epochs'"),
    ("C01 unknown table", LEAST + "[trainign]\n", "key 'trainign'", "did you mean 'training'"),
    ("C02 text", TRAINING + 'epochs = "many"\n', "key 'training.epochs'", "integer"),
    ("C02 true", TRAINING + "epochs = true\n", "key 'training.epochs'", "found True"),
    ("C02 fraction", TRAINING + "epochs = 2.5\n", "key 'training.epochs'", "found 2.5"),
    ("C02 list", TRAINING + "lr = [1]\n", "key 'training.lr'", "number"),
    ("C02 date", TRAINING + "lr = 2020-01-01\n", "key 'training.lr'", "number"),
    ("C02 table", 'name = "a"\ncohort = 3\n', "key 'cohort'", "found 3"),
    ("C03 no number", TRAINING + 'lr = "1e-4x"\n', "key 'training.lr'", "number"),
    ("C04 key twice", TRAINING + "lr = 1\nlr = 2\n", "study.toml", "TOML"),
    ("C04 table twice", TRAINING + "[training]\n", "study.toml", "TOML"),
    ("C05 aliases", BOMB, "study.toml", "TOML"),
    ("C05 lists without end", "a = " + "[" * 50_000, "study.toml", "without end"),
    ("C05 tables without end", "a = " + "{b = " * 20_000, "study.toml", "without end"),
    ("C05 a number without end", TRAINING + "epochs = " + "9" * 5000, "study.toml", "4300 digits"),
    ("C05 a file without end", "# " + "x" * 300_000, "study.toml", "more than 262144 bytes"),
    ("C06 a tag of YAML", "!!python/object/apply:os.mkdir [ran]\n", "study.toml", "TOML"),
    ("C07 unknown backbone", LEAST + "[backbones.resnet4d]\n", "resnet4d is unknown", "nnmamba"),
    ("C10 nan", TRAINING + "lr = nan\n", "key 'training.lr'", "finite"),
    ("C10 infinite", TRAINING + "lr = inf\n", "key 'training.lr'", "finite"),
    ("C10 negative", TRAINING + "lr = -1e-4\n", "key 'training.lr'", "greater than 0"),
    ("C10 below the smallest", TRAINING + "lr = 1e-400\n", "key 'training.lr'", "greater than 0"),
    ("C15 seeds twice", "seeds = [1, 1]\n" + LEAST, "seeds [1, 1] repeat", "one run"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "where", "said"), [pytest.param(t, w, s, id=n) for n, t, w, s in REFUSED]
)
def test_a_study_file_that_cannot_be_is_refused_in_one_line(
    tmp_path, monkeypatch, text, where, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(text)
    code, lines = ended("check", "study.toml")
    assert (code, len(lines)) == (2, 1)
    assert "study.toml" in lines[0]
    assert where in lines[0]
    assert said in lines[0]
    assert len(lines[0]) < 600
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def read(folder, text):
    (folder / "study.toml").write_text(text)
    return read_study(folder / "study.toml")


def test_C03_a_number_in_quotes_is_that_number(tmp_path):
    assert read(tmp_path, TRAINING + 'lr = "1e-4"\n').training.lr == 1e-4
    assert read(tmp_path, TRAINING + "lr = 1e-4\n").training.lr == 1e-4


def test_C16_tabs_are_blanks(tmp_path):
    assert read(tmp_path, LEAST + "[training]\n\tepochs\t=\t3\n").training.epochs == 3


@pytest.mark.parametrize("size", ["small", "full"])
def test_C08_m3t_takes_a_grid_that_its_strides_do_not_divide(tmp_path, size):
    text = LEAST + f'[backbones.m3t]\nsize = "{size}"\ngrid = [127, 127, 127]\n'
    check_backbones(read(tmp_path, text))


@pytest.mark.parametrize(("name", "side"), [("resnet3d", 8), ("nnmamba", 16)])
def test_C09_a_grid_that_leaves_batch_norm_one_voxel_of_one_knee_is_refused(tmp_path, name, side):
    text = f"[training]\nbatch_size = 1\n[backbones.{name}]\n"
    head = LEAST.split("[backbones")[0]
    small = read(tmp_path, head + text + f'size = "small"\ngrid = [{side}, {side}, {side}]\n')
    with pytest.raises(InputError, match=f"{name}: found the grid .* choose a larger grid"):
        check_backbones(small)


@pytest.mark.parametrize("stopped", [False, True], ids=["C11 finished", "C12 stopped on the way"])
def test_a_run_is_not_taken_up_with_other_settings(tmp_path, knees, store, stopped, monkeypatch):
    text = (
        LEAST + 'size = "small"\ngrid = [24, 24, 24]\n'
        "[training]\nepochs = 2\nbatch_size = 5\nthreads = 1\nlr = "
    )
    monkeypatch.setattr(Workplace, "store", lambda *_: store)
    place = Workplace(read(tmp_path, text + "1e-3\n"), tmp_path / "out", torch.device("cpu"))
    run = place.runs()[0]
    train_run(place, run, knees)
    if stopped:
        run.weights.unlink()
    kept = {path: path.read_bytes() for path in run.folder.iterdir() if path.name != ".lock"}
    other = Workplace(read(tmp_path, text + "2e-3\n"), tmp_path / "out", torch.device("cpu"))
    with pytest.raises(InputError, match=r"training was .* and now is .*0\.002.*delete this run"):
        train_run(other, run, knees)
    assert {path: path.read_bytes() for path in kept} == kept


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_C13_a_gpu_that_is_not_there_is_told(tmp_path):
    (tmp_path / "study.toml").write_text(LEAST)
    for verb in ("train", "run"):
        code, lines = ended(verb, tmp_path / "study.toml", "--device", "cuda")
        assert (code, len(lines)) == (2, 1)
        assert "--device cuda: found no CUDA GPU" in lines[0]


def test_C14_more_workers_than_cores_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    _, lines = ended("check", tmp_path / "cohort.csv", "--workers", "2")
    assert lines[0].startswith("warning: 2 workers on 1 cores wait for each other")
    _, lines = ended("check", tmp_path / "cohort.csv", "--workers", "1")
    assert not lines[0].startswith("warning")
