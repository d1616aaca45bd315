"""Judges what an embedded registry holds while it serves: I1 after each accepted manifest, I9 after each run.

The layouts are read as another program would read them, with none of Syncer's code.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from anyio import to_thread

from syncer.cli.exits import code_of_report
from syncer.events import TagOutcome
from tests.support.faults.invariants import Course, inconsistencies
from tests.support.layouts.findings import Flaw
from tests.support.layouts.reading import flaws_below, read_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from syncer.events import TagFinished
    from syncer.server import RequestRecord
    from syncer.telemetry.report import Report
    from tests.support.layouts.reading import Record

#: Rounds of the loop.
_MOMENT = 20


class LayoutJudge:
    """Looks at the repositories of one embedded registry whenever a manifest was accepted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._whole: dict[str, set[tuple[str, int]]] = {}
        self._due: set[str] = set()
        self._is_due = anyio.Event()
        self._looking = anyio.Lock()
        self.problems: list[str] = []

    def answered(self, record: RequestRecord) -> None:
        """Hear of a request."""
        repository, slash, _ = record.path.removeprefix("/v2/").rpartition("/manifests/")
        if record.method == "DELETE":
            self._whole.clear()
        elif record.method == "PUT" and slash and record.status == 201:
            self._due.add(repository)
            self._is_due.set()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Judge for the length of the block.

        Raises:
            AssertionError: at its end, with what was found.
        """
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.settled()
        assert not self.problems, "\n".join(self.problems)

    async def settled(self) -> None:
        """Judge what is due, now; a server tells of a request a moment after its answer has gone out."""
        for _ in range(_MOMENT):
            await anyio.lowlevel.checkpoint()
        await self._judge()

    async def _watch(self) -> None:
        while True:
            await self._is_due.wait()
            self._is_due = anyio.Event()
            await self._judge()

    async def _judge(self) -> None:
        # Who wants to know waits for a look that is under way, too.
        async with self._looking:
            due, self._due = self._due, set()
            for repository in due:
                self.problems += await to_thread.run_sync(self._holes, repository)

    def _holes(self, repository: str) -> list[str]:
        layout = self._root / repository
        whole = self._whole.setdefault(repository, set())
        record = read_record(layout, journal=True)
        found = {
            (tag, digest): f"I1: {repository}:{tag} is {digest}, and {flaw}"
            for tag, digest in record.tags.items()
            if (flaw := next(flaws_below(layout, record.entries[digest], whole), None))
        }
        # A tag may have gone, or moved, between the two looks.
        now = read_record(layout, journal=True).tags.items() if found else set()
        damaged = [one for one in record.findings if one.flaw is not Flaw.ABSENT]
        return [
            *(f"{repository}: {finding}" for finding in damaged),
            *(text for tag_digest, text in found.items() if tag_digest in now),
        ]


def agreement(report: Report, finished: Sequence[TagFinished], roots: dict[str, Path]) -> list[str]:
    """I9: what a run says of each tag is what the layouts hold, by the hosts that serve them."""
    found = list(inconsistencies(Course(report=report, finished=finished, exit_code=code_of_report(report))))
    # Reading a layout of many tags takes its time: once is enough for what is said of it.
    records: dict[Path, Record] = {}
    for event in finished:
        host, _, repository = event.target.partition("/")
        if host not in roots or event.outcome not in (TagOutcome.COPIED, TagOutcome.IN_SYNC) or event.digest is None:
            continue
        layout = roots[host] / repository
        if layout not in records:
            records[layout] = read_record(layout, journal=True)
        record = records[layout]
        now = record.tags.get(event.tag, "")
        if now != event.digest:
            found.append(f"{event.target}:{event.tag} is said to be {event.digest}, and is {now or 'not there'}")
        elif flaw := next(flaws_below(layout, record.entries[now], set()), None):
            found.append(f"{event.target}:{event.tag} is said to be {event.outcome}, and {flaw}")
    return [f"I9: {text}" for text in found]
