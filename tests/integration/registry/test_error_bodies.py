"""Error answers whose bodies are endless, compressed, or nothing that can be read."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.errors import StatusError
from syncer.registry.failures import ERROR_BODY_LIMIT
from tests.support.scripted import connected, scripted

if TYPE_CHECKING:
    from syncer.errors import SyncerError

MIB = 1024 * 1024
#: Made before any loop runs: to compress so much takes a tenth of a second.
BOMB = gzip.compress(b"x" * (300 * ERROR_BODY_LIMIT))


async def refused(body: bytes, **headers: str) -> SyncerError:
    """Return the error that a 400 with ``body`` leads to."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=400, body=body, headers=headers)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(StatusError) as caught:
            await it.client.repository("a").fetch_manifest("v1")
    return caught.value


async def test_a_hundred_megabytes_of_error() -> None:
    """Of an error without an end its start is read, and the connection is dropped, not drained."""
    written = 0
    connections: set[object] = set()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal written
        connections.add(request.transport)
        response = web.StreamResponse(status=400, headers={"Content-Length": str(100 * MIB)})
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"no " * (MIB // 3))
            written += MIB
        return response

    async with scripted(handler) as server, connected(server.address) as it:
        for _ in range(2):
            with pytest.raises(StatusError, match="no no no") as caught:
                await it.client.repository("a").fetch_manifest("v1")
            assert len(caught.value.message) < 1000
    # What fits into the buffers of two sockets may have been written, the rest not.
    assert written < 50 * MIB
    assert len(connections) == 2


async def test_a_compressed_error() -> None:
    """What a proxy compressed unasked is read all the same."""
    body = json.dumps({"errors": [{"code": "UNSUPPORTED", "message": "not here"}]}).encode()
    error = await refused(gzip.compress(body), **{"Content-Encoding": "gzip"})
    assert "UNSUPPORTED, not here" in error.message


async def test_a_compressed_bomb() -> None:
    """A compressed error that is huge unpacked is unpacked up to the bound of any error body, and broken ones not."""
    assert len((await refused(BOMB)).message) < 1000
    assert (await refused(b"\x1f\x8b" + b"broken")).message.endswith("a:v1")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"<html><head><title>502 Bad Gateway</title></head>" + b"<p>" * 999, "502 Bad Gateway"),
        (b"plain words", "plain words"),
        (b"\xff\xfe\x00\x1b[31mred", "[31mred"),
        (b'{"errors": "many"}', "errors"),
        (b"y" * 5000, "y" * 200),
        (b"", "a:v1"),
    ],
)
async def test_bodies_of_any_kind(body: bytes, shown: str) -> None:
    """The status decides, and of the body two hundred printable characters are shown at most."""
    error = await refused(body)
    assert shown in error.message
    assert error.message.isprintable()
    assert "y" * 201 not in error.message
