"""What is said when something that a user brought cannot be used."""

import re
from collections.abc import Callable

# From a quotation mark that is no apostrophe to its twin, or to the end.
_QUOTED = re.compile(r"""(?<![A-Za-z0-9])b?(['"])((?:\\.|(?!\1).)*)(?:\1|$)""", re.DOTALL)


class InputError(ValueError):
    """A file, table, setting or folder cannot be used; the message is for a tired person.

    Args:
        where: The case, file, row or key at fault.
        found: What is there.
        needed: What should be there.
        todo: What to do about it.

    >>> print(InputError("row 3 of cohort.csv", "kl is '7'", "a grade from 0 to 4", "correct it"))
    row 3 of cohort.csv: found kl is '7'; needed a grade from 0 to 4; correct it
    """

    def __init__(self, where: str, found: str, needed: str, todo: str) -> None:
        self.where, self.found = printable(where), printable(found)
        self.needed, self.todo = printable(needed), printable(todo)
        super().__init__(where, found, needed, todo)

    def __str__(self) -> str:
        message = f"{self.where}: found {self.found}; needed {self.needed}; {self.todo}"
        return " ".join(message.split())

    def of_case(self, case_id: str) -> "InputError":
        """The same fault, with the case named first."""
        return InputError(f"case {case_id}: {self.where}", self.found, self.needed, self.todo)


def unquoted(text: str, *, keep: Callable[[str], bool] = lambda quoted: False) -> str:
    """What a library says of a file, without what it quotes from it: that may be a name.

    Args:
        text: The message of an error.
        keep: Whether a quotation stays.

    >>> unquoted("no 'Rows' after b'Doe^Jane', which can't be", keep=lambda word: word == "Rows")
    "no 'Rows' after '...', which can't be"
    """
    return _QUOTED.sub(lambda found: found[0] if keep(found[2]) else "'...'", text)


def printable(text: str) -> str:
    r"""The text, with whatever could steer a terminal or is no character written out.

    >>> printable("a\x1b[2J.nii")
    'a\\x1b[2J.nii'
    """
    return "".join(
        letter
        if letter.isprintable() or letter.isspace()
        else letter.encode("unicode_escape").decode()
        for letter in text
    )
