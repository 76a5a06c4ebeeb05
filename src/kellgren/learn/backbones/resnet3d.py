"""ResNet3D: a 3-D residual network in the geometry of Med3D (section 3.3).

After Chen et al., "Med3D: Transfer learning for 3D medical image analysis" (2019), whose released
network keeps a stride of 8 and dilates its last two stages by 2 and 4.
"""

from jaxtyping import Float
from torch import Tensor

from kellgren.learn.backbones.residual import ResidualNet, ResidualSize, check_grid

RESNET3D_SIZES: dict[str, ResidualSize] = {
    "full": ResidualSize(depth=18),
    "small": ResidualSize(depth=10, width=16),
    "strided": ResidualSize(depth=18, geometry="strided"),
    "r10": ResidualSize(depth=10),
    "r18": ResidualSize(depth=18, shortcut="A"),
    "r34": ResidualSize(depth=34, shortcut="A"),
    "r50": ResidualSize(depth=50),
    "r101": ResidualSize(depth=101),
    "r152": ResidualSize(depth=152),
    "r200": ResidualSize(depth=200),
}
"""Sizes by name; "r10" to "r200" have the shortcuts of the weights that Med3D released."""


class ResNet3D(ResidualNet):
    """Encoder of ResNet3D; its features are the mean of the last stage over the grid.

    Names and shapes of the weights are those of MedicalNet without its segmentation head.

    Args:
        size: Depth, width, shortcut and geometry.
        grid: Slices, rows and columns of the input; any grid fits of which the last stage keeps
            two voxels, so that batch norm can train on a single volume.

    Raises:
        InputError: If the grid is too small.
    """

    def __init__(self, size: ResidualSize, grid: tuple[int, int, int]) -> None:
        check_grid("resnet3d", grid, stride=size.stride)
        super().__init__(size, dims=3, c_in=1)

    def forward(self, x: Float[Tensor, "n 1 d h w"]) -> Float[Tensor, "n f"]:
        """Features of each volume."""
        return super().forward(x)
