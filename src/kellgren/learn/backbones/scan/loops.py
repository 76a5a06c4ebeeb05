"""The selective scan as compiled loops over tokens: 16 channels side by side.

Each function carries one group of channels through one stretch of tokens of one case; `compiled`
starts many of them on several threads. Arrays are flat, and a group's own numbers (rates, states,
sums) lie together, padded with zeros to whole vectors.

This module imports numba, so it is imported where a scan is first computed.
"""

from typing import NamedTuple

import numpy as np

from kellgren.learn.backbones.scan.elementary import decay_parts, sigmoid, softplus
from kellgren.learn.backbones.scan.lanes import (
    compiled,
    inlined,
    like,
    load,
    spread,
    store,
    total,
    zeros,
)
from kellgren.learn.backbones.scan.threads import BLOCK, WIDTH, Value

LN2 = float(np.log(2))


class Rows(NamedTuple):
    """A tensor ``(n, l, c)`` whose channels lie side by side.

    Attributes:
        flat: All its numbers, from the first on.
        case: Distance between two cases.
        row: Distance between two tokens.
    """

    flat: np.ndarray
    case: int
    row: int


class Tokens(NamedTuple):
    """What comes with each token; see `selective_scan`."""

    u: Rows
    delta: Rows
    z: Rows
    b: Rows
    c: Rows


class Weights(NamedTuple):
    """What is the same for all tokens, by group of channels.

    Attributes:
        rate: ``a`` times log2(e), (groups, s, WIDTH).
        d: (groups, WIDTH).
        bias: (groups, WIDTH).
    """

    rate: np.ndarray
    d: np.ndarray
    bias: np.ndarray


class Stretch(NamedTuple):
    """What one call computes.

    Attributes:
        case: Of the batch.
        group: Of 16 channels.
        channels: How many of them exist.
        chunk: Index among all stretches, to find its states.
        start: First token.
        stop: After the last token.
        kept: Index among all blocks of the first block.
        states: States a channel.
        length: Tokens of the case.
    """

    case: int
    group: int
    channels: int
    chunk: int
    start: int
    stop: int
    kept: int
    states: int
    length: int


class Gradients(NamedTuple):
    """Where gradients are written.

    Attributes:
        u: Like `Tokens.u`.
        delta: Like `Tokens.delta`.
        z: Like `Tokens.z`.
        b: (n, groups, l, s), to be summed over the groups.
        c: (n, groups, l, s), to be summed over the groups.
        weights: Of rate (per unit of ``a``), d and bias, (chunks, s + 2, WIDTH).
    """

    u: Rows
    delta: Rows
    z: Rows
    b: Rows
    c: Rows
    weights: np.ndarray


@inlined
def channels_of(x: Value, at: Value, t: Value) -> Value:
    """The channels of a group at a token."""
    return load(x.flat, at.case * x.case + t * x.row + at.group * WIDTH, at.channels)


@inlined
def write(x: Value, at: Value, t: Value, value: Value) -> None:
    """Set the channels of a group at a token."""
    store(x.flat, at.case * x.case + t * x.row + at.group * WIDTH, at.channels, value)


@inlined
def step_size(x: Value, w: Value, at: Value, t: Value) -> Value:
    """Step before softplus."""
    return channels_of(x.delta, at, t) + load(w.bias, at.group * WIDTH, WIDTH)


@inlined
def faded(dt: Value, w: Value, rate: Value, h: Value) -> Value:
    """What a step leaves of a state; ``rate`` is an index."""
    e, power = decay_parts(dt * load(w.rate, rate, WIDTH))
    return (h + h * e) * power


@inlined
def copy(source: Value, i: Value, target: Value, k: Value, states: Value) -> None:
    """Copy the states of a group, from and to an index."""
    for s in range(states):
        store(target, k + s * WIDTH, WIDTH, load(source, i + s * WIDTH, WIDTH))


@compiled
def ends(x: Tokens, w: Weights, at: Stretch, h: np.ndarray, spans: np.ndarray) -> None:
    """States after a stretch that starts from zero, and the sum of its steps."""
    rates, mine = at.group * at.states * WIDTH, at.chunk * at.states * WIDTH
    span = zeros(h)
    for t in range(at.start, at.stop):
        dt = softplus(step_size(x, w, at, t))
        v = dt * channels_of(x.u, at, t)
        span = span + dt
        b = at.case * x.b.case + t * x.b.row
        for s in range(at.states):
            i = s * WIDTH
            state = faded(dt, w, rates + i, load(h, mine + i, WIDTH)) + v * spread(x.b.flat, b + s)
            store(h, mine + i, WIDTH, state)
    store(spans, at.chunk * WIDTH, WIDTH, span)


@compiled
def outputs(x: Tokens, w: Weights, at: Stretch, h: np.ndarray, kept: np.ndarray, y: Rows) -> None:
    """Outputs of a stretch from the states before it, which become those after it.

    The states before every block are kept.
    """
    rates, mine = at.group * at.states * WIDTH, at.chunk * at.states * WIDTH
    d = load(w.d, at.group * WIDTH, WIDTH)
    for t in range(at.start, at.stop):
        if (t - at.start) % BLOCK == 0:
            block = at.kept + (t - at.start) // BLOCK
            copy(h, mine, kept, block * at.states * WIDTH, at.states)
        u, dt = channels_of(x.u, at, t), softplus(step_size(x, w, at, t))
        v, out = dt * u, d * u
        b, c = at.case * x.b.case + t * x.b.row, at.case * x.c.case + t * x.c.row
        for s in range(at.states):
            i = s * WIDTH
            state = faded(dt, w, rates + i, load(h, mine + i, WIDTH)) + v * spread(x.b.flat, b + s)
            store(h, mine + i, WIDTH, state)
            out = out + state * spread(x.c.flat, c + s)
        z = channels_of(x.z, at, t)
        write(y, at, t, out * z * sigmoid(z))


@compiled
def starts_of_adjoint(x: Tokens, w: Weights, at: Stretch, grad_y: Rows, g: np.ndarray) -> None:
    """Gradient of the states before a stretch, as if nothing came after it."""
    rates, mine = at.group * at.states * WIDTH, at.chunk * at.states * WIDTH
    for back in range(at.stop - at.start):
        t = at.stop - 1 - back
        dt, z = softplus(step_size(x, w, at, t)), channels_of(x.z, at, t)
        grad = channels_of(grad_y, at, t) * z * sigmoid(z)
        c = at.case * x.c.case + t * x.c.row
        for s in range(at.states):
            i = s * WIDTH
            after = load(g, mine + i, WIDTH) + grad * spread(x.c.flat, c + s)
            store(g, mine + i, WIDTH, faded(dt, w, rates + i, after))


class Memory(NamedTuple):
    """What is remembered of one block, step by step.

    Attributes:
        states: Before each step and after the last, (BLOCK + 1, s, WIDTH).
        excess: e of each step's decay ``(1 + e) * p``, (BLOCK, s, WIDTH).
        powers: p of each step's decay, (BLOCK, s, WIDTH).
        dt: Step sizes, (BLOCK, WIDTH).
        slopes: Derivatives of the step sizes, (BLOCK, WIDTH).
        grads: Gradients of the output before the gate, (BLOCK, WIDTH).
        sums: Gradients of rate, d and bias, summed over the block, (s + 2, WIDTH).
    """

    states: np.ndarray
    excess: np.ndarray
    powers: np.ndarray
    dt: np.ndarray
    slopes: np.ndarray
    grads: np.ndarray
    sums: np.ndarray


@inlined
def aligned(size: Value, dtype: Value) -> Value:
    """A flat array of zeros that starts with a cache line: vectors across two lines are slow."""
    longer = np.zeros(size + 64, dtype)
    first = (-longer.ctypes.data % 64) // longer.itemsize
    return longer[first : first + size]


@inlined
def walk(
    x: Value, w: Value, at: Value, grad_y: Value, first: Value, steps: Value, m: Value, out: Value
) -> None:
    """Compute a block again; the gradient of the gate needs its output."""
    rates, cells = at.group * at.states * WIDTH, at.states * WIDTH
    for step in range(steps):
        t = first + step
        raw = step_size(x, w, at, t)
        u, dt = channels_of(x.u, at, t), softplus(raw)
        v, y = dt * u, load(w.d, at.group * WIDTH, WIDTH) * u
        b, c = at.case * x.b.case + t * x.b.row, at.case * x.c.case + t * x.c.row
        for s in range(at.states):
            i = step * cells + s * WIDTH
            e, power = decay_parts(dt * load(w.rate, rates + s * WIDTH, WIDTH))
            before = load(m.states, i, WIDTH)
            state = (before + before * e) * power + v * spread(x.b.flat, b + s)
            store(m.excess, i, WIDTH, e)
            store(m.powers, i, WIDTH, power)
            store(m.states, i + cells, WIDTH, state)
            y = y + state * spread(x.c.flat, c + s)
        z, grad = channels_of(x.z, at, t), channels_of(grad_y, at, t)
        gate, one = sigmoid(z), like(z, 1.0)
        write(out.z, at, t, grad * y * gate * (one + z * (one - gate)))
        store(m.dt, step * WIDTH, WIDTH, dt)
        store(m.slopes, step * WIDTH, WIDTH, sigmoid(raw))
        store(m.grads, step * WIDTH, WIDTH, grad * z * gate)


@inlined
def walk_back(
    x: Value, w: Value, at: Value, first: Value, steps: Value, m: Value, g: Value, out: Value
) -> None:
    """Carry the gradient of the states from the end of a block to its start."""
    cells = at.states * WIDTH
    rates, mine = at.group * cells, at.chunk * cells
    d = load(w.d, at.group * WIDTH, WIDTH)
    for back in range(steps):
        step = steps - 1 - back
        t = first + step
        u, dt = channels_of(x.u, at, t), load(m.dt, step * WIDTH, WIDTH)
        v, grad = dt * u, load(m.grads, step * WIDTH, WIDTH)
        grad_v, grad_dt = zeros(g), zeros(g)
        b, c = at.case * x.b.case + t * x.b.row, at.case * x.c.case + t * x.c.row
        mine_b = at.case * out.b.case + at.group * out.b.row + t * at.states
        for s in range(at.states):
            k, i = s * WIDTH, step * cells + s * WIDTH
            after = load(g, mine + k, WIDTH) + grad * spread(x.c.flat, c + s)
            out.c.flat[mine_b + s] = total(grad * load(m.states, i + cells, WIDTH))
            out.b.flat[mine_b + s] = total(after * v)
            grad_v = grad_v + after * spread(x.b.flat, b + s)
            before = (after + after * load(m.excess, i, WIDTH)) * load(m.powers, i, WIDTH)
            store(g, mine + k, WIDTH, before)
            of_decay = before * load(m.states, i, WIDTH)
            store(m.sums, k, WIDTH, load(m.sums, k, WIDTH) + of_decay * dt)
            grad_dt = grad_dt + of_decay * load(w.rate, rates + k, WIDTH)
        slope = load(m.slopes, step * WIDTH, WIDTH)
        grad_delta = (grad_v * u + grad_dt * like(u, LN2)) * slope
        write(out.u, at, t, grad_v * dt + grad * d)
        write(out.delta, at, t, grad_delta)
        store(m.sums, cells, WIDTH, load(m.sums, cells, WIDTH) + grad * u)
        last = cells + WIDTH
        store(m.sums, last, WIDTH, load(m.sums, last, WIDTH) + grad_delta)


@inlined
def fold(sums: Value, lost: Value, totals: Value, at: Value) -> None:
    """Add the sums of a block to the totals, and what was lost by it to the next block's."""
    for i in range(0, len(sums), WIDTH):
        before = load(totals, at + i, WIDTH)
        more = load(sums, i, WIDTH) - load(lost, i, WIDTH)
        after = before + more
        store(totals, at + i, WIDTH, after)
        store(lost, i, WIDTH, (after - before) - more)
        store(sums, i, WIDTH, zeros(sums))


@compiled
def gradients(
    x: Tokens,
    w: Weights,
    at: Stretch,
    grad_y: Rows,
    kept: np.ndarray,
    g: np.ndarray,
    out: Gradients,
) -> None:
    """Gradients of a stretch, from that of the states after it, which is used up.

    The last block comes first. Its states are computed again from those kept before it, and then
    its steps are walked back.
    """
    cells = at.states * WIDTH
    memory = Memory(
        aligned((BLOCK + 1) * cells, g.dtype),
        aligned(BLOCK * cells, g.dtype),
        aligned(BLOCK * cells, g.dtype),
        aligned(BLOCK * WIDTH, g.dtype),
        aligned(BLOCK * WIDTH, g.dtype),
        aligned(BLOCK * WIDTH, g.dtype),
        aligned(cells + 2 * WIDTH, g.dtype),
    )
    lost = aligned(cells + 2 * WIDTH, g.dtype)
    blocks = (at.stop - at.start + BLOCK - 1) // BLOCK
    for back in range(blocks):
        block = blocks - 1 - back
        first = at.start + block * BLOCK
        steps = min(BLOCK, at.stop - first)
        copy(kept, (at.kept + block) * cells, memory.states, 0, at.states)
        walk(x, w, at, grad_y, first, steps, memory, out)
        walk_back(x, w, at, first, steps, memory, g, out)
        fold(memory.sums, lost, out.weights, at.chunk * (cells + 2 * WIDTH))
