"""Faults F and H: files and headers that are broken. Every one ends in one clear sentence."""

import gzip
import os
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from kellgren.faults import InputError
from kellgren.inspection import look
from kellgren.store import Store
from kellgren.volume import Geometry, geometry_warnings, read_scan
from tests.faults import (
    assert_last_line_names,
    case_of,
    checked,
    ended,
    patched,
    small_file,
    to_ras,
    told,
    write,
)


def _bytes(path, content):
    path.write_bytes(content)
    return path


def _cut(path, share):
    content = path.read_bytes()
    return _bytes(path, content[: int(len(content) * share)])


def _zeroed(path):
    content = bytearray(path.read_bytes())
    content[300:500] = bytes(200)
    return _bytes(path, content)


def _flipped(path, seed):
    content = bytearray(path.read_bytes())
    bit = int(np.random.default_rng(seed).integers(80, 8 * len(content)))
    content[bit // 8] ^= 1 << (bit % 8)
    return _bytes(path, content)


def _directory(path):
    path.mkdir()
    return path


def _link(path, target):
    path.symlink_to(target)
    return path


def _sealed(path):
    path.chmod(0)
    return path


def _bomb(path, *dims):
    """4 MB that inflate to 4.3 GB: one packed block of zeros, 257 times. Nobody gets to its end."""
    head = small_file(path.with_name("head.nii"))
    if dims:
        patched(head, 40, "hhhh", 3, *dims)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    begin = packer.compress(head.read_bytes()[:352]) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    start = b"\x1f\x8b\x08" + bytes(7)
    return _bytes(path, start + begin + 257 * zeros + packer.flush() + bytes(8))


def _terabytes(path):
    patched(small_file(path), 40, "hhhh", 3, 32767, 32767, 32767)
    return patched(path, 70, "hh", 64, 64)


def _side_by_side(folder):
    small_file(folder / "a.nii")
    return small_file(folder / "a.nii.gz")


def _in_two_members(path):
    content = path.read_bytes()
    return gzip.compress(content[:700]) + gzip.compress(content[700:])


REFUSED_FILES = [
    ("F01 missing", lambda d: d / "a.nii.gz", "no such file"),
    ("F02 empty", lambda d: _bytes(d / "a.nii.gz", b""), "0 bytes"),
    ("F03 a folder in its place", lambda d: _directory(d / "a.nii.gz"), "no files in the folder"),
    ("F05 dangling link", lambda d: _link(d / "a.nii", d / "gone"), "no such file"),
    ("F05 link in a loop", lambda d: _link(d / "a.nii", d / "a.nii"), "cannot be read"),
    ("F06 git-LFS pointer",
     lambda d: _bytes(d / "a.nii.gz", b"version https://git-lfs.github.com/spec/v1\n"),
     "git lfs pull"),
    ("F07 web page", lambda d: _bytes(d / "a.nii.gz", b"<!DOCTYPE html><html>"), "web page"),
    ("F08 not gzip but .gz",
     lambda d: small_file(d / "b.nii").rename(d / "a.nii.gz"), "rename it to '.nii'"),
    ("F09 gzip but .nii",
     lambda d: small_file(d / "b.nii.gz").rename(d / "a.nii"), "rename it to '.nii.gz'"),
    ("F10 cut at 10 %", lambda d: _cut(small_file(d / "a.nii.gz"), 0.1), "cut short|NIfTI"),
    ("F10 cut at 50 %", lambda d: _cut(small_file(d / "a.nii.gz"), 0.5), "cut short"),
    ("F10 cut at 90 %", lambda d: _cut(small_file(d / "a.nii.gz"), 0.9), "cut short"),
    ("F11 last byte cut",
     lambda d: _bytes(d / "a.nii.gz", small_file(d / "b.nii.gz").read_bytes()[:-1]), "cut short"),
    ("F11 last 8 bytes cut",
     lambda d: _bytes(d / "a.nii.gz", small_file(d / "b.nii.gz").read_bytes()[:-8]), "cut short"),
    ("F13 block of zeros", lambda d: _zeroed(small_file(d / "a.nii.gz")), "damaged|cut short"),
    ("F14 wrong checksum",
     lambda d: _bytes(d / "a.nii.gz", small_file(d / "b.nii.gz").read_bytes()[:-8] + bytes(8)),
     "damaged"),
    ("F15 anything after the end of a .nii",
     lambda d: _bytes(d / "a.nii", small_file(d / "b.nii").read_bytes() + b"surplus"),
     "as the header declares"),
    ("F16 two gzip members",
     lambda d: _bytes(d / "a.nii.gz", 2 * small_file(d / "b.nii.gz").read_bytes()),
     "a second gzip member after 2272 of 2272"),
    ("F16 a volume in two gzip members",
     lambda d: _bytes(d / "a.nii.gz", _in_two_members(small_file(d / "b.nii"))),
     "a second gzip member after 700 of 2272"),
    ("F17 .nii cut", lambda d: _cut(small_file(d / "a.nii"), 0.7), "as the header declares"),
    ("F18 gzip bomb", lambda d: _bomb(d / "a.nii.gz"), "more than the 2272 bytes"),
    ("F18 gzip bomb that says so",
     lambda d: _bomb(d / "a.nii.gz", 1300, 1300, 1275), "a declared size of 4309500000"),
    ("F19 header bomb", lambda d: _terabytes(d / "a.nii"), "declare"),
    ("F21 half a pair", lambda d: _bytes(d / "a.hdr", bytes(348)), "ends in .nii"),
    ("F23 a very long name", lambda d: d / ("x" * 300 + ".nii.gz"), "cannot be read"),
    ("F23 a zero byte in the name", lambda d: d / "a\0.nii.gz", "cannot be read"),
    ("F24 still being copied",
     lambda d: _cut(small_file(d / "a.nii"), 0.999), "as the header declares"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said"), [pytest.param(m, s, id=n) for n, m, s in REFUSED_FILES])
def test_a_broken_file_is_refused_with_case_file_reason_and_mend(tmp_path, make, said):
    path = make(tmp_path)
    lines = told(case_of(path))
    assert [line for line in lines if line.startswith("error: case knee_7: ")] == lines
    assert len(lines) == 1
    assert any(part in lines[0] for part in said.split("|"))
    name = path.name[:20].split("\0")[0]
    assert name in lines[0]
    assert "\n" not in lines[0]
    code, last = checked(case_of(path), tmp_path)
    assert code == 2
    assert_last_line_names(last, "case knee_7", name)
    assert any(part in last[-1] for part in [*said.split("|"), "a plain path"])


def test_F04_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    case = case_of(_sealed(small_file(tmp_path / "a.nii.gz")))
    if os.geteuid() == 0:  # root may read every file, so the refusal is played

        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    (line,) = told(case)
    assert "cannot be read (Permission denied)" in line


def test_F15_bytes_after_the_gzip_member_are_passed_over_and_told(tmp_path):
    image, mask = small_file(tmp_path / "a.nii.gz"), small_file(tmp_path / "m.nii.gz", np.uint8)
    expected = read_scan(image).voxels
    for path in (image, mask):
        path.write_bytes(path.read_bytes() + b"surplus")
    np.testing.assert_array_equal(read_scan(image).voxels, expected)
    code, lines = checked(case_of(image, mask), tmp_path)
    told_of = [line for line in lines if "7 bytes after the end of the gzip stream" in line]
    assert code == 1
    assert len(told_of) == 1
    assert told_of[0].startswith("warning: case knee_7: ")
    assert "a.nii.gz" in told_of[0]
    assert sum(
        "7 bytes after" in line and "m.nii.gz" in line for line in told(case_of(image, mask))
    )
    image.write_bytes(image.read_bytes()[:-15] + bytes(8) + b"surplus")  # the checksum still counts
    assert "damaged" in told(case_of(image))[0]


@pytest.mark.parametrize("dims", [(), (1300, 1300, 1275)])
def test_F18_a_bomb_is_refused_in_little_memory(tmp_path, dims):
    path = _bomb(tmp_path / "a.nii.gz", *dims)
    assert 4e6 < path.stat().st_size < 5e6
    tracemalloc.start()
    try:
        (line,) = told(case_of(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert line.startswith("error: case knee_7: ")
    assert peak < 3 * path.stat().st_size


def test_F20_of_two_files_with_one_name_the_named_one_is_read_and_the_other_told(tmp_path):
    path = _side_by_side(tmp_path)
    code, lines = checked(case_of(path), tmp_path)
    assert code == 1
    assert any("a .nii of its name beside it" in line and "case knee_7" in line for line in lines)


def test_F22_a_scan_that_changed_after_preparing_gives_another_store(tmp_path):
    case, store = case_of(small_file(tmp_path / "a.nii")), Store(tmp_path / "s", (8, 8, 8), (2,))
    store.prepare(case)
    before = store.digest([case.case_id])
    write(case.image, np.random.default_rng(1).integers(0, 99, (8, 10, 12)).astype(np.int16))
    store.prepare(case)
    assert store.digest([case.case_id]) != before


def test_F10_F12_F13_none_of_270_damaged_files_is_taken_for_sound(tmp_path):
    """150 flipped bits, 60 cuts, 60 blocks of 4 KiB of zeros."""
    rng = np.random.default_rng(0)
    big = write(tmp_path / "big.nii.gz", rng.integers(0, 300, (20, 80, 90)).astype(np.int16))
    content, expected = big.read_bytes(), read_scan(big).voxels
    damaged = []
    for bit in rng.integers(8 * 10, 8 * len(content), 150):
        copy = bytearray(content)
        copy[bit // 8] ^= 1 << (bit % 8)
        damaged.append(copy)
    damaged += [content[:n] for n in rng.integers(1, len(content), 60)]
    for start in rng.integers(0, len(content) - 4096, 60):
        damaged.append(content[:start] + bytes(4096) + content[start + 4096 :])
    accepted = 0
    path = tmp_path / "damaged.nii.gz"
    for copy in damaged:
        path.write_bytes(copy)
        try:
            accepted += read_scan(path).voxels.shape == expected.shape
        except InputError:
            continue
    assert (len(damaged), accepted) == (270, 0)


REFUSED_HEADERS = [
    ("H01 bad magic", (344, "4s", b"nope"), "NIfTI header"),
    ("H02 no axes", (40, "h", 0), "dimensions"),
    ("H02 nine axes", (40, "h", 9), "dimensions"),
    ("H03 negative axis", (42, "h", -8), "dimensions"),
    ("H04 axis of zero", (42, "h", 0), "dimensions"),
    ("H05 two axes", (40, "h", 2), "dimensions"),
    ("H05 two volumes", (40, "hhhhh", 4, 8, 12, 5, 2), "shape"),
    ("H05 five axes", (40, "hhhhhh", 5, 8, 12, 5, 1, 2), "shape"),
    ("H09 colour", (70, "hh", 128, 24), "one real number"),
    ("H09 complex", (70, "hh", 32, 64), "one real number"),
    ("H09 bits", (70, "hh", 1, 1), "one real number"),
    ("H10 128-bit floats", (70, "hh", 1536, 128), "one real number"),
    ("H11 voxels from byte 0", (108, "f", 0.0), "begin at byte"),
    ("H11 voxels from far away", (108, "f", 1e9), "bytes"),
    ("H12 bits disagree", (72, "h", 8), "8 bits a voxel"),
    ("H13 slope Inf", (112, "ff", np.inf, 0), "scale"),
    ("H13 slope without offset", (112, "ff", 2, np.nan), "scale"),
    ("H14 pixdim 0", (80, "f", 0.0), "pixdim"),
    ("H14 pixdim negative", (80, "f", -1.4), "pixdim"),
    ("H14 pixdim NaN", (80, "f", np.nan), "pixdim"),
    ("H14 pixdim 1e-9", (80, "f", 1e-9), "pixdim"),
    ("H14 pixdim 1e4", (80, "f", 1e4), "pixdim"),
    ("H15 metre", (123, "B", 1), "lengths in metre"),
    ("H15 micrometre", (123, "B", 3), "lengths in micrometre"),
    ("H16 neither sform nor qform", (252, "hh", 0, 0), "neither sform nor qform"),
    ("H17 sform and qform apart", (292, "f", 8.0), "apart"),
    ("H17 sform and qform turned", (264, "f", 0.0175), "2.01 degrees apart"),
    ("H20 qform that is no rotation", (252, "hhfff", 1, 0, 1, 1, 1), "no rotation"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("patch", "said"), [pytest.param(p, s, id=n) for n, p, s in REFUSED_HEADERS]
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_cannot_be_right_is_refused(tmp_path, patch, said, ending):
    path = patched(small_file(tmp_path / "a.nii"), *patch)
    if ending == ".nii.gz":
        path = _bytes(tmp_path / "a.nii.gz", gzip.compress(path.read_bytes()))
    lines = told(case_of(path))
    assert len(lines) == 1
    assert lines[0].startswith("error: case knee_7: ")
    assert path.name in lines[0]
    assert said in lines[0]
    code, last = checked(case_of(path), tmp_path)
    assert code == 2
    assert_last_line_names(last, "case knee_7", path.name, said)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        pytest.param([[1.4, 0, 1.4], [0, 0.7, 0], [0, 0, 0]], "singular", id="H18 singular"),
        pytest.param([[1.4, 0.2, 0], [0, 0.7, 0], [0, 0, 0.7]], "right angles", id="H19 sheared"),
        pytest.param(np.diag([0.01, 0.7, 0.7]), "0.05 to 10 mm", id="H23 0.01 mm"),
        pytest.param(np.diag([1.4, 0.7, 12]), "0.05 to 10 mm", id="H23 12 mm"),
    ],
)
def test_an_affine_that_is_no_scan_s_is_refused(tmp_path, columns, said):
    path = patched(small_file(tmp_path / "a.nii"), 252, "hh", 0, 1)
    rows = np.zeros((3, 4))
    rows[:, :3] = columns
    patched(path, 280, "12f", *rows.ravel())
    patched(path, 80, "3f", *np.linalg.norm(rows[:, :3], axis=0))
    assert said in told(case_of(path))[0]
    code, last = checked(case_of(path), tmp_path)
    assert code == 2
    assert_last_line_names(last, "case knee_7", "a.nii", said)


@pytest.mark.parametrize(
    ("make", "same"),
    [
        pytest.param(lambda p: small_file(p, kind=nib.Nifti2Image), True, id="H07 NIfTI-2"),
        pytest.param(lambda p: small_file(p, np.int64), True, id="H10 int64"),
        pytest.param(lambda p: small_file(p, np.uint64), True, id="H10 uint64"),
        pytest.param(lambda p: patched(small_file(p), 112, "ff", 0, 0), True, id="H13 slope 0"),
        pytest.param(
            lambda p: patched(small_file(p), 112, "ff", np.nan, np.nan), True, id="H13 slope NaN"
        ),
        pytest.param(lambda p: patched(small_file(p), 123, "B", 0), True, id="H15 no unit"),
        pytest.param(
            lambda p: patched(small_file(p), 40, "hhhhh", 4, 8, 12, 10, 1),
            True,
            id="H06 4-D of one",
        ),
        pytest.param(
            lambda p: patched(small_file(p), 112, "ff", 1e30, 0), False, id="H13 slope 1e30 is told"
        ),
    ],
)
def test_an_odd_but_plain_header_is_read(tmp_path, make, same):
    expected = read_scan(small_file(tmp_path / "plain.nii")).voxels
    path = make(tmp_path / "a.nii")
    code, lines = checked(case_of(path), tmp_path)
    assert code == 1  # for the size of so small a knee
    assert any("intensities up to" in line and "case knee_7" in line for line in lines) != same
    if same:
        np.testing.assert_array_equal(read_scan(path).voxels, expected)


def test_H08_big_endian_reads_as_little_endian(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 200, (8, 10, 12)).astype(">i2")
    affine = np.diag([1.4, 0.72, 0.72, 1])
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    header.set_xyzt_units("mm")
    nib.save(nib.Nifti1Image(to_ras(voxels), affine, header), tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
    expected = read_scan(small_file(tmp_path / "little.nii")).voxels
    np.testing.assert_array_equal(read_scan(tmp_path / "big.nii").voxels, expected)


@pytest.mark.parametrize(
    ("spacing", "said"),
    [
        pytest.param((0.06, 0.72, 0.72), "0.06 mm apart", id="H23 0.06 mm"),
        pytest.param((5, 0.72, 0.72), "5.00 mm apart", id="H23 5 mm"),
        pytest.param((1.4, 3.0, 0.72), "30 mm from top to bottom", id="H24 30 mm"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_a_scan_that_is_not_of_a_knee_is_told(tmp_path, spacing, said, deep):
    case = case_of(small_file(tmp_path / "a.nii.gz", spacing=spacing))
    lines = told(case) if deep else [str(finding) for finding in look(case).findings]
    assert any(said in line and line.startswith("warning: case knee_7") for line in lines)


def test_H24_V11_fields_of_view_of_half_a_metre_and_of_two_voxels_are_told():
    for shape in ((160, 1600, 384), (16, 2048, 2048), (3, 3, 3)):
        geometry = Geometry(shape, np.diag([0.7, 0.365, 0.365, 1.0]))
        assert any("field of view" in line for line in geometry_warnings(geometry))


def test_a_cohort_without_fault_ends_with_0(tmp_path):
    """Twenty knees, all grades twice in both splits; their voxels are a hole in the file."""
    head = write(tmp_path / "head.nii", np.zeros((80, 192, 192), np.uint8)).read_bytes()[:352]
    rows = ["case_id,subject,side,split,kl,image,segmentation"]
    for number in range(20):
        path = _bytes(tmp_path / f"k{number:02d}.nii", head + bytes([number]))
        os.truncate(path, 352 + 80 * 192 * 192)
        split, kl = ("train", "test")[number % 2], (7 * number // 2) % 5
        rows.append(f"k{number:02d},p{number},right,{split},{kl},{path.name},")
    (tmp_path / "cohort.csv").write_text("\n".join([*rows, ""]))
    code, lines = ended("check", tmp_path / "cohort.csv")
    assert (code, [line.split(" ")[0] for line in lines]) == (0, ["check:"])


def test_nibabel_s_own_malformed_files_end_in_a_sentence_each():
    files = sorted((Path(nib.__file__).parent / "tests" / "data").iterdir())
    assert len(files) > 80
    for path in files:
        lines = told(case_of(path))
        assert all(
            line.startswith(("error: case knee_7", "warning: case knee_7")) for line in lines
        )
