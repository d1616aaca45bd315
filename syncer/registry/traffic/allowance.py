"""How many requests a registry still allows, as far as its answers tell (reference 3.1 and 4).

Two ways to tell are in use. The Docker Hub counts pulls, which are GETs of manifests, over a window
and says so in ``ratelimit-limit: 100;w=21600`` and ``ratelimit-remaining: 0;w=21600``; a HEAD tells
too, and counts for nothing. Others count every request and say when there are new ones
(``RateLimit-Remaining`` with ``RateLimit-Reset``, or the one ``RateLimit`` header of later drafts).
"""

from __future__ import annotations

import math
import re
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from syncer.errors import RateLimitReached
from syncer.events import RequestKind
from syncer.registry.traffic.retry import LONGEST_PAUSE, LONGEST_WISH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

#: A reset beyond this is a date in seconds since 1970 (GitLab), not a number of seconds from now.
_EPOCH = 1e8
_NUMBER = re.compile(r"(\d{1,15})(?:\.\d{1,9})?")
_WINDOW = re.compile(r";\s*w=(\d{1,9})(?!\d)")
#: draft-ietf-httpapi-ratelimit-headers, versions 7 (``remaining=0, reset=30``) and 8 (``"name";r=0;t=30``).
_LEFT = re.compile(r"\b(?:remaining|r)=(\d{1,15})(?!\d)")
_RESET = re.compile(r"\b(?:reset|t)=(\d{1,15})(?!\d)")
_METERED = frozenset({RequestKind.MANIFEST_GET})
_UNCOUNTED = nullcontext()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """What the headers of one answer say.

    Attributes:
        remaining: how many requests are left.
        resets_in: seconds until there are new ones, where that is said.
        window: seconds over which they are counted, where that is said.
        limit: how many there are in a window, where that is said.
    """

    remaining: int
    resets_in: float | None = None
    window: float | None = None
    limit: int | None = None


def stated(headers: Mapping[str, str], now: float) -> Stated | None:
    """Read the headers of an answer; None when they say nothing. ``now`` is seconds since the epoch."""
    remaining = headers.get("RateLimit-Remaining", "")
    left = _NUMBER.match(remaining.strip())
    if left is not None:
        reset = _NUMBER.match(headers.get("RateLimit-Reset", "").strip())
        limit = _NUMBER.match(headers.get("RateLimit-Limit", "").strip())
        window = _WINDOW.search(remaining)
        return Stated(
            remaining=int(left[1]),
            resets_in=_seconds(reset[1], now) if reset else None,
            window=float(window[1]) if window else None,
            limit=int(limit[1]) if limit else None,
        )
    combined = headers.get("RateLimit", "")[:1000]
    left = _LEFT.search(combined)
    if left is None:
        return None
    reset = _RESET.search(combined)
    return Stated(remaining=int(left[1]), resets_in=_seconds(reset[1], now) if reset else None)


def _seconds(text: str, now: float) -> float:
    value = float(text)
    return max(0.0, value - now) if value > _EPOCH else value


class Allowance:
    """What one registry still allows, shared by all who ask it.

    Args:
        host: the registry, for messages.
        metered_pulls: GETs of manifests count, and nothing else does, whatever form the headers have.
        clock: monotonic, in seconds.
    """

    def __init__(self, host: str, *, metered_pulls: bool, clock: Callable[[], float]) -> None:
        self._host = host
        self._metered_pulls = metered_pulls
        self._clock = clock
        self._pulls: Stated | None = None
        self._pulls_until = 0.0
        self._pulls_reset_at: float | None = None
        self._closed_until = 0.0
        self._under_way = 0
        #: Pulls are known to count, and no answer to one has said how many are left.
        self._is_untold = metered_pulls
        #: Made by whoever waits for it: most registries count nothing.
        self._changed: anyio.Event | None = None

    @property
    def pulls_left(self) -> int | None:
        """How many pulls are left; None when the registry has not said, or too long ago."""
        if self._pulls is None or self._clock() >= self._pulls_until:
            return None
        return self._pulls.remaining

    def note(self, headers: Mapping[str, str], now: float) -> float:
        """Take note of an answer; return the seconds for which the registry is best left alone.

        That is more than nothing where every request counts, none is left, and there are new ones before long.
        ``now`` is seconds since the epoch.
        """
        said = stated(headers, now)
        if said is None:
            return 0.0
        lasts = said.resets_in if said.resets_in is not None else said.window
        if lasts is not None and lasts > LONGEST_WISH:
            return 0.0
        if self._metered_pulls or said.window is not None:
            self._is_untold = False
            self._pulls = said
            self._pulls_until = self._clock() + (LONGEST_PAUSE if lasts is None else lasts)
            self._pulls_reset_at = None if said.resets_in is None else self._clock() + said.resets_in
            self._wake()
            return 0.0
        if said.remaining > 0 or lasts is None:
            # Without a time nothing can be planned: when it is used up, a 429 will say what to do.
            return 0.0
        if lasts <= LONGEST_PAUSE:
            return lasts
        self.close(lasts)
        return 0.0

    def close(self, seconds: float) -> None:
        """Refuse every request for ``seconds``: that is how long the registry wants to be left alone."""
        self._closed_until = max(self._closed_until, self._clock() + seconds)
        self._wake()

    def refusal(self, kind: RequestKind) -> RateLimitReached | None:
        """Return the error for another request of ``kind`` when there is nothing left for it, else None."""
        now = self._clock()
        if now < self._closed_until:
            wait = self._closed_until - now
            return self._error(f"{self._host} is not to be asked for {_duration(wait)}, as it wishes", wait)
        if kind not in _METERED or self.pulls_left != 0 or self._pulls is None:
            return None
        of_how_many = "" if self._pulls.limit is None else f" of the {self._pulls.limit}"
        within = "" if self._pulls.window is None else f" in a window of {_duration(self._pulls.window)}"
        resets_in = None if self._pulls_reset_at is None else max(0.0, self._pulls_reset_at - now)
        return self._error(f"{self._host} allows no more pulls for now: none{of_how_many} is left{within}", resets_in)

    async def wait(self, kind: RequestKind) -> None:
        """Return when a request of ``kind`` may be sent; :meth:`counted` must follow at once.

        While as many pulls are under way as are left, their answers are waited for: they may say otherwise. So
        is the answer to the first of all.

        Raises:
            RateLimitReached: when there is nothing left.
        """
        while True:
            if refused := self.refusal(kind):
                raise refused
            left = self.pulls_left
            if left is None and self._is_untold:
                left = 1
            if kind not in _METERED or left is None or left > self._under_way:
                return
            self._changed = self._changed or anyio.Event()
            await self._changed.wait()

    def counted(self, kind: RequestKind) -> AbstractContextManager[None]:
        """Count a request of ``kind`` as under way for the length of the block, which ends with its answer."""
        return _Counted(self) if kind in _METERED else _UNCOUNTED

    def begin(self) -> None:
        """Count one more pull as under way."""
        self._under_way += 1

    def end(self) -> None:
        """Count one less, and let those who wait look again."""
        self._under_way -= 1
        self._wake()

    def told(self, kind: RequestKind) -> None:
        """Take note that a request of ``kind`` was answered: who does not say how many are left has no limit."""
        if kind in _METERED:
            self._is_untold = False

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _error(self, message: str, resets_in: float | None) -> RateLimitReached:
        error = RateLimitReached(
            message,
            registry=self._host,
            hint="Run again later to go on; what was copied stays. With other credentials more may be allowed.",
        )
        error.resets_in = resets_in
        return error


class _Counted:
    """A pull that is under way."""

    __slots__ = ("_allowance",)

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def __enter__(self) -> None:
        self._allowance.begin()

    def __exit__(self, *_error: object) -> None:
        self._allowance.end()


def _duration(seconds: float) -> str:
    """Return ``6 h``, ``12 min`` or ``40 s``: the largest unit that leaves at least one of it, rounded up."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{math.ceil(seconds / size)} {unit}"
    return f"{math.ceil(seconds)} s"
