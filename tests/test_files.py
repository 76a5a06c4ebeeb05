import json

import pytest

from kellgren.faults import InputError
from kellgren.files import completed, digest_of, digest_of_file, swept, write_json, write_text


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with completed(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with completed(path) as temporary:
            temporary.write_text("new")
            raise OSError("no space")

    with pytest.raises(
        InputError, match=r"a\.txt: found a file or folder that cannot be written \(no space"
    ):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_temporary_name_keeps_the_suffixes(tmp_path):
    with completed(tmp_path / "a.nii.gz") as temporary:
        temporary.write_bytes(b"")
        assert temporary.name.endswith(".nii.gz")


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "whole.csv").touch()
    with completed(tmp_path / "deep" / "half.csv") as temporary:
        temporary.touch()
    temporary.touch()
    swept(list(tmp_path.rglob("*")))
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["half.csv", "whole.csv"]


def test_not_a_number_is_not_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"auc": float("nan")})
    assert not list(tmp_path.iterdir())


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}


def test_digests_tell_contents_apart(tmp_path):
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    write_text(tmp_path / "a", "x")
    write_text(tmp_path / "b", "y")
    assert digest_of_file(tmp_path / "a") != digest_of_file(tmp_path / "b")
