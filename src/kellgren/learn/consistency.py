"""Terms that pull the OA head and the KL head together, beyond Eq. (3).

The OA answer of the KL head is Eq. (4). Its logit is exact and stable:
c = log(p_2 + p_3 + p_4) - log(p_0 + p_1), never through a probability that may round to 0 or 1.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from kellgren.labels import OA_THRESHOLD

Answers = Float[Tensor, " n"]
Kl = Int[Tensor, " n"]
Term = Callable[[Answers, Float[Tensor, "n 5"], Kl], Answers]


def implied_oa(grades: Float[Tensor, "n 5"]) -> Answers:
    """Log-odds of OA that five logits of grades imply, the logit of Eq. (4)."""
    above = torch.logsumexp(grades[:, OA_THRESHOLD:], dim=1)
    return above - torch.logsumexp(grades[:, :OA_THRESHOLD], dim=1)


def marginal(oa: Answers, grades: Float[Tensor, "n 5"], kl: Kl) -> Answers:
    """Binary cross-entropy of what the KL head implies: OA supervision without an OA head."""
    target = (kl >= OA_THRESHOLD).to(grades.dtype)
    return functional.binary_cross_entropy_with_logits(implied_oa(grades), target, reduction="none")


def squared(oa: Answers, grades: Float[Tensor, "n 5"], kl: Kl) -> Answers:
    """Square of the difference of the two probabilities of OA."""
    return (torch.sigmoid(oa) - torch.sigmoid(implied_oa(grades))).square()


def jensen_shannon(oa: Answers, grades: Float[Tensor, "n 5"], kl: Kl) -> Answers:
    """Jensen-Shannon divergence of the two answers in nats, at most log 2.

    From log-probabilities; the mean of the two is found by logaddexp.
    """
    pairs = [_log_pair(x) for x in (oa, implied_oa(grades))]
    middle = torch.logaddexp(*pairs) - math.log(2)
    parts = [(torch.exp(p) * (p - middle)).sum(1) for p in pairs]
    return (parts[0] + parts[1]) / 2


def logit(oa: Answers, grades: Float[Tensor, "n 5"], kl: Kl) -> Answers:
    """Square of the difference of the two logits."""
    return (oa - implied_oa(grades)).square()


def logit_to_kl(oa: Answers, grades: Float[Tensor, "n 5"], kl: Kl) -> Answers:
    """As `logit`, but the KL head follows: no gradient reaches the OA head."""
    return logit(oa.detach(), grades, kl)


def logit_to_oa(oa: Answers, grades: Float[Tensor, "n 5"], kl: Kl) -> Answers:
    """As `logit`, but the OA head follows: no gradient reaches the KL head."""
    return logit(oa, grades.detach(), kl)


def tree_path(oa: Answers, grades: Float[Tensor, "n 5"], kl: Kl) -> Answers:
    """Divergence from the path through the hierarchy, half OA label and half grade.

    Both heads share one softmax over seven nodes (Park et al., arXiv 2406.11608).
    """
    nodes = torch.cat([torch.zeros_like(oa)[:, None], oa[:, None], grades], dim=1)
    log_q = torch.log_softmax(nodes, dim=1)
    is_oa = (kl >= OA_THRESHOLD).long()
    coarse, fine = (log_q.gather(1, i[:, None])[:, 0] for i in (is_oa, kl + 2))
    return -(coarse + fine) / 2 - math.log(2)


CONSISTENCY: dict[str, Term] = {
    "marginal": marginal,
    "squared": squared,
    "jensen_shannon": jensen_shannon,
    "logit": logit,
    "logit_to_kl": logit_to_kl,
    "logit_to_oa": logit_to_oa,
    "tree_path": tree_path,
}
"""Each term by name, one value a case."""

NEEDS_NO_OA_HEAD = frozenset({"marginal"})


def _log_pair(oa: Answers) -> Float[Tensor, "n 2"]:
    return torch.stack([functional.logsigmoid(-oa), functional.logsigmoid(oa)], dim=1)
