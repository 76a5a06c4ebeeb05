"""The 3-D residual network of 18 layers that reads a scan, in the geometry of `r3d_18`.

After Tran et al., "A closer look at spatiotemporal convolutions for action recognition" (CVPR
2018), as torchvision has it: a stem that keeps the slices and halves rows and columns, no maximum
over neighbours, then four stages of two basic blocks, of which the last three halve every axis.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kellgren.learn.backbones.conv3d import Conv3d
from kellgren.learn.backbones.residual import STAGES, BasicBlock, Step, stage

N_BLOCKS = 2
STRIDE = 16  # of rows and columns; slices have 8


class R3D18(nn.Module):
    """Stem, four stages, mean over the grid, one linear layer.

    Convolutions start from Kaiming's normal distribution (fan out), the linear layer from a normal
    one of standard deviation 0.01, as torchvision has it.

    Args:
        channels: Channels of the input.
        outputs: Numbers put out for a knee.
        width: Channels of the stem; the stages have 1, 2, 4 and 8 times as many.
    """

    def __init__(self, channels: int, outputs: int, *, width: int = 64) -> None:
        super().__init__()
        self.conv1 = Conv3d(
            channels, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False
        )
        self.bn1 = nn.BatchNorm3d(width)
        stages, c_in = [], width
        for i, (stride, _) in enumerate(STAGES["strided"]):
            stages.append(stage(BasicBlock, Step(c_in, width * 2**i, stride), N_BLOCKS))
            c_in = width * 2**i
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(c_in, outputs)
        self._initialise()

    def forward(self, x: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n o"]:
        """What is put out for each knee."""
        return self.fc(self.features(x))

    def features(self, x: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n f"]:
        """What the linear layer reads: the last stage, its mean over the grid."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).flatten(2).mean(2)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.fc.weight, 0, 0.01)
        nn.init.zeros_(self.fc.bias)
