"""Bytes of a scan file, read whole and inflated with a cap and a checksum."""

import stat
from collections.abc import Callable
from pathlib import Path

from isal import igzip_lib

from kellgren.faults import InputError

SIZE_LIMIT = 4 << 30
GZIP_MAGIC = b"\x1f\x8b"

_HEAD = 1024
_PACKED_HEAD = 1 << 16
_DOWNLOAD = "download or copy the file again"


def read_file(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        InputError: If it is missing, empty, not a plain file, not readable, larger than 4 GiB, or
            text where a scan should be (a Git LFS pointer, a web page).
    """
    return _read(path, None)


def read_file_head(path: Path) -> bytes:
    """The first bytes of a file, enough for any header and for its first packed block.

    Raises:
        InputError: As for `read_file`.
    """
    return _read(path, _PACKED_HEAD)


def inflate_head(path: Path, packed: bytes) -> bytes:
    """The first bytes (up to 1024) of a gzip member that may be cut short.

    Raises:
        InputError: If they are damaged.
    """
    return _inflate(path, packed, _HEAD)[0]


def _read(path: Path, limit: int | None) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(str(path), "no plain file", "a scan file", "check the path")
        if not 0 < status.st_size <= SIZE_LIMIT:
            raise InputError(
                str(path), f"{status.st_size} bytes", f"1 to {SIZE_LIMIT} bytes", _DOWNLOAD
            )
        with path.open("rb") as file:
            content = file.read(limit)
    except InputError:  # it is a ValueError, too
        raise
    except FileNotFoundError:
        raise InputError(
            str(path), "no such file", "a scan or label map", "put it there, or correct the path"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(
            str(path),
            f"a file that cannot be read ({getattr(error, 'strerror', None) or error})",
            "a readable scan file",
            "check its permissions, links and disk",
        ) from error
    _refuse_text(path, content[:_HEAD])
    return content


def inflate(path: Path, packed: bytes, *, declared: Callable[[bytes], int]) -> tuple[bytes, int]:
    """Inflate one gzip member, never to more bytes than its own header declares.

    Args:
        path: Named in errors.
        packed: The gzip member.
        declared: Gives the full size, from the first inflated bytes (up to 1024).

    Returns:
        The inflated bytes, which the checksum of the member vouches for; and how many bytes follow
        the member, which nobody looks at.

    Raises:
        InputError: If the stream is cut short, damaged (its checksum is verified), longer than
            declared, or followed by a second member, since the volume may go on there.
    """
    size = declared(inflate_head(path, packed[:_PACKED_HEAD]))
    content, ended, surplus = _inflate(path, packed, size + 1)
    if len(content) > size:
        raise InputError(
            str(path),
            f"more than the {size} bytes that the header declares",
            "one gzip member that holds just the volume",
            _DOWNLOAD,
        )
    if surplus.startswith(GZIP_MAGIC):
        raise InputError(
            str(path),
            f"a second gzip member after {len(content)} of {size} bytes",
            "one gzip member that holds the whole volume",
            "unpack it with gunzip, look what it holds, and pack that again",
        )
    if len(content) < size or not ended:
        raise InputError(
            str(path),
            f"a file cut short ({len(content)} of {size} bytes, or no checksum at the end)",
            "the whole file",
            _DOWNLOAD,
        )
    return content, len(surplus)


def _inflate(path: Path, packed: bytes, limit: int) -> tuple[bytes, bool, bytes]:
    """Up to `limit` bytes, whether the member ended there, and what follows it."""
    stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    try:
        content = stream.decompress(packed, limit)
    except igzip_lib.IsalError as error:  # type: ignore[misc]
        raise InputError(
            str(path), f"a damaged gzip file ({error})", "an undamaged file", _DOWNLOAD
        ) from error
    return content, stream.eof, stream.unused_data if stream.eof else b""


def _refuse_text(path: Path, head: bytes) -> None:
    lowered = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lowered.startswith(b"version https://git-lfs"):
        raise InputError(
            str(path), "a Git LFS pointer, not the file itself", "the scan", "run 'git lfs pull'"
        )
    if lowered.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(
            str(path), "a web page saved under this name", "the scan", "download the file again"
        )
