"""A gate in front of a registry: requests pass to it, but for those that a test holds up or answers itself."""

from __future__ import annotations

import re
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import anyio
from aiohttp import web

from tests.support.scripted import scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Answer = Callable[[], web.StreamResponse]

#: Headers that belong to one connection (RFC 9110 section 7.6.1), and the length, which the body brings along.
_OF_A_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})


@dataclass(eq=False)
class Gate:
    """A running gate; its attributes are read by threads other than its own.

    Attributes:
        address: where it listens.
        behind: the registry's address.
        lines: every request as ``METHOD path?query``.
        reached: set once a request that is held up or answered here has come.
    """

    behind: str
    address: str = ""
    lines: list[str] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)
    _watched: str = ""
    _answer: Answer | None = None
    _opened: anyio.Event = field(default_factory=anyio.Event)

    def hold(self, pattern: str, answer: Answer | None = None) -> None:
        """Hold up requests whose line fits ``pattern`` until :meth:`open`; or answer them with ``answer``."""
        self.reached.clear()
        self._watched, self._answer, self._opened = pattern, answer, anyio.Event()

    async def open(self) -> None:
        """Let everything pass from now on, and go on with what was held up."""
        self._watched = ""
        self._opened.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        line = f"{request.method} {request.raw_path}"
        self.lines.append(line)
        if self._watched and re.search(self._watched, line):
            self.reached.set()
            if self._answer is not None:
                return self._answer()
            await self._opened.wait()
        try:
            return await self._forwarded(request)
        except ConnectionError:
            # Its client went away while it was held up: nobody reads this answer.
            return web.Response(status=500)

    async def _forwarded(self, request: web.BaseRequest) -> web.StreamResponse:
        url = f"http://{self.behind}{request.raw_path}"
        body = await request.read()
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, url, data=body, headers=_passed_on(request.headers), allow_redirects=False
            ) as answer,
        ):
            passed = await answer.read()
            headers = _passed_on(answer.headers)
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                headers["Content-Length"] = answer.headers["Content-Length"]
            return web.Response(status=answer.status, headers=headers, body=passed or None)


@asynccontextmanager
async def gate(behind: str) -> AsyncIterator[Gate]:
    """Stand in front of the registry at ``behind`` until the end of the block."""
    it = Gate(behind=behind)
    async with scripted(it.handle) as served:
        it.address = served.address
        yield it


def _passed_on(headers: object) -> dict[str, str]:
    assert hasattr(headers, "items")
    return {name: value for name, value in headers.items() if name.lower() not in _OF_A_CONNECTION}
