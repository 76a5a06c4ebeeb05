"""Feature-set retrieval: for each knee a scorer ranks many sets of k features; the best grade it.

After the released code of Chen et al. (arXiv 2603.02367). Their scorer reads the scan. Where a
study has no scans, it reads the knee's standardised features through one linear layer instead.

The outputs are linear in the mean of the tokens of a set, so what each feature contributes to them
is exact: its share in the sets, times W phi(j, v).
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kellgren.config import RetrievalSettings
from kellgren.learn.train import deterministic
from kellgren.radiomics.inputs import Inputs, check_k
from kellgren.radiomics.rewards import shares_of_set
from kellgren.radiomics.search import MENDED, OUTCOMES, RELEASED, Answers, Rules, Search
from kellgren.radiomics.selection import (
    Chosen,
    Parts,
    Schedule,
    fit_and_select,
    macro_f1,
    record_of,
)
from kellgren.radiomics.sets import RetrievalNet
from kellgren.radiomics.systems import EVIDENCE, Fitted, Material, Watch
from kellgren.radiomics.usage import usage


def retrieval(material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    """Feature-set retrieval with a reward that sets differ in.

    The rewards are those of `retrieval.reward`, standardised over the sets of a knee; a changed set
    never names a feature twice.
    """
    return _fit(material, task, MENDED, seed=seed, watch=watch)


def retrieval_released(material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    """Feature-set retrieval as released: a reward of 20 knees after 10 steps, and repeats."""
    return _fit(material, task, RELEASED, seed=seed, watch=watch)


def _fit(material: Material, task: str, rules: Rules, *, seed: int, watch: Watch) -> Fitted:
    settings, parts = material.settings.retrieval, Parts.of(material, task)
    inputs = Inputs.of(material, parts.fitted, image=settings.image)
    check_k(settings.k, inputs, "radiomics.retrieval.k", spare=2)
    with deterministic(1):
        torch.manual_seed(seed)
        outcome, target = OUTCOMES[task], torch.from_numpy(material.target(task))
        net = RetrievalNet(inputs, outcome.outputs)
        rng = np.random.default_rng(seed)
        search = Search(net, inputs, outcome, rules, settings, target, parts, rng)
        chosen = fit_and_select(
            net,
            parts.fitted,
            _schedule(settings),
            loss=search.loss,
            score=search.score,
            seed=seed,
            watch=watch,
        )
        found = search.answers()
    test = material.rows("test")
    return Fitted(
        logits=outcome.read(found.outputs),
        z=found.z.double().numpy(),
        evidence=_evidence(inputs, found.contributions[test]),
        record=_record(search, chosen, found, test),
    )


def released_sets(settings: RetrievalSettings, *, fitted: int, validation: int, asked: int) -> int:
    """How many sets the released scheme reads a knee for, each time through the whole network.

    Args:
        settings: How many sets are drawn, and when.
        fitted: Knees of every epoch.
        validation: Knees that are graded after every epoch.
        asked: Knees that are graded in the end.
    """
    warm = min(settings.warmup_epochs, settings.epochs)
    later = (settings.epochs - warm) * (settings.pool_size + settings.probed)
    training = fitted * (warm * settings.probed + later)
    choosing = validation * settings.epochs * settings.pool_size
    return training + choosing + asked * (settings.recall + settings.parents * settings.mutations)


def _schedule(settings: RetrievalSettings) -> Schedule:
    never = settings.epochs
    return Schedule(
        settings.epochs,
        0,
        never,
        settings.batch_size,
        settings.lr,
        settings.weight_decay,
    )


def _passes(search: Search) -> dict[str, Any]:
    """Passes through the network that were made, beside those of the released scheme."""
    settings, net, parts = search.settings, search.net, search.parts
    sets = released_sets(
        settings,
        fitted=len(parts.fitted),
        validation=len(parts.validation),
        asked=len(search.target),
    )
    return {
        "knees_read": net.knees_read,
        "tokens_read": net.tokens_read,
        "knees_read_as_released": sets,
        "tokens_read_as_released": sets * settings.k,
        "times_fewer_knees": sets / net.knees_read,
        "times_fewer_tokens": sets * settings.k / net.tokens_read,
    }


def _evidence(inputs: Inputs, contributed: Float[Tensor, "m f"]) -> pd.DataFrame:
    """Mean over the knees of what each feature contributes toward the more severe class."""
    table = pd.DataFrame(inputs.columns, columns=EVIDENCE[:2])
    return table.assign(weight=contributed.mean(dim=0).double().numpy())


def _record(
    search: Search, chosen: Chosen, found: Answers, test: Int[np.ndarray, " m"]
) -> dict[str, Any]:
    """What was chosen, what the reward was worth, and what fewer sets or passes do."""
    settings = search.settings
    tops = {settings.final_top: found.outputs, 1: found.outputs_of_one}
    rows = {"validation": search.parts.validation, "test": test}
    return {
        **record_of(search.parts, chosen),
        "scorer_reads": "the scan" if settings.image else "the standardised features, not the scan",
        "reward": search.reward,
        "share_of_reward_due_to_set": shares_of_set(search.probed, settings.k),
        "final_top": {
            str(n): {part: _quality(search, tops[n], rows[part]) for part in rows} for n in tops
        },
        **usage(search.inputs.columns, found.shares[test]),
        "passes": _passes(search),
    }


def _quality(
    search: Search, outputs: Float[Tensor, "n o"], rows: Int[np.ndarray, " m"]
) -> dict[str, float]:
    target = search.target[rows].numpy()
    right = search.outcome.called(outputs[rows]) == target
    return {
        "accuracy": float(right.mean()),
        "macro_f1": macro_f1(search.outcome, outputs[rows], target),
    }
