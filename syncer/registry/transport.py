"""One HTTP exchange: the only module that touches aiohttp's session.

A send is one hop: no redirect is followed, no cookie kept, no body decompressed and nothing sent
twice. Everything aiohttp and the operating system can raise leaves as a RegistryError.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import anyio

from syncer import events
from syncer.errors import CertificateError, ConnectionFailed, RegistryError, SizeExceedsLimit
from syncer.registry.translation import FOREIGN, translated
from syncer.registry.urls import Origin, redact

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping

    from multidict import CIMultiDictProxy
    from yarl import URL

    from syncer.events import Observer, RequestKind
    from syncer.registry.settings import RegistrySettings

#: Registries echo tokens and policies in headers; aiohttp's own 8 KiB is too little for some.
_LONGEST_HEADER = 64 * 1024
_READ_BUFFER = 1024 * 1024
_KEEP_ALIVE = 60.0
#: Unread bytes that are worth reading to keep a connection instead of opening another.
_WORTH_DRAINING = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpRequest:
    """One request, with every header that is to go out besides aiohttp's own."""

    kind: RequestKind
    method: str
    url: URL
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | AsyncIterable[bytes] | None = field(default=None, repr=False)


class HttpResponse:
    """An answer whose body has not been read yet; valid within the context it came from."""

    def __init__(self, response: aiohttp.ClientResponse, registry: str) -> None:
        self._response = response
        self._registry = registry

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers; names compare without case."""
        return self._response.headers

    @property
    def method(self) -> str:
        """The method that was answered."""
        return self._response.method

    @property
    def url(self) -> URL:
        """The URL that answered."""
        return self._response.url

    async def read_some(self) -> bytes:
        """Return what has arrived, at least one byte; empty at the end of the body.

        Raises:
            TransportError: when the connection fails before the end.
        """
        with translated(self._registry, self.method, self.url):
            return await self._response.content.readany()

    async def read(self, limit: int) -> bytes:
        """Return the whole body, of at most ``limit`` bytes.

        Raises:
            SizeExceedsLimit: when it is longer.
            TransportError: when the connection fails before the end.
        """
        whole = await self._gather(limit + 1)
        if len(whole) > limit:
            raise SizeExceedsLimit(f"{self._registry} sent over {limit} bytes for {self.method} {redact(self.url)}")
        return whole

    async def read_start(self, limit: int) -> bytes:
        """Return the body, or its first ``limit`` bytes; a failing connection ends it."""
        try:
            return (await self._gather(limit))[:limit]
        except RegistryError:
            return b""

    async def _gather(self, enough: int) -> bytes:
        parts: list[bytes] = []
        length = 0
        while length < enough and (part := await self.read_some()):
            parts.append(part)
            length += len(part)
        return b"".join(parts)


class Transport:
    """The connections of one registry and of wherever it redirects to."""

    def __init__(self, settings: RegistrySettings, observer: Observer, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._observer = observer
        self._clock = clock
        self._home_origin: Origin | None = None
        self._home: aiohttp.ClientSession | None = None
        self._foreign: aiohttp.ClientSession | None = None
        self._answered: set[Origin] = set()

    async def open(self, home: Origin) -> None:
        """Load the certificates and get ready; ``home`` is the origin that may see the client certificate.

        Raises:
            CertificateError: when a configured certificate or key cannot be read.
        """
        self._home_origin = home
        self._home = self._session(await anyio.to_thread.run_sync(self._home_context))
        tls = self._settings.tls
        if tls.cert or tls.insecure:
            # Neither our certificate nor our leniency is meant for the hosts that a registry redirects to.
            self._foreign = self._session(await anyio.to_thread.run_sync(self._foreign_context))
        else:
            self._foreign = self._home

    async def close(self) -> None:
        """Close every connection."""
        sessions = {session for session in (self._home, self._foreign) if session is not None}
        self._home = self._foreign = None
        for session in sessions:
            await session.close()

    @asynccontextmanager
    async def send(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        """Send ``request`` and give its answer, whatever its status; the rest of its body is given up at the end.

        Raises:
            TransportError: when no answer comes.
            CertificateError: when the other side cannot prove who it is.
            ProtocolViolation: when the answer is not HTTP.
        """
        session = self._home if self._is_home(request.url) else self._foreign
        if session is None:
            raise RegistryError(f"the client of {self._settings.host} is closed", registry=self._settings.host)
        started = self._clock()
        status = 0
        try:
            response = await self._answer(session, request)
            status = response.status
            try:
                yield HttpResponse(response, self._settings.host)
                await _drain(response)
            finally:
                response.close()
        finally:
            self._observer.notify(
                events.RequestFinished(
                    registry=self._settings.host,
                    kind=request.kind,
                    method=request.method,
                    status=status,
                    seconds=self._clock() - started,
                )
            )

    async def _answer(self, session: aiohttp.ClientSession, request: HttpRequest) -> aiohttp.ClientResponse:
        origin = Origin.of(request.url)
        try:
            with translated(self._settings.host, request.method, request.url):
                response = await session.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    data=request.body,
                    allow_redirects=False,
                    timeout=self._timeout(request.kind),
                )
        except ConnectionFailed as error:
            # Who was there before is restarting.
            error.is_absent = error.is_absent and origin not in self._answered
            raise
        self._answered.add(origin)
        return response

    def _is_home(self, url: URL) -> bool:
        """Tell whether ``url`` is the registry's own: to the port for a client certificate, else to the host."""
        there, home = Origin.of(url), self._home_origin
        return there == home or (home is not None and there.host == home.host and not self._settings.tls.cert)

    def _timeout(self, kind: RequestKind) -> aiohttp.ClientTimeout:
        timeouts = self._settings.timeouts
        read = timeouts.commit if kind is events.RequestKind.UPLOAD_PUT else timeouts.read
        return aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=read)

    def _session(self, context: ssl.SSLContext | None) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEEP_ALIVE, ssl=True if context is None else context
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": self._settings.user_agent, "Accept-Encoding": "identity"},
            requote_redirect_url=False,
            read_bufsize=_READ_BUFFER,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )
        _never_send_twice(session)
        return session

    def _home_context(self) -> ssl.SSLContext | None:
        context = self._foreign_context()
        tls = self._settings.tls
        if context is None:
            return None
        if tls.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert:
            with self._loading(tls.cert):
                context.load_cert_chain(tls.cert, tls.key or None, password=_no_password)
        return context

    def _foreign_context(self) -> ssl.SSLContext | None:
        """Return what connections outside the registry's host are verified by; None for aiohttp's own."""
        tls = self._settings.tls
        if not (tls.ca or tls.cert or tls.insecure):
            return None
        context = ssl.create_default_context()
        if tls.ca:
            with self._loading(tls.ca):
                context.load_verify_locations(cafile=tls.ca)
        return context

    @contextmanager
    def _loading(self, file: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise CertificateError(
                f"cannot load {file} for {self._settings.host}: {error}",
                registry=self._settings.host,
                hint="'ca', 'cert' and 'key' name PEM files; the key must fit the certificate and not be encrypted.",
            ) from None


def _no_password() -> str:
    # Without this OpenSSL asks on the terminal for the pass phrase of an encrypted key.
    raise ValueError("the key is encrypted")


def _never_send_twice(session: aiohttp.ClientSession) -> None:
    """Stop aiohttp from sending a request again by itself when a kept connection turns out to be gone.

    Such a resend is in no count and replays bodies that cannot be replayed. There is no public
    switch; aiohttp's own tests use this one, and a test on the wire shows that it still works.
    """
    if hasattr(session, "_retry_connection"):
        session._retry_connection = False  # noqa: SLF001 - see above


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read what little is left of a body, so that the connection can be used again."""
    length = response.content_length
    if response.closed or length is None or length > _WORTH_DRAINING:
        return
    try:
        while await response.content.readany():
            pass
    except FOREIGN:
        return
