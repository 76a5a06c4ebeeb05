import gzip
import itertools
import os
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
from scipy import ndimage

from kellgren.faults import InputError
from kellgren.volume import (
    Scan,
    dess_warnings,
    grid_spacing_mm,
    mirror,
    read_mask,
    read_scan,
    resample,
    resample_mask,
    share_of,
    to_scan_grid,
    write_nifti,
    zscore,
)

SHARED = Path(__file__).parents[2] / "shared" / "data"
SHAPE = (6, 9, 8)
# 0.7 mm slices, turned by 8 degrees about the vertical axis, as OAI knees are.
TURN = np.array([[np.cos(0.14), -np.sin(0.14), 0], [np.sin(0.14), np.cos(0.14), 0], [0, 0, 1]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * (0.7, 0.4, 0.5)
AFFINE[:3, 3] = (-10, 20, 30)


def made_voxels(dtype=np.int16):
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)


def made_nifti(path, *, voxels=None, affine=AFFINE, kind=nib.Nifti1Image):
    image = kind(made_voxels() if voxels is None else voxels, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def patched(path, offset, layout, *values):
    """The file with some bytes of its header written over."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + layout, content, offset, *values)
    path.write_bytes(content)
    return path


def refusal(path, reader=read_scan):
    with pytest.raises(InputError) as caught:
        reader(path)
    fault = caught.value
    assert all((fault.where, fault.found, fault.needed, fault.todo))
    assert path.name in str(fault)
    assert "\n" not in str(fault)
    return str(fault)


class TestFrame:
    def test_every_axis_order_and_flip_reads_as_the_same_scan(self, tmp_path):
        base = nib.load(made_nifti(tmp_path / "base.nii"))
        expected = read_scan(tmp_path / "base.nii")
        assert nib.aff2axcodes(expected.affine) == ("R", "I", "P")
        for order in itertools.permutations(range(3)):
            for flips in itertools.product((1, -1), repeat=3):
                turned = base.as_reoriented(np.array(list(zip(order, flips, strict=True))))
                nib.save(turned, tmp_path / "turned.nii")
                scan = read_scan(tmp_path / "turned.nii")
                np.testing.assert_array_equal(scan.voxels, expected.voxels)
                np.testing.assert_allclose(scan.affine, expected.affine, atol=1e-4)
                on_scan, affine = to_scan_grid(scan.voxels, scan, mirrored=False)
                np.testing.assert_allclose(on_scan, turned.get_fdata(), rtol=1e-6)
                np.testing.assert_allclose(affine, turned.affine, atol=1e-4)

    def test_a_voxel_stays_where_it_is_in_the_patient(self, tmp_path):
        voxels = np.zeros(SHAPE, np.int16)
        voxels[1, 2, 3] = 7
        scan = read_scan(made_nifti(tmp_path / "a.nii.gz", voxels=voxels))
        at = np.argwhere(scan.voxels == 7)[0]
        np.testing.assert_allclose(scan.affine @ [*at, 1], AFFINE @ [1, 2, 3, 1], atol=1e-4)
        np.testing.assert_allclose(scan.spacing_mm, (0.7, 0.5, 0.4), rtol=1e-5)

    def test_slices_go_toward_the_right_rows_down_and_columns_back(self, tmp_path):
        x, y, z = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
        for axis, ramp in enumerate((x, -z, -y)):
            path = made_nifti(
                tmp_path / "ramp.nii", voxels=ramp.astype(np.int16), affine=np.diag([1, 1, 1, 1.0])
            )
            steps = np.diff(read_scan(path).voxels, axis=axis)
            assert (steps == 1).all()

    def test_a_scan_between_two_axes_is_refused(self, tmp_path):
        half = np.sqrt(0.5)
        affine = np.eye(4)
        affine[:3, :3] = [[half, -half, 0], [half, half, 0], [0, 0, 1]]
        assert "45 degrees" in refusal(made_nifti(tmp_path / "a.nii", affine=affine))


class TestNiftiFiles:
    @pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8", ">i2"])
    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("ending", ["nii", "nii.gz"])
    def test_every_real_type_and_both_versions_are_read(self, tmp_path, dtype, kind, ending):
        voxels = made_voxels() % 100
        path = made_nifti(tmp_path / f"a.{ending}", voxels=voxels.astype(dtype), kind=kind)
        expected = np.transpose(voxels, (0, 2, 1))[:, ::-1, ::-1]
        np.testing.assert_array_equal(read_scan(path).voxels, expected)

    def test_big_endian_is_read(self, tmp_path):
        header = nib.Nifti1Header(endianness=">")
        header.set_data_dtype(">i2")
        header.set_sform(AFFINE, 1)
        header.set_data_shape(SHAPE)
        header.set_zooms((0.7, 0.4, 0.5))
        image = nib.Nifti1Image(made_voxels(">i2"), AFFINE, header)
        nib.save(image, tmp_path / "big.nii")
        made_nifti(tmp_path / "little.nii")
        assert (tmp_path / "big.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
        big, little = read_scan(tmp_path / "big.nii"), read_scan(tmp_path / "little.nii")
        np.testing.assert_array_equal(big.voxels, little.voxels)

    def test_stored_scale_is_applied(self, tmp_path):
        path = made_nifti(tmp_path / "a.nii")
        plain = read_scan(path).voxels
        patched(path, 112, "ff", 0.5, 3.0)
        np.testing.assert_allclose(read_scan(path).voxels, plain * 0.5 + 3)

    def test_a_last_axis_of_one_is_dropped(self, tmp_path):
        scan = read_scan(made_nifti(tmp_path / "a.nii.gz", voxels=made_voxels()[..., None]))
        assert scan.voxels.shape == (6, 8, 9)

    def test_the_file_that_is_named_is_read_and_not_its_neighbour(self, tmp_path):
        made_nifti(tmp_path / "a.nii", voxels=made_voxels() + 1)
        made_nifti(tmp_path / "a.nii.gz")
        difference = read_scan(tmp_path / "a.nii").voxels - read_scan(tmp_path / "a.nii.gz").voxels
        assert (difference == 1).all()

    def test_missing(self, tmp_path):
        assert "no such file" in refusal(tmp_path / "a.nii.gz")
        assert "no such file" in refusal(tmp_path / "a")

    def test_empty(self, tmp_path):
        (tmp_path / "a.nii.gz").write_bytes(b"")
        assert "0 bytes" in refusal(tmp_path / "a.nii.gz")

    def test_folder(self, tmp_path):
        (tmp_path / "a.nii.gz").mkdir()
        refusal(tmp_path / "a.nii.gz")
        assert "a folder" in refusal(tmp_path / "a.nii.gz", read_mask)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_unreadable(self, tmp_path):
        made_nifti(tmp_path / "a.nii.gz").chmod(0)
        assert "cannot be read" in refusal(tmp_path / "a.nii.gz")

    def test_links_that_lead_nowhere(self, tmp_path):
        (tmp_path / "dangling.nii").symlink_to(tmp_path / "gone.nii")
        (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
        refusal(tmp_path / "dangling.nii")
        refusal(tmp_path / "loop.nii")

    def test_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "a.nii")
        assert "no plain file" in refusal(tmp_path / "a.nii")

    def test_git_lfs_pointer(self, tmp_path):
        text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
        (tmp_path / "a.nii.gz").write_text(text)
        assert "git lfs pull" in refusal(tmp_path / "a.nii.gz")

    def test_web_page(self, tmp_path):
        (tmp_path / "a.nii.gz").write_text("\n<!DOCTYPE html><html>sign in</html>")
        assert "web page" in refusal(tmp_path / "a.nii.gz")

    def test_name_and_content_disagree_on_gzip(self, tmp_path):
        made_nifti(tmp_path / "plain.nii").rename(tmp_path / "plain.nii.gz")
        made_nifti(tmp_path / "packed.nii.gz").rename(tmp_path / "packed.nii")
        assert "rename it to '.nii'" in refusal(tmp_path / "plain.nii.gz")
        assert "rename it to '.nii.gz'" in refusal(tmp_path / "packed.nii")

    def test_unknown_ending(self, tmp_path):
        for ending in ("hdr", "img", "mgz", "png"):
            (tmp_path / f"a.{ending}").write_bytes(b"x")
            assert ".nii.gz" in refusal(tmp_path / f"a.{ending}")

    @pytest.mark.parametrize("ending", ["nii", "nii.gz"])
    def test_cut_anywhere(self, tmp_path, ending):
        path = made_nifti(tmp_path / f"a.{ending}")
        content = path.read_bytes()
        for length in (1, 9, 100, 345, len(content) // 2, *range(len(content) - 9, len(content))):
            path.write_bytes(content[:length])
            refusal(path)

    def test_any_flipped_bit_of_a_gzip_file_is_found(self, tmp_path):
        path = made_nifti(tmp_path / "a.nii.gz")
        content, expected = path.read_bytes(), read_scan(path)
        rng = np.random.default_rng(0)
        for bit in rng.integers(8 * len(content), size=150):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(damaged)
            try:
                scan = read_scan(path)
            except InputError:
                continue
            # Bits of the gzip header that say nothing about the content, such as its time.
            assert bit // 8 < 10
            np.testing.assert_array_equal(scan.voxels, expected.voxels)

    def test_a_block_of_zeros_is_found(self, tmp_path):
        path = made_nifti(tmp_path / "a.nii.gz")
        content = bytearray(path.read_bytes())
        content[200:300] = bytes(100)
        path.write_bytes(content)
        refusal(path)

    def test_wrong_checksum(self, tmp_path):
        path = made_nifti(tmp_path / "a.nii.gz")
        content = path.read_bytes()
        path.write_bytes(content[:-8] + b"\0\0\0\0" + content[-4:])
        assert "damaged" in refusal(path)

    def test_anything_after_the_end(self, tmp_path):
        for ending, surplus in (("nii", b"x"), ("nii", None), ("nii.gz", None)):
            path = made_nifti(tmp_path / f"a.{ending}")
            content = path.read_bytes()
            path.write_bytes(content + (surplus or content))
            refusal(path)

    def test_bytes_after_the_gzip_member_are_counted_and_passed_over(self, tmp_path):
        path = made_nifti(tmp_path / "a.nii.gz")
        sound = read_scan(path)
        path.write_bytes(path.read_bytes() + b"xyz")
        scan = read_scan(path)
        assert (sound.surplus, scan.surplus) == (0, 3)
        np.testing.assert_array_equal(scan.voxels, sound.voxels)

    def test_a_gzip_bomb_is_not_inflated(self, tmp_path):
        head = made_nifti(tmp_path / "a.nii").read_bytes()
        path = tmp_path / "bomb.nii.gz"
        path.write_bytes(gzip.compress(head + bytes(50_000_000), compresslevel=1))
        assert "more than the" in refusal(path)

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_header_that_declares_terabytes_allocates_nothing(self, tmp_path, packed):
        path = patched(made_nifti(tmp_path / "a.nii"), 40, "hhhh", 3, 32767, 32767, 32767)
        path = patched(path, 76, "ffff", 1, 0.7, 0.4, 0.5)
        if packed:
            content = path.read_bytes()
            path = tmp_path / "a.nii.gz"
            path.write_bytes(gzip.compress(content))
        refusal(path)

    def test_nibabel_s_own_odd_files_are_read_or_refused_by_name(self):
        said = {}
        for path in sorted((Path(nib.__file__).parent / "tests" / "data").glob("*.nii*")):
            try:
                scan = read_scan(path)
            except InputError as fault:
                said[path.name] = str(fault)
            else:
                assert np.isfinite(scan.voxels).all()
        assert all(name in message for name, message in said.items())


class TestNiftiHeaders:
    """Each case writes over some bytes of a sound NIfTI-1 header."""

    @pytest.mark.parametrize(
        ("offset", "layout", "values", "expected"),
        [
            pytest.param(344, "4s", (b"nope",), "NIfTI header", id="magic"),
            pytest.param(344, "4s", (b"ni1\0",), ".hdr/.img", id="pair"),
            pytest.param(0, "i", (347,), "NIfTI header", id="size"),
            pytest.param(40, "h", (0,), "dimensions", id="no axes"),
            pytest.param(40, "h", (9,), "dimensions", id="nine axes"),
            pytest.param(40, "h", (2,), "dimensions", id="two axes"),
            pytest.param(42, "h", (-6,), "dimensions", id="negative"),
            pytest.param(42, "h", (0,), "dimensions", id="zero"),
            pytest.param(42, "h", (1,), "bytes", id="shape and length differ"),
            pytest.param(40, "hhhhh", (4, 6, 9, 4, 2), "shape", id="two volumes"),
            pytest.param(40, "hhhhhh", (5, 6, 9, 4, 1, 2), "shape", id="five axes"),
            pytest.param(40, "hhhh", (3, 6, 72, 1), "two voxels|2 voxels", id="one slice"),
            pytest.param(70, "hh", (128, 24), "one real number", id="rgb"),
            pytest.param(70, "hh", (32, 64), "one real number", id="complex"),
            pytest.param(70, "hh", (1536, 128), "one real number", id="float128"),
            pytest.param(70, "hh", (1, 1), "one real number", id="bits"),
            pytest.param(72, "h", (8,), "8 bits a voxel", id="bitpix"),
            pytest.param(108, "f", (0.0,), "begin at byte", id="offset 0"),
            pytest.param(108, "f", (1e9,), "bytes", id="offset huge"),
            pytest.param(108, "f", (np.nan,), "begin at byte", id="offset nan"),
            pytest.param(112, "ff", (np.inf, 0), "scale", id="slope inf"),
            pytest.param(112, "ff", (1, np.nan), "scale", id="intercept nan"),
            pytest.param(80, "f", (0.0,), "pixdim", id="pixdim 0"),
            pytest.param(80, "f", (-0.7,), "pixdim", id="pixdim negative"),
            pytest.param(80, "f", (np.nan,), "pixdim", id="pixdim nan"),
            pytest.param(80, "f", (0.9,), "pixdim", id="pixdim other than sform"),
            pytest.param(123, "B", (1,), "metre", id="unit metre"),
            pytest.param(123, "B", (3,), "micrometre", id="unit micrometre"),
            pytest.param(252, "hh", (0, 0), "neither sform nor qform", id="no orientation"),
            pytest.param(252, "hhfff", (1, 0, 1, 1, 1), "no rotation", id="qform no rotation"),
            pytest.param(292, "f", (-8.0,), "apart", id="sform and qform 2 mm apart"),
            pytest.param(280, "ffff", (np.nan,) * 4, "sform", id="sform nan"),
        ],
    )
    def test_a_header_that_cannot_be_right_is_refused(
        self, tmp_path, offset, layout, values, expected
    ):
        path = patched(made_nifti(tmp_path / "a.nii"), offset, layout, *values)
        with pytest.raises(InputError, match=expected):
            read_scan(path)

    def test_slope_of_zero_means_that_there_is_none(self, tmp_path):
        path = made_nifti(tmp_path / "a.nii")
        plain = read_scan(path).voxels
        np.testing.assert_array_equal(read_scan(patched(path, 112, "ff", 0.0, 5.0)).voxels, plain)

    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            ([[0.7, 0, 0.7], [0, 0.4, 0], [0, 0, 0]], "singular"),
            ([[0.7, 0.1, 0], [0, 0.4, 0], [0, 0, 0.5]], "right angles"),
            (np.diag([0.01, 0.4, 0.5]), "0.05 to 10 mm"),
            (np.diag([0.7, 0.4, 11.0]), "0.05 to 10 mm"),
        ],
    )
    def test_an_affine_that_cannot_be_a_scan_is_refused(self, tmp_path, columns, expected):
        affine = np.eye(4)
        affine[:3, :3] = columns
        path = patched(made_nifti(tmp_path / "a.nii"), 252, "hh", 0, 1)
        patched(path, 280, "12f", *affine[:3].ravel())
        patched(path, 80, "3f", *np.linalg.norm(affine[:3, :3], axis=0))
        assert expected in refusal(path)

    def test_qform_alone_is_enough(self, tmp_path):
        path = made_nifti(tmp_path / "a.nii")
        both = read_scan(path)
        alone = read_scan(patched(path, 254, "h", 0))
        np.testing.assert_allclose(alone.affine, both.affine, atol=1e-4)


class TestVoxels:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_one_voxel_that_is_no_number_is_refused(self, tmp_path, bad):
        voxels = made_voxels(np.float32)
        voxels[1, 1, 1] = bad
        assert "1 voxels" in refusal(made_nifti(tmp_path / "a.nii.gz", voxels=voxels))

    def test_beyond_float32_is_refused(self, tmp_path):
        voxels = made_voxels(np.float64)
        voxels[1, 1, 1] = 1e300
        assert "infinite" in refusal(made_nifti(tmp_path / "a.nii.gz", voxels=voxels))

    @pytest.mark.parametrize("value", [0, 7])
    def test_a_constant_volume_is_refused(self, tmp_path, value):
        path = made_nifti(tmp_path / "a.nii.gz", voxels=np.full(SHAPE, value, np.int16))
        assert "same value" in refusal(path)


class TestMask:
    def test_it_lies_on_its_scan(self, tmp_path):
        scan = read_scan(made_nifti(tmp_path / "scan.nii"))
        labels = (made_voxels() % 6).astype(np.uint8)
        turned = nib.Nifti1Image(labels, AFFINE).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
        nib.save(turned, tmp_path / "mask.nii.gz")
        mask = read_mask(tmp_path / "mask.nii.gz", like=scan)
        np.testing.assert_array_equal(mask.labels, scan.voxels % 6)
        assert mask.spacing_mm == pytest.approx(scan.spacing_mm)

    @pytest.mark.parametrize("bad", [0.999, -1, 256, 300, np.nan])
    def test_labels_are_whole_numbers_that_fit(self, tmp_path, bad):
        labels = np.ones(SHAPE, np.float32)
        labels[1, 1, 1] = bad
        path = made_nifti(tmp_path / "a.nii", voxels=labels)
        assert "0 to 255" in refusal(path, read_mask)

    def test_whole_numbers_stored_as_floats_are_labels(self, tmp_path):
        labels = (made_voxels() % 6).astype(np.float64)
        assert read_mask(made_nifti(tmp_path / "a.nii", voxels=labels)).labels.max() == 5

    def test_an_empty_mask_is_read(self, tmp_path):
        path = made_nifti(tmp_path / "a.nii", voxels=np.zeros(SHAPE, np.uint8))
        assert share_of(read_mask(path).labels, (2, 4, 5)) == 0

    def test_another_shape_is_refused(self, tmp_path):
        scan = read_scan(made_nifti(tmp_path / "scan.nii"))
        path = made_nifti(tmp_path / "mask.nii", voxels=np.ones((6, 9, 7), np.uint8))
        with pytest.raises(InputError, match=r"mask\.nii.*\(6, 7, 9\).*\(6, 8, 9\)"):
            read_mask(path, like=scan)

    def test_another_place_is_refused_with_its_distance(self, tmp_path):
        scan = read_scan(made_nifti(tmp_path / "scan.nii"))
        moved = AFFINE.copy()
        moved[0, 3] += 3
        path = made_nifti(tmp_path / "mask.nii", voxels=np.ones(SHAPE, np.uint8), affine=moved)
        with pytest.raises(InputError, match="3 mm off"):
            read_mask(path, like=scan)


def made_nrrd(path, *, voxels=None, **fields):
    header = {
        "space": "left-posterior-superior",
        "space directions": (np.diag([-1, -1, 1]) @ AFFINE[:3, :3]).T,
        "space origin": np.diag([-1, -1, 1]) @ AFFINE[:3, 3],
        "encoding": "gzip",
    }
    header = {name: value for name, value in (header | fields).items() if value is not None}
    nrrd.write(str(path), made_voxels() if voxels is None else voxels, header)
    return path


class TestNrrd:
    @pytest.mark.parametrize("encoding", ["raw", "gzip"])
    @pytest.mark.parametrize("ending", ["nrrd", "nhdr"])
    def test_it_reads_as_the_same_scan_as_nifti(self, tmp_path, encoding, ending):
        expected = read_scan(made_nifti(tmp_path / "a.nii"))
        scan = read_scan(made_nrrd(tmp_path / f"a.{ending}", encoding=encoding))
        np.testing.assert_array_equal(scan.voxels, expected.voxels)
        np.testing.assert_allclose(scan.affine, expected.affine, atol=1e-5)

    @pytest.mark.parametrize(
        ("space", "signs"), [("RAS", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1))]
    )
    def test_every_named_space_is_understood(self, tmp_path, space, signs):
        expected = read_scan(made_nifti(tmp_path / "a.nii"))
        path = made_nrrd(
            tmp_path / "a.nrrd",
            space=space,
            **{
                "space directions": (np.diag(signs) @ AFFINE[:3, :3]).T,
                "space origin": signs * AFFINE[:3, 3],
            },
        )
        scan = read_scan(path)
        np.testing.assert_array_equal(scan.voxels, expected.voxels)
        np.testing.assert_allclose(scan.affine, expected.affine, atol=1e-5)

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"space": None, "space directions": None, "space origin": None}, "no space"),
            ({"space": "scanner-xyz"}, "another space"),
            ({"space directions": None}, "space directions"),
            ({"space origin": None}, "singular|origin"),
            ({"space units": ["m", "m", "m"]}, "mm"),
            ({"encoding": "bzip2"}, "raw or gzip"),
            ({"encoding": "ascii"}, "raw or gzip"),
        ],
    )
    def test_what_is_not_said_is_not_guessed(self, tmp_path, fields, expected):
        path = made_nrrd(tmp_path / "a.nrrd", **fields)
        with pytest.raises(InputError, match=expected):
            read_scan(path)

    def test_damage_is_found(self, tmp_path):
        path = made_nrrd(tmp_path / "a.nrrd")
        content = path.read_bytes()
        start = content.index(b"\n\n") + 2
        flipped = bytearray(content)
        flipped[start + 200] ^= 4
        for damaged in (flipped, content[:-1], content[:start], content[:40], b"x"):
            path.write_bytes(damaged)
            refusal(path)
        path.write_bytes(content + b"x")
        assert read_scan(path).surplus == 1

    def test_raw_voxels_must_be_all_there_and_no_more(self, tmp_path):
        path = made_nrrd(tmp_path / "a.nrrd", encoding="raw")
        content = path.read_bytes()
        for damaged in (content[:-1], content + b"x"):
            path.write_bytes(damaged)
            assert "as the header declares" in refusal(path)

    def test_voxels_in_another_folder_are_not_followed(self, tmp_path):
        path = made_nrrd(tmp_path / "a.nhdr")
        text = path.read_text().replace("data file: a.raw.gz", "data file: ../a.raw.gz")
        assert ".." in text
        path.write_text(text)
        assert "same folder" in refusal(path)

    @pytest.mark.parametrize("name", ["type: short", "sizes: 6 9 8", "dimension: 3"])
    def test_a_field_that_makes_no_sense_is_refused(self, tmp_path, name):
        path = made_nrrd(tmp_path / "a.nrrd")
        field = name.split(":")[0].encode()
        content = path.read_bytes()
        for value in (b"block", b"-1 5 5", b"99999 99999 99999", b""):
            lines = [
                field + b": " + value if line.startswith(field + b":") else line
                for line in content.split(b"\n")
            ]
            path.write_bytes(b"\n".join(lines))
            refusal(path)


class TestGrid:
    def test_zscore_has_mean_0_and_deviation_1(self):
        z = zscore(np.random.default_rng(0).normal(1000, 5, (7, 8, 9)).astype(np.float32))
        assert z.dtype == np.float32
        assert z.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
        assert z.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)

    def test_zscore_ignores_gain_and_offset(self):
        voxels = made_voxels(np.float32)
        np.testing.assert_allclose(zscore(voxels * 8 + 3), zscore(voxels), atol=1e-5)

    def test_zscore_of_a_constant_is_refused(self):
        with pytest.raises(InputError, match="same value"):
            zscore(np.full(SHAPE, 4, np.float32))

    def test_one_outlier_reaches_the_square_root_of_n_minus_1(self):
        voxels = np.zeros(SHAPE, np.float32)
        voxels[0, 0, 0] = 1e30
        assert zscore(voxels).max() == pytest.approx(np.sqrt(voxels.size - 1), rel=1e-5)

    @pytest.mark.parametrize("grid", [(3, 5, 4), (12, 18, 16), (6, 9, 8), (5, 20, 3), (1, 1, 1)])
    def test_resampling_is_torch_s_trilinear(self, grid):
        torch = pytest.importorskip("torch")
        voxels = np.random.default_rng(0).normal(5, 2, SHAPE).astype(np.float32)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(voxels)[None, None], grid, mode="trilinear", align_corners=False
        )
        np.testing.assert_allclose(resample(voxels, grid), expected[0, 0].numpy(), rtol=1e-5)

    @pytest.mark.parametrize("grid", [(3, 5, 4), (12, 18, 16), (6, 9, 8), (5, 20, 3), (1, 1, 1)])
    def test_mask_resampling_is_torch_s_nearest_exact(self, grid):
        torch = pytest.importorskip("torch")
        labels = np.random.default_rng(0).integers(0, 250, SHAPE).astype(np.uint8)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(labels)[None, None], grid, mode="nearest-exact"
        )
        np.testing.assert_array_equal(resample_mask(labels, grid), expected[0, 0].numpy())

    def test_mask_and_scan_are_sampled_at_the_same_centres(self):
        ramp = np.broadcast_to(np.arange(40, dtype=np.float32), (2, 2, 40))
        scan = resample(np.ascontiguousarray(ramp), (2, 2, 10))[0, 0]
        mask = resample_mask(ramp.astype(np.uint8), (2, 2, 10))[0, 0]
        np.testing.assert_allclose(scan, np.arange(1.5, 40, 4), rtol=1e-6)
        np.testing.assert_array_equal(mask, np.ceil(scan))

    def test_a_map_comes_back_to_the_voxel_it_is_about(self, tmp_path):
        voxels = np.zeros((20, 30, 40), np.float32)
        voxels[14:16, 6:9, 30:33] = 1
        path = made_nifti(tmp_path / "a.nii", voxels=voxels)
        scan = read_scan(path)
        for mirrored in (False, True):
            seen = resample(mirror(scan.voxels) if mirrored else scan.voxels, (10, 16, 14))
            on_scan, affine = to_scan_grid(seen, scan, mirrored=mirrored)
            assert on_scan.shape == voxels.shape
            assert on_scan.dtype == np.float32
            np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
            centre = ndimage.center_of_mass(on_scan)
            np.testing.assert_allclose(centre, ndimage.center_of_mass(voxels), atol=0.6)

    def test_the_field_of_view_stays(self, tmp_path):
        scan = read_scan(made_nifti(tmp_path / "a.nii"))
        np.testing.assert_allclose(
            np.array(grid_spacing_mm(scan, (3, 5, 7))) * (3, 5, 7),
            np.array(scan.spacing_mm) * scan.voxels.shape,
        )


class TestWriting:
    def test_what_is_written_is_read_back(self, tmp_path):
        voxels = made_voxels(np.float32)
        for name in ("a.nii", "a.nii.gz"):
            write_nifti(tmp_path / name, voxels, AFFINE)
            image = nib.load(tmp_path / name)
            np.testing.assert_array_equal(image.get_fdata(), voxels)
            np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
            assert read_scan(tmp_path / name).voxels.shape == (6, 8, 9)

    def test_no_identifier_goes_along(self, tmp_path):
        write_nifti(tmp_path / "Jane_Doe.nii.gz", made_voxels(), AFFINE)
        packed = (tmp_path / "Jane_Doe.nii.gz").read_bytes()
        header = nib.load(tmp_path / "Jane_Doe.nii.gz").header
        assert b"Jane" not in packed + gzip.decompress(packed)
        for field in ("descrip", "aux_file", "intent_name", "db_name"):
            assert header[field].item().strip(b"\0") == b""
        assert not header.extensions

    def test_a_failed_write_leaves_nothing(self, tmp_path):
        with pytest.raises(Exception, match=r"affine|shape"):
            write_nifti(tmp_path / "a.nii", made_voxels(), np.eye(3))
        assert list(tmp_path.iterdir()) == []


def made_scan(shape, spacing, **about):
    affine = np.diag([spacing[0], spacing[2], spacing[1], 1.0])[:, [0, 2, 1, 3]] * (1, -1, -1, 1)
    voxels = np.broadcast_to(np.float32(1), shape)
    return Scan(voxels, affine, shape, affine, **about)


class TestProtocol:
    def test_a_dess_scan_passes(self):
        scan = made_scan((160, 384, 384), (0.7, 0.3646, 0.3646))
        assert scan.spacing_mm == pytest.approx((0.7, 0.3646, 0.3646))
        assert dess_warnings(scan) == []

    def test_thick_slices_are_not_dess(self):
        said = dess_warnings(made_scan((24, 256, 256), (4, 0.625, 0.625)))
        assert len(said) == 1
        assert "4.00 mm" in said[0]
        assert "not a DESS scan" in said[0]

    def test_part_of_a_knee_is_noticed(self):
        said = dess_warnings(made_scan((40, 100, 384), (0.7, 0.3646, 0.3646)))
        assert sum("field of view" in sentence for sentence in said) == 2

    @pytest.mark.parametrize(
        ("about", "expected"),
        [
            ({"description": "SAG_3D_DESS_LEFT", "modality": "MR"}, []),
            ({"description": "", "modality": "MR"}, ["no description"]),
            ({"description": "COR_T1", "modality": "MR"}, ["nothing of 'DESS'"]),
            ({"description": "dess", "modality": "CT"}, ["'CT'"]),
        ],
    )
    def test_what_the_series_says_of_itself_is_heard(self, about, expected):
        said = dess_warnings(made_scan((160, 384, 384), (0.7, 0.3646, 0.3646), **about))
        assert len(said) == len(expected)
        assert all(word in sentence for word, sentence in zip(expected, said, strict=True))


needs_masks = pytest.mark.skipif(
    not (SHARED / "oaizib_masks").is_dir(), reason="the ten real label maps are not here"
)
needs_knee = pytest.mark.skipif(
    not (SHARED / "real_knee").is_dir(), reason="the real knee is not here"
)


@needs_masks
def test_cartilage_is_about_one_percent_of_a_real_knee():
    paths = sorted((SHARED / "oaizib_masks").glob("*.nii.gz"))
    assert len(paths) == 10
    for path in paths:
        mask = read_mask(path)
        assert mask.labels.shape == (160, 384, 384)
        np.testing.assert_allclose(mask.spacing_mm, (0.7, 140 / 384, 140 / 384), rtol=1e-4)
        assert 0.005 < share_of(mask.labels, (2, 4)) < 0.015


@needs_masks
@pytest.mark.parametrize("grid", [(160, 256, 256), (128, 128, 128)])
def test_resampling_keeps_the_share_of_cartilage_within_a_tenth(grid):
    mask = read_mask(SHARED / "oaizib_masks" / "oaizib_002.nii.gz").labels
    on_scan, on_grid = share_of(mask, (2, 4)), share_of(resample_mask(mask, grid), (2, 4))
    assert abs(on_grid / on_scan - 1) < 0.1


@needs_masks
def test_femur_lies_above_tibia_and_the_patella_in_front():
    labels = read_mask(SHARED / "oaizib_masks" / "oaizib_002.nii.gz").labels
    femur, tibia, patella = (
        np.array(ndimage.center_of_mass(labels == label)) for label in (1, 3, 5)
    )
    assert femur[1] < tibia[1]
    assert patella[2] < femur[2]


@needs_knee
def test_a_label_map_in_nrrd_reads_as_a_mask():
    mask = read_mask(SHARED / "real_knee" / "SAG_3D_DESS_RIGHT_bones_cart_men_fib-label.nrrd")
    assert mask.labels.shape == (160, 384, 384)
    assert np.unique(mask.labels).tolist() == list(range(11))
    femur, tibia = (ndimage.center_of_mass(mask.labels == label) for label in (5, 6))
    assert femur[1] < tibia[1]
    medial, lateral = (ndimage.center_of_mass(mask.labels == label) for label in (2, 3))
    assert medial[0] < lateral[0]  # of a right knee the lateral side is the patient's right


@needs_knee
def test_a_spin_echo_scan_is_said_not_to_be_dess():
    scan = read_scan(SHARED / "real_knee" / "MESE_T2_echo1_TE6.3ms.nii.gz")
    assert any("not a DESS scan" in sentence for sentence in dess_warnings(scan))


def test_reading_scans_loads_no_torch():
    code = "import sys, kellgren.store, kellgren.importers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
