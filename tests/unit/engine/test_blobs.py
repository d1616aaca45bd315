"""Slots, sides and hand-overs of the blob mover."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.content import BlobOutcome, verified
from syncer.engine.blobs import BlobMover, data_slots
from syncer.engine.holdings import Holdings
from syncer.engine.journal import MemoryJournal
from syncer.errors import ConnectionFailed, DigestMismatch, NotFound, RateLimitReached, Side, StateError
from syncer.events import BlobFinished, BlobProgress
from syncer.layout.repository import LayoutRepository
from syncer.layout.tree import LayoutTree
from syncer.oci import Descriptor, Digest
from tests.support import images
from tests.support.memory import MemoryRegistry, MemoryRepository, MemorySession, Operation
from tests.support.observing import Recorder
from tests.support.transfer import push_blob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

DATA = images.random_bytes(1000)
BLOB = images.blob(DATA)


class Narrow(MemoryRepository):
    """A repository whose registry moves one blob at a time, in either direction."""

    def __init__(self, place: MemoryRegistry, name: str, window: anyio.Semaphore, order: list[str]) -> None:
        super().__init__(place, name)
        self._window = window
        self._order = order

    @asynccontextmanager
    async def data_slot(self, size: int = 0, partner: str = "", of: int = 1) -> AsyncIterator[None]:
        del size, partner, of
        async with self._window:
            self._order.append(self.registry)
            await anyio.lowlevel.checkpoint()
            yield


async def test_transfers_in_opposite_directions_do_not_lock_each_other_out() -> None:
    """With one slot on each side, copies a to b and b to a at once both end."""
    a, b = MemoryRegistry("a"), MemoryRegistry("b")
    windows = {name: anyio.Semaphore(1) for name in "ab"}
    order: list[str] = []
    movers = {name: BlobMover(Holdings(name, MemoryJournal()), Recorder()) for name in "ab"}
    for registry in (a, b):
        registry.blobs["from"] = {Digest.of(bytes([n])): bytes([n]) for n in range(20)}

    async def move(source: MemoryRegistry, target: MemoryRegistry, digest: Digest) -> None:
        blob = Descriptor(media_type="x", digest=digest, size=1)
        await movers[target.name].ensure(
            blob,
            Narrow(source, "from", windows[source.name], order),
            Narrow(target, "to", windows[target.name], order),
        )

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for digest in a.blobs["from"]:
                group.start_soon(move, a, b, digest)
                group.start_soon(move, b, a, digest)
    assert a.blobs["to"] == a.blobs["from"] == b.blobs["to"]


async def test_a_copy_within_one_registry_takes_one_slot() -> None:
    """A registry with a single slot can still copy to itself."""
    registry = MemoryRegistry("one", mounts=False)
    registry.blobs["dev"] = {BLOB.digest: DATA}
    window, order = anyio.Semaphore(1), list[str]()
    mover = BlobMover(Holdings("one", MemoryJournal()), Recorder())
    with anyio.fail_after(5):
        await mover.ensure(BLOB, Narrow(registry, "dev", window, order), Narrow(registry, "prod", window, order))
    assert registry.blobs["prod"] == {BLOB.digest: DATA}


async def test_places_without_slots_need_none() -> None:
    """A place that does not throttle is not asked for a slot."""

    class Plain:
        registry = "plain"
        repository = "x"

    async with data_slots(Plain(), Plain()):
        pass


class Replaying(MemorySession):
    """An upload that loses its first attempt half way and reads the blob again."""

    async def send(self, opener: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
        """Read one chunk, give up, then do it right."""
        async with opener() as chunks:
            async for _ in chunks:
                break
        await super().send(opener)


class ReplayingRepository(MemoryRepository):
    """Opens uploads that replay."""

    async def begin_blob(self, descriptor: Descriptor, *, mount_from: str = "") -> MemorySession | BlobOutcome:
        return Replaying(self, descriptor)


async def test_a_replayed_upload_counts_its_bytes_once() -> None:
    """Bytes of an attempt that was given up are taken back from the progress."""
    source, target, recorder = MemoryRegistry("s"), MemoryRegistry("t"), Recorder()
    source.blobs["a"] = {BLOB.digest: DATA}
    mover = BlobMover(Holdings("t", MemoryJournal()), recorder)
    await mover.ensure(BLOB, source.repository("a"), ReplayingRepository(target, "a"))
    assert sum(event.count for event in recorder.of(BlobProgress)) == len(DATA)
    assert min(event.count for event in recorder.of(BlobProgress)) < 0
    assert [event.outcome for event in recorder.of(BlobFinished)] == [BlobOutcome.STREAMED]


@pytest.mark.parametrize(
    ("verb", "at", "side"),
    [("blob-get", "s", Side.SOURCE), ("blob-post", "t", Side.TARGET), ("blob-put", "t", Side.TARGET)],
)
async def test_an_error_says_which_side_failed(verb: str, at: str, side: Side) -> None:
    """Whoever raises, the side of the copy is on the error."""
    places = {name: MemoryRegistry(name) for name in "st"}
    places["s"].blobs["a"] = {BLOB.digest: DATA}
    places[at].fail(verb, BLOB.digest, ConnectionFailed("no"))
    mover = BlobMover(Holdings("t", MemoryJournal()), Recorder())
    with pytest.raises(ConnectionFailed) as caught:
        await mover.ensure(BLOB, places["s"].repository("a"), places["t"].repository("a"))
    assert caught.value.side is side


async def test_a_session_left_behind_by_a_refused_mount_is_given_up() -> None:
    """When the upload that a refused mount opened fails, the session is aborted."""
    source, target = MemoryRegistry("s"), MemoryRegistry("t", mounts=False)
    source.blobs["a"] = {BLOB.digest: DATA}
    source.fail("blob-get", BLOB.digest, ConnectionFailed("no"))
    holdings = Holdings("t", MemoryJournal())
    await holdings.add("other", [BLOB.digest])
    with pytest.raises(ConnectionFailed):
        await BlobMover(holdings, Recorder()).ensure(BLOB, source.repository("a"), target.repository("a"))
    assert target.counts("blob-abort") == {"blob-abort": 1}
    # The registry has never mounted anything: that it did not mount this tells nothing about the other repository.
    assert holdings.mount_source("a", BLOB.digest) == "other"


async def test_a_session_is_given_up_when_what_was_known_cannot_be_forgotten() -> None:
    """A stop, or an error of the state, between a mount that was refused and its upload leaves no session open."""

    class Broken(MemoryJournal):
        async def forget_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
            raise StateError("no")

    source, target = MemoryRegistry("s"), MemoryRegistry("t", mounts=False)
    source.blobs["a"] = {BLOB.digest: DATA}
    holdings = Holdings("t", Broken())
    await holdings.add("other", [BLOB.digest])
    mover = BlobMover(holdings, Recorder())
    mover._has_mounted = True
    with pytest.raises(StateError):
        await mover.ensure(BLOB, source.repository("a"), target.repository("a"))
    assert target.counts("blob-abort") == {"blob-abort": 1}


class Flipping(MemoryRepository):
    """A source that gives other bytes for so many times."""

    def __init__(self, place: MemoryRegistry, name: str, times: int) -> None:
        super().__init__(place, name)
        self.times = times
        self.reads = 0

    @asynccontextmanager
    async def fetch_blob(self, descriptor: Descriptor) -> AsyncIterator[AsyncIterator[bytes]]:
        self.reads += 1
        async with super().fetch_blob(descriptor) as chunks:
            if self.reads > self.times:
                yield chunks
            else:
                yield chunks_of(b"?" * descriptor.size)


async def test_a_bit_that_flips_once_is_read_again() -> None:
    """Bytes that are not the blob's are read once more from the start, and nothing of the first is committed."""
    a, b = MemoryRegistry("a"), MemoryRegistry("b")
    a.blobs["from"] = {BLOB.digest: DATA}
    source = Flipping(a, "from", 1)
    await BlobMover(Holdings("b", MemoryJournal()), Recorder()).ensure(BLOB, source, MemoryRepository(b, "to"))
    assert b.blobs["to"] == {BLOB.digest: DATA}
    assert source.reads == 2


async def test_a_corrupt_source_is_said_to_be_one() -> None:
    """The same twice is a verdict that names registry, repository and digest; who wants the blob next hears it."""
    a, b = MemoryRegistry("a"), MemoryRegistry("b")
    a.blobs["from"] = {BLOB.digest: DATA}
    source = Flipping(a, "from", 100)
    recorder = Recorder()
    mover = BlobMover(Holdings("b", MemoryJournal()), recorder)
    for name in ("to", "other"):
        with pytest.raises(DigestMismatch, match="a/from is corrupt") as caught:
            await mover.ensure(BLOB, source, MemoryRepository(b, name))
        assert str(BLOB.digest) in caught.value.message
        assert caught.value.side is Side.SOURCE
    assert source.reads == 2
    assert not b.blobs.get("to")
    assert sum(event.count for event in recorder.of(BlobProgress)) >= 0


async def test_a_deferral_is_no_verdict_on_a_blob() -> None:
    """A blob that the source would not give for now is asked for again by the next who wants it."""
    a, b = MemoryRegistry("a"), MemoryRegistry("b")
    a.blobs["from"] = {BLOB.digest: DATA}
    asked = 0

    class Closed(MemoryRepository):
        @asynccontextmanager
        async def fetch_blob(self, descriptor: Descriptor) -> AsyncIterator[AsyncIterator[bytes]]:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise RateLimitReached
            async with super().fetch_blob(descriptor) as chunks:
                yield chunks

    mover = BlobMover(Holdings("b", MemoryJournal()), Recorder())
    with pytest.raises(RateLimitReached):
        await mover.ensure(BLOB, Closed(a, "from"), MemoryRepository(b, "to"))
    await mover.ensure(BLOB, Closed(a, "from"), MemoryRepository(b, "to"))
    assert b.blobs["to"] == {BLOB.digest: DATA}


# ------------------------------------------------------------------ reading while the upload opens


def ready(*, expected: bool = True) -> tuple[MemoryRegistry, MemoryRegistry, BlobMover]:
    """Return a source that has the blob, a target, and a mover that expects the target to be bare, or not."""
    source, target = MemoryRegistry("s"), MemoryRegistry("t")
    source.blobs["a"] = {BLOB.digest: DATA}
    mover = BlobMover(Holdings("t", MemoryJournal()), Recorder())
    if expected:
        mover.expect_bare("a")
    return source, target, mover


async def test_the_source_is_asked_while_the_upload_opens() -> None:
    """Where the target is expected to be bare, neither request waits for the answer to the other."""
    source, target, mover = ready()
    asked = {"blob-get": anyio.Event(), "blob-post": anyio.Event()}

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        if operation.verb in asked:
            asked[operation.verb].set()
            for event in asked.values():
                await event.wait()
        yield

    source.gate = target.gate = gate
    with anyio.fail_after(5):
        await mover.ensure(BLOB, source.repository("a"), target.repository("a"))
    assert target.blobs["a"] == {BLOB.digest: DATA}
    assert source.counts() == {"blob-get": 1}
    assert target.counts() == {"blob-post": 1, "blob-put": 1}


async def test_a_repository_that_has_a_blob_after_all_is_asked_first_from_then_on() -> None:
    """One blob is read in vain at most, not one for each that is there."""
    source, target, mover = ready()
    blobs = [images.blob(bytes([at])) for at in range(5)]
    for at, blob in enumerate(blobs):
        source.blobs["a"][blob.digest] = target.blobs.setdefault("a", {})[blob.digest] = bytes([at])
    for blob in blobs:
        await mover.ensure(blob, source.repository("a"), target.repository("a"))
        mover.expect_bare("a")
    assert source.counts() == {"blob-get": 1}
    assert target.counts() == {"blob-post": 5}


async def test_a_place_on_this_machine_is_asked_first(tmp_path: Path) -> None:
    """What a layout has already, after a kill for example, is not read at all: its answer costs no round trip."""
    source, _, mover = ready()
    tree = LayoutTree(tmp_path, durable=False)
    target = LayoutRepository(tree, "a")
    await push_blob(target, BLOB, DATA)
    await mover.ensure(BLOB, source.repository("a"), target)
    assert source.counts() == {}
    await tree.close()


async def test_a_blob_that_is_doubted_is_not_read_ahead() -> None:
    """A recheck asks the target first: most of what it asks for is there."""
    source, target, mover = ready()
    target.blobs["a"] = {BLOB.digest: DATA}
    await mover.ensure(BLOB, source.repository("a"), target.repository("a"), doubted=True)
    assert source.counts() == {}


async def test_a_file_that_is_doubted_is_read(tmp_path: Path) -> None:
    """A recheck replaces what has a blob's name and size in a layout and not its bytes, in whichever repository."""
    source, _, mover = ready()
    tree = LayoutTree(tmp_path, durable=False)
    one, two = LayoutRepository(tree, "a"), LayoutRepository(tree, "b")
    await push_blob(one, BLOB, DATA)
    assert await two.begin_blob(BLOB, mount_from="a") is BlobOutcome.MOUNTED
    paths = [(await tree.store(name)).blob_path(BLOB.digest) for name in ("a", "b")]
    paths[0].write_bytes(bytes(len(DATA)))
    for target in (two, one):
        await mover.ensure(BLOB, source.repository("a"), target, doubted=True)
    assert [path.read_bytes() for path in paths] == [DATA, DATA]
    await tree.close()


@pytest.mark.parametrize("is_late", [False, True])
async def test_an_upload_that_opens_for_nothing_is_given_up(is_late: bool) -> None:  # noqa: FBT001 - a parameter
    """When the source has no such blob, the session is aborted, also when it is opened later than that."""
    source, target, mover = ready()
    del source.blobs["a"][BLOB.digest]

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        if operation.verb == ("blob-post" if is_late else "blob-get"):
            await anyio.wait_all_tasks_blocked()
        yield

    (target if is_late else source).gate = gate
    with pytest.raises(NotFound) as caught:
        await mover.ensure(BLOB, source.repository("a"), target.repository("a"))
    assert caught.value.side is Side.SOURCE
    assert target.counts() == {"blob-post": 1, "blob-abort": 1}


async def test_a_read_is_given_up_when_no_upload_opens() -> None:
    """When the target refuses, its error alone leaves, with its side."""
    source, target, mover = ready()
    target.fail("blob-post", BLOB.digest, ConnectionFailed("no"))
    with pytest.raises(ConnectionFailed) as caught:
        await mover.ensure(BLOB, source.repository("a"), target.repository("a"))
    assert caught.value.side is Side.TARGET
    assert target.slots == source.slots == 0


async def test_a_replay_after_reading_ahead_reads_again() -> None:
    """What was opened ahead serves the first reading; a second one opens the blob anew."""
    source, target, mover = ready()
    await mover.ensure(BLOB, source.repository("a"), ReplayingRepository(target, "a"))
    assert target.blobs["a"] == {BLOB.digest: DATA}
    assert source.counts() == {"blob-get": 2}


async def test_a_stop_right_after_the_commit_does_not_lose_the_note() -> None:
    """Cancelled between the registry's 201 and the record, a run still remembers that the blob is there."""
    source, target, _ = ready()
    journal = MemoryJournal()

    class Slow(MemoryJournal):
        async def record_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
            await anyio.lowlevel.checkpoint()
            await journal.record_content(registry, repository, digests)

    with anyio.CancelScope() as scope:

        class Committing(MemorySession):
            async def send(self, opener: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
                await super().send(opener)
                scope.cancel()

        class Stopping(MemoryRepository):
            async def begin_blob(self, descriptor: Descriptor, *, mount_from: str = "") -> MemorySession | BlobOutcome:
                return Committing(self, descriptor)

        mover = BlobMover(Holdings("t", Slow()), Recorder())
        await mover.ensure(BLOB, source.repository("a"), Stopping(target, "a"))
    assert target.blobs["a"] == {BLOB.digest: DATA}
    assert await journal.held("t", "a", [BLOB.digest]) == {BLOB.digest}


async def chunks_of(*parts: bytes) -> AsyncIterator[bytes]:
    """Yield the parts."""
    for part in parts:
        yield part


async def test_verified_holds_the_last_chunk_back() -> None:
    """Nothing after the last-but-one chunk is passed on before the whole has been checked."""
    passed = [chunk async for chunk in verified(chunks_of(DATA[:400], b"", DATA[400:]), BLOB)]
    assert b"".join(passed) == DATA
    seen: list[bytes] = []
    with pytest.raises(Exception, match="arrived as"):
        async for chunk in verified(chunks_of(DATA[:400], DATA[400:-1] + b"x"), BLOB):
            seen.append(chunk)  # noqa: PERF401 - the list is wanted as it was when the error came
    assert seen == [DATA[:400]]
    empty = images.blob(b"")
    assert [chunk async for chunk in verified(chunks_of(), empty)] == []
