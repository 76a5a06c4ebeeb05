"""Jobs on Ray: one task a run, on this machine or on machines that share a disk.

A task whose worker or machine dies is done again elsewhere, and goes on from its last checkpoint. A
task that refuses its data is not: it would refuse them again.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from kellgren.faults import InputError
from kellgren.jobs import Job
from kellgren.progress import Stage, silent

RETRIES = 3  # of a task whose worker died
HERE = "local"
# Ray reports its use to its makers unless it is told not to, and retries for ever where memory is
# short.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_oom_retries": str(RETRIES)}
STORE_BYTES = 200_000_000  # Ray's own memory for what tasks are given: tables of knees, no volumes


def carry_out(jobs: Sequence[Job], *, address: str = HERE, stage: Stage = silent) -> None:
    """Do every job, as many at once as there is room for.

    Args:
        jobs: Those on CUDA take a GPU each, all take as many cores as `training.threads`.
        address: "local" starts Ray on this machine for as long as this takes; otherwise that of a
            cluster, as `ray start --head` prints it.
        stage: How progress is shown, in jobs.

    Raises:
        InputError: If Ray is not installed or not there, no machine has room for a job, or a job
            has a fault; the other jobs are done before the first fault is raised.
    """
    with _connected(address) as ray:
        for job in jobs:
            _check_room(ray, job)
        waiting = _submitted(ray, jobs)
        faults: list[InputError] = []
        with stage("runs on Ray", len(jobs)) as advance:
            while waiting:
                (done,), _ = ray.wait(list(waiting))
                job = waiting.pop(done)
                faults += _faults(ray, done, job)
                advance(len(jobs) - len(waiting), job.title)
    if faults:
        raise _first(faults, len(jobs))


@contextmanager
def _connected(address: str) -> Iterator[ModuleType]:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError(
            "--engine ray", f"no Ray ({error})", "Ray", 'pip install "kellgren[ray]"'
        ) from error
    own = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            **(own if address == HERE else {}),
        )
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"--address {address}",
            f"no Ray cluster ({error})",
            "the address that `ray start --head` printed",
            "start the cluster, or leave --address out",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _needs(job: Job) -> dict[str, int]:
    cores = job.place.study.training.threads
    return {"CPU": cores, "GPU": int(job.place.device.type == "cuda")}


def _check_room(ray: ModuleType, job: Job) -> None:
    """Refuse what Ray would wait for without end."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needs = _needs(job)
    if not any(all(has.get(k, 0) >= n for k, n in needs.items()) for has in machines):
        most = {k: max((int(has.get(k, 0)) for has in machines), default=0) for k in needs}
        raise InputError(
            job.title,
            f"no machine with room for it; the largest have {most}",
            f"{needs} on one machine",
            "lower training.threads, choose another --device, or add machines",
        )


def _submitted(ray: ModuleType, jobs: Sequence[Job]) -> dict[Any, Job]:
    """Every job as a task. The knees are sent once a study, not once a run."""
    knees = {id(job.cases): ray.put(job.cases) for job in jobs}
    task = ray.remote(_do)
    return {
        task.options(
            name=job.title,
            num_cpus=_needs(job)["CPU"],
            num_gpus=_needs(job)["GPU"],
            max_retries=RETRIES,
            retry_exceptions=False,
        ).remote(Path.cwd(), Job(job.place, job.run, ()), knees[id(job.cases)]): job
        for job in jobs
    }


def _do(folder: Path, job: Job, cases: tuple[Any, ...]) -> None:
    os.chdir(folder)  # paths of the study may be relative to where it was started
    Job(job.place, job.run, cases).do()


def _faults(ray: ModuleType, done: object, job: Job) -> list[InputError]:
    """What went wrong with a task, if it is the fault of its data or its machine."""
    try:
        ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            return [error.cause]
        raise
    except ray.exceptions.RayError as error:
        found = f"{RETRIES + 1} workers that died at it ({type(error).__name__})"
        todo = "see how much memory a run takes, `kellgren run --dry-run`, and start again"
        return [InputError(job.title, found, "a worker that lives until the run is done", todo)]
    return []


def _first(faults: Sequence[InputError], n: int) -> InputError:
    first = faults[0]
    if len(faults) == 1:
        return first
    where = f"{len(faults)} of {n} runs failed, of which the first is {first.where}"
    return InputError(where, first.found, first.needed, first.todo)
