"""Observers that act as time passes, beside the work that they hear of."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from syncer.engine.fanout import open_group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from syncer.events import Observer


@runtime_checkable
class Ticking(Protocol):
    """An observer that wants to act as time passes, not only on events."""

    async def run(self) -> None:
        """Act from time to time, until cancelled."""
        ...


@asynccontextmanager
async def beside(observers: Sequence[Observer]) -> AsyncIterator[None]:
    """Run the ticking ones of ``observers`` for the length of the block."""
    async with open_group() as group:
        for observer in observers:
            if isinstance(observer, Ticking):
                group.start_soon(observer.run)
        yield
        group.cancel_scope.cancel()
