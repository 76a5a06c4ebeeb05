"""Which features a system chooses for knees, and whether it tells knees apart in choosing."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

MOST = 10


def usage(columns: Sequence[tuple[str, str]], shares: Float[Tensor, "m f"]) -> dict[str, Any]:
    """What `run.json` says of the features that the test knees use.

    Args:
        columns: Region and feature of each column.
        shares: How much each feature counts for each knee; a row sums to 1.

    Returns:
        How many features there are, how many any knee, every knee and the mean knee uses, the mean
        of `in_common`, and the most used with the share of the knees that use them.
    """
    used = shares > 0
    knees = used.double().mean(dim=0)
    first = knees.argsort(descending=True, stable=True)[:MOST].tolist()
    return {
        "features": len(columns),
        "used_for_any_test_knee": int((knees > 0).sum()),
        "used_for_every_test_knee": int((knees == 1).sum()),
        "used_for_a_test_knee": float(used.sum(dim=1).double().mean()),
        "in_common_of_two_test_knees": in_common(shares),
        "used_most": [[*columns[j], float(knees[j])] for j in first],
    }


def in_common(shares: Float[Tensor, "m f"]) -> float:
    """Mean over pairs of knees of the share of what they use that both use; 1 for a single knee.

    >>> in_common(torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]))
    0.5
    """
    apart = torch.pdist(shares.double(), p=1)
    return 1 - float(apart.mean()) / 2 if len(apart) else 1.0
