"""The KL head: ways to read five ordered grades off logits, and to judge them against one reading.

Three kinds of logits. *Grades*: five, softmaxed. *Thresholds*: four, ``f_k`` for P(KL > k), free
or ordered by construction. *Steps*: four, for P(KL > k) among those above k - 1. Whatever the kind,
`stored` gives five logits whose softmax are the probabilities of the grades, so everything behind
the head reads them alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import beta, binom
from torch import Tensor, nn
from torch.nn import functional

from kellgren.analysis.noise import reader
from kellgren.config import TrainingSettings
from kellgren.labels import KL_GRADES

THRESHOLDS = KL_GRADES - 1
LEAST = 1e-7  # probability of a grade that free thresholds give less than none

SORD_SLOPE = 1.5  # decay of the target per grade of distance
SOFT_SHARE = 0.85  # of the target that follows the soft distribution, the rest is the reading
BETA_CONCENTRATION = 12.0
CDW_POWER = 2.0
GCE_POWER = 0.7

Logits = Float[Tensor, "n _"]
Kl = Int[Tensor, " n"]
Each = Callable[[Logits, Kl], Float[Tensor, " n"]]


class OrderedThresholds(nn.Module):
    """One direction of severity and four thresholds on it that cannot cross.

    Logit k is that of P(KL > k): position on the axis minus threshold k.
    """

    below: Float[Tensor, "4 3"]

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.axis = nn.Linear(n_features, 1, bias=False)
        self.first = nn.Parameter(torch.tensor(-1.5))
        self.gaps = nn.Parameter(torch.full((THRESHOLDS - 1,), float(np.log(np.e - 1))))
        self.register_buffer("below", torch.ones(THRESHOLDS, THRESHOLDS - 1).tril(-1))

    def forward(self, z: Float[Tensor, "n f"]) -> Float[Tensor, "n 4"]:
        """Logits of the four thresholds."""
        thresholds = self.first + self.below @ functional.softplus(self.gaps)
        return self.axis(z) - thresholds


@dataclass(frozen=True)
class GradeHead:
    """One way to grade.

    Attributes:
        n_logits: Width of the head.
        each: Loss of each case; its mean is the loss.
        stored: Five logits whose softmax are the probabilities of the grades.
        head: Makes the head; None for one linear layer.
    """

    n_logits: int
    each: Each
    stored: Callable[[Logits], Float[Tensor, "n 5"]]
    head: Callable[[int], nn.Module] | None = None


def grade_head(training: TrainingSettings) -> GradeHead:
    """The KL head of the settings."""
    if training.kl_loss != "forward":
        return GRADE_HEADS[training.kl_loss]
    assert training.agreement is not None  # the settings see to it
    matrix = torch.from_numpy(reader(training.agreement)).float()
    return GradeHead(KL_GRADES, lambda logits, kl: forward(logits, kl, matrix), as_grades)


def as_grades(logits: Float[Tensor, "n 5"]) -> Float[Tensor, "n 5"]:
    """Logits of grades are what is stored."""
    return logits


def of_thresholds(logits: Float[Tensor, "n 4"]) -> Float[Tensor, "n 5"]:
    """Log-probabilities of the grades; crossing thresholds leave a grade with next to nothing."""
    above = functional.pad(torch.sigmoid(logits), (1, 0), value=1.0)
    prob = (above - functional.pad(above[:, 1:], (0, 1))).clamp_min(LEAST)
    return torch.log(prob / prob.sum(1, keepdim=True))


def of_ordered_thresholds(logits: Float[Tensor, "n 4"]) -> Float[Tensor, "n 5"]:
    """Log-probabilities of the grades, exact where probabilities would round to nothing.

    The difference of two neighbouring sigmoids is s(a) s(-b) (1 - exp(b - a)).
    """
    first, last = functional.logsigmoid(-logits[:, :1]), functional.logsigmoid(logits[:, -1:])
    upper, lower = logits[:, :-1], logits[:, 1:]
    gap = torch.log(-torch.expm1(lower - upper))
    middle = functional.logsigmoid(upper) + functional.logsigmoid(-lower) + gap
    return torch.cat([first, middle, last], dim=1)


def of_steps(logits: Float[Tensor, "n 4"]) -> Float[Tensor, "n 5"]:
    """Log-probabilities of the grades: up k steps, and then no further."""
    up, stop = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    so_far = functional.pad(up @ _up_to(logits), (1, 0))
    return so_far + functional.pad(stop, (0, 1))


def cross_entropy(logits: Logits, kl: Kl) -> Float[Tensor, " n"]:
    """-log p_y, the paper's."""
    return functional.cross_entropy(logits, kl, reduction="none")


def threshold_bce(logits: Logits, kl: Kl) -> Float[Tensor, " n"]:
    """Mean binary cross-entropy of the four questions KL > k (OR-BCE; CORAL, Cao et al. 2020)."""
    return _bce(logits, _above(kl, logits)).mean(1)


def corn(logits: Logits, kl: Kl) -> Float[Tensor, " n"]:
    """Binary cross-entropy of the steps that a case takes or stops at (Shi et al. 2021).

    Their mean over the cases is the mean over all steps asked, as the authors have it.
    """
    asked = (torch.arange(THRESHOLDS, device=kl.device) <= kl[:, None]).to(logits.dtype)
    costs = (_bce(logits, _above(kl, logits)) * asked).sum(1)
    return costs * (len(kl) / asked.sum())


def ordered_likelihood(logits: Logits, kl: Kl) -> Float[Tensor, " n"]:
    """-log p_y of a cumulative-link model (McCullagh 1980)."""
    return functional.nll_loss(of_ordered_thresholds(logits), kl, reduction="none")


def emd(logits: Logits, kl: Kl) -> Float[Tensor, " n"]:
    """Squared distance of the cumulative probabilities, the ranked probability score."""
    up_to = torch.softmax(logits, 1) @ _up_to(logits)
    reached = (kl[:, None] <= torch.arange(KL_GRADES, device=kl.device)).to(logits.dtype)
    return (up_to - reached).square().sum(1)


def soft(targets: Float[np.ndarray, "5 5"]) -> Each:
    """Cross-entropy to a distribution over grades for each reading."""
    table = torch.from_numpy(targets).float()

    def each(logits: Logits, kl: Kl) -> Float[Tensor, " n"]:
        target = table.to(logits.device, logits.dtype)[kl]
        return -(target * torch.log_softmax(logits, 1)).sum(1)

    return each


def cdw(logits: Logits, kl: Kl) -> Float[Tensor, " n"]:
    """Class-distance weighted cross-entropy (Polat et al. 2022): -sum |i - y|^a log(1 - p_i)."""
    others = torch.stack([_without(logits, i) for i in range(KL_GRADES)], dim=1)
    log_rest = others - torch.logsumexp(logits, 1, keepdim=True)
    return -(_apart(kl, logits).pow(CDW_POWER) * log_rest).sum(1)


def chen(logits: Logits, kl: Kl) -> Float[Tensor, " n"]:
    """The adjustable ordinal loss of Chen et al. (2019) for knees: weights 4, 6, 8, 10 by distance.

    Sum of the squared weighted probabilities of the wrong grades.
    """
    apart = _apart(kl, logits)
    weight = torch.where(apart > 0, 2 + 2 * apart, torch.zeros_like(apart))
    return (weight * torch.softmax(logits, 1)).square().sum(1)


def gce(logits: Logits, kl: Kl) -> Float[Tensor, " n"]:
    """Generalised cross-entropy (Zhang and Sabuncu 2018): (1 - p_y^q) / q, bounded by 1 / q."""
    log_p = torch.log_softmax(logits, 1).gather(1, kl[:, None])[:, 0]
    return (1 - torch.exp(GCE_POWER * log_p)) / GCE_POWER


def forward(logits: Logits, kl: Kl, matrix: Float[Tensor, "5 5"]) -> Float[Tensor, " n"]:
    """-log of the probability that a reader gives the grade that was read (Patrini et al. 2017)."""
    read = torch.log(matrix.to(logits.device, logits.dtype).T[kl])
    return -torch.logsumexp(torch.log_softmax(logits, 1) + read, dim=1)


def sord_targets() -> Float[np.ndarray, "5 5"]:
    """Target of each reading that decays with the distance in grades (Diaz and Marathe 2019)."""
    target = np.exp(-SORD_SLOPE * np.abs(np.subtract.outer(range(KL_GRADES), range(KL_GRADES))))
    return target / target.sum(1, keepdims=True)


def binomial_targets() -> Float[np.ndarray, "5 5"]:
    """The reading mixed with a binomial distribution around it (Liu et al. 2020)."""
    centre = (np.arange(KL_GRADES) + 0.5) / KL_GRADES
    mass = binom.pmf(np.arange(KL_GRADES)[None], KL_GRADES - 1, centre[:, None])
    return (1 - SOFT_SHARE) * np.eye(KL_GRADES) + SOFT_SHARE * mass


def beta_targets() -> Float[np.ndarray, "5 5"]:
    """The reading mixed with a beta distribution over fifths of [0, 1] (Vargas et al. 2022)."""
    centre = (np.arange(KL_GRADES)[:, None] + 0.5) / KL_GRADES
    edges = np.linspace(0, 1, KL_GRADES + 1)[None]
    below = beta.cdf(edges, BETA_CONCENTRATION * centre, BETA_CONCENTRATION * (1 - centre))
    return (1 - SOFT_SHARE) * np.eye(KL_GRADES) + SOFT_SHARE * np.diff(below, axis=1)


GRADE_HEADS: dict[str, GradeHead] = {
    "ce": GradeHead(KL_GRADES, cross_entropy, as_grades),
    "or_bce": GradeHead(THRESHOLDS, threshold_bce, of_thresholds),
    "coral": GradeHead(THRESHOLDS, threshold_bce, of_ordered_thresholds, OrderedThresholds),
    "corn": GradeHead(THRESHOLDS, corn, of_steps),
    "clm": GradeHead(THRESHOLDS, ordered_likelihood, of_ordered_thresholds, OrderedThresholds),
    "emd": GradeHead(KL_GRADES, emd, as_grades),
    "sord": GradeHead(KL_GRADES, soft(sord_targets()), as_grades),
    "binomial": GradeHead(KL_GRADES, soft(binomial_targets()), as_grades),
    "beta": GradeHead(KL_GRADES, soft(beta_targets()), as_grades),
    "cdw": GradeHead(KL_GRADES, cdw, as_grades),
    "chen": GradeHead(KL_GRADES, chen, as_grades),
    "gce": GradeHead(KL_GRADES, gce, as_grades),
}
"""Every KL head that needs nothing but its logits."""


def balanced_weights(grades: Sequence[int]) -> Float[Tensor, " 5"]:
    """Weight of each grade: the mean count over its own, 0 for a grade that no knee has."""
    counts = np.bincount(np.asarray(grades, dtype=np.int64), minlength=KL_GRADES)
    weights = np.where(counts > 0, counts.sum() / (KL_GRADES * np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(weights).float()


def _above(kl: Kl, like: Logits) -> Float[Tensor, "n 4"]:
    return (kl[:, None] > torch.arange(THRESHOLDS, device=kl.device)).to(like.dtype)


def _apart(kl: Kl, like: Logits) -> Float[Tensor, "n 5"]:
    return (kl[:, None] - torch.arange(KL_GRADES, device=kl.device)).abs().to(like.dtype)


def _bce(logits: Logits, target: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _up_to(logits: Logits) -> Float[Tensor, "k k"]:
    """Sums up to each column as a product: a cumulative sum has no deterministic form on CUDA."""
    k = logits.shape[1]
    return torch.ones(k, k, device=logits.device, dtype=logits.dtype).triu()


def _without(logits: Logits, i: int) -> Float[Tensor, " n"]:
    rest = torch.cat([logits[:, :i], logits[:, i + 1 :]], dim=1)
    return torch.logsumexp(rest, dim=1)
