"""Where training can be taken up again: weights, optimizer and log after the last whole epoch."""

import json
from collections.abc import Mapping

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kellgren.faults import InputError
from kellgren.files import completed
from kellgren.learn.objective import Learner
from kellgren.runs import Run
from kellgren.tables import write_csv

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
    with completed(run.checkpoint) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={"log": json.dumps(log), "asked": asked},
        )
    write_csv(run.log, pd.DataFrame(log))


def restore_checkpoint(
    run: Run,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    *,
    asked: str,
    device: torch.device,
) -> list[LogRow]:
    """Load the last checkpoint; the log so far, empty at the start.

    Raises:
        InputError: If it was made with other settings.
    """
    if not run.checkpoint.exists():
        return []
    with safe_open(run.checkpoint, framework="pt", device=str(device)) as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata["asked"] != asked:
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
    log: list[LogRow] = json.loads(metadata["log"])
    return log


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
