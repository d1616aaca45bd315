"""A TCP proxy in front of a server that is not ours, which spoils connections: the same ones for one seed.

    async with spoiling(registry.host, Spoils.random(7, 0.2, [Cut(5000), Slices(100)])) as proxy:
        ...                     # ask proxy.address in place of registry.host

Bytes are counted in each direction and each connection on its own, so that a cut comes at the same
byte however the kernel hands them over.
"""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from struct import pack
from typing import TYPE_CHECKING

import anyio

from tests.support.streams import streaming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence


class Way(StrEnum):
    """In which direction bytes go."""

    #: From the client to the server.
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class Cut:
    """The connection ends at byte ``at`` of one direction."""

    at: int
    way: Way = Way.DOWN
    is_reset: bool = True


@dataclass(frozen=True)
class BlackHole:
    """From byte ``at`` of one direction on, nothing arrives any more, and nothing is said of it."""

    at: int
    way: Way = Way.DOWN


@dataclass(frozen=True)
class Slices:
    """Every byte arrives, in packets of ``size``."""

    size: int


@dataclass(frozen=True)
class Trickle:
    """Every byte arrives, ``size`` of them in each of ``seconds``."""

    size: int
    seconds: float


@dataclass(frozen=True)
class Refused:
    """The connection is taken and reset at once."""


Spoil = Cut | BlackHole | Slices | Trickle | Refused


class Spoils:
    """Which connection, counted from 1, is spoilt, and how."""

    def __init__(self, choose: Callable[[int], Spoil | None]) -> None:
        self.choose = choose

    @classmethod
    def at(cls, spoils: Mapping[int, Spoil]) -> Spoils:
        """Spoil the connections given."""
        return cls(spoils.get)

    @classmethod
    def random(cls, seed: object, rate: float, spoils: Sequence[Spoil]) -> Spoils:
        """Spoil a share of all connections."""

        def choose(number: int) -> Spoil | None:
            chance = random.Random(f"{seed}/{number}")  # noqa: S311 - a test's
            return chance.choice(spoils) if chance.random() < rate else None

        return cls(choose)


@dataclass
class SpoilingProxy:
    """A running proxy.

    Attributes:
        address: where it is.
        spoilt: what was done to which connection.
        passed: bytes that were handed on, by direction.
    """

    address: str
    spoilt: dict[int, Spoil] = field(default_factory=dict)
    passed: dict[Way, int] = field(default_factory=lambda: {Way.UP: 0, Way.DOWN: 0})
    connections: int = 0
    is_over: anyio.Event = field(default_factory=anyio.Event)


@asynccontextmanager
async def spoiling(
    server: str, spoils: Spoils, *, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
) -> AsyncIterator[SpoilingProxy]:
    """Serve a proxy to ``server`` (``host:port``) on a free loopback port."""
    proxy = SpoilingProxy(address="")
    host, _, port = server.rpartition(":")

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.connections += 1
        spoil = spoils.choose(proxy.connections)
        if spoil is not None:
            proxy.spoilt[proxy.connections] = spoil
        if isinstance(spoil, Refused):
            _reset(writer)
            return
        with suppress(OSError):
            there = await asyncio.open_connection(host, int(port))
            ends = (writer, there[1])
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_Pump(proxy, spoil, Way.UP, ends, sleep).run(reader, there[1]))
                    group.create_task(_Pump(proxy, spoil, Way.DOWN, ends, sleep).run(there[0], writer))
            finally:
                for end in ends:
                    end.close()

    async with streaming(connection) as proxy.address:
        try:
            yield proxy
        finally:
            proxy.is_over.set()


class _Pump:
    """Hands on the bytes of one direction of one connection."""

    def __init__(
        self,
        proxy: SpoilingProxy,
        spoil: Spoil | None,
        way: Way,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._proxy = proxy
        self._spoil = spoil
        self._way = way
        self._ends = ends
        self._sleep = sleep
        self._count = 0

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on until one side ends, or the spoil does it."""
        with suppress(ConnectionError):
            while part := await reader.read(65_536):
                if not await self._passed(part, writer):
                    return
            if writer.can_write_eof():
                writer.write_eof()

    async def _passed(self, part: bytes, writer: asyncio.StreamWriter) -> bool:
        match self._spoil:
            case Cut(at=at, way=way) | BlackHole(at=at, way=way) if way is self._way:
                kept = part[: at - self._count]
                await self._write(kept, writer)
                if self._count < at:
                    return True
                if isinstance(self._spoil, Cut):
                    for end in self._ends:
                        _reset(end) if self._spoil.is_reset else end.close()
                    return False
                await self._proxy.is_over.wait()
                return False
            case Slices(size=size):
                for at in range(0, len(part), size):
                    await self._write(part[at : at + size], writer)
                    await asyncio.sleep(0)
            case Trickle(size=size, seconds=seconds):
                for at in range(0, len(part), size):
                    await self._write(part[at : at + size], writer)
                    await self._sleep(seconds)
            case _:
                await self._write(part, writer)
        return True

    async def _write(self, part: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(part)
        await writer.drain()
        self._count += len(part)
        self._proxy.passed[self._way] += len(part)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
    writer.transport.abort()
