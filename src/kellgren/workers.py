"""Processes that work beside this one: spawned, deaf to signals that are their parent's, mortal."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread

# A process at work on one scan that has given no answer for so long never will.
HANG_S = 600.0


def pool_of(workers: int) -> ProcessPoolExecutor:
    """A pool whose processes are not forked: a fork of a process that runs threads can hang."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=serve)


def serve() -> None:
    """Leave the signals to the parent, which ends its workers, and end when it has been killed."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def killed(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool at once; `kill_workers` from Python 3.14 on."""
    for process in list(pool._processes.values()):
        process.kill()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
