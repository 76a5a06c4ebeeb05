"""Faults K and R: checkpoints and models that are broken, runs that are disturbed.

By number, those that are tested elsewhere: R01, R03, R04 (fsync), R20 and R21 in test_crashes.py,
R07 and R17 in test_store.py, R11 and R12 in test_lease.py, R10 (the loss) in test_train.py. What
cannot be made here is listed in docs/reliability.md.
"""

import errno
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from kellgren.config import BackboneSettings, Study, TrainingSettings
from kellgren.engine import Workplace, train_run
from kellgren.faults import InputError
from kellgren.learn import dataset
from kellgren.learn.backbones import build_encoder
from kellgren.learn.dataset import batches
from kellgren.learn.model import load_model
from kellgren.learn.train import train
from kellgren.learn.weights import load_weights
from kellgren.lease import alone
from kellgren.runs import Run
from kellgren.sealed import write_sealed
from kellgren.tables import read_log
from kellgren.workers import pool_of
from tests.conftest import GRID
from tests.disk import contents
from tests.faults import HangingStore, ended

CPU = torch.device("cpu")
SMALL = BackboneSettings(size="small", grid=GRID)
BRIEF = TrainingSettings(epochs=2, batch_size=5, threads=1)
ROOT = Path(__file__).parents[1]


def trained(folder: Path, store, knees, *, training=BRIEF, name="resnet3d-dual-s0", **more) -> Run:
    run = Run.at(folder / name)
    train(run, store, knees[:10], backbone=SMALL, training=training, device=CPU, **more)
    return run


@pytest.fixture(scope="module")
def finished(store, knees, tmp_path_factory) -> Run:
    return trained(tmp_path_factory.mktemp("finished"), store, knees)


@pytest.fixture
def run(finished, tmp_path) -> Run:
    """A copy to be broken."""
    return Run.at(shutil.copytree(finished.folder, tmp_path / finished.name))


def without_digest(run: Run) -> Run:
    """As a run that was made elsewhere: its weights are judged by what they hold."""
    record = run.record()
    del record["trained"]
    run.settings_file.write_text(json.dumps(record))
    return run


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def header_of(entries: dict[str, object]) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def entry(start: int, end: int, dtype: str = "F32", shape: tuple[int, ...] = (2,)) -> object:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' * 2
DAMAGED = {
    "K01 truncated": lambda whole: whole[: len(whole) // 2],
    "K02 one bit": flipped,
    "K03 empty": lambda whole: b"",
    "K04 pickle": lambda whole: pickle.dumps({"a": 1}),
    "K05 a header of 2^63 bytes": lambda whole: struct.pack("<Q", 1 << 63) + whole[8:],
    "K05 overlapping tensors": lambda whole: (
        header_of({"a": entry(0, 8), "b": entry(4, 12)}) + bytes(12)
    ),
    "K05 a size that does not fit the type": lambda whole: header_of({"a": entry(0, 6)}) + bytes(6),
    "K05 a name twice": lambda whole: struct.pack("<Q", len(TWICE)) + TWICE + bytes(8),
    "K05 an unknown type": lambda whole: header_of({"a": entry(0, 8, "X9")}) + bytes(8),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damaged_weights_are_refused_by_name(fault, run):
    run.weights.write_bytes(DAMAGED[fault](run.weights.read_bytes()))
    with pytest.raises(InputError, match=r"weights\.safetensors: found a damaged file.*train this"):
        load_model(run, device=CPU)


@pytest.mark.parametrize("fault", [fault for fault in DAMAGED if not fault.startswith("K02")])
def test_damaged_weights_without_a_digest_are_refused_by_name(fault, run):
    without_digest(run)
    run.weights.write_bytes(DAMAGED[fault](run.weights.read_bytes()))
    with pytest.raises(InputError, match=r"weights\.safetensors: found "):
        load_model(run, device=CPU)


def interrupted(*words, **more) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def stopped(store, knees, tmp_path_factory) -> Run:
    """A run that was stopped after its last epoch, before it wrote its weights."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kellgren.learn.train._finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(folder, store, knees)
    return Run.at(folder / "resnet3d-dual-s0")


@pytest.mark.parametrize("fault", list(DAMAGED)[:5])
def test_a_damaged_checkpoint_costs_an_epoch_and_changes_no_bit(
    fault, finished, stopped, store, knees, tmp_path, caplog
):
    run = Run.at(shutil.copytree(stopped.folder, tmp_path / stopped.name))
    run.checkpoint.write_bytes(DAMAGED[fault](run.checkpoint.read_bytes()))
    trained(tmp_path, store, knees)
    assert "going on from the checkpoint before it" in caplog.text
    assert contents(run.folder) == contents(finished.folder)


def test_a_run_whose_checkpoints_are_both_damaged_is_refused(stopped, store, knees, tmp_path):
    run = Run.at(shutil.copytree(stopped.folder, tmp_path / stopped.name))
    run.checkpoint.write_bytes(b"")
    run.earlier_checkpoint.write_bytes(b"")
    with pytest.raises(InputError, match=r"earlier\.safetensors.*remove it to train this run anew"):
        trained(tmp_path, store, knees)


def test_k04_nothing_that_a_file_of_weights_holds_is_run(run, tmp_path):
    planted = tmp_path / "planted"
    run.weights.write_bytes(pickle.dumps(Payload(planted)))
    with pytest.raises(InputError):
        load_model(run, device=CPU)
    torch.save({"conv1.weight": Payload(planted)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="files that hold code are not opened"):
        load_weights(build_encoder("resnet3d", size="small", grid=GRID), tmp_path / "w.pth")
    assert not planted.exists()


def changed(run: Run, change) -> None:
    state = load_file(run.weights)
    change(state)
    save_file(state, run.weights)


def with_nan(state) -> None:
    state["heads.kl.weight"][0, 0] = torch.nan


def compiled(state) -> None:
    for name in list(state):
        state[f"_orig_mod.{name}"] = state.pop(name)


def one_head(state) -> None:
    for name in [name for name in state if name.startswith("heads.kl")]:
        del state[name]


MISFITS = {
    "K07 a missing key": (lambda s: s.pop("heads.oa.bias"), r"missing \(1\): heads\.oa\.bias"),
    "K07 a further key": (
        lambda s: s.update(more=torch.ones(1)),
        r"not understood \(1\): more",
    ),
    "K08 NaN": (with_nan, r"not finite \(1\): heads\.kl\.weight"),
    "K10 one head for two": (one_head, r"missing \(2\): heads\.kl"),
    "K11 the prefix of torch.compile": (compiled, r"not understood \(\d+\): _orig_mod\."),
}


@pytest.mark.parametrize("fault", MISFITS)
def test_weights_that_do_not_fit_are_refused_by_the_names_of_their_tensors(fault, run):
    change, said = MISFITS[fault]
    changed(without_digest(run), change)
    with pytest.raises(InputError, match=rf"weights\.safetensors: found .*{said}"):
        load_model(run, device=CPU)


def test_k06_weights_of_another_architecture_are_refused(run):
    other = build_encoder("m3t", size="small", grid=GRID)
    save_file({f"encoder.{n}": t for n, t in other.state_dict().items()}, run.weights)
    with pytest.raises(InputError, match=r"missing \(\d+\): encoder\..* and \d+ more; not underst"):
        load_model(without_digest(run), device=CPU)


def test_k09_a_run_of_a_newer_schema_is_refused(run):
    run.settings_file.write_text(json.dumps(run.record() | {"schema": 2}))
    with pytest.raises(InputError, match=r"run\.json: found a run of schema 2; .*the version of"):
        load_model(run, device=CPU)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_k11_prefixes_of_ddp_and_compile_are_taken_off_released_weights(prefix, tmp_path):
    encoder = build_encoder("resnet3d", size="small", grid=GRID)
    state = {f"{prefix}{name}": tensor + 1 for name, tensor in encoder.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    load_weights(encoder, tmp_path / "w.pth")
    assert all(torch.equal(t, state[f"{prefix}{n}"]) for n, t in encoder.state_dict().items())


def test_k11_a_tensor_with_and_without_a_prefix_is_refused(tmp_path):
    encoder = build_encoder("resnet3d", size="small", grid=GRID)
    state = dict(encoder.state_dict())
    state["module.conv1.weight"] = state["conv1.weight"]
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="a tensor twice"):
        load_weights(encoder, tmp_path / "w.pth")


def test_k12_a_bundle_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as bundle:
        bundle.writestr("../planted", "x")
        link = zipfile.ZipInfo("archive/data.pkl")
        link.external_attr = 0o120777 << 16
        bundle.writestr(link, "/etc/passwd")
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(InputError, match=r"w\.pth: found"):
        load_weights(build_encoder("resnet3d", size="small", grid=GRID), tmp_path / "w.pth")
    code, lines = ended("grade", "scan.nii", "--weights", tmp_path / "w.pth")
    assert code == 2
    assert "<backbone>-<supervision>-s<seed>" in lines[-1]
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_r02_a_signal_stops_a_run_that_loses_no_whole_epoch(go, tmp_path):
    whole = go.start("train:resnet3d:0", tmp_path / "straight")
    for by, code in ((signal.SIGUSR1, 75), (signal.SIGTERM, 143)):
        after = 0.6 * whole.seconds
        stopped = go.start("train:resnet3d:0", tmp_path / "stopped", kill_after=after, by=by)
        assert stopped.code == code
        assert stopped.said == f"stopped by {by.name}: give the same command again to go on"
        assert not list((tmp_path / "stopped").rglob(".*"))  # neither lock nor temporary file
    assert go.start("train:resnet3d:0", tmp_path / "stopped").code == 0
    assert contents(tmp_path / "stopped") == contents(tmp_path / "straight")


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 75)])
def test_r02_the_command_line_ends_with_the_code_of_the_signal(name, code, monkeypatch):
    def work() -> None:
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(10)

    monkeypatch.setattr("kellgren.cli.verbs.app", work)
    found, lines = ended("run")
    assert found == code
    assert lines == [f"stopped by {name}: give the same command again to go on"]


DISKS = {
    "R04 reading fails": ({"calls": "read", "at": 3, "how": errno.EIO}, "Input/output error"),
    "R05 read-only": (
        {"calls": "create,mkdir", "how": errno.EROFS, "stays": 1},
        "Read-only file system",
    ),
    "R06 quota": ({"calls": "write", "how": errno.EDQUOT}, "Disk quota exceeded"),
    "R06 no inode is left": (
        {"calls": "create,mkdir", "how": errno.ENOSPC, "stays": 1},
        "No space left",
    ),
    "R14 NFS lost the file": ({"calls": "rename", "how": errno.ESTALE}, "Stale file handle"),
}


@pytest.mark.parametrize("fault", DISKS)
def test_a_disk_that_refuses_is_told_in_one_line_and_costs_nothing(fault, go, tmp_path):
    how, said = DISKS[fault]
    assert go.start("knees", tmp_path).code == 0
    before = contents(tmp_path)
    failed = go.start("prepare", tmp_path, **{"at": 1, **how})
    assert failed.code == 2
    assert failed.said.startswith("error: ")
    assert said in failed.said
    assert before.items() <= contents(tmp_path).items()
    assert go.start("prepare", tmp_path).code == 0


def test_r08_a_worker_that_hangs_is_told_with_its_case(knees, tmp_path, monkeypatch):
    monkeypatch.setattr("kellgren.store.HANG_S", 0.2)
    store = HangingStore(tmp_path, GRID, (2, 4, 5))
    with pytest.raises(InputError, match=rf"{knees[0].case_id} .*found no answer for 0\.2 s"):
        store.prepare_all(knees[:1], workers=2)


def test_r08_a_disk_that_hangs_while_training_is_told_with_its_cases(knees, monkeypatch, tmp_path):
    monkeypatch.setattr(dataset, "HANG_S", 0.1)
    store = HangingStore(tmp_path, GRID, (2, 4, 5))
    with pytest.raises(InputError, match=rf"reading {knees[0].case_id}, .*no answer from the disk"):
        list(batches(store, knees[:2], batch_size=2, device=CPU))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), None]
)
def test_r09_too_little_memory_ends_in_advice(error, tmp_path, monkeypatch):
    def work(*words, **more) -> None:
        if error is not None:
            raise error
        torch.empty(1 << 60)

    monkeypatch.setattr("kellgren.engine.train", work)
    study = Study.model_validate(
        {"name": "a", "cohort": {"table": "c.csv"}, "backbones": {"resnet3d": {}}}
    )
    place = Workplace(study, tmp_path, CPU)
    with pytest.raises(InputError, match=r"too little memory on cpu.*checkpoint = true, or halve"):
        train_run(place, place.runs()[0], [])


def test_r10_weights_that_are_not_finite_are_not_kept(store, knees, tmp_path):
    wild = TrainingSettings(epochs=1, batch_size=10, lr=1e39, threads=1)
    with pytest.raises(InputError, match=r"epoch 1: found \d+ of \d+ weights that are not finite"):
        trained(tmp_path, store, knees, training=wild)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_r11_a_run_that_another_has_in_hand_is_refused(tmp_path):
    study = Study.model_validate(
        {"name": "a", "cohort": {"table": "c.csv"}, "backbones": {"resnet3d": {}}}
    )
    place = Workplace(study, tmp_path, CPU)
    with (
        alone(place.runs()[0].folder),
        pytest.raises(InputError, match="another process at work in it"),
    ):
        train_run(place, place.runs()[0], [])


def test_r13_no_duration_hangs_on_the_clock_on_the_wall(store, knees, tmp_path, monkeypatch):
    hours = iter(range(10_000, 0, -1))
    monkeypatch.setattr(time, "time", lambda: 3600.0 * next(hours))  # an hour back at every look
    run = trained(tmp_path, store, knees)
    assert (pd.read_csv(run.log)["seconds"] > 0).all()
    assert run.record()["trained"]["last_session_seconds"] > 0


def test_r16_training_reads_by_a_thread_and_needs_no_shared_memory(store, knees, tmp_path):
    trained(tmp_path, store, knees, watch=lambda step: none_of(active_children()))


def none_of(found: list) -> None:
    assert not found


ORPHANS = """
import os, signal, time
from kellgren.workers import pool_of
if __name__ == "__main__":
    with pool_of(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_r17_workers_are_spawned_and_end_with_a_killed_parent(tmp_path):
    (tmp_path / "parent.py").write_text(ORPHANS)
    done = subprocess.run(
        [sys.executable, tmp_path / "parent.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    until = time.monotonic() + 60
    while Path(f"/proc/{int(done.stdout)}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert time.monotonic() < until


def kellgren(words: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH",)}
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m kellgren.cli {words}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        env=kept | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"NO_COLOR": "1", "HOME": "/proc/nowhere", "TERM": "dumb"},
    ],
)
def test_r19_r22_neither_locale_nor_home_nor_terminal_is_needed(variables, tmp_path):
    done = kellgren("check 'é.csv' | head -c 0", tmp_path, **variables)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "\x1b" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_r19_who_reads_no_more_is_not_answered_with_a_traceback(tmp_path):
    done = kellgren("--help | head -c 0", tmp_path, LC_ALL="C.UTF-8")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_r19_files_have_the_permissions_that_the_umask_leaves(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            write_sealed(tmp_path / "a.safetensors", {"a": np.zeros(3)}, {})
        finally:
            os.umask(before)
        assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == mode


def test_r22_without_any_folder_for_compiled_code_the_scan_is_compiled_all_the_same(monkeypatch):
    from numba.core.caching import CompileResultCacheImpl

    from kellgren.learn.backbones.scan.lanes import compiled

    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])
    assert compiled(lambda x: x + 1)(1) == 2


def test_r23_a_line_that_was_cut_off_is_left_out_with_a_warning(finished, tmp_path, caplog):
    whole = finished.log.read_text()
    (tmp_path / "log.csv").write_text(whole[:-20])
    assert read_log(tmp_path / "log.csv")["epoch"].tolist() == [1]
    assert "its last line was cut off" in caplog.text
    caplog.clear()
    assert read_log(finished.log)["epoch"].tolist() == [1, 2]
    assert not caplog.text


def test_r23_a_training_that_is_taken_up_again_writes_the_log_anew(
    finished, stopped, store, knees, tmp_path
):
    run = Run.at(shutil.copytree(stopped.folder, tmp_path / stopped.name))
    run.earlier_checkpoint.replace(run.checkpoint)  # as after the first epoch
    run.log.write_text(run.log.read_text()[:-20])
    trained(tmp_path, store, knees)
    assert contents(run.folder) == contents(finished.folder)


def test_workers_leave_signals_to_their_parent():
    with pool_of(1) as pool:
        assert pool.submit(signal.getsignal, signal.SIGTERM).result() == signal.SIG_IGN
        assert pool._mp_context.get_start_method() == "spawn"
