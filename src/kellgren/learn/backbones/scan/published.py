"""The selective scan through the CUDA kernel of Mamba's authors, where `mamba_ssm` has it."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

Scan = Callable[..., Tensor]


def why_not() -> str | None:
    """What keeps the kernel from being used; None where it can."""
    try:
        published_function()
    except ImportError as error:
        return str(error)
    return None


def published_function() -> Scan:
    """Their function; a plain installation of `mamba_ssm` lacks its compiled part."""
    import selective_scan_cuda  # noqa: F401  # its absence would only show at the first call
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return selective_scan_fn


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
    """See `selective_scan`; theirs has the tokens last."""
    u, delta, b, c, z = (x.transpose(1, 2).contiguous() for x in (u, delta, b, c, z))
    function = published_function()
    y = function(u, delta, a, b, c, D=d, z=z, delta_bias=delta_bias, delta_softplus=True)
    return y.transpose(1, 2)
