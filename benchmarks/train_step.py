"""Training steps: seconds and memory by the means of the study file, beside public codes.

    python benchmarks/train_step.py resnet --medicalnet ../MedicalNet
    python benchmarks/train_step.py update
    python benchmarks/train_step.py m3t --means checkpoint peer --m3t ../M3T
    python benchmarks/train_step.py memory --m3t ../M3T
    python benchmarks/train_step.py cost

Each prints one table of docs/performance.md. A step is a forward pass, a backward pass and an
update by AdamW, of a batch of noise. "cost" measures nothing but this machine's convolution; it
counts the operations of a study and divides.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from measure import CLOCKS, GIB, convolution_rate, flops, in_turn, machine, peak_memory
from peers import m3t, medicalnet
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from kellgren.config import PAPER_GRIDS, TrainingSettings
from kellgren.learn.backbones import build_encoder
from kellgren.learn.means import Means

CPU = torch.device("cpu")
MEANS: dict[str, TrainingSettings] = {
    "as it is": TrainingSettings(),
    "channels_last": TrainingSettings(channels_last=True),
    "bfloat16": TrainingSettings(precision="bfloat16"),
    "bfloat16, channels_last": TrainingSettings(precision="bfloat16", channels_last=True),
    "checkpoint": TrainingSettings(checkpoint=True),
}
KNEES, TEST_KNEES, EPOCHS, SETTINGS = 383, 98, 100, 3


def step(net: nn.Module, training: TrainingSettings, x: Tensor) -> Callable[[], None]:
    """A step of the study's own training, on the mean square of the features."""
    means = Means.of(training, CPU)
    means.prepare(net.train())
    optimizer = means.optimizer(net, training)

    def once() -> None:
        optimizer.zero_grad()
        with means.autocast():
            y = net(x)
        y.float().square().mean().backward()
        optimizer.step()

    return once


def peer_step(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """The same, plainly, for a network that is not ours."""
    optimizer = torch.optim.AdamW(net.train().parameters(), lr=1e-4, weight_decay=1e-4)

    def once() -> None:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    return once


def encoder(name: str, size: str, grid: tuple[int, int, int]) -> nn.Module:
    torch.manual_seed(0)
    return build_encoder(name, size=size, grid=grid)


def resnet(options: argparse.Namespace) -> None:
    """ResNet-18 with shortcut A."""
    grid = tuple(options.grid)
    x = torch.randn(options.batch, 1, *grid)
    chosen = {name: MEANS[name] for name in options.means if name in MEANS}
    runs = {name: step(encoder("resnet3d", "r18", grid), t, x) for name, t in chosen.items()}
    if options.medicalnet is not None:
        runs["MedicalNet"] = peer_step(medicalnet(options.medicalnet), x)
    found = in_turn(runs, times=options.times, clock=options.clock)
    work = 3 * flops(encoder("resnet3d", "r18", grid), tuple(x.shape))
    base = found["MedicalNet" if options.medicalnet is not None else "as it is"].median
    print(f"ResNet3D-18 A, batch {options.batch}, {grid}\n")
    print("| means | a step | times as fast | GFLOP/s |\n|---|---|---|---|")
    for name, times in found.items():
        rate = work / times.median / 1e9
        print(f"| {name} | {times} | {base / times.median:.2f} | {rate:.0f} |")


def update(options: argparse.Namespace) -> None:
    """AdamW's own time, on the weights of ResNet3D-18."""
    runs = {}
    for fused in (True, False):
        weights = list(encoder("resnet3d", "r18", (24, 32, 32)).parameters())
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        runs["fused" if fused else "plain"] = torch.optim.AdamW(weights, fused=fused).step
    for name, times in in_turn(runs, times=15, clock=options.clock).items():
        print(f"| {name} | {times} |")


def m3t_step(options: argparse.Namespace) -> None:
    """M3T in the size of its paper: one step in a process of its own."""
    print("| network | batch | seconds of the process | peak GiB |\n|---|---|---|---|")
    for name in options.means:
        seconds, gib = peak_memory(
            m3t_once, name, options.m3t, options.batch, options.side, clock=options.clock
        )
        print(f"| {name} | {options.batch} | {seconds:.0f} | {gib:.2f} |", flush=True)


def m3t_once(name: str, folder: Path | None, batch: int, side: int) -> None:
    x = torch.randn(batch, 1, side, side, side)
    if name == "peer" and folder is not None:
        peer_step(m3t(folder), x)()
        return
    step(encoder("m3t", "original", (side,) * 3), MEANS[name], x)()


def memory(options: argparse.Namespace) -> None:
    """Peak memory of a step, counted on tensors without data; no library's workspace is in it."""
    print("| network | grid | batch | means | counted peak GiB |\n|---|---|---|---|---|")
    networks = [("resnet3d", "full"), ("resnet3d", "r50"), ("m3t", "full"), ("m3t", "original")]
    for name, size in networks:
        grid, batch = PAPER_GRIDS[name], options.batch
        for means in ("as it is", "checkpoint"):
            gib = counted_peak(name, size, means, batch)
            print(f"| {name} `{size}` | {grid} | {batch} | {means} | {gib:.2f} |", flush=True)
    if options.m3t is not None:
        with FakeTensorMode():
            x = torch.randn(options.batch, 1, *PAPER_GRIDS["m3t"])
            gib = tracked(net := m3t(options.m3t), peer_step(net, x))
        print(f"| peer's M3T | {PAPER_GRIDS['m3t']} | {options.batch} | | {gib:.2f} |")


def counted_peak(name: str, size: str, means: str, batch: int) -> float:
    grid = PAPER_GRIDS[name]
    with FakeTensorMode():
        net = encoder(name, size, grid)
        return tracked(net, step(net, MEANS[means], torch.randn(batch, 1, *grid)))


def tracked(net: nn.Module, once: Callable[[], None]) -> float:
    """Largest sum of weights, gradients and activations during a step, and AdamW's moments."""
    tracker = MemTracker()
    tracker.track_external(net)
    with tracker:
        once()
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    moments = 2 * sum(p.nbytes for p in net.parameters())
    return (peak["Total"] + moments) / GIB


CARDS = {  # published peak rates, TFLOP/s of dense products
    "Tesla T4, 16 GB, float16 tensor cores": 65.0,
    "Tesla V100, 16 GB, float32": 15.7,
    "H100 SXM, 80 GB, float32": 66.9,
    "H100 SXM, 80 GB, bfloat16 tensor cores": 989.4,
}
SHARES = (0.5, 0.2)


def cost(options: argparse.Namespace) -> None:
    """Hours of the paper's study: nine models, 100 epochs; an estimate but for the counts."""
    works = {name: work for name, work in study_work()}
    print("| backbone | GFLOP a volume, forward | PFLOP of its three models |\n|---|---|---|")
    for name, (forward, total) in works.items():
        print(f"| {name} | {forward / 1e9:.0f} | {total / 1e15:.0f} |")
    total = sum(total for _, total in works.values())
    print(f"\nAll nine: {total / 1e15:.0f} PFLOP\n")
    columns = [f"hours at {share:.0%} of it" for share in SHARES]
    print(f"| machine | TFLOP/s | {' | '.join(columns)} |\n|---|---|{'---|' * len(SHARES)}")
    rates = CARDS | {
        f"this machine's convolution, measured ({machine()})": convolution_rate(options.clock)
        / 1e12
    }
    for name, rate in rates.items():
        hours = [f"{total / (share * rate * 1e12) / 3600:,.0f}" for share in SHARES]
        print(f"| {name} | {rate:.1f} | {' | '.join(hours)} |")


def study_work() -> Iterator[tuple[str, tuple[float, float]]]:
    """Operations of a forward pass and of three models: training, prediction, saliency.

    A backward pass takes twice the operations of a forward pass, a gradient of the input once.
    nnMamba's scan is left out: it is no matrix product, and 1 to 2 % of the operations.
    """
    for name, grid in PAPER_GRIDS.items():
        with torch.device("meta"):
            net = build_encoder(name, size="full", grid=grid)
        forward = flops(net, (1, 1, *grid))
        volumes = SETTINGS * (3 * EPOCHS * KNEES + KNEES + TEST_KNEES)
        heads = 1 + 1 + 2  # Single-OA, Single-KL, Dual
        saliency = TEST_KNEES * (SETTINGS + heads)
        yield name, (forward, forward * (volumes + saliency))


TABLES = {"resnet": resnet, "update": update, "m3t": m3t_step, "memory": memory, "cost": cost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--medicalnet", type=Path, help="folder of a clone of MedicalNet")
    parser.add_argument("--m3t", type=Path, help="folder of a clone of M3T")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--side", type=int, default=128, help="side of M3T's cube")
    parser.add_argument("--means", nargs="+", choices=[*MEANS, "peer"], default=[*MEANS])
    parser.add_argument("--grid", type=int, nargs=3, default=(80, 128, 128))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine(), "\n")
    TABLES[options.table](options)


if __name__ == "__main__":
    main()
