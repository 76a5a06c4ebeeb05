"""Tables that people bring, CSV or Excel, read as text so that no cell changes its meaning."""

import csv
from collections.abc import Iterable
from difflib import get_close_matches
from math import isfinite
from pathlib import Path

import openpyxl

from kellgren.faults import InputError

Rows = list[tuple[int, dict[str, str]]]


def read_csv(path: Path, *, delimiter: str = ",") -> Rows:
    """Rows of a CSV file as text, each with the number of its last line; empty lines are skipped.

    Raises:
        InputError: If the file cannot be read, is not UTF-8, has a quotation mark that is not
            closed, a column twice, or a row of another length than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if any(cells)]
    except OSError as error:
        raise InputError(
            str(path),
            error.strerror or "a file that cannot be read",
            "a CSV table",
            "check the path and its permissions",
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(
            str(path), str(error), "a CSV table in UTF-8", "save the table again as UTF-8 CSV"
        ) from error
    if not lines:
        raise InputError(str(path), "an empty table", "a header and rows", "write the table again")
    header = [name.strip() for name in lines[0][1]]
    return [(line, _pair(header, cells, f"{path}, line {line}")) for line, cells in lines[1:]]


def read_excel(path: Path) -> Rows:
    """Rows of the first sheet of an Excel file as text, each with its number in the sheet.

    Formulas come as the values that were stored with them; nothing is computed, and macros are not
    looked at. Empty rows are skipped.

    Raises:
        InputError: If the file cannot be read as .xlsx, its first sheet is hidden, a column stands
            twice, or a formula has no stored value.
    """
    lines = _excel_lines(path)
    if not lines:
        raise InputError(str(path), "an empty table", "a header and rows", "write the table again")
    header = lines[0][1]
    return [(line, _pair(header, cells, f"{path}, line {line}")) for line, cells in lines[1:]]


def _excel_lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        values, formulas = (
            openpyxl.load_workbook(path, data_only=stored).worksheets[0] for stored in (True, False)
        )
    except Exception as error:  # openpyxl lets errors of zip and XML parsers through
        raise InputError(
            str(path), str(error) or type(error).__name__, "an Excel table", "download it again"
        ) from error
    if values.sheet_state != "visible":
        raise InputError(
            str(path), f"a hidden first sheet '{values.title[:40]}'", "a visible one", "unhide it"
        )
    rows = zip(values.iter_rows(), formulas.iter_rows(), strict=True)
    lines = []
    for line, (stored, written) in enumerate(rows, start=1):
        for cell, formula in zip(stored, written, strict=True):
            if formula.data_type == "f" and cell.value is None:
                raise InputError(
                    f"{path}, cell {formula.coordinate}",
                    "a formula without a stored value",
                    "values",
                    "open it in a spreadsheet, and save the values",
                )
        cells = ["" if cell.value is None else str(cell.value).strip() for cell in stored]
        if any(cells):
            lines.append((line, cells))
    return lines


def check_columns(
    path: Path, names: list[str], required: Iterable[str], *, optional: Iterable[str] = ()
) -> None:
    """Refuse a table that lacks a column, or spells an optional one in another case.

    Raises:
        InputError: With the nearest name that the table has.
    """
    lowered = {name.casefold(): name for name in names}
    for name in required:
        if name not in names:
            raise InputError(
                str(path),
                f"the columns {names}",
                f"a column '{name}'",
                _advice(name, names, lowered),
            )
    for name in optional:
        if name not in names and name in lowered:
            raise InputError(
                str(path), f"the column '{lowered[name]}'", f"'{name}'", "rename the column"
            )


def number_or_none(value: str, where: str) -> float | None:
    """A positive number, or None for an empty cell.

    Raises:
        InputError: If it is neither.
    """
    if not value.strip():
        return None
    try:
        number = float(value) if value.isascii() else float("nan")
    except ValueError:
        number = float("nan")
    if not (isfinite(number) and number > 0):
        raise InputError(where, f"{value[:80]!a}", "a positive number or nothing", "correct it")
    return number


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet would compute a cell rather than show it.

    >>> [is_formula(cell) for cell in ("=1+1", "@x", "-cmd", "-9", "a=b", "")]
    [True, True, True, False, False, False]
    """
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def _advice(name: str, names: list[str], lowered: dict[str, str]) -> str:
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        return "separate the columns by commas"
    near = get_close_matches(name.casefold(), list(lowered), n=1)
    return f"did you mean '{lowered[near[0]]}'?" if near else "add it"


def _pair(header: list[str], cells: list[str], where: str) -> dict[str, str]:
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise InputError(where, f"the column {sorted(twice)} twice", "each once", "drop one")
    if len(cells) != len(header):
        raise InputError(
            where,
            f"{len(cells)} cells",
            f"{len(header)}, as in the header",
            "look for a missing or surplus comma",
        )
    return dict(zip(header, cells, strict=True))
