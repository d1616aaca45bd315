"""Large blobs read in parts side by side."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from syncer.content import verified
from syncer.errors import NotFound, Side, SizeMismatch
from syncer.registry import RegistrySettings, ranged
from syncer.registry.settings import DownloadSettings
from tests.support import images
from tests.support.scripted import connected, cut, scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.scripted import Connected, Scripted

PART = 100_000
DATA = images.random_bytes(10 * PART + 1, "blob")
BLOB = images.blob(DATA)
PARTS = [f"bytes={at}-{min(at + PART, len(DATA)) - 1}" for at in range(0, len(DATA), PART)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make parts small, so that blobs of many parts are small as well."""
    monkeypatch.setattr(ranged, "PART", PART)


def bounds(wanted: str) -> tuple[int, int]:
    """Return the first byte of a Range and the one behind its last."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    assert match
    return int(match[1]), int(match[2] or len(DATA) - 1) + 1


def part(wanted: str, data: bytes = DATA) -> web.Response:
    """Answer a Range as it should be answered."""
    start, stop = bounds(wanted)
    shown = {"Content-Range": f"bytes {start}-{stop - 1}/{len(DATA)}"}
    return web.Response(status=206, headers=shown, body=data[start:stop])


@asynccontextmanager
async def reading(
    answer: Callable[[str, web.BaseRequest], Awaitable[web.StreamResponse]], *, parallel: int = 4, connections: int = 16
) -> AsyncIterator[tuple[Connected, Scripted]]:
    """Serve a blob by ``answer``, which gets the Range that is asked for, to a client with the setting ``parallel``."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return await answer(request.headers.get("Range", ""), request)

    async with scripted(handler) as server:
        settings = RegistrySettings(
            host=server.address,
            plain_http=True,
            data_connections=connections,
            is_fixed=True,
            download=DownloadSettings(parallel=parallel, large=len(DATA)),
        )
        async with connected(server.address, settings=settings) as it:
            yield it, server


async def read(it: Connected) -> bytes:
    """Read the blob as the engine does, with a slot of its own, and verify it."""
    source = it.client.repository("a", Side.SOURCE)
    async with source.data_slot(BLOB.size), source.fetch_blob(BLOB) as chunks:
        return b"".join([chunk async for chunk in verified(chunks, BLOB)])


def free(it: Connected) -> bool:
    """Tell whether every permit for blobs has come back."""
    return it.client.limits.of_blob(BLOB.size).used == 0


def ranges(server: Scripted) -> list[str]:
    """Return the ranges that were asked for."""
    return [seen.headers.get("Range", "") for seen in server.seen]


async def test_each_part_is_asked_for_once() -> None:
    """A blob of eleven parts costs eleven requests, comes whole and in order, and all permits come back."""

    async def answer(wanted: str, _request: web.BaseRequest) -> web.StreamResponse:
        return part(wanted)

    async with reading(answer) as (it, server):
        assert await read(it) == DATA
        assert sorted(ranges(server), key=bounds) == PARTS
        assert free(it)


async def test_parts_come_side_by_side_and_no_more_than_may_be_held() -> None:
    """While the first part hangs, three others come; a fifth is not asked for before the first is handed out."""
    may_go = anyio.Event()
    three_came = anyio.Event()
    asked: list[str] = []

    async def answer(wanted: str, request: web.BaseRequest) -> web.StreamResponse:
        asked.append(wanted)
        if wanted == PARTS[0]:
            response = web.StreamResponse(
                status=206,
                headers={"Content-Range": f"bytes 0-{PART - 1}/{len(DATA)}", "Content-Length": str(PART)},
            )
            await response.prepare(request)
            await may_go.wait()
            await response.write(DATA[:PART])
            return response
        if len(asked) == 4:
            three_came.set()
        return part(wanted)

    async with reading(answer) as (it, _), anyio.create_task_group() as group:
        found: list[bytes] = []

        async def keep() -> None:
            found.append(await read(it))

        group.start_soon(keep)
        await three_came.wait()
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert sorted(asked, key=bounds) == PARTS[:4]
        may_go.set()
    assert found == [DATA]


async def test_who_knows_no_ranges_is_asked_once() -> None:
    """A registry that answers the first part with the whole blob is read to the end, at no further request."""

    async def answer(_wanted: str, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=DATA)

    async with reading(answer) as (it, server):
        assert await read(it) == DATA
        assert ranges(server) == [PARTS[0]]
        assert free(it)


async def test_without_a_free_connection_there_is_one_request() -> None:
    """Where other blobs have all connections, nobody waits for a second one: the blob is read whole."""

    async def answer(_wanted: str, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=DATA)

    async with reading(answer, connections=1) as (it, server):
        assert await read(it) == DATA
        assert ranges(server) == [""]
        assert free(it)


async def test_smaller_blobs_are_read_whole() -> None:
    """A blob below the size that counts as large costs one request without a range."""
    small = images.blob(DATA[:-1])

    async def answer(_wanted: str, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=DATA[:-1])

    async with reading(answer) as (it, server), it.client.repository("a", Side.SOURCE).fetch_blob(small) as chunks:
        assert b"".join([chunk async for chunk in verified(chunks, small)]) == DATA[:-1]
        assert ranges(server) == [""]


async def test_a_part_goes_on_after_a_lost_connection() -> None:
    """Of a part whose connection is lost, only the rest is asked for again."""
    failed: set[str] = set()

    async def answer(wanted: str, request: web.BaseRequest) -> web.StreamResponse:
        start, stop = bounds(wanted)
        if wanted not in PARTS or wanted in failed or stop - start < PART:
            return part(wanted)
        failed.add(wanted)
        response = web.StreamResponse(
            status=206,
            headers={"Content-Range": f"bytes {start}-{stop - 1}/{len(DATA)}", "Content-Length": str(stop - start)},
        )
        await response.prepare(request)
        await response.write(DATA[start : start + PART // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    async with reading(answer) as (it, server):
        assert await read(it) == DATA
        assert sorted({wanted for wanted in ranges(server) if wanted in PARTS}, key=bounds) == PARTS
        assert all(bounds(wanted)[1] in {bounds(one)[1] for one in PARTS} for wanted in ranges(server))
        assert free(it)


async def test_ranges_that_are_ignored_later_on() -> None:
    """A replica that answers a later part with the whole blob is read up to that part, and the blob is right."""

    async def answer(wanted: str, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=DATA) if wanted == PARTS[5] else part(wanted)

    async with reading(answer) as (it, _):
        assert await read(it) == DATA
        assert free(it)


async def test_a_part_that_fails_fails_the_blob() -> None:
    """A part that is refused for good ends the reading with its error, and nothing is left behind."""

    async def answer(wanted: str, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404) if wanted == PARTS[6] else part(wanted)

    async with reading(answer) as (it, _):
        with pytest.raises(NotFound):
            await read(it)
        assert free(it)


async def test_another_size_than_the_manifest_says() -> None:
    """A blob of another size is found out at the first answer."""

    async def answer(_wanted: str, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=DATA + b"more")

    async with reading(answer) as (it, _):
        with pytest.raises(SizeMismatch):
            await read(it)
        assert free(it)


async def test_who_stops_in_the_middle_leaves_nothing_behind() -> None:
    """Reading that is cancelled ends every request and gives every permit back."""
    is_reading = anyio.Event()

    async def answer(wanted: str, _request: web.BaseRequest) -> web.StreamResponse:
        if wanted == PARTS[0]:
            return part(wanted)
        is_reading.set()
        await anyio.sleep_forever()
        raise AssertionError

    async with reading(answer) as (it, _):
        async with anyio.create_task_group() as group:
            group.start_soon(read, it)
            await is_reading.wait()
            group.cancel_scope.cancel()
        assert free(it)


async def test_the_first_answer_is_cut() -> None:
    """A connection that is reset before the first answer is replaced, as for any request."""
    calls = 0

    async def answer(wanted: str, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        if calls == 1:
            cut(request)
        return part(wanted)

    async with reading(answer) as (it, _):
        assert await read(it) == DATA
        assert free(it)
