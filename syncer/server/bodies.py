"""Request bodies, in batches that are worth a thread hop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from aiohttp.web_protocol import RequestPayloadError

from syncer.errors import SizeExceedsLimit, SizeMismatch, StatusError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

#: Bytes that are gathered before they are hashed and written together.
BATCH_SIZE = 1024 * 1024

#: How aiohttp says that the body ended before its end.
_BROKEN = (ConnectionError, RequestPayloadError)


async def expect_nothing(request: web.Request) -> None:
    """Leave ``Expect: 100-continue`` open until somebody wants the body, see :func:`invite`.

    A refusal (401, 404, 413) is then the only answer, and the client never sends the body.
    """


async def invite(request: web.Request) -> None:
    """Send the 100 a client waits for before it sends the body."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The interim answer is not part of the final one, and must not count as its headers.
        request.writer.output_size = 0


async def batches(request: web.Request, *, stall_timeout: float) -> AsyncIterator[list[bytes]]:
    """Yield the body in lists of chunks, each of about :data:`BATCH_SIZE` bytes.

    While a batch is being written the transport goes on receiving into aiohttp's own bounded buffer,
    and stops when that is full: this is the back-pressure.

    Raises:
        SizeMismatch: when the body ends early; what came before has been yielded.
        StatusError: 408 when nothing arrives for ``stall_timeout`` seconds; same.
    """
    content = request.content
    batch: list[bytes] = []
    size = 0
    failure: SizeMismatch | StatusError | None = None
    while True:
        try:
            with anyio.fail_after(stall_timeout):
                chunk = await content.readany()
        except _BROKEN:
            failure = SizeMismatch("the connection ended before the body did")
            break
        except TimeoutError:
            failure = StatusError(f"the body stalled for {stall_timeout:g} seconds", status=408)
            break
        if not chunk:
            break
        batch.append(chunk)
        size += len(chunk)
        if size >= BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
    if failure is not None:
        raise failure


async def read_whole(request: web.Request, limit: int, *, stall_timeout: float) -> bytes:
    """Return the whole body.

    Raises:
        SizeExceedsLimit: when it is over ``limit`` bytes, by its Content-Length before it is read.
        SizeMismatch, StatusError: as :func:`batches`.
    """
    announced = request.content_length
    if announced is not None and announced > limit:
        raise SizeExceedsLimit(f"the body is {announced} bytes long; the limit is {limit}")
    await invite(request)
    chunks: list[bytes] = []
    size = 0
    async for batch in batches(request, stall_timeout=stall_timeout):
        chunks += batch
        size += sum(map(len, batch))
        if size > limit:
            raise SizeExceedsLimit(f"the body is longer than the limit of {limit} bytes")
    return b"".join(chunks)
