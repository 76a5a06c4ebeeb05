"""Things that several tests need: a handful of made knees, prepared."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kellgren.cohort import Case
from kellgren.store import Store
from kellgren.volume import write_nifti
from tests.disk import Starter, starter

SHARED = Path(__file__).parents[2] / "shared"
GRID = (24, 24, 24)


def made_case(folder: Path, i: int, split: str, kl: int) -> Case:
    """A noise volume whose centre is brighter the higher the grade, with a cartilage mask."""
    rng = np.random.default_rng(i)
    image = rng.normal(100, 10, GRID).astype(np.float32)
    image[6:10, 6:10, 6:10] += 15 * kl
    mask = np.zeros(GRID, np.uint8)
    mask[6:10, 6:10, 6:8], mask[6:10, 6:10, 8:10], mask[2:4] = 2, 4, 1
    affine = np.diag([0.7, 0.5, 0.5, 1.0])
    case_id = f"knee_{i:03d}"
    write_nifti(folder / f"{case_id}.nii.gz", image, affine)
    write_nifti(folder / f"{case_id}-mask.nii.gz", mask, affine)
    return Case(
        case_id=case_id,
        subject=f"S{i:03d}",
        side="right",
        split=split,
        kl=kl,
        image=folder / f"{case_id}.nii.gz",
        segmentation=folder / f"{case_id}-mask.nii.gz",
        age=60.0,
        sex="female",
        bmi=25.0,
    )


@pytest.fixture(scope="session")
def knees(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Ten training and ten test knees, two of each grade in both splits."""
    folder = tmp_path_factory.mktemp("knees")
    return [made_case(folder, i, "train" if i < 10 else "test", i % 5) for i in range(20)]


@pytest.fixture(scope="session")
def store(knees: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The knees, prepared on their own grid."""
    made = Store(tmp_path_factory.mktemp("prepared"), GRID, (2, 4, 5))
    made.prepare_all(knees)
    return made


@pytest.fixture(scope="session")
def go() -> Iterator[Starter]:
    """Starts that fail where a test wants it."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler")
    with starter() as started:
        yield started
