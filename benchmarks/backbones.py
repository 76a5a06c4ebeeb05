"""Forward passes and saliency of the encoders, beside public codes of the same networks.

    python benchmarks/backbones.py resnet --medicalnet ../MedicalNet
    python benchmarks/backbones.py m3t --m3t ../M3T
    python benchmarks/backbones.py full
    python benchmarks/backbones.py shortcut

Each prints one table of docs/performance.md. `--threads` sets the threads of all; `--clock cpu`
measures seconds of the processor, which is fair on a machine where others are at work.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from measure import CLOCKS, convolution_rate, copy_rate, flops, in_turn, machine, peak_memory
from peers import m3t, medicalnet
from torch import Tensor, nn

from kellgren.config import BackboneSettings, TrainingSettings
from kellgren.learn.backbones.m3t import M3T, M3T_SIZES
from kellgren.learn.backbones.residual import ZeroPadShortcut
from kellgren.learn.backbones.resnet3d import RESNET3D_SIZES, ResNet3D
from kellgren.learn.model import HierarchicalNet, build_model

PAPER = (160, 256, 256)


def ours(grid: tuple[int, int, int], size: str = "r18") -> ResNet3D:
    torch.manual_seed(0)
    return ResNet3D(RESNET3D_SIZES[size], grid)


def resnet(options: argparse.Namespace) -> None:
    """ResNet-18 with shortcut A: the same weights in both."""
    rate = convolution_rate(options.clock)
    print("| grid | ours | MedicalNet | ratio | ours, of the convolution rate | error, both |")
    print("|---|---|---|---|---|---|")
    for grid, times in (((40, 64, 64), 15), ((80, 128, 128), 5)):
        net, peer = ours(grid).eval(), medicalnet(options.medicalnet).eval()
        peer.load_state_dict(net.state_dict())
        x = torch.randn(1, 1, *grid, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            found = in_turn(
                {"ours": partial(net, x), "peer": partial(peer, x)},
                times=times,
                clock=options.clock,
            )
            errors = [against_float64(one, x) for one in (net, peer)]
        work = flops(ours(grid), tuple(x.shape))
        print(
            f"| {grid} | {found['ours']} | {found['peer']} "
            f"| {found['peer'].median / found['ours'].median:.2f} "
            f"| {work / found['ours'].median / rate:.0%} | {errors[0]:.1e}, {errors[1]:.1e} |",
            flush=True,
        )
    print(f"\nConvolution {rate / 1e9:.0f} GFLOP/s, copy {copy_rate(options.clock) / 1e9:.0f} GB/s")


def against_float64(net: nn.Module, x: Tensor) -> float:
    """Largest error of the features, relative to the largest feature; the net ends in float64."""
    found = net(x)
    exact = net.double()(x.double())
    return ((found - exact).abs().max() / exact.abs().max()).item()


def m3t_forward(options: argparse.Namespace) -> None:
    """M3T in the size of its paper."""
    rate, grid = convolution_rate(options.clock), (options.side,) * 3
    torch.manual_seed(0)
    net, peer, x = M3T(M3T_SIZES["original"], grid).eval(), None, torch.randn(1, 1, *grid)
    runs: dict[str, Callable[[], object]] = {"ours": lambda: net(x)}
    if options.m3t is not None:
        peer = m3t(options.m3t).eval()
        runs["peer"] = lambda: peer(x)
    with torch.no_grad():
        found = in_turn(runs, times=options.times, clock=options.clock)
    work = flops(M3T(M3T_SIZES["original"], grid), tuple(x.shape))
    for name, times in found.items():
        print(
            f"| {name} | {times} | {work / times.median / rate:.0%} of {rate / 1e9:.0f} GFLOP/s |"
        )
    if peer is not None:
        print(f"ratio {found['peer'].median / found['ours'].median:.2f}")


def full(options: argparse.Namespace) -> None:
    """Prediction, and saliency of both heads, of one volume of the paper's grid."""
    rate = convolution_rate(options.clock)
    work = flops(ours(options.grid, "full"), (1, 1, *options.grid))
    print(
        "| | seconds | GFLOP | GFLOP/s | of the convolution rate | GiB more |\n"
        "|---|---|---|---|---|---|"
    )
    # A saliency map adds the gradient of the input alone, as many operations as the forward pass.
    for name, passes in (("prediction", 1), ("saliency", 3)):
        seconds, gib = peak_memory(ask, name, options.grid, clock=options.clock)
        done = passes * work
        print(
            f"| {name} | {seconds:.2f} | {done / 1e9:.0f} | {done / seconds / 1e9:.0f} "
            f"| {done / seconds / rate:.0%} | {gib:.1f} |",
            flush=True,
        )


def ask(what: str, grid: tuple[int, int, int]) -> None:
    """One forward pass, and for saliency the gradient of the input for each of two heads."""
    net = two_heads(grid)
    x = torch.randn(1, 1, *grid)
    if what == "prediction":
        with torch.no_grad():
            net(x)
        return
    x.requires_grad_()
    logits = net(x).logits
    torch.autograd.grad(logits["oa"].sum(), x, retain_graph=True)
    torch.autograd.grad(logits["kl"].amax(1).sum(), x)


def two_heads(grid: tuple[int, int, int], size: str = "full") -> HierarchicalNet:
    torch.manual_seed(0)
    settings = BackboneSettings(size=size, grid=grid)
    net = build_model(
        "resnet3d", settings=settings, tasks=("oa", "kl"), training=TrainingSettings()
    )
    return net.eval().requires_grad_(False)


def shortcut(options: argparse.Namespace) -> None:
    """The gradient of the input with shortcut A as it is, and detached as in the public codes."""
    print(
        "| grid | cosine | relative difference | top 1 % in common | slope along a step, measured "
        "| by our gradient | by the detached one |\n|---|---|---|---|---|---|---|"
    )
    for grid in ((24, 32, 32), (40, 64, 64)):
        net = ours(grid).double().eval().requires_grad_(False)
        random = torch.Generator().manual_seed(1)
        x = torch.randn(1, 1, *grid, generator=random, dtype=torch.float64)
        weight = torch.randn(net.n_features, generator=random, dtype=torch.float64)
        true = input_gradient(net, x, weight)
        with_gradient = ZeroPadShortcut.forward
        ZeroPadShortcut.forward = lambda self, y, pad=with_gradient: pad(self, y).detach()
        detached = input_gradient(net, x, weight)
        ZeroPadShortcut.forward = with_gradient
        step = 1e-6 * true / true.norm()
        slope = ((net(x + step) - net(x - step)) @ weight).item() / 2e-6
        along = [(g * step).sum().item() / 1e-6 for g in (true, detached)]
        cosine = nn.functional.cosine_similarity(true.flatten(), detached.flatten(), dim=0)
        apart = ((true - detached).norm() / true.norm()).item()
        print(
            f"| {grid} | {cosine:.2f} | {apart:.2f} | {top_in_common(true, detached):.0%} "
            f"| {slope:.6f} | {along[0]:.6f} | {along[1]:.6f} |"
        )


def input_gradient(net: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad((net(x) @ weight).sum(), x)[0]


def top_in_common(one: Tensor, other: Tensor, share: float = 0.01) -> float:
    """Share of the voxels of largest magnitude of one map that are among those of another."""
    n = int(share * one.numel())
    first, second = (set(m.abs().flatten().topk(n).indices.tolist()) for m in (one, other))
    return len(first & second) / n


TABLES = {"resnet": resnet, "m3t": m3t_forward, "full": full, "shortcut": shortcut}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--medicalnet", type=Path, help="folder of a clone of MedicalNet")
    parser.add_argument("--m3t", type=Path, help="folder of a clone of M3T")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--times", type=int, default=2, help="rounds of m3t that count")
    parser.add_argument("--side", type=int, default=128, help="side of M3T's cube")
    parser.add_argument("--grid", type=int, nargs=3, default=PAPER)
    options = parser.parse_args()
    options.grid = tuple(options.grid)
    torch.set_num_threads(options.threads)
    print(machine(), "\n")
    TABLES[options.table](options)


if __name__ == "__main__":
    main()
