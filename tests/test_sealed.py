import numpy as np
import pytest

from kellgren.faults import InputError
from kellgren.sealed import read_record, read_sealed, write_sealed

IMAGE = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float16)
MASK = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


@pytest.fixture
def path(tmp_path):
    write_sealed(tmp_path / "a.safetensors", {"image": IMAGE, "mask": MASK}, {"n": 1.5})
    return tmp_path / "a.safetensors"


def test_what_is_written_is_read_back(path):
    sealed = read_sealed(path, todo="again")
    assert sealed.record == {"n": 1.5}
    np.testing.assert_array_equal(sealed.tensors["image"], IMAGE)
    np.testing.assert_array_equal(sealed.tensors["mask"], MASK)
    assert read_record(path, todo="again").digests == sealed.digests


def test_every_flipped_bit_is_found(path):
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="again"):
            read_sealed(path, todo="again")


def test_every_cut_is_found(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="again"):
            read_sealed(path, todo="again")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"b\.safetensors: found no such file.*again"):
        read_sealed(tmp_path / "b.safetensors", todo="again")


def test_a_file_without_a_seal_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"image": IMAGE}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="damaged"):
        read_record(tmp_path / "a.safetensors", todo="again")


def test_digests_tell_type_and_shape_apart(tmp_path):
    tensors = {
        "a": np.zeros((2, 4), np.uint8),
        "b": np.zeros((4, 2), np.uint8),
        "c": np.zeros((2, 2), np.float16),
    }
    write_sealed(tmp_path / "a.safetensors", tensors, {})
    assert len(set(read_record(tmp_path / "a.safetensors", todo="").digests.values())) == 3
