"""Files that are whole or absent: temporary name, fsync, rename, fsync of the folder."""

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xxhash
from numpy.lib.npyio import NpzFile

from kellgren.faults import InputError


@contextmanager
def completed(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; `path` appears only if the block succeeds.

    The temporary file stands in the same folder and keeps the suffixes of `path`, because some
    writers choose their format by them. It is removed where the block fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def completed_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; `path` appears, whole, only if the block succeeds.

    Raises:
        InputError: If something stands at `path` already.
    """
    if path.exists():
        raise InputError(str(path), "something there", "a new folder", "name or remove it")
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.replace(path)
        _fsync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def readable(path: Path, *, todo: str) -> Iterator[None]:
    """Around the reading of a table, JSON or NPZ file: whatever goes wrong is told with its name.

    Raises:
        InputError: If the file is missing, or no whole file of its kind.
    """
    try:
        yield
    except InputError:  # it is a ValueError, too
        raise
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "a whole file", todo) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            str(path), f"a file that cannot be read ({error})", "a whole file", todo
        ) from error


@contextmanager
def arrays_of(path: Path, *, todo: str) -> Iterator[NpzFile]:
    """The arrays of an NPZ file, never unpickled.

    Raises:
        InputError: If the file is missing or damaged.
    """
    with readable(path, todo=todo), path.open("rb") as packed:
        if not zipfile.is_zipfile(packed):
            raise InputError(str(path), "no NPZ file", "arrays in a zip archive", todo)
        packed.seek(0)
        with np.load(packed, allow_pickle=False) as arrays:
            yield arrays


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8 with Unix line ends."""
    with completed(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: object) -> None:
    """Write a JSON file whole; NaN is refused, since it is not JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def digest_of(content: object) -> str:
    """Digest of a JSON value, the same for the same content on any machine.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return xxhash.xxh3_64_hexdigest(text.encode())


def digest_of_file(path: Path) -> str:
    """Digest of the bytes of a file."""
    state = xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return state.hexdigest()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
