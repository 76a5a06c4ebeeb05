"""Simulate what `kellgren agreement` finds by how well the networks know the true grade.

Run from the root of the repository:

    python benchmarks/agreement.py --knees 383 --draws 20

A network of error s guesses the true grade plus a deviation of s grades (SD), and states the
probabilities that follow; a reader of `kellgren.analysis.noise.reader` gave the labels.
"""

import argparse

import numpy as np

from kellgren.analysis.agreement import agreement_of, confident_joint
from kellgren.analysis.noise import read_again, reader

SHARES = np.array([82, 46, 86, 111, 58]) / 383  # grades of the training knees of OAIZIB-CM
AGREEMENTS = (0.6, 0.7, 0.8, 0.9, 1.0)
ERRORS = (0.1, 0.25, 0.5, 0.75)


def simulated(
    n: int, agreement: float, error: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    true = rng.choice(5, n, p=SHARES)
    guess = true + rng.normal(0, error, n)
    like = SHARES * np.exp(-((guess[:, None] - np.arange(5)) ** 2) / (2 * error**2))
    prob = like / like.sum(axis=1, keepdims=True)
    kl = read_again(true, agreement=agreement, draws=1, rng=rng)[:, 0]
    return prob @ reader(agreement), kl, float((prob.argmax(axis=1) == true).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--knees", type=int, default=383)
    parser.add_argument("--draws", type=int, default=20)
    asked = parser.parse_args()
    titles = " | ".join(f"agreement {a:g}" for a in AGREEMENTS)
    print(f"| error of the network, grades | right about the truth | {titles} |")
    print("| --- " * (2 + len(AGREEMENTS)) + "|")
    for error in ERRORS:
        cells, right = [], []
        for agreement in AGREEMENTS:
            found = []
            for draw in range(asked.draws):
                rng = np.random.default_rng([draw, int(100 * error)])
                prob, kl, known = simulated(asked.knees, agreement, error, rng)
                found.append(agreement_of(confident_joint(prob, kl)))
                right.append(known)
            cells.append(f"{np.mean(found):.2f} ± {np.std(found):.2f}")
        print(f"| {error:g} | {np.mean(right):.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
