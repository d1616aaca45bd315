"""The state file among processes: killed, locked out, read from beside."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.streams.text import TextReceiveStream

from syncer.errors import StateLocked
from syncer.events import RunStatus
from syncer.oci.digest import Digest
from syncer.state import StateStore
from syncer.state.backlog import BATCH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import Process

    from syncer.events import Event

pytestmark = pytest.mark.untraced

HOLDER = Path(__file__).with_name("holder.py")
ROOT = Path(__file__).parents[3]


class Deaf:
    """An observer that does not listen."""

    def notify(self, event: Event) -> None:
        """Ignore ``event``."""


class Holder:
    """A process that records, and what it said so far."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self.process = process
        self.pid = process.pid
        self._output = TextReceiveStream(process.stdout)
        self._rest = ""
        self.put = self.done = -1
        self.is_ready = False

    async def read(self) -> bool:
        """Take in some of what it says; tell whether there may be more."""
        try:
            text = self._rest + await self._output.receive()
        except anyio.EndOfStream:
            return False
        *lines, self._rest = text.split("\n")
        for line in lines:
            word, _, number = line.partition(" ")
            if word == "put":
                self.put = int(number)
            elif word == "done":
                self.done = int(number)
            else:
                self.is_ready = True
        return True

    async def until(self, put: int) -> None:
        """Wait until it has put record ``put``."""
        while self.put < put:
            assert await self.read()

    async def ready(self) -> None:
        """Wait until it has the file."""
        while not self.is_ready:
            assert await self.read()

    async def kill(self) -> None:
        """Kill it as by power loss, and take in its last words."""
        self.process.kill()
        while await self.read():
            pass
        await self.process.wait()


@asynccontextmanager
async def holding(path: Path, first: int = 0) -> AsyncIterator[Holder]:
    """Start a process that records into ``path``; it is killed in the end."""
    command = [sys.executable, str(HOLDER), str(path), str(first)]
    async with await anyio.open_process(command, stderr=None, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}) as process:
        try:
            yield Holder(process)
        finally:
            if process.returncode is None:
                process.kill()


@pytest.mark.slow
async def test_a_killed_process_loses_its_last_batches_only(tmp_path: Path) -> None:
    """After kill -9 at any moment the file is sound, holds all that was flushed, and has no gap."""
    path = tmp_path / "syncer.db"
    first = 0
    for round_number, count in enumerate((1, 150, 777, 2345, 40)):
        async with holding(path, first) as holder:
            await holder.until(first + count)
            await holder.kill()
            put, done = holder.put, holder.done
        async with StateStore.open(path, observer=Deaf()) as store:
            tags = await store.tags("t.io/a")
            numbers = sorted(int(tag.removeprefix("v")) for tag in tags)
            assert numbers == list(range(len(numbers)))
            assert done < len(numbers)
            # Each turn of the other process puts two records; one batch may be written and one full.
            assert put + 1 - len(numbers) <= BATCH + 1
            assert len(await store.runs()) == round_number + 1
            # A record and its content go in order: at most the last has no content yet.
            known = await store.held("t.io", "a", [Digest.of(str(number).encode()) for number in numbers[:-1]])
            assert len(known) == max(0, len(numbers) - 1)
        first = len(numbers)


async def test_a_second_process_is_told_who_holds_the_file(tmp_path: Path) -> None:
    """While one process has the file another gets its number; when it dies the file is free, its run interrupted."""
    path = tmp_path / "syncer.db"
    async with holding(path) as holder:
        await holder.ready()
        with pytest.raises(StateLocked, match=rf"process {holder.pid}\b") as caught:
            async with StateStore.open(path, observer=Deaf()):
                pass
        assert str(path) in caught.value.message
        await holder.kill()
    async with StateStore.open(path, observer=Deaf()) as store:
        await store.begin_run("spec.yaml")
        assert [run.status for run in await store.runs()] == [RunStatus.RUNNING, RunStatus.INTERRUPTED]


async def test_status_is_read_while_another_process_writes(tmp_path: Path) -> None:
    """A reader beside a writing process sees a growing, consistent state, and does not stop the writer."""
    path = tmp_path / "syncer.db"
    async with holding(path) as holder:
        await holder.until(500)
        seen = []
        for step in range(3):
            async with StateStore.read(path) as store:
                (summary,) = await store.summary()
                seen.append(summary.tags)
            await holder.until(500 + 1000 * (step + 1))
        assert seen == sorted(seen)
        assert seen[0] > 0
        await holder.kill()
