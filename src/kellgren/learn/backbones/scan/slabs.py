"""The selective scan in plain torch, on any device: the reference of the other kernels.

Time is cut into chunks that advance side by side, a step at a time, so that the states of one
step fit into the cache. A first pass takes every chunk from zero to its end, the ends are
carried over, and a second pass starts each chunk right. Nothing of size tokens x channels x
states is ever held: the backward pass starts from states kept every `BLOCK` steps and computes
the others again. Only numbers that are not positive are exponentiated, so no step is too large.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

BLOCK = 16
"""Steps between two kept states."""

CELLS_AT_ONCE = {"cpu": 2**16, "cuda": 2**22}
"""States that advance side by side: as many as stay in the cache, or fill an accelerator."""


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
    y = LinearScan.apply(u, F.softplus(delta + delta_bias), a, b, c)  # type: ignore[no-untyped-call]
    return torch.addcmul(y, u, d) * F.silu(z)


@dataclass(frozen=True)
class Chunks:
    """How a sequence of `length` tokens is cut: `count` chunks of `steps` tokens each."""

    length: int
    count: int
    steps: int

    @classmethod
    def of(cls, u: Float[Tensor, "n l c"], states: int) -> "Chunks":
        """As many chunks as may advance side by side, none shorter than a block."""
        n, length, channels = u.shape
        at_once = CELLS_AT_ONCE.get(u.device.type, 2**16) // (n * channels * states)
        count = max(1, min(at_once, -(-length // BLOCK)))
        steps = BLOCK * -(-length // (count * BLOCK))
        return cls(length, -(-length // steps), steps)

    def by_step(self, x: Float[Tensor, "n l c"]) -> Float[Tensor, "steps n chunks c"]:
        """Cut the tokens and put the steps first; steps after the end are zero.

        A step of size zero leaves the states alone, so the padding changes nothing.
        """
        x = F.pad(x, (0, 0, 0, self.count * self.steps - self.length))
        return x.view(len(x), self.count, self.steps, -1).permute(2, 0, 1, 3).contiguous()

    def by_token(self, x: Float[Tensor, "steps n chunks c"]) -> Float[Tensor, "n l c"]:
        """Undo `by_step`."""
        return x.permute(1, 2, 0, 3).flatten(1, 2)[:, : self.length].contiguous()


def carried(
    ends: Float[Tensor, "s n chunks c"], decay: Float[Tensor, "s n chunks c"]
) -> Float[Tensor, "s n chunks c"]:
    """State at the start of each chunk, given its end from a zero start, and its decay.

    By doubling: after round i an end contains the 2**i chunks before it.
    """
    shift = 1
    while shift < ends.shape[2]:
        later = torch.addcmul(ends[:, :, shift:], decay[:, :, shift:], ends[:, :, :-shift])
        ends = torch.cat([ends[:, :, :shift], later], dim=2)
        longer = decay[:, :, shift:] * decay[:, :, :-shift]
        decay = torch.cat([decay[:, :, :shift], longer], dim=2)
        shift *= 2
    return F.pad(ends[:, :, :-1], (0, 0, 1, 0))


def carried_back(
    starts: Float[Tensor, "s n chunks c"], decay: Float[Tensor, "s n chunks c"]
) -> Float[Tensor, "s n chunks c"]:
    """The same from the last chunk to the first."""
    return carried(starts.flip(2), decay.flip(2)).flip(2)


class Steps:
    """The recurrence of one call, cut into steps: ``h = decay(t) * h + b[t] * v[t]``, v = dt * u.

    Args:
        chunks: How the tokens are cut.
        u: Input.
        dt: Step sizes, not negative.
        a: Rate of each state, negative.
        b: How the input enters the states.
        c: How the states make the output.
    """

    def __init__(
        self,
        chunks: Chunks,
        u: Float[Tensor, "n l c"],
        dt: Float[Tensor, "n l c"],
        a: Float[Tensor, "c s"],
        b: Float[Tensor, "n l s"],
        c: Float[Tensor, "n l s"],
    ) -> None:
        self.rate = a.T[:, None, None].expand(-1, len(u), chunks.count, -1).contiguous()
        steps = chunks.by_step(dt)
        self.whole_decay = torch.exp(self.rate * steps.sum(0))
        self.dt = steps.unbind()
        self.v = chunks.by_step(dt * u).unbind()
        self.b = chunks.by_step(b).movedim(3, 1).unsqueeze(4).unbind()
        self.c = chunks.by_step(c).movedim(3, 1).unsqueeze(4).unbind()

    def __len__(self) -> int:
        return len(self.dt)

    def decay(self, t: int, *, out: Float[Tensor, "s n chunks c"]) -> Float[Tensor, "s n chunks c"]:
        """What is left of the states after step `t`, between 0 and 1."""
        return torch.mul(self.rate, self.dt[t], out=out).exp_()

    def new_states(self) -> Float[Tensor, "s n chunks c"]:
        """States of zero."""
        return torch.zeros_like(self.rate)


class LinearScan(torch.autograd.Function):
    """``h[t] = exp(dt[t] * a) * h[t - 1] + dt[t] * u[t] * b[t]``, ``y[t] = c[t] . h[t]``."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        u: Float[Tensor, "n l c"],
        dt: Float[Tensor, "n l c"],
        a: Float[Tensor, "c s"],
        b: Float[Tensor, "n l s"],
        c: Float[Tensor, "n l s"],
    ) -> Float[Tensor, "n l c"]:
        """Scan, and keep the inputs and the states at the start of each block."""
        chunks = Chunks.of(u, a.shape[1])
        steps = Steps(chunks, u, dt, a, b, c)
        h = carried(ends(steps), steps.whole_decay)
        y, kept = outputs(steps, h)
        ctx.save_for_backward(u, dt, a, b, c, kept)
        return chunks.by_token(y)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, grad: Float[Tensor, "n l c"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Scan back, from states that are computed again a block at a time."""
        u, dt, a, b, c, kept = ctx.saved_tensors  # type: ignore[attr-defined]
        chunks = Chunks.of(u, a.shape[1])
        steps = Steps(chunks, u, dt, a, b, c)
        grad_y = chunks.by_step(grad)
        g = carried_back(starts_of_adjoint(steps, grad_y), steps.whole_decay)
        grad_v, grad_decay, grad_a, grad_b, grad_c = gradients(steps, kept, grad_y, g)
        grad_v = chunks.by_token(grad_v)
        grad_dt = torch.addcmul(chunks.by_token(grad_decay), grad_v, u)
        return grad_v * dt, grad_dt, grad_a, chunks.by_token(grad_b), chunks.by_token(grad_c)


def ends(steps: Steps) -> Float[Tensor, "s n chunks c"]:
    """States at the end of each chunk that starts from zero."""
    h, decay = steps.new_states(), steps.new_states()
    for t in range(len(steps)):
        h.mul_(steps.decay(t, out=decay)).addcmul_(steps.b[t], steps.v[t])
    return h


def outputs(
    steps: Steps, h: Float[Tensor, "s n chunks c"]
) -> tuple[Float[Tensor, "steps n chunks c"], Float[Tensor, "blocks s n chunks c"]]:
    """Output of every step from the right starts, and the states before every block."""
    decay = steps.new_states()
    y = h.new_empty(len(steps), *h.shape[1:])
    kept = h.new_empty(len(steps) // BLOCK, *h.shape)
    for t in range(len(steps)):
        if t % BLOCK == 0:
            kept[t // BLOCK] = h
        h.mul_(steps.decay(t, out=decay)).addcmul_(steps.b[t], steps.v[t])
        torch.sum(torch.mul(h, steps.c[t], out=decay), 0, out=y[t])
    return y, kept


def starts_of_adjoint(
    steps: Steps, grad_y: Float[Tensor, "steps n chunks c"]
) -> Float[Tensor, "s n chunks c"]:
    """Gradient of the state before each chunk, as if nothing came after the chunk."""
    g, decay = steps.new_states(), steps.new_states()
    for t in reversed(range(len(steps))):
        g.addcmul_(steps.c[t], grad_y[t]).mul_(steps.decay(t, out=decay))
    return g


def gradients(
    steps: Steps,
    kept: Float[Tensor, "blocks s n chunks c"],
    grad_y: Float[Tensor, "steps n chunks c"],
    g: Float[Tensor, "s n chunks c"],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of v, of dt through the decay, of a, b and c.

    Args:
        steps: The recurrence.
        kept: States before every block.
        grad_y: Gradient of the outputs.
        g: Gradient of the state after each chunk; used up.
    """
    grad_v, grad_dt = torch.empty_like(grad_y), torch.empty_like(grad_y)
    n_states, n, count, _ = g.shape
    grad_b, grad_c = grad_y.new_empty(2, len(steps), n_states, n, count)
    grad_rate, work = torch.zeros_like(g), torch.empty_like(g)
    h, decay = g.new_empty(BLOCK + 1, *g.shape), g.new_empty(BLOCK, *g.shape)
    for block in reversed(range(len(kept))):
        first = block * BLOCK
        h[0] = kept[block]
        for i in range(BLOCK):
            torch.mul(h[i], steps.decay(first + i, out=decay[i]), out=h[i + 1])
            h[i + 1].addcmul_(steps.b[first + i], steps.v[first + i])
        for i in reversed(range(BLOCK)):
            t = first + i
            g.addcmul_(steps.c[t], grad_y[t])
            torch.sum(torch.mul(h[i + 1], grad_y[t], out=work), 3, out=grad_c[t])
            torch.sum(torch.mul(g, steps.v[t], out=work), 3, out=grad_b[t])
            torch.sum(torch.mul(g, steps.b[t], out=work), 0, out=grad_v[t])
            g.mul_(decay[i])
            torch.mul(g, h[i], out=work)
            grad_rate.addcmul_(work, steps.dt[t])
            torch.sum(work.mul_(steps.rate), 0, out=grad_dt[t])
    grad_a = grad_rate.sum((1, 2)).T
    return grad_v, grad_dt, grad_a, grad_b.movedim(1, 3), grad_c.movedim(1, 3)
