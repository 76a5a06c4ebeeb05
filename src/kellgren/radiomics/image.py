"""A network that reads the scan, alone or with its mask: rows 1 and 2 of Chen et al.

After the released code (arXiv 2603.02367): `r3d_18` from random weights, AdamW without a schedule,
no augmentation, the epoch of the best macro-F1 on a fifth of the training knees. Grades have the
ordinal loss of four thresholds, every grade weighing the same; OA has a cross-entropy in which
every knee does, as in the recorded commands. Scans come from the store, z-scored and on
`radiomics.grid`; masks on the same grid, by the nearest voxel.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, Int, UInt8
from torch import Tensor

from kellgren.config import ImageSettings
from kellgren.faults import InputError
from kellgren.learn.backbones.residual import check_grid
from kellgren.learn.train import deterministic
from kellgren.radiomics.inputs import scans_of
from kellgren.radiomics.library import LABELS
from kellgren.radiomics.outcome import OA, THRESHOLDS, Outcome
from kellgren.radiomics.r3d import R3D18, STRIDE
from kellgren.radiomics.selection import (
    Parts,
    Schedule,
    balanced_weights,
    fit_and_select,
    macro_f1,
    record_of,
)
from kellgren.radiomics.systems import Fitted, Material, Watch

OUTCOMES = {"oa": OA, "kl": THRESHOLDS}
AT_ONCE = 8

Labels = UInt8[Tensor, "m d h w"]
Channels = Float32[Tensor, "m c d h w"]
Mask = Callable[[Labels], Channels]


def union(labels: Labels) -> Channels:
    """One channel: 1 in every labelled voxel, whatever its label; as released.

    >>> union(torch.tensor([[[[0, 2, 5]]]], dtype=torch.uint8)).flatten().tolist()
    [0.0, 1.0, 1.0]
    """
    return (labels > 0).float()[:, None]


def onehot(labels: Labels) -> Channels:
    """Five channels, one for each of the labels 1 to 5, which the released union throws together.

    >>> onehot(torch.tensor([[[[0, 2, 5]]]], dtype=torch.uint8))[0, :, 0, 0].T.int().tolist()
    [[0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]
    """
    return torch.stack([labels == label for label in LABELS], dim=1).float()


MASKS: dict[str, Mask | None] = {"none": None, "union": union, "onehot": onehot}
"""What a network sees beside the scan, by name."""


@dataclass(frozen=True)
class Volumes:
    """Prepared scans, and masks where a network sees them.

    Attributes:
        images: z-scored scans.
        labels: Label of each voxel; None where no network looks at it.
        mask: What becomes of the labels; None without.
    """

    images: Float16[Tensor, "n 1 d h w"]
    labels: UInt8[Tensor, "n d h w"] | None = None
    mask: Mask | None = None

    @classmethod
    def of(cls, material: Material, mask: Mask | None) -> "Volumes":
        """Read the volumes of all knees of a material.

        Raises:
            InputError: If a knee is not prepared, or has no mask though one is looked at.
        """
        labels = None if mask is None else _labels_of(material)
        return cls(scans_of(material), labels, mask)

    def seen(self, rows: Int[Tensor, " m"]) -> Channels:
        """What a network reads of the given knees: the scan, then the channels of the mask."""
        images = self.images[rows].float()
        if self.labels is None or self.mask is None:
            return images
        return torch.cat([images, self.mask(self.labels[rows])], dim=1)


def image(seen: str, material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    """Fit a network that sees the scan, and what `MASKS` has under the name `seen`.

    Raises:
        InputError: If the grid is too small, a knee is not prepared, or has no mask though the
            network sees it.
    """
    settings, parts = material.settings.image, Parts.of(material, task)
    check_grid("radiomics.grid", material.store.grid, stride=STRIDE)
    volumes = Volumes.of(material, MASKS[seen])
    channels = volumes.seen(torch.arange(1)).shape[1]
    with deterministic(1):
        torch.manual_seed(seed)
        net = R3D18(channels, OUTCOMES[task].outputs, width=settings.width).to(material.device)
        target = material.target(task)
        training = Training(net, volumes, OUTCOMES[task], target, _weights(task, target, parts))
        chosen = fit_and_select(
            net,
            parts.fitted,
            _schedule(settings),
            loss=training.loss,
            score=lambda epoch: training.score(torch.from_numpy(parts.validation)),
            seed=seed,
            watch=watch,
        )
        outputs, z = training.applied(torch.arange(len(target)))
    parameters = sum(p.numel() for p in net.parameters())
    record = {**record_of(parts, chosen), "channels": channels, "parameters": parameters}
    return Fitted(
        logits=training.outcome.read(outputs),
        z=z.double().numpy(),
        record=record,
        device=material.device,
    )


@dataclass(frozen=True)
class Training:
    """A network with what it is fitted to."""

    net: R3D18
    volumes: Volumes
    outcome: Outcome
    target: Int[np.ndarray, " n"]
    weights: Float32[Tensor, " n"]

    def loss(self, rows: Int[Tensor, " b"], epoch: int) -> Float[Tensor, ""]:
        """Weighted error of the grading, the same in every epoch."""
        outputs, weights = self._outputs(rows)[0], self.weights[rows]
        errors = self.outcome.losses(outputs, torch.from_numpy(self.target)[rows])
        return (weights * errors).sum() / weights.sum()

    def score(self, rows: Int[Tensor, " v"]) -> float:
        """Macro-F1 on the given knees."""
        return macro_f1(self.outcome, self.applied(rows)[0], self.target[rows.numpy()])

    def applied(self, rows: Int[Tensor, " m"]) -> tuple[Float[Tensor, "m o"], Float[Tensor, "m f"]]:
        """Outputs, and what the last layer reads, of the given knees."""
        with torch.no_grad():
            found = [self._outputs(some) for some in torch.split(rows, AT_ONCE)]
        outputs, z = (torch.cat(part) for part in zip(*found, strict=True))
        return outputs, z

    def _outputs(
        self, rows: Int[Tensor, " m"]
    ) -> tuple[Float[Tensor, "m o"], Float[Tensor, "m f"]]:
        """The same for a few knees at once; back from the device, where losses are computed."""
        z = self.net.features(self.volumes.seen(rows).to(self.net.fc.weight.device))
        return self.net.fc(z).cpu(), z.cpu()


def _schedule(settings: ImageSettings) -> Schedule:
    never = settings.epochs
    return Schedule(
        settings.epochs,
        0,
        never,
        settings.batch_size,
        settings.lr,
        settings.weight_decay,
    )


def _weights(task: str, target: Int[np.ndarray, " n"], parts: Parts) -> Float32[Tensor, " n"]:
    """Balanced weights of the fitted knees for grades, equal ones for OA."""
    return torch.ones(len(target)) if task == "oa" else balanced_weights(target, parts.fitted)


def _labels_of(material: Material) -> UInt8[Tensor, "n d h w"]:
    masks = []
    for case in material.cases:
        mask = material.store.load(case.case_id).mask
        if mask is None:
            raise InputError(
                f"case {case.case_id}",
                "no segmentation",
                "a label map on the grid of the scan, for the systems that see scan and mask",
                "name it in the column `segmentation` of the cohort table, or leave out these"
                " systems",
            )
        masks.append(mask)
    return torch.from_numpy(np.stack(masks))
