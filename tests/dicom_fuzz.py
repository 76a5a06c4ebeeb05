"""Damage done to sound DICOM files, the same at every run, and what the reader makes of it.

`python -m tests.dicom_fuzz FOLDER` reads every damaged file in one process under limits, and prints
what came of it as JSON; a crash of a decoder shows as its exit code.
"""

import json
import resource
import sys
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from pydicom.uid import RLELossless

from kellgren.faults import InputError
from kellgren.volume.series import read_series
from tests.test_dicom import made_series
from tests.test_faults_dicom import enhanced

MUTANTS = 300
PREAMBLE = 132
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")
KINDS = (*LONG, b"CS", b"DS", b"IS", b"LO", b"PN", b"UI", b"US", b"??")
UNDEFINED = 0xFFFFFFFF
LENGTHS = (0, 1, 7, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, UNDEFINED)


def elements(content):
    """Begin, begin of the value and end of each element at the top of an explicit-VR file."""
    found, at = [], PREAMBLE
    while at + 8 <= len(content):
        value = at + (12 if content[at + 4 : at + 6] in LONG else 8)
        field = content[at + 8 : value] if value == at + 12 else content[at + 6 : value]
        length = int.from_bytes(field, "little")
        end = len(content) if length == UNDEFINED else value + length
        found.append((at, value, end))
        at = end
    return found


def flipped(content, rng):
    """One to eight bits."""
    damaged = bytearray(content)
    for bit in rng.integers(8 * PREAMBLE, 8 * len(content), rng.integers(1, 9)):
        damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)


def cut(content, rng):
    return content[: rng.integers(1, len(content))]


def zeroed(content, rng):
    at = rng.integers(PREAMBLE, len(content) - 64)
    return content[:at] + bytes(64) + content[at + 64 :]


def without_element(content, rng):
    begin, _, end = one_of(elements(content), rng)
    return content[:begin] + content[end:]


def doubled_element(content, rng):
    begin, _, end = one_of(elements(content), rng)
    return content[:end] + content[begin:]


def wrong_length(content, rng):
    begin, value, _ = one_of(elements(content), rng)
    size = 4 if value - begin == 12 else 2
    length = LENGTHS[rng.integers(len(LENGTHS))] & (256**size - 1)
    return content[: value - size] + length.to_bytes(size, "little") + content[value:]


def wrong_kind(content, rng):
    begin, *_ = one_of(elements(content), rng)
    return content[: begin + 4] + KINDS[rng.integers(len(KINDS))] + content[begin + 6 :]


def wrong_value(content, rng):
    _, value, end = one_of(elements(content), rng)
    length = min(end - value, 64)
    return content[:value] + rng.bytes(length) + content[value + length :]


DAMAGES = (
    flipped,
    cut,
    zeroed,
    without_element,
    doubled_element,
    wrong_length,
    wrong_kind,
    wrong_value,
)


def one_of(choices, rng):
    return choices[rng.integers(len(choices))]


def packed(slice_, _):
    """By the one lossless packing that needs no further decoder."""
    slice_.compress(RLELossless)


def sound_sources(folder):
    """A plain series, a packed one, and a multi-frame image: a folder each."""
    plain, rle = made_series(folder / "plain"), made_series(folder / "rle", packed)
    (folder / "frames").mkdir()
    enhanced(folder / "frames" / "e")
    return [plain, rle, folder / "frames"]


def damaged(folder):
    """Name of the damage, and the source in which one file has it."""
    rng = np.random.default_rng(0)
    sources = sound_sources(folder)
    sound = {source: sorted(source.iterdir())[0] for source in sources}
    contents = {source: file.read_bytes() for source, file in sound.items()}
    for source in sources:
        for damage in islice(cycle(DAMAGES), MUTANTS // len(sources)):
            sound[source].write_bytes(damage(contents[source], rng))
            yield damage.__name__, source
        sound[source].write_bytes(contents[source])


def read(source):
    """Either "read", or "refused" with a sentence."""
    try:
        values = read_series(source).values
    except InputError as fault:
        if not (str(source) in str(fault) and fault.found and fault.needed and fault.todo):
            raise
        return "refused"
    assert values.ndim == 3
    return "read"


def main():
    folder = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    for source in sound_sources(folder / "warm"):
        assert read(source) == "read"
    before, slowest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0
    counts = Counter()
    for name, source in damaged(folder):
        started = time.process_time()
        counts[f"{source.name} {name} {read(source)}"] += 1
        slowest = max(slowest, time.process_time() - started)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"counts": counts, "slowest_s": slowest, "grown_mb": grown / 1e3}))


if __name__ == "__main__":
    main()
