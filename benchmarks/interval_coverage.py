"""Simulate how often the intervals of what features say hold what they should.

Run from the root of the repository:

    python benchmarks/interval_coverage.py --data-sets 300

Each data set is 98 knees and the features of two networks that see the same severity. An interval
should hold the mean of the measure over many such data sets in 95 of 100. Both kinds of interval
are tried on every measure; the tables of a study use the one that is marked.
"""

import argparse
from collections.abc import Callable

import numpy as np

from kellgren.analysis.jackknife import jackknife_interval, left_out
from kellgren.analysis.ordering import refitted_scores, sampled_order
from kellgren.analysis.representation import (
    sampled_dimensions,
    sampled_similarity,
    sampled_straightness,
    sampled_triplet_order,
)
from kellgren.analysis.resampling import resample
from kellgren.analysis.similarity import sampled_cka, sampled_debiased_cka
from kellgren.tables import Features

GRADES = np.repeat(np.arange(5), [21, 12, 22, 28, 15])
N = len(GRADES)
ALL = np.ones((N, 1), dtype=np.int16)
SCENES = {"little noise": (64, 0.4), "much noise": (256, 1.5)}  # features; noise of each
BY_JACKKNIFE = ("straightness", "participation_ratio", "effective_rank", "cka")
TRUTHS = 1000  # data sets whose mean is what an interval should hold
DataSet = tuple[Features, np.ndarray]  # of one network; the features of the other


def data_sets(scene: str, *, seed: int) -> Callable[[int], DataSet]:
    """Severity and six nuisances, mixed by each network in its own way and cut at zero."""
    f, noise = SCENES[scene]
    mixing = 3 * np.random.default_rng(seed).normal(size=(2, 8, f)) / np.sqrt(f)

    def made(i: int) -> DataSet:
        rng = np.random.default_rng([seed, i])
        kl = rng.choice(GRADES, N)
        severity = kl + rng.normal(scale=0.8, size=N)
        nuisances = rng.normal(size=(N, 6)) * [1.5, 1, 0.7, 0.5, 0.3, 0.2]
        causes = np.column_stack([severity, np.maximum(severity - 2, 0), nuisances])
        z, other = np.maximum(causes @ mixing + noise * rng.normal(size=(2, N, f)), 0)
        ids = np.arange(N).astype(str).astype(object)
        return Features(ids, np.full(N, "test", dtype=object), kl, z), other

    return made


def measures(data: DataSet, counts: np.ndarray) -> dict[str, np.ndarray]:
    cases, other = data
    z, kl, rng = cases.z, cases.kl, np.random.default_rng(0)
    along_pc1 = sampled_order(refitted_scores(cases, counts), kl, counts)
    return {
        **{f"{name}, PC1 refitted": values for name, values in along_pc1.items()},
        "triplet_order": sampled_triplet_order(z, kl, counts, rng=rng),
        "similarity_rho": sampled_similarity(z, kl, counts, rng=rng),
        "straightness": sampled_straightness(z, kl, counts),
        **sampled_dimensions(z, counts),
        "cka": sampled_cka(z, other, counts),
        "cka_debiased": sampled_debiased_cka(z, other, counts),
    }


def intervals(data: DataSet, rng: np.random.Generator) -> dict[str, list[tuple[float, float]]]:
    """Of each measure the percentile interval and that of the jackknife."""
    drawn, once = resample(N, resamples=400, rng=rng), measures(data, ALL)
    sampled, kept = measures(data, drawn.counts), measures(data, left_out(N, rng=rng))
    return {
        name: [drawn.interval(sampled[name]), jackknife_interval(float(value[0]), kept[name])]
        for name, value in once.items()
    }


def print_coverage(scene: str, *, count: int, seed: int = 7) -> None:
    made = data_sets(scene, seed=seed)
    each = [measures(made(i), ALL) for i in range(TRUTHS)]
    truth = {name: np.array([found[name][0] for found in each]) for name in each[0]}
    rng = np.random.default_rng(seed)
    found = [intervals(made(TRUTHS + i), rng) for i in range(count)]
    for name, values in truth.items():
        low, high = np.array([one[name] for one in found]).transpose(2, 0, 1)
        held = np.where(np.isnan(low), np.nan, (low <= values.mean()) & (values.mean() <= high))
        width = np.nanmean(high - low, axis=0) / (3.92 * values.std())
        used = [
            f"**{h:.3f}**" if (name in BY_JACKKNIFE) == bool(k) else f"{h:.3f}"
            for k, h in enumerate(np.nanmean(held, axis=0))
        ]
        print(
            f"| {scene} | {name} | {values.mean():.3f} | {used[0]} | {width[0]:.2f}"
            f" | {used[1]} | {width[1]:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-sets", type=int, default=300)
    asked = parser.parse_args()
    print("| scene | measure | mean | percentile | its width | jackknife | its width |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for scene in SCENES:
        print_coverage(scene, count=asked.data_sets)


if __name__ == "__main__":
    main()
