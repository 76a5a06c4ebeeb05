"""Convolution of large volumes with fewer multiplications, for prediction on a CPU.

A plane of the output is a sum of k convolutions of planes, one for each plane of the kernel. Toom
and Cook find m planes of the output at once from m + k - 1 such convolutions instead of m k: the
planes of the input are combined, and so are those of the kernel, as polynomials are evaluated at
m + k - 1 points; the planes of the output are combinations of the products (Winograd, "Arithmetic
Complexity of Computations", 1980). Kernels 5 planes deep need 8 instead of 20 for m = 4. The sums
are others, so the last bits differ: by a few 1e-6 of the largest output, a few times as much as
those of the plain sum in float32 do from the exact one.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

POINTS = (1.0, 0.0, -1.0, 0.5, -2.0, 2.0, -0.5)
"""Where polynomials are evaluated, before infinity; small powers of two, in this order, keep errors
small. At 1, which is first, the product has weight 1 in every output: it can carry the bias."""

LEAST_CHANNELS, LEAST_PIXELS, LEAST_GAIN = 32, 1024, 1.5
"""Channels, pixels of a plane and ratio of products from which it pays."""


@dataclass(frozen=True)
class Scheme:
    """How m planes of the output come of t = m + k - 1 products.

    Attributes:
        of_input: Weights of t neighbouring planes of the input in each product.
        of_kernel: Weights of the k planes of the kernel in each product.
        of_output: Weights of the products in each of the m planes.
    """

    of_input: Float[Tensor, "t t"]
    of_kernel: Float[Tensor, "t k"]
    of_output: Float[Tensor, "m t"]


@cache
def scheme(m: int, k: int) -> Scheme:
    """The scheme of m planes and kernels k planes deep.

    >>> scheme(2, 3).of_output
    tensor([[ 1.,  1.,  1.,  0.],
            [ 1.,  0., -1.,  1.]])
    """
    t = m + k - 1
    matrices = np.linalg.inv(powers(t, t)).T, powers(t, k), powers(t, m).T
    return Scheme(*(torch.from_numpy(matrix).float() for matrix in matrices))


def powers(t: int, n: int) -> Float[np.ndarray, "t n"]:
    """Powers 0 to n - 1 of t points; at infinity, the last, only the highest counts.

    >>> powers(3, 2).tolist()
    [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    return np.vstack([np.vander(POINTS[: t - 1], n, increasing=True), np.eye(1, n, n - 1)])


def outputs_at_once(depth: int, k: int) -> int:
    """The m of fewest products, among those for which there are points."""
    return min(range(1, len(POINTS) + 3 - k), key=lambda m: products(depth, m, k))


def products(depth: int, m: int, k: int) -> int:
    """Convolutions of planes that the scheme takes.

    >>> products(9, 4, 3)
    18
    """
    return -(-depth // m) * (m + k - 1)


def plain_products(depth: int, k: int) -> int:
    """Convolutions of planes that the plain sum takes; the padding needs none.

    >>> plain_products(9, 3)
    25
    """
    return sum(min(at + k // 2, depth - 1) - max(at - k // 2, 0) + 1 for at in range(depth))


def pays(layer: nn.Conv3d, x: Float[Tensor, "n c d h w"]) -> bool:
    """Whether a layer keeps the grid and is large enough, and the pass needs no gradient."""
    k, channels = layer.kernel_size[0], min(layer.in_channels, layer.out_channels)
    if channels < LEAST_CHANNELS or x[0, 0, 0].numel() < LEAST_PIXELS or not keeps_grid(layer):
        return False
    depth = -(-x.shape[2] // layer.dilation[0])
    fewest = products(depth, outputs_at_once(depth, k), k)
    return (
        plain_products(depth, k) >= LEAST_GAIN * fewest
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )


def keeps_grid(layer: nn.Conv3d) -> bool:
    """Whether the output of a layer lies on the grid of the input, zeros around it."""
    same = tuple(d * (k // 2) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    return (
        layer.stride == (1, 1, 1)
        and all(k % 2 for k in layer.kernel_size)
        and layer.kernel_size[0] <= len(POINTS)
        and layer.padding in ("same", same)
        and layer.padding_mode == "zeros"
        and layer.groups == 1
    )


@dataclass(frozen=True)
class Kernels:
    """The combined kernels, one for each product, and the bias."""

    weights: list[Float[Tensor, "c_out c kh kw"]]
    bias: Float[Tensor, " c_out"] | None
    dilation: tuple[int, ...]

    def products(self, planes: Float[Tensor, "t c h w"]) -> Float[Tensor, "t c_out h w"]:
        """Convolve each plane with its own kernel; the first product carries the bias."""
        biases = [self.bias] + [None] * (len(planes) - 1)
        each = zip(torch.split(planes, 1), self.weights, biases, strict=True)
        return torch.cat([F.conv2d(x, w, b, 1, "same", self.dilation) for x, w, b in each])


def convolve(
    x: Float[Tensor, "n c d h w"],
    weight: Float[Tensor, "c_out c k kh kw"],
    bias: Float[Tensor, " c_out"] | None,
    dilation: tuple[int, ...],
) -> Float[Tensor, "n c_out d h w"]:
    """Convolve on the grid of the input, zeros around it; the output lies in memory as it does."""
    step, k = dilation[0], weight.shape[2]
    found = scheme(outputs_at_once(-(-x.shape[2] // step), k), k)
    combined = torch.einsum("tk,ockhw->tochw", found.of_kernel, weight)
    weights = [w.contiguous(memory_format=torch.channels_last) for w in combined]
    kernels = Kernels(weights, bias, dilation[1:])
    y = x.new_empty(len(x), *x.shape[2:], len(weight))
    for source, target in zip(x.movedim(1, -1).contiguous(), y, strict=True):
        for phase in range(step):
            fill(target[phase::step], source[phase::step], found, kernels)
    last = x.is_contiguous(memory_format=torch.channels_last_3d)
    return y.movedim(-1, 1) if last else y.movedim(-1, 1).contiguous()


def fill(
    target: Float[Tensor, "d h w c_out"],
    planes: Float[Tensor, "d h w c"],
    found: Scheme,
    kernels: Kernels,
) -> None:
    """Write the planes of the output, some at a time; zeros around the input are left out."""
    (m, t), depth = found.of_output.shape, len(planes)
    for first in range(0, depth, m):
        before = first - (t - m) // 2
        inside = slice(max(before, 0), min(before + t, depth))
        of_input = found.of_input[:, inside.start - before : inside.stop - before]
        combined = (of_input @ planes[inside].flatten(1)).view(t, *planes.shape[1:])
        product = kernels.products(combined.movedim(-1, 1)).movedim(1, -1).flatten(1)
        rows = target[first : first + m].flatten(1)
        torch.mm(found.of_output[: len(rows)], product, out=rows)
