"""The backlog: batches, back-pressure, and what happens when writing fails."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.errors import StateError, StorageFull
from syncer.events import TagOutcome
from syncer.oci.digest import Digest
from syncer.plan.records import TagRecord, UnfinishedUpload
from syncer.state.backlog import Backlog, Batch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ONE = Digest.of(b"1")


def record(number: int) -> TagRecord:
    """Return the record of one of many tags."""
    return TagRecord(
        run="r", entry="e", source="s/a", target="t/a", tag=f"v{number}", outcome=TagOutcome.COPIED, at=1.0
    )


class Disk:
    """Takes batches when it is let, and fails when it is told."""

    def __init__(self, *, is_free: bool = True) -> None:
        self.batches: list[Batch] = []
        self.failure: BaseException | None = None
        self.free = anyio.Event()
        if is_free:
            self.free.set()

    async def commit(self, batch: Batch) -> None:
        """Take a batch."""
        await self.free.wait()
        if self.failure:
            raise self.failure
        self.batches.append(batch)

    @property
    def tags(self) -> list[str]:
        """What was written, in order."""
        return [tag for batch in self.batches for tags in batch.tags.values() for tag in tags]


@asynccontextmanager
async def running(disk: Disk, *, size: int = 3, delay: float = 30.0) -> AsyncIterator[Backlog]:
    """Run a backlog over ``disk``; ``delay`` is longer than any test, unless it is what is tested."""
    backlog = Backlog(disk.commit, size=size, delay=delay)
    async with anyio.create_task_group() as group:
        group.start_soon(backlog.run)
        try:
            yield backlog
        finally:
            with anyio.CancelScope(shield=True):
                await backlog.close()


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_a_full_batch_is_written_at_once() -> None:
    """A batch does not wait for the clock when it has its number of records."""
    disk = Disk()
    async with running(disk) as backlog:
        for number in range(3):
            await backlog.put_tag(record(number))
        await settle()
        assert disk.tags == ["v0", "v1", "v2"]


async def test_a_single_record_is_written_after_the_delay() -> None:
    """A record that nobody follows is written when the delay is over."""
    disk = Disk()
    async with running(disk, delay=0.001) as backlog:
        await backlog.put_tag(record(1))
        with anyio.fail_after(5):
            while not disk.tags:  # noqa: ASYNC110 - the passing of time is what is tested
                await anyio.sleep(0.001)


async def test_closing_writes_what_is_left() -> None:
    """Nothing queued is lost when the backlog is closed, and nothing can be queued after."""
    disk = Disk()
    async with running(disk) as backlog:
        for number in range(5):
            await backlog.put_tag(record(number))
    assert disk.tags == [f"v{number}" for number in range(5)]
    with pytest.raises(StateError, match="closed"):
        await backlog.put_tag(record(9))


async def test_producers_wait_while_two_batches_are_under_way() -> None:
    """With a slow disk, one batch is being written, one is full, and the next producer waits its turn."""
    disk = Disk(is_free=False)
    put = 0
    async with running(disk) as backlog, anyio.create_task_group() as group:

        async def produce() -> None:
            nonlocal put
            for number in range(20):
                await backlog.put_tag(record(number))
                put += 1

        group.start_soon(produce)
        await settle()
        assert put == 6
        disk.free.set()
    assert disk.tags == [f"v{number}" for number in range(20)]
    assert max(batch.size for batch in disk.batches) == 3


async def test_what_is_under_way_can_be_read() -> None:
    """A record is visible from the moment it is queued until it is written, the newest word first."""
    disk = Disk(is_free=False)
    async with running(disk, size=2) as backlog:
        await backlog.put_tag(record(1))
        await backlog.put_content("r.io", "a", ONE, 1.0)
        await settle()
        await backlog.put_content("r.io", "a", ONE, None)
        await backlog.put_subset(ONE, "linux/amd64", Digest.of(b"2"))
        assert backlog.tags("t/a") == {"v1": record(1)}
        assert backlog.content("r.io", [ONE]) == {ONE: {"a": None}}
        assert backlog.content("other.io", [ONE]) == {}
        assert backlog.subset(ONE, "linux/amd64") == Digest.of(b"2")
        disk.free.set()
        await backlog.flush()
        assert (backlog.tags("t/a"), backlog.content("r.io", [ONE]), backlog.subset(ONE, "linux/amd64")) == (
            {},
            {},
            None,
        )


async def test_flush_waits_for_what_came_before_only() -> None:
    """Flushing ends although others go on queueing."""
    disk = Disk()
    async with running(disk) as backlog, anyio.create_task_group() as group:

        async def produce() -> None:
            number = 10
            while True:
                await backlog.put_tag(record(number))
                number += 1
                await anyio.lowlevel.checkpoint()

        await backlog.put_tag(record(1))
        group.start_soon(produce)
        with anyio.fail_after(5):
            await backlog.flush()
        assert "v1" in disk.tags
        group.cancel_scope.cancel()


async def test_a_failure_wakes_everyone_who_waits() -> None:
    """When a batch cannot be written, producers and flushers get the typed error instead of waiting for ever."""
    disk = Disk(is_free=False)
    disk.failure = StorageFull("no space", hint="make room")
    errors: list[Exception] = []
    async with running(disk) as backlog:

        async def produce() -> None:
            with pytest.raises(StorageFull) as caught:
                for number in range(20):
                    await backlog.put_tag(record(number))
            errors.append(caught.value)

        async def flush() -> None:
            with pytest.raises(StorageFull) as caught:
                await backlog.flush()
            errors.append(caught.value)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(produce)
                await settle()
                group.start_soon(flush)
                await settle()
                disk.free.set()
        with pytest.raises(StorageFull, match="no space"):
            await backlog.put_tag(record(99))
    assert len(errors) == 2
    assert disk.tags == []


async def test_an_upload_is_noted_without_waiting() -> None:
    """Neither a full batch nor one that is being written holds up who notes an upload; a later word replaces it."""
    disk = Disk(is_free=False)
    async with running(disk, size=1) as backlog:
        await backlog.put_tag(record(1))
        await settle()
        await backlog.put_tag(record(2))
        upload = UnfinishedUpload(registry="t", repository="a", digest=ONE, location="u", offset=2)
        for note in (None, upload):
            backlog.note_upload("t", "a", ONE, note)
        disk.free.set()
    assert [batch.uploads for batch in disk.batches] == [{}, {("t", "a", ONE): upload}]


async def test_a_note_after_a_failure_raises_nothing() -> None:
    """Who notes an upload has bytes to send; that nothing is written any more is told to others."""
    disk = Disk()
    disk.failure = StorageFull("no space")
    backlog = Backlog(disk.commit, size=1)
    async with anyio.create_task_group() as group:
        group.start_soon(backlog.run)
        await backlog.put_tag(record(1))
        await settle()
        backlog.note_upload("t", "a", ONE, None)
        with pytest.raises(StorageFull):
            await backlog.close()


async def test_a_failure_nobody_heard_of_is_raised_on_closing() -> None:
    """The last batch cannot fail silently."""
    disk = Disk()
    disk.failure = StorageFull("no space")
    backlog = Backlog(disk.commit)
    async with anyio.create_task_group() as group:
        group.start_soon(backlog.run)
        await backlog.put_tag(record(1))
        with pytest.raises(StorageFull):
            await backlog.close()


async def test_cancellation_does_not_reach_a_batch_under_way() -> None:
    """A cancelled task group still writes what was queued, and ends."""
    disk = Disk()
    async with anyio.create_task_group() as outer, running(disk) as backlog:
        await backlog.put_tag(record(1))
        outer.cancel_scope.cancel()
        await anyio.sleep_forever()
    assert disk.tags == ["v1"]


@pytest.mark.parametrize("action", ["put", "flush", "close"])
async def test_an_unforeseen_failure_becomes_a_state_error(action: str) -> None:
    """Whatever writing raises reaches those who wait as a StateError, and ends nobody's task group."""
    disk = Disk()
    disk.failure = UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")
    backlog = Backlog(disk.commit, size=1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(backlog.run)
            await backlog.put_tag(record(1))
            with pytest.raises(StateError, match="surrogates not allowed"):
                for number in range(2, 9 if action == "put" else 2):
                    await backlog.put_tag(record(number))
                await getattr(backlog, "flush" if action == "put" else action)()
            await backlog.close()


class Gone(BaseException):
    """Ends the writer as nothing foreseen does."""


@pytest.mark.parametrize("action", ["put", "flush", "close"])
async def test_nobody_waits_for_a_writer_that_is_gone(action: str) -> None:
    """When the task that writes has ended in whatever way, waiting for it raises instead of lasting for ever."""
    disk = Disk(is_free=False)
    disk.failure = Gone()
    backlog = Backlog(disk.commit, size=2)

    async def write() -> None:
        with pytest.raises(Gone):
            await backlog.run()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(write)
            for number in range(4):
                await backlog.put_tag(record(number))
                await settle()
            group.start_soon(open_slowly, disk)
            with pytest.raises(StateError, match="ended"):
                await (backlog.put_tag(record(9)) if action == "put" else getattr(backlog, action)())


async def open_slowly(disk: Disk) -> None:
    """Let the disk answer, once whoever else there is waits."""
    await settle()
    disk.free.set()
