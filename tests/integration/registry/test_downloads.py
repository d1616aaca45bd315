"""Blobs read over connections that break."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.content import verified
from syncer.errors import ConnectionFailed, Denied, DigestMismatch, NotFound, Side, SizeMismatch
from syncer.events import RequestFinished, RetryScheduled
from syncer.registry import RegistrySettings
from tests.support import images
from tests.support.scripted import connected, scripted

if TYPE_CHECKING:
    from syncer.oci import Descriptor
    from tests.support.scripted import Connected

DATA = images.random_bytes(1_000_000, "blob")
BLOB = images.blob(DATA)


class Breaking:
    """Serves a blob and cuts the connection at the offsets it is told, in turn."""

    def __init__(self, *cuts: int, ranges: str = "honoured") -> None:
        self.cuts = list(cuts)
        self.ranges = ranges
        self.asked: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        wanted = request.headers.get("Range", "")
        self.asked.append(wanted)
        start = int(re.sub(r"\D", "", wanted) or 0)
        if wanted and self.ranges == "ignored":
            start = 0
        if wanted and self.ranges == "refused":
            return web.Response(status=416)
        headers = {"Content-Length": str(len(DATA) - start)}
        if wanted and self.ranges != "ignored":
            shown = 0 if self.ranges == "wrong" else start
            headers["Content-Range"] = f"bytes {shown}-{len(DATA) - 1}/{len(DATA)}"
        partial = wanted and self.ranges != "ignored"
        response = web.StreamResponse(status=206 if partial else 200, headers=headers)
        await response.prepare(request)
        end = self.cuts.pop(0) if self.cuts else len(DATA)
        await response.write(DATA[start:end])
        if end < len(DATA) and request.transport is not None:
            request.transport.close()
        return response


async def read(it: Connected, descriptor: Descriptor = BLOB) -> bytes:
    """Read a blob and verify it."""
    async with it.client.repository("a", Side.SOURCE).fetch_blob(descriptor) as chunks:
        return b"".join([chunk async for chunk in verified(chunks, descriptor)])


async def test_resumes_at_the_byte() -> None:
    """A download that is cut three times asks for the missing bytes only, and verifies."""
    blob = Breaking(200_000, 600_000, 999_999)
    async with scripted(blob.handle) as server, connected(server.address) as it:
        assert await read(it) == DATA
    assert blob.asked[0] == ""
    offsets = [int(re.sub(r"\D", "", asked)) for asked in blob.asked[1:]]
    assert len(offsets) == 3
    assert sorted(offsets) == offsets
    assert all(offset <= end for offset, end in zip(offsets, [200_000, 600_000, 999_999], strict=True))
    assert len(it.recorder.of(RetryScheduled)) == 3


@pytest.mark.parametrize("ranges", ["ignored", "refused"])
async def test_registries_without_ranges(ranges: str) -> None:
    """Where a range is ignored or refused the blob is read again, and what is known is skipped."""
    blob = Breaking(300_000, ranges=ranges)
    async with scripted(blob.handle) as server, connected(server.address) as it:
        assert await read(it) == DATA


async def test_wrong_range_is_not_taken() -> None:
    """Bytes of another place than asked for are left: the blob is read from its start, and what is known skipped."""
    blob = Breaking(300_000, ranges="wrong")
    async with scripted(blob.handle) as server, connected(server.address) as it:
        assert await read(it) == DATA
    assert [asked[:6] for asked in blob.asked] == ["", "bytes=", ""]


async def test_wrong_length_of_a_range_is_not_taken() -> None:
    """An answer with the right range and another length is no answer: the blob is read from its start."""
    asked: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.headers.get("Range", ""))
        if len(asked) == 1:
            return await cut_at(request, DATA, 300_000)
        if len(asked) == 2:
            shown = {"Content-Range": f"bytes {asked[1][6:]}{len(DATA) - 1}/{len(DATA)}"}
            return web.Response(status=206, headers=shown, body=b"x" * 10)
        return web.Response(body=DATA)

    async with scripted(handler) as server, connected(server.address) as it:
        assert await read(it) == DATA
    assert len(asked) == 3


async def cut_at(request: web.BaseRequest, data: bytes, end: int) -> web.StreamResponse:
    """Announce ``data`` and cut the connection after ``end`` bytes."""
    response = web.StreamResponse(headers={"Content-Length": str(len(data))})
    await response.prepare(request)
    await response.write(data[:end])
    if request.transport is not None:
        request.transport.close()
    return response


async def test_an_end_that_comes_early_without_a_length() -> None:
    """A body without a length that ends early is a lost connection like any other."""
    asked: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.headers.get("Range", ""))
        if asked[-1]:
            start = int(asked[-1][6:-1])
            shown = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"}
            return web.Response(status=206, headers=shown, body=DATA[start:])
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(DATA[:400_000])
        return response

    async with scripted(handler) as server, connected(server.address) as it:
        assert await read(it) == DATA
    assert asked == ["", "bytes=400000-"]


async def test_a_blob_that_is_shorter_than_its_manifest_says() -> None:
    """A source that has fewer bytes and says so when asked for more is corrupt: nothing is tried again."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "Range" in request.headers:
            return web.Response(status=416, headers={"Content-Range": "bytes */400000"})
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(DATA[:400_000])
        return response

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(SizeMismatch, match="400000") as caught:
            await read(it)
    assert caught.value.side is Side.SOURCE
    assert len(server.lines) == 2


async def test_a_signed_address_that_expired() -> None:
    """A storage that refuses the address which the registry gives after a cut is asked by the next one."""
    blob = Breaking(300_000)
    given: list[str] = []

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        given.append("/s3/old" if len(given) < 2 else "/s3/new")
        return web.Response(status=307, headers={"Location": f"{storage.url}{given[-1]}"})

    async def stored(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/s3/old" and len(given) > 1:
            return web.Response(status=403, body=b"<Error><Code>AccessDenied</Code></Error>")
        return await blob.handle(request)

    async with scripted(stored) as storage, scripted(handler) as server, connected(server.address) as it:
        assert await read(it) == DATA
    assert given == ["/s3/old", "/s3/old", "/s3/new"]


async def test_a_signed_address_that_expired_in_a_pause() -> None:
    """An address that was given before the storage wanted a pause, and was over after it, is asked for anew."""
    given: list[float] = []

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        given.append(it.clock.now)
        if len(given) == 1:
            # What another download was told meanwhile.
            it.client.limits.pause(120, storage.url)
        return web.Response(status=307, headers={"Location": f"{storage.url}/s3?at={it.clock.now}"})

    async def stored(request: web.BaseRequest) -> web.StreamResponse:
        is_over = it.clock.now > float(request.query["at"]) + 60
        return web.Response(status=403) if is_over else web.Response(body=DATA)

    async with scripted(stored) as storage, scripted(handler) as server, connected(server.address) as it:
        assert await read(it) == DATA
    assert (len(given), len(storage.lines)) == (2, 2)


async def test_a_storage_that_refuses_for_good() -> None:
    """A storage that refuses every address is given up after few tries."""
    blob = Breaking(300_000)
    given = 0

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal given
        given += 1
        return web.Response(status=307, headers={"Location": f"{storage.url}/s3/{given}"})

    async def stored(request: web.BaseRequest) -> web.StreamResponse:
        return await blob.handle(request) if request.path == "/s3/1" else web.Response(status=403)

    async with scripted(stored) as storage, scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(Denied):
            await read(it)
    assert given <= 5


async def test_what_is_skipped_counts_for_the_bandwidth() -> None:
    """Bytes that come a second time have come over the line twice."""
    blob = Breaking(300_000, ranges="ignored")
    async with scripted(blob.handle) as server:
        settings = RegistrySettings(host=server.address, plain_http=True, bandwidth=100_000)
        async with connected(server.address, settings=settings) as it:
            began = it.clock.now
            assert await read(it) == DATA
            assert it.clock.now - began > 10.0


async def test_no_progress_ends() -> None:
    """A connection that is cut at the same byte again and again is given up, after few tries."""
    blob = Breaking(*[300_000] * 50)
    async with scripted(blob.handle) as server, connected(server.address) as it:
        with pytest.raises(ConnectionFailed) as caught:
            await read(it)
    assert Side.SOURCE is caught.value.side
    assert len(blob.asked) <= 8


async def test_resume_asks_the_registry_again() -> None:
    """After a cut behind a redirect the registry is asked for a new address: the old one may have expired."""
    blob = Breaking(300_000)
    signed: list[str] = []

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        signed.append(f"/s3/{len(signed)}")
        return web.Response(status=307, headers={"Location": f"{storage.url}{signed[-1]}"})

    async with scripted(blob.handle) as storage, scripted(handler) as server:
        async with connected(server.address) as it:
            assert await read(it) == DATA
        assert storage.lines == ["GET /s3/0", "GET /s3/1"]
    assert blob.asked[1].startswith("bytes=")


async def test_wrong_length_is_told_before_a_byte_is_read() -> None:
    """A blob of another length than its descriptor says is refused by its headers."""
    async with scripted(Breaking().handle) as server, connected(server.address) as it:
        shorter = images.blob(DATA[:-1])
        with pytest.raises(SizeMismatch) as caught:
            await read(it, shorter)
    assert Side.SOURCE is caught.value.side


async def test_bytes_without_an_end() -> None:
    """A body without a length is cut off one byte after the descriptor's size."""

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    async with scripted(endless) as server, connected(server.address) as it:
        with pytest.raises(SizeMismatch):
            async with it.client.repository("a").fetch_blob(BLOB) as chunks:
                assert len(DATA) + 1 > sum([len(chunk) async for chunk in chunks])


async def test_wrong_bytes() -> None:
    """Bytes that do not hash to the digest are found by whoever verifies."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=bytes(len(DATA)))

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(DigestMismatch):
            await read(it)


async def test_missing_blob() -> None:
    """Entering raises NotFound when there is no such blob."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(NotFound):
            await read(it)


async def test_empty_blob() -> None:
    """A blob of no bytes is read as such."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"")

    async with scripted(handler) as server, connected(server.address) as it:
        assert await read(it, images.blob(b"")) == b""


async def test_left_early() -> None:
    """A reader who leaves in the middle leaves nothing behind, and the client goes on."""
    async with scripted(Breaking().handle) as server, connected(server.address) as it:
        async with it.client.repository("a").fetch_blob(BLOB) as chunks:
            async for _ in chunks:
                break
        assert await read(it) == DATA
    assert [event.status for event in it.recorder.of(RequestFinished)] == [200, 200]
