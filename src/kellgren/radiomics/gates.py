"""Gates: how far each feature of a knee is let through, and the masks that are made of them."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kellgren.radiomics.inputs import Inputs, knee_encoder

Gates = Float[Tensor, "n f"]
WIDTHS, ENCODED, HIDDEN, DROPOUT = (32, 64, 128), 512, 256, 0.3


class TopKNet(nn.Module):
    """A gate for each feature from what is seen of the knee, and a linear layer on what passes."""

    def __init__(self, inputs: Inputs, outputs: int, *, open_share: float) -> None:
        """With random weights.

        Args:
            inputs: What the gate reads and how many features there are.
            outputs: Numbers put out for a knee.
            open_share: The gates before any training, about.
        """
        super().__init__()
        features = inputs.x.shape[1]
        self.encoder = knee_encoder(inputs, WIDTHS, ENCODED)
        last = nn.Linear(HIDDEN, features)
        nn.init.xavier_uniform_(last.weight, gain=0.1)
        nn.init.constant_(last.bias, math.log(open_share / (1 - open_share)))
        self.gate = nn.Sequential(nn.Linear(ENCODED, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), last)
        self.classifier = nn.Linear(features, outputs)

    def gates(self, seen: Float[Tensor, "n ..."]) -> Gates:
        """How far each feature is let through, from 0 to 1."""
        return torch.sigmoid(self.gate(self.encoder(seen)))


def hard_mask(gates: Gates, k: int) -> Gates:
    """1 for the k largest gates of each knee, else 0; the gradient is that of the gates.

    >>> hard_mask(torch.tensor([[0.2, 0.9, 0.4]]), 2).tolist()
    [[0.0, 1.0, 1.0]]
    """
    chosen = torch.zeros_like(gates).scatter(1, gates.topk(k).indices, 1.0)
    return chosen + (gates - gates.detach())


def soft_mask(gates: Gates, threshold: float) -> Gates:
    """What a gate exceeds the threshold by, else 0.

    >>> soft_mask(torch.tensor([[0.25, 0.75]]), 0.5).tolist()
    [[0.0, 0.25]]
    """
    return torch.relu(gates - threshold)


def likeness(gates: Gates) -> Float[Tensor, ""]:
    """Mean cosine of the gates of two knees, over all pairs; 0 for one knee.

    >>> round(float(likeness(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))), 4)
    0.3333
    """
    n = len(gates)
    if n == 1:
        return gates.new_zeros(())
    unit = nn.functional.normalize(gates, dim=1)
    return (unit.sum(dim=0).square().sum() - unit.square().sum()) / (n * (n - 1))


def entropy(gates: Gates) -> Float[Tensor, ""]:
    """Mean entropy of the gates in bits: 1 where all are one half.

    >>> entropy(torch.full((2, 3), 0.5)).item()
    1.0
    """
    inside = gates.clamp(1e-6, 1 - 1e-6)  # the gradient is infinite at 0 and 1
    bits = torch.special.entr(inside) + torch.special.entr(1 - inside)
    return bits.mean() / math.log(2)
