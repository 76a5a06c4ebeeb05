"""Who gets which grade: the mix of true grades, and a reader who does not always agree."""

import numpy as np
from jaxtyping import Int

from kellgren.faults import InputError
from kellgren.labels import KL_GRADES

GRADE_MIX = {"train": (82, 46, 86, 111, 58), "test": (21, 12, 22, 28, 15)}


def true_grades(count: int, mix: tuple[int, ...]) -> Int[np.ndarray, " n"]:
    """True KL grades of `count` knees in the proportions of `mix`, ascending (section 3.2).

    Rounded by largest remainder, ties to the lower grade; from five knees on every grade has at
    least one, taken from the most frequent grade.

    >>> true_grades(7, (82, 46, 86, 111, 58))
    array([0, 1, 2, 2, 3, 3, 4])

    Raises:
        InputError: If `count` is negative.
    """
    if count < 0:
        raise InputError("number of knees", str(count), "0 or more", "correct it")
    share = count * np.asarray(mix) / sum(mix)
    cases = np.floor(share).astype(np.int64)
    order = np.argsort(-(share - cases), kind="stable")
    cases[order[: count - cases.sum()]] += 1
    while count >= KL_GRADES and (cases == 0).any():
        cases[np.argmax(cases)] -= 1
        cases[np.argmin(cases)] += 1
    return np.repeat(np.arange(KL_GRADES), cases)


def read_grade(true_kl: int, agreement: float, *, rng: np.random.Generator) -> int:
    """The KL grade that a reader gives to a knee of a true grade.

    The true grade is kept with probability `agreement`; else one of the two adjacent grades is
    given, each as often. Grades 0 and 4 have one neighbour, which is therefore given half as often:
    they are kept with probability (1 + agreement) / 2.
    """
    step = rng.choice([-1, 0, 1], p=[(1 - agreement) / 2, agreement, (1 - agreement) / 2])
    return int(np.clip(true_kl + step, 0, KL_GRADES - 1))
