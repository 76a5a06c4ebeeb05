"""Where training can be taken up again: weights, optimizer and log after the last whole epoch.

The checkpoint before the last is kept, too: should a disk damage the last one, training goes on
from there and ends with the same bits.
"""

import logging
from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from kellgren.faults import InputError
from kellgren.files import writable
from kellgren.learn.objective import Learner
from kellgren.runs import Run
from kellgren.sealed import Sealed, read_sealed, write_sealed
from kellgren.tables import write_csv

_log = logging.getLogger(__name__)
LogRow = dict[str, int | float]


def save_checkpoint(
    run: Run,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    *,
    log: list[LogRow],
    asked: str,
) -> None:
    """Write weights, optimizer and log of the last whole epoch, and `log.csv`."""
    tensors = learner.state_dict()
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(t) for name, t in state.items()}
    # The log first: a start that finds the last epoch in the checkpoint writes no log any more.
    write_csv(run.log, pd.DataFrame(log))
    held = {name: tensor.contiguous().cpu().numpy() for name, tensor in tensors.items()}
    if run.checkpoint.exists():
        with writable(run.checkpoint):
            run.checkpoint.replace(run.earlier_checkpoint)
    write_sealed(run.checkpoint, held, {"log": log, "asked": asked})


def restore_checkpoint(
    run: Run,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    *,
    asked: str,
    device: torch.device,
) -> list[LogRow]:
    """Load the last whole checkpoint; the log so far, empty at the start.

    Raises:
        InputError: If it was made with other settings, or none of those that stand there is whole.
    """
    sealed = _last_whole(run)
    if sealed is None:
        return []
    tensors = {n: torch.from_numpy(array).to(device) for n, array in sealed.tensors.items()}
    if sealed.record["asked"] != asked:
        raise InputError(
            str(run.checkpoint),
            "a checkpoint of other settings",
            "one of the settings in run.json",
            "delete this run to train it anew",
        )
    learned = {n: t for n, t in tensors.items() if not n.startswith("optimizer.")}
    learner.load_state_dict(learned)
    states: dict[int, dict[str, Tensor]] = {}
    parameters = list(learner.parameters())
    for name, tensor in _with_prefix(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        # A fused update walks weights and moments in the order in which they lie in memory.
        laid_out = torch.empty_like(parameters[int(index)])
        states.setdefault(int(index), {})[key] = (
            tensor.cpu() if key == "step" else laid_out.copy_(tensor)
        )
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    log: list[LogRow] = sealed.record["log"]
    return log


def forget_checkpoints(run: Run) -> None:
    """Remove the checkpoints of a run whose training is over."""
    with writable(run.checkpoint):
        for path in (run.checkpoint, run.earlier_checkpoint):
            path.unlink(missing_ok=True)


def _last_whole(run: Run) -> Sealed | None:
    """The last checkpoint, or the one before where that is damaged; None where there is none."""
    standing = [path for path in (run.checkpoint, run.earlier_checkpoint) if path.exists()]
    for i, path in enumerate(standing, start=1):
        try:
            return read_sealed(path, todo="remove it to train this run anew")
        except InputError as error:
            if i == len(standing):
                raise
            _log.warning("%s; going on from the checkpoint before it", error)
            path.unlink(missing_ok=True)  # another process of a group may have been faster
    return None


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
