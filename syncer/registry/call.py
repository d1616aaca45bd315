"""What is asked of a registry, and what comes back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import anyio

from syncer.errors import SizeMismatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from typing import Self

    from multidict import CIMultiDictProxy
    from yarl import URL

    from syncer.errors import Side
    from syncer.events import RequestKind
    from syncer.registry.auth.scopes import Scope

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
        started: set when the first bytes are asked for: the request has its connection then.
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
        self.started = anyio.Event()
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
        self.started.set()
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
        """Give out nothing more, and wait until nobody is reading the chunks."""
        self._is_closed = True
        if self.is_reading:
            self._idle = anyio.Event()
            await self._idle.wait()


@dataclass(frozen=True, kw_only=True, slots=True)
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
        on_departure: called whenever it is about to be sent: until then, nobody knows of it.
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
    on_departure: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def is_replayable(self) -> bool:
        """True when the body can be sent again."""
        return not isinstance(self.body, StreamBody)

    @property
    def names_repository(self) -> bool:
        """True when the first scope is a repository: the one that is asked."""
        return bool(self.scopes) and self.scopes[0].kind == "repository"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer that was read to its end; ``attempts`` tells how often it was asked for."""

    status: int
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(repr=False)
    url: URL
    attempts: int
