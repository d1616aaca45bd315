"""A scripted registry: a table of expected requests and what each is answered, with faults at any step.

Every entry has to be used as often as it says and no other request may come, or the test fails:

    script = Script(
        Expect("GET", "/v2/app/manifests/1", Reply(429, headers={"Retry-After": "1"})),
        Expect("GET", "/v2/app/manifests/1", Reply(200, body=raw), fault=Fault.CUT_BODY),
        Expect("GET", re.compile("/v2/app/manifests/.*"), Reply(200, body=raw)),
    )
    async with script.served() as served:
        ...

Of several entries that fit a request, the first that is not used up answers. ``ordered`` wants the
requests in the order of the table.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import anyio
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class Fault(StrEnum):
    """Where an exchange breaks."""

    NONE = "none"
    #: The connection is reset when the request line has come, before its body is read.
    CUT_AT_ONCE = "cut at once"
    #: The whole request is taken, and the connection reset before an answer: a lost answer.
    CUT_BEFORE_ANSWER = "cut before the answer"
    #: Half of the request's body is taken, then the connection is reset.
    CUT_REQUEST = "cut within the request"
    #: The answer breaks off within its headers.
    CUT_HEADERS = "cut within the headers"
    #: The answer breaks off within its body; ``Expect.at`` says where, else in the middle.
    CUT_BODY = "cut within the body"
    #: One byte of the body is another.
    FLIP = "one byte is wrong"
    #: The length is right, and zeros stand in place of the second half.
    PADDED = "the second half is zeros"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    #: The body goes out in this many pieces, each in a packet of its own.
    pieces: int = 1
    #: Wait for this before anything is answered.
    after: anyio.Event | None = None


def reply(status: int = 200, body: bytes = b"", **headers: str) -> Reply:
    """Return an answer; underscores in the names of headers stand for hyphens."""
    return Reply(status=status, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()})


@dataclass(kw_only=True)
class Asked:
    """One request as it came in; ``entry`` is what answered it."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    entry: Expect | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


class Expect:
    """One row of the table."""

    def __init__(
        self,
        method: str,
        target: str | re.Pattern[str],
        answer: Reply | None = None,
        *,
        times: int = 1,
        fault: Fault = Fault.NONE,
        at: int | None = None,
        headers: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
    ) -> None:
        """Describe a request and its answer.

        Args:
            method: of the request.
            target: its path and query byte for byte, or a pattern for the whole of it.
            answer: what it is answered.
            times: how often it has to come.
            fault: what goes wrong.
            at: the byte of the body at which it goes wrong.
            headers: that the request must have; None for one that it must not have.
            body: that the request must have.
        """
        self.method = method
        self.target = target
        self.answer = answer or Reply()
        self.times = times
        self.fault = fault
        self.at = at
        self.headers = dict(headers or {})
        self.body = body
        self.used = 0

    def fits(self, method: str, target: str) -> bool:
        """Tell whether a request is the one described, and still awaited."""
        if self.used >= self.times or method != self.method:
            return False
        if isinstance(self.target, re.Pattern):
            return self.target.fullmatch(target) is not None
        return self.target == target

    def __str__(self) -> str:
        target = self.target.pattern if isinstance(self.target, re.Pattern) else self.target
        return f"{self.method} {target} ({self.used} of {self.times})"


class Script:
    """A table of what is expected, and what came."""

    def __init__(self, *table: Expect, ordered: bool = False) -> None:
        self.table = list(table)
        self.ordered = ordered
        self.asked: list[Asked] = []
        self.problems: list[str] = []
        self.address = ""

    @property
    def lines(self) -> list[str]:
        """Every request as ``METHOD path?query``."""
        return [str(asked) for asked in self.asked]

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Script]:
        """Answer on a free loopback port; at the end of the block the table must have come true.

        Raises:
            AssertionError: when requests came that nobody expected, or did not come.
        """
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.address = f"127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()
        self.check()

    def check(self) -> None:
        """Fail unless every row was used as often as it says, and nothing else came.

        Raises:
            AssertionError: with what was missing and what was too much.
        """
        missing = [f"never came: {entry}" for entry in self.table if entry.used < entry.times]
        assert not self.problems + missing, "\n".join([*self.problems, *missing, "what came:", *self.lines])

    def _find(self, method: str, target: str) -> Expect | None:
        if self.ordered:
            current = next((entry for entry in self.table if entry.used < entry.times), None)
            return current if current is not None and current.fits(method, target) else None
        return next((entry for entry in self.table if entry.fits(method, target)), None)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = Asked(method=request.method, target=request.raw_path, headers=request.headers)
        self.asked.append(asked)
        entry = asked.entry = self._find(request.method, request.raw_path)
        if entry is None:
            self.problems.append(f"not expected: {asked}")
            return web.Response(status=418, text="this request is not in the script")
        entry.used += 1
        for name, wanted in entry.headers.items():
            if request.headers.get(name) != wanted:
                self.problems.append(f"{asked} with {name}: {request.headers.get(name)!r}, not {wanted!r}")
        if entry.fault is Fault.CUT_AT_ONCE:
            return _cut(request)
        length = int(request.headers.get("Content-Length") or 0)
        if entry.fault is Fault.CUT_REQUEST:
            await _read_up_to(request, length // 2 if entry.at is None else entry.at)
            return _cut(request)
        asked.body = await request.content.read()
        if entry.body is not None and asked.body != entry.body:
            self.problems.append(f"{asked} with another body: {asked.body[:100]!r}")
        if entry.answer.after is not None:
            await entry.answer.after.wait()
        return await _send(request, entry)


def _cut(request: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _read_up_to(request: web.BaseRequest, count: int) -> None:
    taken = 0
    while taken < count and (part := await request.content.read(count - taken)):
        taken += len(part)


async def _send(request: web.BaseRequest, entry: Expect) -> web.StreamResponse:
    answer, body = entry.answer, entry.answer.body
    middle = len(body) // 2 if entry.at is None else entry.at
    match entry.fault:
        case Fault.CUT_BEFORE_ANSWER:
            return _cut(request)
        case Fault.CUT_HEADERS:
            if request.transport is not None:
                request.transport.write(f"HTTP/1.1 {answer.status} OK\r\nContent-Le".encode())
                await asyncio.sleep(0)
                # Closed and not reset: what was written is to arrive.
                request.transport.close()
            return web.Response(status=500)
        case Fault.FLIP:
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        case Fault.PADDED:
            body = body[:middle] + bytes(len(body) - middle)
    is_whole = entry.fault is not Fault.CUT_BODY
    if request.method == "HEAD" or (is_whole and answer.pieces == 1):
        length = {"Content-Length": str(len(body))} if request.method == "HEAD" else {}
        sent = b"" if request.method == "HEAD" else body
        return web.Response(status=answer.status, headers={**length, **answer.headers}, body=sent)
    response = web.StreamResponse(
        status=answer.status, headers={"Content-Length": str(len(answer.body)), **answer.headers}
    )
    await response.prepare(request)
    step = max(1, -(-len(body) // answer.pieces))
    for start in range(0, len(body) if is_whole else middle, step):
        await response.write(body[start : start + step] if is_whole else body[start : min(start + step, middle)])
        await asyncio.sleep(0)
    if is_whole:
        await response.write_eof()
    elif request.transport is not None:
        request.transport.close()
    return response
