"""A network link on loopback: every byte takes a while, and only so many pass in a second.

``python -m benchmarks.link --to HOST:PORT --delay 0.025 --rate 125000000`` listens on a free port,
prints its address, and passes connections on until it is ended. The delay is one way, in seconds;
the rate is bytes per second in each direction, shared by all connections as on a real link, or with
``--each`` for every connection alone, as it is where losses or windows bound them.

What it does not imitate: loss, slow start, and the size of windows. A connection costs the round trip
that a handshake takes: its first bytes wait for it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import uvloop

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Bytes on their way in one direction of one connection, beyond what the link itself holds, before its sender waits.
_BUFFER = 4 * 1024 * 1024
#: Bytes per second that a link without a bound should not be the bound of.
_FAST = 2e9


class Line:
    """One direction of the link: what comes later waits for what came before, on whatever connection."""

    def __init__(self, delay: float, rate: float) -> None:
        self.delay = delay
        self.rate = rate
        self._free_at = 0.0

    def arrival(self, now: float, size: int) -> float:
        """Return when ``size`` bytes that are sent ``now`` have arrived."""
        if not self.rate:
            return now + self.delay
        self._free_at = max(now, self._free_at) + size / self.rate
        return self._free_at + self.delay


class Direction:
    """The bytes of one connection that travel one way."""

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop, opens_at: float) -> None:
        self._line = line
        self._loop = loop
        self._opens_at = opens_at
        self._queue: deque[tuple[float, bytes]] = deque()
        self._waiting = 0
        self._most = _BUFFER + int(2 * line.delay * (line.rate or _FAST))
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False
        self._origin: asyncio.Transport | None = None
        self._end: asyncio.Transport | None = None
        self._is_over = False
        #: The other way of the same connection.
        self.back: Direction | None = None

    def begin_at(self, origin: asyncio.Transport) -> None:
        """Take what comes from ``origin``."""
        self._origin = origin

    def lead_to(self, end: asyncio.Transport) -> None:
        """Deliver to ``end`` from now on, also what arrived before it was connected."""
        self._end = end
        self._go_on()

    def send(self, data: bytes) -> None:
        """Let ``data`` travel; empty data is the end of the stream."""
        arrival = max(self._line.arrival(self._loop.time(), len(data)), self._opens_at)
        self._queue.append((arrival, data))
        self._waiting += len(data)
        self._throttle()
        self._go_on()

    def stop(self, *, full: bool) -> None:
        """Stop or go on: the receiver's buffer is ``full``, or is no longer."""
        self._is_stopped = full
        self._go_on()
        self._throttle()

    def close(self) -> None:
        """Give up both ends; what is in their buffers is still sent."""
        for transport in (self._origin, self._end):
            if transport is not None:
                transport.close()

    def _go_on(self) -> None:
        if self._timer is None and self._queue and not self._is_stopped and self._end is not None:
            self._timer = self._loop.call_at(self._queue[0][0], self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._queue and not self._is_stopped and self._end is not None and self._queue[0][0] <= now:
            _, data = self._queue.popleft()
            self._waiting -= len(data)
            if data and not self._end.is_closing():
                self._end.write(data)
            elif not data:
                self._finish(self._end)
        self._go_on()
        self._throttle()

    def _finish(self, end: asyncio.Transport) -> None:
        """End the stream; a connection that has ended both ways, or whose origin is gone, is closed."""
        self._is_over = True
        is_gone = self._origin is None or self._origin.is_closing()
        if is_gone or (self.back is not None and self.back._is_over):  # noqa: SLF001 - of the same class
            self.close()
        elif not end.is_closing() and end.can_write_eof():
            end.write_eof()

    def _throttle(self) -> None:
        if self._origin is None or self._origin.is_closing():
            return
        if self._waiting > self._most and self._origin.is_reading():
            self._origin.pause_reading()
        elif self._waiting <= self._most // 2 and not self._origin.is_reading():
            self._origin.resume_reading()


class Endpoint(asyncio.Protocol):
    """One end of a connection: what it receives goes ``outward``, what it may take is told to ``inward``."""

    def __init__(self, outward: Direction, inward: Direction) -> None:
        self._outward = outward
        self._inward = inward

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection as the origin of one direction and the end of the other."""
        own = cast("asyncio.Transport", transport)
        self._outward.begin_at(own)
        self._inward.lead_to(own)

    def data_received(self, data: bytes) -> None:
        """Let what came in travel on."""
        self._outward.send(data)

    def eof_received(self) -> bool:
        """Pass the end on; the other direction stays open until it has ended too."""
        self._outward.send(b"")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other end, after what is still on its way."""
        del exc
        self._outward.send(b"")

    def pause_writing(self) -> None:
        """The receiver is slow."""
        self._inward.stop(full=True)

    def resume_writing(self) -> None:
        """The receiver has caught up."""
        self._inward.stop(full=False)


class Link:
    """Accepts connections, and makes one to ``host:port`` for each."""

    def __init__(self, host: str, port: int, *, delay: float, rate: float, is_each: bool = False) -> None:
        self._host = host
        self._port = port
        self._delay = delay
        self._rate = rate
        self._shared = None if is_each else self._lines()
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a connection that came in."""
        loop = asyncio.get_running_loop()
        # The handshake: the client believes to be connected at once, but nothing it sends arrives before.
        opens_at = loop.time() + 2 * self._delay + self._delay
        there, back = (Direction(line, loop, opens_at) for line in self._shared or self._lines())
        there.back, back.back = back, there
        task = loop.create_task(self._connect(there, back))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Endpoint(there, back)

    def _lines(self) -> tuple[Line, Line]:
        return Line(self._delay, self._rate), Line(self._delay, self._rate)

    async def _connect(self, there: Direction, back: Direction) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: Endpoint(back, there), self._host, self._port)
        except OSError:
            there.close()


async def serve(host: str, port: int, *, delay: float, rate: float, is_each: bool) -> None:
    """Print the address, and pass connections on until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    link = Link(host, port, delay=delay, rate=rate, is_each=is_each)
    server = await loop.create_server(link.accept, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    sys.stdout.write(f"{address[0]}:{address[1]}\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()
    server.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one link."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.link", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds, one way")
    parser.add_argument("--rate", type=float, default=0.0, help="bytes per second in each direction; 0 for no bound")
    parser.add_argument("--each", action="store_true", help="the rate is that of every connection alone")
    options = parser.parse_args(arguments)
    host, _, port = options.to.rpartition(":")
    with suppress(KeyboardInterrupt):
        uvloop.run(serve(host, int(port), delay=options.delay, rate=options.rate, is_each=options.each))


if __name__ == "__main__":
    main()
