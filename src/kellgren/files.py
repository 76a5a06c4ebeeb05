"""Files that are whole or absent: temporary name, fsync, rename, fsync of the folder."""

import json
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import xxhash
from numpy.lib.npyio import NpzFile

from kellgren.faults import InputError

_UNFINISHED = ".unfinished-"


@contextmanager
def completed(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; `path` appears only if the block succeeds.

    The temporary file stands in the same folder and keeps the suffixes of `path`, because some
    writers choose their format by them. It is removed where the block fails; that of a process
    that was killed stays until `swept`.

    Raises:
        InputError: If the disk is full, fails or may not be written to.
    """
    temporary = _beside(path)
    try:
        with writable(path):
            make_folder(path.parent)
            yield temporary
            _fsync(temporary)
            temporary.replace(path)
            _fsync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Around whatever changes a file or folder: what the disk refuses is told with its name.

    Raises:
        InputError: If the disk is full, fails or may not be written to.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            str(path),
            f"a file or folder that cannot be written ({error.strerror or error})",
            "a disk with room that may be written to",
            "see to it and give the same command again; what is finished is kept",
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that a loss of power does not take them away again.

    Raises:
        OSError: If it cannot be made.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _fsync(folder.parent)


def swept(paths: Iterable[Path]) -> None:
    """Remove those that killed processes left half-written; nobody else may write there now."""
    for path in paths:
        if path.name.startswith(_UNFINISHED) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(_UNFINISHED):
            path.unlink(missing_ok=True)


@contextmanager
def completed_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; `path` appears, whole, only if the block succeeds.

    Raises:
        InputError: If something stands at `path` already, or the disk refuses.
    """
    if path.exists():
        raise InputError(str(path), "something there", "a new folder", "name or remove it")
    temporary = _beside(path)
    try:
        with writable(path):
            make_folder(temporary)
            yield temporary
            for part in [*temporary.rglob("*"), temporary]:
                _fsync(part)
            temporary.replace(path)
            _fsync(path.parent)
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


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole.

    Safetensors, too, are written from memory: its own writer makes a temporary file that nobody
    else on the machine may read, and leaves it where the process is killed.
    """
    with completed(path) as temporary:
        temporary.write_bytes(content)


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
    return digest_of_bytes(text.encode())


def digest_of_bytes(content: bytes) -> str:
    """Digest of the bytes of a file that is still in memory."""
    return xxhash.xxh3_64_hexdigest(content)


def digest_of_file(path: Path) -> str:
    """Digest of the bytes of a file."""
    state = xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return state.hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(f"{_UNFINISHED}{secrets.token_hex(4)}-{path.name}")


def _fsync(path: Path) -> None:
    """Wait until a file or the entries of a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
