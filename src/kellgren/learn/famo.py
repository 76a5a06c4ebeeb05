"""Weights under which all losses fall at one rate: FAMO (Liu et al. 2023, arXiv 2306.03792).

Each loss l_i has a logit xi_i, and z = softmax(xi). A step follows the gradient of
c sum z_i log l_i, which is sum p_i grad l_i with p_i = c z_i / l_i, and c such that the p_i add up
to 1. After it the losses of the same cases are taken again, and xi goes down the gradient

    z_i (d_i - sum_j z_j d_j) + gamma xi_i,    d_i = log l_i before - log l_i after,

so that a loss that fell less weighs more in the next step. As in the authors' algorithm 2 the size
of that step is Adam's, with rate 0.025 and gamma 0.001.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

RATE = 0.025
DECAY = 1e-3
BETAS = (0.9, 0.999)
LEAST = 1e-8  # added to a loss before its logarithm, and to the root of Adam's second moment

Values = Float[Tensor, " m"]


class Famo(nn.Module):
    """The logits of the weights, and what Adam remembers of their gradients.

    All of it are buffers: no other optimiser may move them, and a checkpoint holds them.

    Args:
        losses: How many there are; at first they weigh alike in the logarithm.
    """

    logits: Values
    mean: Values
    square: Values
    steps: Int[Tensor, ""]

    def __init__(self, losses: int) -> None:
        super().__init__()
        for name in ("logits", "mean", "square"):
            self.register_buffer(name, torch.zeros(losses))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def weights(self, losses: Values) -> Values:
        """P of the losses as they are; they add up to 1.

        >>> Famo(2).weights(torch.tensor([1.0, 3.0]))       # the smaller loss falls as fast
        tensor([0.7500, 0.2500])
        """
        parts = torch.softmax(self.logits, 0) / (losses + LEAST)
        return parts / parts.sum()

    @torch.no_grad()
    def follow(self, before: Values, after: Values) -> None:
        """Move the logits by what one step did to the losses of the same cases."""
        fell = torch.log(before + LEAST) - torch.log(after + LEAST)
        z = torch.softmax(self.logits, 0)
        gradient = z * (fell - (z * fell).sum()) + DECAY * self.logits
        self.steps += 1
        self.mean.lerp_(gradient, 1 - BETAS[0])
        self.square.lerp_(gradient.square(), 1 - BETAS[1])
        first, second = (1 - beta**self.steps for beta in BETAS)
        self.logits -= RATE * (self.mean / first) / ((self.square / second).sqrt() + LEAST)
