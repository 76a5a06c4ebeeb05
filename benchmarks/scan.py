"""Time the selective scan and nnMamba beside mamba.py's parallel scan, in one run.

Run from the root of the repository:

    python benchmarks/scan.py scan --peer-path FOLDER
    python benchmarks/scan.py network --peer-path FOLDER
    python benchmarks/scan.py full

FOLDER holds the package `mambapy`, as `pip install --no-deps --target FOLDER mambapy` makes it;
without it ours are timed alone. The candidates alternate; medians stand with the quartiles.
"""

import argparse
import ctypes
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kellgren.learn.backbones.nnmamba import NnMamba, NnMambaSize
from kellgren.learn.backbones.scan import KERNELS, Kernel, selective_scan

CHANNELS, STATES = 64, 8
REGIMES = {"tiny": -9.0, "initial": -4.0, "large": 15.0}
Pscan = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["scan", "network", "full"])
    parser.add_argument("--peer-path", type=Path)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--length", default=16_384, type=int)
    parser.add_argument("--grid", default=(80, 128, 128), type=int, nargs=3)
    parser.add_argument("--repeats", default=7, type=int)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    kernels = candidates(asked.device, asked.peer_path)
    print(f"torch {torch.__version__}, {asked.device}, {asked.threads} threads: {kernels}")
    if asked.what == "scan":
        time_scans(kernels, asked.device, asked.length, asked.repeats)
    if asked.what == "network":
        time_networks(kernels, asked.device, tuple(asked.grid), asked.repeats)
    if asked.what == "full":
        step_of_full_size(asked.device)


def candidates(device: torch.device, peer_path: Path | None) -> list[str]:
    """Our kernels that run here, and the peer under the name "pscan"."""
    ours = [
        name
        for name, kernel in KERNELS.items()
        if (not kernel.devices or device.type in kernel.devices) and kernel.why_not() is None
    ]
    if peer_path is None:
        return ours
    sys.path.insert(0, str(peer_path))
    from mambapy.pscan import pscan

    KERNELS["pscan"] = Kernel(materialised(pscan))
    return [*ours, "pscan"]


def materialised(pscan: Pscan) -> Callable[..., Tensor]:
    """The scan as all states at once, (n, l, c, s), through a parallel scan of the peer."""

    def scan(
        u: Tensor,
        delta: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        d: Tensor,
        z: Tensor,
        bias: Tensor,
    ) -> Tensor:
        dt = F.softplus(delta + bias)
        h = pscan(torch.exp(dt[..., None] * a), (dt * u)[..., None] * b[:, :, None])
        return ((h @ c[..., None])[..., 0] + d * u) * F.silu(z)

    return scan


def inputs(length: int, device: torch.device, *, regime: str = "initial") -> dict[str, Tensor]:
    """Arguments of `selective_scan`."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).to(device).requires_grad_()

    rates = -torch.arange(1.0, STATES + 1, device=device).repeat(CHANNELS, 1)
    return {
        "u": normal(1, length, CHANNELS),
        "delta": normal(1, length, CHANNELS),
        "a": rates.requires_grad_(),
        "b": normal(1, length, STATES),
        "c": normal(1, length, STATES),
        "d": normal(CHANNELS),
        "z": normal(1, length, CHANNELS),
        "delta_bias": (normal(CHANNELS).detach() + REGIMES[regime]).requires_grad_(),
    }


def both_ways(arguments: dict[str, Tensor], kernel: str) -> list[Tensor]:
    """Output and all gradients."""
    y = selective_scan(**arguments, kernel=kernel)
    weight = torch.linspace(-1, 1, y.numel(), device=y.device, dtype=y.dtype).view_as(y)
    return [y.detach(), *torch.autograd.grad(y, list(arguments.values()), weight)]


def time_scans(kernels: list[str], device: torch.device, length: int, repeats: int) -> None:
    arguments = inputs(length, device)
    plain = {name: x.detach() for name, x in arguments.items()}
    forward = alternated(
        {k: lambda k=k: selective_scan(**plain, kernel=k) for k in kernels}, repeats, device
    )
    training = alternated(
        {k: lambda k=k: both_ways(arguments, k) for k in kernels}, repeats, device
    )
    print(f"\nL {length}, D {CHANNELS}, N {STATES}, one case\n")
    print("| kernel | forward ms | forward + backward ms | of pscan | extra memory, L D floats |")
    print("| --- | --- | --- | --- | --- |")
    for k in kernels:
        gain = np.median(training.get("pscan", training[k])) / np.median(training[k])
        extra = peak(lambda k=k: both_ways(arguments, k), device) / (4 * length * CHANNELS)
        beyond = extra - OUTPUTS
        print(
            f"| {k} | {spread(forward[k])} | {spread(training[k])} | {gain:.1f} x | {beyond:.1f} |"
        )
    exponentials(length, device, repeats)
    print("\n| largest relative error | " + " | ".join(kernels) + " |")
    print("| --- |" + " --- |" * len(kernels))
    for regime in REGIMES:
        print(f"| steps {regime} | " + " | ".join(errors(kernels, device, length, regime)) + " |")


OUTPUTS = 4 + 2 * STATES / CHANNELS
"""Output and gradients of one call, in L D floats: of y, u, delta, z, b and c."""


def exponentials(length: int, device: torch.device, repeats: int) -> None:
    """The least that 2 exponentials a state and token take, at the rate of torch's own."""
    x = -torch.rand(1, length, CHANNELS, STATES, device=device)
    y = torch.empty_like(x)
    seconds = np.median(alternated({"exp": lambda: torch.exp(x, out=y)}, repeats, device)["exp"])
    print(f"\ntorch.exp of L D N numbers: {1e3 * seconds:.2f} ms; forward + backward needs two")


def errors(kernels: list[str], device: torch.device, length: int, regime: str) -> list[str]:
    """Largest error over output and gradients, each relative to its largest value."""
    arguments = inputs(length, device, regime=regime)
    doubles = {name: x.detach().double().requires_grad_() for name, x in arguments.items()}
    exact = both_ways(doubles, "slabs")
    return [f"{relative(both_ways(arguments, k), exact):.1e}" for k in kernels]


def relative(found: list[Tensor], exact: list[Tensor]) -> float:
    """Largest difference, each relative to the largest exact value."""
    pairs = zip(found, exact, strict=True)
    return max(((x - y).abs().max() / y.abs().max()).item() for x, y in pairs)


def time_networks(
    kernels: list[str], device: torch.device, grid: tuple[int, int, int], repeats: int
) -> None:
    x = torch.randn(1, 1, *grid, device=device)
    steps = {k: step(network(k, grid, device), x) for k in kernels if k != "slabs"}
    times = alternated(steps, repeats, device)
    print(f"\nnnMamba, full size, {grid}, batch 1, forward + backward\n")
    for k, seconds in times.items():
        gain = np.median(times.get("pscan", seconds)) / np.median(seconds)
        print(f"| {k} | {spread(seconds)} ms | {gain:.1f} x |")


def network(kernel: str, grid: tuple[int, int, int], device: torch.device) -> NnMamba:
    """The encoder of full size in training mode."""
    torch.manual_seed(0)
    return NnMamba(NnMambaSize(kernel=kernel), grid).to(device)


def step(net: NnMamba, x: Tensor) -> Callable[[], None]:
    """Forward and backward of all weights."""

    def run() -> None:
        net.zero_grad()
        torch.autograd.backward(net(x).sum())

    return run


def step_of_full_size(device: torch.device) -> None:
    """A training step with AdamW at the paper's size."""
    grid = (160, 256, 256)
    net = network("auto", grid, device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    run = step(net, torch.randn(1, 1, *grid, device=device))
    for name in ("first", "second"):
        started = time.perf_counter()
        extra = peak(run, device)
        optimizer.step()
        waited(device)
        seconds = time.perf_counter() - started
        print(f"{name} training step, batch 1, {grid}: {seconds:.1f} s, {extra / 2**30:.1f} GiB")


def alternated(
    work: dict[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each candidate, called in turn after one call that does not count."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, call in work.items():
            started = time.perf_counter()
            call()
            waited(device)
            if repeat:
                times[name].append(time.perf_counter() - started)
    return times


def waited(device: torch.device) -> None:
    """Let an accelerator finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(seconds: list[float]) -> str:
    """Median and quartiles in milliseconds."""
    low, middle, high = 1e3 * np.quantile(seconds, [0.25, 0.5, 0.75])
    return f"{middle:.1f} ({low:.1f}-{high:.1f})"


def peak(call: Callable[[], object], device: torch.device) -> float:
    """Most bytes that a call held at once beyond those before it (on the CPU, Linux alone)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    call()
    return memory("VmHWM") - before


def memory(key: str) -> int:
    """Bytes of this process as Linux counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
