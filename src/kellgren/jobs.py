"""The runs of studies as jobs: each may be done anywhere, in any order, and again.

What a job needs is the folder of its study; what it leaves stands there. So whoever does jobs need
not talk to one another: `kellgren.cluster` gives them to Ray, a shard takes its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kellgren.cohort import Case
from kellgren.engine import Workplace, do_run
from kellgren.faults import InputError
from kellgren.runs import Run

SHARD = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True)
class Job:
    """One run that is to be trained and asked.

    Attributes:
        place: Its study.
        run: The run.
        cases: The knees of the study, prepared.
    """

    place: Workplace
    run: Run
    cases: tuple[Case, ...]

    @property
    def title(self) -> str:
        """Study folder and run."""
        return f"{self.place.folder.name}/{self.run.name}"

    def do(self) -> None:
        """Do what is missing of the run."""
        do_run(self.place, self.run, self.cases)


def jobs_of(place: Workplace, cases: Sequence[Case]) -> list[Job]:
    """The runs of a study, in their planned order."""
    knees = tuple(cases)
    return [Job(place, run, knees) for run in place.runs()]


@dataclass(frozen=True)
class Shard:
    """A part of all jobs, for job arrays whose tasks know their number and nothing else.

    Attributes:
        index: Which part, from 0.
        count: How many parts there are.
    """

    index: int
    count: int

    @classmethod
    def read(cls, text: str) -> "Shard":
        """The shard of a word such as "0/8".

        >>> Shard.read("3/8")
        Shard(index=3, count=8)

        Raises:
            InputError: If it is not of that form, or there is no such part.
        """
        match = SHARD.fullmatch(text)
        if match is None or int(match[1]) >= int(match[2]):
            raise InputError(
                "--shard",
                f"'{text}'",
                "i/n with i from 0 to n - 1",
                "write 0/8, 1/8 to 7/8 for eight parts",
            )
        return cls(int(match[1]), int(match[2]))

    def take(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs `index`, `index + count`, ...: neighbours, which are alike, go to several."""
        return list(jobs[self.index :: self.count])
