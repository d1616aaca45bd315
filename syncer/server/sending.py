"""Sending a stored blob: inline when it is small, by sendfile when the transport can, else in chunks."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from aiohttp import web
from anyio.to_thread import run_sync

from syncer.layout import files
from syncer.server.errors import ErrorCode, error_response
from syncer.server.headers import Span, parse_range, tag_matches

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import FileIO
    from pathlib import Path

    from syncer.oci.digest import Digest
    from syncer.server.exchange import Exchange

#: Up to this size a blob is read in the thread hop that opens it.
INLINE_SIZE = 128 * 1024
#: Bytes between two looks at the clock; a client slower than this per stall_timeout is let go.
SEGMENT_SIZE = 4 * 1024 * 1024
#: Bytes read in one thread hop where sendfile cannot be used.
CHUNK_SIZE = 512 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """A blob that was opened: the file, or what was read of it when that is little."""

    size: int
    span: Span | None
    file: FileIO | None = None
    data: bytes = b""


def _open(path: Path, range_header: str) -> _Opened | None:
    handle = files.open_regular(path)
    if handle is None:
        return None
    file = open(handle, "rb", buffering=0)  # noqa: SIM115, PTH123 - by its descriptor; the sender closes it
    try:
        size = os.fstat(handle).st_size
        span = parse_range(range_header, size) if range_header else None
        start, length = (span.start, span.length) if span else (0, size)
        if length > INLINE_SIZE:
            return _Opened(size=size, span=span, file=file)
        data = os.pread(handle, length, start) if length else b""
    except BaseException:
        file.close()
        raise
    file.close()
    return _Opened(size=size, span=span, data=data)


class BlobSender:
    """Answers GET of a blob, whole or in part."""

    def __init__(self, stall_timeout: float) -> None:
        self._stall_timeout = stall_timeout

    async def send(
        self, exchange: Exchange, path: Path, digest: Digest, headers: Mapping[str, str]
    ) -> web.StreamResponse | None:
        """Send the blob; return None when there is no such file.

        Answers 206 to one byte range, 416 to one that is not in the blob, and 200 to everything else
        (RFC 9110 section 14).
        The connection is cut when the client takes nothing for the stall timeout.
        """
        fields_asked = exchange.request.headers
        wanted = fields_asked.get("Range", "")
        if wanted and not tag_matches(fields_asked.get("If-Range", digest), digest):
            wanted = ""
        opened = await run_sync(_open, path, wanted)
        if opened is None:
            return None
        size, span = opened.size, opened.span
        if span is not None and span.length == 0:
            return error_response(
                416,
                ErrorCode.RANGE_INVALID,
                f"the blob has {size} bytes",
                headers={"Content-Range": f"bytes */{size}"},
            )
        fields = dict(headers)
        if span is not None:
            fields["Content-Range"] = f"bytes {span.start}-{span.last}/{size}"
        status = 200 if span is None else 206
        if opened.file is None:
            return web.Response(status=status, body=opened.data, headers=fields)
        try:
            return await self._stream(exchange, opened.file, span or Span(start=0, length=size), status, fields)
        finally:
            with anyio.CancelScope(shield=True):
                await run_sync(opened.file.close)

    async def _stream(
        self, exchange: Exchange, file: FileIO, span: Span, status: int, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        request = exchange.request
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = span.length
        try:
            await response.prepare(request)
            if request.secure or not await self._sendfile(exchange, file, span):
                await self._chunks(exchange, response, file, span)
        except (OSError, TimeoutError):
            # The headers are out, so the one way left to say that this is not the whole is to hang up.
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _sendfile(self, exchange: Exchange, file: FileIO, span: Span) -> bool:
        """Send by the kernel; False when this loop cannot (uvloop), with nothing sent."""
        loop = asyncio.get_running_loop()
        offset, left = span.start, span.length
        while left:
            transport = exchange.request.transport
            if transport is None:
                raise ConnectionResetError("the client left")
            count = min(left, SEGMENT_SIZE)
            try:
                with anyio.fail_after(self._stall_timeout):
                    sent = await loop.sendfile(transport, file, offset, count, fallback=False)
            except (NotImplementedError, asyncio.SendfileNotAvailableError):
                return False
            if not sent:
                raise ConnectionResetError("the blob became shorter while it was sent")
            offset += sent
            left -= sent
            exchange.sent = offset - span.start
        return True

    async def _chunks(self, exchange: Exchange, response: web.StreamResponse, file: FileIO, span: Span) -> None:
        offset, left = span.start, span.length
        while left:
            data = await run_sync(os.pread, file.fileno(), min(left, CHUNK_SIZE), offset)
            if not data:
                raise ConnectionResetError("the blob became shorter while it was sent")
            with anyio.fail_after(self._stall_timeout):
                await response.write(data)
            offset += len(data)
            left -= len(data)
            exchange.sent = offset - span.start
