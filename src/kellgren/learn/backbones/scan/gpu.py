"""The selective scan on a GPU, through the Triton programs of `programs`.

Softplus, the short way d and the gate are torch's; the recurrence between them is ours.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from kellgren.learn.backbones.scan.slabs import carried, carried_back

CHUNK = 512
"""Tokens of a chunk, a multiple of a program's tile: many chunks fill the GPU."""


def why_not() -> str | None:
    """What keeps the programs from being used; None where they can."""
    try:
        from kellgren.learn.backbones.scan import programs  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def scan(
    u: Float[Tensor, "n l c"],
    delta: Float[Tensor, "n l c"],
    a: Float[Tensor, "c s"],
    b: Float[Tensor, "n l s"],
    c: Float[Tensor, "n l s"],
    d: Float[Tensor, " c"],
    z: Float[Tensor, "n l c"],
    delta_bias: Float[Tensor, " c"],
) -> Float[Tensor, "n l c"]:
    """See `selective_scan`."""
    dt = F.softplus(delta + delta_bias)
    y = TritonScan.apply(dt * u, dt, a, b, c)  # type: ignore[no-untyped-call]
    return torch.addcmul(y, u, d) * F.silu(z)


class TritonScan(torch.autograd.Function):
    """``h[t] = exp(dt[t] * a) * h[t - 1] + v[t] * b[t]``, ``y[t] = c[t] . h[t]``."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        v: Float[Tensor, "n l c"],
        dt: Float[Tensor, "n l c"],
        a: Float[Tensor, "c s"],
        b: Float[Tensor, "n l s"],
        c: Float[Tensor, "n l s"],
    ) -> Float[Tensor, "n l c"]:
        """Scan, and keep the inputs and the states before every tile."""
        call = Call(v, dt, a, b, c)
        y, kept, decay = call.outputs()
        ctx.save_for_backward(*call.arrays, kept, decay)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Float[Tensor, "n l c"]) -> tuple[Tensor, ...]:
        """Scan back, from states that are computed again a tile at a time."""
        *arrays, kept, decay = ctx.saved_tensors  # type: ignore[attr-defined]
        return Call(*arrays).gradients(grad.contiguous(), kept, decay)


class Call:
    """One call of the recurrence; arguments as of `TritonScan`."""

    def __init__(
        self,
        v: Float[Tensor, "n l c"],
        dt: Float[Tensor, "n l c"],
        a: Float[Tensor, "c s"],
        b: Float[Tensor, "n l s"],
        c: Float[Tensor, "n l s"],
    ) -> None:
        from kellgren.learn.backbones.scan import programs

        self.programs = programs
        self.arrays = tuple(x.contiguous() for x in (v, dt, a, b, c))
        (self.n, self.length, self.channels), self.states = v.shape, a.shape[1]
        self.chunks = -(-self.length // CHUNK)
        self.groups = -(-self.channels // programs.CHANNELS)
        self.grid = (self.n, self.chunks, self.groups)
        self.sizes = (self.length, CHUNK, self.channels, self.states)
        self.tile = (programs.TILE, programs.CHANNELS, 1 << (self.states - 1).bit_length())

    def outputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Output of every token, states before every tile, and what a chunk leaves of a state."""
        v, dt, a, b, c = self.arrays
        h = v.new_empty(self.n, self.chunks, self.channels, self.states)
        spans = v.new_empty(h.shape[:3])
        self.programs.ends[self.grid](v, dt, a, b, h, spans, *self.sizes, *self.tile)
        decay = torch.exp(spans[..., None] * a)
        h = by_chunk(carried(by_state(h), by_state(decay)))
        y = torch.empty_like(v)
        kept = v.new_empty(*h.shape[:2], CHUNK // self.programs.TILE, *h.shape[2:])
        self.programs.outputs[self.grid](v, dt, a, b, c, h, y, kept, *self.sizes, *self.tile)
        return y, kept, decay

    def gradients(self, grad: Tensor, kept: Tensor, decay: Tensor) -> tuple[Tensor, ...]:
        """Gradients of v, dt, a, b and c."""
        v, dt, a, b, c = self.arrays
        g = torch.empty_like(decay)
        self.programs.starts_of_adjoint[self.grid](dt, a, c, grad, g, *self.sizes, *self.tile)
        g = by_chunk(carried_back(by_state(g), by_state(decay)))
        of_v, of_dt, of_a = torch.empty_like(v), torch.empty_like(v), torch.empty_like(g)
        of_b, of_c = v.new_empty(2, self.n, self.groups, self.length, self.states)
        into = (of_v, of_dt, of_a, of_b, of_c)
        self.programs.gradients[self.grid](
            v, dt, a, b, c, grad, kept, g, *into, *self.sizes, *self.tile
        )
        return of_v, of_dt, of_a.sum((0, 1)), of_b.sum(1), of_c.sum(1)


def by_state(x: Float[Tensor, "n chunks c s"]) -> Float[Tensor, "s n chunks c"]:
    """Put the states first."""
    return x.movedim(3, 0)


def by_chunk(x: Float[Tensor, "s n chunks c"]) -> Float[Tensor, "n chunks c s"]:
    """Undo `by_state`."""
    return x.movedim(0, 3).contiguous()
