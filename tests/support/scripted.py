"""A small HTTP server that answers as a test says and remembers what it was asked, and a client for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from aiohttp import web

from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.credentials.values import Anonymous
from syncer.registry.network.addresses import kind_of
from syncer.registry.network.resolver import system_lookup
from tests.support.observing import Recorder

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from syncer.registry.credentials.values import Credential
    from syncer.registry.network.addresses import Classifier
    from syncer.registry.network.resolver import Lookup

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)

    @property
    def authorization(self) -> str:
        """The Authorization header; empty for none."""
        return self.headers.get("Authorization", "")


@dataclass
class Scripted:
    """A running server."""

    address: str
    scheme: str = "http"
    seen: list[Seen] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its origin."""
        return f"{self.scheme}://{self.address}"

    @property
    def lines(self) -> list[str]:
        """Every request as ``METHOD path?query``."""
        return [f"{request.method} {request.path}" for request in self.seen]


class Clock:
    """A clock that moves when the client sleeps, and only then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Move on by ``seconds``."""
        self.slept.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()


class Keys:
    """Knows one credential, for the registry that is asked for first, and nothing of any other."""

    def __init__(self, credential: Credential | None = None) -> None:
        self.credential = credential or Anonymous()
        self._registry = ""

    async def get(self, registry: str, repository: str) -> Credential:
        """Return the credential."""
        del repository
        self._registry = self._registry or registry
        return self.credential if registry == self._registry else Anonymous()

    async def renew(self, registry: str, repository: str, refused: Credential) -> Credential:
        """Return the credential: there is no other."""
        del refused
        return await self.get(registry, repository)


@asynccontextmanager
async def scripted(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Scripted]:
    """Serve ``handler`` on a free loopback port, or on the ``port`` given."""
    served = Scripted(address="", scheme="https" if tls else "http")

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        served.seen.append(Seen(request.method, request.raw_path, request.headers))
        return await handler(request)

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
        shown = f"[{host}]" if ":" in host else host
        served.address = f"{shown}:{runner.addresses[0][1]}"
        yield served
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


@dataclass
class Connected:
    """A client, with the clock it lives by and the events it gave."""

    client: RegistryClient
    clock: Clock
    recorder: Recorder


@asynccontextmanager
async def connected(
    address: str,
    *,
    credential: Credential | None = None,
    settings: RegistrySettings | None = None,
    lookup: Lookup = system_lookup,
    classify: Classifier = kind_of,
    measures: Callable[[], float] | None = None,
) -> AsyncIterator[Connected]:
    """Give a client of ``address`` over plain HTTP that never really sleeps.

    It lives by a clock that moves when it sleeps, unless it ``measures`` what others take by another one.
    """
    clock = Clock()
    recorder = Recorder()
    settings = settings or RegistrySettings(host=address, plain_http=True)
    client = RegistryClient(
        settings,
        Keys(credential),
        recorder,
        clock=measures or clock,
        sleep=clock.sleep,
        wall_clock=clock,
        random=lambda: 1.0,
        lookup=lookup,
        classify=classify,
    )
    async with client:
        yield Connected(client, clock, recorder)


def cut(request: web.BaseRequest) -> None:
    """Drop the connection of ``request`` without another byte."""
    if request.transport is not None:
        request.transport.abort()
