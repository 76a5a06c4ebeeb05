"""How often a reader gives the true grade, from what networks say of knees they never saw.

Confident learning (Northcutt et al. 2021, the package cleanlab) counts how often a knee that was
read as one grade is confidently given another, and takes the second for the true one. Of those
counts the one number is kept that `noise.reader` has. All that the network gets wrong counts as
wrong readings too, so the estimate is a floor, and the lower the weaker the network.
"""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float, Int

from kellgren.faults import InputError
from kellgren.labels import KL_GRADES

NEIGHBOURS = np.array([1, 2, 2, 2, 1])


@dataclass(frozen=True)
class Agreement:
    """An estimate of the exact agreement of a reader with the truth.

    Attributes:
        value: a of `noise.reader`.
        low: 2.5th percentile over resampled knees, the networks as they are.
        high: 97.5th percentile.
        beyond: Share of readings that lie two grades off or more by the same counts; a reader of
            `noise.reader` has none.
        called: Share of knees of which the most likely grade is the one that was read.
        n: Number of knees.
    """

    value: float
    low: float
    high: float
    beyond: float
    called: float
    n: int


def estimated_agreement(
    prob: Float[np.ndarray, "n 5"],
    kl: Int[np.ndarray, " n"],
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Agreement:
    """Agreement of the reader of some grades, with its interval over knees.

    Args:
        prob: Probabilities of the grades from networks that were not trained on the knee.
        kl: Grades as they were read.
        rng: Source of the resamples.
        resamples: How many.

    Raises:
        InputError: If cleanlab is not installed, or no knee was read as one of the grades.
    """
    missing = np.flatnonzero(np.bincount(kl, minlength=KL_GRADES) == 0)
    if len(missing):
        raise InputError(
            "agreement of the reader",
            f"no knee of KL grade {missing[0]}",
            "knees of all five grades",
            "state an agreement from a study of readers instead",
        )
    joint = confident_joint(prob, kl)
    drawn = (rng.integers(len(kl), size=len(kl)) for _ in range(resamples))
    values = [agreement_of(confident_joint(prob[rows], kl[rows])) for rows in drawn]
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    beyond, called = joint[_apart() > 1].sum(), (prob.argmax(axis=1) == kl).mean()
    return Agreement(agreement_of(joint), low, high, float(beyond), float(called), len(kl))


def confident_joint(
    prob: Float[np.ndarray, "n 5"], kl: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "5 5"]:
    """Share of knees by reading (rows) and true grade (columns), by confident learning.

    Raises:
        InputError: If cleanlab is not installed.
    """
    require_cleanlab()
    from cleanlab.count import estimate_joint

    return np.asarray(estimate_joint(kl, prob), dtype=np.float64)


def require_cleanlab() -> None:
    """Ask for the package before any work is done.

    Raises:
        InputError: If it is not installed.
    """
    if find_spec("cleanlab") is None:
        raise InputError(
            "agreement of the reader",
            "no cleanlab",
            "the package that counts confident errors",
            'pip install "kellgren[noise]", or state an agreement from a study of readers',
        )


def agreement_of(joint: Float[np.ndarray, "5 5"]) -> float:
    """The a for which `noise.reader` errs as often as a joint distribution does.

    A knee has one neighbouring grade or two, and each is read with probability (1 - a) / 2. So the
    share of readings one off is (1 - a) / 2 times the mean number of neighbours, which is solved
    for a; readings further off do not count.

    Args:
        joint: Share of knees by reading (rows) and true grade (columns).

    >>> from kellgren.analysis.noise import reader
    >>> round(agreement_of((np.array([[0.1, 0.2, 0.3, 0.3, 0.1]]).T * reader(0.7)).T), 6)
    0.7
    """
    near = np.where(_apart() <= 1, joint, 0.0)
    neighbours = near.sum(axis=0) @ NEIGHBOURS
    return float(1 - 2 * joint[_apart() == 1].sum() / neighbours)


def _apart() -> Int[np.ndarray, "5 5"]:
    grades = np.arange(KL_GRADES)
    return np.abs(grades[:, None] - grades)
