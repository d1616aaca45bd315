"""What an exchange tells about how much its registry bears."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.errors import ConnectionFailed, Timeout, TransportError
from syncer.registry.call import StreamBody

if TYPE_CHECKING:
    from syncer.registry.network.transport import HttpRequest
    from syncer.registry.traffic.windows import AdaptiveWindow

#: Answers that mean "too much at once", now or for this user: throttling, overload, and proxies whose server does not
#: keep up. A 500 is about the request as often as not.
OVERLOAD = frozenset({429, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_FAILURE_BEGINS = 400
#: That something is not there is an answer like any other, and may be all that a registry has to say.
_NOT_FOUND = 404


def note_answer(window: AdaptiveWindow, request: HttpRequest, status: int, *, place: str) -> None:
    """Take note of the answer with ``status`` to ``request``, from the registry or another ``place`` that it led to.

    What it took counts from the connection, or the last byte of the body, to the headers: neither making a
    connection nor moving a blob is the registry's slowness. Refusals are answered at a speed of their own.
    """
    if status in OVERLOAD:
        window.overloaded(is_answer=True)
        return
    began, ended, size = request.timing.connected_at, request.timing.answered_at, 0
    if isinstance(request.body, StreamBody):
        began, size = request.body.ended_at, request.body.size
    elif isinstance(request.body, bytes):
        size = len(request.body)
    if (status >= _FAILURE_BEGINS and status != _NOT_FOUND) or began is None or ended is None:
        return
    # Alike is what is asked of the same place, with a body of about the same size, and answered in the same way;
    # the first exchange on a connection takes longer than those that follow it.
    magnitude = size.bit_length() // 4
    alike = (request.kind, status // 100, place, magnitude, request.timing.is_new)
    window.answered(alike, max(0.0, ended - began))


def note_failure(window: AdaptiveWindow, request: HttpRequest, error: TransportError) -> None:
    """Take note that ``request`` got no answer, where that is likely to be too much at once.

    A kept connection may have been closed at any time, and a body may be what a connection broke over.
    """
    if isinstance(request.body, StreamBody) and request.body.is_started:
        return
    is_refused = isinstance(error, ConnectionFailed) and not error.is_nameless
    if isinstance(error, Timeout) or (is_refused and (request.timing.connected_at is None or request.timing.is_new)):
        window.overloaded(is_answer=False)
