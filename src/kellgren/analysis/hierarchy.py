"""Whether the coarse and the fine head of one model agree, and what OA decisions are worth."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import xlogy

from kellgren.analysis.performance import called_kl, called_oa, of_kl_head
from kellgren.labels import OA_THRESHOLD, oa_from_kl
from kellgren.tables import Predictions

THRESHOLDS = np.round(np.arange(0.05, 0.951, 0.05), 2)


@dataclass(frozen=True)
class Consistency:
    """Agreement of the OA head with the KL head of one model.

    Attributes:
        n: Number of cases.
        agreement_argmax: Share of cases in which the OA head says what the most likely grade says.
        agreement_implied: Share in which it says what Eq. (4) at 0.5 says.
        soft_gap: Mean |probability of the OA head - probability by Eq. (4)|.
        divergence: Mean Jensen-Shannon divergence of the two, in bits, 0 to 1.
        inconsistent: Number of cases in which the head and Eq. (4) disagree.
        right_oa: How many of these the OA head calls right.
        right_kl: How many the KL head calls right; the two add up to `inconsistent`.
    """

    n: int
    agreement_argmax: float
    agreement_implied: float
    soft_gap: float
    divergence: float
    inconsistent: int
    right_oa: int
    right_kl: int


def has_two_heads(predictions: Predictions) -> bool:
    """Whether the OA prediction is another one than that implied by the KL head."""
    if predictions.prob_kl is None or predictions.oa_source == "kl":
        return False
    return not np.allclose(predictions.prob_oa, implied_oa(predictions), rtol=0, atol=1e-6)


def implied_oa(predictions: Predictions) -> Float[np.ndarray, " n"]:
    """Probability of OA that the KL head implies, Eq. (4)."""
    implied = of_kl_head(predictions.prob_kl)[:, OA_THRESHOLD:].sum(axis=1)
    return np.minimum(implied, 1.0)  # a sum of rounded probabilities may exceed 1


def consistency(predictions: Predictions) -> Consistency:
    """Compare the OA head with the KL head.

    Args:
        predictions: Of a model with both heads; all NaN and 0 where there is no case.

    Raises:
        InputError: If the model has no KL head.
    """
    n = len(predictions)
    said, implied = called_oa(predictions), implied_oa(predictions)
    truth = oa_from_kl(predictions.kl)
    differs = said != (implied >= 0.5)
    by_grade = oa_from_kl(called_kl(predictions))
    gap = np.abs(predictions.prob_oa - implied)
    divergence = jensen_shannon(predictions.prob_oa, implied)
    return Consistency(
        n=n,
        agreement_argmax=float(np.mean(said == by_grade)) if n else float("nan"),
        agreement_implied=float(np.mean(~differs)) if n else float("nan"),
        soft_gap=float(gap.mean()) if n else float("nan"),
        divergence=float(divergence.mean()) if n else float("nan"),
        inconsistent=int(differs.sum()),
        right_oa=int((differs & (said == truth)).sum()),
        right_kl=int((differs & (said != truth)).sum()),
    )


def jensen_shannon(
    p: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Jensen-Shannon divergence of two probabilities of one event, in bits.

    >>> jensen_shannon(np.array([0.0, 0.3]), np.array([1.0, 0.3]))    # opposite, equal
    array([1., 0.])
    """
    middle = (p + q) / 2
    return np.maximum(_entropy(middle) - (_entropy(p) + _entropy(q)) / 2, 0.0)


def ensemble(predictions: Predictions) -> Predictions:
    """The same model with the mean of its two OA probabilities as its OA prediction."""
    prob = (predictions.prob_oa + implied_oa(predictions)) / 2
    p = predictions
    return Predictions(p.case_id, p.kl, prob, prob, "column", p.score_kl, p.prob_kl)


def net_benefits(
    prob: Float[np.ndarray, " n"], oa: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, "n t"]:
    """Contribution of each case to the net benefit at each of `THRESHOLDS`.

    A decision curve (Vickers and Elkin 2006): one who acts at a probability of t holds a false
    alarm worth t / (1 - t) of a hit. The mean over the cases is TP / n - FP / n x t / (1 - t).

    Args:
        prob: Probability of OA; all ones is to treat everybody, all zeros nobody.
        oa: Whether the knee has OA.
    """
    acted = prob[:, None] >= THRESHOLDS
    odds = THRESHOLDS / (1 - THRESHOLDS)
    return np.asarray(acted * np.where(oa[:, None], 1.0, -odds))


def _entropy(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.asarray(-(xlogy(p, p) + xlogy(1 - p, 1 - p)) / np.log(2))
