"""How many requests are under way at once: permits, and windows that find out how many there should be."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio

from syncer.registry.traffic.adaptive import START, AdaptiveSize

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Window:
    """At most ``size`` permits are out at once, given in the order in which they are asked for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._waiters: deque[anyio.Event] = deque()

    @property
    def size(self) -> int:
        """How many permits there are."""
        return self._size

    @property
    def used(self) -> int:
        """How many permits are out."""
        return self._used

    def permit(self) -> Permit:
        """Return what waits for a permit when it is entered, and holds it until it is left."""
        return Permit(self)

    async def take(self) -> None:
        """Wait for a permit; :meth:`give_back` must follow."""
        if self._used < self._size and not self._waiters:
            # Every request comes by here: there is no round of the event loop where there is nothing to wait for.
            self._used += 1
            return
        turn = anyio.Event()
        self._waiters.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.give_back()
            else:
                self._waiters.remove(turn)
            raise

    def take_now(self) -> bool:
        """Take a permit if one is free and nobody waits for it; then :meth:`give_back` must follow."""
        if self._used >= self._size or self._waiters:
            return False
        self._used += 1
        return True

    def give_back(self) -> None:
        """Give a permit to whoever has waited longest."""
        self._used -= 1
        self._hand_out()

    def _resize(self, size: int) -> None:
        if size != self._size:
            # Permits that are out stay out; those who wait get theirs when there are more.
            self._size = size
            self._hand_out()

    def _hand_out(self) -> None:
        while self._waiters and self._used < self._size:
            self._used += 1
            self._waiters.popleft().set()


class Permit:
    """The right to send one request; it belongs to what is done with it, not to the task, which may hold several."""

    __slots__ = ("_window",)

    def __init__(self, window: Window) -> None:
        self._window = window

    async def __aenter__(self) -> None:
        """Wait for it."""
        await self._window.take()

    async def __aexit__(self, *_error: object) -> None:
        """Give it back."""
        self._window.give_back()


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
