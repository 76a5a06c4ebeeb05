"""What a set of features is worth: the target from which the scorer of sets learns.

Chen et al. (arXiv 2603.02367) fit a linear probe to a set on 20 random training knees in 10 steps
and ask 20 others. Two closed forms stand beside it: a ridge probe that is fitted to one half of the
knees and asks the other, and one that is fitted to all knees but the one in hand and asks that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor
from torch.nn import functional

from kellgren.radiomics.ordinal import above
from kellgren.radiomics.outcome import Outcome
from kellgren.radiomics.sets import random_sets

Sets = Int[Tensor, "s k"]
PROBED, STEPS, RATE = 20, 10, 5e-3
"""Knees to fit and to ask, steps and their size: as released."""
PENALTY = 30.0
"""Of the squared weights of a ridge probe; its constant term has none."""


@dataclass(frozen=True)
class Probed:
    """The knees on which sets are tried.

    Attributes:
        x: Standardised features.
        target: Class of each knee.
        outcome: Outputs and loss of the task.
    """

    x: Float32[Tensor, "m f"]
    target: Int[Tensor, " m"]
    outcome: Outcome

    @cached_property
    def with_constant(self) -> Float64[Tensor, "m g"]:
        """The features and, last, a 1."""
        return functional.pad(self.x.double(), (0, 1), value=1.0)

    @cached_property
    def gram(self) -> Float64[Tensor, "g g"]:
        """Sums of products of two columns, the constant's among them."""
        return self.with_constant.T @ self.with_constant

    @cached_property
    def beyond(self) -> Float64[Tensor, "m t"]:
        """1 where a knee is beyond a threshold between two classes: what ridge probes fit."""
        return torch.from_numpy(above(self.target.numpy(), self.outcome.classes - 1)).double()


Reward = Callable[[Probed, Sets, Int[Tensor, " s"], np.random.Generator], Float[Tensor, " s"]]
"""Worth of each set for the knee it was drawn for; of the probed knees, by its place."""


def sgd20(
    probed: Probed, sets: Sets, knees: Int[Tensor, " s"], rng: np.random.Generator
) -> Float[Tensor, " s"]:
    """Minus the loss of a probe on 20 random knees, fitted to 20 others in 10 steps; as released.

    Every set has knees and first weights of its own, and the knee in hand plays no part. Of fewer
    than 40 knees, half are fitted and half asked.
    """
    n, k = sets.shape
    size = min(PROBED, len(probed.x) // 2)
    drawn = rng.permuted(np.tile(np.arange(len(probed.x)), (n, 1)), axis=1)[:, : 2 * size]
    rows = torch.from_numpy(drawn)
    x, target = probed.x[rows[:, :, None], sets[:, None, :]], probed.target[rows]
    x = functional.pad(x, (0, 1), value=1.0)
    weights = _first_weights(n, k, probed.outcome.outputs, rng)
    for _ in range(STEPS):
        weights = weights.detach().requires_grad_()
        losses = _losses(probed, x[:, :size], target[:, :size], weights)
        weights = weights - RATE * torch.autograd.grad(losses.sum(), weights)[0]
    return -_losses(probed, x[:, size:], target[:, size:], weights.detach())


def ridge(
    probed: Probed, sets: Sets, knees: Int[Tensor, " s"], rng: np.random.Generator
) -> Float[Tensor, " s"]:
    """Minus the squared error of a ridge probe on half of the knees, fitted to the other half.

    The halves are drawn once for all sets, so that sets differ by their features alone. The knee in
    hand plays no part.
    """
    x, beyond = probed.with_constant, probed.beyond
    order = torch.from_numpy(rng.permutation(len(x)))
    fitted, asked = order[: len(x) // 2], order[len(x) // 2 :]
    columns = _with_constant(sets, x)
    gram, toward = x[fitted].T @ x[fitted], x[asked].T @ beyond[asked]
    weights = _solve(gram, columns, (x[fitted].T @ beyond[fitted])[columns])
    asked_gram = _square(probed.gram - gram, columns)
    squares = (weights * (asked_gram @ weights)).sum(dim=(1, 2))
    products = (weights * toward[columns]).sum(dim=(1, 2))
    total = beyond[asked].square().sum()
    return -(total - 2 * products + squares) / beyond[asked].numel()


def patient(
    probed: Probed, sets: Sets, knees: Int[Tensor, " s"], rng: np.random.Generator
) -> Float[Tensor, " s"]:
    """Minus the squared error on the knee in hand of a ridge probe fitted to all others.

    By the hat matrix: the residual of a knee without it is its residual over 1 - h.
    """
    x, beyond = probed.with_constant, probed.beyond
    columns = _with_constant(sets, x)
    here = x[knees[:, None], columns][:, :, None]
    toward = (x.T @ beyond)[columns]
    solved = _solve(probed.gram, columns, torch.cat([toward, here], dim=2))
    weights, leaning = solved[:, :, :-1], solved[:, :, -1:]
    left = 1 - (here * leaning).sum(dim=(1, 2))
    residual = beyond[knees] - (here * weights).sum(dim=1)
    return -(residual / left[:, None]).square().mean(dim=1)


REWARDS: dict[str, Reward] = {"sgd20": sgd20, "ridge": ridge, "patient": patient}


def standardised_rewards(rewards: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Rewards of the sets of each knee with mean 0 and standard deviation 1; 0 where all agree."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / centred.std(dim=1, keepdim=True).clamp(min=1e-12)


def share_of_set(rewards: Float[np.ndarray, "s d"]) -> float:
    """Share of the variance of rewards that is due to the set, from several draws of each.

    The intraclass correlation of a one-way analysis of variance (Shrout and Fleiss 1979, their
    ICC(1,1)), not below 0.

    >>> share_of_set(np.array([[1.0, 1.0], [2.0, 2.0]])), share_of_set(np.array([[0.0, 1], [1, 0]]))
    (1.0, 0.0)
    """
    draws = rewards.shape[1]
    between = draws * rewards.mean(axis=1).var(ddof=1)
    within = rewards.var(axis=1, ddof=1).mean()
    total = between + (draws - 1) * within
    return float(max(0.0, (between - within) / total)) if total > 0 else 0.0


def shares_of_set(
    probed: Probed, k: int, *, sets: int = 100, draws: int = 40, seed: int = 0
) -> dict[str, float]:
    """Share of the variance of each reward that is due to the set of k features, by `share_of_set`.

    Rewards are those that a scorer would see: as they are for `sgd20`, over the sets of one knee
    standardised for the others. A draw is a draw of knees; for `patient` it is a knee in hand, so
    the rest of its variance is what is particular to a knee, signal or noise.
    """
    rng = np.random.default_rng(seed)
    tried = random_sets(sets, k, probed.x.shape[1], rng)
    knees = torch.from_numpy(rng.integers(len(probed.x), size=draws))
    shares = {}
    for name, reward in REWARDS.items():
        found = torch.stack([reward(probed, tried, knee.expand(sets), rng) for knee in knees])
        seen = found if name == "sgd20" else standardised_rewards(found)
        shares[name] = share_of_set(seen.double().numpy().T)
    return shares


def _first_weights(
    n: int, k: int, outputs: int, rng: np.random.Generator
) -> Float32[Tensor, "n _ o"]:
    """Those of a linear layer of torch: uniform within 1 / sqrt(k), the constant too."""
    drawn = rng.uniform(-1, 1, (n, k + 1, outputs)) / np.sqrt(k)
    return torch.from_numpy(drawn.astype(np.float32))


def _losses(
    probed: Probed,
    x: Float32[Tensor, "n q _"],
    target: Int[Tensor, "n q"],
    weights: Float32[Tensor, "n _ o"],
) -> Float32[Tensor, " n"]:
    """Mean loss of each of n probes on its q knees."""
    losses = probed.outcome.losses((x @ weights).flatten(0, 1), target.flatten())
    return losses.reshape(target.shape).mean(dim=1)


def _with_constant(sets: Sets, x: Float64[Tensor, "m g"]) -> Int[Tensor, "s _"]:
    return functional.pad(sets, (0, 1), value=x.shape[1] - 1)


def _square(gram: Float64[Tensor, "g g"], columns: Int[Tensor, "s c"]) -> Float64[Tensor, "s c c"]:
    return gram[columns[:, :, None], columns[:, None, :]]


def _solve(
    gram: Float64[Tensor, "g g"], columns: Int[Tensor, "s c"], right: Float64[Tensor, "s c t"]
) -> Float64[Tensor, "s c t"]:
    """(gram + penalty)^-1 times the right side, over the columns of each set."""
    penalty = torch.full((columns.shape[1],), PENALTY, dtype=gram.dtype)
    penalty[-1] = 0.0
    factor = torch.linalg.cholesky(_square(gram, columns) + torch.diag(penalty))
    return torch.cholesky_solve(right, factor)
