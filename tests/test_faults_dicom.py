"""Faults D: DICOM series that cannot be trusted, in folders, zips and single files."""

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    EnhancedMRImageStorage,
    HTJ2KLossless,
    JPEG2000Lossless,
    generate_uid,
)

from kellgren import volume
from kellgren.faults import InputError
from kellgren.store import Store
from kellgren.volume import dess_warnings, dicom, dicom_child, read_scan
from kellgren.volume.frame import scan_of
from kellgren.volume.series import read_series
from tests.faults import assert_last_line_names, case_of, checked, told
from tests.test_dicom import OTHER, SHAPE, VOXELS, made_series, made_slice

WHEEL = Path(pydicom.__file__).parent / "data"


def _other_series(s, n):
    if n > 2:
        s.SeriesInstanceUID = OTHER


def _twice(s, n):
    s.ImagePositionPatient = [10.0 + 0.7 * min(n, 3), -20.0, 30.0]


def _turned(s, n):
    if n == 2:
        s.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def _spaced(s, n):
    if n == 2:
        s.PixelSpacing = [0.6, 0.4]


def _sized(s, n):
    if n == 2:
        s.Rows, s.Columns = SHAPE[2], SHAPE[1]


def _lacks(keyword):
    return lambda s, n: delattr(s, keyword) if n == 2 else None


def _tilted(s, n):
    s.ImagePositionPatient = [10.0 + 0.7 * n, -20.0 + 0.2 * n, 30.0]


def _cut(s, n):
    if n == 2:
        s.PixelData = s.PixelData[:-20]


def _packed(syntax):
    def change(s, n):
        s.file_meta.TransferSyntaxUID = syntax
        s.PixelData = pydicom.encaps.encapsulate([b"no picture"])

    return change


def _both_sides(s, n):
    s.Laterality = "LR"[n % 2]


FAULTS = [
    ("D02 two series", _other_series, "2 series"),
    ("D04 a slice twice", _twice, "cannot be read"),
    ("D05 mixed orientation", _turned, "cannot be read"),
    ("D05 mixed spacing", _spaced, "cannot be read"),
    ("D05 mixed rows", _sized, "cannot be read"),
    ("D06 no position", _lacks("ImagePositionPatient"), "no ImagePositionPatient"),
    ("D06 no orientation", _lacks("ImageOrientationPatient"), "no ImageOrientationPatient"),
    ("D07 gantry tilt", _tilted, "cannot be read"),
    ("D08 pixels cut short", _cut, "cannot be read"),
    ("D09 packed by rules that pydicom has no decoder for", _packed(MPEG2MPML), "voxels packed as"),
    ("D09 private packing", _packed("1.2.3.4"), "voxels packed as '1.2.3.4'"),
    ("D09 damaged picture", _packed(JPEG2000Lossless), "plugins: pillow"),
    ("both sides", _both_sides, "slices of both sides"),
]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("change", "said"), [pytest.param(c, s, id=n) for n, c, s in FAULTS])
def test_a_series_that_cannot_be_trusted_is_refused_by_name(tmp_path, change, said):
    folder = made_series(tmp_path / "series_9", change)
    with pytest.raises(InputError) as caught:
        read_series(folder)
    assert "series_9" in str(caught.value)
    assert any(part in str(caught.value) for part in said.split("|"))
    assert "Doe" not in str(caught.value)
    assert_check_names(folder, *said.split("|"), case_id="knee_7")


def test_D09_a_missing_decoder_is_named_with_the_packages_that_bring_one(tmp_path, monkeypatch):
    decoder = pydicom.pixels.get_decoder(HTJ2KLossless)
    monkeypatch.setattr(decoder, "_available", {})
    folder = made_series(tmp_path / "s", _packed(HTJ2KLossless))
    with pytest.raises(InputError, match=r"High-Throughput JPEG 2000.*needed .*pylibjpeg-openjpeg"):
        read_series(folder)


@pytest.fixture
def in_process(monkeypatch):
    """No process of its own for each series, to be quick."""
    monkeypatch.setattr(volume, "read_dicom", read_series)
    for ending in (".zip", ".dcm"):
        monkeypatch.setitem(volume.FORMATS, ending, read_series)


def assert_check_names(source, *either, case_id):
    """`check` ends with 2 and one line that names case and source, and one of these parts."""
    code, lines = checked(case_of(source, case_id=case_id), source.parent)
    assert code == 2
    assert_last_line_names(lines, f"case {case_id}: ", source.name)
    assert any(part in lines[-1] for part in either), lines[-1]
    assert "Doe" not in "".join(lines)


def _without_slice(path):
    (made_series(path) / "d").unlink()
    return path


def _notes_only(path):
    path.mkdir()
    (path / "notes").write_text("second visit")
    return path


def _empty(path):
    path.mkdir()
    return path


SOURCES = [
    ("D01 empty folder", lambda d: _empty(d / "s"), "no files in the folder"),
    ("D01 no images in the folder", lambda d: _notes_only(d / "s"), "none of them a DICOM image"),
    ("D03 missing slice", lambda d: _without_slice(d / "s"), "cannot be read"),
    ("D15 missing zip", lambda d: d / "gone.zip", "no such file"),
    ("D15 missing file", lambda d: d / "gone.dcm", "no such file"),
]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("make", "said"), [pytest.param(m, s, id=n) for n, m, s in SOURCES])
def test_a_source_without_a_series_is_refused_by_name(tmp_path, make, said):
    assert_check_names(make(tmp_path), said, case_id="knee_7")


def test_D11_reports_localisers_and_pdfs_without_pixels_are_passed_over(tmp_path):
    folder = made_series(tmp_path / "s")
    other = made_slice(0)
    del other.PixelData, other.Rows, other.Columns
    other.SeriesInstanceUID = generate_uid()
    other.save_as(folder / "report")
    assert read_series(folder).values.shape == SHAPE


@pytest.mark.usefixtures("in_process")
def test_D12_D16_another_modality_and_burned_in_text_are_told(tmp_path):
    def change(s, _):
        s.Modality, s.BurnedInAnnotation = "CT", "YES"

    folder = made_series(tmp_path / "s", change)
    said = " ".join(dess_warnings(scan_of(read_series(folder))))
    assert "'CT'" in said
    assert "burned into its pixels" in said
    code, lines = checked(case_of(folder), tmp_path)
    assert code == 1
    assert any(line.startswith("warning: case knee_7: ") for line in lines)


@pytest.mark.usefixtures("in_process")
def test_D13_D14_a_damaged_charset_and_a_hostile_name_do_no_harm(tmp_path):
    def change(s, _):
        s.SpecificCharacterSet = "ISO_IR 100"
        s.PatientName = "<script>alert(1)</script>"
        s.SeriesDescription = "DESS\x1b$B<b>"

    folder = made_series(tmp_path / "s", change)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 666"))
    raster = read_series(folder)
    assert "alert" not in repr(raster)
    assert "\x1b" not in str(raster.description)
    code, lines = checked(case_of(folder), tmp_path)
    assert code == 1
    assert "alert" not in "".join(lines)
    assert "\x1b" not in "".join(lines)


@pytest.mark.usefixtures("in_process")
def test_a_slice_with_a_hostile_name_is_named_without_harm(tmp_path):
    folder = made_series(tmp_path / "s", _cut)
    for path in list(folder.iterdir()):
        path.rename(folder / f"\x1b]0;{path.name}\udce9\n.dcm")
    code, lines = checked(case_of(folder), tmp_path)
    assert code == 2
    assert_last_line_names(lines, "case knee_7")
    assert lines[-1].isprintable()


def test_D15_a_DICOMDIR_among_the_slices_is_passed_over(tmp_path):
    folder = made_series(tmp_path / "s")
    shutil.copy(WHEEL / "test_files" / "dicomdirtests" / "DICOMDIR", folder)
    for source in (folder, zipped(tmp_path / "s.zip", folder)):
        np.testing.assert_array_equal(read_series(source).values.shape, SHAPE)


def zipped(path, folder, *, prefix="SUBJ/1/"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return path


@pytest.mark.parametrize("prefix", ["", "SUBJ/1/", "../../", "/etc/"])
def test_D15_a_zip_reads_as_its_folder_and_is_never_unpacked(tmp_path, prefix):
    folder = made_series(tmp_path / "s")
    path = zipped(tmp_path / "s.zip", folder, prefix=prefix)
    before = sorted(tmp_path.rglob("*"))
    np.testing.assert_array_equal(read_series(path).values, read_series(folder).values)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("in_process")
def test_D15_a_zip_bomb_a_torn_zip_and_a_locked_one_are_refused(tmp_path):
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(30_000_000))
    sound = zipped(tmp_path / "s.zip", made_series(tmp_path / "s")).read_bytes()
    (tmp_path / "torn.zip").write_bytes(sound[: len(sound) // 2])
    flipped = bytearray(sound)
    flipped[200] ^= 8
    (tmp_path / "flipped.zip").write_bytes(flipped)
    locked = bytearray(sound)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + at] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    for name, said in (("bomb", "packed up to"), ("torn", "damaged"), ("flipped", "damaged"),
                       ("locked", "cannot be opened"), ("gone", "no such file")):  # fmt: skip
        with pytest.raises(InputError, match=rf"{name}\.zip.*{said}"):
            read_series(tmp_path / f"{name}.zip")
        assert_check_names(tmp_path / f"{name}.zip", said, case_id=name)


def enhanced(path, *, spacing=0.7, side="R"):
    """The same voxels as `made_series`, as one enhanced multi-frame image."""
    image = made_slice(0)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    image.NumberOfFrames = SHAPE[0]
    image.PixelData = VOXELS.tobytes()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(image, keyword)
    shared, measures, plane, anatomy = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.4], 0.7
    plane.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    anatomy.FrameLaterality = side
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([plane])
    shared.FrameAnatomySequence = Sequence([anatomy])
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for number in range(SHAPE[0]):
        frame, position = Dataset(), Dataset()
        place = spacing * number + (5 if spacing != 0.7 and number == 3 else 0)
        position.ImagePositionPatient = [10.0 + place, -20.0, 30.0]
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    image.PerFrameFunctionalGroupsSequence = Sequence(frames)
    image.save_as(path)
    return path


@pytest.mark.parametrize("name", ["knee.dcm", "knee"])
def test_D10_an_enhanced_multi_frame_image_reads_as_its_slices(tmp_path, name):
    expected = scan_of(read_series(made_series(tmp_path / "s")))
    (tmp_path / "e").mkdir()
    path = enhanced(tmp_path / "e" / name)
    for source in (path, path.parent):
        scan = scan_of(read_series(source))
        np.testing.assert_array_equal(scan.voxels, expected.voxels)
        np.testing.assert_allclose(scan.affine, expected.affine)
        assert scan.side == "right"
    assert read_scan(path).voxels.shape == expected.voxels.shape


def test_D10_frames_at_uneven_distances_are_refused(tmp_path):
    with pytest.raises(InputError, match="knee"):
        read_series(enhanced(tmp_path / "knee.dcm", spacing=0.8))


def test_D15_files_without_extension_in_a_zip_beside_a_multi_frame_image_are_refused(tmp_path):
    folder = made_series(tmp_path / "s")
    enhanced(folder / "x").touch()
    data = pydicom.dcmread(folder / "x")
    data.SeriesInstanceUID = made_slice(0).SeriesInstanceUID
    data.save_as(folder / "x")
    with pytest.raises(InputError, match="multi-frame image among"):
        read_series(folder)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"Laterality": "L"}, "left"),
        ({"ImageLaterality": "R", "SeriesDescription": "DESS"}, "right"),
        ({"SeriesDescription": "SAG_3D_DESS_LEFT"}, "left"),
        ({"SeriesDescription": "BRIGHT DESS"}, None),
        ({"SeriesDescription": "LEFT and RIGHT"}, None),
    ],
)
def test_the_side_is_what_the_series_says(tmp_path, about, said):
    def change(s, _):
        for name, value in about.items():
            setattr(s, name, value)

    assert read_series(made_series(tmp_path / "s", change)).side == said


def test_a_series_of_the_other_knee_is_refused_when_it_is_prepared(tmp_path):
    case = case_of(made_series(tmp_path / "s"), side="left")
    with pytest.raises(InputError, match=r"case knee_7.*says 'right'.*'left', as in the cohort"):
        Store(tmp_path / "p", (4, 4, 4), (2,)).prepare(case)
    assert any("says 'right'" in line for line in told(case))


# A process that reads in place of the real one, and what it does when it comes to the first file.
CRASHES = {
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
    "segfault": ("ctypes.string_at(0)", "signal 11"),
    "talks and leaves": ("(print('libfoo: bad magic', flush=True), os._exit(3))", "exit code 3"),
}


@pytest.mark.parametrize("how", list(CRASHES))
def test_a_crash_of_the_reader_ends_in_one_sentence_and_the_other_cases_go_on(
    tmp_path, monkeypatch, how
):
    does, said = CRASHES[how]
    code = "import ctypes, os, signal, pydicom; from kellgren.volume.dicom_child import main; "
    code += f"pydicom.dcmread = lambda *a, **k: {does}; main()"
    stand_in = tmp_path / "python"
    stand_in.write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(code)} "$3"\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    folder = made_series(tmp_path / "series_9")
    code, lines = checked(case_of(folder), tmp_path)
    assert code == 2
    assert lines[-1].startswith("1 error, ")
    assert_last_line_names(lines, "case knee_7: ", "series_9: found a series on which the reader")
    assert said in lines[-1]
    assert any("case sound" in line for line in lines)


def test_a_crash_halfway_through_the_voxels_is_no_scan(tmp_path, monkeypatch):
    stand_in = tmp_path / "python"
    stand_in.write_text("#!/bin/sh\necho '{\"shape\": [9, 9, 9]}'\necho half\nkill -SEGV $$\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    with pytest.raises(InputError, match=r"series_9: found a series on which the reader died"):
        dicom.read_dicom(made_series(tmp_path / "series_9"))


def test_an_endless_reader_is_told_with_the_name_of_the_series(tmp_path, monkeypatch):
    folder = made_series(tmp_path / "series_9")
    monkeypatch.setattr(dicom, "SECONDS", 0.01)
    with pytest.raises(InputError, match=r"series_9: found a series on which the reader died"):
        read_scan(folder)


def test_the_reader_limits_its_own_memory_and_time():
    assert dicom_child.BASE_BYTES <= 4 << 30
    assert dicom_child.CPU_SECONDS <= 600


def test_D17_damaged_files_of_pydicom_end_in_a_sentence_in_bounded_time(tmp_path):
    """Files of pydicom's wheel, each whole, cut and with flipped bits."""
    files = sorted(path for path in WHEEL.rglob("*") if path.is_file() and ".py" not in path.suffix)
    assert len(files) > 200
    rng = np.random.default_rng(0)
    slowest = 0.0
    for path in files:
        content = path.read_bytes()
        flipped = bytearray(content)
        for bit in rng.integers(8 * 132, 8 * len(content), 5):
            flipped[bit // 8] ^= 1 << (bit % 8)
        for kind, damaged in (("whole", content), ("cut", content[: len(content) // 2]),
                              ("flipped", flipped)):  # fmt: skip
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}-{kind}"
            folder.mkdir()
            (folder / "slice").write_bytes(damaged)
            started = time.process_time()
            with contextlib.suppress(InputError):
                assert np.ndim(read_series(folder).values) == 3
            slowest = max(slowest, time.process_time() - started)
    assert slowest < 2


def test_D17_three_hundred_damaged_series_end_in_a_sentence_within_limits(tmp_path):
    """Bits, lengths, kinds, values and whole elements: see `tests/dicom_fuzz.py`."""
    (tmp_path / "warm").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.dicom_fuzz", str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert sum(said["counts"].values()) == 300
    # A doubled element changes nothing, so it is read; a file that was cut never is.
    assert sum(n for name, n in said["counts"].items() if "cut read" in name) == 0
    assert sum(n for name, n in said["counts"].items() if "refused" in name) > 150
    assert said["slowest_s"] < 2
    assert said["grown_mb"] < 500
