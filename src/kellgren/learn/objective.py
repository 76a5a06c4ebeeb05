"""What an update follows: Eq. (3), or what may stand in for its fixed weights.

The losses are those of the heads and, where asked for, the term by which they should agree. They
are joined by fixed weights (the paper), by weights that are learned (Kendall et al. 2018) or follow
the losses of the last two epochs (Liu et al. 2019), or as gradients of which none may undo another
(Yu et al. 2020).
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kellgren.config import TrainingSettings
from kellgren.learn.heads import Task, consistency, named_weights, supervised_loss
from kellgren.learn.model import HierarchicalNet

DWA_TEMPERATURE = 2.0

Losses = dict[str, Float[Tensor, ""]]
Gradients = list[Float[Tensor, "..."]]


class Objective(nn.Module):
    """The losses of a network and how they are joined.

    Args:
        weights: Tasks, each with its lambda of Eq. (3).
        training: Names the term of consistency and the way of joining.
    """

    def __init__(self, weights: Mapping[Task, float], training: TrainingSettings) -> None:
        super().__init__()
        self.tasks, self.settings = list(weights), training
        self.weights = named_weights(weights, training)
        learned = self.weights if training.balance == "uncertainty" else ()
        self.log_variance = nn.ParameterDict({n: nn.Parameter(torch.zeros(())) for n in learned})
        self.factors = dict.fromkeys(self.weights, 1.0)

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
        """The value that is watched and, but for "pcgrad", whose gradient is followed."""
        weights = {name: weight * self.factors[name] for name, weight in self.weights.items()}
        if not self.log_variance:
            return supervised_loss(losses, weights)
        parts = [
            weights[name] * (torch.exp(-s) * losses[name] + s) / 2
            for name, s in self.log_variance.items()
        ]
        return torch.stack(parts).sum()

    def backward(self, losses: Losses, share: float, parameters: Sequence[nn.Parameter]) -> None:
        """Add the gradient of a share of the cases to the parameters."""
        if self.settings.balance != "pcgrad" or len(losses) == 1:
            torch.autograd.backward(share * self.joined(losses))
            return
        parts = [share * self.weights[name] * loss for name, loss in losses.items()]
        for parameter, step in zip(
            parameters, without_conflict(gradients_of(parts, parameters)), strict=True
        ):
            parameter.grad = step if parameter.grad is None else parameter.grad + step


class Learner(nn.Module):
    """A network and its objective, as one thing to optimise and to save."""

    def __init__(self, model: HierarchicalNet, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective


def gradients_of(
    losses: Sequence[Float[Tensor, ""]], parameters: Sequence[nn.Parameter]
) -> list[Gradients]:
    """Gradient of each loss; zero where a parameter has no part in it. The graph is kept."""
    found = []
    for loss in losses:
        grads = torch.autograd.grad(loss, list(parameters), retain_graph=True, allow_unused=True)
        pairs = zip(grads, parameters, strict=True)
        found.append([torch.zeros_like(p) if g is None else g for g, p in pairs])
    return found


def without_conflict(gradients: Sequence[Gradients]) -> Gradients:
    """Sum of the gradients, each first freed of what points against another one (PCGrad).

    The others come in the order of the losses, not at random. For two losses this has the direction
    of UPGrad (Quinton and Rey 2024): projecting on the dual cone removes the same part.
    """
    freed = []
    for i, gradient in enumerate(gradients):
        mine = list(gradient)
        for j, other in enumerate(gradients):
            along = dot(mine, other)
            if i != j and along < 0:
                part = along / dot(other, other)
                mine = [g - part * o for g, o in zip(mine, other, strict=True)]
        freed.append(mine)
    return [torch.stack(parts).sum(0) for parts in zip(*freed, strict=True)]


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


def dot(one: Gradients, other: Gradients) -> Float[Tensor, ""]:
    """Inner product over all parameters."""
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()
