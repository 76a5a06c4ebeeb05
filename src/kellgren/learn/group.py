"""Processes that train one network together, each on its part of every batch, as under torchrun.

What they train is what one process would train, up to rounding. Every process knows the logits of
the whole batch, a few numbers a knee, so the losses are those of the whole batch, whatever its size
and their weights; batch norms see the whole batch; and the gradients of the parts add up to the
gradient of the whole. Torch's DistributedDataParallel averages over processes instead, which is
exact only where all parts are equally large, and leaves batch norms apart.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from kellgren.config import TrainingSettings
from kellgren.faults import InputError

Logits = Mapping[str, Float[Tensor, "_ _"]]


@dataclass(frozen=True)
class Group:
    """The processes at work on one run.

    Attributes:
        rank: Which of them this one is, from 0.
        size: How many they are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def recorded(self) -> dict[str, Any]:
        """What `run.json` says of the group: its size decides the last bits of the weights."""
        return {} if self.size == 1 else {"processes": self.size}

    def part(self, n: int) -> slice:
        """The cases of a batch of `n` that this process computes.

        Parts differ by one case at most. Where there are fewer cases than processes, every process
        computes all of them, so that none stands idle while batch norms wait for it.

        >>> [Group(rank, 2).part(5) for rank in range(2)]
        [slice(0, 2, None), slice(2, 5, None)]
        >>> Group(2, 3).part(2)
        slice(0, 2, None)
        """
        if n < self.size:
            return slice(0, n)
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def whole(
        self, logits: Logits, kl: Int[Tensor, " m"], n: int
    ) -> tuple[Logits, Int[Tensor, " n"]]:
        """Logits and grades of all `n` cases of a batch, from those of each process's part.

        Gradients flow into the own logits alone, so that those of all processes add up.
        """
        if self.size == 1:
            return logits, kl
        if n < self.size:  # all have all cases, and give their share of one gradient
            return {name: _weakened(own, 1 / self.size) for name, own in logits.items()}, kl
        joined = {name: self._joined(_wide(own), n) for name, own in logits.items()}
        return joined, self._joined(kl, n)

    def _joined(self, own: Tensor, n: int) -> Tensor:
        part = self.part(n)
        found = own.new_zeros((n, *own.shape[1:]))
        found[part] = own.detach()
        distributed.all_reduce(found)
        return torch.cat([found[: part.start], own, found[part.stop :]])

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes."""
        if self.size == 1:
            return
        held = [p for p in parameters if p.grad is not None]
        flat = torch.cat([p.grad.reshape(-1) for p in held if p.grad is not None])
        distributed.all_reduce(flat)
        for parameter, total in zip(
            held, torch.split(flat, [p.numel() for p in held]), strict=True
        ):
            parameter.grad = total.view_as(parameter)

    def agree(self, epochs: int, where: str) -> None:
        """Refuse to go on where the processes do not stand at the same epoch.

        Raises:
            InputError: If they do not, as where another job was still writing when some of them
                began.
        """
        if self.size == 1:
            return
        found: list[int | None] = [None] * self.size
        distributed.all_gather_object(found, epochs)
        if len(set(found)) > 1:
            raise InputError(
                where,
                f"processes that have read checkpoints of epochs {found}",
                "one checkpoint for all",
                "give the same command again, once nothing else is at work in this folder",
            )

    def check(self, training: TrainingSettings) -> None:
        """Refuse what needs the gradient of a whole batch in one process.

        Raises:
            InputError: If the settings ask for it and there are several processes.
        """
        asked = {
            f"training.balance = '{training.balance}'": training.balance in ("pcgrad", "upgrad"),
            "training.interference": training.interference > 0,
            "training.compile": training.compile,
        }
        for key in [key for key, is_set in asked.items() if is_set and self.size > 1]:
            raise InputError(
                key, f"{self.size} processes", "one process a run", "start it without torchrun"
            )


ALONE = Group()


@contextmanager
def group_of(device: torch.device) -> Iterator[tuple[Group, torch.device]]:
    """The group that torchrun has put this process into, and its own device; alone without it.

    Raises:
        InputError: If another process of the group has ended before its time.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(distributed.get_rank(), size), device
    except RuntimeError as error:
        if not any(word in str(error).lower() for word in ("gloo", "nccl", "connection")):
            raise
        raise InputError(
            f"process {distributed.get_rank()} of {size} of this run",
            "no answer from another one",
            "all of them",
            "see what the other one says, and give the same command again to go on",
        ) from error
    finally:
        distributed.destroy_process_group()


class JointBatchNorm(_BatchNorm):
    """Batch norm over the parts of all processes; torch's SyncBatchNorm is for GPUs alone.

    Means and variances of the parts are joined after Chan et al. (1979).
    """

    group: Group = ALONE

    def _check_input_dim(self, x: Float[Tensor, "..."]) -> None:
        """Any number of dimensions."""

    def forward(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n c *grid"]:
        """Normalise each channel by its mean and variance over the whole batch."""
        if not self.training:
            return super().forward(x)
        dims, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        own_var, own_mean = torch.var_mean(_wide(x), dims, correction=0)
        own_n = own_mean.new_full((1,), x.numel() // x.shape[1])
        own = torch.cat([own_n, own_mean, own_var])
        nothing = torch.zeros_like(own)
        rows = [own if i == self.group.rank else nothing for i in range(self.group.size)]
        parts: Tensor = all_reduce(torch.stack(rows))  # type: ignore[no-untyped-call]
        counts, (means, variances) = parts[:, :1], parts[:, 1:].chunk(2, dim=1)
        weights, n = counts / counts.sum(), counts.sum()
        mean = (weights * means).sum(0)
        var = (weights * (variances + (means - mean).square())).sum(0)
        self._advance(mean.detach(), (var * n / (n - 1)).detach())
        scale = self.weight * torch.rsqrt(var + self.eps)
        return ((x - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    def _advance(self, mean: Float[Tensor, " c"], var: Float[Tensor, " c"]) -> None:
        for running, now in ((self.running_mean, mean), (self.running_var, var)):
            assert running is not None
            assert self.momentum is not None
            running.lerp_(now.to(running.dtype), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def join_batch_norms(module: nn.Module, group: Group) -> None:
    """Let every batch norm of a network see the whole batch; nothing changes for one process."""
    if group.size == 1:
        return
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            joint = JointBatchNorm(child.num_features, child.eps, child.momentum)
            joint.group = group
            joint.load_state_dict(child.state_dict())
            setattr(module, name, joint)
        else:
            join_batch_norms(child, group)


def _wide(x: Tensor) -> Tensor:
    """At least float32: sums over a batch lose too much in less."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _weakened(x: Tensor, share: float) -> Tensor:
    """The same values; their gradient is multiplied."""
    return x.detach() + share * (x - x.detach())
