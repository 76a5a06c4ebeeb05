"""A DICOM series, read in a process of its own under limits of memory and time."""

import json
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import IO, Any

import numpy as np
from jaxtyping import Float32

from kellgren.faults import InputError
from kellgren.volume.frame import Raster

SECONDS = 600.0
_PREFIX = b"DICM"


def read_dicom(path: Path) -> Raster:
    """Read the folder of one series, a zip file of it, or one enhanced multi-frame file.

    See `kellgren.volume.series.read_series`, which does it; a crash or an endless loop of a decoder
    ends only the process that reads, and is told with the name of the series.

    Raises:
        InputError: As `read_series`, or if the process that reads dies.
    """
    command = [sys.executable, "-m", "kellgren.volume.dicom_child", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None  # it was asked for
        watch = Timer(SECONDS, child.kill)
        watch.start()
        try:
            head = child.stdout.readline()
            answer: dict[str, Any] = json.loads(head) if head.endswith(b"\n") else {}
            values = _voxels(child.stdout, answer)
        finally:
            watch.cancel()
            child.kill()  # nothing if it has ended
    if "fault" in answer:
        raise InputError(*answer["fault"])
    if values is None:
        raise InputError(
            str(path),
            f"a series on which the reader died ({_death(child.returncode)})",
            "DICOM files that can be decoded",
            "convert the series to NIfTI with another program, or leave it out",
        )
    return Raster(
        path,
        values,
        np.array(answer["affine"]),
        answer["description"],
        answer["modality"],
        answer["side"],
        answer["burned_in"],
    )


def is_dicom(path: Path) -> bool:
    """Whether a plain file begins as DICOM files do, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == _PREFIX
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return False


def _voxels(stream: IO[bytes], answer: dict[str, Any]) -> Float32[np.ndarray, "i j k"] | None:
    if "shape" not in answer:
        return None
    values = np.empty(answer["shape"], "<f4")
    body = values.data.cast("B")
    done = 0
    while read := stream.readinto(body[done:]):  # type: ignore[attr-defined]
        done += read
    return values if done == len(body) else None


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    return f"signal {-code}, as where memory or time runs out or a decoder crashes"
