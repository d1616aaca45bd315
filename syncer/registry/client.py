"""The client of one registry: transport, tokens, limits and retries, tied together."""

from __future__ import annotations

import random as random_module
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio
from yarl import URL

from syncer import events
from syncer.errors import (
    Denied,
    NotFound,
    ProtocolViolation,
    RegistryError,
    Side,
    StatusError,
    SyncerError,
    Unauthorized,
)
from syncer.oci.reference import check_host, check_repository
from syncer.registry.call import Call, Reply
from syncer.registry.capabilities import Capabilities
from syncer.registry.catalog import RegistryCatalog
from syncer.registry.challenge import parse_challenges
from syncer.registry.failures import ERROR_BODY_LIMIT, Answer, failure
from syncer.registry.hosts import traits_of
from syncer.registry.limits import Limits, Window
from syncer.registry.referrers import FallbackTags
from syncer.registry.repository import RegistryRepository
from syncer.registry.retry import Reaction, RetryPolicy
from syncer.registry.tokens import Tokens
from syncer.registry.transport import HttpRequest, HttpResponse, Transport
from syncer.registry.urls import Origin, absolute, redact, resolve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from syncer.events import Observer, RequestKind
    from syncer.registry.auth import TokenRequest
    from syncer.registry.challenge import Challenge
    from syncer.registry.credentials.values import CredentialStore
    from syncer.registry.settings import RegistrySettings

_T = TypeVar("_T")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
#: Token services limit bursts more strictly than registries do.
_TOKEN_REQUESTS = 2
#: distribution-spec "Warnings": at most 4096 bytes, and not every registry's every thought.
_LONGEST_WARNING = 4096
_MOST_WARNINGS = 32


class RegistryClient:
    """One registry: asks it, again where that helps, and no more at once than it bears.

    Use as an async context manager. Errors that leave carry the registry, the method, the redacted
    URL and the side.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        credentials: CredentialStore,
        observer: Observer,
        *,
        policy: RetryPolicy | None = None,
        fallback_tags: FallbackTags | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """Keep what is needed; nothing is opened before the context is entered.

        Clients of one registry must share their ``fallback_tags``, or they overwrite each other's lists.

        Raises:
            InvalidReference: when ``settings.host`` is not a host.
        """
        self.host = check_host(settings.host)
        self.capabilities = Capabilities(traits=traits_of(self.host), clock=clock)
        self.limits = Limits(
            control=settings.connections,
            data=settings.data_connections,
            requests_per_second=settings.requests_per_second,
            bandwidth=settings.bandwidth,
            clock=clock,
            sleep=sleep,
        )
        self.fallback_tags = fallback_tags or FallbackTags()
        self.timeouts = settings.timeouts
        self._base = settings.base_url
        self._home = Origin.of(absolute(self._base))
        self._observer = observer
        self._policy = policy or RetryPolicy()
        self._clock = clock
        self._wall_clock = wall_clock
        self.sleep = sleep
        self._random = random
        self._transport = Transport(settings, observer, clock=clock)
        self._tokens = Tokens(
            registry=self.host, home=self._home, credentials=credentials, fetch=self._fetch_token, clock=clock
        )
        self._token_window = Window(_TOKEN_REQUESTS)
        self._warnings: set[str] = set()
        self._ping_challenges: list[Challenge] | None = None

    async def __aenter__(self) -> Self:
        await self._transport.open(self._home)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.close()

    def repository(self, name: str, side: Side | None = None) -> RegistryRepository:
        """Return the repository ``name``; ``side`` marks its errors, and TARGET asks for the right to push.

        Raises:
            InvalidReference: when the name breaks the grammar.
        """
        return RegistryRepository(self, check_repository(name), side)

    def catalog(self, side: Side | None = None) -> RegistryCatalog:
        """Return the list of repositories."""
        return RegistryCatalog(self, side)

    def url(self, path: str) -> URL:
        """Return the URL of an API ``path`` that starts with a slash and is percent-encoded."""
        return URL(f"{self._base}{path}", encoded=True)

    def resolve(self, base: URL, location: str) -> URL:
        """Return the URL that a Location or Link of the answer from ``base`` means.

        Raises:
            ProtocolViolation: when it is not one to be followed.
        """
        return resolve(base, location, home=self._home)

    async def exchange(self, call: Call) -> Reply:
        """Ask, read the answer, and return it; its status is one that ``call`` expects.

        Raises:
            NotFound, RegistryError: what the registry said, or that it could not be reached.
            SizeExceedsLimit: when the answer is longer than ``call.limit``.
            CredentialsError: when the credentials cannot be read.
        """

        async def read(response: HttpResponse, _stack: AsyncExitStack, attempts: int) -> Reply:
            body = b"" if call.method == "HEAD" else await response.read(call.limit)
            return Reply(
                status=response.status, headers=response.headers, body=body, url=response.url, attempts=attempts
            )

        return await self._persist(call, read)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[HttpResponse]:
        """Ask, and give the answer with its body unread.

        Only the way to the answer is retried, not the reading. Entering raises as :meth:`exchange`.
        """

        async def keep(
            response: HttpResponse, stack: AsyncExitStack, _attempts: int
        ) -> tuple[HttpResponse, AsyncExitStack]:
            return response, stack.pop_all()

        response, stack = await self._persist(call, keep)
        async with stack:
            yield response

    def notice(self, text: str) -> None:
        """Let the observer know something about the registry that a person should know once."""
        self._observer.notify(events.Notice(where=self.host, text=text))

    async def wait_to_retry(self, kind: RequestKind, error: SyncerError, attempt: int, tries: int = 0) -> bool:
        """Wait as the policy wants after ``attempt`` (from 1) failed with ``error``; False when it is final."""
        if isinstance(error, RegistryError) and error.attempts:
            # The token that this request wanted was tried for in vain; to start over would multiply the tries.
            return False
        decision = self._policy.decide(error, attempt, self._random, tries=tries)
        if decision.reaction is Reaction.GIVE_UP:
            if isinstance(error, RegistryError):
                error.attempts = attempt
            if attempt > 1:
                error.hint = f"It was tried {attempt} times. {error.hint}".strip()
            return False
        self._observer.notify(
            events.RetryScheduled(
                registry=self.host, kind=kind, attempt=attempt, delay=decision.delay, reason=error.message
            )
        )
        if decision.reaction is Reaction.PAUSE_HOST and kind is not events.RequestKind.TOKEN:
            # Everyone waits at the gate of the limits, this request among them.
            self.limits.pause(decision.delay)
        else:
            await self.sleep(decision.delay)
        return True

    async def _persist(self, call: Call, use: Callable[[HttpResponse, AsyncExitStack, int], Awaitable[_T]]) -> _T:
        """Try ``call`` until it succeeds or the policy gives up."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(call, use, attempt)
            except SyncerError as error:
                error.side = error.side or call.side
                if not call.is_replayable or not await self.wait_to_retry(call.kind, error, attempt, call.tries):
                    raise

    async def _attempt(
        self, call: Call, use: Callable[[HttpResponse, AsyncExitStack, int], Awaitable[_T]], attempt: int
    ) -> _T:
        """Send ``call``, with a renewed token if the first one is refused."""
        authorization = call.authorization
        if authorization is None:
            authorization = await self._tokens.header(call.scopes)
        is_renewed = call.authorization is not None
        while True:
            response, stack = await self._follow(call, authorization)
            async with stack:
                if response.status in call.expected:
                    return await use(response, stack, attempt)
                error = await self._failure(call, response)
                challenges = parse_challenges(response.headers.getall("WWW-Authenticate", ()))
                is_home = Origin.of(response.url) == self._home
            # The permit has been given back: a token may take a while.
            if is_renewed or not is_home or not _asks_for_token(error, challenges):
                raise await self._explained(error, call)
            renewed = await self._tokens.renew(
                call.scopes, authorization, challenges or await self._challenges_of_ping()
            )
            if renewed is None or not call.is_replayable:
                raise await self._explained(error, call)
            authorization, is_renewed = renewed, True

    async def _follow(self, call: Call, authorization: str) -> tuple[HttpResponse, AsyncExitStack]:
        """Send ``call`` and follow its redirects; return the last answer and the context it lives in."""
        url = call.url
        is_home = True
        async with AsyncExitStack() as stack:
            if call.kind is events.RequestKind.TOKEN:
                await stack.enter_async_context(self._token_window.permit())
            else:
                await stack.enter_async_context(self.limits.request(data=call.is_data))
            for _ in range(_MOST_REDIRECTS + 1):
                # Credentials belong to an origin, and what has once been elsewhere is no longer ours.
                is_home = is_home and (Origin.of(url) == self._home or call.kind is events.RequestKind.TOKEN)
                headers = dict(call.headers)
                if is_home and authorization:
                    headers["Authorization"] = authorization
                hop = await stack.enter_async_context(AsyncExitStack())
                response = await hop.enter_async_context(
                    self._transport.send(
                        HttpRequest(kind=call.kind, method=call.method, url=url, headers=headers, body=call.body)
                    )
                )
                self._heed_warnings(response)
                if not _is_redirect(call, response):
                    return response, stack.pop_all()
                url = self.resolve(response.url, response.headers["Location"])
                await hop.aclose()
        raise ProtocolViolation(
            f"{self.host} redirects {call.asked} over {_MOST_REDIRECTS} times",
            registry=self.host,
            method=call.method,
            url=redact(url),
        )

    async def _failure(self, call: Call, response: HttpResponse) -> SyncerError:
        body = b"" if call.method == "HEAD" else await response.read_start(ERROR_BODY_LIMIT)
        origin = Origin.of(response.url)
        return failure(
            Answer(
                # A storage that a registry redirects to speaks for itself.
                registry=self.host if origin == self._home else str(origin),
                method=call.method,
                url=redact(response.url),
                asked=call.asked,
                status=response.status,
                headers=response.headers,
                body=body,
                wanted=call.expected,
                now=self._wall_clock(),
                repository=f"{self.host}/{call.scopes[0].name}" if call.names_repository else "",
            )
        )

    async def _explained(self, error: SyncerError, call: Call) -> SyncerError:
        if isinstance(error, Unauthorized | Denied) and error.registry == self.host and call.authorization is None:
            error.hint = await self._tokens.refusal_hint(call.scopes)
        return error

    async def _challenges_of_ping(self) -> list[Challenge]:
        """Ask ``/v2/`` for the challenge that a 401 did not bring (gcr.io), once."""
        if self._ping_challenges is None:
            call = Call(
                kind=events.RequestKind.PING,
                method="GET",
                url=self.url("/v2/"),
                asked=self.host,
                expected=frozenset({200, 401}),
                authorization="",
            )
            try:
                reply = await self.exchange(call)
            except (RegistryError, NotFound):
                # The 401 that led here says more than a failed ping does.
                return []
            self._ping_challenges = parse_challenges(reply.headers.getall("WWW-Authenticate", ()))
        return self._ping_challenges

    async def _fetch_token(self, request: TokenRequest) -> bytes:
        form = request.form
        reply = await self.exchange(
            Call(
                kind=events.RequestKind.TOKEN,
                method=request.method,
                url=request.url,
                asked=f"a token for {self.host}",
                headers={"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {},
                body=form,
                authorization=request.authorization,
                is_redirectable=False,
            )
        )
        return reply.body

    def _heed_warnings(self, response: HttpResponse) -> None:
        """Pass a registry's warnings on, each once."""
        for header in response.headers.getall("Warning", ()):
            text = header[:_LONGEST_WARNING]
            if text.startswith("299 ") and text not in self._warnings and len(self._warnings) < _MOST_WARNINGS:
                self._warnings.add(text)
                self.notice(text.partition('"')[2].rstrip('"') or text)


def _is_redirect(call: Call, response: HttpResponse) -> bool:
    """Tell whether to go on to the Location: always to read, to write only where the body goes along unchanged."""
    if response.status not in _REDIRECTS or not call.is_redirectable or "Location" not in response.headers:
        return False
    return call.method in ("GET", "HEAD") or (response.status in (307, 308) and call.is_replayable)


def _asks_for_token(error: SyncerError, challenges: list[Challenge]) -> bool:
    """Tell whether other credentials may help: any 401, and a 403 that names the scope it misses."""
    if isinstance(error, Unauthorized):
        return True
    return (
        isinstance(error, StatusError)
        and error.status == 403  # noqa: PLR2004 - Forbidden
        and any(challenge.parameters.get("error") == "insufficient_scope" for challenge in challenges)
    )
