"""How many requests at once serve a registry best, found from how long its answers take; no I/O.

As long as an answer takes as long as the quickest of its kind, more requests at once bring more; when
answers take longer the more are asked, they queue somewhere (in the registry, on the way, or in this
process), and more of them bring nothing. So the size grows by what fits into ``TOLERANCE`` times the
quickest answer, and shrinks where answers take longer than that: the gradient of TCP Vegas and of
Netflix's concurrency limits. It doubles at first (slow start), and halves when the registry says that
it is too much.

The same rule holds on loopback, where a handful of requests keeps both sides busy, and at a round
trip of 200 ms, where it takes hundreds.
"""

from __future__ import annotations

from math import sqrt

#: An answer may take so many times as long as the quickest of its kind before it counts as queued.
TOLERANCE = 2.0
#: Part of the way that the size goes at once to where the gradient points; less is slower and steadier.
_SMOOTHING = 0.3
#: Seconds after which a quickest answer is forgotten, at least.
_BASELINE_SECONDS = 30.0
#: Answers that are looked at together, at least.
_LEAST_SAMPLES = 8
#: Part of the window that must be in use for its size to be judged: who asks little learns nothing.
_BUSY = 0.75


class Baseline:
    """The quickest answer of one kind in the last 30 to 60 seconds: a way that has become longer is not slowness."""

    __slots__ = ("_before", "_current", "_since")

    def __init__(self, seconds: float, now: float) -> None:
        self._before = seconds
        self._current = seconds
        self._since = now

    def note(self, seconds: float, now: float) -> float:
        """Take ``seconds`` into account, and return the quickest."""
        if now - self._since > _BASELINE_SECONDS:
            self._before, self._current, self._since = self._current, seconds, now
        self._current = min(self._current, seconds)
        return min(self._before, self._current)


class AdaptiveSize:
    """The size of one window: starts small, between ``floor`` and ``ceiling``.

    Attributes:
        size: how many requests may be under way at once.
    """

    def __init__(self, *, start: int, floor: int, ceiling: int) -> None:
        self.floor = min(floor, ceiling)
        self.ceiling = ceiling
        self._limit = float(min(max(start, self.floor), ceiling))
        self._is_starting = True
        self._baselines: dict[str, Baseline] = {}
        self._samples = 0
        self._inflation = 0.0
        self._busiest = 0
        self._calm_until = 0.0

    @property
    def size(self) -> int:
        """How many requests may be under way at once."""
        return int(self._limit)

    def answered(self, kind: str, seconds: float, *, in_flight: int, now: float) -> int:
        """Take note of an answer of ``kind`` that took ``seconds`` with ``in_flight`` others; return the size.

        Kinds differ in how long they take by nature, and are compared with their like only.
        """
        baseline = self._baselines.get(kind)
        if baseline is None:
            baseline = self._baselines[kind] = Baseline(seconds, now)
        quickest = baseline.note(seconds, now)
        self._samples += 1
        self._inflation += seconds / quickest if quickest > 0 else 1.0
        self._busiest = max(self._busiest, in_flight)
        if self._samples >= max(_LEAST_SAMPLES, self.size):
            self._judge()
        return self.size

    def overloaded(self, now: float, *, pause: float = 1.0) -> int:
        """Halve the size, and leave it so for ``pause`` seconds: many are told of one overload; return the size."""
        if now >= self._calm_until:
            self._calm_until = now + pause
            self._limit = max(float(self.floor), self._limit / 2)
            self._is_starting = False
            self._forget()
        return self.size

    def _judge(self) -> None:
        """Settle a round: about as many answers as may be under way at once."""
        inflation, busiest = self._inflation / self._samples, self._busiest
        self._forget()
        if busiest < self._limit * _BUSY:
            return
        if self._is_starting:
            if inflation <= TOLERANCE:
                self._limit = min(float(self.ceiling), self._limit * 2)
                return
            self._is_starting = False
        gradient = max(0.5, min(1.0, TOLERANCE / inflation))
        # What may queue: without it the size could never grow again.
        wanted = self._limit * gradient + sqrt(self._limit)
        moved = self._limit * (1 - _SMOOTHING) + wanted * _SMOOTHING
        self._limit = max(float(self.floor), min(float(self.ceiling), moved))

    def _forget(self) -> None:
        self._samples = 0
        self._inflation = 0.0
        self._busiest = 0
