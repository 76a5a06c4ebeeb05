"""The short causal convolution before a scan, and its SiLU.

``y[t] = silu(bias + sum over k of weight[k] * x[t + 1 - taps + k])``, channel by channel, with
zeros before the first token (Gu and Dao, 2023). In torch, on any device, and on the CPU through a
compiled loop that reads and writes every number once.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from kellgren.learn.backbones.scan.threads import BLOCK, Share, by_group, flat, rows, run

if TYPE_CHECKING:
    from kellgren.learn.backbones.scan.loops import Stretch

TOKENS_AT_ONCE = 4096
"""Tokens of a stretch: many stretches, whatever the number of threads, and so the same bits."""


def in_torch(
    x: Float[Tensor, "n l c"], weight: Float[Tensor, "c taps"], bias: Float[Tensor, " c"]
) -> Float[Tensor, "n l c"]:
    """Convolve and apply SiLU."""
    channels, taps = weight.shape
    padded = F.pad(x.transpose(1, 2), (taps - 1, 0))
    return F.silu(F.conv1d(padded, weight[:, None], bias, groups=channels)).transpose(1, 2)


def compiled(
    x: Float[Tensor, "n l c"], weight: Float[Tensor, "c taps"], bias: Float[Tensor, " c"]
) -> Float[Tensor, "n l c"]:
    """The same on the CPU."""
    return CompiledConvolution.apply(x, weight, bias)  # type: ignore[no-untyped-call]


class CompiledConvolution(torch.autograd.Function):
    """The convolution and its gradients; keeps its arguments alone."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Float[Tensor, "n l c"],
        weight: Float[Tensor, "c taps"],
        bias: Float[Tensor, " c"],
    ) -> Float[Tensor, "n l c"]:
        """Convolve and apply SiLU."""
        from kellgren.learn.backbones.scan import taps

        ctx.save_for_backward(x, weight, bias)
        y = torch.empty(x.shape, dtype=x.dtype)
        run(taps.outputs, stretches(x), rows(x), flat(grouped(weight, bias)), rows(y))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Float[Tensor, "n l c"]) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of x, weight and bias."""
        from kellgren.learn.backbones.scan import taps

        x, weight, bias = ctx.saved_tensors  # type: ignore[attr-defined]
        share, w = stretches(x), grouped(weight, bias)
        of_x = torch.empty(x.shape, dtype=x.dtype)
        sums = w.new_zeros(len(x), w.shape[0], len(share) // (len(x) * w.shape[0]), *w.shape[1:])
        run(taps.gradients, share, rows(x), flat(w), rows(grad), rows(of_x), flat(sums))
        by_channel = sums.sum((0, 2)).transpose(0, 1).flatten(1)[:, : x.shape[2]]
        return of_x, by_channel[:-1].T, by_channel[-1]


def grouped(
    weight: Float[Tensor, "c taps"], bias: Float[Tensor, " c"]
) -> Float[Tensor, "groups rows lanes"]:
    """The weights, and the bias after them, by group of channels."""
    return by_group(torch.cat([weight.T, bias[None]]))


def stretches(x: Float[Tensor, "n l c"]) -> "list[Stretch]":
    """Stretches of the tokens."""
    blocks = TOKENS_AT_ONCE // BLOCK
    return Share(len(x), x.shape[1], x.shape[2], states=0).stretches(
        -(-x.shape[1] // TOKENS_AT_ONCE), blocks
    )
