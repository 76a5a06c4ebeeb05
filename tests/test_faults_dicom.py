"""Faults D: DICOM series that cannot be trusted, in folders, zips and single files."""

import contextlib
import time
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, JPEG2000Lossless, generate_uid

from kellgren.faults import InputError
from kellgren.store import Store
from kellgren.volume import dess_warnings, dicom, dicom_child, read_scan
from kellgren.volume.frame import scan_of
from kellgren.volume.series import read_series
from tests.faults import case_of, told
from tests.test_dicom import OTHER, SHAPE, VOXELS, made_series, made_slice


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


def _packed(s, n):
    s.file_meta.TransferSyntaxUID = JPEG2000Lossless
    s.PixelData = pydicom.encaps.encapsulate([b"no picture"])


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
    ("D09 transfer syntax without a decoder", _packed, "plugin|decoder|decompress"),
    ("both sides", _both_sides, "slices of both sides"),
]


@pytest.mark.parametrize(("change", "said"), [pytest.param(c, s, id=n) for n, c, s in FAULTS])
def test_a_series_that_cannot_be_trusted_is_refused_by_name(tmp_path, change, said):
    folder = made_series(tmp_path / "series_9", change)
    with pytest.raises(InputError) as caught:
        read_series(folder)
    assert "series_9" in str(caught.value)
    assert any(part in str(caught.value) for part in said.split("|"))
    assert "Doe" not in str(caught.value)


def test_D01_D03_an_empty_folder_and_a_missing_slice(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no files in the folder"):
        read_series(tmp_path / "empty")
    (made_series(tmp_path / "s") / "d").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        read_series(tmp_path / "s")


def test_D11_reports_localisers_and_pdfs_without_pixels_are_passed_over(tmp_path):
    folder = made_series(tmp_path / "s")
    other = made_slice(0)
    del other.PixelData, other.Rows, other.Columns
    other.SeriesInstanceUID = generate_uid()
    other.save_as(folder / "report")
    assert read_series(folder).values.shape == SHAPE


def test_D12_D16_another_modality_and_burned_in_text_are_told(tmp_path):
    def change(s, _):
        s.Modality, s.BurnedInAnnotation = "CT", "YES"

    said = " ".join(dess_warnings(scan_of(read_series(made_series(tmp_path / "s", change)))))
    assert "'CT'" in said
    assert "burned into its pixels" in said


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


def test_a_crash_of_the_reader_is_told_with_the_name_of_the_series(tmp_path, monkeypatch):
    folder = made_series(tmp_path / "series_9")
    monkeypatch.setattr(dicom, "SECONDS", 0.01)
    with pytest.raises(InputError, match=r"series_9: found a series on which the reader died"):
        read_scan(folder)


def test_the_reader_limits_its_own_memory_and_time():
    assert dicom_child.BASE_BYTES <= 4 << 30
    assert dicom_child.CPU_SECONDS <= 600


def test_D17_damaged_files_of_pydicom_end_in_a_sentence_in_bounded_time(tmp_path):
    """Files of pydicom's wheel, each whole, cut and with flipped bits."""
    files = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
    assert len(files) > 50
    rng = np.random.default_rng(0)
    slowest = 0.0
    for path in files:
        content = path.read_bytes()
        flipped = bytearray(content)
        for bit in rng.integers(8 * 132, 8 * len(content), 5):
            flipped[bit // 8] ^= 1 << (bit % 8)
        for kind, damaged in (("whole", content), ("cut", content[: len(content) // 2]),
                              ("flipped", flipped)):  # fmt: skip
            folder = tmp_path / f"{path.stem[:40]}-{kind}"
            folder.mkdir()
            (folder / "slice").write_bytes(damaged)
            started = time.process_time()
            with contextlib.suppress(InputError):
                assert np.ndim(read_series(folder).values) == 3
            slowest = max(slowest, time.process_time() - started)
    assert slowest < 2
