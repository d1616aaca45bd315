"""Reading a blob, and going on where a lost connection left it."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from syncer.errors import ProtocolViolation, SizeMismatch, TransportError
from syncer.registry.urls import redact

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from syncer.oci.descriptor import Descriptor
    from syncer.registry.call import Call
    from syncer.registry.client import RegistryClient
    from syncer.registry.transport import HttpResponse

_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")
#: Lost connections in a row that brought no byte, before the download is given up.
_MOST_STALLS = 3
#: Lost connections in all: a registry that cuts every few kilobytes is not worth more.
_MOST_RESUMES = 100


class BlobDownload:
    """The bytes of one blob, from the first to the last; an async context manager and iterator.

    A connection that is lost is replaced by another request at the registry (never at the storage it
    redirected to, whose signed URL may have expired) for the rest of the bytes. A registry that
    ignores the range is read again from the start and what is known is skipped; should it differ,
    the digest will tell.
    """

    def __init__(self, client: RegistryClient, call: Call, descriptor: Descriptor) -> None:
        self._client = client
        self._call = call
        self._descriptor = descriptor
        self._stack = AsyncExitStack()
        self._response: HttpResponse | None = None
        self._offset = 0
        self._skip = 0
        self._stalls = 0
        self._resumes = 0
        self._resumed_at = 0

    async def __aenter__(self) -> Self:
        response = await self._request(self._call)
        length = response.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) != self._descriptor.size:
            await self._stack.aclose()
            raise SizeMismatch(
                f"{self._call.asked} has {length[:20]} bytes on {self._client.host}, "
                f"where its manifest says {self._descriptor.size}",
                hint="The source is corrupt, or not what it was when the manifest was pushed.",
                side=self._call.side,
            )
        self._response = response
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._response = None
        await self._stack.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes.

        Raises:
            SizeMismatch: when there are more of them than the descriptor says.
            RegistryError: when the connection is lost for good.
        """
        while self._response is not None:
            try:
                chunk = await self._response.read_some()
            except TransportError as error:
                if self._offset == self._descriptor.size:
                    break
                await self._resume(error)
                continue
            if not chunk:
                break
            if self._skip:
                passed = min(self._skip, len(chunk))
                self._skip -= passed
                chunk = chunk[passed:]
                if not chunk:
                    continue
            self._offset += len(chunk)
            if self._offset > self._descriptor.size:
                raise SizeMismatch(
                    f"{self._call.asked} is longer than the {self._descriptor.size} bytes announced",
                    side=self._call.side,
                )
            await self._client.limits.pass_bytes(len(chunk))
            return chunk
        raise StopAsyncIteration

    async def _request(self, call: Call) -> HttpResponse:
        return await self._stack.enter_async_context(self._client.stream(call))

    async def _resume(self, error: TransportError) -> None:
        """Ask for the bytes from the offset on, after the connection failed with ``error``."""
        self._stalls = 1 if self._offset > self._resumed_at else self._stalls + 1
        self._resumes += 1
        self._resumed_at = self._offset
        error.side = error.side or self._call.side
        await self._stack.aclose()
        if self._stalls > _MOST_STALLS or self._resumes > _MOST_RESUMES:
            raise error
        if not await self._client.wait_to_retry(self._call.kind, error, self._stalls):
            raise error
        if self._offset == 0:
            self._response = await self._request(self._call)
            return
        headers = {**self._call.headers, "Range": f"bytes={self._offset}-"}
        response = await self._request(replace(self._call, headers=headers, expected=frozenset({200, 206, 416})))
        self._skip = 0
        if response.status == 206:  # noqa: PLR2004 - Partial Content
            self._check_range(response)
        elif response.status == 200:  # noqa: PLR2004 - the range was ignored
            self._skip = self._offset
        else:
            # 416 although bytes are missing: the range is not understood, or another replica answers.
            await self._stack.aclose()
            response = await self._request(self._call)
            self._skip = self._offset
        self._response = response

    def _check_range(self, response: HttpResponse) -> None:
        value = response.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(value.strip())
        size = self._descriptor.size
        if match and int(match[1]) == self._offset and int(match[2]) == size - 1 and match[3] in (str(size), "*"):
            return
        raise ProtocolViolation(
            f"asked for the bytes from {self._offset} of {self._call.asked}, got {value[:80]!r}",
            registry=self._client.host,
            method=self._call.method,
            url=redact(response.url),
            side=self._call.side,
        )
