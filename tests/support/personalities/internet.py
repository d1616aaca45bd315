"""A small internet on one loopback port: sites by name, a log, and a watch over secrets.

The names are the real ones, so that Syncer classifies them as it would outside; the resolver of
this process knows no others. A request finds its site by its Host header.
"""

from __future__ import annotations

import base64
import binascii
import re
import socket
import traceback
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from unittest import mock

import anyio
from aiohttp import web

from syncer.content import BlobOutcome
from syncer.events import BlobFinished

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

_KINDS = (
    (r"/v2/?", "ping"),
    (r"/v2/_catalog", "catalog"),
    (r"/v2/.+/tags/list", "tags"),
    (r"/v2/.+/referrers/[^/]+", "referrers"),
    (r"/v2/.+/manifests/[^/]+", "manifest"),
    (r"/v2/.+/blobs/uploads/", "post"),
    (r"/v2/.+/blobs/uploads/.+", "session"),
    (r"/v2/.+/blobs/[^/]+", "blob"),
)


class Site(Protocol):
    """Something that answers under a name."""

    def kind_of(self, path: str) -> str:
        """Return what ``path`` belongs to: ``registry``, ``token`` or ``storage``."""
        ...

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        ...


@dataclass(kw_only=True)
class Seen:
    """One request, and how it was answered (0: not at all)."""

    site: str
    site_kind: str
    method: str
    #: The path and query, byte for byte.
    target: str
    headers: Mapping[str, str] = field(repr=False)
    status: int = 0

    @property
    def kind(self) -> str:
        """What it was about, by method and path."""
        if self.site_kind != "registry":
            return self.site_kind
        path = self.target.partition("?")[0]
        name = next((name for pattern, name in _KINDS if re.fullmatch(pattern, path)), "other")
        if name in ("manifest", "blob", "session"):
            return f"{name}-{self.method.lower()}"
        return name

    @property
    def counted_as(self) -> str:
        """The kind, but a refusal for want of a token is a ``challenge``, and a redirect a ``hop``."""
        if self.status == 401:
            return "challenge"
        if self.status in (301, 302, 303, 307, 308):
            return "hop"
        return self.kind

    def __str__(self) -> str:
        return f"{self.site} {self.method} {self.target} -> {self.status or 'no answer'}"


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


class Internet:
    """All the sites there are."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self.trap: Trap | None = None
        self.port = 0
        self._secrets: dict[str, frozenset[str]] = {}

    def origin(self, name: str) -> str:
        """Return the origin of the site ``name``."""
        return f"http://{name}:{self.port}"

    def violate(self, text: str) -> None:
        """Note that somebody broke a rule."""
        self.violations.append(text)

    def keep_secret(self, secret: str, *names: str) -> None:
        """Watch for ``secret``, which may be sent to the sites ``names`` and to no other."""
        self._secrets[secret] = frozenset(names)

    def secrets_in(self, data: bytes) -> list[str]:
        """Return the secrets that ``data`` holds, in plain or in base64."""
        return [
            secret
            for secret in self._secrets
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
    async def running(self) -> AsyncIterator[None]:
        """Serve the sites until the end of the block."""
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            with self._names():
                yield
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        name = request.headers.get("Host", "").rpartition(":")[0]
        site = self.sites.get(name)
        seen = Seen(
            site=name,
            site_kind=site.kind_of(request.raw_path.partition("?")[0]) if site else "nobody",
            method=request.method,
            target=request.raw_path,
            headers=request.headers,
        )
        self.seen.append(seen)
        self._watch(seen)
        if site is None:
            self.violate(f"a request to nobody: {seen}")
            return web.Response(status=421)
        try:
            response = await site.answer(request)
        except (ConnectionError, web.RequestPayloadError):
            # Whoever asked has gone, or the trap has sprung.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        except Exception:  # noqa: BLE001 - a mistake in an imitation must fail the test, not look like a registry's 500
            self.violate(f"{seen}: the imitation failed: {traceback.format_exc()}")
            return web.Response(status=500)
        seen.status = response.status
        return response

    def _watch(self, seen: Seen) -> None:
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
        for secret, names in self._secrets.items():
            if seen.site not in names and secret in text:
                self.violate(f"a secret of {'/'.join(sorted(names))} was sent to {seen.site}: {seen}")

    @contextmanager
    def _names(self) -> Iterator[None]:
        """Resolve the names of the sites to this server, and no others."""
        resolve = socket.getaddrinfo

        def lookup(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            if name in self.sites:
                return resolve("127.0.0.1", port, *args, **options)
            if name is not None and not re.fullmatch(r"[0-9.]+|[0-9a-f:]*:[0-9a-f:]*|localhost", name):
                self.violate(f"the address of {name} was asked for")
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return resolve(host, port, *args, **options)

        with mock.patch.object(socket, "getaddrinfo", lookup):
            yield
