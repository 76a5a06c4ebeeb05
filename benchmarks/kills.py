"""kill -9 at random moments: do runs end with the bits of undisturbed ones?

    PYTHONPATH=src:. python benchmarks/kills.py --runs 10 --kills 4

Each run of each backbone (small, ten knees of noise on 24x24x24, six epochs) is trained once
undisturbed, and once killed after a random share of the CPU that the first one took, started again,
killed again, and so on; the last start is left alone. After every kill every file is read. Prints
the table of docs/reliability.md. Linux; needs a C compiler.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from tests.disk import Starter, contents, starter, torn

HEAD = ("backbone", "runs", "kills", "ended before the kill", "torn files")
HEAD += ("unequal weights", "unequal files", "done twice", "seconds of CPU")
BACKBONES = ("resnet3d", "m3t", "nnmamba")


@dataclass(frozen=True)
class Count:
    """What became of one run."""

    kills: int
    early: int  # starts that ended before they were to be killed
    torn: int
    unequal_weights: int
    unequal_files: int
    twice: int
    seconds: float


def one_run(
    go: Starter, backbone: str, seed: int, scratch: Path, *, kills: int, rng: np.random.Generator
) -> Count:
    work, straight, killed = f"train:{backbone}:{seed}", scratch / "straight", scratch / "killed"
    whole = go.start(work, straight)
    assert whole.code == 0, whole.said
    done = early = broken = 0
    seconds = whole.seconds
    for _ in range(kills):
        ended = go.start(work, killed, kill_after=float(rng.uniform(0, whole.seconds)))
        assert ended.code in (0, -9), ended.said
        done, early = done + (ended.code == -9), early + (ended.code == 0)
        broken += len(torn(killed))
        seconds += ended.seconds
    last = go.start(work, killed)
    assert last.code == 0, last.said
    before, after = contents(straight), contents(killed)
    weights = next(name for name in before if name.endswith("weights.safetensors"))
    made = (killed / weights).stat().st_mtime_ns
    again = go.start(work, killed)
    return Count(
        done,
        early,
        broken + len(torn(killed)),
        int(before[weights] != after[weights]),
        len([n for n in before.keys() | after.keys() if before.get(n) != after.get(n)]),
        int(again.code != 0 or (killed / weights).stat().st_mtime_ns != made),
        seconds + last.seconds,
    )


def counts(runs: int, kills: int, scratch: Path) -> Iterator[tuple[str, list[Count]]]:
    with starter() as go:
        for i, backbone in enumerate(BACKBONES):
            rng = np.random.default_rng([0, i])
            folders = [scratch / f"{backbone}-{seed}" for seed in range(runs)]
            yield (
                backbone,
                [
                    one_run(go, backbone, seed, folder, kills=kills, rng=rng)
                    for seed, folder in enumerate(folders)
                ],
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs killed at random.")
    parser.add_argument("--runs", type=int, default=10, help="runs of each backbone")
    parser.add_argument("--kills", type=int, default=4, help="kills of each run")
    options = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |")
    print("|---" * len(HEAD) + "|")
    with tempfile.TemporaryDirectory(prefix="every kill é ") as scratch:
        for backbone, of_runs in counts(options.runs, options.kills, Path(scratch)):
            sums = [sum(column) for column in zip(*map(astuple, of_runs), strict=True)]
            cells = [str(cell) for cell in (backbone, len(of_runs), *sums[:-1], round(sums[-1]))]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
