"""Every wait has an end: for a name, a connection, the headers of an answer, its body, and for what is left of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.errors import Timeout
from syncer.events import RequestKind
from syncer.registry import RegistrySettings
from syncer.registry.network import transport
from syncer.registry.network.proxies import ProxySettings
from syncer.registry.network.transport import HttpRequest, Transport
from syncer.registry.network.urls import Origin, absolute
from syncer.registry.settings import TimeoutSettings
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import connected
from tests.support.streams import streaming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

DATA = images.random_bytes(4000, "blob")
BLOB = images.blob(DATA)
#: Seconds between two bytes of a server that drips.
DRIP = 0.005


@asynccontextmanager
async def transport_to(address: str, **timeouts: float) -> AsyncIterator[Transport]:
    """Give an open transport to ``address``."""
    settings = RegistrySettings(host=address, plain_http=True, timeouts=TimeoutSettings(**timeouts))  # type: ignore[arg-type]  # slowest is whole
    made = Transport(settings, Recorder(), clock=time.monotonic)
    await made.open(Origin.of(absolute(f"http://{address}")))
    try:
        yield made
    finally:
        await made.close()


def get(address: str, method: str = "GET", body: bytes | None = None) -> HttpRequest:
    """Return a request."""
    return HttpRequest(kind=RequestKind.MANIFEST_GET, method=method, url=absolute(f"http://{address}/x"), body=body)


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send ``data`` byte by byte."""
    for at in range(len(data)):
        writer.write(data[at : at + 1])
        await writer.drain()
        await asyncio.sleep(DRIP)


async def test_a_body_that_drips() -> None:
    """A body of which a byte comes now and then ends in Timeout, although no single wait is long."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        await drip(writer, b"x" * 100000)

    async with streaming(serve) as address, transport_to(address, stall=0.05, slowest=10_000, read=30) as it:
        with pytest.raises(Timeout, match="less than 10000 bytes a second") as caught, anyio.fail_after(5):
            async with it.send(get(address)) as response:
                await response.read(1_000_000)
    assert caught.value.registry == address


async def test_a_blob_that_drips_is_resumed() -> None:
    """A blob whose source all but stops is asked for again from where it is."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if len(heads) == 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + DATA[:1000])
            await drip(writer, DATA[1000:])
            return
        start = int(heads[-1].partition(b"bytes=")[2].partition(b"-")[0])
        writer.write(b"HTTP/1.1 206 X\r\nContent-Range: bytes %d-3999/4000\r\n" % start)
        writer.write(b"Content-Length: %d\r\n\r\n" % (4000 - start) + DATA[start:])
        await writer.drain()

    async with streaming(serve) as address:
        timeouts = TimeoutSettings(stall=0.05, slowest=100_000)
        settings = RegistrySettings(host=address, plain_http=True, timeouts=timeouts)
        async with (
            connected(address, settings=settings, measures=time.monotonic) as it,
            it.client.repository("a").fetch_blob(BLOB) as chunks,
        ):
            with anyio.fail_after(5):
                received = b"".join([chunk async for chunk in chunks])
    assert received == DATA
    assert len(heads) == 2


async def test_our_own_slowness_does_not_count() -> None:
    """Who takes the bytes slowly, as for a slow target, is not told that they came slowly."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            writer.write(b"a\r\n0123456789\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    received = b""
    async with (
        streaming(serve) as address,
        transport_to(address, stall=0.05, slowest=10_000) as it,
        it.send(get(address)) as response,
    ):
        while part := await response.read_some():
            received += part
            await anyio.sleep(0.02)
    assert len(received) == 100


async def test_headers_that_drip() -> None:
    """Headers that come byte by byte are not waited for for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        await drip(writer, b"x" * 60_000)

    async with streaming(serve) as address, transport_to(address, read=0.1) as it:
        with pytest.raises(Timeout), anyio.fail_after(5):
            async with it.send(get(address)):
                pass


async def test_a_body_that_nobody_takes() -> None:
    """A manifest that the other side does not read is given up."""

    async def serve(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    async with streaming(serve) as address, transport_to(address, read=0.05, slowest=1_000_000_000) as it:
        with pytest.raises(Timeout), anyio.fail_after(5):
            async with it.send(get(address, "PUT", bytes(32 * 1024 * 1024))):
                pass


async def test_a_name_service_that_does_not_answer() -> None:
    """The time for a connection covers the look-up of the name."""

    async def lookup(_host: str, _port: int) -> Sequence[str]:
        await anyio.sleep_forever()
        raise AssertionError

    settings = RegistrySettings(host="reg.test", timeouts=TimeoutSettings(connect=0.02))
    made = Transport(settings, Recorder(), clock=time.monotonic, lookup=lookup)
    await made.open(Origin.of(absolute("https://reg.test")))
    try:
        with pytest.raises(Timeout), anyio.fail_after(5):
            async with made.send(
                HttpRequest(kind=RequestKind.PING, method="GET", url=absolute("https://reg.test/v2/"))
            ):
                pass
    finally:
        await made.close()


async def test_a_proxy_that_does_not_answer() -> None:
    """A proxy that takes the CONNECT and says nothing is given up in the time for a connection."""

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with streaming(serve) as address:
        settings = RegistrySettings(
            host="reg.test",
            timeouts=TimeoutSettings(connect=0.05),
            proxies=ProxySettings(https=address),
        )
        made = Transport(settings, Recorder(), clock=time.monotonic)
        await made.open(Origin.of(absolute("https://reg.test")))
        try:
            with pytest.raises(Timeout, match="through the proxy"), anyio.fail_after(5):
                async with made.send(
                    HttpRequest(kind=RequestKind.PING, method="GET", url=absolute("https://reg.test/v2/"))
                ):
                    pass
        finally:
            await made.close()


async def test_a_pause_of_ours_is_no_timeout() -> None:
    """Between connecting and sending one may wait for as long as one has to."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 OK\r\n\r\n")

    async def ready() -> None:
        await anyio.sleep(0.05)

    async with streaming(serve) as address, transport_to(address, connect=0.02, read=5) as it:
        request = HttpRequest(kind=RequestKind.PING, method="GET", url=absolute(f"http://{address}/x"), ready=ready)
        async with it.send(request) as response:
            assert response.status == 204


async def test_a_request_that_is_cancelled_in_a_pause_leaves_no_connection() -> None:
    """A connection that was made, and over which nothing was sent yet, is closed with the task that waits."""
    is_closed = anyio.Event()
    is_waiting = anyio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        is_closed.set()

    async def ready() -> None:
        is_waiting.set()
        await anyio.sleep_forever()

    async with streaming(serve) as address, transport_to(address) as it:
        request = HttpRequest(kind=RequestKind.PING, method="GET", url=absolute(f"http://{address}/x"), ready=ready)

        async def send() -> None:
            async with it.send(request):
                pass

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await is_waiting.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(1):
            await is_closed.wait()


async def test_what_is_left_of_a_body_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of an answer that nobody wants is read for a moment only, and the connection is closed instead."""
    monkeypatch.setattr(transport, "_DRAINING_DEADLINE", 0.02)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        await drip(writer, b"x" * 10000)

    async with streaming(serve) as address, transport_to(address) as it:
        with anyio.fail_after(2):
            async with it.send(get(address)) as response:
                assert response.status == 200


async def test_a_large_body_in_one_piece() -> None:
    """A manifest of several MiB arrives whole, with its length announced."""
    body = images.random_bytes(3 * 1024 * 1024, "manifest")
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        seen.append(await reader.readexactly(len(body)))
        writer.write(b"HTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n")

    async with streaming(serve) as address, transport_to(address) as it, it.send(get(address, "PUT", body)) as response:
        assert response.status == 201
    assert f"Content-Length: {len(body)}\r\n".encode() in seen[0]
    assert b"Transfer-Encoding" not in seen[0]
    assert seen[1] == body
