"""One line every ten seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.errors import NotFound
from syncer.events import (
    BlobProgress,
    BlobStarted,
    RepositoryFinished,
    RepositoryListed,
    RepositoryStarted,
    TagFinished,
    TagOutcome,
)
from syncer.oci import Digest
from syncer.telemetry.heartbeat import HeartbeatObserver

if TYPE_CHECKING:
    from syncer.events import Event

GIB = 1024**3
BLOB = Digest.of(b"blob")


class Clock:
    """A clock that is moved by the sleep that goes with it, and stops the run after some sleeps."""

    def __init__(self, sleeps: int) -> None:
        self.seconds = 0.0
        self.sleeps = sleeps
        self.done = anyio.Event()

    def __call__(self) -> float:
        """Tell the time."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Move on; after the last one, never return."""
        await anyio.lowlevel.checkpoint()
        if self.sleeps == 0:
            self.done.set()
            await anyio.sleep_forever()
        self.sleeps -= 1
        self.seconds += seconds


def heartbeat(stream: StringIO, clock: Clock) -> HeartbeatObserver:
    """Make one at a minute past noon."""
    return HeartbeatObserver(
        stream, clock=clock, now=lambda: datetime(2025, 1, 1, 12, 1, 10, tzinfo=UTC), sleep=clock.sleep
    )


def test_line() -> None:
    """The line says tags, bytes, rate, time to go and failures."""
    clock = Clock(0)
    observer = heartbeat(StringIO(), clock)
    observer.line()
    observer.notify(RepositoryStarted(entry="e", source="s", target="t"))
    observer.notify(RepositoryListed(source="s", target="t", listed=900, selected=500))
    observer.notify(BlobStarted(source="s", target="t", digest=BLOB, size=8 * GIB))
    observer.notify(BlobProgress(target="t", digest=BLOB, count=3 * GIB))
    for number in range(134):
        outcome = TagOutcome.FAILED if number < 2 else TagOutcome.COPIED
        observer.notify(TagFinished(entry="e", source="s", target="t", tag=str(number), outcome=outcome))
    clock.seconds = 15
    assert observer.line() == "12:01:10 sync: 134/500 tags, 3.0 GiB of 8.0 GiB, 205 MiB/s, ETA 41 s, 2 failed"


def test_line_before_anything_is_known() -> None:
    """Before the first tag is known the line says what is waited for."""
    observer = heartbeat(StringIO(), Clock(0))
    assert observer.line() == "12:01:10 sync: waiting"
    observer.notify(RepositoryStarted(entry="e", source="s", target="t"))
    assert observer.line() == "12:01:10 sync: listing 1 repository"
    observer.notify(RepositoryFinished(entry="e", source="s", target="t", seconds=1, error=NotFound()))
    assert observer.line() == "12:01:10 sync: waiting, 1 failed"


async def test_run_writes_every_interval(run: list[Event]) -> None:
    """A line is written after each interval, until the run is cancelled."""
    stream = StringIO()
    clock = Clock(3)
    observer = heartbeat(stream, clock)
    async with anyio.create_task_group() as group:
        group.start_soon(observer.run)
        for event in run:
            observer.notify(event)
        with anyio.fail_after(5):
            await clock.done.wait()
        group.cancel_scope.cancel()
    assert stream.getvalue().splitlines() == ["12:01:10 sync: 4/4 tags, 7.8 KiB of 7.8 KiB, 2 failed"] * 3
    assert clock.seconds == 30


@pytest.mark.parametrize("close", [True, False])
async def test_run_survives_a_reader_that_left(*, close: bool) -> None:
    """When nobody can read the lines any more the heartbeat ends, and not the sync."""

    class Broken(StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    stream = StringIO() if close else Broken()
    if close:
        stream.close()
    clock = Clock(5)
    with anyio.fail_after(5):
        await heartbeat(stream, clock).run()
    assert clock.sleeps == 4
