"""A sweep: one study file that stands for a whole study at each combination of some values."""

import re
from copy import deepcopy
from itertools import product
from typing import Any

from kellgren.faults import InputError

Content = dict[str, Any]  # a study file as TOML gives it

VALUE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def variants(content: Content, where: str) -> dict[str, Content]:
    """The study file of each combination of the values in its table `[sweep]`, by its name.

    A name is that of a folder: `key=value`, several joined by a comma; that of a file without a
    sweep is empty. Keys are dotted, values are lists, and the last key changes fastest. Whether a
    key exists and may have the value is seen when the variant is read as a study.

    Args:
        content: The study file.
        where: Its name, for messages.

    >>> list(variants({"name": "a", "sweep": {"training.lr": [0.1, 0.01]}}, "a.toml"))
    ['training.lr=0.1', 'training.lr=0.01']
    >>> variants({"name": "a"}, "a.toml")
    {'': {'name': 'a'}}

    Raises:
        InputError: If `[sweep]` is no table of lists, a value cannot name a folder or stands twice,
            or a key goes through what is no table.
    """
    plain = {key: value for key, value in content.items() if key != "sweep"}
    sweep = content.get("sweep", {})
    if not isinstance(sweep, dict):
        raise _fault(where, "sweep", sweep, "a table of dotted keys and lists")
    for key, values in sweep.items():
        _check(where, key, values)
    found = {}
    for chosen in product(*sweep.values()):
        pairs = dict(zip(sweep, chosen, strict=True))
        variant = deepcopy(plain)
        for key, value in pairs.items():
            _set(variant, key, value, where)
        found[",".join(f"{key}={value}" for key, value in pairs.items())] = variant
    return found


def _check(where: str, key: str, values: object) -> None:
    if not isinstance(values, list) or not values:
        needed = "a list of values; quote a dotted key"
        raise _fault(where, f"sweep.{key}", values, needed)
    for value in values:
        if not isinstance(value, str | int | float) or not VALUE.fullmatch(str(value)):
            raise _fault(where, f"sweep.{key}", value, "numbers or plain words")
    if len({str(value) for value in values}) != len(values):
        raise _fault(where, f"sweep.{key}", values, "each value once")


def _set(content: Content, key: str, value: object, where: str) -> None:
    *tables, last = key.split(".")
    for name in tables:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise _fault(where, f"sweep.{key}", content, f"'{name}' to be a table")
    content[last] = value


def _fault(where: str, key: str, found: object, needed: str) -> InputError:
    return InputError(f"{where}, key '{key}'", repr(found), needed, "correct the study file")
