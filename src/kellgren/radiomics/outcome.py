"""How the outputs of a trained system become classes: two logits, thresholds, or one a grade."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from kellgren.labels import KL_GRADES
from kellgren.radiomics.ordinal import grade_logits

Outputs = Float[Tensor, "n o"]
Classes = Int[Tensor, " n"]


@dataclass(frozen=True)
class Outcome:
    """What a system puts out for a task.

    Attributes:
        classes: How many classes there are.
        direction: Weights of the outputs whose sum rises with severity; one an output.
        losses: Loss of each knee, without class weights.
        logits: Log-odds of OA, or five logits, as `predictions.csv` has them.
    """

    classes: int
    direction: tuple[float, ...]
    losses: Callable[[Outputs, Classes], Float[Tensor, " n"]]
    logits: Callable[[Float[np.ndarray, "n o"]], Float[np.ndarray, "n c"]]

    @property
    def outputs(self) -> int:
        """How many numbers a system puts out for a knee."""
        return len(self.direction)

    def read(self, outputs: Outputs) -> Float[np.ndarray, "n c"]:
        """The logits of the knees."""
        return self.logits(outputs.detach().double().numpy())

    def called(self, outputs: Outputs) -> Int[np.ndarray, " n"]:
        """Class that is called: OA at log-odds of 0 and above, else the likeliest grade."""
        logits = self.read(outputs)
        called = logits[:, 0] >= 0 if logits.shape[1] == 1 else logits.argmax(axis=1)
        return np.asarray(called, dtype=np.int64)


def threshold_losses(outputs: Float[Tensor, "n 4"], kl: Classes) -> Float[Tensor, " n"]:
    """Mean over the four thresholds of the binary cross-entropy of l_k against 1(kl > k).

    Four free logits, as Chen et al. released them; CORAL would share their weights.
    """
    beyond = (kl[:, None] > torch.arange(KL_GRADES - 1)).to(outputs.dtype)
    losses = functional.binary_cross_entropy_with_logits(outputs, beyond, reduction="none")
    return losses.mean(dim=1)


def _cross_entropy(outputs: Outputs, target: Classes) -> Float[Tensor, " n"]:
    return functional.cross_entropy(outputs, target, reduction="none")


def _log_odds(outputs: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 1"]:
    return outputs[:, 1:] - outputs[:, :1]


def _as_they_are(outputs: Float[np.ndarray, "n 5"]) -> Float[np.ndarray, "n 5"]:
    return outputs


OA = Outcome(2, (-1.0, 1.0), _cross_entropy, _log_odds)
THRESHOLDS = Outcome(KL_GRADES, (0.25,) * 4, threshold_losses, grade_logits)
GRADES = Outcome(KL_GRADES, (-0.2, -0.1, 0.0, 0.1, 0.2), _cross_entropy, _as_they_are)
"""`direction` is the slope of a line through the five logits."""
