"""Share of the variance of a reward of feature-set retrieval that is due to the set of features.

    python benchmarks/radiomics_reward.py studies/benchmark.toml
    python benchmarks/radiomics_reward.py studies/benchmark.toml --sets 400 --draws 100

Prints the table of docs/top-k-and-retrieval.md, on the training knees that a system is fitted to.
The study names the cohort and the tables of features.
"""

import argparse
from pathlib import Path

import torch

from kellgren.config import read_study
from kellgren.engine import Workplace, material
from kellgren.radiomics.inputs import Inputs
from kellgren.radiomics.rewards import REWARDS, Probed, shares_of_set
from kellgren.radiomics.search import OUTCOMES
from kellgren.radiomics.selection import Parts


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("study", type=Path)
    words.add_argument("--sets", type=int, default=100)
    words.add_argument("--draws", type=int, default=40)
    options = words.parse_args()
    torch.set_num_threads(1)
    place = Workplace(read_study(options.study), Path(), torch.device("cpu"))
    knees = material(place, place.cohort())
    print(f"| task | {' | '.join(REWARDS)} |\n|---|{'---|' * len(REWARDS)}")
    for task, outcome in OUTCOMES.items():
        fitted = Parts.of(knees, task).fitted
        x = Inputs.of(knees, fitted, image=False).x[fitted]
        probed = Probed(x, torch.from_numpy(knees.target(task)[fitted]), outcome)
        k = knees.settings.retrieval.k
        shares = shares_of_set(probed, k, sets=options.sets, draws=options.draws)
        print(f"| {task} | {' | '.join(f'{shares[name]:.3f}' for name in REWARDS)} |")


if __name__ == "__main__":
    main()
