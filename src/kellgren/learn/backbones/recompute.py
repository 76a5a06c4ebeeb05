"""Activation checkpointing: keep the input of a block, and compute the rest again for its gradient.

After Chen et al., "Training deep nets with sublinear memory cost" (2016). Batch norms see the same
batch again, so that gradients are the same; their running statistics advance once, as without it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

Block = Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]


class Recomputing(nn.Module):
    """A module that can trade time for memory; it does so where `recompute` is set."""

    recompute: bool = False

    def run(self, block: Block, x: Float[Tensor, "..."], *, of: nn.Module) -> Float[Tensor, "..."]:
        """Apply a block whose parts are those of a module, and that draws no random numbers.

        What is recomputed as a whole does not recompute its parts once more.
        """
        if not self.recompute or not torch.is_grad_enabled():
            return block(x)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return whole(of), again(of)

        return checkpoint(
            block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
        )


def recompute_activations(network: nn.Module) -> None:
    """Let every part of a network that can do so keep less for the gradient."""
    for module in network.modules():
        if isinstance(module, Recomputing):
            module.recompute = True


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """No part of a module recomputes on its own."""
    parts = [m for m in module.modules() if isinstance(m, Recomputing) and m.recompute]
    for part in parts:
        part.recompute = False
    try:
        yield
    finally:
        for part in parts:
            part.recompute = True


@contextmanager
def again(module: nn.Module) -> Iterator[None]:
    """As `whole`; running statistics advance on copies, which are thrown away."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    _set_buffers(norms, [{name: t.clone() for name, t in buffers.items()} for buffers in kept])
    try:
        with whole(module):
            yield
    finally:
        _set_buffers(norms, kept)


def _set_buffers(norms: list[_BatchNorm], buffers: list[dict[str, Shaped[Tensor, "..."]]]) -> None:
    for norm, named in zip(norms, buffers, strict=True):
        for name, tensor in named.items():
            setattr(norm, name, tensor)
