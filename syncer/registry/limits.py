"""How much one registry is asked to do at once.

Two classes: control requests (manifests, tokens, tags, opening an upload) are many and small; data
is blobs in motion. They have windows of their own, so that a manifest never queues behind a layer.
A registry that says "too many requests" is left alone as a whole for as long as it asks.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

#: Seconds of requests that may go out in one burst, for settings that ask for few a second.
_BURST = 0.1


class Window:
    """At most ``size`` permits are out at once; the size may change at any time."""

    def __init__(self, size: int) -> None:
        self._limiter = anyio.CapacityLimiter(size)

    @property
    def size(self) -> int:
        """How many permits there are."""
        return int(self._limiter.total_tokens)

    @size.setter
    def size(self, size: int) -> None:
        self._limiter.total_tokens = max(1, size)

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


class Pace:
    """At most ``rate`` units a second, in order of arrival (the generic cell rate algorithm)."""

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        burst: float = _BURST,
    ) -> None:
        self._interval = 1.0 / rate
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._next = clock()

    async def wait(self, units: int = 1) -> None:
        """Wait until ``units`` more may pass."""
        now = self._clock()
        due = max(self._next, now - self._burst)
        self._next = due + units * self._interval
        if due > now:
            await self._sleep(due - now)


class Limits:
    """The windows, the pace and the pause of one registry."""

    def __init__(
        self,
        *,
        control: int,
        data: int,
        requests_per_second: float | None,
        bandwidth: int | None,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.control = Window(control)
        self.data = Window(data)
        self._requests = Pace(requests_per_second, clock=clock, sleep=sleep) if requests_per_second else None
        self._bytes = Pace(bandwidth, clock=clock, sleep=sleep) if bandwidth else None
        self._clock = clock
        self._sleep = sleep
        self._paused_until = 0.0

    @asynccontextmanager
    async def request(self, *, data: bool) -> AsyncIterator[None]:
        """Wait for the right to send one request, and hold it; a ``data`` request holds a blob's slot already."""
        if data:
            await self._wait_turn()
            yield
            return
        while True:
            await self._wait_pause()
            async with self.control.permit():
                if self._is_paused:
                    # Throttled while this one queued: give the permit back, nothing is sent in a pause.
                    continue
                await self._wait_turn()
                yield
                return

    def pause(self, seconds: float) -> None:
        """Send nothing for ``seconds``; a longer pause that is under way stays."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    async def pass_bytes(self, count: int) -> None:
        """Wait until ``count`` bytes of blobs may have passed."""
        if self._bytes is not None:
            await self._bytes.wait(count)

    @property
    def _is_paused(self) -> bool:
        return self._paused_until > self._clock()

    async def _wait_pause(self) -> None:
        while self._is_paused:
            await self._sleep(self._paused_until - self._clock())

    async def _wait_turn(self) -> None:
        await self._wait_pause()
        if self._requests is not None:
            await self._requests.wait()
            await self._wait_pause()
