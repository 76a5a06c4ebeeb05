"""Safetensors files with a digest of every tensor and of the record beside them.

Safetensors itself does not notice a flipped bit; here each read does.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kellgren.faults import InputError
from kellgren.files import digest_of, write_bytes

Tensors = dict[str, Shaped[np.ndarray, "..."]]
Record = dict[str, Any]  # any JSON values


@dataclass(frozen=True)
class Sealed:
    """What a sealed file holds.

    Attributes:
        record: What was written beside the tensors.
        digests: Digest of type, shape and values of each tensor.
        tensors: The arrays; empty where only the record was asked for.
    """

    record: Record
    digests: dict[str, str]
    tensors: Tensors


def write_sealed(path: Path, tensors: Tensors, record: Record) -> None:
    """Write a file whole, with its digests."""
    digests = {name: _digest(array) for name, array in tensors.items()}
    seal = digest_of([record, digests])
    # One entry: safetensors writes several in no fixed order, and equal files should be equal.
    sealed = json.dumps({"record": record, "digests": digests, "seal": seal})
    write_bytes(path, save(tensors, metadata={"sealed": sealed}))


def read_sealed(path: Path, *, todo: str, names: Sequence[str] | None = None) -> Sealed:
    """Read a file and verify every byte that is used.

    Args:
        path: The file.
        todo: What to do where it is missing or damaged.
        names: The tensors that are wanted; None for all.

    Raises:
        InputError: If it is missing, cut short, or differs from what was written.
    """
    record, digests, tensors = _read(path, todo, names)
    for name, array in tensors.items():
        if _digest(array) != digests[name]:
            raise _damaged(path, f"'{name}' does not fit its digest", todo)
    return Sealed(record, digests, tensors)


def read_record(path: Path, *, todo: str) -> Sealed:
    """Read and verify the record and the digests, but not the tensors.

    Raises:
        InputError: If the file is missing or cut short, or the record differs from what was
            written.
    """
    record, digests, _ = _read(path, todo, ())
    return Sealed(record, digests, {})


def _read(
    path: Path, todo: str, names: Sequence[str] | None
) -> tuple[Record, dict[str, str], Tensors]:
    try:
        with safe_open(path, framework="numpy") as file:
            sealed = json.loads((file.metadata() or {})["sealed"])
            record, digests = sealed["record"], sealed["digests"]
            if digest_of([record, digests]) != sealed["seal"] or set(digests) != set(file.keys()):
                raise _damaged(path, "its record does not fit its digest", todo)
            wanted = file.keys() if names is None else names
            return record, digests, {name: file.get_tensor(name) for name in wanted}
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "a whole file", todo) from None
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise _damaged(path, str(error), todo) from error


def _digest(array: Shaped[np.ndarray, "..."]) -> str:
    state = xxhash.xxh3_64(f"{array.dtype.name} {array.shape}".encode())
    state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


def _damaged(path: Path, found: str, todo: str) -> InputError:
    return InputError(str(path), f"a damaged file ({found})", "the file as it was written", todo)
