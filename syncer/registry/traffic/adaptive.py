"""How many requests at once serve a registry best, found from how long its answers take; no I/O.

As long as answers take no longer than when few were asked, more requests at once bring more; when they
take longer the more are asked, they queue somewhere (in the registry, on the way, or in this process),
and more of them bring nothing. So the size grows by what fits into ``TOLERANCE`` times what an answer
takes without a queue, and shrinks where answers take longer than that: the gradient of TCP Vegas and
of Netflix's concurrency limits. It doubles at first (slow start), and halves when the registry says
that it is too much.

The same rule holds on loopback, where a handful of requests keeps both sides busy, and at a round
trip of 200 ms, where it takes hundreds.

What an answer takes without a queue is known from the first answers, when few were asked. Since the way
may become longer, and a window that is always full never sees it again, the window is now and then kept
small for as long as a few answers take. Only means are compared: answers differ by chance, and where
one in ten comes out of a cache, the quickest are no measure for the others.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

#: Requests at once that every registry takes, and with which a window begins.
START = 8
#: Answers may take so many times as long as without a queue.
TOLERANCE = 2.0
_TOLERABLE = math.log(TOLERANCE)
#: Part of the way that the size goes at once to where the gradient points; less is slower and steadier.
_SMOOTHING = 0.3
#: Bounds of the gradient.
_STEEPEST = (0.5, 1.5)
#: Answers that are judged together, at least.
_TOGETHER = 8
#: Part of the window that must be in use for its size to be judged: who asks little learns nothing.
_BUSY = 0.75
#: Answers of one kind of which the first measure is made; by then there may be a queue, so they are few.
_FIRST = 16
#: Seconds after which one looks again at what answers take without a queue: the first time, and from then on.
_FIRST_LOOK = 10.0
_LOOK_EVERY = 30.0
#: A look that took long is not taken again for so many times as long.
_LOOK_RARITY = 30.0
#: Part of the window that is used meanwhile, the requests that it is at least, and bounds of how many answers it takes.
_LOOK_SHARE = 0.125
_LOOK_LEAST = 4
_LOOK_ANSWERS = (8, 32)
#: Seconds for a round beyond which no look is worth its time: it is not a queue that answers wait in.
_LONG_ROUND = 2.0
#: Seconds after which as much is asked again at once as was too much once.
_RECOVERY = 20.0
#: Answers cannot be told apart below this, in seconds.
_RESOLUTION = 1e-6


class Baseline:
    """What answers of one kind take without a queue.

    Means are of logarithms: the few that take very long by nature would outweigh all others.
    """

    __slots__ = ("_count", "_fresh", "_fresh_count", "_mean")

    def __init__(self) -> None:
        self._mean = 0.0
        self._count = 0
        self._fresh = 0.0
        self._fresh_count = 0

    def excess(self, seconds: float) -> float:
        """Return the logarithm of how many times as long an answer took; the first ones are the measure."""
        size = _log(seconds)
        if self._count < _FIRST:
            self._count += 1
            self._mean += (size - self._mean) / self._count
        return size - self._mean

    def measure(self, seconds: float) -> None:
        """Take an answer for which there was no queue for a new measure."""
        self._fresh_count += 1
        self._fresh += (_log(seconds) - self._fresh) / self._fresh_count

    def settle(self) -> None:
        """Move to the new measure: half of the way, or all of it where it rests on more answers than the old one."""
        if self._fresh_count:
            share = max(0.5, self._fresh_count / (self._fresh_count + self._count)) if self._count else 1.0
            share = min(share, self._fresh_count / _TOGETHER)
            self._mean += (self._fresh - self._mean) * share
            self._count = _FIRST
        self._fresh, self._fresh_count = 0.0, 0


class AdaptiveSize:
    """The size of one window, up to a ceiling.

    Slow answers make it no smaller than it was at first; overload does, down to one request at a time.
    """

    def __init__(self, ceiling: int, *, start: int = START) -> None:
        self._ceiling = ceiling
        self._floor = float(start)
        self._limit = float(min(start, ceiling))
        self._is_starting = True
        self._baselines: dict[Hashable, Baseline] = {}
        self._round = _TOGETHER
        self._round_since = 0.0
        self._samples = 0
        self._excess = 0.0
        self._busiest = 0
        self._next_look: float | None = None
        self._look_size = 0
        self._look_left = 0
        self._looking_since = 0.0
        #: What was too much, and when.
        self._too_much = math.inf
        self._told_at = -math.inf

    @property
    def size(self) -> int:
        """How many requests may be under way at once."""
        return self._look_size if self._look_left else int(self._limit)

    @property
    def ceiling(self) -> int:
        """What the size never exceeds."""
        return self._ceiling

    @ceiling.setter
    def ceiling(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._limit = min(self._limit, float(ceiling))
        self._look_left = 0

    def answered(self, kind: Hashable, seconds: float, *, in_flight: int, now: float) -> None:
        """Take note of an answer of ``kind`` that took ``seconds`` with ``in_flight`` under way, itself included.

        Kinds differ in how long they take by nature, and are compared with their like only.
        """
        baseline = self._baselines.get(kind)
        if baseline is None:
            baseline = self._baselines[kind] = Baseline()
        if self._look_left:
            # What was asked before may have queued.
            if now - seconds >= self._looking_since:
                baseline.measure(seconds)
                self._look_left -= 1
                if not self._look_left:
                    self._end_look(now)
            return
        if self._next_look is None:
            self._next_look = now + _FIRST_LOOK
            self._begin_round(now)
        excess = baseline.excess(seconds)
        self._samples += 1
        self._excess += excess
        self._busiest = max(self._busiest, in_flight)
        if self._is_starting and excess <= _TOLERABLE and in_flight >= self.size * _BUSY:
            # One more for each answer doubles the size in the time that an answer takes.
            self._limit = min(self._limit + 1, float(self._ceiling))
        if self._samples >= self._round:
            self._judge(now)

    def overloaded(self, now: float, *, pause: float = 1.0) -> None:
        """Halve the size, and leave it so for ``pause`` seconds: many are told of one overload."""
        if now >= self._told_at + pause:
            self._told_at = now
            self._too_much = self._limit
            self._limit = max(1.0, self._limit / 2)
            self._is_starting = False
            self._look_left = 0
            self._begin_round(now)

    def _judge(self, now: float) -> None:
        """Settle a round: about as many answers as may be under way at once."""
        excess, lasted = self._excess / self._samples, now - self._round_since
        is_busy = self._busiest >= self.size * _BUSY
        if is_busy and not (self._is_starting and excess <= _TOLERABLE):
            self._is_starting = False
            self._limit = self._fitting(math.exp(excess), now)
        if is_busy and self._next_look is not None and now >= self._next_look and lasted <= _LONG_ROUND:
            self._begin_look(now)
        self._begin_round(now)

    def _fitting(self, inflation: float, now: float) -> float:
        """Return the size that fits better where answers take ``inflation`` times as long as without a queue."""
        least, most = _STEEPEST
        gradient = max(least, min(most, TOLERANCE / inflation))
        # What may queue: without it the size could never grow again.
        aim = self._limit * gradient + math.sqrt(self._limit)
        moved = self._limit * (1 - _SMOOTHING) + aim * _SMOOTHING
        if moved < self._limit:
            return max(moved, min(self._floor, self._limit))
        return max(self._limit, min(moved, self._bearable(now), float(self._ceiling)))

    def _bearable(self, now: float) -> float:
        """Return what may be asked so soon after it was too much; no bound when that is long ago."""
        share = (now - self._told_at) / _RECOVERY
        return self._too_much * (1 + share) / 2 if share < 1 else math.inf

    def _begin_round(self, now: float) -> None:
        self._round = max(_TOGETHER, int(self._limit))
        self._round_since = now
        self._samples = 0
        self._excess = 0.0
        self._busiest = 0

    def _begin_look(self, now: float) -> None:
        """Use little of the window for a moment, to see what answers take without a queue of our making."""
        if self._limit > _LOOK_LEAST and self._ceiling > self._floor:
            least, most = _LOOK_ANSWERS
            self._look_size = max(_LOOK_LEAST, int(self._limit * _LOOK_SHARE))
            self._look_left = max(least, min(most, 2 * self._look_size))
            self._looking_since = now

    def _end_look(self, now: float) -> None:
        self._next_look = now + max(_LOOK_EVERY, _LOOK_RARITY * (now - self._looking_since))
        for baseline in self._baselines.values():
            baseline.settle()
        self._begin_round(now)


def _log(seconds: float) -> float:
    return math.log(max(seconds, _RESOLUTION))
