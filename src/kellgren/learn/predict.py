"""What a trained network says about each knee: logits and penultimate features."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from kellgren.cohort import Case
from kellgren.learn.dataset import batches
from kellgren.learn.heads import Task, weighted_tasks
from kellgren.learn.model import HierarchicalNet, load_model, tasks_of, training_of
from kellgren.learn.train import deterministic
from kellgren.runs import Run
from kellgren.store import Store
from kellgren.tables import LOGIT_KL, Features, write_csv

COLUMNS = {"oa": ["logit_oa"], "kl": LOGIT_KL}


def predict(run: Run, store: Store, cases: Sequence[Case], *, device: torch.device) -> None:
    """Write `features.npz` and `predictions.csv` of a finished run; nothing where both stand.

    Raises:
        InputError: If the run is not trained.
    """
    if run.predictions.exists() and run.features.exists():
        return
    training = training_of(run)
    with deterministic(training.threads):
        model = load_model(run, device=device)
        tasks = list(weighted_tasks(tasks_of(run), training))
        size = training.batch_size
        z, logits = infer(model, store, cases, tasks=tasks, batch_size=size, device=device)
    keys = {
        "case_id": np.array([case.case_id for case in cases], dtype=object),
        "split": np.array([case.split for case in cases], dtype=object),
        "kl": np.array([case.kl for case in cases], dtype=np.int64),
    }
    Features(**keys, z=z).write(run.features)
    table = pd.DataFrame(keys)
    for head, names in COLUMNS.items():
        table[names] = logits.get(head, np.nan)
    write_csv(run.predictions, table)


@torch.no_grad()
def infer(
    model: HierarchicalNet,
    store: Store,
    cases: Sequence[Case],
    *,
    tasks: Sequence[Task],
    batch_size: int,
    device: torch.device,
) -> tuple[Float[np.ndarray, "n f"], dict[str, Float[np.ndarray, "n _"]]]:
    """Features and stored logits of each case, in the order of the cases, in float32."""
    features: list[Float[np.ndarray, "_ f"]] = []
    logits: dict[str, list[Float[np.ndarray, "_ _"]]] = {task.name: [] for task in tasks}
    for batch in batches(store, cases, batch_size=batch_size, device=device):
        output = model(batch.image)
        features.append(output.features.cpu().numpy())
        for task in tasks:
            logits[task.name].append(task.stored(output.logits[task.name]).cpu().numpy())
    return np.concatenate(features), {name: np.concatenate(rows) for name, rows in logits.items()}
