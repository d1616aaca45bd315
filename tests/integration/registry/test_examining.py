"""Looking closer at a blob that a registry says to have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.errors import ProtocolViolation, Side
from tests.support import images
from tests.support.scripted import connected, scripted
from tests.support.uploading import methods

if TYPE_CHECKING:
    from tests.support.scripted import Handler

DATA = b"what the blob is"
BLOB = images.blob(DATA)


def registry(held: bytes | None, *, length: int | None = None, head: int = 200) -> Handler:
    """Return a registry that has ``held`` in place of the blob, and states another ``length`` when it is given."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if held is None:
            return web.Response(status=404)
        if request.method == "GET":
            return web.Response(body=held)
        return web.Response(status=head, headers={"Content-Length": str(len(held) if length is None else length)})

    return handle


@pytest.mark.parametrize(
    ("handler", "asked"),
    [
        pytest.param(registry(DATA), "HEAD HEAD", id="as long as it should be"),
        pytest.param(registry(DATA, head=403), "HEAD HEAD", id="answers no HEAD"),
        pytest.param(registry(DATA, length=0), "HEAD GET HEAD", id="a wrong length, read once"),
    ],
)
async def test_a_blob_that_is_there(handler: Handler, asked: str) -> None:
    """The length is what tells, unless a registry, or its storage, tells none that is right."""
    async with scripted(handler) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        assert await repository.examine_blob(BLOB)
        assert await repository.examine_blob(BLOB)
    assert methods(server.lines) == asked


async def test_a_blob_that_is_not_there() -> None:
    """It can be sent."""
    async with scripted(registry(None)) as server, connected(server.address) as it:
        assert not await it.client.repository("a", Side.TARGET).examine_blob(BLOB)


@pytest.mark.parametrize("held", [b"", DATA[:-1], DATA + b"!"])
async def test_other_bytes_in_its_place(held: bytes) -> None:
    """What a power cut left of it cannot be replaced: that is an error, with what to do."""
    async with scripted(registry(held)) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation, match="has other bytes") as raised:
            await it.client.repository("a", Side.TARGET).examine_blob(BLOB)
    assert "remove what its storage has" in raised.value.hint
    assert raised.value.side is Side.TARGET
