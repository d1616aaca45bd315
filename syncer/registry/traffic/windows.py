"""How many requests are under way at once: permits, and windows that find out how many there should be."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

import anyio

from syncer.registry.traffic.adaptive import START, AdaptiveSize

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from contextlib import AbstractAsyncContextManager


#: A party has a claim to one part in so many of its even share of a window, and all together to one in so many of it.
_LANES = 4


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

    def permit(self) -> AbstractAsyncContextManager[None]:
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

    def overloaded(self, *, is_answer: bool) -> None:
        """Take note that this was too much, by an answer or for want of one; that says nothing before the first."""
        self._has_answered = self._has_answered or is_answer
        if self._has_answered:
            self._rule.overloaded(self._clock())
            self._resize(self._rule.size)


class SharedWindow(AdaptiveWindow):
    """An adaptive window that several parties share, none of which can use up what the others need.

    A permit goes to whoever waits and has fewest, and a part of the window is kept free for those who have next to
    none, whether they have come already or are only expected: a party that gives nothing back, as a target that has
    stalled, stops nobody else.
    """

    def __init__(self, ceiling: int, *, clock: Callable[[], float], is_fixed: bool = False) -> None:
        """Begin as an adaptive window does."""
        super().__init__(ceiling, clock=clock, is_fixed=is_fixed)
        #: The permits that each party holds, of all that were ever met.
        self._held: Counter[str] = Counter()
        self._expected = 1
        self._queues: dict[str, deque[anyio.Event]] = {}

    def permit(self, party: str = "", of: int = 1) -> AbstractAsyncContextManager[None]:
        """Return what waits for a permit for ``party`` when it is entered, and holds it until it is left.

        So many parties are expected as it is one ``of``.
        """
        self._expected = max(self._expected, of)
        return SharedPermit(self, party)

    async def take(self, party: str = "") -> None:
        """Wait for a permit for ``party``; :meth:`give_back` must follow."""
        if party not in self._queues and self._is_free_for(party):
            self._grant(party)
            return
        turn = anyio.Event()
        self._queues.setdefault(party, deque()).append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.give_back(party)
            else:
                self._queues[party].remove(turn)
                self._forget_if_empty(party)
            raise

    def give_back(self, party: str = "") -> None:
        """Give a permit of ``party`` back."""
        self._held[party] -= 1
        self.give_spare_back()

    def take_spare(self) -> bool:
        """Take a permit that nobody waits for, and that is not kept free; then :meth:`give_spare_back` must follow."""
        if self._queues or self._size - self._used <= self._size // _LANES:
            return False
        self._used += 1
        return True

    def give_spare_back(self) -> None:
        """Give a permit back that is of no party."""
        super().give_back()

    def _hand_out(self) -> None:
        while self._queues and self._used < self._size:
            party = min(self._queues, key=self._held.__getitem__)
            if not self._is_free_for(party):
                return
            self._grant(party)
            self._queues[party].popleft().set()
            self._forget_if_empty(party)

    def _grant(self, party: str) -> None:
        self._used += 1
        self._held[party] += 1

    def _is_free_for(self, party: str) -> bool:
        free = self._size - self._used
        parties = max(self._expected, len(self._held) + (party not in self._held))
        if free <= 0 or parties == 1:
            return free > 0
        least = self._size // (_LANES * parties) or 1
        if self._held[party] < least:
            return True
        others = parties - 1
        wanting = least * others - sum(min(held, least) for other, held in self._held.items() if other != party)
        return free > min(wanting, self._size // _LANES)

    def _forget_if_empty(self, party: str) -> None:
        if not self._queues[party]:
            del self._queues[party]


class SharedPermit:
    """A permit of a :class:`SharedWindow` for one party."""

    __slots__ = ("_party", "_window")

    def __init__(self, window: SharedWindow, party: str) -> None:
        self._window = window
        self._party = party

    async def __aenter__(self) -> None:
        """Wait for it."""
        await self._window.take(self._party)

    async def __aexit__(self, *_error: object) -> None:
        """Give it back."""
        self._window.give_back(self._party)
