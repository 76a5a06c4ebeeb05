"""Saliency on the signs of disease that were planted in a phantom, which real scans cannot tell."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Float, UInt8

from kellgren.analysis.controls import gradient_magnitude
from kellgren.analysis.planted import on_signs
from kellgren.cohort import Case
from kellgren.config import ExplanationSettings
from kellgren.learn.attribution import METHODS
from kellgren.learn.controls import untrained
from kellgren.learn.dataset import batches
from kellgren.learn.explain import cartilage_of, each_knee
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.model import load_model, tasks_of, training_of
from kellgren.learn.parts import begin, finish, grow
from kellgren.learn.train import deterministic
from kellgren.phantom.severity import SIGNS
from kellgren.runs import Run
from kellgren.store import Prepared, Store

Signs = Callable[[Case, Prepared], UInt8[np.ndarray, "d h w"]]
ONCE = ",image_gradient,osteophyte,"  # one row a knee, whatever the heads


def locate(
    run: Run,
    store: Store,
    cases: Sequence[Case],
    *,
    signs: Signs,
    settings: ExplanationSettings,
    device: torch.device,
    watch: Callable[[int], None] = lambda done: None,
) -> None:
    """Write `planted.csv`: how three maps of each test knee lie on the signs planted in it.

    The maps are the saliency of each head, that of the untrained network, and the edges of the
    scan, which no network made. Nothing is done where the table stands and was made with the same
    settings; work that was stopped goes on after its last knee, see `explain`.

    Args:
        run: A trained run.
        store: Prepared volumes.
        cases: Cases of both splits; test cases with a mask are looked at.
        signs: Labels of the signs of a knee on the grid of its prepared volume.
        settings: How saliency is computed.
        device: Where to compute.
        watch: Called with the number of test cases done.

    Raises:
        InputError: If the run is not trained, or a knee has no signs.
    """
    asked = settings.model_dump(mode="json")
    if run.planted.exists() and run.record().get("located") == asked:
        return
    training = training_of(run)
    tasks = list(weighted_tasks(tasks_of(run), training))
    test = [c for c in cases if c.split == "test" and c.segmentation is not None]
    text = begin(run, [run.planted], asked=asked, work="locating", done="located")
    with deterministic(training.threads):
        networks = {
            "saliency": load_model(run, device=device),
            "untrained": untrained(run, device=device),
        }
        done = text[run.planted].count(ONCE)
        ready = done % training.batch_size  # knees of the batch that was cut short
        left = test[done - ready :]
        for batch in batches(store, left, batch_size=training.batch_size, device=device):
            maps = {
                f"{head},{name}": values
                for name, network in networks.items()
                for head, values in METHODS[settings.method](
                    network, batch.image, tasks, settings
                ).items()
            }
            for case, knee, found in each_knee(store, batch, maps, start=ready):
                edges = gradient_magnitude(knee.image, spacing_mm=knee.spacing_mm)
                found[",image_gradient"] = edges
                grow(text, run.planted, _rows(case, knee, found, signs(case, knee), store))
                done += 1
                watch(done)
            ready = 0
    finish(run, text, asked=asked, done="located")


def _rows(
    case: Case,
    knee: Prepared,
    maps: dict[str, Float[np.ndarray, "d h w"]],
    signs: UInt8[np.ndarray, "d h w"],
    store: Store,
) -> list[dict[str, object]]:
    cartilage = cartilage_of(knee, store.cartilage)
    keys = {key: dict(zip(("head", "map"), key.split(","), strict=True)) for key in maps}
    return [
        {"case_id": case.case_id, **keys[key], **asdict(on)}
        for key, values in maps.items()
        for on in on_signs(values, signs, cartilage, names=SIGNS)
    ]
