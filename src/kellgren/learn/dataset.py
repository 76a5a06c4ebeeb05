"""Batches of prepared knees, read ahead by one thread while the network works."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import TimeoutError
from multiprocessing.pool import AsyncResult, ThreadPool

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from kellgren.cohort import Case
from kellgren.faults import InputError
from kellgren.learn.augmentation import Changes, changed
from kellgren.store import Store
from kellgren.workers import HANG_S


@dataclass(frozen=True)
class Batch:
    """Some knees at once.

    Attributes:
        cases: The knees, in the order of the rows.
        image: z-scored volumes.
        kl: Reference KL grades.
    """

    cases: tuple[Case, ...]
    image: Float[Tensor, "n 1 d h w"]
    kl: Int[Tensor, " n"]


def epoch_order(n: int, *, seed: int, epoch: int) -> Int[np.ndarray, " n"]:
    """Order in which the cases are seen in an epoch: a pure function of seed and epoch.

    So a run that was stopped goes on with the order it would have had.
    """
    return np.random.default_rng([seed, epoch]).permutation(n)


def batches(
    store: Store,
    cases: Sequence[Case],
    *,
    batch_size: int,
    device: torch.device,
    changes: Changes | None = None,
    part: Callable[[int], slice] = slice,
) -> Iterator[Batch]:
    """The cases in the given order, `batch_size` at a time; the last batch may be smaller.

    `part` says which cases of a batch of so many are read; all, unless several processes share it.

    Where changes are given, the thread that reads ahead makes them, on the device: on a GPU they
    take nothing from the CPU, and on a CPU the network does not wait for them while a core is free.
    """
    whole = [tuple(cases[i : i + batch_size]) for i in range(0, len(cases), batch_size)]
    groups = [group[part(len(group))] for group in whole]
    # Two teams of threads on the same cores wait for each other, so who changes knees works alone.
    alone = None if changes is None else partial(torch.set_num_threads, 1)
    torch.get_num_threads()  # settles the number of this thread, which else were the reader's
    with ThreadPool(1, alone) as reader:

        def ask(group: tuple[Case, ...]) -> "AsyncResult[Batch]":
            return reader.apply_async(_read, (store, group, device, changes))

        ahead = deque(ask(group) for group in groups[:2])
        try:
            for i, group in enumerate(groups):
                batch = _answer(ahead, group)
                ahead.extend(ask(later) for later in groups[i + 2 : i + 3])
                yield batch
        finally:
            for started in ahead:  # a thread that computes while Python ends may crash it
                started.wait()


def _answer(ahead: "deque[AsyncResult[Batch]]", group: tuple[Case, ...]) -> Batch:
    """The next batch, taken from the queue once it is there."""
    try:
        batch = ahead[0].get(HANG_S)
    except TimeoutError as error:
        ahead.clear()  # nobody waits for a disk that is gone
        raise InputError(
            f"reading {', '.join(case.case_id for case in group)}",
            f"no answer from the disk for {HANG_S:g} s",
            "prepared volumes that can be read",
            "see to the disk and give the same command again",
        ) from error
    ahead.popleft()
    return batch


def _read(
    store: Store, cases: tuple[Case, ...], device: torch.device, changes: Changes | None
) -> Batch:
    half = np.stack([store.load_half(case.case_id) for case in cases])[:, None]
    kl = torch.tensor([case.kl for case in cases])
    image = _on_device(torch.from_numpy(half), device).float()
    if changes is not None:
        for knee, case in zip(image, cases, strict=True):
            spacing_mm = store.spacing_mm(case.case_id)
            knee[0] = changed(knee[0], changes(case.case_id), spacing_mm=spacing_mm)
    return Batch(cases, image, _on_device(kl, device))


def _on_device(tensor: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """A copy that a GPU makes while it computes; volumes travel as float16 and widen there."""
    source = tensor.pin_memory() if device.type == "cuda" else tensor
    return source.to(device, non_blocking=True)
