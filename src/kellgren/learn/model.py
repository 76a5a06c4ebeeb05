"""One shared encoder and its heads, Eq. (2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kellgren.config import BackboneSettings, PreparationSettings, TrainingSettings
from kellgren.config.objective import Arrangement
from kellgren.faults import InputError
from kellgren.files import digest_of_file
from kellgren.learn.backbones import build_encoder
from kellgren.learn.consistency import implied_oa
from kellgren.learn.heads import Task, weighted_tasks
from kellgren.learn.weights import Tensors, complete
from kellgren.runs import Run

_AGAIN = "train this run again"


@dataclass(frozen=True)
class Output:
    """What the network gives for a batch.

    Attributes:
        features: Penultimate features z, the input of the heads.
        logits: Logits of each head, by the name of its task.
    """

    features: Float[Tensor, "n f"]
    logits: dict[str, Float[Tensor, "n _"]]


class HierarchicalNet(nn.Module):
    """Encoder f and heads g, h of Eq. (2).

    Args:
        encoder: Any module that maps images `(n, 1, d, h, w)` to features `(n, f)`.
        n_features: f.
        tasks: One linear head is built for each.
        heads: How the OA answer comes about beside a KL head, see `config.objective.Arrangement`;
            with one task there is one head on z.
    """

    def __init__(
        self,
        encoder: nn.Module,
        n_features: int,
        tasks: Iterable[Task],
        *,
        heads: Arrangement = "parallel",
    ) -> None:
        super().__init__()
        by_name = {task.name: task for task in tasks}
        self.arrangement = heads if set(by_name) == {"oa", "kl"} else "parallel"
        self.grades = by_name["kl"].stored if "kl" in by_name else None
        self.encoder = encoder
        self.heads = nn.ModuleDict(
            {
                name: task.built(self._width(name, n_features, by_name))
                for name, task in by_name.items()
                if not (name == "oa" and self.arrangement == "tied")
            }
        )

    def _width(self, name: str, n_features: int, by_name: Mapping[str, Task]) -> int:
        on_kl = name == "oa" and self.arrangement == "stacked"
        return by_name["kl"].n_logits if on_kl else n_features

    def forward(self, image: Float[Tensor, "n 1 d h w"]) -> Output:
        """Features and the logits of every head."""
        z = self.encoder(image)
        if self.arrangement == "parallel":
            return Output(z, {name: head(z) for name, head in self.heads.items()})
        kl = self.heads["kl"](z)
        return Output(z, {"oa": self._oa_beside(z, kl), "kl": kl})

    def _oa_beside(self, z: Float[Tensor, "n f"], kl: Float[Tensor, "n _"]) -> Float[Tensor, "n _"]:
        """The OA answer of the arrangements that read the KL head."""
        assert self.grades is not None  # there is a KL head
        if self.arrangement == "stacked":
            return self.heads["oa"](kl)
        implied = implied_oa(self.grades(kl))[:, None]
        if self.arrangement == "tied":
            return implied
        own = self.heads["oa"](z)
        return own if self.training else (own + implied) / 2


def build_model(
    backbone: str, *, settings: BackboneSettings, tasks: Sequence[str], training: TrainingSettings
) -> HierarchicalNet:
    """A freshly initialised network; the caller seeds torch's generator."""
    encoder = build_encoder(backbone, size=settings.size, grid=settings.grid)
    asked = weighted_tasks(tasks, training)
    return HierarchicalNet(encoder, encoder.n_features, asked, heads=training.heads)


def load_model(run: Run, *, device: torch.device) -> HierarchicalNet:
    """The trained network of a run, in evaluation mode.

    Raises:
        InputError: If the run is not finished, or its weights do not fit its settings.
    """
    asked = settings_of(run)
    model = build_model(
        run.backbone,
        settings=BackboneSettings.model_validate(asked["backbone"]),
        tasks=tasks_of(run),
        training=TrainingSettings.model_validate(asked["training"]),
    )
    weights = complete(run.weights, _tensors_of(run), model.state_dict(), todo=_AGAIN)
    model.load_state_dict(weights)
    return model.to(device).eval()


def _tensors_of(run: Run) -> Tensors:
    """What `weights.safetensors` holds, if it is the file that training wrote."""
    written = run.record().get("trained", {}).get("weights_digest")
    try:
        if written not in (None, digest_of_file(run.weights)):
            raise _damaged(run, "it does not fit its digest in run.json")
        return load_file(run.weights)
    except (OSError, SafetensorError) as error:
        raise _damaged(run, str(error)) from error


def _damaged(run: Run, found: str) -> InputError:
    return InputError(
        str(run.weights),
        f"a damaged file ({found})",
        f"the weights of {run.name} as its run.json describes them",
        _AGAIN,
    )


def settings_of(run: Run) -> Mapping[str, Any]:
    """What was asked of a finished run: the `asked` part of its `run.json`.

    Raises:
        InputError: If weights or settings are missing.
    """
    asked = run.record().get("asked")
    if asked is None or not run.weights.exists():
        raise InputError(
            str(run.folder),
            f"{sorted(p.name for p in run.folder.glob('*'))}",
            "run.json and weights.safetensors of a finished training",
            "train this run first",
        )
    return asked


def training_of(run: Run) -> TrainingSettings:
    """The training settings of a finished run.

    Raises:
        InputError: If the run is not finished.
    """
    return TrainingSettings.model_validate(settings_of(run)["training"])


def tasks_of(run: Run) -> tuple[str, ...]:
    """The tasks that a finished run has heads for.

    Raises:
        InputError: If the run is not finished.
    """
    return tuple(settings_of(run)["tasks"])


def preparation_of(run: Run) -> PreparationSettings:
    """How the scans of a finished run were prepared.

    Raises:
        InputError: If the run is not finished.
    """
    return PreparationSettings.model_validate(settings_of(run).get("preparation", {}))
