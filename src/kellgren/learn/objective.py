"""What an update follows: Eq. (3), or what may stand in for its fixed weights.

The losses are those of the heads and, where asked for, the term by which they should agree. They
are joined by fixed weights (the paper), by weights that are learned (Kendall et al. 2018), follow
the losses of the last two epochs (Liu et al. 2019) or the last step (Liu et al. 2023), or as
gradients of which none may undo another (Yu et al. 2020; Quinton and Rey 2024).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kellgren.config import TrainingSettings
from kellgren.config.objective import Balance
from kellgren.learn.famo import Famo
from kellgren.learn.gradients import Combine, gradients_of, upgrad, without_conflict
from kellgren.learn.heads import Task, consistency, named_weights, supervised_loss
from kellgren.learn.model import HierarchicalNet

DWA_TEMPERATURE = 2.0

Losses = dict[str, Float[Tensor, ""]]


class Objective(nn.Module):
    """The losses of a network and how they are joined.

    Args:
        weights: Tasks, each with its lambda of Eq. (3).
        training: Names the term of consistency and the way of joining; one loss alone has no use
            for any.

    Raises:
        InputError: If the way of joining needs a package that is not installed.
    """

    def __init__(self, weights: Mapping[Task, float], training: TrainingSettings) -> None:
        super().__init__()
        self.tasks, self.settings = list(weights), training
        self.weights = named_weights(weights, training)
        learned = self.weights if training.balance == "uncertainty" else ()
        self.log_variance = nn.ParameterDict({n: nn.Parameter(torch.zeros(())) for n in learned})
        self.factors = dict.fromkeys(self.weights, 1.0)
        several = len(self.weights) > 1
        self.famo = Famo(len(self.weights)) if several and training.balance == "famo" else None
        self.combine = _combine(training.balance) if several else None

    def losses(self, logits: Mapping[str, Float[Tensor, "n _"]], kl: Int[Tensor, " n"]) -> Losses:
        """Each loss by its name, unweighted."""
        found = {task.name: task.loss(logits[task.name].float(), kl) for task in self.tasks}
        if "consistency" in self.weights:
            found["consistency"] = consistency(logits, kl, self.tasks, self.settings)
        return found

    def begin(self, log: Sequence[Mapping[str, int | float]]) -> None:
        """Set what depends on earlier epochs, from the log alone, so that a resumed run agrees."""
        if self.settings.balance == "dwa":
            self.factors = dwa_factors(log, list(self.weights))

    def joined(self, losses: Losses) -> Float[Tensor, ""]:
        """The value that is watched and, unless gradients are combined, whose gradient is followed.

        Under "famo" it has the gradient of c sum z_i log l_i, and the value of a mean of the
        losses.
        """
        weights = self._weights_now(losses)
        if not self.log_variance:
            return supervised_loss(losses, weights)
        parts = [
            weights[name] * (torch.exp(-s) * losses[name] + s) / 2
            for name, s in self.log_variance.items()
        ]
        return torch.stack(parts).sum()

    def _weights_now(self, losses: Losses) -> dict[str, float]:
        factors = self.factors
        if self.famo is not None:
            found = self.famo.weights(_values(losses))
            factors = dict(zip(losses, found.tolist(), strict=True))
        return {name: weight * factors[name] for name, weight in self.weights.items()}

    def backward(self, losses: Losses, share: float, parameters: Sequence[nn.Parameter]) -> None:
        """Add the gradient of a share of the cases to the parameters."""
        if self.combine is None:
            torch.autograd.backward(share * self.joined(losses))
            return
        parts = [share * self.weights[name] * loss for name, loss in losses.items()]
        for parameter, step in zip(
            parameters, self.combine(gradients_of(parts, parameters)), strict=True
        ):
            parameter.grad = step if parameter.grad is None else parameter.grad + step

    def follow(self, before: Losses, after: Callable[[], Losses]) -> None:
        """Learn from what an update did to the losses of its cases, under "famo" alone.

        Args:
            before: The losses that the update came from.
            after: Takes them again.
        """
        if self.famo is not None:
            self.famo.follow(_values(before), _values(after()))


class Learner(nn.Module):
    """A network and its objective, as one thing to optimise and to save."""

    def __init__(self, model: HierarchicalNet, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective


def dwa_factors(log: Sequence[Mapping[str, int | float]], names: Sequence[str]) -> dict[str, float]:
    """Dynamic weight average: more for a loss that fell less over the last two epochs.

    They add up to the number of losses; 1 each in the first two epochs.

    >>> two = [{"loss_oa": 1.0, "loss_kl": 1.0}, {"loss_oa": 1.0, "loss_kl": 0.5}]
    >>> {name: round(x, 3) for name, x in dwa_factors(two, ["oa", "kl"]).items()}
    {'oa': 1.124, 'kl': 0.876}
    """
    if len(log) < 2:
        return dict.fromkeys(names, 1.0)
    before, last = log[-2], log[-1]
    rates = torch.tensor(
        [last[f"loss_{n}"] / max(before[f"loss_{n}"], 1e-12) for n in names], dtype=torch.float64
    )
    shares = torch.softmax(rates / DWA_TEMPERATURE, dim=0) * len(names)
    return dict(zip(names, shares.tolist(), strict=True))


def _combine(balance: Balance) -> Combine | None:
    if balance == "upgrad":
        return upgrad()
    return without_conflict if balance == "pcgrad" else None


def _values(losses: Losses) -> Float[Tensor, " m"]:
    return torch.stack([loss.detach() for loss in losses.values()])
