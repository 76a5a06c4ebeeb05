"""The process that reads a DICOM series: one answer on standard output, then it ends.

First a line of JSON, the fault or the geometry, then the voxels as little-endian float32. Decoders
work on bytes of strangers; whatever they do to this process, the one that asked goes on.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from kellgren.faults import InputError
from kellgren.volume.frame import Raster
from kellgren.volume.series import dicom_files, read_series

# Address space beyond what the files hold: libraries and the copies that decoding makes.
BASE_BYTES = 2 << 30
BYTES_PER_FILE_BYTE = 20
CPU_SECONDS = 300


def main() -> None:
    """Read the path of the first argument under limits, and answer."""
    path = Path(os.fsdecode(os.fsencode(sys.argv[1])))
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # what a decoder prints is no answer
        _limit(path)
        try:
            raster = read_series(path)
        except InputError as fault:
            head = {"fault": [fault.where, fault.found, fault.needed, fault.todo]}
            answer.write(json.dumps(head).encode() + b"\n")
            return
        answer.write(json.dumps(_geometry(raster)).encode() + b"\n")
        answer.write(np.ascontiguousarray(raster.values, dtype="<f4").data.cast("B"))


def _geometry(raster: Raster) -> dict[str, Any]:
    return {
        "shape": list(raster.values.shape),
        "affine": raster.affine.tolist(),
        "description": raster.description,
        "modality": raster.modality,
        "side": raster.side,
        "burned_in": raster.burned_in,
    }


def _limit(path: Path) -> None:
    try:
        files = dicom_files(path) if os.path.isdir(path) else [path]
        held = sum(file.stat().st_size for file in files)
    except (InputError, OSError):  # `read_series` will say so
        held = 0
    space = BASE_BYTES + BYTES_PER_FILE_BYTE * held
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
