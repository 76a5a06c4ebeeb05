"""t-SNE pictures of the features (Fig. 4). Qualitative only: distances in them mean little."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kellgren.faults import InputError

FEWEST_CASES = 4
NEIGHBOURS = 10


@dataclass(frozen=True)
class Embedding:
    """Places of the cases in a plane.

    Attributes:
        place: Coordinates, without unit.
        kl_divergence: What t-SNE minimised: how far the neighbourhoods in the plane are from
            those among the features (Kullback-Leibler, in nats).
        trustworthiness: Share of ranks kept among the 10 nearest in the plane, 0 to 1 (Venna and
            Kaski 2001); NaN with 20 cases or fewer, for which it is not defined.
    """

    place: Float[np.ndarray, "n 2"]
    kl_divergence: float
    trustworthiness: float


def embed(z: Float[np.ndarray, "n f"], *, seed: int) -> Embedding:
    """Place the cases in a plane by t-SNE, starting from their first two principal axes.

    The paper does not state its settings; the perplexity is 30, or a third of the other cases
    where there are fewer than 91. All NaN where the features do not vary.

    Args:
        z: Features; a single feature is placed with a second one of zeros.
        seed: The same seed gives the same picture on the same machine.

    Raises:
        InputError: With fewer than four cases.
    """
    from sklearn.manifold import TSNE

    if len(z) < FEWEST_CASES:
        raise InputError(
            "the t-SNE picture", f"{len(z)} cases", f"at least {FEWEST_CASES}", "use more cases"
        )
    if np.ptp(z, axis=0).max() == 0:
        return Embedding(np.full((len(z), 2), np.nan), float("nan"), float("nan"))
    wide = z if z.shape[1] > 1 else np.hstack([z, np.zeros_like(z)])
    tsne = TSNE(perplexity=min(30.0, (len(z) - 1) / 3), init="pca", random_state=seed)
    place = tsne.fit_transform(wide.astype(np.float64)).astype(np.float64)
    return Embedding(place, float(tsne.kl_divergence_), kept_neighbours(wide, place))


def kept_neighbours(
    z: Float[np.ndarray, "n f"], place: Float[np.ndarray, "n g"], *, neighbours: int = NEIGHBOURS
) -> float:
    """Trustworthiness of a picture (Venna and Kaski 2001); NaN with too few cases.

    1 where the nearest in the picture are the nearest among the features, lower for each that is
    not, by how far down it ranks there. Not defined with 2 x neighbours cases or fewer.
    """
    from sklearn.manifold import trustworthiness

    if len(z) <= 2 * neighbours:
        return float("nan")
    return float(trustworthiness(z, place, n_neighbors=neighbours))
