"""Studies that start, fail and start again: a process that has everything loaded forks each start.

So a start costs what it does, not what loading torch costs, and hundreds of failures can be tried.
The disk of a start can fail, or the start be killed, at any call; see disk_faults.c.
"""

import csv
import ctypes
import errno
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
SHIM = ROOT / "tests" / "disk_faults.c"
# What differs between two undisturbed starts: how long they took.
# What goes wrong at the n-th call: which calls count, and how it fails.
FAILURES: dict[str, dict[str, object]] = {
    "disk full from the n-th write": {"calls": "write", "how": errno.ENOSPC, "stays": 1},
    "n-th fsync fails": {"calls": "fsync", "how": errno.EIO},
    "n-th rename fails": {"calls": "rename", "how": errno.EIO},
    "killed in the n-th write": {"calls": "write", "how": "torn"},
    "killed before the n-th fsync or rename": {"calls": "fsync,rename", "how": "kill"},
}
STEPS = ("knees", "prepare", "train", "predict", "explain", "analyze")
TIMES = ("seconds", "train_seconds", "last_session_seconds")


@dataclass(frozen=True)
class Ended:
    """How a start ended: exit code, or minus the signal; its last words; seconds of CPU it took."""

    code: int
    said: str
    seconds: float


@dataclass(frozen=True)
class Starter:
    """The process that forks starts."""

    process: subprocess.Popen[str]

    def start(
        self,
        work: str,
        folder: Path,
        *,
        kill_after: float | None = None,
        by: int = signal.SIGKILL,
        **faults: object,
    ) -> Ended:
        """Do the work of that name in a folder.

        Args:
            work: A step of the tiny study, "study", "report", or "train:<backbone>:<seed>".
            folder: Where.
            kill_after: Seconds of CPU after which the start gets a signal.
            by: Which.
            **faults: `calls`, `at`, `how`, `stays` and `log` of the shim.
        """
        below = {"below": str(folder)} if faults else {}
        asked = {f"FAULT_{k.upper()}": str(v) for k, v in {**below, **faults}.items()}
        when = {"kill_after": kill_after, "by": int(by)}
        job = {"work": work, "folder": str(folder), "faults": asked, **when}
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return Ended(**json.loads(self.process.stdout.readline()))


@contextmanager
def starter() -> Iterator[Starter]:
    """Compile the shim and load everything, once."""
    with TemporaryDirectory() as scratch:  # no blank in its name, at which LD_PRELOAD ends
        library = f"{scratch}/faults.so"
        compile_ = ["cc", "-O1", "-shared", "-fPIC", "-o", library, str(SHIM), "-ldl"]
        subprocess.run(compile_, check=True, capture_output=True)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.disk", library],
            env={**os.environ, "LD_PRELOAD": library, "OMP_NUM_THREADS": "1"}
            | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as process:
            yield Starter(process)
            process.stdin.close()


@dataclass(frozen=True)
class Call:
    """A call to the disk: its name and one path or two."""

    name: str
    path: str
    to: str


@dataclass(frozen=True)
class Failed:
    """A step that failed at one call and was started again.

    Attributes:
        code: How the first start ended.
        said: Its last words.
        torn: Files that it left half-written.
        unequal: Files that differ from those of an undisturbed study after the second start.
        seconds: CPU of both.
    """

    code: int
    said: str
    torn: list[str]
    unequal: list[str]
    seconds: float


@dataclass(frozen=True)
class Snapshots:
    """A tiny study as it stands before each step and after the last, undisturbed."""

    go: Starter
    folder: Path

    @classmethod
    def take(cls, go: Starter, folder: Path, steps: Sequence[str]) -> "Snapshots":
        (folder / steps[0]).mkdir(parents=True)
        for step, later in zip(steps, [*steps[1:], "end"], strict=True):
            shutil.copytree(folder / step, folder / later)
            ended = go.start(step, folder / later, calls="", log=folder / f"{step}.calls")
            assert ended.code == 0, ended.said
        return cls(go, folder)

    def journal(self, step: str) -> list[Call]:
        """Every call of a step to the disk, in order."""
        lines = (self.folder / f"{step}.calls").read_text().splitlines()
        return [Call(*line.split("\t")) for line in lines]

    def after(self, step: str) -> Path:
        names = [*STEPS, "report", "end"]
        later = [name for name in names[names.index(step) + 1 :] if (self.folder / name).exists()]
        return self.folder / later[0]

    def calls(self, step: str, failure: str) -> int:
        """How many calls of a step can fail in that way."""
        counted = str(FAILURES[failure]["calls"]).split(",")
        return sum(call.name in counted for call in self.journal(step))

    def fail(self, step: str, failure: str, n: int) -> Failed:
        """Let a step fail at its n-th call, and start it again."""
        with TemporaryDirectory(prefix="à côté ") as scratch:
            folder = Path(scratch) / "study"
            shutil.copytree(self.folder / step, folder)
            first = self.go.start(step, folder, at=n, **FAILURES[failure])
            left = torn(folder)
            second = self.go.start(step, folder)
            assert second.code == 0, second.said
            found, whole = contents(folder), contents(self.after(step))
            names = found.keys() | whole.keys()
            unequal = sorted(name for name in names if found.get(name) != whole.get(name))
        return Failed(first.code, first.said, left, unequal, first.seconds + second.seconds)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its name; without the times that are written in them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): _timeless(path) for path in files}


def torn(folder: Path) -> list[str]:
    """Files below a folder that are not whole; temporary ones and locks do not count."""
    kinds = {".safetensors": _sealed, ".json": _json, ".csv": _csv, ".npz": _npz, ".gz": _gzip}
    found = []
    for path in folder.rglob("[!.]*"):
        if path.is_file() and path.suffix in kinds:
            try:
                kinds[path.suffix](path)
            except Exception as error:  # each kind says it in its own way
                found.append(f"{path}: {error}")
    return found


def _sealed(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        names, sealed = list(file.keys()), file.metadata()
    if sealed:
        from kellgren.sealed import read_sealed

        read_sealed(path, todo="")
    assert names


def _json(path: Path) -> None:
    assert json.loads(path.read_text())


def _csv(path: Path) -> None:
    text = path.read_text()
    rows = list(csv.reader(text.splitlines()))
    assert text.endswith("\n")
    assert len({len(row) for row in rows}) <= 1


def _npz(path: Path) -> None:
    import numpy as np

    with np.load(path) as arrays:
        for name in arrays.files:
            assert arrays[name] is not None


def _gzip(path: Path) -> None:
    assert gzip.decompress(path.read_bytes())


def _timeless(path: Path) -> bytes:
    if path.name == "run.json":
        record = json.loads(path.read_text())
        record["trained"] = {k: v for k, v in record["trained"].items() if k not in TIMES}
        return json.dumps(record).encode()
    if path.name in ("log.csv", "runs.csv"):
        import pandas as pd

        table = pd.read_csv(path)
        return table.drop(columns=[c for c in TIMES if c in table]).to_csv().encode()
    return path.read_bytes()


def tiny_study() -> "Mapping[str, object]":
    """The cheapest study that has every step."""
    return {
        "name": "tiny",
        "supervisions": ["dual"],
        "cohort": {"phantom": {"train": 5, "test": 5, "grid": [24, 24, 24], "contrast": "clear"}},
        "backbones": {"resnet3d": {"size": "small", "grid": [24, 24, 24]}},
        "training": {"epochs": 2, "batch_size": 5, "lr": 1e-3, "threads": 1},
        "explanation": {"exemplars": ["oaizib_006"]},
        "analysis": {"resamples": 100},
    }


def _place(folder: Path) -> "Workplace":
    import torch

    from kellgren.config import Study
    from kellgren.engine import Workplace

    return Workplace(Study.model_validate(tiny_study()), folder, torch.device("cpu"))


def _do_step(step: str, folder: Path) -> None:
    from kellgren import engine

    place = _place(folder)
    cases, run = place.cohort(), place.runs()[0]
    if step == "prepare":
        engine.prepare(place, cases)
    elif step == "analyze":
        engine.analyze_study(place, cases)
    elif step != "knees":
        engine.STEPS[step](place, run, cases)


def _do_study(folder: Path) -> None:
    from kellgren.engine import run_study

    run_study(_place(folder))


def _do_report(folder: Path) -> None:
    from kellgren.report import write_report
    from kellgren.study import StudyResult

    write_report(StudyResult.read(folder / "study"), folder / "study")


def _do_train(backbone: str, seed: int, folder: Path) -> None:
    """One run of a backbone on ten knees of noise."""
    import torch

    from kellgren.config import Study
    from kellgren.engine import Workplace, prepare, train_run
    from kellgren.lease import alone
    from tests.conftest import made_case

    grid = (24, 24, 24)
    content = {
        **tiny_study(),
        "seeds": [seed],
        "cohort": {"table": "none.csv"},
        "backbones": {backbone: {"size": "small", "grid": list(grid)}},
        "training": {"epochs": 6, "batch_size": 4, "lr": 1e-3, "threads": 1},
    }
    place = Workplace(Study.model_validate(content), folder, torch.device("cpu"))
    with alone(folder / "knees"):  # as a phantom is made: what a killed start left is swept
        cases = [made_case(folder / "knees", i, "train", i % 5) for i in range(10)]
    prepare(place, cases)
    train_run(place, place.runs()[0], cases)


def _do(work: str, folder: Path) -> None:
    verb, *words = work.split(":")
    if verb == "train" and words:
        _do_train(words[0], int(words[1]), folder)
    elif verb in STEPS:
        _do_step(verb, folder)
    else:
        {"study": _do_study, "report": _do_report}[verb](folder)


def _child(job: Mapping[str, object], library: str, said: int) -> None:
    """The start itself; ends the process."""
    from kellgren.cli.signals import stop_on_signals
    from kellgren.faults import InputError

    os.dup2(said, 2)
    stop_on_signals()
    os.environ.update(job["faults"])
    ctypes.CDLL(library).disk_faults_arm()
    code = 0
    try:
        _do(job["work"], Path(job["folder"]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except OSError as error:  # as in `main`
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        code = 2
    except SystemExit as end:
        code = int(end.code)
    except BaseException as error:
        print(f"traceback: {error!r}", file=sys.stderr)
        code = 3
    sys.stderr.flush()
    os._exit(code)


def _kill_after(child: int, seconds: float, by: int) -> None:
    """Signal the child when it has used so much CPU; by the clock a busy machine would choose."""
    used = Path(f"/proc/{child}/schedstat")
    while (words := used.read_text().split()) and int(words[0]) < seconds * 1e9:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.001)
    os.kill(child, by)


def _serve(library: str) -> None:
    import torch  # noqa: F401

    import kellgren.engine
    import kellgren.report  # noqa: F401

    for line in sys.stdin:
        job, (hears, says) = json.loads(line), os.pipe()
        child = os.fork()
        if child == 0:
            os.close(hears)
            _child(job, library, says)
        os.close(says)
        if job["kill_after"] is not None:
            _kill_after(child, job["kill_after"], job["by"])
        with os.fdopen(hears) as text:
            lines = text.read().strip().splitlines()
        _, status, used = os.wait4(child, 0)
        code, seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        print(json.dumps({"code": code, "said": lines[-1] if lines else "", "seconds": seconds}))
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
