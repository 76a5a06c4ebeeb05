"""The selective scan on the CPU, through the compiled loops of `loops`.

Groups of 16 channels of each case are carried from the first token to the last on as many threads
as torch uses. Where there are fewer groups than threads, tokens are cut into chunks: a first pass
takes every chunk from zero to its end, the ends are carried over, and each chunk starts right.
"""

import logging
import time

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from kellgren.learn.backbones.scan.convolution import compiled as convolve
from kellgren.learn.backbones.scan.threads import (
    BLOCK,
    WIDTH,
    Share,
    by_group,
    flat,
    groups,
    rows,
    run,
)

LOG2E = 1.4426950408889634

log = logging.getLogger(__name__)


def why_not() -> str | None:
    """What keeps the loops from being used; None where they can. Compiles them where need be."""
    try:
        compile_loops()
    except Exception as error:  # numba raises many kinds: not installed, no compiler, no cache
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def compile_loops() -> None:
    """Call each loop once, in single precision; from then on they lie on disk."""
    started = time.perf_counter()
    zero = torch.zeros(1, 2 * BLOCK, 1)
    call = Call(zero, zero, zero[0, :1], zero, zero, zero[0, 0], zero, zero[0, 0])
    y, kept, decays = call.outputs(2, 1)
    call.gradients(y, kept, decays)
    with torch.enable_grad():  # the first call may come from a prediction, which asks for none
        x = zero.requires_grad_()
        torch.autograd.grad(convolve(x, zero[0, :4].T, zero[0, 0]).sum(), x)
    if was_compiled():
        seconds = time.perf_counter() - started
        log.info("compiled the selective scan in %.0f s; later runs find it on disk", seconds)


def was_compiled() -> bool:
    """Whether this process compiled the loops, rather than found them on disk."""
    from kellgren.learn.backbones.scan import loops

    return bool(loops.gradients.stats.cache_misses)  # type: ignore[attr-defined]


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
    return CompiledScan.apply(u, delta, a, b, c, d, z, delta_bias)  # type: ignore[no-untyped-call]


class CompiledScan(torch.autograd.Function):
    """The scan and its gradients; keeps its arguments and the states before every block."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        u: Float[Tensor, "n l c"],
        delta: Float[Tensor, "n l c"],
        a: Float[Tensor, "c s"],
        b: Float[Tensor, "n l s"],
        c: Float[Tensor, "n l s"],
        d: Float[Tensor, " c"],
        z: Float[Tensor, "n l c"],
        delta_bias: Float[Tensor, " c"],
    ) -> Float[Tensor, "n l c"]:
        """Scan the tokens."""
        call = Call(u, delta, a, b, c, d, z, delta_bias)
        y, kept, decays = call.outputs(*call.share.cut(torch.get_num_threads()))
        ctx.save_for_backward(u, delta, a, b, c, d, z, delta_bias, kept, decays)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Float[Tensor, "n l c"]) -> tuple[Tensor, ...]:
        """Scan back, from states that are computed again a block at a time."""
        *arguments, kept, decays = ctx.saved_tensors  # type: ignore[attr-defined]
        return Call(*arguments).gradients(grad, kept, decays)


class Call:
    """One call of the scan, cut into stretches; arguments as of `selective_scan`."""

    def __init__(
        self,
        u: Float[Tensor, "n l c"],
        delta: Float[Tensor, "n l c"],
        a: Float[Tensor, "c s"],
        b: Float[Tensor, "n l s"],
        c: Float[Tensor, "n l s"],
        d: Float[Tensor, " c"],
        z: Float[Tensor, "n l c"],
        delta_bias: Float[Tensor, " c"],
    ) -> None:
        from kellgren.learn.backbones.scan import loops

        self.loops, self.like = loops, u
        self.share = Share(len(u), u.shape[1], u.shape[2], a.shape[1])
        self.tokens = loops.Tokens(*(rows(x) for x in (u, delta, z, b, c)))
        self.rate = by_group(a.mul(LOG2E).T)
        self.weights = loops.Weights(
            flat(self.rate), flat(by_group(d[None])), flat(by_group(delta_bias[None]))
        )

    def zeros(self, *shape: int) -> Float[Tensor, "n groups *shape lanes"]:
        """Zeros for every group of every case."""
        return self.like.new_zeros(self.share.n, self.share.groups, *shape, WIDTH)

    def outputs(self, chunks: int, blocks: int) -> tuple[Tensor, Tensor, Tensor]:
        """Output of every token, states before every block, and what a chunk leaves of a state."""
        stretches, states = self.share.stretches(chunks, blocks), self.share.states
        both = self.tokens, self.weights
        h, spans = self.zeros(chunks, states), self.zeros(chunks, 1)
        if chunks > 1:
            run(self.loops.ends, stretches, *both, flat(h), flat(spans))
        decays = torch.exp2(spans * self.rate[:, None])
        h = carried(h, decays)
        y = torch.empty(self.like.shape, dtype=h.dtype)
        kept = h.new_empty(*h.shape[:3], blocks, *h.shape[3:])
        run(self.loops.outputs, stretches, *both, flat(h), flat(kept), rows(y))
        return y, kept, decays

    def gradients(
        self,
        grad: Float[Tensor, "n l c"],
        kept: Float[Tensor, "n groups chunks blocks s lanes"],
        decays: Float[Tensor, "n groups chunks s lanes"],
    ) -> tuple[Tensor, ...]:
        """Gradients of u, delta, a, b, c, d, z and delta_bias."""
        chunks, blocks = kept.shape[2:4]
        stretches, states = self.share.stretches(chunks, blocks), self.share.states
        both = self.tokens, self.weights
        grad_y, g = rows(grad), self.zeros(chunks, states)
        if chunks > 1:
            run(self.loops.starts_of_adjoint, stretches, *both, grad_y, flat(g))
        g = carried(g.flip(2), decays.flip(2)).flip(2)
        of_u, of_delta, of_z = (torch.empty(self.like.shape, dtype=g.dtype) for _ in range(3))
        of_b, of_c = g.new_empty(2, *g.shape[:2], self.share.length, states)
        sums = self.zeros(chunks, states + 2)
        into = self.loops.Gradients(
            rows(of_u), rows(of_delta), rows(of_z), groups(of_b), groups(of_c), flat(sums)
        )
        run(self.loops.gradients, stretches, *both, grad_y, flat(kept), flat(g), into)
        by_channel = sums.sum((0, 2)).transpose(0, 1).flatten(1)[:, : self.share.channels]
        of_a, (of_d, of_bias) = by_channel[:states].T, by_channel[states:]
        return of_u, of_delta, of_a, of_b.sum(1), of_c.sum(1), of_d, of_z, of_bias


def carried(
    ends: Float[Tensor, "n groups chunks s lanes"], decay: Float[Tensor, "n groups chunks s lanes"]
) -> Float[Tensor, "n groups chunks s lanes"]:
    """States before each chunk, given its end from a zero start, and its decay."""
    starts = torch.zeros_like(ends)
    for k in range(1, ends.shape[2]):
        starts[:, :, k] = decay[:, :, k - 1] * starts[:, :, k - 1] + ends[:, :, k - 1]
    return starts
