"""`check --deep` over a cohort: seconds, CPU and peak memory as the cases go by.

kellgren phantom FOLDER --train 383 --test 98 --grid 160,384,384
kellgren import oaizib-cm FOLDER --out cohort.csv
python benchmarks/checking.py cohort.csv --workers 2

Prints a table of docs/checking-your-data.md. Peaks are those that the system keeps of each process,
so nothing between two cases is missed.
"""

import argparse
import os
import resource
import time
from multiprocessing import active_children
from pathlib import Path

from kellgren.cohort import read_rows
from kellgren.inspection import inspect_cohort

MARKS = (20, 120)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("cohort", type=Path)
    words.add_argument("--workers", type=int, default=1)
    asked = words.parse_args()
    marks, started = {*MARKS, len(read_rows(asked.cohort)[0])}, time.monotonic()
    print("| cases | wall | CPU | peak of the parent | of each worker |\n|---|---|---|---|---|")

    def watch(done: int, total: int) -> None:
        if done in marks:
            print(row(str(done), started), flush=True)

    inspection = inspect_cohort(asked.cohort, deep=True, workers=asked.workers, progress=watch)
    print(row("all, and the search for copies", started))
    print(inspection.verdict())


def row(name: str, started: float) -> str:
    """What was spent since the start, and the peaks so far; of workers that ended none."""
    workers = [worker.pid for worker in active_children() if worker.pid is not None]
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = time.process_time() + ended.ru_utime + ended.ru_stime
    spent += sum(cpu_seconds(pid) for pid in workers)
    peaks = ", ".join(f"{peak_mb(pid):.0f} MB" for pid in sorted(workers)) or "-"
    wall = time.monotonic() - started
    parent = peak_mb(os.getpid())
    return f"| {name} | {wall:.0f} s | {spent:.0f} s | {parent:.0f} MB | {peaks} |"


def peak_mb(pid: int) -> float:
    """The most memory that a process has held so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, its own and the system's."""
    cells = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(cells[11]) + int(cells[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
