"""Weights that others released, fitted to an encoder: every tensor is used, or refused by name.

Three layouts are known: MedicalNet's residual networks in three dimensions, torchvision's in two
(for the slices of M3T), and nnMamba's classifier. Files are read without running anything that
they hold.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from safetensors.torch import load_file
from torch import Tensor, nn

from kellgren.faults import InputError
from kellgren.learn.backbones import Encoder
from kellgren.learn.backbones.m3t import M3T, M3T_SIZES
from kellgren.learn.backbones.nnmamba import NnMamba
from kellgren.learn.backbones.residual import DEPTHS, Bottleneck, ResidualNet, ResidualSize
from kellgren.learn.backbones.resnet3d import RESNET3D_SIZES, ResNet3D
from kellgren.learn.weight_file import check_size, is_plain

COLOURS = 3
SHOWN = 6
SHOWN_LETTERS = 80

Tensors = dict[str, Shaped[Tensor, "..."]]


@dataclass(frozen=True)
class Started:
    """What an encoder was given before training, as `run.json` keeps it.

    Attributes:
        file: Name of the file.
        sha256: SHA-256 of its bytes.
        layout: Whose names the file has.
        loaded: Number of tensors that the encoder took over.
        adapted: The tensors among them whose shape was changed on the way, and how.
        ignored: Names in the file that belong to a head which the encoder does not have.
        initialised: Number of the encoder's own tensors that the layout does not cover.
    """

    file: str
    sha256: str
    layout: str
    loaded: int
    adapted: tuple[str, ...]
    ignored: tuple[str, ...]
    initialised: int

    def __str__(self) -> str:
        left = f", {len(self.ignored)} of another head ignored" if self.ignored else ""
        own = f", {self.initialised} start anew" if self.initialised else ""
        changed = f" ({'; '.join(self.adapted)})" if self.adapted else ""
        return f"{self.file} ({self.layout}): {self.loaded} tensors loaded{changed}{left}{own}"


@dataclass(frozen=True)
class Layout:
    """Whose names a file has, and which part of an encoder they cover.

    Attributes:
        name: Where the layout comes from.
        part: The part of the encoder that has these names.
        heads: Beginnings of names that belong to a head and are left out.
        sizes: Residual networks by the name of the size that holds them; empty where the part is
            no residual network.
    """

    name: str
    part: Callable[[Any], nn.Module]  # each takes the encoder that it is listed under
    heads: tuple[str, ...]
    sizes: Mapping[str, ResidualSize]


def _whole(encoder: nn.Module) -> nn.Module:
    return encoder


def _slice_net(encoder: M3T) -> nn.Module:
    return encoder.slice_net


LAYOUTS: dict[type[Encoder], Layout] = {
    ResNet3D: Layout("MedicalNet", _whole, ("conv_seg.", "fc."), RESNET3D_SIZES),
    M3T: Layout(
        "torchvision", _slice_net, ("fc.",), {n: s.slice_net for n, s in M3T_SIZES.items()}
    ),
    NnMamba: Layout("nnMamba", _whole, ("mlp.3.",), {}),
}


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a file, by their names without what DDP and `torch.compile` put into them."""

    path: Path
    sha256: str
    tensors: Tensors


def load_weights(encoder: Encoder, path: Path) -> Started:
    """Start an encoder from a released file; all or nothing.

    Args:
        encoder: Takes the weights over in place.
        path: A `.pth` or `.pt` file of tensors, or a safetensors file.

    Raises:
        InputError: If the file cannot be read, holds another network, lacks a tensor, or holds
            one that is not understood or has another shape; each is named.
    """
    started, tensors = _fitted(encoder, read_checkpoint(path))
    LAYOUTS[type(encoder)].part(encoder).load_state_dict(tensors)
    return started


def check_weights(encoder: Encoder, path: Path) -> Started:
    """What `load_weights` would do; the encoder stays as it is and may be on the meta device.

    Raises:
        InputError: As `load_weights`.
    """
    return _fitted(encoder, read_checkpoint(path))[0]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of tensors, bare or under "state_dict", without running what it holds.

    Raises:
        InputError: If there is no such file, or it is damaged, holds more than tensors, or holds
            values that are not finite.
    """
    digest = sha256_of(path)
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # both loaders raise many kinds for a file that is no weights
        raise InputError(
            str(path),
            f"a file that cannot be read ({str(error).splitlines()[0] if str(error) else 'empty'})",
            "a .pth file of tensors or a safetensors file",
            "download it again; files that hold code are not opened",
        ) from error
    return Checkpoint(path, digest, _state_of(path, content))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file of weights.

    Raises:
        InputError: If there is no such file, or it is larger than weights are, see `check_size`.
    """
    try:
        check_size(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            str(path),
            error.strerror or str(error),
            "a file of weights",
            "check `weights` in the study file; its path is relative to that file",
        ) from error


def residual_size(tensors: Mapping[str, Shaped[Tensor, "..."]]) -> ResidualSize | None:
    """Depth, width and shortcut of a residual network, read off the names of its tensors.

    The geometry leaves no trace in the weights, so it is that of the default. None where the
    number of blocks is that of no known depth.
    """
    blocks = tuple(
        len({name.split(".")[1] for name in tensors if name.startswith(f"layer{i}.")})
        for i in (1, 2, 3, 4)
    )
    bottleneck = "layer1.0.conv3.weight" in tensors
    depths = [d for d, (b, n) in DEPTHS.items() if n == blocks and (b is Bottleneck) == bottleneck]
    if not depths or "conv1.weight" not in tensors or tensors["conv1.weight"].ndim == 0:
        return None
    shortcut = any(".downsample." in name for name in tensors)
    width = tensors["conv1.weight"].shape[0]
    return ResidualSize(depth=depths[0], width=width, shortcut="B" if shortcut else "A")


def _state_of(path: Path, content: object) -> Tensors:
    nested = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(nested, Mapping) or not nested:
        raise _unlike(path, f"a {type(nested).__name__} without tensors", "names and tensors")
    others = [n for n, t in nested.items() if not (isinstance(n, str) and is_plain(t))]
    if others:
        raise _unlike(path, f"{_shown(others)}, not plain tensors", "names and tensors alone")
    tensors = {_bare(str(name)): tensor for name, tensor in nested.items()}
    if len(tensors) < len(nested):
        raise _unlike(path, "a tensor twice, with and without a prefix", "each tensor once")
    return tensors


def _bare(name: str) -> str:
    return name.replace("_orig_mod.", "").removeprefix("module.")


def _fitted(encoder: Encoder, checkpoint: Checkpoint) -> tuple[Started, Tensors]:
    """The tensors that the encoder's part takes, complete and in its shapes."""
    layout = LAYOUTS[type(encoder)]
    part = layout.part(encoder)
    ignored = tuple(name for name in checkpoint.tensors if name.startswith(layout.heads))
    given = {n: t for n, t in checkpoint.tensors.items() if n not in ignored}
    if isinstance(part, ResidualNet):
        _refuse_other_network(checkpoint.path, given, part.size, layout)
    wanted = part.state_dict()
    adapted = _adapt_colours(given, wanted) if isinstance(encoder, M3T) else ()
    whole = complete(checkpoint.path, given, wanted)
    started = Started(
        file=checkpoint.path.name,
        sha256=checkpoint.sha256,
        layout=layout.name,
        loaded=len(given),
        adapted=adapted,
        ignored=ignored,
        initialised=len(encoder.state_dict()) - len(wanted),
    )
    return started, whole


def _refuse_other_network(path: Path, given: Tensors, size: ResidualSize, layout: Layout) -> None:
    found = residual_size(given)
    if found is None or _traits(found) == _traits(size):
        return
    fitting = [name for name, one in layout.sizes.items() if _traits(one) == _traits(found)]
    todo = f"choose a size among {fitting}" if fitting else "choose another file"
    raise _unlike(path, _described(found), f"{_described(size)}, as the study asks", todo)


def _traits(size: ResidualSize) -> tuple[int, int, str]:
    return size.depth, size.width, size.shortcut


def _described(size: ResidualSize) -> str:
    return f"a ResNet-{size.depth} of width {size.width} with shortcut {size.shortcut}"


def _adapt_colours(given: Tensors, wanted: Mapping[str, Shaped[Tensor, "..."]]) -> tuple[str, ...]:
    """Spread the mean over three colours over the channels of the 3-D block, in place.

    Scaled so that channels which are alike give what a grey picture gives.
    """
    name = "conv1.weight"
    channels = wanted[name].shape[1]
    if name not in given or given[name].ndim != wanted[name].ndim:
        return ()
    if given[name].shape[1] != COLOURS or channels == COLOURS:
        return ()
    given[name] = _spread(given[name].float(), channels)
    return (f"{name}: the mean of {COLOURS} colours, spread over {channels} channels",)


def _spread(
    weight: Float[Tensor, "c_out colours h w"], channels: int
) -> Float[Tensor, "c_out c h w"]:
    grey = weight.sum(1, keepdim=True) / channels
    return grey.repeat(1, channels, 1, 1)


def complete(
    path: Path,
    given: Tensors,
    wanted: Mapping[str, Shaped[Tensor, "..."]],
    *,
    todo: str = "choose a file that fits",
) -> Tensors:
    """Every wanted tensor out of a file that holds no other.

    Raises:
        InputError: Naming the tensors that are missing, not understood, of another shape, or not
            finite.
    """
    counters = _counters(wanted)
    shapes = [
        f"{name} is {tuple(given[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in given
        if name in wanted and given[name].shape != wanted[name].shape
    ]
    faults = {
        "missing": [name for name in wanted if name not in given and name not in counters],
        "not understood": [name for name in given if name not in wanted],
        "of another shape": shapes,
        "not finite": [name for name, tensor in given.items() if not torch.isfinite(tensor).all()],
    }
    found = "; ".join(f"{k} ({len(v)}): {_shown(v)}" for k, v in faults.items() if v)
    if found:
        needed = f"the {len(wanted)} tensors of this network, all of them, finite"
        raise _unlike(path, found, needed, todo)
    return counters | given


def _counters(
    wanted: Mapping[str, Shaped[Tensor, "..."]],
) -> Tensors:
    """Counts of batches seen, which old files lack: they start at zero and decide nothing."""
    counters = [name for name in wanted if name.endswith(".num_batches_tracked")]
    return {name: torch.tensor(0) for name in counters}


def _shown(names: Sequence[object]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    # A key need not be text, and the text of a key of another kind can be without end.
    texts = [name if isinstance(name, str) else type(name).__name__ for name in names[:SHOWN]]
    return ", ".join(text[:SHOWN_LETTERS] for text in texts) + more


def _unlike(
    path: Path, found: str, needed: str, todo: str = "choose a file that fits"
) -> InputError:
    return InputError(str(path), found, needed, todo)
