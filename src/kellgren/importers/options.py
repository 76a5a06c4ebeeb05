"""What a user says about a source that does not speak for itself; nothing is guessed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kellgren.cohort import OPTIONAL, REQUIRED, SEXES, SIDES, SPLITS, Case, check_case_id
from kellgren.faults import InputError
from kellgren.sheets import Rows, check_columns, number_or_none, read_csv, read_excel

WORDS = {"side": SIDES, "split": SPLITS, "sex": SEXES}
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
        InputError: If a word has no "=", or names no column of a cohort table.

    >>> pairs(["kl=KLGrade"], "--column")
    {'kl': 'KLGrade'}
    """
    split = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name.split(":")[0] not in REQUIRED + OPTIONAL:
            raise InputError(
                f"{flag} {word}",
                f"'{word[:80]}'",
                f"NAME=VALUE, with a name of {', '.join(REQUIRED + OPTIONAL)}",
                "correct it",
            )
        split[name] = value
    return split


def codes_of(words: list[str]) -> dict[str, dict[str, str]]:
    """Words of a command line such as "side:1=right", as codes of columns.

    >>> codes_of(["side:1=right", "side:2=left"])
    {'side': {'1': 'right', '2': 'left'}}
    """
    codes: dict[str, dict[str, str]] = {}
    for name, meaning in pairs(words, "--code").items():
        column, _, code = name.partition(":")
        codes.setdefault(column, {})[code] = meaning
    return codes


def read_table(path: Path) -> Rows:
    """Rows of .csv, .tsv, .txt (separated by "|", as the OAI's) or .xlsx, as text."""
    ending = path.suffix.lower()
    if ending == ".xlsx":
        return read_excel(path)
    return read_csv(path, delimiter={".tsv": "\t", ".txt": "|"}.get(ending, ","))


def check_has(path: Path, rows: Rows, options: Options, needed: tuple[str, ...]) -> None:
    """Refuse a table that lacks a column which no constant stands for.

    Raises:
        InputError: With the nearest name and how to map it.
    """
    names = list(rows[0][1]) if rows else []
    wanted = [options.columns.get(n, n) for n in needed if n not in options.constants]
    try:
        check_columns(path, names, wanted)
    except InputError as fault:
        todo = f"{fault.todo}; map it by --column NAME=COLUMN, or set it by --constant NAME=VALUE"
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
        raise InputError(where, f"kl is {kl[:80]!a}", "0 to 4, or nothing", "use --code kl:CODE=0")
    words = {name: _word(options.cell(row, name), name, where) for name in WORDS}
    age, bmi = (
        number_or_none("" if value in NO_GRADE else value, where)
        for value in (options.cell(row, "age"), options.cell(row, "bmi"))
    )
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


def _word(value: str, name: str, where: str) -> str:
    if value not in WORDS[name] and not (name == "sex" and value in NO_GRADE):
        raise InputError(
            where,
            f"{name} is {value[:80]!a}",
            f"one of {', '.join(WORDS[name])}",
            f"say what the code means by --code {name}:{value[:20] or 'CODE'}={WORDS[name][0]}",
        )
    return "" if value in NO_GRADE else value
