"""The questions asked of the shared features, and the training objective (section 3.1, Eq. (3))."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from kellgren.config import TrainingSettings
from kellgren.labels import OA_THRESHOLD
from kellgren.learn.consistency import CONSISTENCY, implied_oa
from kellgren.learn.grades import balanced_weights, grade_head

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
        scores: Values of which the largest is explained (section 3.5.3): the logit of OA alone, or
            those of the grades.
    """

    name: str
    n_logits: int
    loss: Callable[[Logits, Kl], Float[Tensor, ""]]
    stored: Callable[[Logits], Logits]
    scores: Callable[[Logits], Logits]
    head: Callable[[int], nn.Module] | None = None

    def built(self, n_features: int) -> nn.Module:
        """A fresh head on so many features."""
        return self.head(n_features) if self.head else nn.Linear(n_features, self.n_logits)

    def chosen(self, logits: Logits) -> Int[Tensor, " n"]:
        """Which of the scores is explained, one a case: that of the predicted grade."""
        return self.scores(logits).argmax(dim=1)

    def explained(self, logits: Logits) -> Float[Tensor, " n"]:
        """The score whose gradient is the saliency map, one per case."""
        return self.scores(logits).gather(1, self.chosen(logits)[:, None])[:, 0]


def _oa(kl: Kl) -> Int[Tensor, " n"]:
    return (kl >= OA_THRESHOLD).long()


def _binary_loss(logits: Logits, kl: Kl) -> Float[Tensor, ""]:
    return functional.binary_cross_entropy_with_logits(logits[:, 0], _oa(kl).to(logits.dtype))


def _two_class_loss(logits: Logits, kl: Kl) -> Float[Tensor, ""]:
    return functional.cross_entropy(logits, _oa(kl))


def _as_they_are(logits: Logits) -> Logits:
    return logits


def _two_class_log_odds(logits: Logits) -> Logits:
    return logits[:, 1:] - logits[:, :1]


def _positive(logits: Logits) -> Logits:
    return logits[:, -1:]


OA = Task("oa", 1, _binary_loss, _as_they_are, _positive)
OA_SOFTMAX = Task("oa", 2, _two_class_loss, _two_class_log_odds, _positive)
OA_TASKS = {"bce": OA, "softmax": OA_SOFTMAX}


def kl_task(settings: TrainingSettings, grades: Sequence[int] = ()) -> Task:
    """The KL task of the settings.

    Args:
        settings: Names the loss.
        grades: Of the training knees, for class weights; not needed to ask a trained network.
    """
    head = grade_head(settings)
    weights = balanced_weights(grades) if settings.class_weights else None

    def loss(logits: Logits, kl: Kl) -> Float[Tensor, ""]:
        each = head.each(logits, kl)
        return (each if weights is None else each * weights.to(each.device)[kl]).mean()

    return Task("kl", head.n_logits, loss, head.stored, head.stored, head.head)


KL = kl_task(TrainingSettings())


def weighted_tasks(
    tasks: Sequence[str], settings: TrainingSettings, grades: Sequence[int] = ()
) -> dict[Task, float]:
    """The tasks of a network, "oa", "kl" or both, each with its lambda of Eq. (3)."""
    known = {
        "oa": (OA_TASKS[settings.oa_loss], settings.lambda_oa),
        "kl": (kl_task(settings, grades), settings.lambda_kl),
    }
    return dict(known[name] for name in tasks)


def named_weights(weights: Mapping[Task, float], settings: TrainingSettings) -> dict[str, float]:
    """Weight of each loss by its name; "consistency" is last, where the settings ask for it."""
    named = {task.name: weight for task, weight in weights.items()}
    if settings.consistency != "none":
        named["consistency"] = settings.lambda_consistency
    return named


def consistency(
    logits: Mapping[str, Logits], kl: Kl, tasks: Iterable[Task], settings: TrainingSettings
) -> Float[Tensor, ""]:
    """Mean of the term by which the heads should agree."""
    stored = {task.name: task.stored(logits[task.name].float()) for task in tasks}
    grades = stored["kl"]
    oa = stored["oa"][:, 0] if "oa" in stored else implied_oa(grades)
    return CONSISTENCY[settings.consistency](oa, grades, kl).mean()


def supervised_loss(
    losses: Mapping[str, Float[Tensor, ""]], weights: Mapping[str, float]
) -> Float[Tensor, ""]:
    """Training objective, Eq. (3): the weighted sum of the losses by their names."""
    return torch.stack([weight * losses[name] for name, weight in weights.items()]).sum()
