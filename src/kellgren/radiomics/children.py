"""A child process for each knee: what kills it costs that knee alone, and is told by name."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess

from kellgren.cohort import Case
from kellgren.faults import InputError
from kellgren.workers import serve

Work = Callable[[Case], None]
Outcome = tuple[str, InputError | None]


def outcomes(work: Work, cases: Sequence[Case], workers: int) -> Generator[Outcome, None, None]:
    """Carry out `work` for every case, each in a process of its own that ends with it.

    The memory of a case goes back to the system with its process. Where the caller stops early,
    the processes at work are ended.

    Args:
        work: What is done; a function or method of a module, since it is sent to the process.
        cases: The knees.
        workers: Processes at work at the same time.

    Yields:
        Case id and fault, or None, of each case as it ends.
    """
    context = get_context("spawn")  # a fork of a process that runs threads can hang
    waiting, running = deque(cases), dict[int, _Child]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                child = _Child(context, work, waiting.popleft())
                running[child.process.sentinel] = child
            for ended in wait(list(running)):
                assert isinstance(ended, int)  # sentinels are all that was waited for
                yield running.pop(ended).outcome()
    finally:
        for child in running.values():
            child.process.kill()
            child.process.join()


class _Child:
    """A process at work on one case, and the pipe through which it tells a fault."""

    def __init__(self, context: SpawnContext, work: Work, case: Case) -> None:
        self.case = case
        self.told, telling = context.Pipe(duplex=False)
        self.process: SpawnProcess = context.Process(
            target=_carry_out, args=(work, case, telling), daemon=True
        )
        self.process.start()
        telling.close()

    def outcome(self) -> Outcome:
        """Case id and fault, once the process has ended."""
        self.process.join()
        case_id, code = self.case.case_id, self.process.exitcode
        fault: InputError | None = self.told.recv() if code == 0 else _death(case_id, code)
        self.told.close()
        self.process.close()
        return case_id, fault


def _carry_out(work: Work, case: Case, telling: Connection) -> None:
    serve()
    fault = None
    try:
        work(case)
    except InputError as error:
        fault = error.of_case(case.case_id)
    telling.send(fault)


def _death(case_id: str, code: int | None) -> InputError:
    killed = code is not None and code < 0
    found = f"signal {-(code or 0)}, as where memory runs out" if killed else f"exit code {code}"
    return InputError(
        f"case {case_id}",
        f"a process that died at work ({found})",
        "a process that gets to the end",
        "use fewer workers if memory is short, or leave the knee out",
    )
