"""nnMamba: convolutions around one state-space layer (section 3.3).

After Gong et al., "nnMamba: 3D biomedical image segmentation, classification and landmark
detection with state space model" (2024), and Gu and Dao, "Mamba: Linear-time sequence modeling
with selective state spaces" (2023); written from their descriptions, with the names of their
weights.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kellgren.learn.backbones.residual import BasicBlock, Step, check_grid, stage
from kellgren.learn.backbones.scan import KERNELS, kernel_for, selective_scan

STRIDE = 16


@dataclass(frozen=True)
class NnMambaSize:
    """Size of nnMamba.

    Attributes:
        channels: Channels of the stem; the stages have 2, 4 and 8 times as many.
        blocks: Residual blocks a stage.
        states: States of the scan a channel.
        hidden: Width of the features.
        css: Scan four times, over tokens and channels as they are and flipped, and average:
            the "channel-spatial siamese" learning of Gong et al. Their classification network
            scans once.
        kernel: How the scan is computed: a key of `kellgren.learn.backbones.scan.KERNELS`, or
            "auto" for the best one of the device. All compute the same.
    """

    channels: int = 32
    blocks: int = 3
    states: int = 8
    hidden: int = 32
    css: bool = False
    kernel: str = "auto"


NNMAMBA_SIZES: dict[str, NnMambaSize] = {
    "full": NnMambaSize(),
    "small": NnMambaSize(channels=8, blocks=1, states=4),
    "css": NnMambaSize(css=True),
}


class DoubleConv(nn.Module):
    """Two 3x3x3 convolutions; the first halves the grid."""

    def __init__(self, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv3d(1, c_out, 3, stride=2, padding=1),
            nn.BatchNorm3d(c_out),
            nn.ReLU(),
            nn.Conv3d(c_out, c_out, 3, padding=1),
            nn.BatchNorm3d(c_out),
            nn.ReLU(),
        )

    def forward(self, x: Float[Tensor, "n 1 d h w"]) -> Float[Tensor, "n c d2 h2 w2"]:
        """Apply both."""
        return self.conv(x)


class Mamba(nn.Module):
    """Selective state-space block of Gu and Dao.

    Args:
        width: Channels of a token; twice as many are scanned.
        states: States of the scan a channel.
        kernel: How the scan is computed; see `selective_scan`.
    """

    def __init__(self, width: int, states: int, *, kernel: str = "auto") -> None:
        super().__init__()
        inner, self.rank, self.states = 2 * width, math.ceil(width / 16), states
        self.kernel = kernel
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, 4, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.out_proj = nn.Linear(inner, width, bias=False)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self._initialise_steps()

    def forward(self, x: Float[Tensor, "n l c"]) -> Float[Tensor, "n l c"]:
        """Mix each token with those before it."""
        to_u, to_z = self.in_proj.weight.chunk(2)
        u = self.over_tokens(F.linear(x, to_u))
        delta, b, c = self.x_proj(u).split([self.rank, self.states, self.states], dim=2)
        y = selective_scan(
            u,
            F.linear(delta, self.dt_proj.weight),
            -self.A_log.exp(),
            b,
            c,
            d=self.D,
            z=F.linear(x, to_z),
            delta_bias=self.dt_proj.bias,
            kernel=self.kernel,
        )
        return self.out_proj(y)

    def over_tokens(self, u: Float[Tensor, "n l c"]) -> Float[Tensor, "n l c"]:
        """SiLU of the convolution over a token and the three before it."""
        convolve = KERNELS[kernel_for(u.device, self.kernel)].convolve
        return convolve(u, self.conv1d.weight[:, 0], self.get_parameter("conv1d.bias"))

    def _initialise_steps(self) -> None:
        """Steps log-uniform in [0.001, 0.1], as in Mamba: the bias is their inverse softplus."""
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            low, high = math.log(1e-3), math.log(1e-1)
            dt = torch.empty_like(self.dt_proj.bias).uniform_(low, high).exp()
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))


class MambaLayer(nn.Module):
    """A Mamba block over all voxels in row-major order, between two 1x1x1 convolutions."""

    def __init__(self, size: NnMambaSize) -> None:
        super().__init__()
        channels = size.channels
        self.css = size.css
        self.nin = nn.Conv3d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm3d(channels)
        self.mamba = Mamba(channels, size.states, kernel=size.kernel)
        self.nin2 = nn.Conv3d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm3d(channels)

    def forward(self, x: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n c d h w"]:
        """Apply the layer."""
        a = F.relu(self.norm(self.nin(x)))
        tokens = a.flatten(2).transpose(1, 2)
        if a.dtype == torch.bfloat16:  # states that decay over a million tokens need float32
            with torch.autocast(a.device.type, enabled=False):
                mixed = self.mix(tokens.float())
        else:
            mixed = self.mix(tokens)
        mixed = mixed.transpose(1, 2).view_as(a)
        return F.relu(self.norm2(self.nin2(mixed + a)))

    def mix(self, tokens: Float[Tensor, "n l c"]) -> Float[Tensor, "n l c"]:
        """One scan, or the mean of four that share their weights."""
        if not self.css:
            return self.mamba(tokens)
        flips = [(), (2,), (1,), (1, 2)]
        scans = [self.mamba(tokens.flip(axes)).flip(axes) for axes in flips]
        return torch.stack(scans).mean(0)


class NnMamba(nn.Module):
    """Encoder of nnMamba: means of three stages, and the hidden layer of its classifier.

    Args:
        size: Widths and depths.
        grid: Slices, rows and columns of the input; any grid fits of which the last stage keeps
            two voxels, so that batch norm can train on a single volume.

    Raises:
        InputError: If the grid is too small.
    """

    def __init__(self, size: NnMambaSize, grid: tuple[int, int, int]) -> None:
        check_grid("nnmamba", grid, stride=STRIDE)
        super().__init__()
        c = size.channels
        self.n_features = size.hidden
        self.in_conv = DoubleConv(c)
        self.mamba_layer_stem = MambaLayer(size)
        self.layer1 = stage(BasicBlock, Step(c, 2 * c, stride=2), size.blocks)
        self.layer2 = stage(BasicBlock, Step(2 * c, 4 * c, stride=2), size.blocks)
        self.layer3 = stage(BasicBlock, Step(4 * c, 8 * c, stride=2), size.blocks)
        self.mlp = nn.Sequential(nn.Linear(14 * c, size.hidden), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x: Float[Tensor, "n 1 d h w"]) -> Float[Tensor, "n f"]:
        """Features of each volume."""
        c1 = self.in_conv(x)
        c2 = self.layer1(self.mamba_layer_stem(c1) + c1)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return self.mlp(torch.cat([level.mean((2, 3, 4)) for level in (c2, c3, c4)], dim=1))
