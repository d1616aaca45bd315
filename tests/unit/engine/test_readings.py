"""One reading for several targets: who shares it, who is cut loose, and that nobody waits for ever."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from syncer.engine.readings import Readings, _Reading
from syncer.errors import ConnectionFailed
from tests.support import images
from tests.support.memory import CHUNK, MemoryRegistry, MemoryRepository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from syncer.oci import Descriptor

DATA = images.random_bytes(40 * CHUNK)
BLOB = images.blob(DATA)
SHORT = images.random_bytes(3 * CHUNK)
SMALL = images.blob(SHORT)
BUFFER = 8 * CHUNK
TARGETS = 3


class Bench:
    """A source with a long blob and a short one, and the readings of a run that has three targets."""

    def __init__(self, *, targets: int = TARGETS, kept: int = 10 * CHUNK) -> None:
        self.registry = MemoryRegistry("source")
        self.registry.blobs["app"] = {BLOB.digest: DATA, SMALL.digest: SHORT}
        self.source = self.registry.repository("app")
        self.readings = Readings(buffer=BUFFER, patience=0, kept=kept)
        self.readings.expect("source", "app", targets)

    @property
    def fetches(self) -> int:
        """How often the source was asked for a blob."""
        return self.registry.counts("blob-get")["blob-get"]

    async def read(self, reader: str, blob: Descriptor = BLOB, *, pace: int = 0) -> bytes:
        """Read the blob whole, letting others run ``pace`` times before each chunk."""
        data = b""
        async with self.readings.open(blob, self.source, reader) as chunks:
            async for chunk in chunks:
                for _ in range(pace):
                    await anyio.lowlevel.checkpoint()
                data += chunk
        return data

    async def read_all(self, *paces: int) -> list[bytes]:
        """Read at several paces at once."""
        found: list[bytes] = []

        async def one(at: int, pace: int) -> None:
            found.append(await self.read(f"t{at}", pace=pace))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                for at, pace in enumerate(paces):
                    group.start_soon(one, at, pace)
        return found

    def assert_empty(self) -> None:
        """Nothing is held for anybody."""
        assert not self.readings._open
        assert not self.readings._kept
        assert self.readings._kept_bytes == 0


async def test_targets_that_come_at_once_share_one_reading() -> None:
    """Three targets at the same pace: the source is asked once, and all get every byte."""
    bench = Bench()
    assert await bench.read_all(1, 1, 1) == [DATA] * 3
    assert bench.fetches == 1
    bench.assert_empty()


async def test_a_lone_target_shares_with_nobody() -> None:
    """Without another target that may want the blob each reading is the source's own, and nothing is kept."""
    bench = Bench(targets=1)
    assert await bench.read("a") == await bench.read("b") == DATA
    assert bench.fetches == 2
    bench.assert_empty()


async def test_a_short_blob_is_kept_until_every_target_has_had_it() -> None:
    """Who comes later gets a short blob from memory; when the last has come nothing is held any more."""
    bench = Bench()
    for reader in "abc":
        assert await bench.read(reader, SMALL) == SHORT
    assert bench.fetches == 1
    bench.assert_empty()


async def test_what_is_kept_is_bounded() -> None:
    """The oldest short blobs are let go when there are too many of them."""
    bench = Bench(kept=5 * CHUNK)
    blobs = [images.random_bytes(2 * CHUNK, at) for at in range(6)]
    for data in blobs:
        bench.registry.blobs["app"][images.blob(data).digest] = data
        assert await bench.read("a", images.blob(data)) == data
        assert bench.readings._kept_bytes <= 5 * CHUNK
    assert await bench.read("b", images.blob(blobs[-1])) == blobs[-1]
    assert bench.fetches == 6
    assert await bench.read("b", images.blob(blobs[0])) == blobs[0]
    assert bench.fetches == 7


async def test_who_comes_when_the_beginning_is_gone_reads_for_itself() -> None:
    """A long blob is not held for latecomers, and nobody waits for them."""
    bench = Bench()
    async with bench.readings.open(BLOB, bench.source, "a") as chunks:
        data = b""
        async for chunk in chunks:
            data += chunk
            if len(data) == 20 * CHUNK:
                assert await bench.read("b") == DATA
    assert data == DATA
    assert bench.fetches == 2


@pytest.mark.parametrize("is_leader", [True, False])
async def test_a_target_that_stalls_is_cut_loose(is_leader: bool) -> None:  # noqa: FBT001 - a parameter
    """One that takes nothing holds up no other, holds no more than the buffer, and ends by a reading of its own."""
    bench = Bench(targets=2)
    most = 0
    done = anyio.Event()
    stalled: list[bytes] = []

    async def stall() -> None:
        async with bench.readings.open(BLOB, bench.source, "slow") as chunks:
            stalled.append(await anext(chunks))
            await done.wait()
            stalled.extend([chunk async for chunk in chunks])

    async def hurry() -> None:
        nonlocal most
        data = b""
        async with bench.readings.open(BLOB, bench.source, "quick") as chunks:
            async for chunk in chunks:
                data += chunk
                most = max(most, *(reading.held for reading in bench.readings._open.values()))
        assert data == DATA
        done.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for task in (stall, hurry) if is_leader else (hurry, stall):
                group.start_soon(task)
    assert b"".join(stalled) == DATA
    assert bench.fetches == 2
    assert most <= BUFFER + CHUNK
    bench.assert_empty()


async def test_a_target_that_is_a_little_slower_is_waited_for() -> None:
    """There is some patience: a lag beyond the buffer that soon ends costs no reading."""
    bench = Bench()
    bench.readings = Readings(buffer=BUFFER, patience=5)
    bench.readings.expect("source", "app", TARGETS)
    assert await bench.read_all(0, 1, 6) == [DATA] * 3
    assert bench.fetches == 1


async def test_the_quickest_waits_for_the_others_only_within_the_buffer() -> None:
    """While nobody is starved, the source is read no further than the buffer beyond the slowest."""
    bench = Bench(targets=2)
    reading = _Reading(BUFFER, 0, 2)
    slow, quick = reading.join("slow"), reading.join("quick")
    async with anyio.create_task_group() as group:
        group.start_soon(reading.read, BLOB, bench.source)
        for _ in range(4):
            await reading.take(quick)
        await anyio.wait_all_tasks_blocked()
        assert reading.held <= BUFFER
        assert not slow.is_loose
        group.cancel_scope.cancel()


@pytest.mark.parametrize("way", ["fails", "is cancelled"])
async def test_who_shared_goes_on_alone_when_the_leader_gives_up(way: str) -> None:
    """A leader whose own target fails takes nobody with it, and what it raises leaves as it came."""
    bench = Bench()
    got: list[bytes] = []
    scope = anyio.CancelScope()

    async def follow(reader: str) -> None:
        got.append(await bench.read(reader, pace=1))

    async def lead() -> None:
        with scope:
            async with bench.readings.open(BLOB, bench.source, "leader") as chunks:
                for _ in range(5):
                    await anext(chunks)
                if way == "fails":
                    raise ZeroDivisionError
                scope.cancel()
                await anyio.sleep_forever()

    async def run() -> None:
        if way == "fails":
            with pytest.raises(ZeroDivisionError):
                await lead()
        else:
            await lead()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            group.start_soon(follow, "b")
            group.start_soon(follow, "c")
    assert got == [DATA, DATA]
    assert bench.fetches == 3
    bench.assert_empty()


class Breaking(MemoryRepository):
    """A source whose first reading breaks off in the middle, or at once."""

    def __init__(self, place: MemoryRegistry, name: str, *, after: int) -> None:
        super().__init__(place, name)
        self.after = after
        self.reads = 0

    @asynccontextmanager
    async def fetch_blob(self, descriptor: Descriptor) -> AsyncIterator[AsyncIterator[bytes]]:
        self.reads += 1
        is_first = self.reads == 1

        async def broken(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            for _ in range(self.after):
                yield await anext(chunks)
            raise ConnectionFailed("gone")

        async with super().fetch_blob(descriptor) as chunks:
            if is_first and not self.after:
                await anyio.lowlevel.checkpoint()
                raise ConnectionFailed("gone")
            yield broken(chunks) if is_first else chunks


@pytest.mark.parametrize("after", [0, 5])
async def test_a_reading_that_breaks_off_fails_its_leader_only(after: int) -> None:
    """The leader hears of it; the others read for themselves, from where they are."""
    bench = Bench()
    bench.source = Breaking(bench.registry, "app", after=after)
    ends: dict[str, bytes | str] = {}

    async def one(reader: str) -> None:
        try:
            ends[reader] = await bench.read(reader)
        except ConnectionFailed as error:
            ends[reader] = error.message

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for reader in "abc":
                group.start_soon(one, reader)
    assert ends == {"a": "gone", "b": DATA, "c": DATA}
    bench.assert_empty()


async def test_who_reads_again_gets_other_bytes_than_before() -> None:
    """A second reading by the same target, of a blob that was wrong the first time, is not served from memory."""
    bench = Bench()
    await bench.read("a", SMALL)
    await bench.read("a", SMALL)
    await bench.read("b", SMALL)
    assert bench.fetches == 3


async def test_a_reading_that_nobody_takes_part_in_any_more_ends() -> None:
    """When all have been cut loose, nothing is read on."""
    bench = Bench()
    reading = _Reading(BUFFER, 0, 2)
    share = reading.join("a")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(reading.read, BLOB, bench.source)
            await anyio.wait_all_tasks_blocked()
            reading.leave(share)
    assert not reading.is_whole
    assert reading.held <= BUFFER + CHUNK


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_the_paces_everyone_ends_with_every_byte(seed: int) -> None:
    """Readers that come, pause and leave at random: nobody waits for ever, and nobody gets a wrong byte."""
    dice = random.Random(seed)  # noqa: S311 - a test's dice
    bench = Bench(targets=4)

    async def one(reader: str) -> None:
        for _ in range(dice.randrange(30)):
            await anyio.lowlevel.checkpoint()
        leaves_at = dice.choice([None, None, dice.randrange(40)])
        data = b""
        async with bench.readings.open(BLOB, bench.source, reader) as chunks:
            async for chunk in chunks:
                data += chunk
                for _ in range(dice.choice([0, 0, 1, 2, 25])):
                    await anyio.lowlevel.checkpoint()
                if leaves_at is not None and len(data) > leaves_at * CHUNK:
                    return
                assert all(reading.held <= BUFFER + CHUNK for reading in bench.readings._open.values())
        assert data == DATA

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for at in range(6):
                group.start_soon(one, f"t{at}")
    bench.assert_empty()
