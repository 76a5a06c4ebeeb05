"""Public networks to measure against, from folders that the user names; none is part of kellgren.

MedicalNet: a clone of github.com/Tencent/MedicalNet. M3T: a clone of
github.com/KVishnuVardhanR/M3T, which also needs the package einops; its torchvision network is
stood in for by ours of the same layers, so that nothing is downloaded.
"""

import sys
import types
import warnings
from pathlib import Path

from torch import nn

from kellgren.learn.backbones.residual import ResidualNet, ResidualSize


def medicalnet(folder: Path) -> nn.Module:
    """MedicalNet's ResNet-18 with shortcut A; global pooling in place of its segmentation head."""
    sys.path.insert(0, str(folder))
    from models import resnet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        net = resnet.resnet18(
            sample_input_D=1,
            sample_input_H=1,
            sample_input_W=1,
            num_seg_classes=2,
            shortcut_type="A",
            no_cuda=True,
        )
    net.conv_seg = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
    return net


def m3t(folder: Path) -> nn.Module:
    """The M3T that is copied most, in the size of its paper."""
    size = ResidualSize(depth=50, geometry="strided")
    models = types.ModuleType("torchvision.models")
    models.resnet50 = lambda weights: ResidualNet(size, dims=2, c_in=3)
    torchvision, summary = types.ModuleType("torchvision"), types.ModuleType("torchsummary")
    torchvision.models, summary.summary = models, None
    sys.modules |= {
        "torchvision": torchvision,
        "torchvision.models": models,
        "torchsummary": summary,
    }
    sys.path.insert(0, str(folder))
    from M3T import M3T

    return M3T()
