"""How a study is carried out, step by step: here, one run after the other.

Every step does what is missing, so runs may as well be done elsewhere; see `kellgren.jobs`.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from kellgren.cohort import Case, covariates_of, read_cohort, summary, write_cohort
from kellgren.config import BackboneSettings, Study
from kellgren.faults import InputError
from kellgren.files import swept
from kellgren.importers import import_oaizib_cm
from kellgren.learn.backbones import build_encoder
from kellgren.learn.controls import control
from kellgren.learn.explain import exemplar_cases, explain
from kellgren.learn.group import ALONE, Group
from kellgren.learn.planted import locate
from kellgren.learn.predict import predict
from kellgren.learn.train import Step, train
from kellgren.learn.weights import check_weights
from kellgren.lease import alone
from kellgren.phantom import write_release
from kellgren.phantom.signs import read_signs
from kellgren.progress import Advance, Stage, silent
from kellgren.radiomics.benchmark import NEEDS_NO_FEATURES, SYSTEMS
from kellgren.radiomics.systems import SUPERVISION_OF, Material, empty_table, fit_run
from kellgren.radiomics.table import FeatureTable
from kellgren.runs import Run
from kellgren.store import Store
from kellgren.study import StudyResult, analyze
from kellgren.truth import Truth


@dataclass(frozen=True)
class Workplace:
    """A study and the folder in which it is carried out.

    Attributes:
        study: What is studied.
        folder: Holds `phantom/`, `cohort.csv`, `prepared/`, `runs/` and `study/`.
        device: Where networks are trained and asked.
        stage: How progress is shown.
        group: The processes that train each network together.
    """

    study: Study
    folder: Path
    device: torch.device
    stage: Stage = silent
    group: Group = ALONE

    def runs(self) -> list[Run]:
        """Every planned run: seeds, then backbones, then supervision settings."""
        return [
            Run.at(self.folder / "runs" / f"{backbone}-{supervision}-s{seed}")
            for seed in self.study.seeds
            for backbone in self.study.backbones
            for supervision in self.study.supervisions
        ]

    def ends(self, run: Run) -> list[Path]:
        """The files that stand when a run is done."""
        files = [run.weights, run.predictions, run.features]
        if self.study.explain:
            files += [run.overlap, run.randomisation]
            files += [run.planted] if self.study.cohort.phantom is not None else []
        return files

    def radiomics_runs(self) -> list[Run]:
        """Every planned run of a radiomics system: seeds, then systems, then tasks."""
        settings = self.study.radiomics
        if settings is None:
            return []
        return [
            Run.at(self.folder / "runs" / f"{system}-{SUPERVISION_OF[task]}-s{seed}")
            for seed in self.study.seeds
            for system in settings.systems
            for task in settings.tasks
        ]

    def settings(self, backbone: str) -> BackboneSettings:
        """Size and grid of a backbone of the study."""
        return self.study.backbones[backbone]

    def store(self, backbone: str) -> Store:
        """The prepared volumes on the grid of a backbone."""
        return self.store_of(self.settings(backbone).grid)

    def store_of(self, grid: tuple[int, int, int]) -> Store:
        """The prepared volumes on a grid."""
        name = "x".join(str(n) for n in grid)
        cohort, preparation = self.study.cohort, self.study.preparation
        return Store(self.folder / "prepared" / name, grid, cohort.cartilage, preparation)

    def radiomics_store(self) -> Store:
        """The prepared volumes that the image rows of the benchmark read."""
        assert self.study.radiomics is not None  # asked for by its systems alone
        return self.store_of(self.study.radiomics.grid)

    def cohort(self) -> list[Case]:
        """The knees of the study; a phantom is made first where the study asks for one."""
        phantom = self.study.cohort.phantom
        if self.study.cohort.table is not None:
            return read_cohort(self.study.cohort.table)
        assert phantom is not None  # the study file has one or the other
        release, table = self.folder / "phantom", self.folder / "cohort.csv"
        knees = phantom.train + phantom.test
        with _working(self, release, "make synthetic knees", knees, patient=True) as advance:
            write_release(
                release,
                train=phantom.train,
                test=phantom.test,
                grid=phantom.grid,
                seed=phantom.seed,
                contrast=phantom.contrast,
                agreement=phantom.agreement,
                progress=lambda done, total: advance(done, f"{done} knees"),
            )
            swept(self.folder.iterdir())
            write_cohort(table, import_oaizib_cm(release).cases)
        return read_cohort(table)

    def truth(self) -> Truth | None:
        """What is true of the knees, which only a phantom tells."""
        if self.study.cohort.phantom is None:
            return None
        return Truth.read(self.folder / "phantom" / "severity.csv")


def check_backbones(study: Study, stage: Stage = silent) -> None:
    """Build every network without memory, so that a wrong size or grid shows before any work.

    Where a backbone starts from released weights, the stage says what they give.

    Raises:
        InputError: If a backbone has no such size, its grid does not fit, or the weights that it
            should start from do not.
    """
    for name, settings in study.backbones.items():
        with torch.device("meta"):
            encoder = build_encoder(name, size=settings.size, grid=settings.grid)
        if settings.weights is not None:
            with stage(f"start {name}", 1) as advance:
                advance(1, str(check_weights(encoder, settings.weights)))


def prepare(place: Workplace, cases: Sequence[Case], *, workers: int = 1) -> None:
    """Prepare every case on every grid of the study; each worker holds one scan in memory."""
    for grid in place.study.grids:
        _prepare(place, place.store_of(grid), cases, workers=workers)


def _prepare(place: Workplace, store: Store, cases: Sequence[Case], *, workers: int = 1) -> None:
    title = f"prepare {'x'.join(str(n) for n in store.grid)}"
    with _working(place, store.folder, title, len(cases), patient=True) as advance:
        store.prepare_all(
            cases,
            progress=lambda done, total: advance(done, f"{done} knees"),
            workers=workers,
        )


def train_run(place: Workplace, run: Run, cases: Sequence[Case]) -> None:
    """Train one run on the training split."""
    training, backbone = place.study.training, place.settings(run.backbone)
    knees = [case for case in cases if case.split == "train"]
    steps = math.ceil(len(knees) / training.batch_size) * training.epochs
    title = f"train {run.name}"
    leading = _working(place, run.folder, title, steps) if place.group.leads else None
    with leading or place.stage(title, steps) as advance:
        train(
            run,
            place.store(run.backbone),
            knees,
            backbone=backbone,
            supervision=place.study.ways[run.supervision],
            training=training,
            device=place.device,
            watch=lambda step: advance(*_place_and_note(step)),
            group=place.group,
        )


def predict_run(place: Workplace, run: Run, cases: Sequence[Case]) -> None:
    """Predict both splits with one run."""
    with _working(place, run.folder, f"predict {run.name}", 1) as advance:
        predict(run, place.store(run.backbone), cases, device=place.device)
        advance(1, "")


def explain_run(place: Workplace, run: Run, cases: Sequence[Case]) -> None:
    """Explain the test split with one run, and set its saliency beside the controls.

    In a phantom it is also held against the signs that were planted.
    """
    store, settings = place.store(run.backbone), place.study.explanation
    test = [case for case in cases if case.split == "test"]
    chosen = exemplar_cases(store, test, wanted=settings.exemplars)
    for verb, work in {"explain": explain, "control": control}.items():
        with _working(place, run.folder, f"{verb} {run.name}", len(test)) as advance:
            work(
                run,
                store,
                cases,
                settings=settings,
                exemplars=chosen,
                device=place.device,
                watch=partial(_count, advance),
            )
    if place.study.cohort.phantom is not None:
        with _working(place, run.folder, f"locate {run.name}", len(test)) as advance:
            locate(
                run,
                store,
                cases,
                signs=partial(read_signs, place.folder / "phantom"),
                settings=settings,
                device=place.device,
                watch=partial(_count, advance),
            )


def material(place: Workplace, cases: Sequence[Case]) -> Material:
    """What the radiomics systems of a study look at.

    Raises:
        InputError: If the study has none, or a knee has no features though a system reads them.
    """
    settings = place.study.radiomics
    if settings is None:
        raise InputError(
            place.study.name, "no [radiomics]", "the systems to fit", "name some in the study file"
        )
    knees, ids = tuple(cases), [case.case_id for case in cases]
    table = empty_table(knees)
    if not NEEDS_NO_FEATURES.issuperset(settings.systems):
        paths = settings.features or (place.folder / "features.csv",)
        table = FeatureTable.read(paths).of(ids)
    return Material(knees, table, place.radiomics_store(), settings, str(place.device))


def fit_radiomics(place: Workplace, cases: Sequence[Case]) -> None:
    """Fit every radiomics system of a study on its training split, after what it looks at."""
    runs = place.radiomics_runs()
    if not runs:
        return
    looked_at = material(place, cases)
    if any(looked_at.settings.reads_scans(run.backbone) for run in runs):
        _prepare(place, looked_at.store, cases)
    for run in runs:
        with _working(place, run.folder, f"fit {run.name}", 100) as advance:
            fit_run(run, SYSTEMS[run.backbone], looked_at, watch=advance)


def _count(advance: Advance, done: int) -> None:
    advance(done, f"{done} knees")


STEPS = {"train": train_run, "predict": predict_run, "explain": explain_run}


def analyze_study(place: Workplace, cases: Sequence[Case]) -> StudyResult:
    """Analyse the planned runs and write the tables to `study/`."""
    study = place.study
    with _working(place, place.folder / "study", "analyze", 1, patient=True) as advance:
        result = analyze(
            [*place.runs(), *place.radiomics_runs()],
            settings=study.analysis,
            name=study.name,
            cohort=summary(cases),
            covariates=covariates_of(cases),
            protocol=study.protocol(),
            truth=place.truth(),
        )
        result.write(place.folder / "study")
        advance(1, "")
    return result


def begin_study(place: Workplace) -> list[Case]:
    """All that comes before the runs: sound settings, and every knee there and prepared."""
    check_backbones(place.study, place.stage)
    cases = place.cohort()
    prepare(place, cases)
    return cases


def do_run(place: Workplace, run: Run, cases: Sequence[Case]) -> None:
    """Every step of one run."""
    for verb, step in STEPS.items():
        if verb != "explain" or place.study.explain:
            step(place, run, cases)


def finish_study(place: Workplace, cases: Sequence[Case]) -> StudyResult:
    """All that comes after the runs: the radiomics systems, and the tables."""
    fit_radiomics(place, cases)
    return analyze_study(place, cases)


def run_study(place: Workplace) -> StudyResult:
    """The whole study up to its tables, one run after the other."""
    cases = begin_study(place)
    for run in place.runs():
        do_run(place, run, cases)
    return finish_study(place, cases)


def _place_and_note(step: Step) -> tuple[int, str]:
    done = step.epoch * step.steps + step.step + 1
    return done, f"epoch {step.epoch + 1}/{step.epochs}, loss {step.loss:.3f}"


@contextmanager
def _working(
    place: Workplace, folder: Path, title: str, total: int, *, patient: bool = False
) -> Iterator[Advance]:
    """A stage in a folder where this process works alone, and stops if another has taken it over.

    A second process is refused, or waits where it is to use what the first one makes.
    """
    with alone(folder, patient=patient) as still, place.stage(title, total) as advance:

        def go_on(done: int, note: str) -> None:
            still()
            advance(done, note)

        try:
            yield go_on
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise InputError(
                title,
                f"too little memory on {place.device} ({error})",
                "memory for a batch of knees",
                "in [training] set checkpoint = true, or halve batch_size and double accumulate, or"
                " take a smaller grid, and give another --out",
            ) from error


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether numpy, torch on a GPU or torch on the CPU found no memory."""
    known = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, known) or "DefaultCPUAllocator" in str(error)
