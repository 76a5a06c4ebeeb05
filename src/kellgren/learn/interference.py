"""Whether the two heads pull the encoder the same way: measured while it trains, never steered by.

For the gradients g of the OA loss and h of the KL loss, by stage of the encoder: their cosine;
whether they conflict (cosine below 0); how alike their lengths are, 2|g||h| / (|g|^2 + |h|^2); and
the affinity, the share of one loss that a step along the other's gradient takes away to first
order, lr g.h / loss (Fifty et al. 2021, who take the step).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from kellgren.learn.objective import dot, gradients_of

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

    def look(self, encoder: nn.Module, losses: Mapping[str, Float[Tensor, ""]], step: int) -> None:
        """Measure one batch before its update; nothing where there are not both heads."""
        if step >= self.batches or not {"oa", "kl"} <= losses.keys():
            return
        names = [name for name, _ in encoder.named_parameters()]
        pair = [losses["oa"], losses["kl"]]
        oa, kl = gradients_of(pair, list(encoder.parameters()))
        for stage, places in stages(names).items():
            g, h = [oa[i] for i in places], [kl[i] for i in places]
            for column, value in compared(g, h).items():
                self.seen.setdefault(f"{column}_{stage}", []).append(value)
        along = self.lr * dot(oa, kl)
        for column, loss in (("affinity_oa_to_kl", pair[1]), ("affinity_kl_to_oa", pair[0])):
            self.seen.setdefault(column, []).append(float(along / loss.detach()))

    def means(self) -> dict[str, float]:
        """Mean of each column over the batches."""
        return {name: sum(values) / len(values) for name, values in self.seen.items()}


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
