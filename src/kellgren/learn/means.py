"""The means by which a network trains: precision, memory layout, compilation, fused updates.

They change how fast training is and what it holds in memory, not what is trained. Prediction and
saliency never use them: those are plain float32.
"""

import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from kellgren.config import TrainingSettings
from kellgren.faults import InputError
from kellgren.learn.backbones.conv3d import CHANNELS_LAST
from kellgren.learn.backbones.recompute import recompute_activations

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FUSED_ADAMW = {"cpu": True, "cuda": True}
"""Whether AdamW updates all weights in one pass; measured on a CPU in docs/performance.md."""

COMPILERS = ("g++", "clang++", "c++")


@dataclass(frozen=True)
class Means:
    """How a network trains on a device.

    Attributes:
        device: Type of the device, "cpu" or "cuda".
        precision: "float32", or "bfloat16" where PyTorch's autocast holds it to be safe.
        accumulate: Batches whose gradients are averaged before one update.
        checkpoint: Keep the inputs of blocks alone, and compute the rest again.
        channels_last: Store channels innermost.
        compile: Let torch.compile write kernels for the encoder.
        fused: Update all weights in one pass.
    """

    device: str
    precision: str
    accumulate: int
    checkpoint: bool
    channels_last: bool
    compile: bool
    fused: bool

    @classmethod
    def of(cls, training: TrainingSettings, device: torch.device) -> "Means":
        """What the settings mean on a device.

        Raises:
            InputError: If the device cannot do it.
        """
        if training.precision == "bfloat16":
            _need_bfloat16(device)
        if training.compile and device.type == "cpu":
            _need_compiler()
        return cls(
            device=device.type,
            precision=training.precision,
            accumulate=training.accumulate,
            checkpoint=training.checkpoint,
            channels_last=training.channels_last,
            compile=training.compile,
            fused=FUSED_ADAMW.get(device.type, False),
        )

    def prepare(self, model: nn.Module) -> None:
        """Bring a network that stands on its device into the form that trains, in place.

        Names and values of its weights stay as they are.
        """
        if self.checkpoint:
            recompute_activations(model)
        if self.channels_last:
            for parameter in model.parameters():
                if parameter.ndim in CHANNELS_LAST:
                    layout = CHANNELS_LAST[parameter.ndim]
                    parameter.data = parameter.data.contiguous(memory_format=layout)
        if self.compile:
            model.compile(dynamic=False)

    def optimizer(self, model: nn.Module, training: TrainingSettings) -> torch.optim.AdamW:
        """AdamW over all weights of a network."""
        return torch.optim.AdamW(
            model.parameters(),
            lr=training.lr,
            weight_decay=training.weight_decay,
            fused=self.fused,
        )

    def autocast(self) -> AbstractContextManager[object]:
        """In which a forward pass runs."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device, DTYPES[self.precision])


@dataclass(frozen=True)
class Share:
    """What a batch is of the cases whose gradients are averaged before one update.

    Attributes:
        weight: Its cases over theirs.
        first: Whether it is the first of its group.
        last: Whether the update follows.
        cases: How many they are.
    """

    weight: float
    first: bool
    last: bool
    cases: int


def shares(n_cases: int, *, batch_size: int, accumulate: int) -> list[Share]:
    """The share of every batch of an epoch; the last batch and the last group may be smaller.

    >>> [share.weight for share in shares(5, batch_size=2, accumulate=2)]
    [0.5, 0.5, 1.0]
    """
    sizes = [min(batch_size, n_cases - i) for i in range(0, n_cases, batch_size)]
    groups = [sizes[i : i + accumulate] for i in range(0, len(sizes), accumulate)]
    return [
        Share(size / sum(group), first=i == 0, last=i == len(group) - 1, cases=size)
        for group in groups
        for i, size in enumerate(group)
    ]


def _need_bfloat16(device: torch.device) -> None:
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(
            "training.precision",
            f"bfloat16 on {torch.cuda.get_device_name(device)}, which has none",
            "a GPU of compute capability 8.0 or later",
            "set precision = 'float32'",
        )


def _need_compiler() -> None:
    names = (os.environ.get("CXX", ""), *COMPILERS)
    if not any(shutil.which(name) for name in names if name):
        raise InputError(
            "training.compile",
            "no C++ compiler",
            f"one of {', '.join(COMPILERS)}, which torch.compile uses on a CPU",
            "install one, or set compile = false",
        )
