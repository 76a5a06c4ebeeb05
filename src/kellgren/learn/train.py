"""Training, section 3.4: a plain loop that a kill at any moment cannot change.

The order of the cases, their augmentation and the noise of dropout are pure functions of (seed,
epoch), and a checkpoint of everything else is written whole after each epoch. So a run that was
stopped and taken up again ends with the same bits, on the same machine with the same number of
threads.
"""

import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save

from kellgren import __version__
from kellgren.cohort import Case
from kellgren.config import SUPERVISIONS, BackboneSettings, Supervision, TrainingSettings
from kellgren.faults import InputError
from kellgren.files import digest_of, digest_of_bytes, write_bytes, write_json
from kellgren.learn.augmentation import changes_of
from kellgren.learn.backbones import Encoder
from kellgren.learn.backbones.nnmamba import Mamba
from kellgren.learn.backbones.scan import kernel_for
from kellgren.learn.checkpoint import (
    LogRow,
    forget_checkpoints,
    restore_checkpoint,
    save_checkpoint,
)
from kellgren.learn.dataset import Batch, batches, epoch_order
from kellgren.learn.group import ALONE, Group, join_batch_norms
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.interference import Interference
from kellgren.learn.means import Means, Share, shares
from kellgren.learn.model import HierarchicalNet, build_model
from kellgren.learn.objective import Learner, Objective
from kellgren.learn.replay import Replay
from kellgren.learn.weights import load_weights, sha256_of
from kellgren.runs import SCHEMA, Run
from kellgren.store import Store


@dataclass(frozen=True)
class Step:
    """Where training stands, for whoever watches: 0-based epoch and step, and the last loss."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


Watch = Callable[[Step], None]


def unwatched(step: Step) -> None:
    """Nobody looks."""


def train(
    run: Run,
    store: Store,
    cases: Sequence[Case],
    *,
    backbone: BackboneSettings,
    training: TrainingSettings,
    device: torch.device,
    supervision: Supervision | None = None,
    watch: Watch = unwatched,
    group: Group = ALONE,
) -> None:
    """Train on the given cases; write `run.json`, `log.csv` and `weights.safetensors`.

    Takes up an interrupted run at its last finished epoch, and does nothing where the weights
    stand already.

    Args:
        run: Folder, backbone, supervision and seed.
        store: Prepared volumes of the cases.
        cases: Training cases; every epoch sees each once.
        backbone: Size and grid of the encoder.
        training: Optimisation settings of the study.
        device: Where to train.
        supervision: Heads, and what changes in the settings for them; None for the built-in
            setting of the run's name.
        watch: Called after every step.
        group: The processes that train this run together; the first one writes.

    Raises:
        InputError: If the folder holds a run with other settings or data, the loss is not finite,
            or the settings are none for several processes.
    """
    supervised = supervision or SUPERVISIONS[run.supervision]
    training, tasks = supervised.applied(training), supervised.tasks
    group.check(training)
    asked = group.recorded() | _asked(
        run, store, cases, backbone=backbone, tasks=tasks, training=training
    )
    _refuse_other_settings(run, asked)
    if run.weights.exists():
        forget_checkpoints(run)
        return
    means = Means.of(training, device)
    with deterministic(training.threads):
        started = time.perf_counter()
        torch.manual_seed(run.seed)
        model = build_model(run.backbone, settings=backbone, tasks=tasks, training=training)
        started_from = _start(model, backbone)
        made_with = {**_made_with(device), "fused": means.fused, **_scan_kernel(model, device)}
        record = {
            "schema": SCHEMA,
            "asked": asked,
            "made_with": made_with,
            "started_from": started_from,
        }
        if group.leads:
            write_json(run.settings_file, record)
        join_batch_norms(model, group)
        means.prepare(model.to(device))
        weights = weighted_tasks(tasks, training, [case.kl for case in cases])
        learner = Learner(model, Objective(weights, training).to(device))
        optimizer = means.optimizer(learner, training)
        log = restore_checkpoint(run, learner, optimizer, asked=digest_of(asked), device=device)
        group.agree(len(log), str(run.folder))
        for epoch in range(len(log), training.epochs):
            order = [cases[i] for i in epoch_order(len(cases), seed=run.seed, epoch=epoch)]
            knees = batches(
                store,
                order,
                batch_size=training.batch_size,
                device=device,
                changes=changes_of(training.augmentation, seed=run.seed, epoch=epoch),
                part=group.part,
            )
            parts = shares(len(cases), batch_size=training.batch_size, accumulate=means.accumulate)
            torch.manual_seed(_epoch_seed(run.seed, epoch, group.rank))
            seen = _seen(run, watch, epoch=epoch, epochs=training.epochs, steps=len(parts))
            learner.objective.begin(log)
            row = train_epoch(
                learner,
                optimizer,
                zip(knees, parts, strict=True),
                training=training,
                means=means,
                seen=seen,
                group=group,
            )
            _check_weights(run, learner, epoch)
            log.append({"epoch": epoch + 1, "lr": training.lr, **row})
            if group.leads:
                save_checkpoint(run, learner, optimizer, log=log, asked=digest_of(asked))
        if group.leads:
            _finish(run, model, log=log, seconds=time.perf_counter() - started)


def train_epoch(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    knees: Iterable[tuple[Batch, Share]],
    *,
    training: TrainingSettings,
    means: Means,
    seen: Callable[[int, float], None],
    group: Group = ALONE,
) -> LogRow:
    """One pass over the knees; mean of the objective and of each loss, and the seconds.

    Args:
        learner: The network and its objective.
        optimizer: Updates both.
        knees: Batches, and what each is of an update.
        training: How many batches are looked at for interference.
        means: Precision.
        seen: Called with every step and its loss.
        group: Whose part of each batch the knees are.
    """
    model, objective = learner.model.train(), learner.objective
    parameters, watched = list(model.parameters()), Interference(training.interference, training.lr)
    started, sums, n = time.perf_counter(), dict.fromkeys(["loss", *objective.weights], 0.0), 0
    for step, (batch, share) in enumerate(knees):
        taken = Replay.now(learner, batch, means, group=group, cases=share.cases)
        losses = taken.losses()
        watched.look(model.encoder, losses, step, again=taken.plain().again)
        if share.first:
            optimizer.zero_grad()
        objective.backward(losses, share.weight, parameters)
        if share.last:
            group.add_up(parameters)
            optimizer.step()
        n += share.cases
        values = torch.stack([objective.joined(losses).detach(), *losses.values()]).tolist()
        for name, value in zip(sums, values, strict=True):
            sums[name] += value * share.cases
        if share.last:
            objective.follow(losses, taken.again)
        seen(step, values[0])
    names = {name: name if name == "loss" else f"loss_{name}" for name in sums}
    averages = {names[name]: total / n for name, total in sums.items()}
    return {**averages, **watched.means(), "seconds": time.perf_counter() - started}


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Fix the number of threads and refuse operations whose result depends on their timing."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def _asked(
    run: Run,
    store: Store,
    cases: Sequence[Case],
    *,
    backbone: BackboneSettings,
    tasks: Sequence[str],
    training: TrainingSettings,
) -> dict[str, Any]:
    """Everything that decides the weights, as JSON."""
    graded = sorted((case.case_id, case.kl) for case in cases)
    weights = backbone.weights
    return {
        "run": run.name,
        "backbone": backbone.model_dump(mode="json") | {"weights": weights and weights.name},
        "tasks": list(tasks),
        "weights_sha256": weights and sha256_of(weights),
        "training": _recorded(training),
        "train_cases": len(cases),
        "grades_digest": digest_of(graded),
        "store_digest": store.digest([case.case_id for case in cases]),
        "cartilage": list(store.cartilage),
        "preparation": store.preparation.model_dump(mode="json"),
    }


def _recorded(training: TrainingSettings) -> dict[str, Any]:
    """The settings as JSON; no word of an augmentation that is off, as before there was one."""
    unsaid = {"augmentation"} if training.augmentation.off else None
    return training.model_dump(mode="json", exclude=unsaid)


def _start(model: HierarchicalNet, backbone: BackboneSettings) -> dict[str, Any] | None:
    """Take over released weights where the study names some; what `run.json` says of them."""
    if backbone.weights is None:
        return None
    return asdict(load_weights(cast("Encoder", model.encoder), backbone.weights))


def _refuse_other_settings(run: Run, asked: dict[str, Any]) -> None:
    before = run.record().get("asked", asked)
    if before == asked:
        return
    keys = [key for key in asked if before.get(key) != asked[key]]
    raise InputError(
        str(run.folder),
        "; ".join(f"{key} was {before.get(key)} and now is {asked[key]}" for key in keys),
        "the settings and data that this run was started with",
        "choose another output folder, or delete this run to train it anew",
    )


def _epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """Each process of a group has noise of its own; that of the first is what it is alone."""
    words = [seed, epoch, rank] if rank else [seed, epoch]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def _made_with(device: torch.device) -> dict[str, Any]:
    return {
        "kellgren": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def _scan_kernel(model: HierarchicalNet, device: torch.device) -> dict[str, str]:
    asked = sorted({part.kernel for part in model.modules() if isinstance(part, Mamba)})
    return {"scan_kernel": ", ".join(kernel_for(device, one) for one in asked)} if asked else {}


def _check_weights(run: Run, learner: Learner, epoch: int) -> None:
    """An update can leave what no loss has looked at yet."""
    state = learner.state_dict()
    wild = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if wild:
        found = f"{len(wild)} of {len(state)} weights that are not finite, such as {wild[0]}"
        raise _diverged(f"{run.folder}, epoch {epoch + 1}", found, "finite weights")


def _diverged(where: str, found: str, needed: str) -> InputError:
    todo = "lower training.lr in the study file; the last whole epoch is kept"
    return InputError(where, found, needed, todo)


def _seen(
    run: Run, watch: Watch, *, epoch: int, epochs: int, steps: int
) -> Callable[[int, float], None]:
    def seen(step: int, loss: float) -> None:
        if not math.isfinite(loss):
            where = f"{run.folder}, epoch {epoch + 1}, step {step + 1}"
            raise _diverged(where, f"a loss of {loss}", "a finite loss")
        watch(Step(epoch, epochs, step, steps, loss))

    return seen


def _finish(run: Run, model: HierarchicalNet, *, log: list[LogRow], seconds: float) -> None:
    """Write the weights last: where they stand, everything else does."""
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    content = save(state)
    trained = {
        "epochs": len(log),
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_seconds": round(sum(row["seconds"] for row in log), 3),
        "last_session_seconds": round(seconds, 3),
        "weights_digest": digest_of_bytes(content),
    }
    write_json(run.settings_file, {**run.record(), "trained": trained})
    write_bytes(run.weights, content)
    forget_checkpoints(run)
