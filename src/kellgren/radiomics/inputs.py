"""What the trained systems see of the knees: standardised features, and scans where asked."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int
from torch import Tensor, nn

from kellgren.faults import InputError
from kellgren.radiomics.scaling import standardised
from kellgren.radiomics.systems import Material


@dataclass(frozen=True)
class Inputs:
    """Features of all knees of a material, scaled by those that a system is fitted to.

    Attributes:
        x: Standardised features; 0, the mean, where a value is missing.
        columns: Region and feature of each column of `x`.
        images: Prepared scans; None where no system looks at them.
    """

    x: Float32[Tensor, "n f"]
    columns: tuple[tuple[str, str], ...]
    images: Float16[Tensor, "n 1 d h w"] | None

    @classmethod
    def of(
        cls,
        material: Material,
        fitted: Int[np.ndarray, " m"],
        *,
        image: bool,
        least_variance: float = -1.0,
    ) -> "Inputs":
        """Scale the features of all knees as the fitted ones ask.

        Args:
            material: Knees of both splits.
            fitted: Rows that a system is fitted to.
            image: True to hold the prepared scans too, as float16: 1 MB a knee on the default grid.
            least_variance: Features whose variance over the fitted knees, in their own unit, is not
                above it are left out.

        Raises:
            InputError: If a scan is not prepared.
        """
        values = material.table.flat()
        kept = np.nan_to_num(values[fitted].var(axis=0), nan=np.inf) > least_variance
        x = standardised(values[:, kept], fitted)
        columns = tuple(c for c, keep in zip(material.table.columns, kept, strict=True) if keep)
        images = scans_of(material) if image else None
        return cls(torch.from_numpy(x.astype(np.float32)), columns, images)

    def seen(self, rows: Int[Tensor, " m"]) -> Float32[Tensor, "m ..."]:
        """What an encoder reads of the given knees: the scan, or all features without scans."""
        return self.x[rows] if self.images is None else self.images[rows].float()


def knee_encoder(inputs: Inputs, widths: tuple[int, int, int], outputs: int) -> nn.Sequential:
    """Reads a knee into `outputs` numbers, none below 0.

    With scans: three 3 x 3 x 3 convolutions of the given widths, the first two followed by a
    maximum over 2 x 2 x 2, mean over space, and a linear layer, as Chen et al. released. Without,
    the linear layer reads the features.
    """
    if inputs.images is None:
        return nn.Sequential(nn.Linear(inputs.x.shape[1], outputs), nn.ReLU())
    first, second, third = widths
    return nn.Sequential(
        nn.Conv3d(1, first, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(second, third, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(third, outputs),
        nn.ReLU(),
    )


def check_k(k: int, inputs: Inputs, key: str, *, spare: int = 0) -> None:
    """Refuse more features a knee than there are, less some to exchange.

    Raises:
        InputError: Naming the key of the study file.
    """
    most = len(inputs.columns) - spare
    if k > most:
        raise InputError(
            f"key '{key}'",
            f"{k} features a knee, of {len(inputs.columns)}",
            f"at most {most}",
            "correct the study file, or give more features",
        )


def scans_of(material: Material) -> Float16[Tensor, "n 1 d h w"]:
    """The prepared scans of all knees.

    Raises:
        InputError: If one is missing, damaged, or prepared on another grid.
    """
    scans = [material.store.load_half(case.case_id) for case in material.cases]
    return torch.from_numpy(np.stack(scans)[:, None])
