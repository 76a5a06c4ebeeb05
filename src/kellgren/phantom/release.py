"""Synthetic knees on disk, in the layout of the OAIZIB-CM release.

Beside what the release holds there is what no model may see: `phantom.json`, the settings,
`severity.csv`, the true severity, and in `signsTr` and `signsTs` where the signs of disease lie.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from jaxtyping import Shaped

from kellgren.faults import InputError
from kellgren.files import completed, write_json, write_text
from kellgren.phantom.reader import GRADE_MIX, read_grade, true_grades
from kellgren.phantom.scan import Knee, make_knee
from kellgren.phantom.severity import CONTRAST
from kellgren.workers import pool_of

SETTINGS = "phantom.json"
# Goes up whenever the same settings give other knees.
GENERATOR = 1
FOLDERS = {"train": "Tr", "test": "Ts"}
COLUMNS = "OAI-SubjectID,CMT-ID,OAI-Path,OAI-MRBarCode,KneeSide,KLGrade,Gender,Age,BMI"
SHARE_OF_MEN = 262 / 507


@dataclass(frozen=True)
class Subject:
    """Who a synthetic knee belongs to.

    Attributes:
        index: Number of the knee in the phantom, from 0; names its randomness.
        split: "train" or "test".
        severity: True severity in [0, 5).
        kl: Grade that the reader gave.
        male: Sex.
        age: Years.
        bmi: Body mass index, kg/m2.
    """

    index: int
    split: str
    severity: float
    kl: int
    male: bool
    age: int
    bmi: float


@dataclass(frozen=True)
class _Job:
    """One knee to write; travels to another process."""

    folder: Path
    name: str
    who: Subject
    grid: tuple[int, int, int]
    seed: int
    contrast: str

    def paths(self) -> tuple[Path, Path, Path]:
        end = FOLDERS[self.who.split]
        return (
            self.folder / f"images{end}" / f"{self.name}_0000.nii.gz",
            self.folder / f"labels{end}" / f"{self.name}.nii.gz",
            signs_of(self.folder, self.name, self.who.split),
        )


def write_release(
    folder: Path,
    *,
    train: int,
    test: int,
    grid: tuple[int, int, int],
    seed: int,
    contrast: str,
    agreement: float,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a synthetic release; what is already complete is not written again.

    Args:
        folder: Where; made if absent.
        train: Number of training knees.
        test: Number of test knees.
        grid: Slices, rows and columns, see `kellgren.phantom.scan.field_of_view`.
        seed: Seed; knee i is made by `np.random.default_rng([seed, i])`.
        contrast: "real" or "clear", how strongly severity shows.
        agreement: Probability that the reader gives the true grade, see `read_grade`.
        workers: Number of processes; the files do not depend on it.
        progress: Called with the number of knees that are done, and of all.

    Raises:
        InputError: If a setting is out of range, or the folder holds something else.
    """
    settings = {
        "generator": GENERATOR,
        "train": train,
        "test": test,
        "grid": list(grid),
        "seed": seed,
        "contrast": contrast,
        "agreement": agreement,
    }
    _check(settings, workers)
    _claim(folder, settings)
    cases = dict(_cases(train, test, seed=seed, agreement=agreement))
    jobs = [_Job(folder, name, who, grid, seed, contrast) for name, who in cases.items()]
    for done, _ in enumerate(_carried_out(jobs, workers), start=1):
        if progress is not None:
            progress(done, len(jobs))
    for split in FOLDERS:
        rows = {name: who for name, who in cases.items() if who.split == split}
        _write_once(folder / f"subInfo_{split}.csv", "\ufeff" + _table(rows))
    _write_once(folder / "severity.csv", _severity_table(cases))


def signs_of(folder: Path, case_id: str, split: str) -> Path:
    """Label map of the signs of the disease in a knee of a phantom, by `severity.SIGNS`.

    >>> signs_of(Path("phantom"), "oaizib_001", "train").as_posix()
    'phantom/signsTr/oaizib_001.nii.gz'
    """
    return folder / f"signs{FOLDERS[split]}" / f"{case_id}.nii.gz"


def _check(settings: dict[str, Any], workers: int) -> None:
    contrasts = sorted(CONTRAST)
    for name, fine, needed in (
        ("train", settings["train"] >= 0, "0 or more"),
        ("test", settings["test"] >= 0, "0 or more"),
        ("grid", min(settings["grid"]) >= 8, "slices, rows and columns of at least 8"),
        ("seed", settings["seed"] >= 0, "0 or more"),
        ("contrast", settings["contrast"] in contrasts, f"one of {contrasts}"),
        ("agreement", 0 <= settings["agreement"] <= 1, "a probability"),
        ("workers", workers >= 1, "at least 1"),
    ):
        if not fine:
            found = repr(settings.get(name, workers))
            raise InputError(f"setting '{name}' of the phantom", found, needed, "correct it")


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings into a new folder, or check that they are those of this folder."""
    path = folder / SETTINGS
    if path.exists():
        found = path.read_text(encoding="utf-8")
        if found != json.dumps(settings, indent=2) + "\n":
            raise InputError(
                str(path), found, f"{settings}", "choose another folder or remove this one"
            )
    elif folder.exists() and any(not p.name.startswith(".") for p in folder.iterdir()):
        raise InputError(
            str(folder), f"files without {SETTINGS}", "an empty or absent folder", "choose another"
        )
    else:
        write_json(path, settings)


def _cases(train: int, test: int, *, seed: int, agreement: float) -> Iterator[tuple[str, Subject]]:
    """Every knee by its case id; ids ascend with the grade inside each split, as in the release."""
    number = 0
    first = 0
    for split, count in (("train", train), ("test", test)):
        grades = true_grades(count, GRADE_MIX[split])
        subjects = [
            _draw_subject(first + i, split, int(g), seed, agreement) for i, g in enumerate(grades)
        ]
        first += count
        for who in sorted(subjects, key=lambda who: (who.kl, who.index)):
            number += 1
            yield f"oaizib_{number:03d}", who


def _draw_subject(index: int, split: str, grade: int, seed: int, agreement: float) -> Subject:
    rng = np.random.default_rng([seed, index])
    severity = float(grade + rng.random())
    kl = read_grade(grade, agreement, rng=rng)
    return Subject(
        index=index,
        split=split,
        severity=severity,
        kl=kl,
        male=bool(rng.random() < SHARE_OF_MEN),
        age=int(np.clip(np.rint(rng.normal(61.8, 9.5)), 45, 79)),
        bmi=float(np.clip(np.round(rng.normal(28.5, 4.6), 1), 17, 48)),
    )


def _carried_out(jobs: list[_Job], workers: int) -> Iterator[None]:
    if workers == 1:
        yield from map(_write_knee, jobs)
        return
    with pool_of(workers) as pool:
        for future in as_completed([pool.submit(_write_knee, job) for job in jobs]):
            yield future.result()


def _write_knee(job: _Job) -> None:
    image, labels, signs = job.paths()
    if image.exists() and labels.exists() and signs.exists():
        return
    knee = make_knee(
        job.who.severity,
        grid=job.grid,
        rng=np.random.default_rng([job.seed, job.who.index]),
        contrast=CONTRAST[job.contrast],
        male=job.who.male,
        bmi=job.who.bmi,
    )
    _write_nifti(image, knee.image, knee)
    _write_nifti(labels, knee.labels, knee)
    _write_nifti(signs, knee.signs, knee)


def _write_nifti(path: Path, voxels: Shaped[np.ndarray, "d w h"], knee: Knee) -> None:
    scan: Any = nib.Nifti1Image(voxels, knee.affine)  # type: ignore[no-untyped-call]
    scan.set_sform(knee.affine, code=1)
    scan.set_qform(knee.affine, code=1)
    scan.header.set_xyzt_units("mm")
    with completed(path) as temporary, temporary.open("wb") as file:
        # No name and no time in the header, so that the same knee gives the same bytes.
        file.write(igzip.compress(scan.to_bytes(), compresslevel=1, mtime=0))


def _table(cases: dict[str, Subject]) -> str:
    rows = [COLUMNS]
    for name, who in cases.items():
        number = name.removeprefix("oaizib_")
        subject, barcode = f"P{who.index + 1:06d}", f"PHANTOM{who.index + 1:06d}"
        sex = 1 if who.male else 2
        rows.append(
            f"{subject},{number},phantom/{subject}/{barcode},{barcode},1,{who.kl},{sex},"
            f"{who.age},{who.bmi:.1f}"
        )
    return "\n".join(rows) + "\n"


def _severity_table(cases: dict[str, Subject]) -> str:
    rows = ["case_id,split,severity,true_kl,kl"]
    for name, who in cases.items():
        rows.append(f"{name},{who.split},{who.severity:.6f},{int(who.severity)},{who.kl}")
    return "\n".join(rows) + "\n"


def _write_once(path: Path, text: str) -> None:
    if not path.exists():
        write_text(path, text)
