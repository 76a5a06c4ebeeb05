"""One process a folder: the living are refused, the dead make room, the lost stop."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kellgren.faults import InputError
from kellgren.lease import BEAT_S, alone

HOLDER = """
import sys, time
from pathlib import Path
from kellgren.lease import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def holder(folder: Path, seconds: float) -> Iterator[subprocess.Popen]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(seconds)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def of_another_machine(folder: Path, *, lease_s: float) -> Path:
    """A marker as another machine leaves it, by taking ours and renaming the machine in it."""
    folder.mkdir(exist_ok=True)
    with alone(folder, lease_s=lease_s):
        written = (folder / ".lock").read_text()
    lines = [line if not line.startswith("host=") else "host=far" for line in written.split("\n")]
    (folder / ".lock").write_text("\n".join(lines))
    return folder / ".lock"


def test_a_folder_is_given_back_without_a_trace(tmp_path):
    with alone(tmp_path / "run") as still:
        still()
        assert (tmp_path / "run" / ".lock").exists()
    assert not list((tmp_path / "run").iterdir())


def test_a_second_process_is_refused_as_soon_as_the_first_shows_that_it_lives(tmp_path):
    with holder(tmp_path, 60) as first:
        started = time.monotonic()
        with (
            pytest.raises(InputError, match=rf"process {first.pid} on .*one process a run"),
            alone(tmp_path),
        ):
            pass
        assert time.monotonic() - started < 10 * BEAT_S


def test_a_patient_process_waits_until_the_first_has_finished(tmp_path):
    with holder(tmp_path, 2 * BEAT_S) as first, alone(tmp_path, patient=True):
        assert first.wait() == 0


def test_a_killed_process_of_this_machine_makes_room_at_once(tmp_path):
    with holder(tmp_path, 60):
        pass
    assert (tmp_path / ".lock").exists()
    left = tmp_path / ".unfinished-1-a.csv"
    left.touch()
    started = time.monotonic()
    with alone(tmp_path):
        assert time.monotonic() - started < BEAT_S
        assert not left.exists()


def test_another_machine_is_believed_to_live_for_as_long_as_a_lease(tmp_path):
    of_another_machine(tmp_path, lease_s=2.5)
    started = time.monotonic()
    with alone(tmp_path, lease_s=2.5):
        assert 2.5 <= time.monotonic() - started < 2.5 + 4 * BEAT_S


def test_another_machine_that_touches_its_marker_is_alive_whatever_its_clock_says(tmp_path):
    marker = of_another_machine(tmp_path, lease_s=3.0)
    script = f"import os, time; time.sleep(1); os.utime({str(marker)!r}, (1, 1))"  # in 1970
    with (
        subprocess.Popen([sys.executable, "-c", script]),
        pytest.raises(InputError, match="on far"),
        alone(tmp_path, lease_s=3.0),
    ):
        pass


def test_who_has_lost_the_folder_is_told_before_it_writes(tmp_path):
    with alone(tmp_path) as still:
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").write_text("somebody else")
        time.sleep(3 * BEAT_S)  # two beats miss it
        with pytest.raises(InputError, match="a folder that this process has lost"):
            still()
    assert (tmp_path / ".lock").read_text() == "somebody else"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(
            InputError, match=r"run: found a file or folder that cannot be written \(File exists"
        ),
        alone(tmp_path / "file" / "run"),
    ):
        pass
