"""What is asked of a file of weights before it is read, and of what it holds before it is used.

Reading runs nothing that a file holds; but torch unpacks whatever is packed, of any size, and a few
bytes can stand for a tensor of any size.
"""

import stat
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from kellgren.faults import InputError

SIZE_LIMIT = 4 << 30  # bytes; released files of these networks are far smaller
_ZIP = b"PK\x03\x04"  # how torch tells its archives from its older files


def check_size(path: Path) -> None:
    """Refuse, before it is read, what is no plain file or takes more memory than weights do.

    Raises:
        InputError: If it is no file, is larger than 4 GiB, or is an archive that unpacks to more
            than it is; torch itself packs nothing.
        OSError: If it is not there.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise _unlike(path, "no plain file", "a file of weights", "check the path")
    if status.st_size > SIZE_LIMIT:
        raise _unlike(path, f"{status.st_size} bytes", f"at most {SIZE_LIMIT}")
    unpacked = _unpacked(path)
    if unpacked > status.st_size:
        found = f"an archive of {status.st_size} bytes that unpacks to {unpacked}"
        raise _unlike(path, found, "one that holds its tensors as they are, as torch writes it")


def is_plain(value: object) -> bool:
    """Whether it is a tensor of real numbers that all lie in the file: no view that repeats a few.

    >>> is_plain(torch.zeros(3)), is_plain(torch.zeros(1).expand(10**9)), is_plain("weight")
    (True, False, False)
    """
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested or value.is_complex())
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _unpacked(path: Path) -> int:
    """Bytes of all members of a zip archive; 0 for another file."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return 0
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        todo = "download it again"
        raise _unlike(path, f"a damaged archive ({error})", "a whole file", todo) from error


def _unlike(path: Path, found: str, needed: str, todo: str = "choose another file") -> InputError:
    return InputError(str(path), found, needed, todo)
