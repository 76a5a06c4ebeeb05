"""Where one new knee lies among the knees that a network was trained on, by its features."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from kellgren.analysis.geometry import oriented, principal_axis
from kellgren.faults import InputError
from kellgren.tables import Features

NEAREST = 3
STRANGE = 0.99  # of the training knees lie closer to another one


@dataclass(frozen=True)
class Neighbour:
    """A training knee near a new one.

    Attributes:
        case_id: The knee.
        kl: Its reference grade.
        distance: Euclidean, between the features.
    """

    case_id: str
    kl: int
    distance: float


@dataclass(frozen=True)
class Place:
    """A new knee among the training knees.

    Attributes:
        n: Number of training knees.
        position: Share of them that lie lower on the severity axis (PC1, fitted on them and turned
            so that it rises with the grade), ties counting half.
        nearest: The nearest of them, nearest first.
        strangeness: Share of them whose own nearest fellow is closer than the nearest one here.
    """

    n: int
    position: float
    nearest: tuple[Neighbour, ...]
    strangeness: float


def place_among(train: Features, z: Float[np.ndarray, " f"]) -> Place:
    """Where the features of one knee lie among those of the training knees.

    Args:
        train: Training knees of the same network.
        z: Features of the new knee.

    Raises:
        InputError: If there are fewer than two training knees, or z has another length.
    """
    if len(train.kl) < 2 or train.z.shape[1] != len(z):
        raise InputError(
            "features.npz",
            f"{len(train.kl)} training knees with {train.z.shape[1]} features",
            f"at least two with {len(z)}",
            "predict with this run again",
        )
    axis = oriented(principal_axis(train.z), train)
    mine, theirs = float(axis.score(z[None])[0]), axis.score(train.z)
    apart = cdist(z[None], train.z)[0]
    among = cdist(train.z, train.z)
    np.fill_diagonal(among, np.inf)
    order = np.argsort(apart, kind="stable")[:NEAREST]
    nearest = (Neighbour(str(train.case_id[i]), int(train.kl[i]), float(apart[i])) for i in order)
    return Place(
        len(theirs),
        float(np.mean(theirs < mine) + np.mean(theirs == mine) / 2),
        tuple(nearest),
        float(np.mean(among.min(axis=1) < apart.min())),
    )
