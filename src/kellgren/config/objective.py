"""The words for what a network is trained toward, as study files spell them."""

from typing import Literal

Arrangement = Literal["parallel", "stacked", "tied", "experts"]
"""How the OA answer comes about beside a KL head.

"parallel": a head of its own on z, Eq. (2). "stacked": a head on the KL logits, as the paper's
scripts. "tied": Eq. (4) of the KL head and nothing else. "experts": trained as "parallel", and in
prediction the mean of its logit and that of Eq. (4), a product of experts.
"""

OaLoss = Literal["bce", "softmax"]
KlLoss = Literal[
    "ce",
    "or_bce",
    "coral",
    "corn",
    "clm",
    "emd",
    "sord",
    "binomial",
    "beta",
    "cdw",
    "chen",
    "gce",
    "forward",
]
"""Losses of the KL head; see `kellgren.learn.grades`."""

Consistency = Literal[
    "none",
    "marginal",
    "squared",
    "jensen_shannon",
    "logit",
    "logit_to_kl",
    "logit_to_oa",
    "tree_path",
]
"""What is added where the heads should agree; see `kellgren.learn.consistency`."""

Balance = Literal["fixed", "uncertainty", "dwa", "famo", "pcgrad", "upgrad"]
"""How the losses are joined; see `kellgren.learn.objective`."""
