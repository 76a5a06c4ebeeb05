"""The questions asked of the shared features, and the training objective (section 3.1, Eq. (3))."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from kellgren.config import TrainingSettings
from kellgren.labels import KL_GRADES, OA_THRESHOLD

Logits = Float[Tensor, "n _"]
Kl = Int[Tensor, " n"]


@dataclass(frozen=True)
class Task:
    """One question asked of the shared features.

    Attributes:
        name: Name of the head, as in column and file names.
        n_logits: Width of the head.
        head: Makes the head for that many features; one linear layer where nothing else is said.
        loss: Mean loss of the logits, given the KL grade of each case.
        stored: The logits as `predictions.csv` keeps them: one log-odds of OA, or five KL logits.
        chosen: Which logit is explained, one per case (section 3.5.3): that of OA, or that of the
            predicted grade.
    """

    name: str
    n_logits: int
    loss: Callable[[Logits, Kl], Float[Tensor, ""]]
    stored: Callable[[Logits], Logits]
    chosen: Callable[[Logits], Int[Tensor, " n"]]
    head: Callable[[int], nn.Module] | None = None

    def built(self, n_features: int) -> nn.Module:
        """A fresh head on so many features."""
        return self.head(n_features) if self.head else nn.Linear(n_features, self.n_logits)

    def explained(self, logits: Logits) -> Float[Tensor, " n"]:
        """The logit whose gradient is the saliency map, one per case."""
        return logits.gather(1, self.chosen(logits)[:, None])[:, 0]


def _oa(kl: Kl) -> Int[Tensor, " n"]:
    return (kl >= OA_THRESHOLD).long()


def _binary_loss(logits: Logits, kl: Kl) -> Float[Tensor, ""]:
    return functional.binary_cross_entropy_with_logits(logits[:, 0], _oa(kl).to(logits.dtype))


def _two_class_loss(logits: Logits, kl: Kl) -> Float[Tensor, ""]:
    return functional.cross_entropy(logits, _oa(kl))


def _grade_loss(logits: Logits, kl: Kl) -> Float[Tensor, ""]:
    return functional.cross_entropy(logits, kl)


def _as_they_are(logits: Logits) -> Logits:
    return logits


def _two_class_log_odds(logits: Logits) -> Logits:
    return logits[:, 1:] - logits[:, :1]


def _last(logits: Logits) -> Int[Tensor, " n"]:
    return torch.full((len(logits),), logits.shape[1] - 1, device=logits.device)


def _predicted_grade(logits: Logits) -> Int[Tensor, " n"]:
    return logits.argmax(dim=1)


OA = Task("oa", 1, _binary_loss, _as_they_are, _last)
OA_SOFTMAX = Task("oa", 2, _two_class_loss, _two_class_log_odds, _last)
KL = Task("kl", KL_GRADES, _grade_loss, _as_they_are, _predicted_grade)

OA_TASKS = {"bce": OA, "softmax": OA_SOFTMAX}
KL_TASKS = {"ce": KL}


def weighted_tasks(tasks: Sequence[str], settings: TrainingSettings) -> dict[Task, float]:
    """The tasks of a network, "oa", "kl" or both, each with its lambda of Eq. (3)."""
    known = {
        "oa": (OA_TASKS[settings.oa_loss], settings.lambda_oa),
        "kl": (KL_TASKS[settings.kl_loss], settings.lambda_kl),
    }
    return dict(known[name] for name in tasks)


def supervised_loss(
    losses: Mapping[str, Float[Tensor, ""]], weights: Mapping[Task, float]
) -> Float[Tensor, ""]:
    """Training objective, Eq. (3): the weighted sum of the losses of the heads."""
    return torch.stack([weight * losses[task.name] for task, weight in weights.items()]).sum()
