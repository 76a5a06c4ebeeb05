"""Three-dimensional convolution that mends two weaknesses of small volumes on a CPU.

ATen sends a float32 convolution of one volume with small kernels to its im2col code where batch
times channels times the first two axes of the grid are at most 20,480, and all others to oneDNN
(`ConvParams::use_mkldnn` in PyTorch). oneDNN is two to four times as fast there, too.

In bfloat16, oneDNN as PyTorch 2.13 ships it leaves parts of the gradient of the weights unwritten
where the volume is no wider than the kernel: they hold whatever lay in memory, and some shapes end
the process. Such layers cost next to nothing, so they stay in float32.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kellgren.learn.backbones import toom_cook

SLOW_UP_TO = 20_480
SMALL_KERNEL = 3

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Layout with the channels innermost, by the axes of a tensor."""

Triple = tuple[int, int, int]


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`, through oneDNN also where ATen would not choose it, and never unsafely."""

    def _conv_forward(
        self, x: Float[Tensor, "n c d h w"], weight: Tensor, bias: Tensor | None
    ) -> Float[Tensor, "n c_out d2 h2 w2"]:
        if torch.is_autocast_enabled("cpu") and too_narrow_for_bfloat16(x, weight):
            with torch.autocast("cpu", enabled=False):
                return self._conv_forward(x.float(), weight, bias)
        if toom_cook.pays(self, x):
            return toom_cook.convolve(x, weight, bias, self.dilation)
        plain = self.groups > 1 or isinstance(self.padding, str) or self.padding_mode != "zeros"
        if plain or not takes_slow_path(x, weight):
            return super()._conv_forward(x, weight, bias)
        shape = (self.stride, self.padding, self.dilation)
        return OneDnnConvolution.apply(x, weight, bias, *shape)  # type: ignore[no-untyped-call]


class OneDnnConvolution(torch.autograd.Function):
    """Convolution and both of its gradients by oneDNN, whatever the size."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch gives it whatever is set on it
        x: Float[Tensor, "n c d h w"],
        weight: Float[Tensor, "c_out c kd kh kw"],
        bias: Float[Tensor, " c_out"] | None,
        stride: Triple,
        padding: Triple,
        dilation: Triple,
    ) -> Float[Tensor, "n c_out d2 h2 w2"]:
        """Convolve."""
        ctx.save_for_backward(x, weight)
        ctx.shape, ctx.with_bias = (stride, padding, dilation), bias is not None
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, 1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        gradient: Float[Tensor, "n c_out d2 h2 w2"],
    ) -> tuple[Any, ...]:
        """Gradients of input, weight and bias, each where it is needed.

        ATen takes oneDNN for tensors in oneDNN's own layout, whatever their size.
        """
        x, weight = ctx.saved_tensors
        needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.with_bias]
        found = torch.ops.aten.convolution_backward(
            gradient.contiguous().to_mkldnn(),
            x.contiguous().to_mkldnn(),
            weight,
            [len(weight)] if ctx.with_bias else None,
            *ctx.shape,
            False,
            [0, 0, 0],
            1,
            needed,
        )
        dense = [g.to_dense() if g is not None and g.is_mkldnn else g for g in found]
        return (*dense, None, None, None)


def takes_slow_path(
    x: Float[Tensor, "n c d h w"], weight: Float[Tensor, "c_out c kd kh kw"]
) -> bool:
    """Whether ATen would convolve without oneDNN, though oneDNN could."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and len(x) == 1
        and min(weight.shape[-2:]) <= SMALL_KERNEL
        and x.shape[1] * x.shape[2] * x.shape[3] <= SLOW_UP_TO
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )


def too_narrow_for_bfloat16(
    x: Float[Tensor, "n c d h w"], weight: Float[Tensor, "c_out c kd kh kw"]
) -> bool:
    """Whether a kernel wider than one voxel spans a whole axis of a volume on a CPU."""
    axes = zip(x.shape[2:], weight.shape[2:], strict=True)
    return x.device.type == "cpu" and any(k > 1 and n <= k for n, k in axes)
