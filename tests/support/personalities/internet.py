"""A small internet on one loopback port: sites by name, a log, and a watch over secrets.

The names are the real ones, so that Syncer classifies them as it would outside; the resolver of
this process knows no others. A request finds its site by its Host header.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import socket
import traceback
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from unittest import mock

import anyio
from aiohttp import web

from syncer.content import BlobOutcome
from syncer.events import BlobFinished
from tests.support.personalities.history import History

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.support.personalities.history import Exchange

_FOR_EVER = 1e9
#: Sites whose name is an address are reached by processes that know nothing of the names in here.
_LOOPBACK = re.compile(r"127(\.[0-9]{1,3}){3}")


class Site(Protocol):
    """Something that answers under a name."""

    def kind_of(self, path: str) -> str:
        """Return what ``path`` belongs to: ``registry``, ``token`` or ``storage``."""
        ...

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        ...


class Interceptor(Protocol):
    """Stands between the requests and the sites: answers itself, or lets the site, or both."""

    async def __call__(
        self, exchange: Exchange, request: web.BaseRequest, answer: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse | None:
        """Return the answer to a request, ``answer()`` is the site's; None when the connection has been dealt with."""
        ...


class Trap:
    """Stops a run in the middle: who comes to a step after the first few hangs there, and the run is told to stop.

    It is an observer of the run, too: the stop waits until the run has noted the blobs that got through,
    so that a busy machine decides nothing.
    """

    #: Seconds to wait for that at most.
    PATIENCE = 5.0

    def __init__(self, step: str, after: int) -> None:
        self.step = step
        self.is_sprung = anyio.Event()
        self._left = after
        self._unnoted = after
        self._is_noted = anyio.Event()
        self._released = anyio.Event()

    async def reach(self, step: str) -> None:
        """Come to ``step``; hang if enough have passed.

        Raises:
            ConnectionResetError: when the trap is released: nobody waits for an answer any more.
        """
        if step != self.step:
            return
        self._left -= 1
        if self._left >= 0:
            return
        if self._left == -1:
            with anyio.move_on_after(self.PATIENCE):
                await self._is_noted.wait()
            self.is_sprung.set()
        await self._released.wait()
        raise ConnectionResetError

    def notify(self, event: object) -> None:
        """Hear of a blob that has arrived and is remembered."""
        if isinstance(event, BlobFinished) and event.outcome is BlobOutcome.STREAMED:
            self._unnoted -= 1
            if self._unnoted <= 0:
                self._is_noted.set()

    def release(self) -> None:
        """Let go of what hangs."""
        self._released.set()


def received_of(request: web.BaseRequest) -> int:
    """Return the bytes of the body of ``request`` that have come in."""
    return int(getattr(request.content, "total_bytes", 0))


class Internet:
    """All the sites there are."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}
        self.history = History()
        self.violations: list[str] = []
        self.trap: Trap | None = None
        self.interceptor: Interceptor | None = None
        self.port = 0
        #: Each secret, and the names it may be sent to.
        self.secrets: dict[str, frozenset[str]] = {}
        #: How many more look-ups of a name fail.
        self.unknown_names: Counter[str] = Counter()
        #: Addresses that names have before the one that is served.
        self.addresses: dict[str, tuple[str, ...]] = {}
        self.is_over = anyio.Event()

    @property
    def seen(self) -> list[Exchange]:
        """Every request, in order."""
        return self.history.seen

    def origin(self, name: str) -> str:
        """Return the origin of the site ``name``."""
        return f"http://{name}:{self.port}"

    def violate(self, text: str) -> None:
        """Note that somebody broke a rule."""
        self.violations.append(text)

    def keep_secret(self, secret: str, *names: str) -> None:
        """Watch for ``secret``, which may be sent to the sites ``names`` and to no other."""
        self.secrets[secret] = frozenset(names)

    def secrets_in(self, data: bytes) -> list[str]:
        """Return the secrets that ``data`` holds, in plain or in base64."""
        return [
            secret
            for secret in self.secrets
            if secret.encode() in data or base64.b64encode(secret.encode()).rstrip(b"=")[:-2] in data
        ]

    async def reach(self, step: str) -> None:
        """Come to a step of an answer at which a run may be stopped."""
        if self.trap is not None:
            await self.trap.reach(step)

    def counts(self, *sites: str, since: int = 0) -> Counter[str]:
        """Count the requests to ``sites`` by what they count as."""
        return Counter(seen.counted_as for seen in self.seen[since:] if seen.site in sites)

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
        """Serve the sites until the end of the block, over TLS where a context is given."""
        self.history.clock = asyncio.get_running_loop().time
        self.is_over = anyio.Event()
        # A kept connection ends when the client wants it to, and not because a test moved its clock.
        server = web.Server(self._handle, access_log=None, keepalive_timeout=_FOR_EVER)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=tls).start()
            self.port = runner.addresses[0][1]
            for address in sorted(filter(_LOOPBACK.fullmatch, self.sites.keys() - {"127.0.0.1"})):
                await web.TCPSite(runner, address, self.port, ssl_context=tls).start()
            with self._names():
                yield
        finally:
            self.is_over.set()
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        name = request.headers.get("Host", "").rpartition(":")[0]
        site = self.sites.get(name)
        seen = self.history.begin(
            site=name,
            site_kind=site.kind_of(request.raw_path.partition("?")[0]) if site else "nobody",
            method=request.method,
            target=request.raw_path,
            headers=request.headers,
        )
        self._watch(seen)
        if site is None:
            self.violate(f"a request to nobody: {seen}")
            return web.Response(status=421)
        try:
            if self.interceptor is None:
                response = await site.answer(request)
            elif (intercepted := await self.interceptor(seen, request, partial(site.answer, request))) is not None:
                response = intercepted
            else:
                # What is returned goes nowhere: the connection is closed, or its bytes have been written.
                return web.Response(status=500)
        except (ConnectionError, web.RequestPayloadError):
            # Whoever asked has gone, or the trap has sprung.
            seen.is_delivered = False
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        except Exception:  # noqa: BLE001 - a mistake in an imitation must fail the test, not look like a registry's 500
            self.violate(f"{seen}: the imitation failed: {traceback.format_exc()}")
            return web.Response(status=500)
        self.history.end(seen, response.status, response.headers, received_of(request))
        return response

    def _watch(self, seen: Exchange) -> None:
        """Invariant I4: no secret at an origin that it does not belong to; and no cookies (S15)."""
        if "Cookie" in seen.headers:
            self.violate(f"a cookie was sent: {seen}")
        shown = [seen.target, *(f"{key}: {value}" for key, value in seen.headers.items())]
        scheme, _, value = seen.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            try:
                shown.append(base64.b64decode(value).decode())
            except (binascii.Error, UnicodeDecodeError):
                self.violate(f"Basic credentials that are none: {seen}")
        text = "\n".join(shown)
        for secret, names in self.secrets.items():
            if seen.site not in names and secret in text:
                self.violate(f"a secret of {'/'.join(sorted(names))} was sent to {seen.site}: {seen}")

    @contextmanager
    def _names(self) -> Iterator[None]:
        """Resolve the names of the sites to this server, and no others."""
        resolve = socket.getaddrinfo

        def lookup(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            if self.unknown_names[name] > 0:
                self.unknown_names[name] -= 1
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            if name in self.sites and not _LOOPBACK.fullmatch(name):
                found = (*self.addresses.get(name, ()), "127.0.0.1")
                return [one for address in found for one in resolve(address, port, *args, **options)]
            if name is not None and not re.fullmatch(r"[0-9.]+|[0-9a-f:]*:[0-9a-f:]*|localhost", name):
                self.violate(f"the address of {name} was asked for")
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return resolve(host, port, *args, **options)

        with mock.patch.object(socket, "getaddrinfo", lookup):
            yield
