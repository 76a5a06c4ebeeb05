"""A disk that fails, and a process that is killed, at every write, fsync and rename of a study.

    PYTHONPATH=src:. python benchmarks/crashes.py
    PYTHONPATH=src:. python benchmarks/crashes.py --steps report --stride 25

Each step of a tiny study is started from what the steps before it left, fails at its n-th call, is
started again, and must leave what an undisturbed study leaves. Prints the table of
docs/reliability.md. Linux; needs a C compiler.
"""

import argparse
import tempfile
from pathlib import Path

from tests.disk import FAILURES, STEPS, Snapshots, starter

HEAD = ("step", "what happens", "calls", "tried", "told in one line", "killed", "torn files")
HEAD += ("unequal after the second start", "seconds of CPU")


def row(taken: Snapshots, step: str, failure: str, stride: int) -> list[object]:
    calls = taken.calls(step, failure)
    tried = [taken.fail(step, failure, n) for n in range(1, calls + 1, stride)]
    for one in tried:
        if one.torn or one.unequal or one.code not in (2, -9):
            print(f"<!-- {step}, {failure}: {one} -->", flush=True)
    return [
        *(step, failure, calls, len(tried)),
        sum(one.code == 2 and one.said.startswith("error: ") for one in tried),
        sum(one.code == -9 for one in tried),
        sum(len(one.torn) for one in tried),
        sum(bool(one.unequal) for one in tried),
        round(sum(one.seconds for one in tried)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Every write, fsync and rename fails once.")
    parser.add_argument("--steps", nargs="+", default=STEPS, choices=[*STEPS, "report"])
    parser.add_argument("--failures", nargs="+", default=list(FAILURES), choices=list(FAILURES))
    parser.add_argument("--stride", type=int, default=1, help="every so many calls")
    options = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    with tempfile.TemporaryDirectory() as scratch, starter() as go:
        steps = [*STEPS, "report"] if "report" in options.steps else STEPS
        taken = Snapshots.take(go, Path(scratch), steps)
        for step in options.steps:
            for failure in options.failures:
                cells = row(taken, step, failure, options.stride)
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
