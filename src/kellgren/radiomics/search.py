"""Searching the sets that grade a knee: drawn, ranked by the scorer, tried, changed, classified."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from kellgren.config import RetrievalSettings
from kellgren.radiomics.inputs import Inputs
from kellgren.radiomics.outcome import OA, THRESHOLDS, Outcome
from kellgren.radiomics.rewards import REWARDS, Probed, standardised_rewards
from kellgren.radiomics.selection import Parts, balanced_weights, macro_f1
from kellgren.radiomics.sets import (
    Read,
    RetrievalNet,
    Sets,
    mutated,
    random_sets,
    set_means,
    set_shares,
)

AT_ONCE = 4
Best = Int[Tensor, "b m k"]


@dataclass(frozen=True)
class Rules:
    """Where the mended system and the released one part.

    Attributes:
        reward: The worth of a set; None for that of the settings.
        standardised: Whether rewards are compared within the sets of one knee.
        repeats: Whether a changed set may name a feature twice.
    """

    reward: str | None
    standardised: bool
    repeats: bool


RELEASED = Rules("sgd20", standardised=False, repeats=True)
MENDED = Rules(None, standardised=True, repeats=False)
OUTCOMES = {"oa": OA, "kl": THRESHOLDS}


@dataclass(frozen=True)
class Answers:
    """What the best sets of each knee say together.

    Attributes:
        outputs: Of the classifier.
        outputs_of_one: Of the classifier on the best set alone.
        z: Mean of the tokens over the sets.
        shares: How much each feature counts in that mean.
        contributions: Of each feature to the outputs, summed toward the more severe class.
    """

    outputs: Float[Tensor, "n o"]
    outputs_of_one: Float[Tensor, "n o"]
    z: Float[Tensor, "n e"]
    shares: Float[Tensor, "n f"]
    contributions: Float[Tensor, "n f"]


@dataclass(frozen=True)
class Search:
    """A network with what it is fitted to: how sets are drawn, ranked, tried and classified."""

    net: RetrievalNet
    inputs: Inputs
    outcome: Outcome
    rules: Rules
    settings: RetrievalSettings
    target: Int[Tensor, " n"]
    parts: Parts
    rng: np.random.Generator

    @cached_property
    def probed(self) -> Probed:
        """The fitted knees, on which the worth of a set is tried."""
        fitted = self.parts.fitted
        return Probed(self.inputs.x[fitted], self.target[fitted], self.outcome)

    @property
    def reward(self) -> str:
        """Name of the worth of a set."""
        return self.rules.reward or self.settings.reward

    @cached_property
    def weights(self) -> Float32[Tensor, " n"]:
        """Balanced weights of the fitted knees."""
        return balanced_weights(self.target.numpy(), self.parts.fitted)

    def loss(self, rows: Int[Tensor, " b"], epoch: int) -> Float[Tensor, ""]:
        """Sum over the knees of the error of the grading and that of the ranking."""
        read = self._read(rows)
        sets = self._candidates(read, epoch)
        scores = self.net.scores(read, sets)
        ranking = (scores - self._rewards(rows, sets)).square().mean(dim=1)
        best = _best(sets, scores, self.settings.top_m)
        outputs = self.net.classifier(set_means(read.tokens, best).mean(dim=1))
        target = self.target[rows]
        error = self.weights[rows] * self.outcome.losses(outputs, target)
        return (error + self.settings.rank_weight * ranking).sum()

    def score(self, epoch: int) -> float:
        """Macro-F1 on the validation knees, by the best of a pool of random sets."""
        pool, outputs = self._draw(self.settings.pool_size), []
        rows = torch.from_numpy(self.parts.validation)
        for some in torch.split(rows, AT_ONCE):
            read = self._read(some)
            best = self._ranked(read, pool.expand(len(some), -1, -1), self.settings.top_m)
            outputs.append(self.net.classifier(set_means(read.tokens, best).mean(dim=1)))
        return macro_f1(self.outcome, torch.cat(outputs), self.target[rows].numpy())

    def answers(self) -> Answers:
        """What the best sets of every knee say, by the weights that were kept.

        All knees are asked about the same `recall` random sets; each then changes its own best.
        """
        recalled, found = self._draw(self.settings.recall), []
        with torch.no_grad():
            for rows in torch.split(torch.arange(len(self.inputs.x)), AT_ONCE):
                read = self._read(rows)
                found.append(self._answer(read, self._retrieved(read, recalled)))
        return Answers(*(torch.cat(part) for part in zip(*found, strict=True)))

    def _answer(self, read: Read, best: Sets) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        z = set_means(read.tokens, best).mean(dim=1)
        first = set_means(read.tokens, best[:, :1])[:, 0]
        shares = set_shares(best, read.tokens.shape[1])
        parts = contributions(self.net, read, shares) @ torch.tensor(self.outcome.direction)
        return self.net.classifier(z), self.net.classifier(first), z, shares, parts

    def _read(self, rows: Int[Tensor, " b"]) -> Read:
        return self.net.read(self.inputs.seen(rows), self.inputs.x[rows])

    def _draw(self, n: int) -> Int[Tensor, "n k"]:
        return random_sets(n, self.settings.k, len(self.inputs.columns), self.rng)

    def _candidates(self, read: Read, epoch: int) -> Sets:
        """The sets that are tried for each knee: random ones, after the warm-up also the best."""
        b, k, probed = len(read.knee), self.settings.k, self.settings.probed
        if epoch < self.settings.warmup_epochs:
            return self._draw(b * probed).reshape(b, probed, k)
        best = int(probed * (1 - self.settings.exploration))
        pool = self._draw(b * self.settings.pool_size).reshape(b, -1, k)
        random, others = torch.split(
            pool, [probed - best, self.settings.pool_size - probed + best], dim=1
        )
        with torch.no_grad():
            return torch.cat([self._ranked(read, others, best), random], dim=1)

    def _rewards(self, rows: Int[Tensor, " b"], sets: Sets) -> Float[Tensor, "b n"]:
        place = torch.from_numpy(np.searchsorted(self.parts.fitted, rows.numpy()))
        knees = place.repeat_interleave(sets.shape[1])
        reward = REWARDS[self.reward]
        found = reward(self.probed, sets.flatten(0, 1), knees, self.rng).reshape(sets.shape[:2])
        return (standardised_rewards(found) if self.rules.standardised else found).float()

    def _retrieved(self, read: Read, recalled: Int[Tensor, "n k"]) -> Best:
        """The best of the recalled sets and of what changing the very best of them gives."""
        settings, features = self.settings, read.tokens.shape[1]
        kept = self._ranked(read, recalled.expand(len(read.knee), -1, -1), settings.kept)
        parents = kept[:, : settings.parents].flatten(0, 1)
        repeats = self.rules.repeats
        changed = mutated(parents, settings.mutations, features, self.rng, repeats=repeats)
        pool = torch.cat([kept, changed.reshape(len(kept), -1, settings.k)], dim=1)
        return self._ranked(read, pool, settings.final_top)

    def _ranked(self, read: Read, sets: Sets, m: int) -> Best:
        return _best(sets, self.net.scores(read, sets), m)


def contributions(
    net: RetrievalNet, read: Read, shares: Float[Tensor, "b f"]
) -> Float[Tensor, "b f o"]:
    """What each feature adds to the outputs: its share in the sets times W phi(j, v).

    Their sum over the features, plus the constant of the classifier, is the output.
    """
    return shares[:, :, None] * (read.tokens @ net.classifier.weight.T)


def _best(sets: Sets, scores: Float[Tensor, "b n"], m: int) -> Best:
    """The m sets of the highest score of each knee, the best first."""
    places = scores.topk(m, dim=1).indices
    return sets.gather(1, places[:, :, None].expand(-1, -1, sets.shape[2]))
