"""What a network costs on this machine, found by a few steps on noise in a process of its own."""

import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context

import torch

from kellgren.config import BackboneSettings, ExplanationSettings, TrainingSettings
from kellgren.faults import InputError
from kellgren.learn.attribution import METHODS
from kellgren.learn.dataset import Batch
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.means import Means, Share
from kellgren.learn.model import build_model
from kellgren.learn.objective import Learner, Objective
from kellgren.learn.train import deterministic, train_epoch

# The first step also plans and compiles; one that takes longer than this stands for all others.
LONG_S = 20.0
REPEATS = 3
HEADS = ("oa", "kl")  # a head costs next to nothing beside its encoder


@dataclass(frozen=True)
class Probe:
    """Costs of one network.

    Attributes:
        step_s: Seconds of a training step on one batch.
        forward_s: Seconds of a forward pass without gradients, a knee.
        saliency_s: Seconds of a forward pass and the gradients of two heads, a knee.
        memory_bytes: The most that was held during a step: of a GPU, or of the whole process.
    """

    step_s: float
    forward_s: float
    saliency_s: float
    memory_bytes: int


@lru_cache
def probe(
    backbone: str, settings: BackboneSettings, training: TrainingSettings, device: str
) -> Probe:
    """Measure a network with the batch size and the means of a study.

    Raises:
        InputError: If it does not fit into memory.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        try:
            return child.submit(_measured, backbone, settings, training, device).result()
        except (BrokenProcessPool, torch.OutOfMemoryError, MemoryError) as error:
            raise InputError(
                f"a step of {backbone} on {device}",
                f"too little memory ({type(error).__name__})",
                f"memory for {training.batch_size} knees of {settings.grid}",
                "set checkpoint = true, or halve batch_size and double accumulate",
            ) from error


def _measured(
    backbone: str, settings: BackboneSettings, training: TrainingSettings, name: str
) -> Probe:
    device, n = torch.device(name), training.batch_size
    means, tasks = Means.of(training, device), weighted_tasks(HEADS, training)
    with deterministic(training.threads):
        model = build_model(backbone, settings=settings, tasks=HEADS, training=training)
        means.prepare(model.to(device))
        learner = Learner(model, Objective(tasks, training).to(device))
        optimizer = means.optimizer(learner, training)
        image = torch.randn(n, 1, *settings.grid, device=device)
        batch = Batch((), image, torch.arange(n, device=device) % 5)
        share = Share(1.0, first=True, last=True, cases=n)

        def step() -> None:
            train_epoch(
                learner,
                optimizer,
                [(batch, share)],
                training=training,
                means=means,
                seen=lambda step, loss: None,
            )

        step_s, memory = _seconds(step, device), _peak_bytes(device)
        model.eval()
        knee, asked = image[:1], ExplanationSettings()

        @torch.no_grad()
        def forward() -> None:
            model(knee)

        forward_s = _seconds(forward, device)
        saliency_s = _seconds(lambda: METHODS["gradient"](model, knee, list(tasks), asked), device)
    return Probe(step_s, forward_s, saliency_s, memory)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """The shortest of a few runs after the first, or the first where it is long."""
    seconds = [_once(work, device)]
    if seconds[0] < LONG_S:
        seconds = [_once(work, device) for _ in range(REPEATS)]
    return min(seconds)


def _once(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
