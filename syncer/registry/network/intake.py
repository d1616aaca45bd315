"""Receiving a large body: from the connection into memory of our own, past aiohttp's reader.

Once an answer's headers are there, and the length of its body with them, nothing is left to parse. aiohttp's
reader copies every byte three times all the same, and hands out whatever one read of the socket brought. An
:class:`Intake` takes the connection over for the rest of the body: the event loop reads into one buffer, which is
copied once, in the chunks that are handed out. At the end of the body the connection goes back to aiohttp, to be used
again. Only public means of asyncio and aiohttp are used for that; tests on the wire show that they still work.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.client_proto import ResponseHandler

#: Bytes of a body, yet to come, from which on it is taken in like this.
WORTH_TAKING = 256 * 1024
#: Bytes of the buffer, and so of the largest chunk. More at once spares more rounds of the loop, until it no longer
#: stays in the processor's cache, which with TLS holds the encrypted bytes as well.
BUFFER = 1024 * 1024
TLS_BUFFER = 256 * 1024
#: The share of the buffer that is worth handing out at once, and how many seconds are waited for it.
_ENOUGH = 4
_GATHERING = 0.02


class Intake(asyncio.BufferedProtocol):
    """Receives the rest of one body; what comes while nobody reads fills the buffer, and no more than that."""

    def __init__(
        self, transport: asyncio.Transport, owner: ResponseHandler, length: int, patience: float | None
    ) -> None:
        """Prepare for ``length`` bytes on ``transport``, each waited for for at most ``patience`` seconds.

        ``owner`` is told when the connection is lost, and gets it back from :meth:`end`.
        """
        self._transport = transport
        self._owner = owner
        self._left = length
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        is_secure = transport.get_extra_info("sslcontext") is not None
        # A byte more than there should be is made room for: a body that goes on behind its end is no good sign.
        self._size = min(TLS_BUFFER if is_secure else BUFFER, length + 1)
        self._buffer = memoryview(bytearray(self._size))
        self._enough = self._wanted = self._size // _ENOUGH
        self._filled = 0
        self._is_paused = False
        self._is_overlong = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_at_end(self) -> bool:
        """True when the whole body has been handed out."""
        return self._left == 0

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return where the next bytes are to go."""
        if self._filled == len(self._buffer):
            # Paused, and resumed by somebody else: aiohttp does so when a body is read that came whole, and whose
            # connection is used for this one by now. An empty buffer would be the end of the connection.
            fuller = memoryview(bytearray(self._filled + self._enough + 1))
            fuller[: self._filled] = self._buffer
            self._buffer = fuller
        return self._buffer[self._filled : self._left + 1]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of bytes that have come."""
        self._filled += nbytes
        if self._filled > self._left:
            self._is_overlong = True
            self._filled = self._left
        if self._filled >= min(self._size, self._left):
            self._is_paused = True
            self._transport.pause_reading()
            self._wake()
        elif self._filled >= self._wanted:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that no more is coming."""
        if self._failure is None:
            self._failure = aiohttp.ClientPayloadError("the connection was lost in the middle of a body")
            self._failure.__cause__ = exc
        self._owner.connection_lost(exc)
        self._wake()

    async def read(self) -> bytes:
        """Return what has come, and wait a little for more when it is not much; empty at the end of the body.

        Raises:
            ClientPayloadError: when the connection is lost and all that had come was handed out.
            SocketTimeoutError: when nothing has come for too long.
        """
        if self._left == 0:
            return b""
        if self._filled < min(self._enough, self._left) and self._failure is None:
            await self._arrival()
        if not self._filled:
            assert self._failure is not None  # noqa: S101 - for the type checker: it is that, or bytes
            raise self._failure
        chunk = bytes(self._buffer[: self._filled])
        self._left -= self._filled
        self._filled = 0
        if self._is_paused and self._left:
            self._is_paused = False
            self._transport.resume_reading()
        return chunk

    def end(self, content: aiohttp.StreamReader) -> None:
        """Leave the connection to aiohttp, for the next request, and tell it that ``content`` was read to its end."""
        self._buffer = memoryview(b"")
        if self._is_overlong:
            self._owner.force_close()
        if self._failure is None:
            self._transport.set_protocol(self._owner)
            self._transport.resume_reading()
        content.feed_eof()

    async def _arrival(self) -> None:
        """Wait until there is enough to hand out, or anything after a while, or no hope of it."""
        self._wanted = self._enough
        self._waiter = self._loop.create_future()
        self._call_later(_GATHERING, self._be_content)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if self._timer is not None:
                self._timer.cancel()

    def _be_content(self) -> None:
        """Hand out what there is, or the next that comes."""
        if self._filled:
            self._wake()
            return
        self._wanted = 1
        if self._patience:
            self._call_later(self._patience - _GATHERING, self._give_up)

    def _give_up(self) -> None:
        self._failure = aiohttp.SocketTimeoutError("nothing came for too long")
        self._wake()

    def _call_later(self, seconds: float, act: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(max(0.0, seconds), act)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def drained(content: aiohttp.StreamReader) -> bytes:
    """Return what aiohttp has received of a body so far."""
    parts: list[bytes] = []
    # Reading lets a parser that had to stop go on, so that there may be more than there was.
    while content.exception() is None and (part := content.read_nowait()):
        parts.append(part)
    return b"".join(parts)


def taken_over(response: aiohttp.ClientResponse, patience: float | None) -> Intake | None:
    """Take the connection of ``response`` over, of whose body all that had come was read; None to leave it.

    It is left where little is to come, or where what is to come is not of a known length.
    """
    connection, content, length = response.connection, response.content, response.content_length
    if connection is None or length is None or "Transfer-Encoding" in response.headers:
        return None
    transport, owner = connection.transport, connection.protocol
    left = length - content.total_bytes
    if transport is None or owner is None or transport.is_closing() or content.exception() is not None:
        return None
    if left < WORTH_TAKING or content.is_eof():
        return None
    # From here on it is not aiohttp that sees bytes come, so it must not wait for any.
    owner.read_timeout = None
    owner.start_timeout()
    intake = Intake(transport, owner, left, patience)
    transport.set_protocol(intake)
    transport.resume_reading()
    return intake
