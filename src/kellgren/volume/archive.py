"""The files of a zip archive, read with caps and never written anywhere."""

import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path

from kellgren.faults import InputError, unquoted
from kellgren.volume.inflate import SIZE_LIMIT

MEMBER_LIMIT = 10_000
# Deflate cannot pack a scan this much; only a bomb is packed so.
RATIO_LIMIT = 200
_SMALL = 1 << 20


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in the archive, in the order of their names.

    Names are for messages only. Folders and the hidden files of macOS are passed over.

    Raises:
        InputError: If it is no zip archive, damaged (each checksum is verified), encrypted, or
            declares more files or bytes than a scan has.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            listed = [info for info in archive.infolist() if not _passed_over(info)]
            _check_sizes(path, listed)
            for info in sorted(listed, key=lambda info: info.filename):
                yield _plain(info.filename), archive.read(info)
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "a zip archive", "check the path") from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, LZMAError) as error:
        raise InputError(
            str(path),
            f"a damaged archive ({unquoted(str(error))})",
            "a whole zip archive",
            "copy it again",
        ) from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed otherwise
        raise InputError(
            str(path),
            f"an archive that cannot be opened ({unquoted(str(error))})",
            "a plain zip archive",
            "unpack it, and give the folder",
        ) from error


def _check_sizes(path: Path, listed: list[zipfile.ZipInfo]) -> None:
    size = sum(info.file_size for info in listed)
    worst = max((info.file_size / max(info.compress_size, 1) for info in listed), default=0)
    if len(listed) > MEMBER_LIMIT or size > SIZE_LIMIT or (worst > RATIO_LIMIT and size > _SMALL):
        raise InputError(
            str(path),
            f"{len(listed)} files of {size} bytes in all, packed up to 1:{worst:.0f}",
            f"at most {MEMBER_LIMIT} files, {SIZE_LIMIT} bytes, 1:{RATIO_LIMIT}",
            "unpack it yourself if you trust it, and give the folder",
        )


def _passed_over(info: zipfile.ZipInfo) -> bool:
    return info.is_dir() or "__MACOSX/" in info.filename


def _plain(name: str) -> str:
    """The last part of a name, for messages: it may be hostile."""
    return "".join(c for c in name.replace("\\", "/").split("/")[-1] if c.isprintable())[:64]
