"""Augmentation: CPU time of each part, beside a training step of the network on the same grid.

    python benchmarks/augmentation.py
    python benchmarks/augmentation.py --grids small m3t --times 9 --peer-path FOLDER

Prints the columns of the table in docs/data.md. Times are of one thread and one knee; a step is a
forward pass, a backward pass and an update by AdamW on a batch of noise. Reading, verifying and
widening a knee are not in it. FOLDER holds `torchio`, if it is to be timed beside.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from measure import in_turn, machine
from torch import Tensor
from train_step import encoder, step

from kellgren.config import AugmentationSettings, TrainingSettings
from kellgren.learn.augmentation import change_of, changed

LARGEST = {
    "rotation_deg": 10.0,
    "translation_mm": 5.0,
    "elastic_mm": 3.0,
    "bias": 0.3,
    "gamma": 0.2,
    "noise_sd": 0.1,
}
FIELD_MM = (112.0, 140.0, 140.0)
NETWORKS = {
    "small": ("resnet3d", "small", (24, 48, 48), 4),
    "m3t": ("m3t", "full", (128, 128, 128), 1),
    "paper": ("resnet3d", "full", (160, 256, 256), 1),
}
"""Backbone, size, grid, batch."""


def parts(image: Tensor) -> dict[str, Callable[[], object]]:
    """Each part alone, and all of them: draw and change."""
    alone = {name: {name: largest} for name, largest in LARGEST.items()}
    return {
        name: partial(augment, image, AugmentationSettings(**settings))
        for name, settings in (alone | {"all of them": LARGEST}).items()
    }


def augment(image: Tensor, settings: AugmentationSettings) -> Tensor:
    d, h, w = (mm / n for mm, n in zip(FIELD_MM, image.shape, strict=True))
    change = change_of("knee", settings=settings, seed=0, epoch=0)
    return changed(image, change, spacing_mm=(d, h, w))


def peer(image: Tensor) -> dict[str, Callable[[], object]]:
    """The same kinds of change by torchio; its elastic field has 7 points along each axis."""
    import torchio

    knee = torchio.ScalarImage(tensor=image[None])
    transforms = {
        "torchio: affine, elastic": (
            torchio.RandomAffine(scales=0, degrees=10, translation=5),
            torchio.RandomElasticDeformation(max_displacement=3),
        ),
        "torchio: bias, gamma, noise, z-score": (
            torchio.RandomBiasField(0.3),
            torchio.RandomGamma((-0.2, 0.2)),
            torchio.RandomNoise(std=0.1),
            torchio.ZNormalization(),
        ),
    }
    return {name: partial(torchio.Compose(each), knee) for name, each in transforms.items()}


def table(name: str, options: argparse.Namespace) -> None:
    backbone, size, grid, batch = NETWORKS[name]
    image = torch.randn(grid, generator=torch.Generator().manual_seed(0))
    runs = parts(image)
    if options.peer_path is not None:
        sys.path.append(str(options.peer_path))
        runs |= peer(image)
    found = in_turn(runs, times=options.times, clock="cpu")
    x = torch.randn(batch, 1, *grid)
    once = step(encoder(backbone, size, grid), TrainingSettings(), x)
    whole = in_turn({"step": once}, times=options.steps, clock="cpu")["step"].median / batch
    print(f"| {backbone} `{size}`, {grid}: its step | {1e3 * whole:.1f} | 100 |")
    for part, times in found.items():
        print(
            f"| {part} | {1e3 * times.median:.1f} | {100 * times.median / whole:.2g} |", flush=True
        )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--grids", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    words.add_argument("--times", type=int, default=5)
    words.add_argument("--steps", type=int, default=1)
    words.add_argument("--peer-path", type=Path)
    options = words.parse_args()
    torch.set_num_threads(1)  # as the thread that reads ahead has
    print(machine(), "\n\n| one knee | ms of CPU | % of the step |\n|---|---|---|")
    for name in options.grids:
        table(name, options)


if __name__ == "__main__":
    main()
