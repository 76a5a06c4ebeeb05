"""Top-k selection: a gate chooses k features for each knee, a linear layer grades from them.

After the released code of Chen et al. (arXiv 2603.02367). Their gate reads the scan. Where a study
has no scans, something that differs between knees must feed the gate: here the knee's standardised
features do, through a linear layer as wide as the encoder of scans ends.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from kellgren.config import TopKSettings
from kellgren.learn.train import deterministic
from kellgren.radiomics.gates import Gates, TopKNet, entropy, hard_mask, likeness, soft_mask
from kellgren.radiomics.inputs import Inputs, check_k
from kellgren.radiomics.outcome import GRADES, OA, THRESHOLDS, Outcome
from kellgren.radiomics.selection import (
    Chosen,
    Parts,
    Schedule,
    balanced_weights,
    fit_and_select,
    macro_f1,
    record_of,
)
from kellgren.radiomics.systems import EVIDENCE, Fitted, Material, Watch
from kellgren.radiomics.usage import usage

AT_ONCE = 64


@dataclass(frozen=True)
class Rules:
    """Where the mended system and the released one part.

    Attributes:
        outcomes: What is put out for each task.
        least_variance: Features that vary less, in their own unit, are left out.
        open_share: The gates before any training, for k of F features.
        count_scale: What the squared surplus of open gates is divided by, for F features.
        hard_only: Whether an epoch is chosen among those of the hard mask alone.
    """

    outcomes: Mapping[str, Outcome]
    least_variance: float
    open_share: Callable[[int, int], float]
    count_scale: Callable[[int], float]
    hard_only: bool


RELEASED = Rules(
    {"oa": OA, "kl": GRADES},
    least_variance=1e-6,
    open_share=lambda k, features: 0.5,
    count_scale=lambda features: 1.0,
    hard_only=False,
)
MENDED = Rules(
    {"oa": OA, "kl": THRESHOLDS},
    least_variance=-1.0,
    open_share=lambda k, features: min(k / features, 0.9),
    count_scale=float,
    hard_only=True,
)


def top_k(material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    """Top-k selection with the defects of the released code mended.

    The released loss on the number of open gates starts at 0.005 (F/2 - k)^2, 282 for 30 of 535,
    and swamps the grading: here it is divided by F, and k of F gates are open at the start. An
    epoch is chosen among those of the hard mask, with which knees are graded. Grades have the
    ordinal loss of four thresholds. Features are kept whatever their unit.
    """
    return _fit(material, task, MENDED, seed=seed, watch=watch)


def top_k_released(material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    """Top-k selection as released; KL grades have a 5-way cross-entropy.

    An epoch may be chosen by the soft mask of its warm-up though knees are graded by the hard one,
    and features with a variance below 1e-6 in their own unit are left out.
    """
    return _fit(material, task, RELEASED, seed=seed, watch=watch)


def _fit(material: Material, task: str, rules: Rules, *, seed: int, watch: Watch) -> Fitted:
    settings, parts = material.settings.top_k, Parts.of(material, task)
    least = rules.least_variance
    inputs = Inputs.of(material, parts.fitted, image=settings.image, least_variance=least)
    check_k(settings.k, inputs, "radiomics.top_k.k")
    with deterministic(1):
        torch.manual_seed(seed)
        outcome, target = rules.outcomes[task], torch.from_numpy(material.target(task))
        share = rules.open_share(settings.k, len(inputs.columns))
        net = TopKNet(inputs, outcome.outputs, open_share=share)
        training = Training(net, inputs, outcome, rules, settings, target, parts)
        chosen = fit_and_select(
            net,
            parts.fitted,
            _schedule(settings, rules),
            loss=training.loss,
            score=training.score,
            seed=seed,
            watch=watch,
        )
        outputs, masks = training.applied()
    test = masks[material.rows("test")]
    return Fitted(
        logits=outcome.read(outputs),
        z=(inputs.x * masks).double().numpy(),
        evidence=_evidence(training, test),
        record=_record(training, chosen, test),
    )


@dataclass(frozen=True)
class Training:
    """A network with what it is fitted to, and its losses and masks by epoch."""

    net: TopKNet
    inputs: Inputs
    outcome: Outcome
    rules: Rules
    settings: TopKSettings
    target: Int[Tensor, " n"]
    parts: Parts

    @cached_property
    def weights(self) -> Float32[Tensor, " n"]:
        """Balanced weights of the fitted knees."""
        return balanced_weights(self.target.numpy(), self.parts.fitted)

    def progress(self, epoch: int) -> float:
        """How far the warm-up is: 0 in its first epoch, 1 in its last and afterwards."""
        return min(1.0, epoch / max(self.settings.warmup_epochs - 1, 1))

    def mask(self, gates: Gates, epoch: int) -> Gates:
        """Soft in the warm-up, hard afterwards."""
        if epoch >= self.settings.warmup_epochs:
            return hard_mask(gates, self.settings.k)
        return soft_mask(gates, self.settings.threshold * self.progress(epoch))

    def loss(self, rows: Int[Tensor, " b"], epoch: int) -> Float[Tensor, ""]:
        """Weighted error of the grading, and what is asked of the gates."""
        gates, weights = self.net.gates(self.inputs.seen(rows)), self.weights[rows]
        outputs = self.net.classifier(self.inputs.x[rows] * self.mask(gates, epoch))
        errors = self.outcome.losses(outputs, self.target[rows])
        return (weights * errors).sum() / weights.sum() + self.asked_of(gates, epoch)

    def asked_of(self, gates: Gates, epoch: int) -> Float[Tensor, ""]:
        """Loss of gates that are not k, that are alike, or, in the warm-up, that are settled."""
        low, high = self.settings.k_weights
        surplus = (gates.sum(dim=1) - self.settings.k).square().mean()
        weight = (low + (high - low) * self.progress(epoch)) / self.rules.count_scale(
            gates.shape[1]
        )
        loss = weight * surplus + self.settings.diversity_weight * likeness(gates)
        if epoch < self.settings.warmup_epochs:
            loss = loss - self.settings.entropy_weight * entropy(gates)
        return loss

    def score(self, epoch: int) -> float:
        """Macro-F1 on the validation knees, with the mask of the epoch."""
        rows = torch.from_numpy(self.parts.validation)
        masks = self.mask(self._gates(rows), epoch)
        outputs = self.net.classifier(self.inputs.x[rows] * masks)
        return macro_f1(self.outcome, outputs, self.target[rows].numpy())

    def applied(self) -> tuple[Float[Tensor, "n o"], Gates]:
        """Outputs and hard mask of every knee, by the weights that were kept."""
        with torch.no_grad():
            gates = self._gates(torch.arange(len(self.inputs.x)))
            masks = hard_mask(gates, self.settings.k)
            return self.net.classifier(self.inputs.x * masks), masks

    def _gates(self, rows: Int[Tensor, " m"]) -> Gates:
        """The gates of many knees, some scans at once."""
        return torch.cat(
            [self.net.gates(self.inputs.seen(some)) for some in torch.split(rows, AT_ONCE)]
        )


def _schedule(settings: TopKSettings, rules: Rules) -> Schedule:
    return Schedule(
        settings.epochs,
        settings.warmup_epochs if rules.hard_only else 0,
        settings.patience,
        settings.batch_size,
        settings.lr,
        settings.weight_decay,
    )


def _evidence(training: Training, masks: Gates) -> pd.DataFrame:
    """Weight toward the more severe class, times the share of the knees that use the feature."""
    toward = torch.tensor(training.outcome.direction) @ training.net.classifier.weight.detach()
    table = pd.DataFrame(training.inputs.columns, columns=EVIDENCE[:2])
    return table.assign(weight=(toward * masks.mean(dim=0)).double().numpy())


def _record(training: Training, chosen: Chosen, masks: Gates) -> dict[str, Any]:
    """What was chosen, and whether the gates tell knees apart at all."""
    settings = training.settings
    return {
        **record_of(training.parts, chosen),
        "gate_reads": "the scan" if settings.image else "the standardised features, not the scan",
        "chosen_by": "soft mask" if chosen.epoch <= settings.warmup_epochs else "hard mask",
        **usage(training.inputs.columns, masks / settings.k),
    }
