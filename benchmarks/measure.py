"""What the benchmarks of networks share: times in turn, peak memory, operations, measured rates."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

GIB = 2**30
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""Seconds that pass, or seconds of all threads together: fair also where others are at work."""


@dataclass(frozen=True)
class Times:
    """Seconds of several runs."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return float(np.median(self.seconds))

    def __str__(self) -> str:
        low, high = min(self.seconds), max(self.seconds)
        return f"{1e3 * self.median:.0f} ms ({1e3 * low:.0f} to {1e3 * high:.0f})"


def in_turn(
    runs: Mapping[str, Callable[[], object]], *, times: int, clock: str
) -> dict[str, Times]:
    """Time several things by turns, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(times + 1):
        for name, run in runs.items():
            started = CLOCKS[clock]()
            run()
            if round_:
                seconds[name].append(CLOCKS[clock]() - started)
    return {name: Times(tuple(s)) for name, s in seconds.items()}


def flops(net: nn.Module, shape: tuple[int, ...]) -> float:
    """Operations of a forward pass, two per multiply-add, counted without computing."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.to("meta").eval()(torch.empty(shape, device="meta"))
    return float(counter.get_total_flops())


PROBES = ((64, 40, 64, 64), (128, 20, 32, 32), (256, 10, 16, 16), (512, 10, 16, 16))


def convolution_rate(clock: str) -> float:
    """Operations a second of the fastest of four 3x3x3 convolutions: what this machine can do."""
    rates = []
    for channels, *grid in PROBES:
        x, weight = torch.randn(1, channels, *grid), torch.randn(channels, channels, 3, 3, 3)
        run = {"conv": partial(nn.functional.conv3d, x, weight, padding=1)}
        with torch.no_grad():
            times = in_turn(run, times=25, clock=clock)["conv"]
        rates.append(2 * 27 * channels * x.numel() / min(times.seconds))
    return max(rates)


def copy_rate(clock: str) -> float:
    """Bytes a second of a copy between two arrays that are not in a cache, read and written."""
    source, target = torch.ones(2**26), torch.ones(2**26)
    run = {"copy": lambda: target.copy_(source)}
    return 2 * source.nbytes / min(in_turn(run, times=7, clock=clock)["copy"].seconds)


def peak_memory(task: Callable[..., None], *arguments: object, clock: str) -> tuple[float, float]:
    """Seconds of a task in a process of its own, and the GiB that it adds to that process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    threads = torch.get_num_threads()
    child = context.Process(target=_in_child, args=(sender, threads, clock, task, arguments))
    child.start()
    sender.close()
    try:
        seconds, added = receiver.recv()
    except EOFError as error:
        raise SystemExit(
            f"{task.__name__}{arguments}: the process ended, out of memory?"
        ) from error
    child.join()
    return seconds, added / GIB


def _in_child(sender, threads, clock, task, arguments) -> None:  # noqa: ANN001  sent between processes
    torch.set_num_threads(threads)
    before, started = _status("VmRSS"), CLOCKS[clock]()
    task(*arguments)
    sender.send((CLOCKS[clock]() - started, _status("VmHWM") - before))


def _status(key: str) -> int:
    """A line of the process's own status, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def machine() -> str:
    """The processor, the threads and torch."""
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0]}, {torch.get_num_threads()} threads, torch {torch.__version__}"
