"""Knees with made features, some of which rise with the grade, for the tests of the systems."""

from pathlib import Path

import numpy as np

from kellgren.cohort import Case
from kellgren.config import RadiomicsSettings
from kellgren.radiomics.systems import Material
from kellgren.radiomics.table import FeatureTable
from kellgren.store import Store

FEATURES = ("original_shape_Sphericity", "original_glcm_Contrast", "original_firstorder_Mean")
REGIONS = ("roi_1", "roi_2", "roi_3", "roi_4", "roi_5")


def quiet(share: int, note: str) -> None:
    """Show no progress."""


def made_cases(train: int, test: int) -> tuple[Case, ...]:
    """Knees whose grades go round from 0 to 4."""
    return tuple(
        Case(
            case_id=f"knee_{i:03d}",
            subject=f"S{i:03d}",
            side="right",
            split="train" if i < train else "test",
            kl=i % 5,
            image=Path(f"knee_{i:03d}.nii.gz"),
            age=50.0 + 3 * (i % 5),
            sex=("female", "male")[i % 2],
            bmi=25.0,
        )
        for i in range(train + test)
    )


def made_material(*, train: int = 60, test: int = 30, seed: int = 0) -> Material:
    """Sphericity falls with the grade, the other features are noise."""
    cases, rng = made_cases(train, test), np.random.default_rng(seed)
    ids = np.array([case.case_id for case in cases], dtype=object)
    values = rng.normal(size=(len(cases), len(REGIONS), len(FEATURES)))
    values[:, :, 0] -= np.array([[case.kl] for case in cases])
    table = FeatureTable(ids, REGIONS, FEATURES, values)
    store = Store(Path("prepared"), (8, 8, 8), (2, 4, 5))
    return Material(cases, table, store, RadiomicsSettings(systems=("shape",)))
