"""Who may change a repository while somebody else does.

A manifest is accepted when all it links to is there, so between that check and the write nothing
may be deleted. Pushes of one repository go side by side; a deletion waits for them and has the
repository to itself.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@dataclass(slots=True)
class _Gate:
    users: int = 0
    pushing: int = 0
    deleting: bool = False
    deletions_waiting: int = 0
    changed: anyio.Event = field(default_factory=anyio.Event)

    def notify(self) -> None:
        """Let all who wait look again."""
        self.changed.set()
        self.changed = anyio.Event()


class RepositoryGuards:
    """One gate for each repository that is being changed at the moment.

    What is given back is given back without awaiting anything. A server that is stopped cancels its requests as asyncio
    does, which no shield of anyio's keeps off: a request that had to wait for a lock then would hold the repository
    for ever.
    """

    def __init__(self) -> None:
        self._gates: dict[str, _Gate] = {}

    @asynccontextmanager
    async def pushing(self, repository: str) -> AsyncIterator[None]:
        """Hold off deletions; a deletion that waits already goes first, so that it is not starved."""
        with self._gate(repository) as gate:
            while gate.deleting or gate.deletions_waiting:
                await gate.changed.wait()
            gate.pushing += 1
            try:
                yield
            finally:
                gate.pushing -= 1
                gate.notify()

    @asynccontextmanager
    async def deleting(self, repository: str) -> AsyncIterator[None]:
        """Have the repository alone."""
        with self._gate(repository) as gate:
            gate.deletions_waiting += 1
            try:
                while gate.deleting or gate.pushing:
                    await gate.changed.wait()
                gate.deleting = True
            finally:
                gate.deletions_waiting -= 1
                # One that gave up waiting must not hold the pushes that let it pass.
                gate.notify()
            try:
                yield
            finally:
                gate.deleting = False
                gate.notify()

    @contextmanager
    def _gate(self, repository: str) -> Iterator[_Gate]:
        gate = self._gates.setdefault(repository, _Gate())
        gate.users += 1
        try:
            yield gate
        finally:
            gate.users -= 1
            if not gate.users:
                del self._gates[repository]
