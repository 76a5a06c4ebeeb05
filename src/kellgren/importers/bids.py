"""A BIDS data set: `participants.tsv` and `sub-*/[ses-*/]anat/*.nii.gz`."""

from pathlib import Path

from kellgren.cohort import check_case_id
from kellgren.importers.imported import Imported
from kellgren.importers.options import PLAIN, Options, case_of, check_has, read_table


def import_bids(root: Path, *, tables_only: bool = False, options: Options = PLAIN) -> Imported:
    """Read a BIDS data set whose participants have one knee each.

    `participants.tsv` (or `options.grades`) has `participant_id` and, by name, mapping or constant,
    `side, split, kl`; it may have `age`, `sex`, `bmi`. Label maps are taken from
    `derivatives/**/*_dseg.nii.gz` of the same participant, where there is just one.

    Args:
        root: Folder that holds `participants.tsv`.
        tables_only: Ignored: the folders say which scan it is.
        options: How columns and codes are called; `match` is a part of the name of the scans, such
            as "ses-01" or "acq-dess", where a participant has several.

    Raises:
        InputError: If the table cannot be used.
    """
    table = options.grades or root / "participants.tsv"
    rows = read_table(table)
    named = Options(
        {"case_id": "participant_id", "subject": "participant_id"} | dict(options.columns),
        options.codes,
        options.constants,
    )
    check_has(table, rows, named, ("case_id", "side", "split", "kl"))
    cases, without_grade, missing, several = [], [], {}, 0
    for line, row in rows:
        name = check_case_id(named.cell(row, "case_id"), f"{table}, line {line}")
        scans = _files(root / name, "anat/*.nii*", options.match)
        # The name ends at "_": sub-1 is not sub-10.
        masks = _files(root / "derivatives", f"**/{name}_*dseg.nii*", options.match)
        if len(scans) != 1:
            why = f"{len(scans)} scans; choose one by --match, a part of its name"
            missing[name] = why if scans else "no scan"
            continue
        mask = masks[0] if len(masks) == 1 else None
        several += len(masks) > 1
        case = case_of(row, f"{table}, line {line}", named, image=scans[0], segmentation=mask)
        if case is None:
            without_grade.append(name)
        else:
            cases.append(case)
    bare = sum(case.segmentation is None for case in cases)
    notes = [f"{bare} knees have no label map."] if bare else []
    if several:
        notes.append(f"{several} have several, and none was taken; choose one by --match.")
    return Imported(cases, without_grade, notes, missing)


def _files(folder: Path, pattern: str, match: str) -> list[Path]:
    if not folder.is_dir():
        return []
    found = {*folder.glob(pattern), *folder.glob(f"ses-*/{pattern}")}
    return sorted(p for p in found if match in p.name and p.name.endswith((".nii", ".nii.gz")))
