"""What a study of many knees and runs takes on a cluster: a plan on paper from unit costs.

Operations, bytes and files are counted; seconds of a CPU are those measured in docs/performance.md;
seconds of a GPU are operations over a share of its published peak: an estimate, never measured.

    python benchmarks/cluster_cost.py --knees 10000 --runs 500 --gpus 64
"""

import argparse
from dataclasses import dataclass

import torch
from measure import flops

from kellgren.config import PAPER_GRIDS
from kellgren.learn.backbones import build_encoder

TERA = 1e12
EPOCHS, TEST_SHARE, HEADS = 100, 0.2, 4 / 3  # a third of the runs has two heads
PREPARE_S, VERIFY_S = 0.332, 0.0020  # of one core, a knee and grid; docs/performance.md
IMAGE_BYTES, STORED_BYTES = 2, 3  # a voxel: float16 alone, and with its mask
SOURCE_BYTES = 25e6  # a scan of 160 x 384 x 384 and its mask, compressed
SCAN_VOXELS = 160 * 384 * 384
CHECKPOINT_BYTES = 12  # a weight


@dataclass(frozen=True)
class Rate:
    """What a GPU may give, and what its machine can read."""

    name: str
    peak: float  # TFLOP/s of dense products, published
    share: float

    @property
    def flops(self) -> float:
        """Operations a second."""
        return self.peak * TERA * self.share


RATES = (
    Rate("H100 SXM, float32", 66.9, 0.2),
    Rate("H100 SXM, float32", 66.9, 0.5),
    Rate("H100 SXM, bfloat16", 989.4, 0.1),
    Rate("H100 SXM, bfloat16", 989.4, 0.2),
)


@dataclass(frozen=True)
class Network:
    """Unit costs of one backbone.

    Attributes:
        name: Of the backbone.
        forward: Operations of a forward pass, a knee.
        weights: Parameters.
        voxels: Of its grid.
    """

    name: str
    forward: float
    weights: int
    voxels: int

    def run_flops(self, train: int, test: int) -> float:
        """Training, prediction, and saliency with its controls; as benchmarks/train_step.py."""
        saliency = test * (3 + 2 * (1 + HEADS))
        return self.forward * (3 * EPOCHS * train + train + test + saliency)

    def read_bytes(self, train: int) -> float:
        """Bytes read by the training of one run."""
        return EPOCHS * train * self.voxels * IMAGE_BYTES


def networks() -> list[Network]:
    found = []
    for name, grid in PAPER_GRIDS.items():
        with torch.device("meta"):
            net = build_encoder(name, size="full", grid=grid)
        weights = sum(p.numel() for p in net.parameters())
        voxels = grid[0] * grid[1] * grid[2]
        found.append(Network(name, flops(net, (1, 1, *grid)), weights, voxels))
    return found


def units(nets: list[Network], options: argparse.Namespace) -> None:
    train, test = split(options.knees)
    print("| backbone | GFLOP a knee, forward | PFLOP a run | TB read a run | checkpoint, GB |")
    print("|---|---|---|---|---|")
    for net in nets:
        peta, tera = net.run_flops(train, test) / 1e15, net.read_bytes(train) / 1e12
        gb = net.weights * CHECKPOINT_BYTES / 1e9
        print(f"| {net.name} | {net.forward / 1e9:.0f} | {peta:.0f} | {tera:.1f} | {gb:.2f} |")


def times(nets: list[Network], options: argparse.Namespace) -> None:
    train, test = split(options.knees)
    each = options.runs / len(nets)
    work = each * sum(net.run_flops(train, test) for net in nets)
    read = each * sum(net.read_bytes(train) for net in nets)
    print(
        "\n| GPU, share of its peak | longest run, h | all runs, h | read by a GPU, MB/s | "
        "by all, GB/s | reading thread busy |\n|---|---|---|---|---|---|"
    )
    for rate in RATES:
        seconds = work / rate.flops / options.gpus
        longest = max(net.run_flops(train, test) for net in nets) / rate.flops
        mean = read / seconds
        busy = max(VERIFY_S * rate.flops / (3 * net.forward) for net in nets)
        print(
            f"| {rate.name}, {rate.share:.0%} | {longest / 3600:.1f} | {seconds / 3600:,.0f} | "
            f"{mean / options.gpus / 1e6:,.0f} | {mean / 1e9:.1f} | {busy:.0%} |"
        )


def disk(nets: list[Network], options: argparse.Namespace) -> None:
    grids = set(PAPER_GRIDS.values())
    prepared = options.knees * STORED_BYTES * sum(d * h * w for d, h, w in grids)
    each = options.runs / len(nets)
    weights = each * sum(4 * net.weights for net in nets)
    standing = 3 * options.gpus * max(net.weights for net in nets) * CHECKPOINT_BYTES
    rows = {
        "scans and masks as they came": options.knees * SOURCE_BYTES,
        "prepared, both grids": prepared,
        "weights": weights,
        "checkpoints while training": standing,
        "predictions, features, overlaps": options.runs * options.knees * 4e3,
        "saliency maps of five exemplars": options.runs * 5 * HEADS * SCAN_VOXELS * 4,
    }
    print("\n| on disk | GB |\n|---|---|")
    for name, size in rows.items():
        print(f"| {name} | {size / 1e9:,.0f} |")
    hours = options.knees * len(grids) * PREPARE_S / 3600
    print(f"\nTo prepare: {hours:.1f} h of one core, {60 * hours / 16:.0f} min of sixteen.")


def split(knees: int) -> tuple[int, int]:
    test = round(knees * TEST_SHARE)
    return knees - test, test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--knees", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--gpus", type=int, default=64)
    options = parser.parse_args()
    nets = networks()
    units(nets, options)
    times(nets, options)
    disk(nets, options)


if __name__ == "__main__":
    main()
