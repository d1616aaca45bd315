"""What is asked of a registry, and what comes back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import anyio

from syncer.errors import SizeMismatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from multidict import CIMultiDictProxy
    from yarl import URL

    from syncer.errors import Side
    from syncer.events import RequestKind
    from syncer.registry.auth.scopes import Scope
    from syncer.registry.network.transport import HttpResponse, Sending

#: Bytes of an answer that is not content: a token, a page of referrers, an error.
SMALL_ANSWER = 1024 * 1024


class OnTurn(Protocol):
    """Hears whose turn it is while a body is sent."""

    def __call__(self, taken: int | None, *, is_last: bool) -> None:
        """Take note that the other side is to take so many bytes now; None when the next are waited for here."""
        ...


class StreamBody:
    """A request body of known ``size`` that is read while it is sent, once.

    aiohttp reads it from a task of its own; :meth:`settled` is how the owner of ``chunks`` learns
    that this task has let go of them.

    Attributes:
        failure: what ``chunks`` raised, or that they were too many or too few.
        is_started: the first bytes were asked for: the request has its connection.
        sent: how many bytes were handed over.
        ended_at: when the last of them was taken, by the clock; None before.
        is_reading: True while the next bytes are waited for.
        on_turn: told whose turn it is to do something.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        size: int,
        pass_bytes: Callable[[int], Awaitable[None]] | None = None,
        *,
        piece: int | None = None,
        ready: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Announce ``size`` bytes of ``chunks``; each is given out once ``pass_bytes`` lets it pass.

        The first waits for ``ready``: the request goes out with it, and it may have been long in coming.

        No more than ``piece`` bytes are given out at once, where it is set: a ceiling on bytes per
        second is to be felt as an even flow.
        """
        self.size = size
        self._piece = piece
        self._held = b""
        self.sent = 0
        self.ended_at: float | None = None
        self._clock = clock
        self.failure: Exception | None = None
        self.is_started = False
        self._chunks = chunks
        self._pass_bytes = pass_bytes
        self._ready = ready
        self.is_reading = False
        self.on_turn: OnTurn | None = None
        self._is_closed = False
        self._idle: anyio.Event | None = None

    @property
    def is_complete(self) -> bool:
        """True when every byte was handed over; verified chunks end with the last byte or not at all."""
        return self.sent == self.size and self.failure is None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_closed:
            raise ConnectionAbortedError("the request is over")
        self.is_started = True
        if self.sent < self.size:
            self._tell(None)
        elif not self.size:
            self._tell(0)
        self.is_reading = True
        try:
            chunk = self._held or await anext(self._chunks)
            self._held = b""
            if self._piece is not None and len(chunk) > self._piece:
                chunk, self._held = chunk[: self._piece], chunk[self._piece :]
            self._check_length(len(chunk))
            if self._ready is not None and not self.sent:
                await self._ready()
            if self._pass_bytes is not None:
                await self._pass_bytes(len(chunk))
        except StopAsyncIteration:
            if self.sent == self.size:
                # Whoever asks for more has passed the last bytes on.
                self.ended_at = self._clock()
                raise
            self.failure = SizeMismatch(f"the content ended after {self.sent} of {self.size} bytes")
            raise self.failure from None
        except Exception as error:
            self.failure = error
            raise
        finally:
            self.is_reading = False
            if self._idle is not None:
                self._idle.set()
        self.sent += len(chunk)
        if self.sent == self.size:
            self.ended_at = self._clock()
        self._tell(len(chunk))
        return chunk

    def _tell(self, taken: int | None) -> None:
        if self.on_turn is not None:
            self.on_turn(taken, is_last=self.sent == self.size)

    def _check_length(self, count: int) -> None:
        if self.sent + count > self.size:
            raise SizeMismatch(f"there are more than the {self.size} bytes announced")

    async def settled(self) -> None:
        """Give out nothing more, and wait until nobody is reading the chunks, cancelled or not."""
        self._is_closed = True
        if self.is_reading:
            self._idle = anyio.Event()
            with anyio.CancelScope(shield=True):
                await self._idle.wait()


class Departure:
    """Whether a call has been sent; ``has_been`` is set before its first byte."""

    __slots__ = ("has_been",)

    def __init__(self) -> None:
        self.has_been = False

    def take_place(self) -> None:
        """Take note that the call is about to be sent."""
        self.has_been = True


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Call:
    """One thing asked of a registry, however many exchanges it takes.

    Attributes:
        asked: what it is about, for people: ``registry/repository:tag``.
        scopes: what a token must allow; the first names the repository whose credential is used.
        expected: the statuses that are an answer; every other is an error.
        tries: how often it may be sent in all; 0 leaves it to the policy.
        limit: bytes of the answer that are read.
        is_data: True when the caller holds a data slot, so that no control permit is needed.
        blob_size: bytes of the blob that the slot is for.
        authorization: the Authorization header to use as it is, for who needs no token; None to find one.
        is_redirectable: False to take a redirect for an error.
        departure: takes note when it is about to be sent: until then, nobody knows of it.
    """

    kind: RequestKind
    method: str
    url: URL
    asked: str
    scopes: tuple[Scope, ...] = ()
    expected: frozenset[int] = frozenset({200})
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | StreamBody | None = field(default=None, repr=False)
    side: Side | None = None
    tries: int = 0
    limit: int = SMALL_ANSWER
    is_data: bool = False
    blob_size: int = 0
    authorization: str | None = field(default=None, repr=False)
    is_redirectable: bool = True
    departure: Departure | None = field(default=None, repr=False)

    @property
    def is_replayable(self) -> bool:
        """True when the body can be sent again."""
        return not isinstance(self.body, StreamBody)

    @property
    def names_repository(self) -> bool:
        """True when the first scope is a repository: the one that is asked."""
        return bool(self.scopes) and self.scopes[0].kind == "repository"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reply:
    """An answer that was read to its end; ``attempts`` tells how often it was asked for."""

    status: int
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(repr=False)
    url: URL
    attempts: int


class Answered:
    """An answer with its body unread, and what it takes to read it: a connection, and the right to ask for it.

    Who has it leaves its context to give both back, the connection first.
    """

    __slots__ = ("_response", "_sending", "_turn")

    def __init__(self, turn: AbstractAsyncContextManager[None] | None) -> None:
        """Hold ``turn``, which has been waited for."""
        self._turn = turn
        self._sending: Sending | None = None
        self._response: HttpResponse | None = None

    @property
    def response(self) -> HttpResponse:
        """The answer."""
        assert self._response is not None  # noqa: S101 - for the type checker: who asks has sent something
        return self._response

    async def send(self, sending: Sending) -> HttpResponse:
        """Begin the exchange ``sending``, in place of the one before, and return its answer."""
        self._response = await sending.__aenter__()
        self._sending = sending
        return self._response

    async def give_up(self) -> None:
        """End the exchange, and keep the right to begin another."""
        sending, self._sending = self._sending, None
        if sending is not None:
            await sending.__aexit__(None, None, None)

    def handed_over(self) -> Answered:
        """Return the same in other hands: leaving this context changes nothing any more."""
        other = Answered(self._turn)
        other._sending, other._response = self._sending, self._response
        self._sending = self._turn = None
        return other

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give everything back."""
        sending, self._sending = self._sending, None
        turn, self._turn = self._turn, None
        try:
            if sending is not None:
                await sending.__aexit__(kind, error, trace)
        finally:
            if turn is not None:
                await turn.__aexit__(kind, error, trace)
