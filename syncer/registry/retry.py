"""When to ask again, and how long to wait first; no clock, no randomness, no I/O of its own.

The classes are those of reference section 4.1: what is passing is tried again with full-jitter
backoff; what is throttled pauses the whole host; the rest is an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from syncer.errors import ConnectionFailed, RateLimited, ServerFailure, StatusError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Answers that say "not now": timeouts, early data, overload, and what proxies and CDNs add (520-524, 529).
PASSING_STATUSES = frozenset({408, 425, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
#: Answers that throttle when they carry Retry-After (429 always does).
TOO_MANY_REQUESTS = 429
#: Bounds of a Retry-After, in seconds.
SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 300.0


class Reaction(StrEnum):
    """What a failure calls for."""

    GIVE_UP = "give-up"
    TRY_AGAIN = "try-again"
    PAUSE_HOST = "pause-host"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A reaction, and the seconds to wait before the next try."""

    reaction: Reaction
    delay: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter: a random part of ``base`` * 2^n seconds, at most ``cap``.

    A registry that is not there (nobody listens, or no such name) and has not been there before is
    more likely mistyped than restarting: it gets ``absent_tries`` within seconds. Those delays are
    ``absent_cap`` at most, and half of them is certain, as a restart takes its time whatever the dice say.
    """

    tries: int = 6
    base: float = 0.25
    cap: float = 30.0
    absent_tries: int = 5
    absent_cap: float = 1.0

    def decide(self, error: Exception, attempt: int, random: Callable[[], float], *, tries: int = 0) -> Decision:
        """Decide after the failure of ``attempt`` (from 1) with ``error``.

        ``tries`` overrides the policy's for passing failures; a registry that asks to wait is asked
        again all the same.
        """
        reaction = classify(error)
        is_absent = isinstance(error, ConnectionFailed) and error.is_absent
        most = tries if tries and reaction is Reaction.TRY_AGAIN else self.tries
        if is_absent:
            most = min(most, self.absent_tries)
        if reaction is Reaction.GIVE_UP or attempt >= most:
            return Decision(reaction=Reaction.GIVE_UP)
        if is_absent:
            longest = min(self.absent_cap, self.backoff(attempt, lambda: 1.0))
            return Decision(reaction=reaction, delay=longest * (0.5 + random() / 2))
        if reaction is Reaction.PAUSE_HOST and isinstance(error, RateLimited):
            asked = error.retry_after if error.retry_after is not None else self.backoff(attempt, lambda: 1.0)
            pause = min(max(asked, SHORTEST_PAUSE), LONGEST_PAUSE)
            # A little more for each task, so that those who wait do not come back in one moment.
            return Decision(reaction=reaction, delay=pause + random() * min(1.0, pause * 0.1))
        return Decision(reaction=reaction, delay=self.backoff(attempt, random))

    def backoff(self, attempt: int, random: Callable[[], float]) -> float:
        """Return the seconds to wait after the failed ``attempt`` (from 1)."""
        return float(random() * min(self.cap, self.base * 2 ** min(attempt - 1, 16)))


def classify(error: Exception) -> Reaction:
    """Say what ``error`` calls for."""
    match error:
        case RateLimited():
            return Reaction.PAUSE_HOST
        case TransportError() | ServerFailure():
            return Reaction.TRY_AGAIN
        case StatusError(status=status) if status in PASSING_STATUSES:
            return Reaction.TRY_AGAIN
        case _:
            return Reaction.GIVE_UP


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110 section 10.2.3), or None.

    A date is taken relative to the answer's own Date, so that our clock need not agree with the
    server's; without one, to ``now`` (seconds since the epoch). A date in the past is zero.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:12])
    then = _epoch(value)
    if then is None:
        return None
    base = _epoch(headers.get("Date", ""))
    return max(0.0, then - (now if base is None else base))


def _epoch(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
