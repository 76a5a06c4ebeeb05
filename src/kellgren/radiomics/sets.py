"""Sets of features: drawn, changed, read as the mean of their tokens, and scored for a knee.

The token of a feature depends on the knee and on nothing else, so a knee is read once and every set
of it is a product of matrices: z_set = S tokens / k, with how often each feature stands in each set
in S. The released code of Chen et al. (arXiv 2603.02367) reads the knee again for every set.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from kellgren.radiomics.inputs import Inputs, knee_encoder

Sets = Int[Tensor, "b n k"]
Tokens = Float[Tensor, "b f e"]
WIDTHS, WIDTH = (16, 32, 64), 128
ID_WIDTH, REGION_WIDTH, KIND_WIDTH, VALUE_WIDTH = 64, 16, 32, 64
ONE_SWAP = 0.7


@dataclass(frozen=True)
class Read:
    """What a network makes of some knees; all that their sets are made of."""

    knee: Float[Tensor, "b e"]
    tokens: Tokens


class RetrievalNet(nn.Module):
    """Tokens of features, a scorer of (knee, set), and one linear layer on the mean of a set.

    Attributes:
        knees_read: How often an encoder has read a knee so far.
        tokens_read: How many tokens were computed so far.
    """

    names: Tensor

    def __init__(self, inputs: Inputs, outputs: int) -> None:
        """With random weights, for the features of the inputs."""
        super().__init__()
        regions = sorted({region for region, _ in inputs.columns})
        kinds = sorted({kind_of(feature) for _, feature in inputs.columns})
        places = [(regions.index(r), kinds.index(kind_of(f))) for r, f in inputs.columns]
        self.register_buffer("names", torch.tensor(places), persistent=False)
        self.encoder = knee_encoder(inputs, WIDTHS, WIDTH)
        self.ids = nn.Embedding(len(places), ID_WIDTH)
        self.regions = nn.Embedding(len(regions), REGION_WIDTH)
        self.kinds = nn.Embedding(len(kinds), KIND_WIDTH)
        self.value = nn.Sequential(
            nn.Linear(1, VALUE_WIDTH), nn.ReLU(), nn.Linear(VALUE_WIDTH, VALUE_WIDTH), nn.ReLU()
        )
        self.mixed = nn.Linear(ID_WIDTH + REGION_WIDTH + KIND_WIDTH + VALUE_WIDTH, WIDTH)
        self.token = nn.Linear(WIDTH, WIDTH)
        self.joined = nn.Linear(2 * WIDTH, WIDTH)
        self.scored = nn.Linear(WIDTH, 1)
        self.classifier = nn.Linear(WIDTH, outputs)
        self.knees_read = self.tokens_read = 0

    def read(self, seen: Float[Tensor, "b ..."], x: Float[Tensor, "b f"]) -> Read:
        """Read some knees.

        Args:
            seen: What the encoder reads: scans, or the features again.
            x: Standardised features.
        """
        self.knees_read += len(x)
        self.tokens_read += x.numel()
        return Read(self.encoder(seen), self._tokens(x))

    def scores(self, read: Read, sets: Sets) -> Float[Tensor, "b n"]:
        """How good each set is thought to be for its knee.

        The layer on [knee, set] is linear, so its part on the set is taken of the tokens first.
        """
        of_knee, of_set = torch.split(self.joined.weight, WIDTH, dim=1)
        knee = functional.linear(read.knee, of_knee, self.joined.bias)
        means = set_means(functional.linear(read.tokens, of_set), sets)
        return self.scored(functional.relu(knee[:, None] + means)).squeeze(2)

    def _tokens(self, x: Float[Tensor, "b f"]) -> Tokens:
        """phi(j, v): two layers on [feature, region, kind, value]; the names are read once."""
        named = torch.cat(
            [self.ids.weight, self.regions(self.names[:, 0]), self.kinds(self.names[:, 1])], dim=1
        )
        of_name, of_value = torch.split(self.mixed.weight, [named.shape[1], VALUE_WIDTH], dim=1)
        name = functional.linear(named, of_name, self.mixed.bias)
        value = functional.linear(self.value(x[:, :, None]), of_value)
        return functional.relu(self.token(functional.relu(name + value)))


def kind_of(feature: str) -> str:
    """First two parts of the name of a feature, its image type and class.

    >>> kind_of("original_glcm_Contrast")
    'original_glcm'
    """
    return "_".join(feature.split("_")[:2])


def set_means(tokens: Tokens, sets: Sets) -> Float[Tensor, "b n e"]:
    """z_set = S tokens / k; a feature that stands in a set twice counts twice.

    S is as good as empty (25 of 535), so its product is taken as the sum of the rows it names.
    """
    b, features, width = tokens.shape
    n, k = sets.shape[1:]
    rows = sets + features * torch.arange(b)[:, None, None]
    sums = functional.embedding_bag(rows.reshape(b * n, k), tokens.reshape(-1, width), mode="sum")
    return sums.reshape(b, n, width) / k


def set_shares(sets: Sets, features: int) -> Float[Tensor, "b f"]:
    """Share of each feature in all that the sets of a knee name together; a row sums to 1.

    >>> set_shares(torch.tensor([[[0, 1], [1, 2]]]), 3).tolist()
    [[0.25, 0.5, 0.25]]
    """
    named = sets.flatten(1)
    ones = torch.ones(named.shape)
    return torch.zeros(len(sets), features).scatter_add(1, named, ones) / named.shape[1]


def random_sets(n: int, k: int, features: int, rng: np.random.Generator) -> Int[Tensor, "n k"]:
    """Draw n random sets of k different features.

    As many as go without overlap are cut from one shuffle of all features, so that every feature is
    drawn about equally often.

    >>> random_sets(1, 3, 3, np.random.default_rng(0)).sort().values.tolist()
    [[0, 1, 2]]
    """
    each = features // k
    shuffles = np.tile(np.arange(features), (-(-n // each), 1))
    drawn = rng.permuted(shuffles, axis=1)[:, : each * k].reshape(-1, k)[:n]
    return torch.from_numpy(drawn)


def mutated(
    parents: Int[Tensor, "p k"],
    times: int,
    features: int,
    rng: np.random.Generator,
    *,
    repeats: bool,
) -> Int[Tensor, "m k"]:
    """Each parent `times` over, with one random feature exchanged, or two (3 in 10).

    Args:
        parents: Sets; `features` must exceed k by 2.
        times: Children of each.
        features: How many features there are.
        rng: Decides what is exchanged.
        repeats: True if a new feature may be one that the set has already, as released.
    """
    children = parents.repeat_interleave(times, dim=0).numpy().copy()
    m, k = children.shape
    first = rng.integers(k, size=m)
    second = (first + 1 + rng.integers(max(k - 1, 1), size=m)) % k  # another place, if there is
    new = rng.integers(features, size=(m, 2)) if repeats else _outsiders(children, features, rng)
    rows, twice = np.arange(m), rng.random(m) >= ONE_SWAP
    children[rows, first] = new[:, 0]
    children[rows[twice], second[twice]] = new[twice, 1]
    return torch.from_numpy(children)


def _outsiders(
    sets: Int[np.ndarray, "m k"], features: int, rng: np.random.Generator
) -> Int[np.ndarray, "m 2"]:
    """Two different features that are not in the set, of each set."""
    m, k = sets.shape
    one = rng.integers(features - k, size=m)
    other = rng.integers(features - k - 1, size=m)
    ranks = np.stack([one, other + (other >= one)], axis=1)
    # The r-th feature outside is r plus the members that stand before it.
    before = np.sort(sets, axis=1) - np.arange(k)
    return np.asarray(ranks + (before[:, None] <= ranks[:, :, None]).sum(axis=2))
