"""Any table of knees whose columns and codes have other names: everything is said by options."""

import os
from pathlib import Path

from kellgren.cohort import REQUIRED, Case
from kellgren.importers.imported import Imported
from kellgren.importers.options import PLAIN, Options, case_of, check_has, read_table

NEEDED = tuple(name for name in REQUIRED if name not in ("subject", "segmentation"))


def import_table(root: Path, *, tables_only: bool = False, options: Options = PLAIN) -> Imported:
    """Read a table (.csv, .tsv, .xlsx, or .txt separated by "|") with one row a knee.

    Needs `case_id, side, split, kl, image` by name, mapping or constant. Without `subject` each
    case is a person of its own, which a note says.

    Args:
        root: The table; paths in it are relative to its folder.
        tables_only: True if the scans need not exist.
        options: How columns and codes are called.

    Raises:
        InputError: If the table cannot be read, a column is missing or a cell cannot be used.
    """
    rows = read_table(root)
    check_has(root, rows, options, NEEDED)
    cases: list[Case] = []
    without_grade, missing = [], {}
    for line, row in rows:
        image = root.parent / options.cell(row, "image")
        mask = options.cell(row, "segmentation")
        segmentation = root.parent / mask if mask else None
        case = case_of(row, f"{root}, line {line}", options, image=image, segmentation=segmentation)
        name = options.cell(row, "case_id")
        if case is None:
            without_grade.append(name)
        elif not (tables_only or os.path.exists(image)):
            missing[name] = "no such scan"
        else:
            cases.append(case)
    return Imported(cases, without_grade, _notes(rows[0][1] if rows else {}, options), missing)


def _notes(row: dict[str, str], options: Options) -> list[str]:
    if options.columns.get("subject", "subject") in row or "subject" in options.constants:
        return []
    return ["No column says who the person is, so every case counts as a person of its own."]
