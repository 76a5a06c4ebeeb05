"""The short causal convolution as compiled loops over tokens: 16 channels side by side.

This module imports numba, so it is imported where a convolution is first computed.
"""

import numpy as np

from kellgren.learn.backbones.scan.elementary import sigmoid
from kellgren.learn.backbones.scan.lanes import (
    compiled,
    inlined,
    like,
    load,
    store,
    zeros,
)
from kellgren.learn.backbones.scan.loops import Rows, Stretch, aligned, channels_of, fold, write
from kellgren.learn.backbones.scan.threads import BLOCK, WIDTH, Value

TAPS = 4
"""Tokens that a convolution sees."""


@inlined
def before_gate(x: Value, w: Value, at: Value, t: Value) -> Value:
    """The convolution at a token."""
    mine = at.group * (TAPS + 1) * WIDTH
    y = load(w, mine + TAPS * WIDTH, WIDTH)
    for k in range(TAPS):
        if t + 1 - TAPS + k >= 0:
            y = y + load(w, mine + k * WIDTH, WIDTH) * channels_of(x, at, t + 1 - TAPS + k)
    return y


@compiled
def outputs(x: Rows, w: np.ndarray, at: Stretch, y: Rows) -> None:
    """Outputs of a stretch."""
    for t in range(at.start, at.stop):
        value = before_gate(x, w, at, t)
        write(y, at, t, value * sigmoid(value))


@inlined
def grad_before_gate(x: Value, w: Value, at: Value, grad_y: Value, t: Value) -> Value:
    """Gradient of the convolution at a token; zero after the last."""
    grad = zeros(w)
    if t < at.length:
        y = before_gate(x, w, at, t)
        gate, one = sigmoid(y), like(y, 1.0)
        grad = channels_of(grad_y, at, t) * gate * (one + y * (one - gate))
    return grad


@compiled
def gradients(
    x: Rows, w: np.ndarray, at: Stretch, grad_y: Rows, of_x: Rows, of_w: np.ndarray
) -> None:
    """Gradients of a stretch, from its last token to its first.

    The gradient of a token comes from itself and the three after it, also where those belong to
    the next stretch; weights take only what belongs to this one.
    """
    mine, size = at.group * (TAPS + 1) * WIDTH, (TAPS + 1) * WIDTH
    sums, lost = aligned(size, w.dtype), aligned(size, w.dtype)
    after1 = grad_before_gate(x, w, at, grad_y, at.stop)
    after2 = grad_before_gate(x, w, at, grad_y, at.stop + 1)
    after3 = grad_before_gate(x, w, at, grad_y, at.stop + 2)
    for back in range(at.stop - at.start):
        t = at.stop - 1 - back
        grad = grad_before_gate(x, w, at, grad_y, t)
        of_token = grad * load(w, mine + 3 * WIDTH, WIDTH) + after1 * load(
            w, mine + 2 * WIDTH, WIDTH
        )
        of_token = of_token + after2 * load(w, mine + WIDTH, WIDTH) + after3 * load(w, mine, WIDTH)
        write(of_x, at, t, of_token)
        for k in range(TAPS):
            if t + 1 - TAPS + k >= 0:
                more = grad * channels_of(x, at, t + 1 - TAPS + k)
                store(sums, k * WIDTH, WIDTH, load(sums, k * WIDTH, WIDTH) + more)
        store(sums, TAPS * WIDTH, WIDTH, load(sums, TAPS * WIDTH, WIDTH) + grad)
        after1, after2, after3 = grad, after1, after2
        if t % BLOCK == 0:
            fold(sums, lost, of_w, at.chunk * size)
