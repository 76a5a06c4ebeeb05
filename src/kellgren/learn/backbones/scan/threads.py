"""How a batch of tokens is shared among threads: groups of 16 channels, cases, chunks of tokens."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from kellgren.learn.backbones.scan.loops import Rows, Stretch

WIDTH = 16
"""Channels of a group: the lanes of a vector."""

Value = Any
"""A value inside compiled code: numba, not mypy, knows what it is."""

BLOCK = 16
"""Tokens of a block: a chunk is a whole number of blocks."""

SHORTEST_CHUNK = 1024
"""Tokens: below, what a second chunk costs more is worth less than an idle thread."""


@dataclass(frozen=True)
class Share:
    """A batch ``(n, l, c)``, to be cut into stretches.

    Attributes:
        n: Cases.
        length: Tokens.
        channels: Channels.
        states: States a channel.
    """

    n: int
    length: int
    channels: int
    states: int

    @property
    def groups(self) -> int:
        """Groups of channels; the last may not be full."""
        return -(-self.channels // WIDTH)

    def cut(self, threads: int) -> tuple[int, int]:
        """Chunks, and blocks of a chunk: one chunk, unless threads would stand idle.

        >>> Share(n=1, length=16_384, channels=64, states=8).cut(2)
        (1, 1024)
        >>> Share(n=1, length=16_384, channels=16, states=8).cut(2)
        (4, 256)
        """
        lanes = self.n * self.groups
        wanted = 1 if lanes >= threads else -(-2 * threads // lanes)
        count = max(1, min(wanted, self.length // SHORTEST_CHUNK))
        blocks = -(-self.length // (count * BLOCK))
        return -(-self.length // (blocks * BLOCK)), blocks

    def stretches(self, chunks: int, blocks: int) -> "list[Stretch]":
        """All stretches, in the order of their states: by case, group and chunk."""
        from kellgren.learn.backbones.scan.loops import Stretch

        places = itertools.product(range(self.n), range(self.groups), range(chunks))
        return [
            Stretch(
                case=case,
                group=group,
                channels=min(WIDTH, self.channels - group * WIDTH),
                chunk=i,
                start=chunk * blocks * BLOCK,
                stop=min((chunk + 1) * blocks * BLOCK, self.length),
                kept=i * blocks,
                states=self.states,
                length=self.length,
            )
            for i, (case, group, chunk) in enumerate(places)
        ]


def run(
    loop: Callable[..., None], stretches: "list[Stretch]", x: Value, w: Value, *into: Value
) -> None:
    """Call a compiled loop for each stretch, on as many threads as torch uses.

    Args:
        loop: One of `loops`; it releases the lock of Python.
        stretches: What the calls compute.
        x: Tokens, for all calls.
        w: Weights, for all calls.
        into: Arrays that the loop reads and writes.
    """
    threads = min(torch.get_num_threads(), len(stretches))
    if threads == 1:
        for at in stretches:
            loop(x, w, at, *into)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda at: loop(x, w, at, *into), stretches))


def by_group(x: Float[Tensor, "rows c"]) -> Float[Tensor, "groups rows lanes"]:
    """Put the channels of a group together, padded with zeros."""
    padded = F.pad(x, (0, -x.shape[1] % WIDTH))
    return padded.view(len(x), -1, WIDTH).transpose(0, 1).contiguous()


def flat(x: Tensor) -> np.ndarray:
    """All numbers of a contiguous tensor."""
    numbers: np.ndarray = x.detach().view(-1).numpy()
    return numbers


def rows(x: Float[Tensor, "n l c"]) -> "Rows":
    """A tensor as its memory; copied only where channels do not lie side by side."""
    from kellgren.learn.backbones.scan.loops import Rows

    x = x.detach()
    x = x if x.stride(2) == 1 else x.contiguous()
    span = 1 + sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True))
    return Rows(x.as_strided((span,), (1,)).numpy(), x.stride(0), x.stride(1))


def groups(x: Float[Tensor, "n groups l s"]) -> "Rows":
    """Partial gradients as their memory, whose row is a group."""
    from kellgren.learn.backbones.scan.loops import Rows

    return Rows(flat(x), x.stride(0), x.stride(1))
