"""Reading a blob, and going on where a lost connection left it (reference 4, "Range resume")."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from syncer.errors import ConnectionFailed, SizeMismatch, StatusError, TransportError
from syncer.registry.network.urls import redact

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from syncer.oci.descriptor import Descriptor
    from syncer.registry.call import Answered, Call
    from syncer.registry.client import RegistryClient
    from syncer.registry.network.transport import HttpResponse

_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")
_UNSATISFIED = re.compile(r"bytes \*/(\d{1,20})")
#: Lost connections in a row that brought no byte, before the download is given up.
_MOST_STALLS = 3
#: Lost connections in all: a registry that cuts every few kilobytes is not worth more.
_MOST_RESUMES = 100
_PARTIAL = 206
_REFUSED = 416
#: How a storage answers to a signed URL that is no longer valid.
_EXPIRED = frozenset({400, 401, 403, 410})


class BlobDownload:
    """The bytes of one blob, from the first to the last; an async context manager and iterator.

    A connection that is lost, or that ends early without saying so, is replaced by another request at
    the registry (never at the storage it redirected to, whose signed URL may have expired) for the rest
    of the bytes. Who answers with other bytes than those is read again from the start, and what is known
    is skipped; should it differ, the digest will tell. Whoever reads sees one stream.
    """

    def __init__(self, client: RegistryClient, call: Call, descriptor: Descriptor, part: range | None = None) -> None:
        """Read what ``call`` asks for, or a ``part`` of it: bytes from its start to before its stop."""
        self._client = client
        self._call = call
        self._descriptor = descriptor
        self._part = part
        self._end = part.stop if part else descriptor.size
        self._answered: Answered | None = None
        self._response: HttpResponse | None = None
        self._held = b""
        self._offset = self._resumed_at = part.start if part else 0
        self._skip = 0
        self._stalls = 0
        self._resumes = 0

    async def __aenter__(self) -> Self:
        response = await self._continued()
        length = response.headers.get("Content-Length", "")
        is_whole = response.status != _PARTIAL
        if is_whole and length.isascii() and length.isdigit() and int(length[:20]) != self._descriptor.size:
            await self._close()
            raise self._wrong_size(length[:20])
        self._response = response
        return self

    def take_all(self) -> bool:
        """Read to the end of the blob where all of it was answered to the question for a part; tell whether it was."""
        if self._response is None or self._response.status == _PARTIAL:
            return False
        self._part = None
        self._end = self._descriptor.size
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._response = None
        await self._close()

    async def _close(self) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            async with answered:
                pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes.

        Raises:
            SizeMismatch: when there are more or fewer of them than the descriptor says.
            RegistryError: when the connection is lost for good.
        """
        piece = self._client.limits.piece
        while self._response is not None:
            if self._part and self._offset == self._end:
                break
            chunk = self._held or await self._receive()
            self._held = b""
            if chunk is None:
                continue
            if not chunk:
                break
            if piece is not None and len(chunk) > piece:
                chunk, self._held = chunk[:piece], chunk[piece:]
            # What is skipped has come over the line as well.
            await self._client.limits.pass_bytes(len(chunk))
            if self._skip:
                passed = min(self._skip, len(chunk))
                self._skip -= passed
                chunk = chunk[passed:]
                if not chunk:
                    continue
            if self._part:
                # More than asked for comes from who takes no ranges, or not these.
                chunk = chunk[: self._end - self._offset]
            self._offset += len(chunk)
            if self._offset > self._end:
                raise SizeMismatch(
                    f"{self._call.asked} is longer than the {self._descriptor.size} bytes announced",
                    side=self._call.side,
                )
            return chunk
        raise StopAsyncIteration

    async def _receive(self) -> bytes | None:
        """Return what arrives, nothing at the end of the blob, or None when the rest has been asked for anew."""
        assert self._response is not None  # noqa: S101 - for the type checker: the caller has looked
        try:
            chunk = await self._response.read_some()
        except TransportError as error:
            if self._offset == self._end:
                return b""
            await self._resume(error)
            return None
        if chunk or self._offset == self._end:
            return chunk
        # Without a length, or through a proxy that makes one up, a lost connection looks like the end.
        await self._resume(
            ConnectionFailed(
                f"{self._call.asked} ended after {self._offset} of {self._end} bytes",
                registry=self._client.host,
                method=self._call.method,
                url=redact(self._response.url),
            )
        )
        return None

    async def _request(self, call: Call) -> HttpResponse:
        try:
            answered = await self._client.open(call)
        except StatusError as refused:
            if refused.registry == self._client.host or refused.status not in _EXPIRED:
                raise
            # The registry has led to a signed URL that is over: the next one it gives may be a new one.
            answered = None
        self._answered = answered or await self._client.open(call)
        return self._answered.response

    async def _resume(self, error: TransportError) -> None:
        """Ask for the bytes from the offset on, after the connection failed with ``error``."""
        has_headway = self._offset > self._resumed_at
        self._stalls = 1 if has_headway else self._stalls + 1
        self._resumes += 1
        self._resumed_at = self._offset
        error.side = error.side or self._call.side
        await self._close()
        if self._stalls > _MOST_STALLS or self._resumes > _MOST_RESUMES:
            raise error
        if not await self._client.wait_to_retry(self._call.kind, error, self._stalls, has_headway=has_headway):
            raise error
        self._response = await self._continued()

    async def _continued(self) -> HttpResponse:
        """Return an answer that has the bytes from the offset on, after those that are to be skipped."""
        self._skip = 0
        if self._offset == 0 and not self._part:
            return await self._request(self._call)
        last = self._end - 1 if self._part else ""
        headers = {**self._call.headers, "Range": f"bytes={self._offset}-{last}"}
        expected = frozenset({200, _PARTIAL, _REFUSED})
        response = await self._request(replace(self._call, headers=headers, expected=expected))
        if response.status == _PARTIAL and self._has_right_range(response):
            return response
        if response.status in (_PARTIAL, _REFUSED):
            # Another range than asked for, or none although bytes are missing: ranges are not understood there,
            # or another replica answers. Unless it says that there are no more.
            there = _UNSATISFIED.fullmatch(response.headers.get("Content-Range", "").strip())
            await self._close()
            if there and response.status == _REFUSED and int(there[1]) != self._descriptor.size:
                raise self._wrong_size(there[1])
            response = await self._request(self._call)
        self._skip = self._offset
        return response

    def _has_right_range(self, response: HttpResponse) -> bool:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        size = self._descriptor.size
        if not match or (int(match[1]), int(match[2])) != (self._offset, self._end - 1):
            return False
        length = response.headers.get("Content-Length", "")
        is_right = not (length.isascii() and length.isdigit()) or int(length[:20]) == self._end - self._offset
        return is_right and match[3] in (str(size), "*")

    def _wrong_size(self, length: str) -> SizeMismatch:
        return SizeMismatch(
            f"{self._call.asked} has {length} bytes on {self._client.host}, "
            f"where its manifest says {self._descriptor.size}",
            hint="The source is corrupt, or not what it was when the manifest was pushed.",
            side=self._call.side,
        )
