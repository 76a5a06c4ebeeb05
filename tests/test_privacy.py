"""S05 and S06: a whole study on knees whose files name the patient; nothing of it comes out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kellgren.faults import InputError
from kellgren.volume import read_scan
from kellgren.volume.series import read_series
from tests.planted import (
    FILE,
    IN_HEADERS,
    IN_NAMES,
    NAME,
    leaks,
    planted_knees,
    planted_nifti,
    planted_nrrd,
    sign,
    voxels,
)
from tests.test_dicom import made_series

KNEES = 20
STUDY = """
name = "tiny"
supervisions = ["dual"]
[cohort]
table = "cohort.csv"
[backbones.resnet3d]
size = "small"
grid = [24, 24, 24]
[training]
epochs = 1
batch_size = 5
threads = 1
[explanation]
exemplars = ["k15", "k18"]
"""
# Python runs this before anything else, in every process that the pipeline starts.
WATCH = """
import os, sys
FORBIDDEN = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
             "socket.sendmsg", "socket.bind", "urllib.Request", "pickle.find_class", "os.system"}
def watch(event, arguments):
    if event in FORBIDDEN:
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {arguments}\\n")
        raise OSError(f"{event} is not for this test")
sys.addaudithook(watch)
"""
# Every module, then every verb, in one process.
DRIVER = """
import importlib, json, pkgutil, sys
import kellgren
for module in pkgutil.walk_packages(kellgren.__path__, "kellgren."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as absent:
            assert absent.name == "triton"
from kellgren.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["kellgren", *words]
    try:
        main()
    except SystemExit as end:
        print("ended:", words[0], end.code)
"""
STEPS = [
    ["import", "table", "{scans}/knees.csv", "--out", "cohort.csv"],
    ["check", "cohort.csv", "--deep", "--json", "looked.json", "--out", "looked"],
    *[[verb, "tiny.toml"] for verb in ("prepare", "train", "predict", "explain")],
    ["analyze", "results/tiny/runs", "--out", "tables", "--resamples", "100"],
    ["report", "tables"],
    ["grade", "{scans}/{file}_16", "--weights", "results/tiny/runs/resnet3d-dual-s0"],
    ["grade", "{scans}/{file}_0.nii.gz", "--weights", "results/tiny/runs/resnet3d-dual-s0"],
]


def watched(folder: Path, steps: list[list[str]]) -> subprocess.CompletedProcess[str]:
    """The verbs, run in a folder with every call for the network or a pickle refused."""
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCH)
    path = os.pathsep.join([str(folder / "watch"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(steps)],
        cwd=folder / "work",
        env=os.environ | {"PYTHONPATH": path, "WATCHED": str(folder / "watched.txt")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_planted_names_are_found_in_every_kind_of_source(tmp_path):
    planted_knees(tmp_path / "scans", 6)
    sources = [path for path in (tmp_path / "scans").rglob("*") if path.is_file()]
    assert {path.suffix for path in sources} >= {".gz", ".zip", ".nrrd", ".nhdr", ""}
    for path in sources:
        if not path.name.endswith(".raw.gz"):  # the bare voxels of the .nhdr
            assert leaks(path.read_bytes(), IN_HEADERS), path


@pytest.mark.parametrize("ending", ["series", "nrrd", "nhdr", "nii"])
def test_S06_no_refusal_of_a_damaged_file_repeats_what_stands_in_it(tmp_path, ending):
    """Bits turned, bytes lost and bytes added, where the header is."""
    if ending == "series":
        path = signed_series(tmp_path / ending) / "d"
    else:
        path = PLANTERS[ending](tmp_path / f"a.{ending}", voxels(0, 0)[0])
    whole, rng, said = path.read_bytes(), np.random.default_rng(0), []
    for number in range(60):
        damaged, at = bytearray(whole), int(rng.integers(0, min(len(whole), 900)))
        if number % 3 == 0:
            damaged[at] ^= 1 << int(rng.integers(0, 8))
        elif number % 3 == 1:
            del damaged[at : at + int(rng.integers(1, 9))]
        else:
            damaged[at:at] = rng.bytes(3)
        path.write_bytes(damaged)
        try:
            read_series(path.parent) if ending == "series" else read_scan(path)
        except InputError as fault:
            said.append(str(fault))
    assert len(said) > 20
    assert not leaks("\n".join(said).encode(), IN_HEADERS)


def test_S06_a_number_whose_length_swallows_a_name_is_refused_without_the_name(tmp_path):
    path = signed_series(tmp_path / "s") / "d"
    bits, too_long = b"\x28\x00\x00\x01US\x02\x00", b"\x28\x00\x00\x01US\x8d\x00"
    whole = path.read_bytes()
    assert whole.count(bits) == 1
    path.write_bytes(whole.replace(bits, too_long))
    with pytest.raises(InputError, match="BytesLengthException") as caught:
        read_series(path.parent)
    assert not leaks(str(caught.value).encode(), IN_HEADERS)


def signed_series(folder: Path) -> Path:
    def change(slice_, number):
        sign(slice_)
        slice_.SeriesDescription, slice_.InstitutionName = f"DESS {NAME}", NAME

    return made_series(folder, change)


PLANTERS = {"nrrd": planted_nrrd, "nhdr": planted_nrrd, "nii": planted_nifti}


@pytest.mark.slow
def test_S05_S06_no_verb_calls_out_unpickles_or_lets_an_identifier_through(tmp_path):
    scans, work = tmp_path / f"{FILE}_scans", tmp_path / "work"
    rows = planted_knees(scans, KNEES)
    (scans / "knees.csv").write_text("\n".join([*rows, ""]))
    work.mkdir()
    (work / "tiny.toml").write_text(STUDY)
    steps = [[word.format(scans=scans, file=FILE) for word in step] for step in STEPS]
    done = watched(tmp_path, steps)
    assert "Traceback" not in done.stderr, done.stderr
    ended = [line for line in done.stdout.splitlines() if line.startswith("ended: ")]
    assert ended == [f"ended: {step[0]} {int(step[0] == 'check')}" for step in steps], done.stderr
    assert not (tmp_path / "watched.txt").exists(), (tmp_path / "watched.txt").read_text()

    said = (done.stdout + done.stderr).encode()
    assert not leaks(said, IN_HEADERS)
    told = [line for line in done.stderr.splitlines() if FILE in line]
    assert all(line.startswith(("warning: ", "note: ")) for line in told), told
    assert FILE not in done.stdout
    written = {path for path in work.rglob("*") if path.is_file()} - {work / "tiny.toml"}
    assert len(written) > 100
    for path in written:
        # The cohort table says which file a case is; it is the one that does.
        words = IN_HEADERS if path == work / "cohort.csv" else IN_HEADERS + IN_NAMES
        found = leaks(str(path.relative_to(work)).encode() + b"\n" + path.read_bytes(), words)
        assert not found, (path, found)
