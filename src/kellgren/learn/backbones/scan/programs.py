"""The recurrence of the selective scan as GPU programs in Triton.

A program carries `CHANNELS` channels of a case through one chunk of tokens, `TILE` tokens at a
time; inside a tile the recurrence is an associative scan over pairs (decay, input). The programs
follow the compiled loops of the CPU: ends from zero, outputs from right starts, and the same
backwards. Nothing is added atomically, so the bits are the same on every call.

Arrays are contiguous: v, dt and their kind (n, l, c), b and c (n, l, s), rates (c, s), states
(n, chunks, c, s). This module imports triton, so it is imported where a scan first runs on a GPU.
"""

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

CHANNELS = 16
"""Channels of a program."""

TILE = 16
"""Tokens that are scanned at once."""

Value = Any
"""A value inside a program: triton, not mypy, knows what it is."""


def program(function: Callable[..., Value]) -> Value:
    """Compile for a GPU on first call."""
    return triton.jit(inspect.unwrap(function))


@program
def after_both(decay1: "Value", x1: "Value", decay2: "Value", x2: "Value") -> "Value":
    """Two steps h -> decay * h + x as one."""
    return decay1 * decay2, decay2 * x1 + x2


@program
def tokens(
    x: "Value", t: "Value", column: "Value", start: "Value", stop: "Value", width: "Value"
) -> "Value":
    """Rows t of an array of one case, (tokens, width); zero outside."""
    inside = ((t >= start) & (t < stop))[:, None] & (column < width)[None, :]
    return tl.load(x + t[:, None] * width + column[None, :], mask=inside, other=0.0)


@program
def decays(dt: "Value", rate: "Value") -> "Value":
    """What each step leaves of each state, (tokens, channels, states)."""
    return tl.exp(dt[:, :, None] * rate[None, :, :])


@program
def ends(
    v: "Value",
    dt: "Value",
    a: "Value",
    b: "Value",
    h: "Value",
    spans: "Value",
    length: "Value",
    chunk: "Value",
    channels: "Value",
    states: "Value",
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
) -> None:
    """States after each chunk that starts from zero, and the sum of its steps."""
    case, k = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel, state = tl.program_id(2) * columns + tl.arange(0, columns), tl.arange(0, depth)
    cell = (channel < channels)[:, None] & (state < states)[None, :]
    rate = tl.load(a + channel[:, None] * states + state[None, :], mask=cell, other=0.0)
    wide, narrow = case * length * channels, case * length * states
    now, span = tl.zeros_like(rate), tl.sum(tl.zeros_like(rate), 1)
    start, stop = k * chunk, tl.minimum((k + 1) * chunk, length)
    row = tl.arange(0, rows)
    for first in range(start, stop, rows):
        t = first + row
        step = tokens(dt + wide, t, channel, start, stop, channels)
        value = tokens(v + wide, t, channel, start, stop, channels)
        enters = tokens(b + narrow, t, state, start, stop, states)
        x = value[:, :, None] * enters[:, None, :]
        whole, tile = tl.associative_scan((decays(step, rate), x), 0, after_both)
        last = (row == rows - 1)[:, None, None]
        now = tl.sum(tl.where(last, tile + whole * now[None], 0.0), 0)
        span += tl.sum(step, 0)
    place = (case * tl.num_programs(1) + k) * channels + channel
    tl.store(h + place[:, None] * states + state[None, :], now, mask=cell)
    tl.store(spans + place, span, mask=channel < channels)


@program
def outputs(
    v: "Value",
    dt: "Value",
    a: "Value",
    b: "Value",
    c: "Value",
    h: "Value",
    y: "Value",
    kept: "Value",
    length: "Value",
    chunk: "Value",
    channels: "Value",
    states: "Value",
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
) -> None:
    """Outputs of each chunk from the states before it; keeps the states before every tile."""
    case, k = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel, state = tl.program_id(2) * columns + tl.arange(0, columns), tl.arange(0, depth)
    cell = (channel < channels)[:, None] & (state < states)[None, :]
    corner = channel[:, None] * states + state[None, :]
    rate = tl.load(a + corner, mask=cell, other=0.0)
    wide, narrow = case * length * channels, case * length * states
    here = (case * tl.num_programs(1) + k) * channels * states
    now = tl.load(h + here + corner, mask=cell, other=0.0)
    start, stop = k * chunk, tl.minimum((k + 1) * chunk, length)
    row, tiles = tl.arange(0, rows), chunk // rows
    for first in range(start, stop, rows):
        t = first + row
        block = here * tiles + (first - start) // rows * channels * states
        tl.store(kept + block + corner, now, mask=cell)
        step = tokens(dt + wide, t, channel, start, stop, channels)
        value = tokens(v + wide, t, channel, start, stop, channels)
        enters = tokens(b + narrow, t, state, start, stop, states)
        leaves = tokens(c + narrow, t, state, start, stop, states)
        x = value[:, :, None] * enters[:, None, :]
        whole, tile = tl.associative_scan((decays(step, rate), x), 0, after_both)
        tile = tile + whole * now[None]
        out = tl.sum(tile * leaves[:, None, :], 2)
        inside = (t < stop)[:, None] & (channel < channels)[None, :]
        tl.store(y + wide + t[:, None] * channels + channel[None, :], out, mask=inside)
        now = tl.sum(tl.where((row == rows - 1)[:, None, None], tile, 0.0), 0)


@program
def starts_of_adjoint(
    dt: "Value",
    a: "Value",
    c: "Value",
    grad_y: "Value",
    g: "Value",
    length: "Value",
    chunk: "Value",
    channels: "Value",
    states: "Value",
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
) -> None:
    """Gradient of the states before each chunk, as if nothing came after it."""
    case, k = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel, state = tl.program_id(2) * columns + tl.arange(0, columns), tl.arange(0, depth)
    cell = (channel < channels)[:, None] & (state < states)[None, :]
    rate = tl.load(a + channel[:, None] * states + state[None, :], mask=cell, other=0.0)
    wide, narrow = case * length * channels, case * length * states
    after = tl.zeros_like(rate)
    start, stop = k * chunk, tl.minimum((k + 1) * chunk, length)
    row = tl.arange(0, rows)
    for back in range(0, stop - start, rows):
        t = start + (stop - start - 1 - back) // rows * rows + row
        step = tokens(dt + wide, t, channel, start, stop, channels)
        grad = tokens(grad_y + wide, t, channel, start, stop, channels)
        leaves = tokens(c + narrow, t, state, start, stop, states)
        decay = decays(step, rate)
        x = decay * (grad[:, :, None] * leaves[:, None, :])
        whole, tile = tl.associative_scan((decay, x), 0, after_both, reverse=True)
        after = tl.sum(tl.where((row == 0)[:, None, None], tile + whole * after[None], 0.0), 0)
    here = (case * tl.num_programs(1) + k) * channels * states
    tl.store(g + here + channel[:, None] * states + state[None, :], after, mask=cell)


@program
def gradients(
    v: "Value",
    dt: "Value",
    a: "Value",
    b: "Value",
    c: "Value",
    grad_y: "Value",
    kept: "Value",
    g: "Value",
    of_v: "Value",
    of_dt: "Value",
    of_a: "Value",
    of_b: "Value",
    of_c: "Value",
    length: "Value",
    chunk: "Value",
    channels: "Value",
    states: "Value",
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
) -> None:
    """Gradients of each chunk, from its last tile to its first; g is that of the states after it.

    Those of b and c are sums over the channels of a program, (n, groups, l, s), that of the
    rates over the tokens of a chunk, (n, chunks, c, s).
    """
    case, k, group = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    channel, state = group * columns + tl.arange(0, columns), tl.arange(0, depth)
    cell = (channel < channels)[:, None] & (state < states)[None, :]
    corner = channel[:, None] * states + state[None, :]
    rate = tl.load(a + corner, mask=cell, other=0.0)
    wide, narrow = case * length * channels, case * length * states
    mine = (case * tl.num_programs(2) + group) * length * states
    here = (case * tl.num_programs(1) + k) * channels * states
    after = tl.load(g + here + corner, mask=cell, other=0.0)
    of_rate = tl.zeros_like(rate)
    start, stop = k * chunk, tl.minimum((k + 1) * chunk, length)
    row, tiles = tl.arange(0, rows), chunk // rows
    for back in range(0, stop - start, rows):
        tile = (stop - start - 1 - back) // rows
        first = start + tile * rows
        t = first + row
        block = here * tiles + tile * channels * states
        begin = tl.load(kept + block + corner, mask=cell, other=0.0)
        step = tokens(dt + wide, t, channel, start, stop, channels)
        value = tokens(v + wide, t, channel, start, stop, channels)
        enters = tokens(b + narrow, t, state, start, stop, states)
        leaves = tokens(c + narrow, t, state, start, stop, states)
        grad = tokens(grad_y + wide, t, channel, start, stop, channels)
        decay = decays(step, rate)
        # The states before each token: the same scan, a token earlier.
        step_before = tokens(dt + wide, t - 1, channel, first, stop, channels)
        value_before = tokens(v + wide, t - 1, channel, first, stop, channels)
        enters_before = tokens(b + narrow, t - 1, state, first, stop, states)
        x = value_before[:, :, None] * enters_before[:, None, :]
        whole, before = tl.associative_scan((decays(step_before, rate), x), 0, after_both)
        before = before + whole * begin[None]
        h = decay * before + value[:, :, None] * enters[:, None, :]
        # The gradient of the states after each token, from the decays a token later.
        step_after = tokens(
            dt + wide, t + 1, channel, start, tl.minimum(first + rows, stop), channels
        )
        x = grad[:, :, None] * leaves[:, None, :]
        whole, adjoint = tl.associative_scan(
            (decays(step_after, rate), x), 0, after_both, reverse=True
        )
        adjoint = adjoint + whole * after[None]
        faded = adjoint * decay
        after = tl.sum(tl.where((row == 0)[:, None, None], faded, 0.0), 0)
        of_decay = faded * before
        of_rate += tl.sum(of_decay * step[:, :, None], 0)
        inside = (t < stop)[:, None] & (channel < channels)[None, :]
        at = wide + t[:, None] * channels + channel[None, :]
        tl.store(of_v + at, tl.sum(adjoint * enters[:, None, :], 2), mask=inside)
        tl.store(of_dt + at, tl.sum(of_decay * rate[None], 2), mask=inside)
        inside = (t < stop)[:, None] & (state < states)[None, :]
        at = mine + t[:, None] * states + state[None, :]
        tl.store(of_b + at, tl.sum(adjoint * value[:, :, None], 1), mask=inside)
        tl.store(of_c + at, tl.sum(h * grad[:, :, None], 1), mask=inside)
    tl.store(of_a + here + corner, of_rate, mask=cell)
