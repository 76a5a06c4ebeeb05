"""The encoders f of Eq. (2), by name and size (section 3.3).

Every encoder maps images ``(n, 1, d, h, w)`` to features ``(n, f)`` and says its f as
`n_features`. To add one, write its file and add its line to `BACKBONES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kellgren.faults import InputError
from kellgren.learn.backbones.m3t import M3T, M3T_SIZES
from kellgren.learn.backbones.nnmamba import NNMAMBA_SIZES, NnMamba
from kellgren.learn.backbones.resnet3d import RESNET3D_SIZES, ResNet3D

Grid = tuple[int, int, int]
Encoder = ResNet3D | M3T | NnMamba
Size = TypeVar("Size")


@dataclass(frozen=True)
class Backbone(Generic[Size]):
    """An encoder and its named sizes.

    Attributes:
        encoder: Makes the encoder of a size for a grid of slices, rows and columns.
        sizes: Sizes by name. "full" is the one that the paper's authors released, "small" the
            same network with smaller numbers, for work without an accelerator.
    """

    encoder: Callable[[Size, Grid], Encoder]
    sizes: Mapping[str, Size]

    def build(self, size: str, grid: Grid) -> Encoder:
        """Make the encoder of a size that exists."""
        return self.encoder(self.sizes[size], grid)


BACKBONES: dict[str, Backbone[Any]] = {  # each with its own record of sizes
    "resnet3d": Backbone(ResNet3D, RESNET3D_SIZES),
    "m3t": Backbone(M3T, M3T_SIZES),
    "nnmamba": Backbone(NnMamba, NNMAMBA_SIZES),
}


def build_encoder(name: str, *, size: str, grid: Grid) -> Encoder:
    """Make an encoder with new weights, drawn from torch's global generator.

    Args:
        name: A key of `BACKBONES`.
        size: A name among the backbone's sizes.
        grid: Slices, rows and columns of the input.

    Raises:
        InputError: If the name or the size is unknown, or the grid does not fit the encoder.
    """
    if name not in BACKBONES:
        raise InputError("backbone", f"'{name}'", f"one of {list(BACKBONES)}", "correct the name")
    backbone = BACKBONES[name]
    if size not in backbone.sizes:
        raise InputError(
            f"backbone {name}",
            f"size '{size}'",
            f"one of {list(backbone.sizes)}",
            "correct the size",
        )
    return backbone.build(size, grid)
