"""Controls of saliency: what a map must beat before it says that a network has learned anatomy.

Two kinds. Maps that look at no network (chance, the centre, the mean cartilage, the edges of the
image, another patient's cartilage) are scored against the cartilage as saliency is. And the
network is changed: untrained (the same architecture with new random weights), randomised layer by
layer from the heads down (Adebayo et al. 2018), or shown a scan whose cartilage is deleted.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import spearmanr
from torch import nn

from kellgren.analysis import controls
from kellgren.analysis.overlap import saliency_overlap
from kellgren.cohort import Case
from kellgren.config import BackboneSettings, ExplanationSettings
from kellgren.faults import InputError
from kellgren.learn.attribution import METHODS, Image
from kellgren.learn.dataset import batches
from kellgren.learn.explain import Maps, cartilage_of, each_knee
from kellgren.learn.heads import Task, weighted_tasks
from kellgren.learn.model import (
    HierarchicalNet,
    build_model,
    load_model,
    settings_of,
    tasks_of,
    training_of,
)
from kellgren.learn.parts import begin, finish, grow
from kellgren.learn.train import deterministic
from kellgren.runs import Run
from kellgren.store import Prepared, Store

MEASURES = ("mass_roi", "top1_roi", "dice_5", "dice_10")
Row = dict[str, object]


def control(
    run: Run,
    store: Store,
    cases: Sequence[Case],
    *,
    settings: ExplanationSettings,
    exemplars: Sequence[str],
    device: torch.device,
    watch: Callable[[int], None] = lambda done: None,
) -> None:
    """Write `controls.csv`, `deletion.csv` and `randomisation.csv` of a trained run.

    Nothing is done where they stand and were made with the same settings; work that was stopped
    goes on after its last knee, see `explain`.

    Args:
        run: A trained run.
        store: Prepared volumes.
        cases: Cases of both splits; test cases with a mask are scored, training masks are averaged.
        settings: How saliency is computed.
        exemplars: Cases for the layer-by-layer randomisation.
        device: Where to compute.
        watch: Called with the number of test cases done.

    Raises:
        InputError: If the run is not trained, or fewer than two test cases have a mask.
    """
    asked = {**settings.model_dump(mode="json"), "exemplars": list(exemplars)}
    if run.randomisation.exists() and run.record().get("controlled") == asked:
        return
    test = [c for c in cases if c.split == "test" and c.segmentation is not None]
    if len(test) < 2:
        raise InputError(
            run.name, f"{len(test)} test cases with a mask", "at least two", "add masks"
        )
    training = training_of(run)
    tasks = list(weighted_tasks(tasks_of(run), training))
    tables = (run.controls, run.deletion, run.randomisation)
    text = begin(run, tables, asked=asked, work="controlling", done="controlled")
    for rows in anatomical_controls(store, cases, start=text[run.controls].count(",uniform,")):
        grow(text, run.controls, rows)
    with deterministic(training.threads):
        model, blank = load_model(run, device=device), untrained(run, device=device)
        done = text[run.controls].count(",untrained,") // len(tasks)
        ready = done % training.batch_size  # knees of the batch that was cut short
        left = test[done - ready :]
        for batch in batches(store, left, batch_size=training.batch_size, device=device):
            if not _has(text[run.deletion], batch.cases[0]):
                changes = deletion(model, store, batch.cases, image=batch.image, tasks=tasks)
                grow(text, run.deletion, changes)
            maps = METHODS[settings.method](blank, batch.image, tasks, settings)
            for case, knee, of_heads in each_knee(store, batch, maps, start=ready):
                grow(text, run.controls, _untrained_rows(case, of_heads, knee, store.cartilage))
                done += 1
                watch(done)
            ready = 0
        chosen = [case for case in test if case.case_id in exemplars]
        left = [case for case in chosen if not _has(text[run.randomisation], case)]
        for batch in batches(store, left, batch_size=1, device=device):
            shuffled = cascade(run, model, batch.image, batch.cases[0], tasks, settings)
            grow(text, run.randomisation, list(shuffled))
    finish(run, text, asked=asked, done="controlled")


def _has(text: str, case: Case) -> bool:
    return f"\n{case.case_id}," in text


def _untrained_rows(case: Case, maps: Maps, knee: Prepared, labels: tuple[int, ...]) -> list[Row]:
    cartilage = cartilage_of(knee, labels)
    rows: list[Row] = []
    for head, values in maps.items():
        keys = {"case_id": case.case_id, "head": head, "control": "untrained"}
        rows.append({**keys, **_measures(values, cartilage)})
    return rows


def anatomical_controls(
    store: Store, cases: Sequence[Case], *, start: int = 0
) -> Iterator[list[Row]]:
    """Scores of the maps that look at no network, a list per test case; the head is empty.

    Args:
        store: Prepared volumes.
        cases: Cases of both splits; those with a mask count.
        start: How many test cases to leave out at the beginning.
    """
    masked = [case for case in cases if case.segmentation is not None]
    test = [case for case in masked if case.split == "test"]
    mean = controls.mean_mask(
        cartilage_of(store.load(c.case_id), store.cartilage) for c in masked if c.split == "train"
    )
    others = controls.partners(len(test))
    for i in range(start, len(test)):
        knee = store.load(test[i].case_id)
        cartilage = cartilage_of(knee, store.cartilage)
        other = cartilage_of(store.load(test[others[i]].case_id), store.cartilage)
        edges = controls.gradient_magnitude(knee.image, spacing_mm=knee.spacing_mm)
        maps = {
            "uniform": controls.uniform(knee.image.shape),
            "centre": controls.centre_gaussian(knee.image.shape),
            "mean_cartilage": mean,
            "image_gradient": edges,
            "other_patient": controls.of_another(other),
        }
        keys: Row = {"case_id": test[i].case_id, "head": ""}
        yield [
            {**keys, "control": name, **_measures(values, cartilage)}
            for name, values in maps.items()
        ]


def untrained(run: Run, *, device: torch.device) -> HierarchicalNet:
    """The network of a run before training: the same architecture, other random weights."""
    asked = settings_of(run)
    backbone = BackboneSettings.model_validate(asked["backbone"])
    torch.manual_seed(_OTHER_SEED + run.seed)
    model = build_model(
        run.backbone,
        settings=backbone.model_copy(update={"weights": None}),
        tasks=tasks_of(run),
        training=training_of(run),
    )
    return model.to(device).eval()


@torch.no_grad()
def deletion(
    model: HierarchicalNet,
    store: Store,
    cases: Sequence[Case],
    *,
    image: Image,
    tasks: Sequence[Task],
) -> list[Row]:
    """Change of the explained logit when cartilage, or as much elsewhere, is set to the mean.

    Elsewhere is the same shape moved by half the volume along every axis, so that size and form are
    those of cartilage and only the place differs.
    """
    before = model(image).logits
    chosen = {task.name: task.chosen(before[task.name]) for task in tasks}
    masks = [cartilage_of(store.load(case.case_id), store.cartilage) for case in cases]
    moved = [np.roll(mask, [n // 2 for n in mask.shape], axis=(0, 1, 2)) for mask in masks]
    rows: list[Row] = []
    for region, regions in (("cartilage", masks), ("elsewhere", moved)):
        gone = torch.from_numpy(np.stack(regions))[:, None].to(image.device)
        after = model(image.masked_fill(gone, 0)).logits
        for task in tasks:
            change = task.scores(after[task.name]) - task.scores(before[task.name])
            change = change.gather(1, chosen[task.name][:, None])[:, 0]
            for case, value in zip(cases, change.tolist(), strict=True):
                keys = {"case_id": case.case_id, "head": task.name, "region": region}
                rows.append({**keys, "change_of_logit": value})
    return rows


def cascade(
    run: Run,
    model: HierarchicalNet,
    image: Image,
    case: Case,
    tasks: Sequence[Task],
    settings: ExplanationSettings,
) -> Iterator[Row]:
    """Rank correlation of saliency with that of networks randomised from the heads down."""
    whole = METHODS[settings.method](model, image, tasks, settings)
    blank = untrained(run, device=image.device)
    mixed = load_model(run, device=image.device)
    for depth, stage in enumerate(stages(mixed), start=1):
        mixed.get_submodule(stage).load_state_dict(blank.get_submodule(stage).state_dict())
        maps = METHODS[settings.method](mixed, image, tasks, settings)
        for head, saliency in maps.items():
            rho = _rank_correlation(saliency[0].cpu().numpy(), whole[head][0].cpu().numpy())
            keys = {"case_id": case.case_id, "head": head, "depth": depth}
            yield {**keys, "stage": stage or "whole network", "rho": rho}


def stages(model: HierarchicalNet) -> list[str]:
    """Parts of the network that hold parameters, from the heads down; at last the whole of it."""
    children: list[tuple[str, nn.Module]] = list(model.encoder.named_children())
    held = [name for name, part in children if any(True for _ in part.parameters())]
    return ["heads", *(f"encoder.{name}" for name in reversed(held)), ""]


def _measures(
    values: Float[np.ndarray, "d h w"], cartilage: Bool[np.ndarray, "d h w"]
) -> dict[str, float]:
    overlap = saliency_overlap(values, cartilage)
    return {name: getattr(overlap, name) for name in MEASURES}


def _rank_correlation(a: Float[np.ndarray, "d h w"], b: Float[np.ndarray, "d h w"]) -> float | None:
    if a.min() == a.max() or b.min() == b.max():
        return None
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


_OTHER_SEED = 1_000_003  # away from every seed that a run starts from
