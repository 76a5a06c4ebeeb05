"""The selective scan of Mamba (Gu and Dao, 2023): one contract, four kernels.

For each case, channel and state, with ``dt = softplus(delta + delta_bias)``::

    h[t] = exp(dt[t] * a) * h[t - 1] + dt[t] * u[t] * b[t]         h[-1] = 0
    y[t] = (sum over states of c[t] * h[t] + d * u[t]) * silu(z[t])

All kernels compute this recurrence as it stands, and none keeps anything of size tokens x channels
x states. Ours give the same bits when called again with the same number of threads.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from kellgren.faults import InputError
from kellgren.learn.backbones.scan import convolution, cpu, gpu, published, slabs

Convolve = Callable[[Tensor, Tensor, Tensor], Tensor]
Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Kernel:
    """One way to compute the scan.

    Attributes:
        scan: Takes the arguments of `selective_scan` in their order.
        devices: Types of device it runs on; empty for all.
        why_not: What keeps it from running on this machine; None where nothing does.
        convolve: The short convolution before the scan.
    """

    scan: Scan
    devices: tuple[str, ...] = ()
    why_not: Callable[[], str | None] = lambda: None
    convolve: Convolve = convolution.in_torch


KERNELS: dict[str, Kernel] = {
    "slabs": Kernel(slabs.scan),
    "numba": Kernel(cpu.scan, ("cpu",), cpu.why_not, convolution.compiled),
    "triton": Kernel(gpu.scan, ("cuda",), gpu.why_not),
    "mamba_ssm": Kernel(published.scan, ("cuda",), published.why_not),
}
"""Kernels by name: plain torch, compiled loops, a GPU program, and that of Mamba's authors."""

BEST = {"cpu": "numba", "cuda": "triton"}
"""The kernel that "auto" means, by type of device; "slabs" on any other."""


def selective_scan(
    u: Float[Tensor, "n l c"],
    delta: Float[Tensor, "n l c"],
    a: Float[Tensor, "c s"],
    b: Float[Tensor, "n l s"],
    c: Float[Tensor, "n l s"],
    *,
    d: Float[Tensor, " c"],
    z: Float[Tensor, "n l c"],
    delta_bias: Float[Tensor, " c"],
    kernel: str = "auto",
) -> Float[Tensor, "n l c"]:
    """Scan the tokens of each case; all arguments are float32 or all float64.

    Args:
        u: Input; at least one token.
        delta: Step sizes before bias and softplus.
        a: Rate of each state, negative.
        b: How the input enters the states.
        c: How the states make the output.
        d: Weight of the input in the output.
        z: Gate, before SiLU.
        delta_bias: Added to `delta`.
        kernel: A key of `KERNELS`, or "auto".

    Raises:
        InputError: If the kernel is unknown or cannot run here.
    """
    chosen = KERNELS[kernel_for(u.device, kernel)]
    return chosen.scan(u, delta, a, b, c, d, z, delta_bias)


def kernel_for(device: torch.device, asked: str = "auto") -> str:
    """Name of the kernel that computes the scan on a device; what a record should say.

    "auto" is the best one for the device. Where that cannot run on this machine, it is "slabs",
    and one warning says why.

    Raises:
        InputError: If a kernel is asked for that is unknown or cannot run on the device.
    """
    return automatic(device.type) if asked == "auto" else checked(asked, device.type)


@cache
def automatic(device: str) -> str:
    """The kernel that "auto" means on a type of device."""
    best = BEST.get(device, "slabs")
    reason = KERNELS[best].why_not()
    if reason is None:
        return best
    message = f"the selective scan runs in plain torch, which is slower, for want of {best}"
    warnings.warn(f"{message}: {reason}", RuntimeWarning, stacklevel=2)
    return "slabs"


@cache
def checked(name: str, device: str) -> str:
    """The name of a kernel that exists and runs on a type of device."""
    if name not in KERNELS:
        raise InputError("scan kernel", f"'{name}'", f"auto or one of {[*KERNELS]}", "correct it")
    kernel = KERNELS[name]
    runs = not kernel.devices or device in kernel.devices
    reason = kernel.why_not() if runs else f"it does not run on {device}"
    if reason is not None:
        raise InputError(f"scan kernel {name}", reason, "a kernel that runs here", "use auto")
    return name
