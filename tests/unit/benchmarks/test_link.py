"""The link that benchmarks put before a registry loses nothing and keeps nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from benchmarks.link import Direction, Line, Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_DELAY = 0.002


@asynccontextmanager
async def echo_behind_a_link(*, rate: float = 0.0) -> AsyncIterator[int]:
    """Serve what is sent, back again, behind a link; yield its port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    link = Link("127.0.0.1", server.sockets[0].getsockname()[1], delay=_DELAY, rate=rate)
    entrance = await asyncio.get_running_loop().create_server(link.accept, "127.0.0.1", 0)
    async with server, entrance:
        yield entrance.sockets[0].getsockname()[1]


async def exchange(port: int, data: bytes) -> bytes:
    """Send data and the end, and return what comes back until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def open_files() -> int:
    """Return how many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_every_byte_arrives_in_order() -> None:
    """Many connections share a link, each more than it buffers at once, and each gets its own bytes back."""
    bodies = [bytes([number]) * 3_000_000 for number in range(4)]
    answers: dict[int, bytes] = {}

    async with echo_behind_a_link() as port:

        async def one(number: int) -> None:
            answers[number] = await exchange(port, bodies[number])

        async with anyio.create_task_group() as group:
            for number in range(len(bodies)):
                group.start_soon(one, number)
    assert [answers[number] for number in range(len(bodies))] == bodies


async def test_connections_are_given_back() -> None:
    """A connection that has ended both ways takes no file any more: a long measurement makes thousands."""
    async with echo_behind_a_link() as port:
        await exchange(port, b"warm")
        with anyio.fail_after(5):
            before = await anyio.to_thread.run_sync(open_files)
            for _ in range(20):
                await exchange(port, b"data")
            while await anyio.to_thread.run_sync(open_files) > before + 2:  # noqa: ASYNC110 - the kernel sets no event
                await anyio.sleep(0.01)


async def test_a_registry_that_is_not_there_ends_the_connection() -> None:
    """Who cannot be passed on is not kept waiting."""
    unused = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = unused.sockets[0].getsockname()[1]
    unused.close()
    await unused.wait_closed()
    link = Link("127.0.0.1", port, delay=_DELAY, rate=0.0)
    async with await asyncio.get_running_loop().create_server(link.accept, "127.0.0.1", 0) as entrance:
        reader, writer = await asyncio.open_connection("127.0.0.1", entrance.sockets[0].getsockname()[1])
        with anyio.fail_after(5):
            assert await reader.read() == b""
        writer.close()


class End(asyncio.Transport):
    """An end that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.got = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take data."""
        self.got += data

    def is_closing(self) -> bool:
        """Never."""
        return False


async def test_what_arrives_before_the_end_is_connected_waits_for_it() -> None:
    """On a busy machine connecting takes longer than the delay, and the request must not be lost meanwhile."""
    loop = asyncio.get_running_loop()
    direction = Direction(Line(0.0, 0.0), loop, loop.time())
    direction.send(b"early")
    await anyio.sleep(0.01)
    end = End()
    direction.lead_to(end)
    await anyio.sleep(0.01)
    assert end.got == b"early"


def test_bytes_take_their_turn_on_the_line() -> None:
    """All connections share the rate, and each byte also takes the delay."""
    line = Line(0.025, 1000.0)
    assert line.arrival(10.0, 500) == 10.0 + 0.5 + 0.025
    assert line.arrival(10.0, 500) == 10.0 + 1.0 + 0.025
    assert line.arrival(20.0, 1000) == 20.0 + 1.0 + 0.025
    assert Line(0.025, 0.0).arrival(1.0, 10**9) == 1.025
