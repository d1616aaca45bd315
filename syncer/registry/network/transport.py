"""One HTTP exchange: the only module that touches aiohttp's session.

A send is one hop: no redirect is followed, no cookie kept, no body decompressed and nothing sent
twice. Everything aiohttp and the operating system can raise leaves as a RegistryError. Every wait
has a deadline: for a connection, for the answer's headers, and by the pace of its body.
"""

from __future__ import annotations

import math
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp
import anyio
from yarl import URL

from syncer import events
from syncer.errors import ConnectionFailed, RegistryError, SizeExceedsLimit, Timeout, UnsafeAddress
from syncer.registry.network import certificates
from syncer.registry.network.addresses import kind_of
from syncer.registry.network.intake import Intake, drained, taken_over
from syncer.registry.network.proxies import proxy_for
from syncer.registry.network.resolver import Guard, GuardedResolver, PlainResolver, system_lookup
from syncer.registry.network.translation import FOREIGN, place, proxy_refusal, translated
from syncer.registry.network.urls import Origin, redact

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from multidict import CIMultiDictProxy

    from syncer.events import Observer, RequestKind
    from syncer.registry.network.addresses import Classifier
    from syncer.registry.network.proxies import Proxy
    from syncer.registry.network.resolver import Lookup
    from syncer.registry.settings import RegistrySettings, TimeoutSettings

#: Registries echo tokens and policies in headers; aiohttp's own 8 KiB is too little for some.
_LONGEST_HEADER = 64 * 1024
_READ_BUFFER = 1024 * 1024
#: After these a registry may hash or copy what it got before it answers.
_CARRY_BLOBS = frozenset({events.RequestKind.UPLOAD_PATCH, events.RequestKind.UPLOAD_PUT})
_KEEP_ALIVE = 60.0
#: Unread bytes that are worth reading to keep a connection instead of opening another.
_WORTH_DRAINING = 64 * 1024
#: Seconds that they are waited for.
_DRAINING_DEADLINE = 1.0
#: How many times the time for one address, in all: a host may have several, and a proxy answers before the host does.
_ADDRESSES_IN_VAIN = 2
#: Bytes per second at which a body that is sent in one piece is taken, where no other floor is set.
_SLOWEST_TAKING = 1024
#: Bytes that are written at once; aiohttp warns of more.
_WHOLE_BODY = 1024 * 1024
_PROXY_AUTHENTICATION_REQUIRED = 407
#: Origins of which is remembered how they are reached: a registry may lead to many.
_MOST_REACHED = 64
#: Answers whose body is the blob, or the rest of it.
_CONTENT = frozenset({200, 206})


@dataclass(kw_only=True, slots=True, eq=False)
class Timing:
    """How far one exchange came, and when: seconds by the transport's clock, None for what has not been.

    Attributes:
        connected_at: it had its connection, and leave to send.
        is_new: the connection was made for it.
        answered_at: the headers of its answer were there.
    """

    connected_at: float | None = None
    is_new: bool = False
    answered_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HttpRequest:
    """One request, with every header that is to go out besides aiohttp's own."""

    kind: RequestKind
    method: str
    url: URL
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | AsyncIterable[bytes] | None = field(default=None, repr=False)
    #: Awaited between connecting and sending: the last moment to wait.
    ready: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    timing: Timing = field(default_factory=Timing, repr=False)


class Headway:
    """Tells when the other side sends too little: under ``slowest`` bytes a second over ``stall`` seconds of waiting.

    Only the time counts that was spent waiting for bytes. What we spend on passing them on does not:
    a slow target or a ceiling of our own is no fault of the source's.
    """

    def __init__(self, slowest: int, stall: float) -> None:
        self._slowest = slowest
        self._stall = stall
        self._waited = 0.0
        self._received = 0

    def is_too_slow(self, seconds: float, count: int) -> bool:
        """Take note of ``count`` bytes that were waited for for ``seconds``, and tell whether that is enough of it."""
        self._waited += seconds
        self._received += count
        if self._waited < self._stall:
            return False
        is_slow = self._received < self._slowest * self._waited
        self._waited, self._received = 0.0, 0
        return is_slow


class HttpResponse:
    """An answer whose body has not been read yet; valid within the context it came from.

    Attributes:
        status: the status code.
        headers: their names compare without case.
        method: the method that was answered.
        url: the URL that answered.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        registry: str,
        timeouts: TimeoutSettings,
        *,
        clock: Callable[[], float],
        is_blob: bool = False,
    ) -> None:
        """Wrap ``response``; the body of a blob may be large, and its connection is taken over when it is read."""
        self._clock = clock
        self._response = response
        self._registry = registry
        self.status = response.status
        self.headers: CIMultiDictProxy[str] = response.headers
        self.method = response.method
        self.url = response.url
        self._timeouts = timeouts
        self._headway = Headway(timeouts.slowest, timeouts.stall)
        self._is_untouched = is_blob
        self._intake: Intake | None = None

    async def read_some(self) -> bytes:
        """Return what has arrived, at least one byte; empty at the end of the body.

        Raises:
            TransportError: when the connection fails before the end, or brings next to nothing for too long.
        """
        began = self._clock()
        with translated(self._registry, self.method, self.url):
            part = await self._receive()
        if part and self._headway.is_too_slow(self._clock() - began, len(part)) and not self._response.content.at_eof():
            self._response.close()
            raise Timeout(
                f"{place(self._registry, self.url)} sends less than {self._timeouts.slowest} bytes a second",
                registry=self._registry,
                method=self.method,
                url=redact(self.url),
            )
        return part

    async def _receive(self) -> bytes:
        content = self._response.content
        if self._is_untouched:
            self._is_untouched = False
            early = drained(content)
            self._intake = taken_over(self._response, self._timeouts.read)
            if early:
                return early
        if self._intake is None:
            return await content.readany()
        part = await self._intake.read()
        if self._intake.is_at_end and not content.is_eof():
            self._intake.end(content)
        return part

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


class Sending:
    """One exchange; see :meth:`Transport.send`."""

    __slots__ = ("_clock", "_request", "_response", "_settings", "_started", "_transport")

    def __init__(
        self, transport: Transport, request: HttpRequest, settings: RegistrySettings, clock: Callable[[], float]
    ) -> None:
        self._transport = transport
        self._request = request
        self._settings = settings
        self._clock = clock
        self._started = clock()
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> HttpResponse:
        """Send the request, and wait for the headers of its answer."""
        request, settings = self._request, self._settings
        try:
            response = self._response = await self._transport.answer(request)
        except BaseException:
            self._transport.ended(request, 0, self._started)
            raise
        is_blob = request.kind is events.RequestKind.BLOB_GET and response.status in _CONTENT
        return HttpResponse(response, settings.host, settings.timeouts, clock=self._clock, is_blob=is_blob)

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Let go of the connection, which is kept where the body was read, or little of it is left."""
        response = self._response
        if response is None:
            return
        try:
            if error is None and not response.closed:
                await _drain(response)
        finally:
            response.close()
            self._transport.ended(self._request, response.status, self._started)


@dataclass(frozen=True, slots=True)
class _Route:
    """Which connections serve a URL: those of the registry itself or the others, through which proxy, in TLS or not."""

    is_home: bool
    proxy: Proxy | None
    is_secure: bool = False

    @property
    def key(self) -> tuple[bool, bool, bool]:
        """What a session is kept under."""
        return self.is_home, self.proxy is not None, self.is_secure


class Transport:
    """The connections of one registry and of wherever it leads."""

    def __init__(
        self,
        settings: RegistrySettings,
        observer: Observer,
        *,
        clock: Callable[[], float],
        lookup: Lookup = system_lookup,
        classify: Classifier = kind_of,
    ) -> None:
        """Keep what is needed; ``lookup`` and ``classify`` say which addresses names have, and what those are."""
        self._settings = settings
        self._observer = observer
        self._clock = clock
        self._lookup = lookup
        self._classify = classify
        self._home: Origin | None = None
        self._guard: Guard | None = None
        self._contexts = certificates.Contexts()
        self._loading = anyio.Lock()
        self._sessions: dict[tuple[bool, bool, bool], aiohttp.ClientSession] = {}
        self._reached: dict[Origin, tuple[aiohttp.ClientSession, Proxy | None]] = {}
        self._answered: set[Origin] = set()
        timeouts = settings.timeouts
        self._reading = _timeout(timeouts.connect, timeouts.read)
        self._committing = _timeout(timeouts.connect, timeouts.commit)

    async def open(self, home: Origin) -> None:
        """Load the certificates and get ready; ``home`` is the origin that may see the client certificate.

        Raises:
            CertificateError: when a configured certificate or key cannot be read.
            RegistryError: when the proxy of the registry is not an HTTP proxy.
        """
        if not certificates.is_plain(self._settings):
            self._contexts = await anyio.to_thread.run_sync(certificates.contexts_of, self._settings)
        if home.is_secure:
            await self._trust()
        self._guard = Guard(
            registry=self._settings.host,
            home=home,
            is_home_proxied=self._proxy(URL(str(home))) is not None,
            trusted_hosts=self._settings.trusted_hosts,
            lookup=self._lookup,
            classify=self._classify,
        )
        self._home = home

    async def close(self) -> None:
        """Close every connection."""
        sessions, self._sessions = self._sessions, {}
        self._reached.clear()
        self._home = self._guard = None
        # A run that is cancelled from outside closes its connections all the same.
        with anyio.CancelScope(shield=True):
            for session in sessions.values():
                await session.close()

    def send(self, request: HttpRequest) -> Sending:
        """Send ``request`` and give its answer, whatever its status; the rest of its body is given up at the end.

        Entering what this returns sends it, and leaving that is the end.

        Raises:
            TransportError: when no answer comes.
            CertificateError: when the other side cannot prove who it is.
            UnsafeAddress: when the registry led to where it must not lead; nothing was sent.
            Denied: when the proxy refuses.
            ProtocolViolation: when the answer is not HTTP.
        """
        if self._home is None:
            raise RegistryError(f"the client of {self._settings.host} is closed", registry=self._settings.host)
        return Sending(self, request, self._settings, self._clock)

    def ended(self, request: HttpRequest, status: int, started: float) -> None:
        """Tell that the exchange of ``request`` is over; ``status`` is 0 when no answer came."""
        self._observer.notify(
            events.RequestFinished(
                registry=self._settings.host,
                kind=request.kind,
                method=request.method,
                status=status,
                seconds=self._clock() - started,
            )
        )

    async def answer(self, request: HttpRequest) -> aiohttp.ClientResponse:
        """Return aiohttp's answer to ``request``; for :class:`Sending`, which closes it."""
        origin = Origin.of(request.url)
        try:
            response = await self._exchange(request, origin)
        except ConnectionFailed as error:
            # Who was there before is restarting.
            error.is_absent = error.is_absent and origin not in self._answered
            raise
        except UnsafeAddress as error:
            error.method, error.url = request.method, redact(request.url)
            raise
        self._answered.add(origin)
        return response

    async def _exchange(self, request: HttpRequest, origin: Origin) -> aiohttp.ClientResponse:
        session, proxy = self._reached.get(origin) or await self._reach(origin, request.url)
        headers, proxy_headers = dict(request.headers), None
        body = request.body
        if isinstance(body, bytes) and len(body) > _WHOLE_BODY:
            headers["Content-Length"] = str(len(body))
            body = _pieces(body)
        if proxy is not None and proxy.authorization:
            shown = {"Proxy-Authorization": proxy.authorization}
            if origin.is_secure:
                # Only with the CONNECT: what is in the tunnel is not the proxy's.
                proxy_headers = shown
            else:
                headers.update(shown)
        timeouts = self._settings.timeouts
        with translated(self._settings.host, request.method, request.url, proxy=str(proxy or "")):
            scope = anyio.CancelScope(deadline=anyio.current_time() + timeouts.connect * _ADDRESSES_IN_VAIN)
            with scope:
                if self._guard is not None:
                    await self._guard.check(origin)
                _PATIENCE.set(_Patience(scope, _answer_deadline(request, timeouts), request, self._clock))
                response = await session.request(
                    request.method,
                    request.url,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    timeout=self._committing if request.kind in _CARRY_BLOBS else self._reading,
                    proxy=None if proxy is None else proxy.url,
                    proxy_headers=proxy_headers,
                )
                request.timing.answered_at = self._clock()
            if scope.cancelled_caught:
                raise TimeoutError
        if proxy is not None and response.status == _PROXY_AUTHENTICATION_REQUIRED:
            response.close()
            raise proxy_refusal(response.status, self._settings.host, request.method, request.url, str(proxy))
        return response

    async def _reach(self, origin: Origin, url: URL) -> tuple[aiohttp.ClientSession, Proxy | None]:
        """Find out how ``url`` is reached; all of its ``origin`` are reached in the same way."""
        proxy = self._proxy(url)
        is_secure = origin.is_secure or (proxy is not None and proxy.url.scheme == "https")
        if is_secure and self._contexts.foreign is None:
            await self._trust()
        if len(self._reached) >= _MOST_REACHED:
            self._reached.clear()
        session = self._session(_Route(is_home=self._is_home(origin), proxy=proxy, is_secure=is_secure))
        self._reached[origin] = session, proxy
        return session, proxy

    async def _trust(self) -> None:
        """See to it that there are authorities to trust, before the first connection that needs them."""
        async with self._loading:
            if self._contexts.foreign is None:
                system = await anyio.to_thread.run_sync(certificates.system_context)
                self._contexts = certificates.Contexts(home=system, foreign=system)

    def _is_home(self, there: Origin) -> bool:
        """Tell whether ``there`` is the registry's own: to the port for a client certificate, else to the host."""
        home = self._home
        return there == home or (home is not None and there.host == home.host and not self._contexts.is_shown)

    def _proxy(self, url: URL) -> Proxy | None:
        proxy = proxy_for(self._settings.proxies, url)
        tls = self._settings.tls
        if proxy is not None and proxy.url.scheme == "https" and (self._contexts.is_shown or tls.insecure):
            # aiohttp speaks TLS to the proxy as it does to the registry.
            raise RegistryError(
                f"the proxy {proxy} is spoken to in TLS, which goes neither with a client certificate nor "
                f"with 'insecure' for {self._settings.host}",
                registry=self._settings.host,
                hint="Use the proxy by its http:// address; the connection to the registry is encrypted all the same.",
            )
        return proxy

    def _session(self, route: _Route) -> aiohttp.ClientSession:
        """Return the session of ``route``; each has connections, a resolver and a TLS context of its own."""
        session = self._sessions.get(route.key)
        if session is not None:
            return session
        context = self._contexts.home if route.is_home else self._contexts.foreign
        resolver = PlainResolver(self._lookup) if route.proxy or not self._guard else GuardedResolver(self._guard)
        session = aiohttp.ClientSession(
            connector=_Connector(
                limit=0,
                keepalive_timeout=_KEEP_ALIVE,
                # None is for plain HTTP only: aiohttp's own context need not hold any authorities.
                ssl=True if context is None else context,
                resolver=resolver,
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
        self._sessions[route.key] = session
        return session


def _timeout(connect: float, read: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)


def _answer_deadline(request: HttpRequest, timeouts: TimeoutSettings) -> float:
    """Return the seconds until an answer must be there with all its headers; no bound for a body that is streamed.

    aiohttp bounds the wait for the next byte only: headers may drip for ever, and a body that nobody
    takes is waited for without an end. Streamed bodies are watched by who streams them.
    """
    size = 0
    if request.body is not None:
        if not isinstance(request.body, bytes):
            return math.inf
        size = len(request.body)
    read = timeouts.commit if request.kind in _CARRY_BLOBS else timeouts.read
    return 2 * read + size / (timeouts.slowest or _SLOWEST_TAKING)


def _never_send_twice(session: aiohttp.ClientSession) -> None:
    """Stop aiohttp from sending a request again by itself when a kept connection turns out to be gone.

    Such a resend is in no count and replays bodies that cannot be replayed. There is no public
    switch; aiohttp's own tests use this one, and a test on the wire shows that it still works.
    """
    if hasattr(session, "_retry_connection"):
        session._retry_connection = False  # noqa: SLF001 - see above


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), _WHOLE_BODY):
        yield body[at : at + _WHOLE_BODY]


class _Patience:
    """How long one request is waited for: until it has a connection, then until its answer; our pauses are free."""

    def __init__(
        self, scope: anyio.CancelScope, answer: float, request: HttpRequest, clock: Callable[[], float]
    ) -> None:
        self._scope = scope
        self._answer = answer
        self._ready = request.ready
        self._timing = request.timing
        self._clock = clock

    async def connected(self, *, is_new: bool) -> None:
        """Wait once more for leave to send, as making a connection took a while; then bound the wait for the answer."""
        self._scope.deadline = math.inf
        if self._ready is not None:
            await self._ready()
        self._scope.deadline = anyio.current_time() + self._answer
        self._timing.is_new = is_new
        self._timing.connected_at = self._clock()


#: Of the request that the running task sends; aiohttp hands its connector nothing of ours.
_PATIENCE: ContextVar[_Patience] = ContextVar("_PATIENCE")


class _Connector(aiohttp.TCPConnector):
    """Tells each request's :class:`_Patience` that it has its connection.

    aiohttp's tracing could tell it, too, but loses a new connection whose request is cancelled meanwhile.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._met: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        """Return a connection over which the request may be sent now."""
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        try:
            is_new = protocol not in self._met
            await _PATIENCE.get().connected(is_new=is_new)
            if is_new and protocol is not None:
                self._met.add(protocol)
        except BaseException:
            connection.close()
            raise
        return connection


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read what little is left of a body, so that the connection can be used again."""
    length = response.content_length
    if length is None or length > _WORTH_DRAINING:
        return
    with anyio.move_on_after(_DRAINING_DEADLINE), suppress(*FOREIGN):
        while await response.content.readany():
            pass
