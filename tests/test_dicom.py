from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage, generate_uid

from kellgren.faults import InputError
from kellgren.volume import dess_warnings, read_scan
from kellgren.volume.frame import scan_of
from kellgren.volume.series import read_series

REAL = Path(__file__).parents[2] / "shared" / "data" / "real_knee"
SHAPE = (5, 7, 6)  # slices, rows, columns
VOXELS = np.random.default_rng(0).integers(0, 500, SHAPE).astype(np.uint16)
SERIES, OTHER, STUDY, FRAME = (generate_uid() for _ in range(4))


def made_slice(number):
    """One sagittal slice: rows go down, columns to the back, slices toward the left."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    slice_ = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    slice_.SOPClassUID, slice_.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    slice_.SeriesInstanceUID, slice_.StudyInstanceUID = SERIES, STUDY
    slice_.FrameOfReferenceUID = FRAME
    slice_.Modality, slice_.SeriesDescription, slice_.SeriesNumber = "MR", "SAG_3D_DESS_RIGHT", 1
    slice_.PatientName, slice_.PatientID = "Doe^Jane", "secret-4711"
    slice_.InstanceNumber = number + 1
    slice_.ImagePositionPatient = [10.0 + 0.7 * number, -20.0, 30.0]
    slice_.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    slice_.PixelSpacing, slice_.SliceThickness = [0.5, 0.4], 0.7
    slice_.Rows, slice_.Columns = SHAPE[1:]
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
    slice_.PixelRepresentation = 0
    slice_.PixelData = VOXELS[number].tobytes()
    return slice_


def made_series(folder, change=None):
    """A sound series of files without ending, out of order, one of them changed."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate("cadbe"):
        slice_ = made_slice(number)
        if change is not None:
            change(slice_, number)
        slice_.save_as(folder / name)
    return folder


def read_here(path):
    """As `read_scan`, but without a process of its own, to be quick."""
    return scan_of(read_series(path))


def refusal(folder, reader=read_here):
    with pytest.raises(InputError) as caught:
        reader(folder)
    assert str(folder) in str(caught.value)
    assert "Doe" not in str(caught.value)
    return str(caught.value)


def test_a_series_is_put_in_order_by_where_its_slices_lie(tmp_path):
    scan = read_scan(made_series(tmp_path / "s"))
    # Slices go toward the patient's left, so the first of the frame is the last of the series.
    np.testing.assert_array_equal(scan.voxels, VOXELS[::-1])
    np.testing.assert_allclose(scan.spacing_mm, (0.7, 0.5, 0.4))
    np.testing.assert_allclose(scan.affine @ [4, 0, 0, 1], [-10, 20, 30, 1])
    assert (scan.description, scan.modality) == ("SAG_3D_DESS_RIGHT", "MR")
    assert (scan.side, scan.burned_in) == ("right", False)


def test_no_name_or_number_of_the_patient_comes_along(tmp_path):
    scan = read_here(made_series(tmp_path / "s"))
    assert "Doe" not in repr(scan)
    assert "4711" not in repr(scan)


def test_other_files_in_the_folder_are_passed_over(tmp_path):
    folder = made_series(tmp_path / "s")
    (folder / "notes.txt").write_text("second visit")
    (folder / "empty").write_bytes(b"")
    (folder / "below").mkdir()
    report = made_slice(0)
    del report.PixelData, report.Rows, report.Columns
    report.SeriesInstanceUID = generate_uid()
    report.save_as(folder / "report.dcm")
    assert read_here(folder).voxels.shape == SHAPE


def test_stored_scale_is_applied(tmp_path):
    def change(slice_, _):
        slice_.RescaleSlope, slice_.RescaleIntercept = 2, -10

    scan = read_here(made_series(tmp_path / "s", change))
    np.testing.assert_array_equal(scan.voxels, VOXELS[::-1] * 2.0 - 10)


def test_an_empty_folder_is_refused(tmp_path):
    assert "no files" in refusal(tmp_path)
    (tmp_path / "below").mkdir()
    assert "no files" in refusal(tmp_path)


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    assert "none of them a DICOM image" in refusal(tmp_path)


def test_two_series_are_named_and_refused(tmp_path):
    def change(slice_, number):
        if number > 2:
            slice_.SeriesInstanceUID, slice_.SeriesNumber = OTHER, 4

    said = refusal(made_series(tmp_path / "s", change))
    assert "2 series" in said
    assert "number 1 (3 files)" in said
    assert "number 4 (2 files)" in said


def test_a_missing_slice_is_found(tmp_path):
    folder = made_series(tmp_path / "s")
    (folder / "d").unlink()
    refusal(folder)


def test_a_single_slice_is_refused(tmp_path):
    made_series(tmp_path / "s")
    for name in "bcde":
        (tmp_path / "s" / name).unlink()
    assert "single slice" in refusal(tmp_path / "s")


def _twice(slice_, number):
    slice_.ImagePositionPatient = [10.0 + 0.7 * min(number, 3), -20.0, 30.0]


def _uneven(slice_, number):
    slice_.ImagePositionPatient = [10.0 + 0.7 * number + 0.2 * (number == 3), -20.0, 30.0]


def _turned(slice_, number):
    if number == 2:
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def _other_spacing(slice_, number):
    if number == 2:
        slice_.PixelSpacing = [0.6, 0.4]


def _other_rows(slice_, number):
    if number == 2:
        slice_.Rows, slice_.Columns = SHAPE[2], SHAPE[1]


def _tilted(slice_, number):
    slice_.ImagePositionPatient = [10.0 + 0.7 * number, -20.0 + 0.2 * number, 30.0]


def _cut(slice_, number):
    if number == 2:
        slice_.PixelData = slice_.PixelData[:-20]


def _compressed(slice_, number):
    if number == 2:
        slice_.file_meta.TransferSyntaxUID = JPEG2000Lossless
        slice_.PixelData = pydicom.encaps.encapsulate([b"no picture"])


def _lacks(keyword):
    def change(slice_, number):
        if number == 2:
            delattr(slice_, keyword)

    return change


def _many_frames(slice_, number):
    slice_.NumberOfFrames = 3


def _huge(slice_, number):
    slice_.Rows, slice_.Columns = 65535, 65535


def _wide(slice_, number):
    slice_.PixelSpacing = [50, 50]


@pytest.mark.parametrize(
    "change",
    [
        _twice, _uneven, _turned, _other_spacing, _other_rows, _tilted, _cut, _compressed,
        _lacks("ImagePositionPatient"), _lacks("ImageOrientationPatient"), _lacks("PixelSpacing"),
        _lacks("PixelData"), _lacks("Rows"), _lacks("BitsAllocated"), _many_frames, _huge, _wide,
    ],
)  # fmt: skip
def test_slices_that_do_not_make_one_volume_are_refused(tmp_path, change):
    refusal(made_series(tmp_path / "s", change))


def test_a_file_cut_short_is_refused(tmp_path):
    folder = made_series(tmp_path / "s")
    content = (folder / "a").read_bytes()
    for length in (140, 400, len(content) - 30):
        (folder / "a").write_bytes(content[:length])
        refusal(folder)


def test_a_series_that_does_not_say_dess_is_noticed(tmp_path):
    def change(slice_, _):
        slice_.Modality, slice_.SeriesDescription = "CT", "T1 <b>\x1b axial"

    said = " ".join(dess_warnings(read_here(made_series(tmp_path / "s", change))))
    assert "'CT'" in said
    assert "says nothing of 'DESS': this is not a DESS scan" in said
    assert "axial" not in said


def test_a_series_without_description_is_noticed(tmp_path):
    scan = read_here(made_series(tmp_path / "s", lambda s, _: delattr(s, "SeriesDescription")))
    assert any("no description" in sentence for sentence in dess_warnings(scan))


def test_each_of_pydicom_s_own_odd_files_is_refused_by_name(tmp_path):
    """None of them is a series of slices; many are damaged on purpose."""
    files = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
    assert len(files) > 50
    for number, path in enumerate(files):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / path.name).symlink_to(path)
        refusal(folder)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real knee is not here")
def test_a_real_series_and_its_nifti_twin_read_alike():
    nifti = read_scan(REAL / "MESE_T2_echo1_TE6.3ms.nii.gz")
    dicom = read_scan(REAL / "MESE_T2_dicom_anon_echo1")
    np.testing.assert_array_equal(dicom.voxels, nifti.voxels)
    np.testing.assert_allclose(dicom.affine, nifti.affine, atol=1e-3)
    assert any("not a DESS scan" in sentence for sentence in dess_warnings(dicom))
