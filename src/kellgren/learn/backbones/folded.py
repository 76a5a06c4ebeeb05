"""A network in evaluation without its batch norms: they are folded into the convolutions.

With running statistics a batch norm scales and shifts each channel, and so does the convolution
before it, if its weights are scaled and its bias is shifted. A pass over all activations is saved.
"""

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network) -> Network:
    """A copy of a network in evaluation, each batch norm of which is part of the layer before it.

    Only a norm that follows a convolution among the children of one module is folded, so these
    must be named in the order in which they are applied. The copy shares all other tensors, and
    serves one forward pass: it does not see weights that change later.
    """
    shared = [*network.parameters(), *network.buffers()]
    copied = copy.deepcopy(network, {id(tensor): tensor for tensor in shared})
    for module in list(copied.modules()):
        for (name, conv), (of_norm, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(norm, _BatchNorm):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, of_norm, nn.Identity())
    return copied


def predicts(network: nn.Module, x: Float[Tensor, "..."]) -> bool:
    """Whether a pass is one of plain prediction on a CPU: in evaluation, and without a gradient."""
    return (
        x.device.type == "cpu"
        and not network.training
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )
