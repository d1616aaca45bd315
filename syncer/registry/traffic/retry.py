"""What a failure means, whether to ask again, and how long to wait first; no clock, no randomness, no I/O of its own.

:data:`TABLE` is reference section 4.1: each line tells a failure by what came back and what was
asked, and gives its class; :data:`ACTIONS` says what a class calls for. What of that is done by
asking again is decided here too (:class:`RetryPolicy`), within what a run may spend on it
(:class:`RetryBudget`); the rest is done by whoever asked: tokens, uploads, manifests, downloads.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from syncer import errors
from syncer.errors import ConnectionFailed, RateLimited
from syncer.events import RequestKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Answers that say "not now": timeouts, early data, overload, and what proxies and CDNs add (520-524, 529).
PASSING_STATUSES = frozenset({408, 425, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
#: Answers that throttle when they carry Retry-After (429 always does).
TOO_MANY_REQUESTS = 429
#: Bounds of a Retry-After, in seconds.
SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
#: Seconds beyond which a Retry-After is a mistake and no wish: no registry's allowance runs over more than a day.
LONGEST_WISH = 7 * 86400.0
#: The hint of a failure that is not tried again since the run's budget is spent.
OUT_OF_BUDGET = "So much was tried again in this run already that it is not any more."


class FailureClass(StrEnum):
    """What kind of failure something is."""

    #: No answer came: connecting, the name, the TLS handshake, or a connection that ended before the answer.
    UNREACHABLE = "unreachable"
    #: No connection is going to work: the certificate is not the one to be trusted.
    HOST_FATAL = "host-fatal"
    #: Not now: overload, a restart, a proxy without its server.
    PASSING = "passing"
    #: Too many requests.
    THROTTLED = "throttled"
    #: The allowance is used up for longer than anyone waits.
    DEFERRED = "deferred"
    #: The request was sent whole and may have been carried out.
    AMBIGUOUS = "ambiguous"
    #: A token is missing, has expired or covers too little.
    AUTHENTICATION = "authentication"
    #: The credentials are known and do not allow it.
    DENIED = "denied"
    #: The registry is out of space or quota.
    QUOTA = "quota"
    #: A policy of the registry forbids it: signatures, vulnerabilities, the law.
    POLICY = "policy"
    #: What was asked for is not there.
    GONE = "gone"
    #: The target repository does not exist, and a push does not create it.
    REPOSITORY_MISSING = "repository-missing"
    #: The upload session is gone.
    SESSION_LOST = "session-lost"
    #: Other bytes arrived than were meant to.
    CORRUPT = "corrupt"
    #: Content that was believed to be in the target is not.
    CONTRADICTED = "contradicted"
    #: The tag may not move.
    IMMUTABLE = "immutable"
    #: The registry does not offer this.
    UNSUPPORTED = "unsupported"
    #: The body, the address or the list of scopes is too long.
    TOO_LARGE = "too-large"
    #: The registry has another number of bytes of an upload than was thought.
    OFFSET = "offset"
    #: The registry has no such range of a blob.
    RANGE = "range"
    #: Everything else that is definite.
    FINAL = "final"


class Action(StrEnum):
    """What a failure calls for."""

    #: Wait, with full jitter, and send the same again.
    TRY_AGAIN = "try-again"
    #: Send nothing to the host until its time is over, then the same again.
    PAUSE_HOST = "pause-host"
    #: Fail everything that is asked of the host, at once.
    STOP_HOST = "stop-host"
    #: Leave what is left to another run.
    DEFER = "defer"
    #: Look whether it was done after all, before it is sent again.
    LOOK_FIRST = "look-first"
    #: Get another token, once.
    RENEW_TOKEN = "renew-token"  # noqa: S105 - an action, not a secret
    #: Create the repository, once, and send the same again.
    CREATE_REPOSITORY = "create-repository"
    #: Open another upload session and start over.
    NEW_SESSION = "new-session"
    #: Read the content again from its source, once.
    READ_AGAIN = "read-again"
    #: Bring what is missing and push again.
    BRING_MISSING = "bring-missing"
    #: Ask what the tag holds: what was to be written is success.
    COMPARE_TAG = "compare-tag"
    #: Remember it, and do it the other way.
    FALL_BACK = "fall-back"
    #: Send less at once.
    SEND_LESS = "send-less"
    #: Ask the registry how much it has, and go on there.
    ASK_OFFSET = "ask-offset"
    #: Read from the start and skip what is known.
    READ_FROM_START = "read-from-start"
    #: Nothing: it is an answer.
    GIVE_UP = "give-up"


ACTIONS: dict[FailureClass, Action] = {
    FailureClass.UNREACHABLE: Action.TRY_AGAIN,
    FailureClass.HOST_FATAL: Action.STOP_HOST,
    FailureClass.PASSING: Action.TRY_AGAIN,
    FailureClass.THROTTLED: Action.PAUSE_HOST,
    FailureClass.DEFERRED: Action.DEFER,
    FailureClass.AMBIGUOUS: Action.LOOK_FIRST,
    FailureClass.AUTHENTICATION: Action.RENEW_TOKEN,
    FailureClass.DENIED: Action.GIVE_UP,
    FailureClass.QUOTA: Action.GIVE_UP,
    FailureClass.POLICY: Action.GIVE_UP,
    FailureClass.GONE: Action.GIVE_UP,
    FailureClass.REPOSITORY_MISSING: Action.CREATE_REPOSITORY,
    FailureClass.SESSION_LOST: Action.NEW_SESSION,
    FailureClass.CORRUPT: Action.READ_AGAIN,
    FailureClass.CONTRADICTED: Action.BRING_MISSING,
    FailureClass.IMMUTABLE: Action.COMPARE_TAG,
    FailureClass.UNSUPPORTED: Action.FALL_BACK,
    FailureClass.TOO_LARGE: Action.SEND_LESS,
    FailureClass.OFFSET: Action.ASK_OFFSET,
    FailureClass.RANGE: Action.READ_FROM_START,
    FailureClass.FINAL: Action.GIVE_UP,
}

_OPENINGS = frozenset({RequestKind.UPLOAD_POST})
_IN_SESSION = frozenset(
    {RequestKind.UPLOAD_PATCH, RequestKind.UPLOAD_PUT, RequestKind.UPLOAD_GET, RequestKind.UPLOAD_DELETE}
)
_COMMITS = frozenset({RequestKind.UPLOAD_PUT, RequestKind.UPLOAD_POST, RequestKind.UPLOAD_PATCH})
_LOST = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
_CORRUPT = frozenset({"DIGEST_INVALID", "SIZE_INVALID"})


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One line of the table; what is left out fits everything.

    Attributes:
        error: what :mod:`syncer.registry.network.translation` or :mod:`syncer.registry.failures` made of it.
        failure: its class.
        statuses: the HTTP statuses.
        codes: error codes of the distribution-spec, one of which is there.
        requests: what was asked.
        is_sent: the body had been handed over whole.
    """

    error: type[errors.SyncerError]
    failure: FailureClass
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()
    requests: frozenset[RequestKind] = frozenset()
    is_sent: bool = False

    def fits(self, error: Exception, request: RequestKind | None, *, is_sent: bool) -> bool:
        """Tell whether this line is about ``error``."""
        return (
            isinstance(error, self.error)
            and (not self.statuses or getattr(error, "status", None) in self.statuses)
            and (not self.codes or not self.codes.isdisjoint(getattr(error, "codes", ())))
            and (not self.requests or request in self.requests)
            and (is_sent or not self.is_sent)
        )


#: Reference section 4.1. The first line that fits counts.
TABLE: tuple[Line, ...] = (
    # No answer.
    Line(errors.CertificateError, FailureClass.HOST_FATAL),
    Line(errors.TransportError, FailureClass.AMBIGUOUS, requests=_COMMITS, is_sent=True),
    Line(errors.TransportError, FailureClass.UNREACHABLE),
    # Not now.
    Line(errors.RateLimitReached, FailureClass.DEFERRED),
    Line(errors.RateLimited, FailureClass.THROTTLED),
    # An upload's own troubles come with any status: 400, 404, 416, and distribution's 500.
    Line(errors.StatusError, FailureClass.CORRUPT, codes=_CORRUPT, requests=_COMMITS),
    Line(errors.StatusError, FailureClass.SESSION_LOST, codes=_LOST, requests=_IN_SESSION),
    Line(errors.ServerFailure, FailureClass.AMBIGUOUS, requests=_COMMITS, is_sent=True),
    Line(errors.StatusError, FailureClass.PASSING, statuses=PASSING_STATUSES),
    Line(errors.ServerFailure, FailureClass.PASSING),
    # Not you, not this, not here.
    Line(errors.Unauthorized, FailureClass.AUTHENTICATION),
    Line(errors.QuotaExceeded, FailureClass.QUOTA),
    Line(errors.ImmutableTag, FailureClass.IMMUTABLE),
    Line(errors.Denied, FailureClass.POLICY, statuses=frozenset({412, 451})),
    Line(errors.Denied, FailureClass.DENIED),
    Line(errors.Unsupported, FailureClass.UNSUPPORTED),
    # Not there.
    Line(errors.NotFound, FailureClass.CONTRADICTED, requests=frozenset({RequestKind.MANIFEST_PUT})),
    Line(errors.NotFound, FailureClass.REPOSITORY_MISSING, requests=_OPENINGS),
    Line(errors.NotFound, FailureClass.SESSION_LOST, requests=_IN_SESSION),
    Line(errors.NotFound, FailureClass.GONE),
    # Not like this.
    Line(errors.StatusError, FailureClass.TOO_LARGE, statuses=frozenset({413, 414, 431})),
    Line(errors.RangeRejected, FailureClass.RANGE, requests=frozenset({RequestKind.BLOB_GET})),
    Line(errors.RangeRejected, FailureClass.OFFSET, requests=_IN_SESSION),
    # What arrived is not what was asked for.
    Line(errors.DigestMismatch, FailureClass.CORRUPT),
    Line(errors.SizeMismatch, FailureClass.CORRUPT),
)


def classify(error: Exception, request: RequestKind | None = None, *, is_sent: bool = False) -> FailureClass:
    """Return the class of ``error``.

    Args:
        error: what went wrong.
        request: what was asked, where it matters.
        is_sent: the body of the request had been handed over whole.
    """
    return next((line.failure for line in TABLE if line.fits(error, request, is_sent=is_sent)), FailureClass.FINAL)


class Reaction(StrEnum):
    """What a failed request calls for, as far as sending it again goes."""

    GIVE_UP = "give-up"
    TRY_AGAIN = "try-again"
    PAUSE_HOST = "pause-host"
    DEFER = "defer"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A reaction, and the seconds to wait before the next try."""

    reaction: Reaction
    delay: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RetryPolicy:
    """Exponential backoff with full jitter: a random part of ``base`` * 2^n seconds, at most ``cap``.

    A registry that is not there (nobody listens, or no such name) and has not been there before is
    more likely mistyped than restarting: it gets ``absent_tries`` within seconds, and a name that
    does not exist ``nameless_tries``. Those delays are ``absent_cap`` at most, and half of them is
    certain, as a restart takes its time whatever the dice say.
    """

    tries: int = 6
    base: float = 0.25
    cap: float = 30.0
    absent_tries: int = 5
    nameless_tries: int = 3
    absent_cap: float = 1.0

    def decide(self, error: Exception, attempt: int, random: Callable[[], float], *, tries: int = 0) -> Decision:
        """Decide after the failure of ``attempt`` (from 1) with ``error``.

        ``tries`` overrides the policy's for passing failures; a registry that asks to wait is asked
        again all the same, unless it asks for longer than anyone waits: that is for another run.
        """
        action = ACTIONS[classify(error)]
        if action is Action.PAUSE_HOST and isinstance(error, RateLimited):
            return self._after_throttling(error, attempt, random)
        if action is Action.DEFER:
            return Decision(reaction=Reaction.DEFER)
        most = tries or self.tries
        absent = error if isinstance(error, ConnectionFailed) and error.is_absent else None
        if absent:
            most = min(most, self.nameless_tries if absent.is_nameless else self.absent_tries)
        if action is not Action.TRY_AGAIN or attempt >= most:
            return Decision(reaction=Reaction.GIVE_UP)
        if absent:
            longest = min(self.absent_cap, self.backoff(attempt, lambda: 1.0))
            return Decision(reaction=Reaction.TRY_AGAIN, delay=longest * (0.5 + random() / 2))
        return Decision(reaction=Reaction.TRY_AGAIN, delay=self.backoff(attempt, random))

    def _after_throttling(self, error: RateLimited, attempt: int, random: Callable[[], float]) -> Decision:
        wish = error.retry_after
        if deferral(error) is not None:
            return Decision(reaction=Reaction.DEFER)
        if attempt >= self.tries:
            return Decision(reaction=Reaction.GIVE_UP)
        asked = wish if wish is not None else self.backoff(attempt, lambda: 1.0)
        pause = min(max(asked, SHORTEST_PAUSE), LONGEST_PAUSE)
        # A little more for each task, so that those who wait do not come back in one moment.
        return Decision(reaction=Reaction.PAUSE_HOST, delay=pause + random() * min(1.0, pause * 0.1))

    def backoff(self, attempt: int, random: Callable[[], float]) -> float:
        """Return the seconds to wait after the failed ``attempt`` (from 1)."""
        return float(random() * min(self.cap, self.base * 2 ** min(attempt - 1, 16)))


class RetryBudget:
    """What a run may spend on asking again: ``reserve`` tries, and a ``share`` of one for every request made.

    It bounds what a broken registry makes of a large run: without it, every tag would try as often as
    the policy allows. Waiting where a registry asks to wait costs nothing, nor does going on with a
    download that has made headway.
    """

    def __init__(self, reserve: float = 100.0, share: float = 0.2) -> None:
        self._left = reserve
        self._share = share

    @property
    def left(self) -> float:
        """How many tries are left."""
        return self._left

    def earn(self) -> None:
        """Count a request that was made."""
        self._left += self._share

    def spend(self) -> bool:
        """Take one try; False when there is none left."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def deferral(error: RateLimited) -> float | None:
    """Return the seconds that a registry wants to be left alone, when that is longer than a run waits; else None.

    What is absurdly long is no wish: then the longest pause is what it gets.
    """
    wish = error.retry_after
    return wish if wish is not None and LONGEST_PAUSE < wish <= LONGEST_WISH else None


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
