"""Blobs of any size, made up as they are read, and a registry that serves an image of one."""

from __future__ import annotations

import random
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from aiohttp import web

from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from tests.support import images
from tests.support.scripted import scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1024 * 1024
_BLOCK = random.Random("block").randbytes(MIB)  # noqa: S311 - test content, not a secret
_PIECE = 256 * 1024
_RANGE = re.compile(r"bytes=([0-9]+)-")


def block(number: int) -> bytes:
    """Return one MiB of a blob: the same for the same number, and different for each."""
    return number.to_bytes(16, "big") + _BLOCK[16:]


def described(blocks: int) -> Descriptor:
    """Describe a blob of so many MiB."""
    hasher = sha256()
    for number in range(blocks):
        hasher.update(block(number))
    return Descriptor(
        media_type="application/octet-stream", digest=Digest(f"sha256:{hasher.hexdigest()}"), size=blocks * MIB
    )


#: The digest of 1024 blocks; ``described(1024)`` computes it, in a second that a test need not take.
GIBIBYTE = Descriptor(
    media_type="application/octet-stream",
    digest=Digest("sha256:80df50f46763ddb8b6e8589074da59efb579ee7cc77607b42b9ecad5497c6452"),
    size=1024 * MIB,
)


@dataclass
class LargeImage:
    """A registry with one image, ``large/app:v1``, whose layer is ``blob``.

    Attributes:
        blob: the layer.
        host: where it is served.
        most: how many bytes of the layer each reading gets before it has to wait for :meth:`release`.
        starts: at which byte each reading began.
    """

    blob: Descriptor
    host: str = ""
    most: int | None = None
    starts: list[int] = field(default_factory=list)
    _released: anyio.Event = field(default_factory=anyio.Event)

    @cached_property
    def image(self) -> images.Sample:
        """The image; its layer is not among the blobs."""
        return images.image(layers=0, foreign=[self.blob])

    def release(self) -> None:
        """Hold nothing back any more."""
        self.most = None
        self._released.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        kind, _, reference = request.path.rpartition("/")
        if kind.endswith("/manifests"):
            manifest = self.image.manifest
            headers = {"Docker-Content-Digest": manifest.digest, "Content-Type": manifest.media_type}
            return web.Response(body=manifest.raw, headers=headers)
        if kind.endswith("/tags"):
            return web.json_response({"name": "large/app", "tags": ["v1"]})
        if reference == self.blob.digest:
            return await self._layer(request)
        data = self.image.blobs.get(Digest(reference)) if kind.endswith("/blobs") else None
        return web.Response(status=404) if data is None else web.Response(body=data)

    async def _layer(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = _RANGE.fullmatch(request.headers.get("Range", ""))
        start, size = int(asked[1]) if asked else 0, self.blob.size
        self.starts.append(start)
        response = web.StreamResponse(status=206 if asked else 200)
        response.content_length = size - start
        if asked:
            response.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        await response.prepare(request)
        # Who reads it may be killed.
        with suppress(ConnectionError):
            await self._write(response, start)
        return response

    async def _write(self, response: web.StreamResponse, start: int) -> None:
        at = start
        while at < self.blob.size:
            # A write that finds room does not wait for anything.
            await anyio.lowlevel.checkpoint()
            if self.most is not None and at - start >= self.most:
                await self._released.wait()
            piece = memoryview(block(at // MIB))[at % MIB :][:_PIECE]
            await response.write(piece)
            at += len(piece)


@asynccontextmanager
async def serving(blob: Descriptor, *, most: int | None = None) -> AsyncIterator[LargeImage]:
    """Serve an image of ``blob`` on a free port."""
    large = LargeImage(blob, most=most)
    async with scripted(large.handle) as server:
        large.host = server.address
        yield large
