"""How many requests are under way at once: permits, and windows that find out how many there should be."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from syncer.registry.traffic.adaptive import START, AdaptiveSize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable


class Window:
    """At most ``size`` permits are out at once, given in the order in which they are asked for."""

    def __init__(self, size: int) -> None:
        self._limiter = anyio.CapacityLimiter(size)

    @property
    def size(self) -> int:
        """How many permits there are."""
        return int(self._limiter.total_tokens)

    @property
    def used(self) -> int:
        """How many permits are out."""
        return self._limiter.borrowed_tokens

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Wait for a permit and hold it."""
        # A permit belongs to what is done with it, not to the task: one task may hold several.
        holder = object()
        await self._limiter.acquire_on_behalf_of(holder)
        try:
            yield
        finally:
            self._limiter.release_on_behalf_of(holder)

    def _resize(self, size: int) -> None:
        if size != self._limiter.total_tokens:
            # Permits that are out stay out; those who wait get theirs when there are more.
            self._limiter.total_tokens = size


class AdaptiveWindow(Window):
    """A window whose size follows from how long answers take, and from what is too much for the registry."""

    def __init__(self, ceiling: int, *, clock: Callable[[], float], is_fixed: bool = False) -> None:
        """Begin small; ``is_fixed`` begins with the ceiling, and is never smaller for slow answers."""
        self._rule = AdaptiveSize(ceiling, start=ceiling if is_fixed else START)
        self._clock = clock
        self._has_answered = False
        super().__init__(self._rule.size)

    @property
    def ceiling(self) -> int:
        """How many permits there are at most."""
        return self._rule.ceiling

    def lower(self, ceiling: int) -> None:
        """Take ``ceiling`` where it is lower."""
        self._rule.ceiling = min(self._rule.ceiling, ceiling)
        self._resize(self._rule.size)

    def answered(self, kind: Hashable, seconds: float) -> None:
        """Take note of an answer that took ``seconds``; of one ``kind`` are those that should take about as long."""
        self._has_answered = True
        self._rule.answered(kind, seconds, in_flight=self.used, now=self._clock())
        self._resize(self._rule.size)

    def overloaded(self) -> None:
        """Take note that this was too much; of who has not answered yet, that says nothing."""
        if self._has_answered:
            self._rule.overloaded(self._clock())
            self._resize(self._rule.size)
