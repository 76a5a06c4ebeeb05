"""What a cohort as a whole can be wrong about: twins, leaks between the splits, missing grades."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from kellgren.cohort import SPLITS, Case
from kellgren.faults import InputError
from kellgren.files import digest_of_file
from kellgren.inspection.finding import Finding
from kellgren.inspection.knee import PRINT_GRID, Knee
from kellgren.labels import KL_GRADES, OA_THRESHOLD
from kellgren.volume import source_files

# Inner product of two fingerprints from which two scans are taken for one.
NEAR = 0.9
BLOCK = 64  # fingerprints compared with as many others at a time
SORTED_FROM = 8  # cases in a split before an order by grade is remarkable


def cohort_findings(cases: Sequence[Case], where: str) -> list[Finding]:
    """Findings that the table alone gives: grades, order of the ids, persons with several knees."""
    return [*_grades(cases, where), *_order(cases, where), *_pairs(cases, where)]


def same_files(cases: Sequence[Case]) -> list[Finding]:
    """Scans whose files are the same byte by byte; only files of the same length are read."""
    lengths: dict[int, list[tuple[Case, Path]]] = {}
    for case in cases:
        if os.path.isfile(case.image):
            lengths.setdefault(case.image.stat().st_size, []).append((case, case.image))
    rivals = [pair for members in lengths.values() if len(members) > 1 for pair in members]
    return _twins(
        (case for case, _ in rivals), lambda case: _file_digest(case.image), "image-twice"
    )


def same_voxels(knees: Sequence[Knee]) -> list[Finding]:
    """Scans with the same voxels, however they were packed or turned."""
    digest = {knee.case.case_id: knee.digest for knee in knees}
    cases = [knee.case for knee in knees if knee.digest is not None]
    return _twins(cases, lambda case: digest[case.case_id], "voxels-twice")


def near_duplicates(knees: Sequence[Knee]) -> list[Finding]:
    """Scans that show the same knee though their voxels differ: resampled, brightened, mirrored.

    Beyond the fingerprints as they are kept, memory does not grow with the number of knees.
    """
    seen = [knee for knee in knees if knee.fingerprint is not None]
    blocks = [seen[first : first + BLOCK] for first in range(0, len(seen), BLOCK)]
    return [
        _near(knee.case, other.case, alike)
        for n, block in enumerate(blocks)
        for rest in blocks[n:]
        for knee, other, alike in _alike(block, rest)
        if other.digest != knee.digest
    ]


def _alike(block: Sequence[Knee], rest: Sequence[Knee]) -> Iterator[tuple[Knee, Knee, float]]:
    """Pairs of two blocks, or of one with itself, whose fingerprints are near, and how near."""
    ours, theirs = _prints(block), _prints(rest)
    mirrored = theirs.reshape(-1, *PRINT_GRID)[:, ::-1].reshape(len(theirs), -1)
    alike = np.maximum(ours @ theirs.T, ours @ mirrored.T)
    for i, j in np.argwhere(alike > NEAR):
        if block is not rest or i < j:
            yield block[i], rest[j], float(alike[i, j])


def _prints(knees: Sequence[Knee]) -> Float32[np.ndarray, "n f"]:
    return np.stack([np.asarray(knee.fingerprint, np.float32) for knee in knees])


def _near(case: Case, other: Case, alike: float) -> Finding:
    leak = case.split != other.split
    return Finding(
        "error" if leak else "warning",
        "near-duplicate",
        other.case_id,
        str(other.image),
        f"nearly the scan of case {case.case_id} ({alike:.2f} alike)"
        + (f", which is in {case.split}" if leak else ""),
        "each knee once, and in one split",
        "look at both; drop one",
    )


def _twins(cases: Iterable[Case], digest: Callable[[Case], str | None], kind: str) -> list[Finding]:
    first: dict[str, Case] = {}
    findings = []
    for case in cases:
        value = digest(case)
        other = case if value is None else first.setdefault(value, case)
        if other is not case:
            found = f"the very scan of case {other.case_id}"
            if other.split != case.split:
                found += f", which is in {other.split}: a leak"
            findings.append(
                Finding(
                    "error",
                    kind,
                    case.case_id,
                    str(case.image),
                    found,
                    "each knee once",
                    "give the right scan, or drop one of the two",
                )
            )
    return findings


def _file_digest(path: Path) -> str | None:
    """None where the file cannot be read, which another test tells."""
    try:
        return " ".join(digest_of_file(file) for file in source_files(path))
    except (OSError, InputError):
        return None


def _grades(cases: Sequence[Case], where: str) -> list[Finding]:
    findings = []
    for split in SPLITS:
        members = [case.kl for case in cases if case.split == split]
        counts = np.bincount(members, minlength=KL_GRADES) if members else np.zeros(0, int)
        absent = [str(grade) for grade in np.flatnonzero(counts == 0)]
        single = [str(grade) for grade in np.flatnonzero(counts == 1)]
        positive = int(counts[OA_THRESHOLD:].sum())
        todo = "choose the split by person and grade, or read the metrics with care"
        for fine, kind, found, needed in (
            (not absent, "grade-absent", f"no knee of KL {', '.join(absent)}", "every grade"),
            (not single, "grade-single", f"one knee of KL {', '.join(single)}", "several a grade"),
            (0 < positive < len(members), "one-class", "knees with OA only, or without", "both"),
        ):
            if members and not fine:
                place = f"{where}, split '{split}'"
                findings.append(Finding("warning", kind, "", place, found, needed, todo))
    return findings


def _order(cases: Sequence[Case], where: str) -> list[Finding]:
    findings = []
    for split in SPLITS:
        members = sorted((case.case_id, case.kl) for case in cases if case.split == split)
        grades = [kl for _, kl in members]
        if len(members) >= SORTED_FROM and len(set(grades)) > 1 and grades == sorted(grades):
            findings.append(
                Finding(
                    "note",
                    "sorted-ids",
                    "",
                    f"{where}, split '{split}'",
                    "case ids in the order of the grade",
                    "ids that say nothing",
                    "never take the first or last cases for validation; kellgren shuffles",
                )
            )
    return findings


def _pairs(cases: Sequence[Case], where: str) -> list[Finding]:
    members: dict[str, list[Case]] = {}
    for case in cases:
        members.setdefault(case.subject, []).append(case)
    several = {subject: own for subject, own in members.items() if len(own) > 1}
    repeats = [s for s, own in several.items() if len({case.side for case in own}) < len(own)]
    findings = []
    if several:
        found = f"{len(several)} persons with several scans, such as {next(iter(several))}"
        needed = "independent cases"
        todo = "read intervals and p-values with care: knees of one person are alike"
        findings.append(Finding("note", "persons", "", where, found, needed, todo))
    if repeats:
        found = f"{len(repeats)} persons with the same knee twice, such as {repeats[0]}"
        todo = "keep one visit, unless the study is of visits"
        findings.append(Finding("warning", "visits", "", where, found, "each knee once", todo))
    return findings
