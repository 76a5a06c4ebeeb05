"""The losses of a batch, and the same once more: with other weights, and else as they were.

Dropout draws what it drew, and the running statistics of batch norms do not advance again.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from kellgren.learn.backbones import recompute
from kellgren.learn.dataset import Batch
from kellgren.learn.group import ALONE, Group
from kellgren.learn.means import Means
from kellgren.learn.objective import Learner, Losses

States = tuple[UInt8[Tensor, "_"], ...]


@dataclass(frozen=True)
class Replay:
    """A batch on its way through a network, which it can take again.

    Attributes:
        learner: The network and its objective.
        batch: Images and grades of the part of a batch that this process computes.
        group: The processes that share the batch.
        cases: How many cases all of them have.
        autocast: In which the forward pass runs.
        noise: States of the random generators before it.
    """

    learner: Learner
    batch: Batch
    group: Group
    cases: int
    autocast: Callable[[], AbstractContextManager[object]]
    noise: States

    @classmethod
    def now(
        cls, learner: Learner, batch: Batch, means: Means, *, group: Group = ALONE, cases: int = 0
    ) -> "Replay":
        """The batch with the random numbers that come next."""
        noise = _states(batch.image.device)
        return cls(learner, batch, group, cases or len(batch.kl), means.autocast, noise)

    def plain(self) -> "Replay":
        """The same in float32, so that small changes of a loss show."""
        return replace(self, autocast=nullcontext)

    def losses(self) -> Losses:
        """Each loss by its name, unweighted, with its graph."""
        with self.autocast():
            own = self.learner.model(self.batch.image).logits
        logits, kl = self.group.whole(own, self.batch.kl, self.cases)
        return self.learner.objective.losses(logits, kl)

    @torch.no_grad()
    def again(self) -> Losses:
        """The losses with the weights of now; no generator, statistic or gradient moves."""
        with recompute.again(self.learner.model), _drawing(self.noise, self.batch.image.device):
            return self.losses()


def _states(device: torch.device) -> States:
    cuda = (torch.cuda.get_rng_state(device),) if device.type == "cuda" else ()
    return (torch.get_rng_state(), *cuda)


def _set_states(states: States, device: torch.device) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)


@contextmanager
def _drawing(states: States, device: torch.device) -> Iterator[None]:
    """Random numbers as from these states; afterwards as if none had been drawn."""
    now = _states(device)
    _set_states(states, device)
    try:
        yield
    finally:
        _set_states(now, device)
