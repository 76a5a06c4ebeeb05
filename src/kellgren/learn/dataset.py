"""Batches of prepared knees, read ahead by one thread while the network works."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kellgren.cohort import Case
from kellgren.store import Prepared, Store


@dataclass(frozen=True)
class Batch:
    """Some knees at once.

    Attributes:
        cases: The knees, in the order of the rows.
        prepared: What the store holds of each.
        image: z-scored volumes.
        kl: Reference KL grades.
    """

    cases: tuple[Case, ...]
    prepared: tuple[Prepared, ...]
    image: Float[Tensor, "n 1 d h w"]
    kl: Int[Tensor, " n"]


def epoch_order(n: int, *, seed: int, epoch: int) -> Int[np.ndarray, " n"]:
    """Order in which the cases are seen in an epoch: a pure function of seed and epoch.

    So a run that was stopped goes on with the order it would have had.
    """
    return np.random.default_rng([seed, epoch]).permutation(n)


def batches(
    store: Store, cases: Sequence[Case], *, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    """The cases in the given order, `batch_size` at a time; the last batch may be smaller."""
    groups = [tuple(cases[i : i + batch_size]) for i in range(0, len(cases), batch_size)]
    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = [reader.submit(_read, store, group, device) for group in groups[:2]]
        for i in range(len(groups)):
            batch = ahead.pop(0).result()
            if i + 2 < len(groups):
                ahead.append(reader.submit(_read, store, groups[i + 2], device))
            yield batch


def _read(store: Store, cases: tuple[Case, ...], device: torch.device) -> Batch:
    prepared = tuple(store.load(case.case_id) for case in cases)
    image = torch.from_numpy(np.stack([p.image for p in prepared])[:, None])
    kl = torch.tensor([case.kl for case in cases])
    return Batch(cases, prepared, image.to(device), kl.to(device))
