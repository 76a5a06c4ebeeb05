"""Ray on one machine: how fast, and what a kill of a worker, of a node or of the driver changes.

Needs the extra `ray`. The study is studies/phantom.toml with fewer knees and epochs, one thread a
run, without saliency.

    python benchmarks/on_ray.py speed
    python benchmarks/on_ray.py kills
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch

from kellgren.cluster import carry_out
from kellgren.config import read_study
from kellgren.engine import Workplace, begin_study, do_run
from kellgren.jobs import jobs_of
from kellgren.progress import Advance

PHANTOM = Path(__file__).parents[1] / "studies" / "phantom.toml"


@dataclass(frozen=True)
class Journal:
    """A stage that notes every step: time, process, what, how many steps are done."""

    path: Path

    @contextmanager
    def __call__(self, title: str, total: int) -> Iterator[Advance]:
        """Note each step that is reported, and the end."""
        yield lambda done, note: self.note(title, done)
        self.note(f"end {title}", total)

    def note(self, title: str, done: int) -> None:
        """Add a line."""
        line = f"{time.time():.3f}\t{os.getpid()}\t{title}\t{done}\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def steps(self) -> list[tuple[float, int, str, int]]:
        """Every step of training so far."""
        if not self.path.exists():
            return []
        rows = [line.split("\t") for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [(float(t), int(p), n, int(d)) for t, p, n, d in rows if n.startswith("train ")]


def place_of(folder: Path, options: argparse.Namespace) -> Workplace:
    study = read_study(PHANTOM)
    phantom = study.cohort.phantom.model_copy(
        update={"train": options.knees, "test": options.knees // 4}
    )
    training = study.training.model_copy(update={"epochs": options.epochs, "threads": 1})
    cohort = study.cohort.model_copy(update={"phantom": phantom})
    changes = {"cohort": cohort, "training": training, "explain": False}
    return Workplace(
        study.model_copy(update=changes),
        folder,
        torch.device("cpu"),
        Journal(folder / "journal.tsv"),
    )


def beside(place: Workplace, name: str) -> Workplace:
    """The same study with runs of its own and the same prepared knees."""
    folder = place.folder.parent / name
    folder.mkdir()
    for shared in ("prepared", "phantom"):
        (folder / shared).symlink_to(place.folder / shared)
    return replace(place, folder=folder, stage=Journal(folder / "journal.tsv"))


def here(place: Workplace) -> float:
    cases, started = place.cohort(), time.perf_counter()
    for run in place.runs():
        do_run(place, run, cases)
    return time.perf_counter() - started


def speed(folder: Path, options: argparse.Namespace) -> None:
    """One after the other, and two at once, one thread each."""
    first = place_of(folder / "here", options)
    begin_study(first)
    one = here(first)
    print(f"nine runs, one after the other: {one:.1f} s", flush=True)
    second = beside(first, "ray")
    cases, started = second.cohort(), time.perf_counter()
    carry_out(jobs_of(second, cases))
    two = time.perf_counter() - started
    steps = second.stage.steps()
    busy = steps[-1][0] - steps[0][0]
    print(f"on Ray, two at once: {two:.1f} s with its start and end, {one / two:.2f} times as fast")
    print(f"from the first step to the last: {busy:.1f} s, {one / busy:.2f} times as fast")
    print(compared(first, second))


def drive(folder: Path, options: argparse.Namespace) -> None:
    """What `kellgren run --engine ray` does before the statistics; a process that can be killed."""
    place = place_of(folder, options)
    jobs = jobs_of(place, place.cohort())
    if not options.lose_node_at:
        carry_out(jobs)
        return
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]

    def lose() -> None:
        wait_for(lambda: len(place.stage.steps()) >= options.lose_node_at)
        place.stage.note("lost node", 0)
        cluster.remove_node(nodes[0], allow_graceful=False)

    threading.Thread(target=lose, daemon=True).start()
    carry_out(jobs, address=cluster.address)
    cluster.shutdown()


def kills(folder: Path, options: argparse.Namespace) -> None:
    """Kill a worker twice, a node, and the driver; compare with runs that nobody killed."""
    first = place_of(folder / "here", options)
    begin_study(first)
    here(first)
    for name, scene in {"worker": kill_workers, "node": kill_node, "driver": kill_driver}.items():
        place = beside(first, name)
        scene(place, options)
        print(f"{name} killed: {compared(first, place)}; {exclusive(place, first)}", flush=True)


def kill_workers(place: Workplace, options: argparse.Namespace) -> None:
    driver = started(place, options)
    for at in (20, 60):
        wait_for(lambda at=at: len(place.stage.steps()) >= at)
        os.kill(place.stage.steps()[-1][1], signal.SIGKILL)
    ended(driver)


def kill_node(place: Workplace, options: argparse.Namespace) -> None:
    ended(started(place, options, "--lose-node-at", "40"))


def kill_driver(place: Workplace, options: argparse.Namespace) -> None:
    driver = started(place, options)
    wait_for(lambda: len(place.stage.steps()) >= 40)
    driver.kill()
    driver.wait()
    ended(started(place, options))


def started(place: Workplace, options: argparse.Namespace, *more: str) -> subprocess.Popen[bytes]:
    size = ["--knees", str(options.knees), "--epochs", str(options.epochs)]
    words = [sys.executable, __file__, "drive", "--folder", str(place.folder), *size, *more]
    return subprocess.Popen(words)


def ended(driver: subprocess.Popen[bytes]) -> None:
    if driver.wait():
        raise SystemExit(f"the driver ended with {driver.returncode}")


def wait_for(seen: Callable[[], bool]) -> None:
    while not seen():
        time.sleep(0.05)


def compared(one: Workplace, other: Workplace) -> str:
    pairs = list(zip(one.runs(), other.runs(), strict=True))
    same = sum(a.weights.read_bytes() == b.weights.read_bytes() for a, b in pairs)
    return f"{same} of {len(pairs)} final weights equal to the last bit"


def exclusive(place: Workplace, straight: Workplace) -> str:
    """Whether two processes were ever at one run, and how many steps were done more than once."""
    spans: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for at, process, title, _ in place.stage.steps():
        spans[title][process].append(at)
    together = 0
    for processes in spans.values():
        ordered = sorted((min(times), max(times)) for times in processes.values())
        together += sum(b[0] < a[1] for a, b in pairwise(ordered))
    done, planned = len(place.stage.steps()), len(straight.stage.steps())
    tries = sum(len(processes) for processes in spans.values())
    return (
        f"{tries} trainings of {len(spans)} runs, {together} at the same time as another of the "
        f"same run; {done - planned} of {planned} steps done again"
    )


SCENES = {"speed": speed, "kills": kills, "drive": drive}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--folder", type=Path, help="where to work; default a temporary folder")
    parser.add_argument("--knees", type=int, default=32, help="training knees")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lose-node-at", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        SCENES[options.scene](options.folder or Path(temporary), options)


if __name__ == "__main__":
    main()
