"""Residual networks in two and three dimensions, with the weight names of their public releases.

The blocks are those of He et al. (CVPR 2016), with the stride of a bottleneck on its middle
convolution. Names and shapes of the weights are those of MedicalNet in three dimensions and of
torchvision in two, so that released weights fit.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kellgren.faults import InputError
from kellgren.learn.backbones.conv3d import Conv3d
from kellgren.learn.backbones.recompute import Recomputing

CONV: dict[int, type[nn.Conv2d] | type[Conv3d]] = {2: nn.Conv2d, 3: Conv3d}
NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}

Geometry = Literal["dilated", "strided"]
Shortcut = Literal["A", "B"]

STAGES: dict[str, tuple[tuple[int, int], ...]] = {  # (stride, dilation) of each stage
    "dilated": ((1, 1), (2, 1), (1, 2), (1, 4)),
    "strided": ((1, 1), (2, 1), (2, 1), (2, 1)),
}
TOTAL_STRIDE = {"dilated": 8, "strided": 32}


@dataclass(frozen=True)
class Step:
    """Where a block stands: channels in, width, and how it moves over the grid."""

    c_in: int
    width: int
    stride: int = 1
    dilation: int = 1
    dims: int = 3


class ZeroPadShortcut(nn.Module):
    """Shortcut type A: every `stride`-th voxel, and zeros for the channels that are new.

    The gradient flows through it. MedicalNet pads detached data instead: the same output, but an
    input gradient, and so a saliency map, that is not the gradient of the network.
    """

    def __init__(self, stride: int, c_new: int) -> None:
        super().__init__()
        self.stride, self.c_new = stride, c_new

    def forward(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n c_out *grid_out"]:
        """Thin out the grid, then append empty channels."""
        every = (slice(None), slice(None)) + (slice(None, None, self.stride),) * (x.ndim - 2)
        return F.pad(x[every], (0, 0) * (x.ndim - 2) + (0, self.c_new))


def shortcut_of(step: Step, c_out: int, *, shortcut: Shortcut) -> nn.Module:
    """The identity where the shape stays, else type A (no weights) or B (1x1x1 convolution)."""
    if step.stride == 1 and step.c_in == c_out:
        return nn.Identity()
    if shortcut == "A":
        return ZeroPadShortcut(step.stride, c_out - step.c_in)
    conv = CONV[step.dims](step.c_in, c_out, 1, stride=step.stride, bias=False)
    return nn.Sequential(conv, NORM[step.dims](c_out))


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, step: Step, *, shortcut: Shortcut = "B") -> None:
        super().__init__()
        conv, norm, d = CONV[step.dims], NORM[step.dims], step.dilation
        self.conv1 = conv(
            step.c_in, step.width, 3, stride=step.stride, padding=d, dilation=d, bias=False
        )
        self.bn1 = norm(step.width)
        self.conv2 = conv(step.width, step.width, 3, padding=d, dilation=d, bias=False)
        self.bn2 = norm(step.width)
        self.downsample = shortcut_of(step, step.width, shortcut=shortcut)

    def forward(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n c_out *grid_out"]:
        """Apply the block."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3 and 1x1x1 convolutions, the last four times as wide, and a shortcut."""

    expansion = 4

    def __init__(self, step: Step, *, shortcut: Shortcut = "B") -> None:
        super().__init__()
        conv, norm, d = CONV[step.dims], NORM[step.dims], step.dilation
        c_out = step.width * self.expansion
        self.conv1 = conv(step.c_in, step.width, 1, bias=False)
        self.bn1 = norm(step.width)
        self.conv2 = conv(
            step.width, step.width, 3, stride=step.stride, padding=d, dilation=d, bias=False
        )
        self.bn2 = norm(step.width)
        self.conv3 = conv(step.width, c_out, 1, bias=False)
        self.bn3 = norm(c_out)
        self.downsample = shortcut_of(step, c_out, shortcut=shortcut)

    def forward(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n c_out *grid_out"]:
        """Apply the block."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


Block = type[BasicBlock] | type[Bottleneck]

DEPTHS: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
    200: (Bottleneck, (3, 24, 36, 3)),
}


@dataclass(frozen=True)
class ResidualSize:
    """Size of a residual network.

    Attributes:
        depth: Number of layers: 10, 18 and 34 have basic blocks, deeper ones bottlenecks.
        width: Channels of the stem; the stages have 1, 2, 4 and 8 times as many.
        shortcut: "A" pads with zeros, "B" convolves.
        geometry: "dilated" keeps the grid after the second stage (MedicalNet, stride 8 in all);
            "strided" halves it in each later stage (torchvision, MONAI, stride 32 in all).
    """

    depth: int = 18
    width: int = 64
    shortcut: Shortcut = "B"
    geometry: Geometry = "dilated"

    @property
    def n_features(self) -> int:
        """Channels of the last stage.

        >>> ResidualSize(depth=18, width=64).n_features
        512
        """
        return 8 * self.width * DEPTHS[self.depth][0].expansion

    @property
    def stride(self) -> int:
        """Voxels of the input per voxel of the last stage, along each axis."""
        return TOTAL_STRIDE[self.geometry]


class Stage(Recomputing, nn.Sequential):
    """Blocks one after the other."""

    def forward(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n c_out *grid_out"]:
        """Apply all blocks; each may be recomputed on its own."""
        for block in self:
            x = self.run(block, x, of=block)
        return x


def stage(block: Block, first: Step, n_blocks: int, *, shortcut: Shortcut = "B") -> Stage:
    """One stage: the first block changes channels and grid, the others keep them."""
    c_out = first.width * block.expansion
    later = Step(c_out, first.width, dilation=first.dilation, dims=first.dims)
    steps = [first] + [later] * (n_blocks - 1)
    return Stage(*(block(step, shortcut=shortcut) for step in steps))


class ResidualNet(Recomputing):
    """A residual network that ends with the mean over the grid of its last stage.

    Convolutions start from Kaiming's normal distribution (fan out), batch norms from 1 and 0.

    Args:
        size: Depth, width, shortcut and geometry.
        dims: 2 for slices, 3 for volumes.
        c_in: Channels of the input.
    """

    def __init__(self, size: ResidualSize, *, dims: int, c_in: int) -> None:
        super().__init__()
        block, n_blocks = DEPTHS[size.depth]
        self.size, self.n_features = size, size.n_features
        self.conv1 = CONV[dims](c_in, size.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = NORM[dims](size.width)
        self.pool = POOL[dims](3, stride=2, padding=1)
        stages, channels = [], size.width
        for i, (stride, dilation) in enumerate(STAGES[size.geometry]):
            first = Step(channels, size.width * 2**i, stride, dilation, dims)
            stages.append(stage(block, first, n_blocks[i], shortcut=size.shortcut))
            channels = first.width * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self._initialise()

    def forward(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n f"]:
        """Features of each image."""
        return self.body(self.run(self.stem, x, of=self.bn1))

    def body(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n f"]:
        """The four stages and the mean over the grid."""
        return self.late(self.layer2(self.layer1(x)))

    def early(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n c_out *grid_out"]:
        """The stem and the first two stages: few weights, and many activations."""
        return self.layer2(self.layer1(self.stem(x)))

    def late(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n f"]:
        """The last two stages and the mean over the grid: many weights, and few activations."""
        return self.layer4(self.layer3(x)).flatten(2).mean(2)

    def stem(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n c_out *grid_out"]:
        """A wide convolution, and the largest of each three neighbours; a quarter of the grid."""
        return self.pool(F.relu(self.bn1(self.conv1(x)), inplace=True))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def check_grid(where: str, grid: tuple[int, int, int], *, stride: int) -> None:
    """Refuse a grid of which fewer than two voxels remain at a stride.

    Raises:
        InputError: If one or no voxel remains; batch norm could not train on a single volume.
    """
    if min(grid) < 1 or math.prod(-(-axis // stride) for axis in grid) < 2:
        raise InputError(
            where,
            f"the grid {grid}",
            f"more than {stride} voxels along at least one axis",
            "choose a larger grid",
        )
