"""Gradients of several losses on the same parameters, and one step out of them that harms none."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kellgren.faults import InputError

Gradients = list[Float[Tensor, "..."]]
Combine = Callable[[Sequence[Gradients]], Gradients]


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


def dot(one: Gradients, other: Gradients) -> Float[Tensor, ""]:
    """Inner product over all parameters."""
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()


def without_conflict(gradients: Sequence[Gradients]) -> Gradients:
    """Sum of the gradients, each first freed of what points against another one (PCGrad).

    The others come in the order of the losses, not at random (Yu et al. 2020). For two losses this
    has the direction of `upgrad`: projecting on the dual cone removes the same part.
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
    return _sum(freed)


def upgrad() -> Combine:
    """Sum of the gradients, each first projected on the cone of steps that harm no loss (UPGrad).

    Quinton and Rey 2024, arXiv 2406.16232; the weights are torchjd's, times the number of losses,
    so that gradients that agree are simply added as in Eq. (3).

    Raises:
        InputError: If torchjd or its solver is not installed.
    """
    try:
        from torchjd.aggregation import UPGradWeighting

        weighting = UPGradWeighting()
    except ImportError as error:
        raise InputError(
            "balance 'upgrad'",
            f"no torchjd ({error})",
            "the package that finds its weights",
            'pip install "kellgren[mtl]", or use balance = "pcgrad": for two losses it has the same'
            " direction",
        ) from None

    def combine(gradients: Sequence[Gradients]) -> Gradients:
        gramian = torch.stack([torch.stack([dot(g, h) for h in gradients]) for g in gradients])
        weights = (weighting(gramian) * len(gradients)).tolist()
        pairs = zip(weights, gradients, strict=True)
        return _sum([[weight * g for g in gradient] for weight, gradient in pairs])

    return combine


def _sum(gradients: Sequence[Gradients]) -> Gradients:
    return [torch.stack(parts).sum(0) for parts in zip(*gradients, strict=True)]
