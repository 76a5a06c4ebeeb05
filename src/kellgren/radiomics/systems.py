"""What a radiomics system is, and how a fitted one becomes a run folder like that of a network."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from kellgren import __version__
from kellgren.cohort import Case
from kellgren.config import SETTINGS_OF, RadiomicsSettings
from kellgren.faults import InputError
from kellgren.files import digest_of, write_json
from kellgren.labels import oa_from_kl
from kellgren.radiomics.table import FeatureTable
from kellgren.runs import SCHEMA, Run
from kellgren.store import Store
from kellgren.tables import LOGIT_KL, Features, write_csv

SUPERVISION_OF = {"oa": "single_oa", "kl": "single_kl"}
COLUMNS = {"oa": ["logit_oa"], "kl": LOGIT_KL}
EVIDENCE = ["region", "feature", "weight"]


@dataclass(frozen=True)
class Material:
    """What a system may look at; it fits and selects on the training split alone.

    Attributes:
        cases: Knees of both splits.
        table: Their features, in the order of the cases.
        store: Prepared scans and masks, for the systems that look at images.
        settings: What the study file says of the systems.
        device: Where a system that is a network of scans is fitted, as torch names it.
    """

    cases: tuple[Case, ...]
    table: FeatureTable
    store: Store
    settings: RadiomicsSettings
    device: str = "cpu"

    @property
    def kl(self) -> Int[np.ndarray, " n"]:
        """Reference KL grade of each knee."""
        return np.array([case.kl for case in self.cases], dtype=np.int64)

    def rows(self, split: str) -> Int[np.ndarray, " m"]:
        """Places of the knees of a split."""
        return np.flatnonzero(np.array([case.split == split for case in self.cases]))

    def target(self, task: str) -> Int[np.ndarray, " n"]:
        """Class of each knee: its grade, or 1 for OA."""
        return self.kl if task == "kl" else oa_from_kl(self.kl).astype(np.int64)


@dataclass(frozen=True)
class Fitted:
    """What a fitted system says of every knee of its material.

    Attributes:
        logits: One log-odds of OA, or five logits of the grades.
        z: What the last layer reads: the features of the severity axis.
        evidence: `region, feature, weight`: how much each feature carries, signed toward the more
            severe class, over standardised features; empty where the system has none.
        record: What was chosen and how, for `run.json`.
        device: Where it was fitted.
    """

    logits: Float[np.ndarray, "n c"]
    z: Float[np.ndarray, "n f"]
    evidence: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=EVIDENCE))
    record: Mapping[str, Any] = field(default_factory=dict)  # any JSON object
    device: str = "cpu"


Watch = Callable[[int, str], None]


@runtime_checkable
class System(Protocol):
    """Fits a system on the training knees for a task, "oa" or "kl", and applies it to all."""

    def __call__(self, material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
        """Fit and apply; `watch` is called with a share of 100 and a note."""
        ...


def fit_run(run: Run, system: System, material: Material, *, watch: Watch) -> None:
    """Fit a system and write its run folder; nothing where its predictions stand.

    Writes `run.json`, `features.npz`, `attribution.csv` (where the system has evidence) and, last,
    `predictions.csv`.

    Raises:
        InputError: If the folder holds a run with other settings or data.
    """
    task = {setting: task for task, setting in SUPERVISION_OF.items()}[run.supervision]
    asked = _asked(run, material)
    before = run.record().get("asked", asked)
    if before != asked:
        changed = [key for key in asked if before.get(key) != asked[key]]
        raise InputError(
            str(run.folder),
            f"a run of other {', '.join(changed)}",
            "the settings and data that it was started with",
            "choose another output folder, or delete this run to fit it anew",
        )
    if run.predictions.exists():
        return
    fitted = system(material, task, seed=run.seed, watch=watch)
    _write(run, task, material, fitted, asked)


def _write(run: Run, task: str, material: Material, fitted: Fitted, asked: dict[str, Any]) -> None:
    versions = {"kellgren": __version__, "python": platform.python_version()}
    made_with = versions | {"device": fitted.device}
    write_json(
        run.settings_file,
        {
            "schema": SCHEMA,
            "asked": asked,
            "made_with": made_with,
            "fitted": dict(fitted.record),
        },
    )
    keys = {
        "case_id": np.array([case.case_id for case in material.cases], dtype=object),
        "split": np.array([case.split for case in material.cases], dtype=object),
        "kl": material.kl,
    }
    Features(**keys, z=fitted.z).write(run.features)
    if len(fitted.evidence):
        write_csv(run.attribution, fitted.evidence)
    table = pd.DataFrame(keys)
    for head, names in COLUMNS.items():
        table[names] = fitted.logits if head == task else np.nan
    write_csv(run.predictions, table)


def _asked(run: Run, material: Material) -> dict[str, Any]:
    graded = sorted((case.case_id, case.kl, case.split) for case in material.cases)
    own = SETTINGS_OF.get(run.backbone)
    others = set(SETTINGS_OF.values()) - {own}
    settings = material.settings.model_dump(
        mode="json", exclude={"features", "systems", "tasks", *others}
    )
    asked = {"run": run.name, "radiomics": settings, "cases_digest": digest_of(graded)}
    if own != "image":
        asked["features_digest"] = _digest(material.table)
    if material.settings.reads_scans(run.backbone):
        ids = [case.case_id for case in material.cases]
        asked["volumes_digest"] = material.store.digest(ids)
    return asked


def _digest(table: FeatureTable) -> str:
    values = np.nan_to_num(table.values, nan=-1e300).tolist()
    return digest_of([list(table.case_id), table.regions, table.features, values])


def empty_table(cases: Sequence[Case]) -> FeatureTable:
    """A table without features, for studies whose systems look at images or persons alone."""
    ids = np.array([case.case_id for case in cases], dtype=object)
    return FeatureTable(ids, (), (), np.zeros((len(ids), 0, 0)))
