"""M3T: slices of three planes, read by one 2-D network and joined by a transformer (section 3.3).

After Jang and Hwang, "M3T: Three-dimensional medical image classifier using multi-plane and
multi-slice transformer" (CVPR 2022), written from the paper's description.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kellgren.faults import InputError
from kellgren.learn.backbones.conv3d import CHANNELS_LAST, Conv3d
from kellgren.learn.backbones.folded import folded, predicts
from kellgren.learn.backbones.recompute import Recomputing
from kellgren.learn.backbones.residual import ResidualNet, ResidualSize

PLANE_AXES = {"coronal": 4, "sagittal": 2, "axial": 3}
"""Axis of an image ``(n, 1, d, h, w)`` along which the slices of a plane follow each other."""

PIXELS_AT_ONCE = (2**17, 2**20)
"""Pixels of the slices that the early and the late half of the 2-D network read at once in
evaluation: 8 and 64 slices of 128 x 128. Early there are many activations, late many weights."""

SLICE_NET = ResidualSize(depth=18, geometry="strided")
ORIGINAL_SLICE_NET = ResidualSize(depth=50, geometry="strided")
SMALL_SLICE_NET = ResidualSize(depth=10, width=8, geometry="dilated")


@dataclass(frozen=True)
class M3TSize:
    """Size of M3T.

    Attributes:
        channels: Channels of the 3-D block.
        kernel: Side of the kernels of the 3-D block, odd.
        slice_net: The shared 2-D network.
        hidden: Width of the hidden layer between the 2-D features and the tokens.
        width: Width of the tokens, and so of the features.
        layers: Transformer layers.
        heads: Attention heads; they divide `width`.
        mlp: Width of the hidden layer of a transformer layer.
        slices: "plain" slices the 3-D features; "squared" squares them first, as the authors of
            the coarse-to-fine paper released it.
    """

    channels: int = 16
    kernel: int = 5
    slice_net: ResidualSize = SLICE_NET
    hidden: int = 256
    width: int = 128
    layers: int = 4
    heads: int = 8
    mlp: int = 256
    slices: Literal["plain", "squared"] = "plain"


M3T_SIZES: dict[str, M3TSize] = {
    "full": M3TSize(),
    "small": M3TSize(
        channels=4,
        kernel=3,
        slice_net=SMALL_SLICE_NET,
        hidden=64,
        width=64,
        layers=2,
        heads=4,
        mlp=128,
    ),
    "squared": M3TSize(slices="squared"),
    "original": M3TSize(
        channels=32, slice_net=ORIGINAL_SLICE_NET, hidden=512, width=256, layers=8, heads=8, mlp=768
    ),
}
"""Sizes by name; "original" is the network of Jang and Hwang."""


class Attention(nn.Module):
    """Multi-head self-attention, scaled before the softmax."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "n l f"]) -> Float[Tensor, "n l f"]:
        """Let every token look at all tokens of its case."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Attention and a two-layer network, each after a layer norm and beside a shortcut."""

    def __init__(self, size: M3TSize) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width)
        self.attention = Attention(size.width, size.heads)
        self.norm2 = nn.LayerNorm(size.width)
        self.mlp = nn.Sequential(
            nn.Linear(size.width, size.mlp), nn.GELU(), nn.Linear(size.mlp, size.width)
        )

    def forward(self, x: Float[Tensor, "n l f"]) -> Float[Tensor, "n l f"]:
        """Apply the layer."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class M3T(Recomputing):
    """Encoder of M3T; its features are the class token after the last transformer layer.

    The tokens are class, coronal slices, separator, sagittal slices, separator, axial slices,
    separator. Each has a learned position, and each plane a learned embedding; the class token
    counts as coronal and a separator belongs to the slices before it.

    Args:
        size: Widths and depths.
        grid: Slices, rows and columns of the input, a cube; positions are sized by it.

    Raises:
        InputError: If the grid is no cube, or smaller than the stride of the 2-D network.
    """

    def __init__(self, size: M3TSize, grid: tuple[int, int, int]) -> None:
        super().__init__()
        check_cube(grid, at_least=size.slice_net.stride)
        self.n_features, self.n_slices, self.slices = size.width, grid[0], size.slices
        self.block3d = nn.Sequential(
            Conv3d(1, size.channels, size.kernel, padding="same"),
            nn.BatchNorm3d(size.channels),
            nn.ReLU(inplace=True),
            Conv3d(size.channels, size.channels, size.kernel, padding="same"),
            nn.BatchNorm3d(size.channels),
            nn.ReLU(inplace=True),
        )
        self.slice_net = ResidualNet(size.slice_net, dims=2, c_in=size.channels)
        self.project = nn.Sequential(
            nn.Linear(self.slice_net.n_features, size.hidden),
            nn.ReLU(),
            nn.Linear(size.hidden, size.width),
        )
        self.class_token = embedding(1, size.width)
        self.separator = embedding(1, size.width)
        self.planes = embedding(3, size.width)
        self.positions = embedding(3 * self.n_slices + 4, size.width)
        self.layers = nn.Sequential(*(TransformerLayer(size) for _ in range(size.layers)))

    def forward(self, x: Float[Tensor, "n 1 d h w"]) -> Float[Tensor, "n f"]:
        """Features of each volume; for prediction on a CPU, the batch norms are folded away."""
        return (folded(self) if predicts(self, x) else self).encode(x)

    def encode(self, x: Float[Tensor, "n 1 d h w"]) -> Float[Tensor, "n f"]:
        """Read the volume, then its slices, then the sequence of their tokens."""
        y = self.run(self.read_volume, x, of=self.block3d)
        y = y.square() if self.slices == "squared" else y
        tokens = self.project(self.read_slices(y)).unflatten(0, (len(x), 3, self.n_slices))
        return self.layers(self.sequence(tokens))[:, 0]

    def read_volume(self, x: Float[Tensor, "n 1 d h w"]) -> Float[Tensor, "n c d h w"]:
        """Features of each voxel."""
        return self.block3d(self.side_by_side(x))

    def read_slices(self, y: Float[Tensor, "n c d h w"]) -> Float[Tensor, "slices f"]:
        """Features of each slice: volumes, then planes, then slices.

        In training the batch statistics are those of all slices, so they are read at once; in
        evaluation slices do not depend on each other, and a few at a time are faster and smaller.
        """
        if self.training:
            first = self.run(self._first_of_all, y, of=self.slice_net.bn1)
            return self.slice_net.body(first)
        return torch.cat([self.read_plane(plane) for plane in slices_of(y)])

    def read_plane(self, plane: Float[Tensor, "slices c h w"]) -> Float[Tensor, "slices f"]:
        """Features of the slices of a plane, in evaluation."""
        net, pixels = self.slice_net, plane[0, 0].numel()
        few, many = (max(1, at_once // pixels) for at_once in PIXELS_AT_ONCE)
        parts = torch.split(plane, few)
        x = torch.cat([self.run(net.early, self.side_by_side(part), of=net) for part in parts])
        return torch.cat([self.run(net.late, part, of=net) for part in torch.split(x, many)])

    def side_by_side(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n c *grid"]:
        """In evaluation on a CPU the channels lie innermost: measured in docs/performance.md."""
        if self.training or x.device.type != "cpu":
            return x
        return x.clone(memory_format=CHANNELS_LAST[x.ndim])

    def _first_of_all(self, y: Float[Tensor, "n c d h w"]) -> Float[Tensor, "slices c_out h2 w2"]:
        """Stem of the 2-D network over all slices; the slices are not kept for the gradient."""
        return self.slice_net.stem(torch.cat(slices_of(y)))

    def sequence(self, tokens: Float[Tensor, "n 3 slices f"]) -> Float[Tensor, "n l f"]:
        """Put the class token and the separators around the slices, and say where each stands."""
        n = len(tokens)
        ends = self.separator.expand(n, 3, 1, -1)
        rows = torch.cat([tokens, ends], dim=2) + self.planes[:, None]
        first = (self.class_token + self.planes[0]).expand(n, 1, -1)
        return torch.cat([first, rows.flatten(1, 2)], dim=1) + self.positions


def slices_of(y: Float[Tensor, "n c d h w"]) -> list[Float[Tensor, "slices c _ _"]]:
    """The slices of each volume and plane, as views: three entries a volume."""
    return [volume.movedim(axis - 1, 0) for volume in y for axis in PLANE_AXES.values()]


def embedding(n_rows: int, width: int) -> nn.Parameter:
    """Learned rows, at first normal with standard deviation 0.02."""
    return nn.Parameter(torch.randn(n_rows, width) * 0.02)


def check_cube(grid: tuple[int, int, int], *, at_least: int) -> None:
    """Refuse a grid that is no cube or too small."""
    if len(set(grid)) != 1:
        raise InputError("m3t", f"the grid {grid}", "a cube", "make its three numbers equal")
    if grid[0] < at_least:
        raise InputError(
            "m3t", f"the grid {grid}", f"at least {at_least} voxels a side", "choose a larger grid"
        )
