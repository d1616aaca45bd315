"""Large bodies over real connections: taken over from aiohttp, given back to it, and cut, delayed or overlong."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.content import verified
from syncer.errors import ConnectionFailed, Side, Timeout
from syncer.events import RequestKind
from syncer.registry import RegistrySettings
from syncer.registry.network.intake import BUFFER, TLS_BUFFER, WORTH_TAKING, Intake
from syncer.registry.network.transport import HttpRequest, HttpResponse, Transport
from syncer.registry.network.urls import Origin, absolute
from syncer.registry.settings import TimeoutSettings, TlsSettings
from tests.support import images
from tests.support.authority import Authority
from tests.support.observing import Recorder
from tests.support.scripted import connected
from tests.support.streams import streaming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Act = Callable[["Wire"], Awaitable[None]]
    Serve = Callable[["Peer"], Awaitable[None]]

DATA = images.random_bytes(3 * BUFFER + 12_345, "large")
HEAD = f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}\r\n\r\n".encode()


@dataclass
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """Return the head of the next request."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        """Send ``data`` and wait until most of it is taken."""
        self.writer.write(data)
        await self.writer.drain()


@dataclass
class Wire:
    """A server, the transport to it, and how many connections there were."""

    transport: Transport
    scheme: str
    address: str = ""
    peers: list[Peer] = field(default_factory=list)

    @asynccontextmanager
    async def get(self, kind: RequestKind = RequestKind.BLOB_GET) -> AsyncIterator[HttpResponse]:
        """Ask for something."""
        url = absolute(f"{self.scheme}://{self.address}/x")
        async with self.transport.send(HttpRequest(kind=kind, method="GET", url=url)) as response:
            yield response


async def whole(response: HttpResponse) -> bytes:
    """Read to the end."""
    parts = []
    while part := await response.read_some():
        parts.append(part)
    return b"".join(parts)


def intake_of(response: HttpResponse) -> Intake | None:
    """Return what receives the body of ``response``; None when that is aiohttp."""
    return response._intake


class Loop:
    """Runs a test on one event loop, with TLS or without."""

    def __init__(self, backend: str, authority: Authority | None) -> None:
        self._is_uvloop = backend == "uvloop"
        self._authority = authority
        self.buffer = TLS_BUFFER if authority else BUFFER

    def run(self, serve: Serve, act: Act, **timeouts: float) -> None:
        """Let ``act`` ask a server whose connections ``serve`` answers."""

        async def main() -> None:
            with anyio.fail_after(20):
                async with self._wired(serve, TimeoutSettings(**timeouts)) as wire:  # type: ignore[arg-type]  # slowest is whole
                    await act(wire)

        anyio.run(main, backend_options={"use_uvloop": self._is_uvloop})

    @asynccontextmanager
    async def _wired(self, serve: Serve, timeouts: TimeoutSettings) -> AsyncIterator[Wire]:
        tls = self._authority
        peers: list[Peer] = []

        async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peers.append(Peer(reader, writer))
            await serve(peers[-1])

        async with streaming(connection, tls=tls.server("127.0.0.1") if tls else None, limit=2**20) as address:
            settings = RegistrySettings(
                host=address,
                plain_http=tls is None,
                timeouts=timeouts,
                tls=TlsSettings(ca=str(tls.ca) if tls else ""),
            )
            wire = Wire(
                transport=Transport(settings, Recorder(), clock=time.monotonic),
                scheme="https" if tls else "http",
                address=address,
                peers=peers,
            )
            await wire.transport.open(Origin.of(absolute(f"{wire.scheme}://{address}")))
            try:
                yield wire
            finally:
                await wire.transport.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def plain(request: pytest.FixtureRequest) -> Loop:
    """Each event loop, without TLS."""
    return Loop(request.param, None)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["asyncio", "uvloop", "asyncio, TLS", "uvloop, TLS"])
def loop(request: pytest.FixtureRequest, authority: Authority) -> Loop:
    """Each event loop, with TLS and without."""
    return Loop(request.param.partition(",")[0], authority if "TLS" in request.param else None)


async def serve_blobs(peer: Peer) -> None:
    """Answer every request with the blob."""
    while await peer.request():
        await peer.send(HEAD + DATA)


def test_the_connection_is_used_again(loop: Loop) -> None:
    """A body that was taken in past aiohttp leaves its connection fit for the next requests, large and small."""

    async def serve(peer: Peer) -> None:
        while head := await peer.request():
            await peer.send(HEAD + DATA if b"GET /x" in head else b"")

    async def act(wire: Wire) -> None:
        for kind in (RequestKind.BLOB_GET, RequestKind.MANIFEST_GET, RequestKind.BLOB_GET, RequestKind.BLOB_GET):
            async with wire.get(kind) as response:
                assert await whole(response) == DATA
                assert (intake_of(response) is not None) == (kind is RequestKind.BLOB_GET)
        assert len(wire.peers) == 1

    loop.run(serve, act)


def test_a_body_that_came_whole_is_read_late(loop: Loop) -> None:
    """Its connection serves a large one by then, which is not read as fast as it comes, and is not disturbed."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall")
        await serve_blobs(peer)

    async def act(wire: Wire) -> None:
        async with wire.get() as small, wire.get() as large:
            got = [await large.read_some(), await large.read_some()]
            intake = intake_of(large)
            assert intake is not None
            while intake._filled < loop.buffer:  # noqa: ASYNC110 - nobody is told that it pauses
                await asyncio.sleep(0.001)
            assert await whole(small) == b"small"
            await asyncio.sleep(0.01)
            got.append(await whole(large))
        assert b"".join(got) == DATA
        assert len(wire.peers) == 1

    loop.run(serve, act)


def test_chunks_are_as_large_as_the_buffer(loop: Loop) -> None:
    """From a source that is faster than who reads come full buffers, and never more than that at once."""

    async def act(wire: Wire) -> None:
        async with wire.get() as response:
            sizes = []
            while part := await response.read_some():
                sizes.append(len(part))
                await asyncio.sleep(0.01)
        # The first has come before the connection was taken over.
        assert max(sizes[1:]) == loop.buffer
        assert sum(sizes) == len(DATA)

    loop.run(serve_blobs, act)


def test_what_nobody_reads_stays_away(loop: Loop) -> None:
    """While nobody reads, one buffer is filled and the source is left to wait."""
    data = bytes(16 * BUFFER)
    sent = 0

    async def serve(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        peer.writer.transport.set_write_buffer_limits(high=BUFFER)
        for at in range(0, len(data), BUFFER // 4):
            await peer.send(data[at : at + BUFFER // 4])
            sent += BUFFER // 4

    async def act(wire: Wire) -> None:
        async with wire.get() as response:
            received = len(await response.read_some())
            intake = intake_of(response)
            assert intake is not None
            before = -1
            # Until nothing moves any more: what is sent then lies in the systems' buffers and in ours.
            while before != sent or intake._filled < len(intake._buffer):
                before = sent
                await asyncio.sleep(0.03)
            assert intake._filled == len(intake._buffer) == loop.buffer
            assert not intake._transport.is_reading()
            assert sent < len(data)
            assert received + len(await whole(response)) == len(data)

    loop.run(serve, act)


def test_a_trickle_is_handed_out_as_it_comes(loop: Loop) -> None:
    """Where little comes at a time, what there is is handed out: nobody waits for a full buffer."""
    first = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        await peer.send(DATA[:1000])
        await first.wait()
        for at in range(1000, len(DATA), 100_000):
            await peer.send(DATA[at : at + 100_000])
            await asyncio.sleep(0)

    async def act(wire: Wire) -> None:
        async with wire.get() as response:
            got = b""
            while len(got) < 1000:
                got += await response.read_some()
            first.set()
            assert got + await whole(response) == DATA

    loop.run(serve, act)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_connection_that_is_cut(loop: Loop, share: float) -> None:
    """When the connection ends in the middle of a body, what had come is handed out, and then it fails."""
    end = int(len(DATA) * share)

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + DATA[:end])

    async def act(wire: Wire) -> None:
        async with wire.get() as response:
            got = b""
            with pytest.raises(ConnectionFailed, match="in the middle of an answer"):
                while True:
                    got += await response.read_some()
            assert got == DATA[:end]
        async with anyio.create_task_group() as group:
            # The next one gets a connection of its own.
            async with wire.get() as response:
                assert len(wire.peers) == 2
                assert response.status == 200
            group.cancel_scope.cancel()

    loop.run(serve, act)


def test_bytes_behind_the_end(loop: Loop) -> None:
    """A body that goes on behind its end is taken as long as it was to be, and its connection is not used again."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + DATA + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await peer.request()

    async def act(wire: Wire) -> None:
        for connections in (1, 2):
            async with wire.get() as response:
                assert await whole(response) == DATA
            assert len(wire.peers) == connections

    loop.run(serve, act)


def test_a_connection_that_closes_behind_the_body(loop: Loop) -> None:
    """A server that closes after the body loses nothing, and the next request gets another connection."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + DATA)

    async def act(wire: Wire) -> None:
        for connections in (1, 2):
            async with wire.get() as response:
                # Time for the end of the connection to come before the end of the body was read.
                await asyncio.sleep(0.01)
                assert await whole(response) == DATA
                assert await response.read_some() == b""
            assert len(wire.peers) == connections

    loop.run(serve, act)


def test_leaving_in_the_middle(loop: Loop) -> None:
    """Who is cancelled while waiting for bytes leaves no connection behind, and the next request gets a new one."""
    closed = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + DATA[: len(DATA) // 2])
        # Only the end of the connection ends this.
        await peer.reader.read()
        closed.set()

    async def act(wire: Wire) -> None:
        async def read(waiting: asyncio.Event) -> None:
            async with wire.get() as response:
                received = 0
                while True:
                    if received == len(DATA) // 2:
                        waiting.set()
                    received += len(await response.read_some())

        for connections in (1, 2):
            closed.clear()
            waiting = asyncio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(read, waiting)
                await waiting.wait()
                await asyncio.sleep(0)
                group.cancel_scope.cancel()
            await closed.wait()
            assert len(wire.peers) == connections

    loop.run(serve, act)


def test_nothing_more_comes(loop: Loop) -> None:
    """A source that falls silent in the middle is given up after the time for that, and what had come is kept."""
    end = len(DATA) // 2

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + DATA[:end])
        await peer.reader.read()

    async def act(wire: Wire) -> None:
        got = b""
        async with wire.get() as response:
            with pytest.raises(Timeout, match="did not answer in time"):
                while True:
                    got += await response.read_some()
        assert got == DATA[:end]

    loop.run(serve, act, read=0.05)


def test_reading_slowly_is_no_fault_of_the_source(plain: Loop) -> None:
    """Time that passes between two reads does not count as waiting for the source."""

    async def act(wire: Wire) -> None:
        async with wire.get() as response:
            got = await response.read_some()
            assert intake_of(response) is not None
            for _ in range(5):
                await asyncio.sleep(0.03)
                got += await response.read_some()
            assert got + await whole(response) == DATA

    plain.run(serve_blobs, act, read=0.05)


@pytest.mark.parametrize(
    "head",
    [
        f"HTTP/1.1 200 OK\r\nContent-Length: {WORTH_TAKING - 1}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        f"HTTP/1.1 404 No\r\nContent-Length: {WORTH_TAKING}\r\n\r\n",
    ],
    ids=["small", "no length", "no blob"],
)
def test_what_is_left_to_aiohttp(plain: Loop, head: str) -> None:
    """A body that is small, of no known length, or no blob at all is read as any other."""
    length = WORTH_TAKING - ("200" in head)

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(head.encode() + DATA[:length])

    async def act(wire: Wire) -> None:
        async with wire.get() as response:
            assert await whole(response) == DATA[:length]
            assert intake_of(response) is None

    plain.run(serve, act)


def test_chunked_bodies_are_left_to_aiohttp(plain: Loop) -> None:
    """A body in chunks has to be parsed to its end."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.send(f"{len(DATA):x}\r\n".encode() + DATA + b"\r\n0\r\n\r\n")

    async def act(wire: Wire) -> None:
        async with wire.get() as response:
            assert await whole(response) == DATA
            assert intake_of(response) is None

    plain.run(serve, act)


def test_a_body_that_came_with_its_headers(loop: Loop) -> None:
    """What has come before anybody reads is not lost, however much of the body that is."""

    async def act(wire: Wire) -> None:
        async with wire.get() as response:
            await asyncio.sleep(0.05)
            assert await whole(response) == DATA
        assert len(wire.peers) == 1

    loop.run(serve_blobs, act)


async def test_a_blob_that_is_cut_is_resumed() -> None:
    """A download whose connection was taken over goes on where it was cut, and verifies; nothing comes twice."""
    blob = images.blob(DATA)
    asked: list[bytes] = []
    end = 2 * BUFFER + 1

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        ranged = [line[7:] for line in head.lower().split(b"\r\n") if line.startswith(b"range:")]
        asked.append(ranged[0] if ranged else b"")
        if ranged:
            start = int(ranged[0].strip().removeprefix(b"bytes=").rstrip(b"-"))
            shown = f"Content-Range: bytes {start}-{len(DATA) - 1}/{len(DATA)}\r\n"
            length = len(DATA) - start
            writer.write(f"HTTP/1.1 206 OK\r\n{shown}Content-Length: {length}\r\n\r\n".encode() + DATA[start:])
        else:
            writer.write(HEAD + DATA[:end])
        await writer.drain()

    async with (
        streaming(connection) as address,
        connected(address) as it,
        it.client.repository("a", Side.SOURCE).fetch_blob(blob) as chunks,
    ):
        assert b"".join([chunk async for chunk in verified(chunks, blob)]) == DATA
    assert asked == [b"", f"bytes={end}-".encode()]
