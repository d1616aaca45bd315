"""A large blob over a source that breaks: what arrives, in how many sessions, and how much was fetched twice."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from syncer.engine.blobs import BlobMover
from syncer.engine.holdings import Holdings
from syncer.engine.journal import MemoryJournal
from syncer.errors import Side
from syncer.events import RequestFinished, RequestKind, RetryScheduled
from syncer.registry import RegistryClient, RegistrySettings
from tests.support.docker_registry import docker_registry
from tests.support.large import GIBIBYTE, MIB, block, described
from tests.support.observing import Recorder
from tests.support.scripted import Clock, Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from syncer.oci.descriptor import Descriptor

pytestmark = pytest.mark.untraced


@dataclass
class Source:
    """Serves the blob, and cuts its connections when so many bytes in all were written."""

    size: int
    cuts: list[int]
    #: Whether a cut throws away what is on its way (RST) or lets it arrive (FIN).
    is_rude: bool = False
    address: str = ""
    written: int = 0
    ranges: list[int] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        # What a rude cut throws away of its own buffer was never on the way: there should be little.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                wanted = re.search(rb"(?i)range: bytes=(\d+)-", head)
                start = int(wanted[1]) if wanted else 0
                self.ranges.append(start)
                lines = [f"HTTP/1.1 {206 if wanted else 200} OK", f"Content-Length: {self.size - start}"]
                if wanted:
                    lines.append(f"Content-Range: bytes {start}-{self.size - 1}/{self.size}")
                writer.write("\r\n".join([*lines, "", ""]).encode())
                await self._send(writer, start)
        except (ConnectionError, asyncio.IncompleteReadError, EOFError):
            pass
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, start: int) -> None:
        at = start
        while at < self.size:
            chunk = memoryview(block(at // MIB))[at % MIB :][: 256 * 1024]
            if self.cuts and self.written + len(chunk) >= self.cuts[0]:
                chunk = chunk[: self.cuts.pop(0) - self.written]
                writer.write(chunk)
                self.written += len(chunk)
                await writer.drain()
                if self.is_rude:
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                    writer.transport.abort()
                raise ConnectionResetError
            writer.write(chunk)
            self.written += len(chunk)
            at += len(chunk)
            await writer.drain()


@dataclass
class Sink:
    """Takes uploads, hashes what arrives and keeps nothing."""

    address: str = ""
    sessions: int = 0
    commits: list[tuple[str, int]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"POST"):
                    self.sessions += 1
                    writer.write(
                        f"HTTP/1.1 202 A\r\nLocation: /u/{self.sessions}\r\nContent-Length: 0\r\n\r\n".encode()
                    )
                    continue
                length = re.search(rb"(?i)content-length: (\d+)", head)
                left = int(length[1]) if length else 0
                hasher = sha256()
                size = 0
                while left:
                    data = await reader.read(min(left, MIB))
                    if not data:
                        return
                    hasher.update(data)
                    size += len(data)
                    left -= len(data)
                digest = f"sha256:{hasher.hexdigest()}"
                self.commits.append((digest, size))
                answer = f"HTTP/1.1 201 C\r\nDocker-Content-Digest: {digest}\r\nContent-Length: 0\r\n\r\n"
                writer.write(answer.encode())
        except (ConnectionError, asyncio.IncompleteReadError, EOFError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(place: Source | Sink) -> AsyncIterator[None]:
    """Serve on a free port."""
    server = await asyncio.start_server(place.serve, "127.0.0.1", 0, limit=MIB)
    place.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield


@asynccontextmanager
async def client_of(address: str, recorder: Recorder) -> AsyncIterator[RegistryClient]:
    """Give a client that waits for nothing."""
    clock = Clock()
    settings = RegistrySettings(host=address, plain_http=True)
    async with RegistryClient(settings, Keys(), recorder, clock=clock, sleep=clock.sleep) as client:
        yield client


async def copy(blob: Descriptor, source: str, target: str, recorder: Recorder) -> None:
    """Copy the blob as the engine does."""
    async with client_of(source, recorder) as origin, client_of(target, recorder) as place:
        mover = BlobMover(Holdings(target, MemoryJournal()), recorder)
        await mover.ensure(blob, origin.repository("a", Side.SOURCE), place.repository("b", Side.TARGET))


def cuts_of(size: int, number: int, seed: str) -> list[int]:
    """Return so many places between the first byte and the last, in order."""
    return sorted(random.Random(seed).sample(range(1, size), number))  # noqa: S311 - places, not secrets


@pytest.mark.slow
@pytest.mark.parametrize("is_rude", [False, True])
async def test_a_gibibyte_over_a_connection_that_is_cut_twenty_times(
    record_property: Callable[[str, object], None], *, is_rude: bool
) -> None:
    """It arrives whole, in one upload session and one PUT, and at most one byte in a hundred is fetched twice."""
    source = Source(size=GIBIBYTE.size, cuts=cuts_of(GIBIBYTE.size, 20, "twenty"), is_rude=is_rude)
    sink = Sink()
    recorder = Recorder()
    async with serving(source), serving(sink):
        await copy(GIBIBYTE, source.address, sink.address, recorder)
    twice = source.written - GIBIBYTE.size
    figures = {
        "sessions": sink.sessions,
        "source requests": len(source.ranges),
        "bytes fetched twice": twice,
        "share fetched twice, in percent": round(100 * twice / GIBIBYTE.size, 3),
    }
    for name, value in figures.items():
        record_property(name, value)
    print(figures)  # noqa: T201 - what the promise is measured by
    assert sink.commits == [(GIBIBYTE.digest, GIBIBYTE.size)]
    assert sink.sessions == 1
    assert len(source.ranges) == 21
    assert source.ranges == sorted(source.ranges)
    assert len(recorder.of(RetryScheduled)) == 20
    assert twice <= GIBIBYTE.size / 100


@pytest.mark.witness
async def test_docker_registry_gets_it_in_one_session(tmp_path: Path) -> None:
    """An independent registry takes a blob from a source that is cut ten times, and gives it back whole."""
    blob = described(24)
    source = Source(size=blob.size, cuts=cuts_of(blob.size, 10, "ten"))
    recorder = Recorder()
    with docker_registry(tmp_path / "registry") as target:
        async with serving(source):
            await copy(blob, source.address, target.host, recorder)
        async with client_of(target.host, recorder) as client:
            hasher = sha256()
            async with client.repository("b").fetch_blob(blob) as chunks:
                async for chunk in chunks:
                    hasher.update(chunk)
    assert f"sha256:{hasher.hexdigest()}" == blob.digest
    asked = [event.kind for event in recorder.of(RequestFinished) if event.registry == target.host]
    assert asked.count(RequestKind.UPLOAD_POST) == asked.count(RequestKind.UPLOAD_PUT) == 1
    assert len(source.ranges) == 11
