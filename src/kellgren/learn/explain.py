"""Saliency of each head, and how it lies on the cartilage (section 3.5.3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kellgren.analysis.overlap import saliency_overlap, top_threshold
from kellgren.analysis.profile import distance_profile, regions
from kellgren.cohort import Case
from kellgren.config import ExplanationSettings
from kellgren.exemplars import Exemplar, read_exemplars, write_exemplars
from kellgren.faults import InputError
from kellgren.learn.attribution import METHODS
from kellgren.learn.dataset import Batch, batches
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.model import load_model, tasks_of, training_of
from kellgren.learn.parts import begin, finish, grow
from kellgren.learn.train import deterministic
from kellgren.runs import Run
from kellgren.store import Prepared, Store
from kellgren.volume import read_scan, to_scan_grid, write_nifti

Maps = dict[str, Float[np.ndarray, "d h w"]]  # of one knee, by head


def explain(
    run: Run,
    store: Store,
    cases: Sequence[Case],
    *,
    settings: ExplanationSettings,
    exemplars: Sequence[str],
    device: torch.device,
    watch: Callable[[int], None] = lambda done: None,
) -> None:
    """Write `overlap.csv`, `exemplars.npz` and the exemplars' maps in `saliency/`.

    Nothing is done where the overlaps stand and were made with the same settings; work that was
    stopped goes on after its last knee. The batch that was cut short is explained again, because
    the last bits of a map, and the noise of the noisy methods, depend on the batch; the knees of it
    that are written are left as they are.

    Args:
        run: A trained run.
        store: Prepared volumes of the cases.
        cases: Cases of both splits; test cases with a cartilage mask are explained.
        settings: How saliency is computed.
        exemplars: Case ids whose maps are kept, as pictures and on the scan's own grid.
        device: Where to compute.
        watch: Called with the number of cases done.

    Raises:
        InputError: If the run is not trained.
    """
    asked = {**settings.model_dump(mode="json"), "exemplars": list(exemplars)}
    if run.overlap.exists() and run.record().get("explained") == asked:
        return
    training = training_of(run)
    masked = [c for c in cases if c.split == "test" and c.segmentation is not None]
    text = begin(run, [run.overlap], asked=asked, work="explaining", done="explained")
    pictures = _pictures_so_far(run, text[run.overlap])
    with deterministic(training.threads):
        model = load_model(run, device=device)
        tasks = list(weighted_tasks(tasks_of(run), training))
        done = max(text[run.overlap].count("\n") - 1, 0) // len(tasks)
        ready = done % training.batch_size  # knees of the batch that was cut short
        left = masked[done - ready :]
        for batch in batches(store, left, batch_size=training.batch_size, device=device):
            maps = METHODS[settings.method](model, batch.image, tasks, settings)
            for case, knee, of_heads in each_knee(store, batch, maps, start=ready):
                if case.case_id in exemplars:
                    pictures += _pictures(run, case, knee, of_heads, store.cartilage)
                    write_exemplars(run.exemplars, pictures)
                grow(text, run.overlap, _rows(case, knee, of_heads, store, settings))
                done += 1
                watch(done)
            ready = 0
    finish(run, text, asked=asked, done="explained")


def _pictures_so_far(run: Run, text: str) -> list[Exemplar]:
    """Pictures of the knees that have their rows; of others none is kept."""
    if not text:
        write_exemplars(run.exemplars, [])
    return [e for e in read_exemplars(run.exemplars) if f"\n{e.case_id}," in text]


def exemplar_cases(
    store: Store, cases: Sequence[Case], *, wanted: Sequence[str] = ()
) -> tuple[str, ...]:
    """The cases whose maps are kept: those wanted, or one per KL grade by a rule.

    The rule is the knee of that grade with the median share of cartilage in its scan (the lower
    one of two), ties by case id. It looks at no model and no grid, so that no model chooses its own
    picture and all models show the same knees.
    """
    if wanted:
        return tuple(wanted)
    chosen = []
    for grade in sorted({case.kl for case in cases}):
        shares = [
            (store.load(case.case_id).cartilage_share_scan, case.case_id)
            for case in cases
            if case.kl == grade and case.segmentation is not None
        ]
        if shares:
            chosen.append(sorted(shares)[(len(shares) - 1) // 2][1])
    return tuple(chosen)


def each_knee(
    store: Store, batch: Batch, maps: Mapping[str, Float[Tensor, "n d h w"]], *, start: int
) -> Iterator[tuple[Case, Prepared, Maps]]:
    """Each knee of a batch from the given place on, with the map of each head."""
    for i in range(start, len(batch.cases)):
        of_heads = {head: saliency[i].cpu().numpy() for head, saliency in maps.items()}
        yield batch.cases[i], store.load(batch.cases[i].case_id), of_heads


def _rows(
    case: Case, knee: Prepared, maps: Maps, store: Store, settings: ExplanationSettings
) -> list[dict[str, object]]:
    """Rows of `overlap.csv` of one knee, one a head."""
    measured = {
        head: _measures(knee, saliency, labels=store.cartilage, settings=settings)
        for head, saliency in maps.items()
    }
    keys: dict[str, dict[str, object]] = {
        head: {"case_id": case.case_id, "head": head} for head in maps
    }
    return [keys[head] | measured[head] for head in maps]


def _pictures(
    run: Run, case: Case, knee: Prepared, maps: Maps, labels: tuple[int, ...]
) -> list[Exemplar]:
    """Pictures of one knee, one a head; its maps are written beside them."""
    for head, saliency in maps.items():
        _write_map(run, case, knee, head, saliency)
    return [_exemplar(run, case, knee, head, values, labels) for head, values in maps.items()]


def cartilage_of(knee: Prepared, labels: tuple[int, ...]) -> Bool[np.ndarray, "d h w"]:
    """Voxels of cartilage on the network's grid.

    Raises:
        InputError: If the case has no mask.
    """
    if knee.mask is None:
        raise InputError("a prepared case", "no mask", "a segmentation", "leave the case out")
    return np.isin(knee.mask, labels)


def _measures(
    knee: Prepared,
    saliency: Float[np.ndarray, "d h w"],
    *,
    labels: tuple[int, ...],
    settings: ExplanationSettings,
) -> dict[str, object]:
    """Overlap with cartilage, and where the saliency lies that misses it."""
    cartilage = cartilage_of(knee, labels)
    measures: dict[str, object] = asdict(saliency_overlap(saliency, cartilage))
    measures["cartilage_share_scan"] = knee.cartilage_share_scan
    mass = 0.0
    for ring in distance_profile(saliency, cartilage, spacing_mm=knee.spacing_mm):
        mass += ring.mass
        if 0 < ring.up_to_mm < np.inf:
            measures[f"mass_within_{ring.up_to_mm:g}mm"] = mass
    labelled = np.asarray(knee.mask, dtype=np.int64)
    for region in regions(saliency, labelled, names=settings.regions):
        measures[f"mass_{region.name}"] = region.mass
        measures[f"enrichment_{region.name}"] = region.enrichment
    return measures


def _exemplar(
    run: Run,
    case: Case,
    knee: Prepared,
    head: str,
    saliency: Float[np.ndarray, "d h w"],
    labels: tuple[int, ...],
) -> Exemplar:
    """The slices with the most cartilage, seen from the side and from the front."""
    cartilage = cartilage_of(knee, labels)
    d = int(cartilage.sum(axis=(1, 2)).argmax())
    w = int(cartilage.sum(axis=(0, 1)).argmax())
    scaled = saliency / max(float(saliency.max()), np.finfo(np.float32).tiny)
    return Exemplar(
        case_id=case.case_id,
        kl=case.kl,
        backbone=run.backbone,
        supervision=run.supervision,
        seed=run.seed,
        head=head,
        spacing_mm=knee.spacing_mm,
        sagittal_scan=knee.image[d],
        sagittal_cartilage=cartilage[d],
        sagittal_saliency=scaled[d],
        coronal_scan=knee.image[:, :, w].T,
        coronal_cartilage=cartilage[:, :, w].T,
        coronal_saliency=scaled[:, :, w].T,
        top1_threshold=top_threshold(scaled, 1),
    )


def _write_map(
    run: Run, case: Case, knee: Prepared, head: str, saliency: Float[np.ndarray, "d h w"]
) -> None:
    scan = read_scan(case.image)
    on_scan, affine = to_scan_grid(saliency, scan, mirrored=knee.mirrored, crop_mm=knee.crop_mm)
    write_nifti(run.saliency / f"{case.case_id}-{head}.nii.gz", on_scan, affine)
