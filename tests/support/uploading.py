"""A registry that takes uploads in every form, as strictly or as oddly as a test wants, and blobs to send to it."""

from __future__ import annotations

import functools
import re
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio.lowlevel
from aiohttp import web

from syncer.content import BlobOutcome, verified
from syncer.errors import Side
from syncer.oci import Digest
from tests.support import images
from tests.support.scripted import cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from syncer.registry import RegistryRepository
    from tests.support.scripted import Connected

    Trouble = Callable[[web.BaseRequest], "web.Response | None"]

#: Described once: to hash much within a test would hold up its loop.
described = functools.cache(images.blob)
_SPAN = re.compile(r"([0-9]+)-([0-9]+)")


@dataclass
class Source:
    """The bytes of a blob, opened as often as an upload wants them."""

    data: bytes
    chunk: int = 100_000
    opened: int = 0
    given: int = 0

    def __call__(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open it."""

        @asynccontextmanager
        async def opening() -> AsyncIterator[AsyncIterator[bytes]]:
            self.opened += 1
            yield verified(self._chunks(), described(self.data))

        return opening()

    async def _chunks(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.data), self.chunk):
            await anyio.lowlevel.checkpoint()
            self.given += len(self.data[at : at + self.chunk])
            yield self.data[at : at + self.chunk]


@dataclass
class Target:
    """A registry whose Locations change with every request, and must be used as they were given last.

    Attributes:
        trouble: what to do instead, or before it, by method and in turn: a response, ``"cut"`` to drop the
            connection at once, ``"lose"`` to do it and drop the answer, a number to take so many bytes and
            drop the connection; None to do as usual.
        status_range: how the Range of a status is written, with ``{last}`` and ``{size}``.
        names_digest: the digest is named in the answers to commits.
        single_post: a POST with a digest commits its body.
        largest_body: bytes of a body that are refused with 413, and a page of HTML.
        minimum: OCI-Chunk-Min-Length of the answer to a POST.
        patched: the status of a PATCH.
        ranges: PATCHes are answered with a Range.
        parameter: what is called in a Location that which changes.
    """

    trouble: dict[str, list[object]] = field(default_factory=dict)
    status_range: str = "0-{last}"
    names_digest: bool = True
    single_post: bool = False
    largest_body: int | None = None
    minimum: int = 0
    patched: int = 202
    ranges: bool = True
    parameter: str = "_state"
    blobs: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, bytes] = field(default_factory=dict)
    opened: int = 0
    spans: list[str] = field(default_factory=list)
    _turns: Counter[str] = field(default_factory=Counter)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        waiting = self.trouble.get(request.method)
        trouble = waiting.pop(0) if waiting else None
        if isinstance(trouble, web.Response):
            await request.content.read()
            return trouble
        if trouble == "cut":
            cut(request)
            return web.Response()
        body = b""
        if isinstance(trouble, int):
            body = await self._some(request, trouble)
        elif self.largest_body is not None and (request.content_length or 0) > self.largest_body:
            await request.content.read()
            return web.Response(status=413, text="<html><title>413 Payload Too Large</title></html>")
        else:
            body = await request.content.read()
        answer = await getattr(self, f"_{request.method.lower()}")(request, body)
        if trouble is not None:
            cut(request)
        assert isinstance(answer, web.Response)
        return answer

    async def _some(self, request: web.BaseRequest, count: int) -> bytes:
        got = b""
        while len(got) < count and (more := await request.content.readany()):
            got += more
        return got[:count]

    async def _post(self, request: web.BaseRequest, body: bytes) -> web.Response:
        if self.single_post and "digest" in request.query:
            return self._stored(request, body)
        if request.query.get("mount", "") in self.blobs:
            return web.Response(status=201, headers={"Docker-Content-Digest": request.query["mount"]})
        self.opened += 1
        self.sessions[str(self.opened)] = b""
        headers = self._where(str(self.opened))
        if self.minimum:
            headers["OCI-Chunk-Min-Length"] = str(self.minimum)
        return web.Response(status=202, headers=headers)

    async def _patch(self, request: web.BaseRequest, body: bytes) -> web.Response:
        name = self._session(request)
        if name is None:
            return web.json_response({"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}, status=404)
        span = request.headers.get("Content-Range", "")
        self.spans.append(span)
        match = _SPAN.fullmatch(span)
        if span and (match is None or int(match[1]) != len(self.sessions[name])):
            return web.Response(status=416, headers=self._where(name))
        self.sessions[name] += body
        headers = self._where(name)
        if self.ranges:
            headers["Range"] = f"0-{len(self.sessions[name]) - 1}"
        return web.Response(status=self.patched, headers=headers)

    async def _put(self, request: web.BaseRequest, body: bytes) -> web.Response:
        name = self._session(request)
        if name is None:
            return web.json_response({"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}, status=404)
        return self._stored(request, self.sessions.pop(name) + body)

    async def _get(self, request: web.BaseRequest, _body: bytes) -> web.Response:
        name = request.path.rpartition("/")[2]
        if name not in self.sessions:
            return web.json_response({"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}, status=404)
        size = len(self.sessions[name])
        headers = {"Range": self.status_range.format(last=max(0, size - 1), size=size)}
        if not self._is_like_quay:
            headers.update(self._where(name))
        return web.Response(status=204, headers=headers)

    async def _delete(self, request: web.BaseRequest, _body: bytes) -> web.Response:
        self.sessions.pop(request.path.rpartition("/")[2], None)
        return web.Response(status=204)

    async def _head(self, request: web.BaseRequest, _body: bytes) -> web.Response:
        digest = request.path.rpartition("/")[2]
        if digest not in self.blobs:
            return web.Response(status=404)
        named = {"Docker-Content-Digest": digest} if self.names_digest else {}
        return web.Response(headers={"Content-Length": str(len(self.blobs[digest])), **named})

    def _stored(self, request: web.BaseRequest, data: bytes) -> web.Response:
        digest = request.query["digest"]
        if Digest.of(data) != digest:
            return web.json_response({"errors": [{"code": "DIGEST_INVALID"}]}, status=400)
        self.blobs[digest] = data
        return web.Response(status=201, headers={"Docker-Content-Digest": digest} if self.names_digest else {})

    def _where(self, name: str) -> dict[str, str]:
        self._turns[name] += 1
        return {"Location": f"/v2/a/blobs/uploads/{name}?{self.parameter}=A%2F{self._turns[name]}"}

    def _session(self, request: web.BaseRequest) -> str | None:
        name = request.path.rpartition("/")[2]
        is_current = self._is_like_quay or f"{self.parameter}=A%2F{self._turns[name]}" in request.path_qs.split("&")[0]
        return name if name in self.sessions and is_current else None

    @property
    def _is_like_quay(self) -> bool:
        """Quay's Locations stay as they are, and its status has none."""
        return self.status_range.startswith("bytes")


def repository_of(it: Connected, name: str = "a") -> RegistryRepository:
    """Return a repository to push to."""
    return it.client.repository(name, Side.TARGET)


async def push(it: Connected, source: Source, *, mount_from: str = "") -> BlobOutcome:
    """Push a blob, and tell how that went."""
    begun = await repository_of(it).begin_blob(described(source.data), mount_from=mount_from)
    if isinstance(begun, BlobOutcome):
        return begun
    await begun.send(source)
    return BlobOutcome.STREAMED


def methods(lines: list[str]) -> str:
    """Return the methods of the ``lines`` of a scripted server, in one line."""
    return " ".join(line.partition(" ")[0] for line in lines)
