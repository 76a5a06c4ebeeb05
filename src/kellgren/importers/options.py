"""What a user says about a source that does not speak for itself; nothing is guessed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kellgren.cohort import OPTIONAL, REQUIRED, SEXES, SIDES, SPLITS, Case, check_case_id
from kellgren.faults import InputError
from kellgren.sheets import Rows, check_columns, number_or_none, read_csv, read_excel

WORDS = {"side": SIDES, "split": SPLITS, "sex": SEXES}
MEANINGS = WORDS | {"kl": ("0", "1", "2", "3", "4", "")}
NO_GRADE = ("", "NA", "n/a", "nan", "NaN")


@dataclass(frozen=True)
class Options:
    """How a source says what a cohort table says.

    Attributes:
        columns: Cohort column -> column of the table; a column that is not named keeps its name.
        codes: Cohort column -> code -> meaning, such as {"side": {"1": "right", "2": "left"}}.
        constants: Cohort column -> value of every row, such as {"side": "right"}.
        grades: Table with the grades, where the source has none of its own.
        match: Part of the name of the scans, where a person has several.
        visit: Visit of the OAI, "00" to "10".
        test_share: Share of the persons drawn for the test split, where the source has no splits.
        seed: Seed of that draw.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    grades: Path | None = None
    match: str = ""
    visit: str = "00"
    test_share: float | None = None
    seed: int = 0

    def cell(self, row: Mapping[str, str], name: str) -> str:
        """What a row says of a cohort column; empty where it says nothing."""
        if name in self.constants:
            return self.constants[name]
        value = row.get(self.columns.get(name, name), "").strip()
        return self.codes.get(name, {}).get(value, value)


PLAIN = Options()


def pairs(words: list[str], flag: str) -> dict[str, str]:
    """Words of a command line such as "kl=KLGrade", as a mapping.

    Raises:
        InputError: If a word is not of that form, or names no column of a cohort table.

    >>> pairs(["kl=KLGrade"], "--column")
    {'kl': 'KLGrade'}
    """
    split = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in REQUIRED + OPTIONAL:
            raise InputError(
                f"{flag} {word}",
                f"'{word[:80]}'",
                f"NAME=VALUE, with a name of {', '.join(REQUIRED + OPTIONAL)}",
                "correct it",
            )
        split[name] = value
    return split


def constants_of(words: list[str]) -> dict[str, str]:
    """Words of a command line such as "side=right", as values that all rows have.

    Raises:
        InputError: As for `pairs`, and if a value is none that the column can have.
    """
    constants = pairs(words, "--constant")
    for name, value in constants.items():
        _check_meaning(name, value, f"--constant {name}={value}")
    return constants


def codes_of(words: list[str]) -> dict[str, dict[str, str]]:
    """Words of a command line such as "side:1=right", as codes of columns.

    Raises:
        InputError: If a word is not of that form, names no column of a cohort table, or gives a
            meaning that the column cannot have.

    >>> codes_of(["side:1=right", "side:2=left"])
    {'side': {'1': 'right', '2': 'left'}}
    """
    codes: dict[str, dict[str, str]] = {}
    for word in words:
        column, colon, rest = word.partition(":")
        code, equals, meaning = rest.rpartition("=")
        if not (colon and equals) or column not in REQUIRED + OPTIONAL:
            raise InputError(
                f"--code {word}",
                f"'{word[:80]}'",
                f"COLUMN:CODE=MEANING, with a column of {', '.join(REQUIRED + OPTIONAL)}",
                "write it as side:1=right",
            )
        _check_meaning(column, meaning, f"--code {word}")
        codes.setdefault(column, {})[code] = meaning
    return codes


def _check_meaning(column: str, meaning: str, where: str) -> None:
    if meaning not in MEANINGS.get(column, (meaning,)):
        needed = f"one of {', '.join(MEANINGS[column])}"
        raise InputError(where, f"'{meaning[:80]}'", needed, "correct it")


def read_table(path: Path) -> Rows:
    """Rows of .csv, .tsv, .txt (separated by "|", as the OAI's) or .xlsx, as text."""
    ending = path.suffix.lower()
    if ending == ".xlsx":
        return read_excel(path)
    return read_csv(path, delimiter={".tsv": "\t", ".txt": "|"}.get(ending, ","))


def check_has(path: Path, rows: Rows, options: Options, needed: tuple[str, ...]) -> None:
    """Refuse a table that lacks a column which no constant stands for, or which options name.

    Raises:
        InputError: With the nearest name and how to map it.
    """
    names = list(rows[0][1]) if rows else []
    for name in dict.fromkeys([*needed, *options.columns]):
        if name in options.constants:
            continue
        try:
            check_columns(path, names, [options.columns.get(name, name)])
        except InputError as fault:
            if len(names) == 1:  # separated by something else
                raise
            constant = f", or give all the same by --constant {name}=VALUE" if name in WORDS else ""
            todo = f"{fault.todo}, map it by --column {name}=COLUMN{constant}"
            raise InputError(fault.where, fault.found, fault.needed, todo) from fault


def case_of(
    row: Mapping[str, str],
    where: str,
    options: Options,
    *,
    image: Path,
    segmentation: Path | None,
) -> Case | None:
    """The case of a row whose files are known; None where it has no grade.

    Raises:
        InputError: If a cell cannot be used.
    """
    case_id = check_case_id(options.cell(row, "case_id"), where)
    where = f"{where}, case {case_id}"
    kl = options.cell(row, "kl")
    if kl in NO_GRADE:
        return None
    grade = kl.removesuffix(".0")
    if grade not in ("0", "1", "2", "3", "4"):
        raise InputError(
            where,
            f"kl is {kl[:80]!a}",
            "0 to 4, or nothing",
            f"say what it means: --code kl:{kl[:20]}=GRADE",
        )
    words = {name: _word(options.cell(row, name), name, where) for name in WORDS}
    age, bmi = (_number(options.cell(row, name), f"{where}, {name}") for name in ("age", "bmi"))
    return Case(
        case_id,
        options.cell(row, "subject") or case_id,
        words["side"],
        words["split"],
        int(grade),
        image,
        segmentation,
        age,
        words["sex"] or None,
        bmi,
        options.cell(row, "site") or None,
    )


def _number(value: str, where: str) -> float | None:
    return number_or_none("" if value in NO_GRADE else value, where)


def _word(value: str, name: str, where: str) -> str:
    if value not in WORDS[name] and not (name == "sex" and value in NO_GRADE):
        either = " or ".join(f"--code {name}:{value[:20]}={word}" for word in WORDS[name])
        raise InputError(
            where,
            f"{name} is {value[:80]!a}" if value else f"an empty {name}",
            f"one of {', '.join(WORDS[name])}",
            f"say what it means: {either}",
        )
    return "" if value in NO_GRADE else value
