"""How much one registry is asked to do at once.

Three classes: control requests (manifests, tags, opening an upload) are many and small; data is blobs
in motion; and bulk is those of them that are large. They have windows of their own, so that a manifest
never queues behind a config, nor a config behind a layer, and each finds its size. How many large
blobs move at once is what bounds memory: each has its buffers. A registry that says "too many
requests" is left alone as a whole for as long as it asks.

What gives an upload up is in a class of its own, which has a few permits and never fewer: a run that is
stopped has two seconds for it, and it is when requests hang that runs are stopped.
"""

from __future__ import annotations

import random as random_module
from typing import TYPE_CHECKING

from syncer.events import RequestKind
from syncer.registry.traffic.windows import AdaptiveWindow, SharedWindow, Window

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

#: Seconds of requests or bytes that may go out in one burst.
_BURST = 0.1
#: Seconds that are too short to sleep for; what is not waited now is waited later.
_NOT_WORTH_SLEEPING = 0.002
#: Uploads that are given up at once, at most.
_TIDYING = 16
#: How much later than a pause ends the last who wait go on: a share of it, and seconds at most.
_SPREAD = 0.1
_LONGEST_SPREAD = 1.0
#: Bounds of the pieces in which bytes pass where there is a ceiling on them, in bytes.
_SMALLEST_PIECE = 4 * 1024
_LARGEST_PIECE = 256 * 1024
#: Bytes of a blob that may have buffers of full size in use.
LARGE = 1024 * 1024


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
        self.rate = rate
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._next = clock()

    async def wait(self, units: int = 1) -> None:
        """Wait until ``units`` more may pass."""
        now = self._clock()
        due = max(self._next, now - self._burst)
        self._next = due + units / self.rate
        if due - now > _NOT_WORTH_SLEEPING:
            await self._sleep(due - now)


class Limits:
    """The windows, the pace and the pauses of one registry and of the hosts it leads to."""

    def __init__(
        self,
        *,
        control: int,
        data: int,
        bulk: int = 16,
        requests_per_second: float | None,
        bandwidth: int | None,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        rates: Mapping[RequestKind, float] | None = None,
        random: Callable[[], float] = random_module.random,
        is_fixed: bool = False,
    ) -> None:
        """Set the ceilings: requests, small and large blobs at once, requests a second, bytes of blobs a second.

        ``rates`` are ceilings in requests a second for single kinds of requests. With ``is_fixed`` the ceilings
        on what is under way at once are what the windows begin with, and only overload makes them smaller.
        """
        self.control = AdaptiveWindow(control, clock=clock, is_fixed=is_fixed)
        self.data = SharedWindow(data, clock=clock, is_fixed=is_fixed)
        self.bulk = SharedWindow(bulk, clock=clock, is_fixed=is_fixed)
        self._tidying = Window(min(control, _TIDYING))
        self._requests = Pace(requests_per_second, clock=clock, sleep=sleep) if requests_per_second else None
        self._kinds = {kind: Pace(rate, clock=clock, sleep=sleep) for kind, rate in (rates or {}).items()}
        self._bytes = Pace(bandwidth, clock=clock, sleep=sleep) if bandwidth else None
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._paused_until: dict[str, float] = {}
        self._spread: dict[str, float] = {}

    def of_blob(self, size: int) -> SharedWindow:
        """Return the window for blobs of ``size`` bytes."""
        return self.bulk if size > LARGE else self.data

    def tighten(
        self, *, control: int, data: int, bulk: int, requests_per_second: float | None, bandwidth: int | None
    ) -> None:
        """Take the lower of each ceiling: another who asks this registry was given these."""
        self.control.lower(control)
        self.data.lower(data)
        self.bulk.lower(bulk)
        if control < self._tidying.size:
            # Who waits for a permit of the former gets it there.
            self._tidying = Window(control)
        self._requests = self._slower(self._requests, requests_per_second)
        self._bytes = self._slower(self._bytes, bandwidth)

    def _slower(self, pace: Pace | None, rate: float | None) -> Pace | None:
        if not rate:
            return pace
        if pace is None:
            return Pace(rate, clock=self._clock, sleep=self._sleep)
        pace.rate = min(pace.rate, rate)
        return pace

    def request(self, *, data: bool, kind: RequestKind | None = None) -> Turn:
        """Return what waits for the right to send one request when it is entered, and holds it until it is left.

        A ``data`` request holds a blob's slot already.
        """
        if data:
            return Turn(self, None, kind)
        return Turn(self, self._tidying if kind is RequestKind.UPLOAD_DELETE else self.control, kind)

    def pause(self, seconds: float, place: str = "") -> None:
        """Send nothing for ``seconds`` to the registry, or to another ``place`` it leads to (an origin).

        A longer pause that is under way stays.
        """
        now = self._clock()
        self._paused_until = {there: until for there, until in self._paused_until.items() if until > now}
        self._spread = {there: self._spread[there] for there in self._paused_until}
        if now + seconds > self._paused_until.get(place, 0.0):
            self._paused_until[place] = now + seconds
            self._spread[place] = min(_LONGEST_SPREAD, seconds * _SPREAD)

    def is_paused(self, place: str = "") -> bool:
        """Tell whether nothing is to be sent to the registry, or to ``place``, now."""
        return place in self._paused_until and self._paused_until[place] > self._clock()

    async def wait_pause(self, place: str = "") -> None:
        """Wait until something may be sent to the registry, or to ``place``.

        Who waits comes back at a time of his own after the pause: all at once would be the next burst.
        """
        while place in self._paused_until and self.is_paused(place):
            late = self._spread[place] * self._random()
            await self._sleep(self._paused_until[place] - self._clock() + late)

    @property
    def piece(self) -> int | None:
        """Bytes that pass at once where they are to flow evenly under a ceiling; None where there is none."""
        if self._bytes is None:
            return None
        return max(_SMALLEST_PIECE, min(_LARGEST_PIECE, int(self._bytes.rate * _BURST)))

    async def pass_bytes(self, count: int) -> None:
        """Wait until ``count`` bytes of blobs may have passed."""
        if self._bytes is not None:
            await self._bytes.wait(count)

    async def wait_kind(self, kind: RequestKind) -> None:
        """Wait until a request of ``kind`` may go out, where that has a ceiling of its own."""
        pace = self._kinds.get(kind)
        if pace is not None:
            await pace.wait()

    async def wait_turn(self) -> None:
        """Wait until another request may go out: after the pause, and no sooner than the ceiling allows."""
        await self.wait_pause()
        if self._requests is not None:
            await self._requests.wait()
            await self.wait_pause()


class Turn:
    """The right to send one request; see :meth:`Limits.request`."""

    __slots__ = ("_kind", "_limits", "_window")

    def __init__(self, limits: Limits, window: Window | None, kind: RequestKind | None) -> None:
        self._limits = limits
        self._window = window
        self._kind = kind

    async def __aenter__(self) -> None:
        """Wait for it."""
        limits, window = self._limits, self._window
        if self._kind is not None:
            # Before a permit is taken: those who wait for a slow kind must not keep the others out.
            await limits.wait_kind(self._kind)
        if window is None:
            await limits.wait_turn()
            return
        while True:
            await limits.wait_pause()
            await window.take()
            try:
                if not limits.is_paused():
                    await limits.wait_turn()
                    return
            except BaseException:
                window.give_back()
                raise
            # Throttled while this one queued: give the permit back, nothing is sent in a pause.
            window.give_back()

    async def __aexit__(self, *_error: object) -> None:
        """Give it back."""
        if self._window is not None:
            self._window.give_back()
