"""What a crash came to, and the loop that makes one crash after the other."""

from __future__ import annotations

import re
import shutil
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from anyio import Path as AsyncPath
from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.forks import Forks


@dataclass(frozen=True)
class Point:
    """A failpoint: the instant number ``number`` of one kind."""

    number: int
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"


#: Where a job that is not to die does so; and one that is not either, and counts its failpoints.
NOWHERE, COUNTED = Point(0, ""), Point(0, "count")


@dataclass(kw_only=True)
class Crash:
    """One process that was killed, and what the next one made of what it left.

    Attributes:
        at: the failpoint.
        survived: it came to its end before it came to the failpoint.
        problems: what is not as it should be: something incomplete, lost, left behind, not converged.
        repeated: bytes that were moved again although they had been committed before the crash; must be 0.
        resent: bytes that were moved again because they were in flight.
        requests: what the run after the crash asked for.
        budget: the most that it may ask for.
    """

    at: Point
    survived: bool = False
    problems: list[str] = field(default_factory=list)
    repeated: int = 0
    resent: int = 0
    requests: int = 0
    budget: int = 0

    @property
    def over(self) -> int:
        """Requests beyond the budget."""
        return max(0, self.requests - self.budget)

    @property
    def converged(self) -> bool:
        """True when all is as it should be."""
        return not (self.problems or self.repeated or self.over)


class Job(Protocol):
    """Something that can be killed at any instant."""

    @property
    def name(self) -> str:
        """What the table calls it."""
        ...

    #: The distance of the failpoints of a whole loop.
    step: int

    async def crash(self, forks: Forks, folder: Path, at: Point) -> Crash:
        """Do the job in the empty ``folder``, die at the failpoint ``at``, go on, and say what came of it."""
        ...

    async def count(self, forks: Forks, folder: Path) -> Mapping[str, int]:
        """Do the job in the empty ``folder`` without dying, and return how many failpoints of each kind it passed."""
        ...


@dataclass(kw_only=True)
class Tally:
    """The crashes of one job."""

    job: str
    crashes: list[Crash] = field(default_factory=list)

    @property
    def deaths(self) -> list[Crash]:
        """The crashes that did happen."""
        return [crash for crash in self.crashes if not crash.survived]

    @property
    def failed(self) -> list[Crash]:
        """Those after which something was not as it should be."""
        return [crash for crash in self.crashes if not crash.converged]

    @property
    def resent(self) -> tuple[int, float]:
        """The most, and the median, of the bytes that were sent again because they were in flight."""
        found = [crash.resent for crash in self.deaths] or [0]
        return max(found), statistics.median(found)

    @property
    def repeated(self) -> int:
        """Bytes that were sent again although they had been committed."""
        return sum(crash.repeated for crash in self.crashes)

    @property
    def over(self) -> int:
        """The most requests beyond a budget."""
        return max((crash.over for crash in self.crashes), default=0)

    def told(self) -> list[str]:
        """Say what was not as it should be, a line each."""
        return [
            f"{self.job}, failpoint {crash.at}: "
            + "; ".join(
                [
                    *crash.problems,
                    *([f"{crash.repeated} committed bytes sent again"] if crash.repeated else []),
                    *([f"{crash.requests} requests, {crash.budget} allowed"] if crash.over else []),
                ]
            )
            for crash in self.failed
        ]


async def every(job: Job, forks: Forks, folder: Path, *, stride: int = 1) -> Tally:
    """Kill the job at each of its failpoints, or at each ``stride``-th; with those of a kind until it survives them."""
    tally = Tally(job=job.name)
    for kind in await job.count(forks, await _fresh(folder, "count")):
        number, survived = 1, False
        while not survived:
            tally.crashes.append(await _crash(job, forks, folder, Point(number, kind)))
            survived = tally.crashes[-1].survived
            number += job.step * stride
    return tally


async def some(job: Job, forks: Forks, folder: Path, *, count: int, seed: int, until_failed: bool = False) -> Tally:
    """Kill the job at ``count`` of its failpoints, spread evenly from a start that ``seed`` chooses.

    With ``until_failed``, the first crash after which something is wrong is the last.
    """
    counts = await job.count(forks, await _fresh(folder, "count"))
    tally = Tally(job=job.name)
    for point in spread(counts, count=count, seed=seed):
        tally.crashes.append(await _crash(job, forks, folder, point))
        if until_failed and tally.failed:
            break
    return tally


def spread(counts: Mapping[str, int], *, count: int, seed: int) -> list[Point]:
    """Return ``count`` of the failpoints of all kinds, evenly apart, shifted by ``seed``."""
    points = [Point(number, kind) for kind, most in counts.items() for number in range(1, most + 1)]
    step = max(1, len(points) // count)
    return points[seed % step :: step][:count]


async def _crash(job: Job, forks: Forks, folder: Path, at: Point) -> Crash:
    place = await _fresh(folder, re.sub("[^a-z0-9]+", "-", str(at)))
    crash = await job.crash(forks, place, at)
    if crash.converged:
        await to_thread.run_sync(shutil.rmtree, place)
    return crash


async def _fresh(folder: Path, name: str) -> Path:
    place = folder / name
    await AsyncPath(place).mkdir(parents=True)
    return place
