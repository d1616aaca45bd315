"""A small HTTP proxy that reaches every name on loopback and remembers what it was shown."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.streams import streaming

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping


@dataclass
class ProxyServer:
    """A running proxy.

    Attributes:
        address: where it is.
        routes: the port on loopback for each name it can reach.
        status: what it answers instead of doing anything, where that is not 200.
        authorization: the Proxy-Authorization that it wants; empty for none.
        heads: what came in, each head whole.
        tunnelled: every byte that went from clients through a tunnel.
    """

    address: str
    routes: Mapping[str, int]
    status: int = 200
    authorization: str = ""
    heads: list[str] = field(default_factory=list)
    tunnelled: bytearray = field(default_factory=bytearray)

    @property
    def lines(self) -> list[str]:
        """The first line of every request, without the version."""
        return [head.partition(" HTTP/")[0] for head in self.heads]


@asynccontextmanager
async def proxying(
    routes: Mapping[str, int], *, tls: ssl.SSLContext | None = None, status: int = 200, authorization: str = ""
) -> AsyncIterator[ProxyServer]:
    """Serve a proxy on a free loopback port."""
    served = ProxyServer(address="", routes=routes, status=status, authorization=authorization)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await _serve(served, reader, writer):
            pass

    async with streaming(connection, tls=tls) as served.address:
        yield served


async def _serve(served: ProxyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Serve one request; tell whether another may follow."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    served.heads.append(head)
    method, target, _ = head.split(" ", 2)
    shown = [line.partition(":")[2].strip() for line in head.splitlines() if line.lower().startswith("proxy-auth")]
    status = served.status
    if served.authorization and shown != [served.authorization]:
        status = 407
    if status != 200:
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        return method != "CONNECT"
    authority = target if method == "CONNECT" else target.partition("://")[2].partition("/")[0]
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", served.routes[authority.partition(":")[0]])
    if method == "CONNECT":
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
    else:
        path = "/" + target.partition("://")[2].partition("/")[2]
        kept = "\r\n".join(
            line for line in head.split("\r\n")[1:] if not line.lower().startswith(("proxy-", "connection:"))
        )
        # One request for each connection: the next one is for the proxy again.
        there_writer.write(f"{method} {path} HTTP/1.1\r\nConnection: close\r\n{kept}".encode("latin-1"))
    async with asyncio.TaskGroup() as group:
        group.create_task(_pump(reader, there_writer, served.tunnelled))
        group.create_task(_pump(there_reader, writer, bytearray()))
    return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
    try:
        while part := await reader.read(65536):
            seen += part
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
