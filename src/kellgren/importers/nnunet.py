"""A raw data set of nnU-Net: `dataset.json`, `imagesTr`, `labelsTr`, `imagesTs`, `labelsTs`."""

import json
from pathlib import Path
from typing import Any

from kellgren.faults import InputError
from kellgren.importers.imported import Imported
from kellgren.importers.options import PLAIN, Options, case_of, check_has, read_table

FOLDERS = {"train": "Tr", "test": "Ts"}


def import_nnunet(root: Path, *, tables_only: bool = False, options: Options = PLAIN) -> Imported:
    """Read a raw data set of nnU-Net v2, with a table of grades, which it does not hold itself.

    The split is that of the folders. A scan is `<case>_0000<file_ending>`; where the data set has
    several channels the first is taken. `options.grades` has `case_id, side, kl` and may have
    `subject, age, sex, bmi`.

    Args:
        root: Folder that holds `dataset.json`.
        tables_only: Ignored: the folders say which cases there are.
        options: The table of grades, and how its columns and codes are called.

    Raises:
        InputError: If a file is missing or cannot be used.
    """
    ending = _ending(root / "dataset.json")
    if options.grades is None:
        raise InputError(
            str(root), "no grades: nnU-Net holds none", "a table of grades", "give --grades TABLE"
        )
    rows = read_table(options.grades)
    check_has(options.grades, rows, options, ("case_id", "side", "kl"))
    graded = {options.cell(row, "case_id"): (line, row) for line, row in rows}
    cases, without_grade, missing = [], [], {}
    for split, folder in FOLDERS.items():
        for image in sorted((root / f"images{folder}").glob(f"*_0000{ending}")):
            name = image.name.removesuffix(f"_0000{ending}")
            mask = root / f"labels{folder}" / f"{name}{ending}"
            if name not in graded:
                missing[name] = "no row in the table of grades"
                continue
            line, row = graded.pop(name)
            case = case_of(
                row | {"split": split},
                f"{options.grades}, line {line}",
                _with_split(options),
                image=image,
                segmentation=mask if mask.exists() else None,
            )
            if case is None:
                without_grade.append(name)
            else:
                cases.append(case)
    missing |= dict.fromkeys(graded, "no scan in imagesTr or imagesTs")
    bare = sum(case.segmentation is None for case in cases)
    notes = [f"{bare} knees have no label map."] if bare else []
    return Imported(cases, without_grade, notes, missing)


def _with_split(options: Options) -> Options:
    """The folders say the split, whatever the table calls one."""
    columns = {name: column for name, column in options.columns.items() if name != "split"}
    return Options(columns, options.codes, options.constants)


def _ending(path: Path) -> str:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        ending = content["file_ending"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        absent = isinstance(error, FileNotFoundError)
        raise InputError(
            str(path),
            "no such file" if absent else f"no description of a data set ({error})",
            "the dataset.json of nnU-Net v2, with file_ending",
            "give the folder DatasetXXX_NAME of nnUNet_raw",
        ) from error
    if not isinstance(ending, str) or "/" in ending:
        raise InputError(str(path), f"file_ending {ending!r}", "such as .nii.gz", "correct it")
    return ending
