"""Early selection: epochs are fitted to four fifths of the training knees, chosen on the rest."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from kellgren.analysis.performance import class_f1, confusion
from kellgren.faults import InputError
from kellgren.learn.dataset import epoch_order
from kellgren.radiomics.ordinal import balance
from kellgren.radiomics.outcome import Outcome
from kellgren.radiomics.systems import Material, Watch

SPLIT_SEED = 42
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Parts:
    """Rows of the training knees: those that are fitted, and those that choose the epoch."""

    fitted: Int[np.ndarray, " m"]
    validation: Int[np.ndarray, " v"]

    @classmethod
    def of(cls, material: Material, task: str) -> "Parts":
        """The stratified 80/20 split of the training knees with seed 42, the same for every run.

        Raises:
            InputError: If a class has too few training knees to stand in both parts.
        """
        rows = material.rows("train")
        target = material.target(task)[rows]
        try:
            fitted, validation = train_test_split(
                rows, test_size=VALIDATION_SHARE, stratify=target, random_state=SPLIT_SEED
            )
        except ValueError as error:
            raise InputError(
                "the training knees",
                f"{len(rows)} knees, {np.bincount(target).tolist()} of each class ({error})",
                "at least 5 knees a class",
                "add knees, or leave out the systems with early selection",
            ) from error
        return cls(np.sort(fitted), np.sort(validation))


@dataclass(frozen=True)
class Schedule:
    """How long and in what steps a system is fitted; AdamW without a schedule of its rate.

    Attributes:
        epochs: Most passes over the fitted knees.
        first: The first epoch, from 0, that may be chosen.
        patience: Passes without a better one after which fitting ends.
        batch_size: Knees a step.
        lr: Learning rate.
        weight_decay: As AdamW has it.
    """

    epochs: int
    first: int
    patience: int
    batch_size: int
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Chosen:
    """The epoch, from 1, whose weights were kept; its validation macro-F1; epochs fitted."""

    epoch: int
    validation_macro_f1: float
    epochs_fitted: int


def balanced_weights(
    target: Int[np.ndarray, " n"], fitted: Int[np.ndarray, " m"]
) -> Float32[Tensor, " n"]:
    """Weight of each fitted knee, of mean 1, so that every class weighs the same; others have 0.

    >>> balanced_weights(np.array([0, 0, 1, 1]), np.array([0, 1, 2])).tolist()
    [0.75, 0.75, 1.5, 0.0]
    """
    weights = np.zeros(len(target), np.float32)
    weights[fitted] = balance(target[fitted])
    return torch.from_numpy(weights)


def macro_f1(
    outcome: Outcome, outputs: Float[Tensor, "n o"], target: Int[np.ndarray, " n"]
) -> float:
    """Unweighted mean of the F1 of all classes, absent ones counting 0."""
    table = confusion(target, outcome.called(outputs), classes=outcome.classes)
    return float(class_f1(table).mean())


def fit_and_select(
    net: nn.Module,
    fitted: Int[np.ndarray, " m"],
    schedule: Schedule,
    *,
    loss: Callable[[Int[Tensor, " b"], int], Float[Tensor, ""]],
    score: Callable[[int], float],
    seed: int,
    watch: Watch,
) -> Chosen:
    """Fit a network and leave it with the weights of the epoch of the best score, the first such.

    Args:
        net: Initialised; what `loss` and `score` ask.
        fitted: Rows to fit, in an order of their own in every epoch.
        schedule: How long and in what steps.
        loss: Of a batch of rows, in an epoch counted from 0; the network is in training mode.
        score: Macro-F1 on the validation knees after an epoch; the network is in evaluation mode.
        seed: Decides the order of the knees.
        watch: Told of every epoch.

    Raises:
        InputError: If a loss is not finite.
    """
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay
    )
    best, weights, epoch = Chosen(0, -1.0, 0), {}, 0
    for epoch in range(schedule.epochs):
        mean = _epoch(net, optimizer, fitted, schedule, loss=loss, seed=seed, epoch=epoch)
        net.eval()
        with torch.no_grad():
            found = score(epoch)
        if epoch >= schedule.first and found > best.validation_macro_f1:
            best = Chosen(epoch + 1, found, 0)
            weights = {name: value.clone() for name, value in net.state_dict().items()}
        note = f"epoch {epoch + 1}/{schedule.epochs}, loss {mean:.3f}, validation F1 {found:.3f}"
        watch(min(99, 100 * (epoch + 1) // schedule.epochs), note)
        if epoch + 1 >= max(best.epoch, schedule.first) + schedule.patience:
            break
    net.load_state_dict(weights)
    net.eval()
    return Chosen(best.epoch, best.validation_macro_f1, epoch + 1)


def _epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    fitted: Int[np.ndarray, " m"],
    schedule: Schedule,
    *,
    loss: Callable[[Int[Tensor, " b"], int], Float[Tensor, ""]],
    seed: int,
    epoch: int,
) -> float:
    """One pass over the fitted knees; the mean loss of its steps."""
    net.train()
    order = torch.from_numpy(fitted[epoch_order(len(fitted), seed=seed, epoch=epoch)])
    values = []
    for rows in torch.split(order, schedule.batch_size):
        value = loss(rows, epoch)
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        values.append(float(value.detach()))
    if not np.isfinite(values).all():
        raise InputError(
            f"epoch {epoch + 1} of {schedule.epochs}",
            "a loss that is not finite",
            "a finite loss",
            "lower the learning rate in the study file",
        )
    return float(np.mean(values))


def record_of(parts: Parts, chosen: Chosen) -> dict[str, Any]:
    """What `run.json` says of the selection."""
    knees = {"fitted_knees": len(parts.fitted), "validation_knees": len(parts.validation)}
    return {**knees, "split_seed": SPLIT_SEED, **asdict(chosen)}
