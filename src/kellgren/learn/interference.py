"""Whether the two heads pull the encoder the same way: measured while it trains, never steered by.

For the gradients g of the OA loss and h of the KL loss, by stage of the encoder: their cosine;
whether they conflict (cosine below 0); how alike their lengths are, 2|g||h| / (|g|^2 + |h|^2); and
the affinity, the share of one loss that a step of the encoder against the other's gradient takes
away (Fifty et al. 2021). That step is taken, looked at and undone: 1 - loss after / loss before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kellgren.learn.gradients import Gradients, dot, gradients_of
from kellgren.learn.objective import Losses

WHOLE = "encoder"


@dataclass
class Interference:
    """Measurements of one epoch, by column of `log.csv`; their means are what is kept.

    Attributes:
        batches: How many batches of an epoch are looked at, from the first on.
        lr: Learning rate, for the affinity.
        seen: Values of each column so far.
    """

    batches: int
    lr: float
    seen: dict[str, list[float]] = field(default_factory=dict)

    def look(
        self,
        encoder: nn.Module,
        losses: Mapping[str, Float[Tensor, ""]],
        step: int,
        *,
        again: Callable[[], Losses],
    ) -> None:
        """Measure one batch before its update; nothing where there are not both heads.

        Args:
            encoder: What the heads share.
            losses: Of the batch, with their graph.
            step: Which batch of the epoch, from 0.
            again: Takes the losses of the batch anew, changing nothing.
        """
        if step >= self.batches or not {"oa", "kl"} <= losses.keys():
            return
        names = [name for name, _ in encoder.named_parameters()]
        oa, kl = gradients_of([losses["oa"], losses["kl"]], list(encoder.parameters()))
        for stage, places in stages(names).items():
            g, h = [oa[i] for i in places], [kl[i] for i in places]
            for column, value in compared(g, h).items():
                self._see(f"{column}_{stage}", value)
        self._look_ahead(encoder, {"oa": oa, "kl": kl}, again)

    @torch.no_grad()
    def _look_ahead(
        self, encoder: nn.Module, gradients: Mapping[str, Gradients], again: Callable[[], Losses]
    ) -> None:
        before = again()
        for name, other in (("oa", "kl"), ("kl", "oa")):
            with stepped(encoder, gradients[name], self.lr):
                left = again()[other] / before[other]
            self._see(f"affinity_{name}_to_{other}", 1 - float(left))

    def _see(self, column: str, value: float) -> None:
        self.seen.setdefault(column, []).append(value)

    def means(self) -> dict[str, float]:
        """Mean of each column over the batches."""
        return {name: sum(values) / len(values) for name, values in self.seen.items()}


@contextmanager
def stepped(module: nn.Module, gradient: Gradients, lr: float) -> Iterator[None]:
    """The module after one step against a gradient; afterwards as it was, to the bit."""
    parameters = [parameter.data for parameter in module.parameters()]
    kept = [data.clone() for data in parameters]
    for data, along in zip(parameters, gradient, strict=True):
        data.sub_(along, alpha=lr)
    try:
        yield
    finally:
        for data, was in zip(parameters, kept, strict=True):
            data.copy_(was)


def compared(g: Sequence[Tensor], h: Sequence[Tensor]) -> dict[str, float]:
    """Cosine, conflict and likeness of length of two gradients; 0 where one of them vanishes."""
    along, own, other = (float(dot(list(a), list(b))) for a, b in ((g, h), (g, g), (h, h)))
    lengths = (own * other) ** 0.5
    cosine = along / lengths if lengths else 0.0
    alike = 2 * lengths / (own + other) if own + other else 0.0
    return {"cosine": cosine, "conflict": float(cosine < 0), "likeness": alike}


def stages(names: Sequence[str]) -> dict[str, list[int]]:
    """Places of the parameters of each part of an encoder, and of all of it.

    >>> stages(["conv1.weight", "layer1.0.conv1.weight"])
    {'encoder': [0, 1], 'conv1': [0], 'layer1': [1]}
    """
    found: dict[str, list[int]] = {WHOLE: list(range(len(names)))}
    for i, name in enumerate(names):
        found.setdefault(name.partition(".")[0], []).append(i)
    return found
