"""Stand-ins for PyRadiomics that a child process can load."""

import os
import signal
import time

from kellgren.faults import InputError


def fake(case):
    """Two features of two regions from the bytes of the scan; some bytes are faults."""
    content = case.image.read_text()
    with (case.image.parent / "measured.log").open("a") as log:
        log.write(case.case_id + "\n")
    if content == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if content == "damaged":
        raise InputError(str(case.image), "a damaged scan", "a sound one", "repair it")
    regions = {"roi_2": {"original_a": len(content) / 3, "original_b": float("nan")}}
    if content != "no bone":
        regions["roi_1"] = {"original_a": 0.1, "original_b": 1e300}
    return regions


def sleep_if_told(case):
    """Nothing, or a long sleep whose process is noted."""
    if case.image.read_text() == "sleep":
        noted = case.image.parent / "noted"
        noted.write_text(str(os.getpid()))
        noted.rename(case.image.parent / "pid")
        time.sleep(600)
