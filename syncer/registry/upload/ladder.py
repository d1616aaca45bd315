"""What to do when a step of an upload fails; pure.

Bodies are never simply sent again: an upload goes back to a known state first (reference section
4). Is the blob there after all? How many bytes does the session have? Else a new session, the bytes
read anew. Everything that decides this is in this file; what acts on it is :mod:`.session`.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from syncer.errors import StatusError
from syncer.events import RequestKind
from syncer.registry.traffic.retry import FailureClass, classify

if TYPE_CHECKING:
    from syncer.errors import SyncerError

#: Bytes that must have gone out before a lost connection may be about the size of the body.
_TELLING = 1024 * 1024


class Stage(StrEnum):
    """What was being sent."""

    #: The PUT with the whole blob.
    WHOLE = "whole"
    #: A PATCH.
    PART = "part"
    #: The PUT without a body, after the last PATCH.
    COMMIT = "commit"


class Signal(StrEnum):
    """What came of it."""

    #: The connection failed, or the registry did, while bytes were still to be sent.
    CUT = "cut"
    #: It failed after the last byte: there may have been an answer.
    UNANSWERED = "unanswered"
    #: A 500 to a PATCH, with which some registries throw the session away (zot).
    BROKEN = "broken"
    #: The registry does not know the session, or not in this state.
    LOST = "lost"
    #: The registry received other bytes.
    CORRUPT = "corrupt"
    #: The body is too large.
    TOO_LARGE = "too-large"
    #: The request is refused as such.
    UNSUPPORTED = "unsupported"
    #: The bytes do not continue what the session has.
    OUT_OF_STEP = "out-of-step"
    #: The token is refused: it may have expired on the way.
    REFUSED = "refused"
    #: It was refused after a body that took longer than tokens live, or so long after another one: it has.
    OUTLIVED = "outlived"
    #: The registry asks to wait.
    BUSY = "busy"
    #: It is an answer, and no other request will change it.
    FINAL = "final"


class Step(StrEnum):
    """What to do about it."""

    #: Wait as the retry policy says, or fail when it says no more.
    WAIT = "wait"
    #: HEAD of the blob: a lost answer is not a lost commit.
    LOOK = "look"
    #: GET of the session: go on where it is.
    ASK = "ask"
    #: A new session, the form as before.
    RESTART = "restart"
    #: A new session, with another form.
    DEMOTE = "demote"
    #: Raise it.
    FAIL = "fail"


_W, _L, _A, _R, _D, _F = Step.WAIT, Step.LOOK, Step.ASK, Step.RESTART, Step.DEMOTE, Step.FAIL
#: The steps in turn; the first that leads somewhere ends them.
LADDER: dict[Signal, dict[Stage, tuple[Step, ...]]] = {
    Signal.CUT: {Stage.WHOLE: (_W, _R), Stage.PART: (_W, _A, _R), Stage.COMMIT: (_L, _W, _A, _R)},
    Signal.UNANSWERED: {Stage.WHOLE: (_L, _W, _R), Stage.PART: (_W, _A, _R), Stage.COMMIT: (_L, _W, _A, _R)},
    Signal.BROKEN: {Stage.WHOLE: (_L, _W, _R), Stage.PART: (_W, _R), Stage.COMMIT: (_L, _W, _R)},
    Signal.LOST: {Stage.WHOLE: (_R,), Stage.PART: (_R,), Stage.COMMIT: (_R,)},
    Signal.CORRUPT: {Stage.WHOLE: (_R,), Stage.PART: (_R,), Stage.COMMIT: (_R,)},
    Signal.TOO_LARGE: {Stage.WHOLE: (_D,), Stage.PART: (_D,), Stage.COMMIT: (_F,)},
    Signal.UNSUPPORTED: {Stage.WHOLE: (_D,), Stage.PART: (_D,), Stage.COMMIT: (_D,)},
    Signal.OUT_OF_STEP: {Stage.WHOLE: (_R,), Stage.PART: (_A, _R), Stage.COMMIT: (_A, _R)},
    Signal.REFUSED: {Stage.WHOLE: (_R,), Stage.PART: (_A, _R), Stage.COMMIT: (_A, _R)},
    Signal.OUTLIVED: {Stage.WHOLE: (_R,), Stage.PART: (_A, _R), Stage.COMMIT: (_A, _R)},
    Signal.BUSY: {Stage.WHOLE: (_W, _R), Stage.PART: (_W, _A, _R), Stage.COMMIT: (_W, _A, _R)},
    Signal.FINAL: {Stage.WHOLE: (_F,), Stage.PART: (_F,), Stage.COMMIT: (_F,)},
}
#: Lost connections and answers in all: each may cost another reading of the source.
_MOST_CUTS = 100
#: How often what no waiting cures may happen in one upload; how often in a row, for what headway makes good.
_MOST = {Signal.LOST: 3, Signal.CORRUPT: 1, Signal.REFUSED: 2, Signal.OUTLIVED: 3, Signal.OUT_OF_STEP: 1}
_CURED_BY_HEADWAY = (Signal.REFUSED, Signal.OUTLIVED, Signal.OUT_OF_STEP)
#: Seconds that a token lives where its service does not say (distribution, docs/spec/auth/token: ``expires_in``).
TOKEN_SECONDS = 60.0
#: After these the session is gone already: nothing is to be deleted.
SESSION_ENDED = frozenset({Signal.LOST, Signal.CORRUPT})

_SIGNALS = {
    FailureClass.UNREACHABLE: Signal.CUT,
    FailureClass.PASSING: Signal.CUT,
    FailureClass.AMBIGUOUS: Signal.UNANSWERED,
    FailureClass.SESSION_LOST: Signal.LOST,
    FailureClass.CORRUPT: Signal.CORRUPT,
    FailureClass.OFFSET: Signal.OUT_OF_STEP,
    FailureClass.AUTHENTICATION: Signal.REFUSED,
    FailureClass.THROTTLED: Signal.BUSY,
    FailureClass.TOO_LARGE: Signal.TOO_LARGE,
    FailureClass.UNSUPPORTED: Signal.UNSUPPORTED,
}
#: Codes that say no more than the status does.
_VAGUE_CODES = frozenset({"UNSUPPORTED", "UNKNOWN", "BAD_REQUEST"})
_REQUEST_REFUSED = frozenset({400, 411, 415})


def signal_of(error: SyncerError, stage: Stage, *, is_sent: bool, seconds: float = 0.0) -> Signal:
    """Say what ``error`` means for an upload.

    Args:
        error: what came of a request.
        stage: what it was.
        is_sent: its body had gone out whole.
        seconds: how long it took, or how long ago a token was refused before.
    """
    kind = RequestKind.UPLOAD_PATCH if stage is Stage.PART else RequestKind.UPLOAD_PUT
    signal = _SIGNALS.get(classify(error, kind, is_sent=is_sent), Signal.FINAL)
    if signal is Signal.REFUSED and seconds >= TOKEN_SECONDS:
        return Signal.OUTLIVED
    if isinstance(error, StatusError):
        if signal in (Signal.CUT, Signal.UNANSWERED) and error.status == 500 and stage is Stage.PART:  # noqa: PLR2004 - Internal Server Error
            return Signal.BROKEN
        if signal is Signal.FINAL and error.status in _REQUEST_REFUSED and set(error.codes) <= _VAGUE_CODES:
            return Signal.UNSUPPORTED
    return signal


class Ladder:
    """What has been tried for one blob, and what is left to try."""

    def __init__(self) -> None:
        self._seen: Counter[Signal] = Counter()
        self._cuts: list[int] = []

    def steps(self, stage: Stage, signal: Signal, *, sent: int = 0, is_connection: bool = False) -> tuple[Step, ...]:
        """Return the steps to take, in turn.

        Args:
            stage: what was being sent.
            signal: what came of it.
            sent: bytes of the body that had gone out.
            is_connection: the connection failed, rather than the registry.
        """
        self._seen[signal] += 1
        if signal is Signal.CUT and is_connection and self._is_stable(sent):
            return (Step.WAIT, Step.DEMOTE)
        if self._seen[Signal.CUT] + self._seen[Signal.UNANSWERED] > _MOST_CUTS:
            return (Step.FAIL,)
        if self._seen[signal] > _MOST.get(signal, self._seen[signal]):
            return (Step.DEMOTE,) if signal is Signal.OUT_OF_STEP else (Step.FAIL,)
        return LADDER[signal][stage]

    def made_headway(self) -> None:
        """Take note that the session has more bytes than before."""
        for signal in _CURED_BY_HEADWAY:
            self._seen[signal] = 0
        self._cuts.clear()

    def _is_stable(self, sent: int) -> bool:
        """Tell whether connections end at about the same byte: something does not let larger bodies pass.

        What was sent and what arrived differ by what was on its way, so it is only about the same.
        """
        if sent < _TELLING:
            return False
        before = self._cuts[-1] if self._cuts else None
        self._cuts.append(sent)
        return before is not None and abs(sent - before) <= max(_TELLING, sent // 8)
