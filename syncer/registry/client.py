"""The client of one registry: transport, tokens, limits and retries, tied together."""

from __future__ import annotations

import random as random_module
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.lowlevel
from yarl import URL

from syncer import events
from syncer.errors import (
    Denied,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    Side,
    SyncerError,
    TransportError,
    Unauthorized,
)
from syncer.oci.reference import check_host, check_repository
from syncer.registry.auth.challenge import asks_for_token, described, parse_challenges, says_expired
from syncer.registry.auth.denials import Denials
from syncer.registry.auth.memory import MOST_SCOPES
from syncer.registry.auth.origins import Nobody, OriginTokens, may_see_credentials
from syncer.registry.auth.tokens import Tokens
from syncer.registry.call import Answered, Call, Reply
from syncer.registry.catalog import RegistryCatalog
from syncer.registry.network.addresses import kind_of
from syncer.registry.network.resolver import system_lookup
from syncer.registry.network.transport import HttpRequest, HttpResponse, Transport
from syncer.registry.network.urls import Origin, absolute, redact, resolve
from syncer.registry.repository import RegistryRepository
from syncer.registry.standing import Standing
from syncer.registry.traffic.feedback import note_answer, note_failure
from syncer.registry.traffic.retry import OUT_OF_BUDGET, PASSING_STATUSES, Reaction, deferral
from syncer.registry.traffic.windows import AdaptiveWindow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from syncer.events import Observer, RequestKind
    from syncer.registry.auth.challenge import Challenge
    from syncer.registry.auth.memory import Demand
    from syncer.registry.auth.origins import Disclosure
    from syncer.registry.auth.token_service import TokenRequest
    from syncer.registry.creation import Creation
    from syncer.registry.credentials.values import CredentialStore
    from syncer.registry.network.addresses import Classifier
    from syncer.registry.network.resolver import Lookup
    from syncer.registry.settings import CreationSettings, RegistrySettings
    from syncer.registry.traffic.retry import RetryPolicy
    from syncer.registry.unfinished import UnfinishedUploads

_T = TypeVar("_T")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
#: Who answers so has not looked at the request, and does not say what is left of an allowance.
_NO_ANSWER = PASSING_STATUSES | {401}
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
        standing: Standing | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = random_module.random,
        learned: Iterable[Demand] = (),
        unfinished: UnfinishedUploads | None = None,
        lookup: Lookup = system_lookup,
        classify: Classifier = kind_of,
    ) -> None:
        """Keep what is needed; nothing is opened before the context is entered.

        What was :meth:`learned` in an earlier run spares the first refusal; with ``unfinished``, uploads outlive the
        process. Clients of one registry share its ``standing``, which ``policy`` makes where none is given.

        Raises:
            InvalidReference: when ``settings.host`` is not a host.
        """
        self.host = check_host(settings.host)
        self.standing = standing or Standing(settings, policy=policy, clock=clock, sleep=sleep, random=random)
        self.capabilities = self.standing.capabilities
        self.limits = self.standing.limits
        self.fallback_tags = self.standing.fallback_tags
        self.timeouts = settings.timeouts
        self.downloads, self.uploads = settings.download, settings.upload
        self.unfinished = unfinished
        self._base = settings.base_url
        self.home = Origin.of(absolute(self._base))
        self._observer = observer
        self.clock = clock
        self._wall_clock = wall_clock
        self.sleep = sleep
        self._random = random
        self._transport = Transport(settings, observer, clock=clock, lookup=lookup, classify=classify)
        tokens = partial(Tokens, credentials=credentials, fetch=self._fetch_token, clock=clock)
        self._tokens = tokens(
            registry=self.host,
            home=self.home,
            most_scopes=1 if self.capabilities.traits.one_scope else MOST_SCOPES,
            learned=learned,
        )

        def elsewhere(origin: Origin, host: str) -> Tokens:
            may_see = may_see_credentials(origin, settings.trusted_hosts)
            return tokens(registry=host, home=origin, credentials=credentials if may_see else Nobody())

        self._origins = OriginTokens(self.home, self._tokens, elsewhere, self._challenges_of_ping)
        self._denials = Denials(clock)
        self._token_window = AdaptiveWindow(_TOKEN_REQUESTS, clock=clock)
        self.creation = _creation(self, settings.creation, credentials) if settings.creation else None
        self._warnings: set[str] = set()
        self._ping_challenges: list[Challenge] | None = None
        self._ping_lock = anyio.Lock()

    async def __aenter__(self) -> Self:
        await self._transport.open(self.home)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.close()

    def learned(self) -> tuple[Demand, ...]:
        """Return how the registry wants to be shown who asks, without any secret, for a later run."""
        return self._tokens.learned()

    def forget_denials(self, repository: str) -> None:
        """Ask anew for what was denied for ``repository``, which has been made since."""
        self._denials.clear_repository(repository)

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
        return resolve(base, location, home=self.home)

    async def exchange(self, call: Call) -> Reply:
        """Ask, read the answer, and return it; its status is one that ``call`` expects.

        Raises:
            NotFound, RegistryError: what the registry said, or that it could not be reached.
            SizeExceedsLimit: when the answer is longer than ``call.limit``.
            CredentialsError: when the credentials cannot be read.
        """

        async def read(answered: Answered, attempts: int) -> Reply:
            response = answered.response
            body = b"" if call.method == "HEAD" else await response.read(call.limit)
            return Reply(
                status=response.status, headers=response.headers, body=body, url=response.url, attempts=attempts
            )

        return await self._persist(call, read)

    async def open(self, call: Call) -> Answered:
        """Ask, and return the answer with its body unread; its context is to be left by whoever gets it.

        Only the way to the answer is retried, not the reading. Raises as :meth:`exchange`.
        """

        async def keep(answered: Answered, _attempts: int) -> Answered:
            return answered.handed_over()

        return await self._persist(call, keep)

    def notice(self, text: str) -> None:
        """Let the observer know something about the registry that a person should know once."""
        self._observer.notify(events.Notice(where=self.host, text=text))

    async def wait_to_retry(
        self, kind: RequestKind, error: SyncerError, attempt: int, tries: int = 0, *, has_headway: bool = False
    ) -> bool:
        """Wait as the policy wants after ``attempt`` (from 1) failed with ``error``; False when it is final.

        Going on after ``has_headway`` costs nothing of the run's budget.
        """
        if isinstance(error, RegistryError) and error.attempts:
            # It was tried for in vain, by others or for the token that this request wanted: no more of it.
            return False
        decision = self.standing.policy.decide(error, attempt, self._random, tries=tries)
        if decision.reaction in (Reaction.GIVE_UP, Reaction.DEFER):
            _give_up(error, attempt)
            return False
        if decision.reaction is Reaction.TRY_AGAIN and not has_headway and not self.standing.budget.spend():
            _give_up(error, attempt)
            error.hint = f"{OUT_OF_BUDGET} {error.hint}".strip()
            return False
        self._observer.notify(
            events.RetryScheduled(
                registry=self.host, kind=kind, attempt=attempt, delay=decision.delay, reason=error.message
            )
        )
        if decision.reaction is Reaction.PAUSE_HOST:
            place = self._place_of(error)
            self.limits.pause(decision.delay, place)
            # Everyone waits at the gate. Here, too: what comes before the next try may have a deadline.
            await self.limits.wait_pause(place)
        elif not (isinstance(error, TransportError) and self.standing.breaker.is_doubted):
            # One that is doubted is asked by one at a time, in its own time.
            await self.sleep(decision.delay)
        return True

    async def _persist(self, call: Call, use: Callable[[Answered, int], Awaitable[_T]]) -> _T:
        """Try ``call`` until it succeeds or the policy gives up."""
        attempt = 0
        while True:
            attempt += 1
            self.standing.budget.earn()
            try:
                return await self._attempt(call, use, attempt)
            except SyncerError as raised:
                error = self._deferred(raised, call) or raised
                error.side = error.side or call.side
                if not call.is_replayable or not await self.wait_to_retry(call.kind, error, attempt, call.tries):
                    raise error from raised.__cause__

    def _deferred(self, error: SyncerError, call: Call) -> SyncerError | None:
        """Return what it means that the registry throttles: that there is no use in waiting, or None."""
        if not isinstance(error, RateLimited):
            return None
        place = self._place_of(error)
        if (wish := deferral(error)) is not None:
            self.standing.close(wish, place)
        return self.standing.allowance(place).refusal(call.kind)

    def _place_of(self, error: SyncerError) -> str:
        """Return the place, as :attr:`limits` knows it, that answered with ``error``."""
        registry = error.registry if isinstance(error, RegistryError) else ""
        return "" if registry == self.host else registry

    async def _hop(
        self, call: Call, url: URL, headers: Mapping[str, str], window: AdaptiveWindow, held: Answered
    ) -> HttpResponse:
        """Send one request of ``call`` once its host may be asked, and note what its answer shows of the host.

        ``window`` is what it has a permit of; the answer is valid for as long as it is ``held``.
        """
        origin = Origin.of(url)
        place = "" if origin == self.home else str(origin)
        standing = self.standing
        # Connecting takes a while, too, in which a pause may begin.
        ready = partial(self.limits.wait_pause, place)
        request = HttpRequest(kind=call.kind, method=call.method, url=url, headers=headers, body=call.body, ready=ready)
        # A body may be what a connection breaks over: that says nothing about the host.
        is_telling = request.body is None or isinstance(request.body, bytes)
        async with nullcontext() if place else standing.breaker.passage(is_telling=is_telling):
            await standing.leave(request.kind, place)
            with standing.allowance(place).counted(request.kind):
                if call.departure is not None:
                    # Who is told that it leaves waits for its answer: it must not leave and be cancelled at once.
                    await anyio.lowlevel.checkpoint_if_cancelled()
                    call.departure.take_place()
                try:
                    response = await held.send(self._transport.send(request))
                except TransportError as error:
                    note_failure(window, request, error)
                    raise
                if not place and request.kind is not events.RequestKind.TOKEN:
                    allowance = standing.allowance()
                    if pause := allowance.note(response.headers, self._wall_clock()):
                        self.limits.pause(pause)
                    if response.status not in _NO_ANSWER:
                        allowance.told(request.kind)
        note_answer(window, request, response.status, place=place)
        return response

    async def _attempt(self, call: Call, use: Callable[[Answered, int], Awaitable[_T]], attempt: int) -> _T:
        """Send ``call``, with a renewed token where the first one is refused: once for each origin."""
        self._denials.check(call)
        disclosure = await self._origins.disclose(call)
        while True:
            async with await self._follow(call, disclosure) as answered:
                response = answered.response
                url = response.url
                if response.status in call.expected:
                    disclosure.accepted(url)
                    self._denials.clear(call)
                    return await use(answered, attempt)
                error = await self._failure(call, response)
                challenges = parse_challenges(response.headers.getall("WWW-Authenticate", ()))
            # The permit has been given back: a token may take a while.
            has_expired = says_expired(error)
            status = 401 if has_expired else response.status
            is_worth_more = has_expired or asks_for_token(error, challenges)
            if not is_worth_more or not await disclosure.renew(url, challenges, status):
                raise await self._explained(error, call, challenges, is_own=disclosure.is_own(url))
            if not call.is_replayable:
                raise error

    async def _follow(self, call: Call, disclosure: Disclosure) -> Answered:
        """Send ``call`` and follow its redirects; return the last answer."""
        url = call.url
        has_left = False
        turn: AbstractAsyncContextManager[None]
        if call.kind is events.RequestKind.TOKEN:
            window = self._token_window
            turn = window.permit()
        else:
            window = self.limits.of_blob(call.blob_size) if call.is_data else self.limits.control
            turn = self.limits.request(data=call.is_data, kind=call.kind)
        await turn.__aenter__()
        async with Answered(turn) as held:
            for _ in range(_MOST_REDIRECTS + 1):
                has_left = has_left or not disclosure.is_own(url)
                headers = dict(call.headers)
                if authorization := await disclosure.header(url, has_left=has_left):
                    headers["Authorization"] = authorization
                response = await self._hop(call, url, headers, window, held)
                self._heed_warnings(response)
                if not _is_redirect(call, response):
                    return held.handed_over()
                url = self.resolve(response.url, response.headers["Location"])
                await held.give_up()
        raise ProtocolViolation(
            f"{self.host} redirects {call.asked} over {_MOST_REDIRECTS} times",
            registry=self.host,
            method=call.method,
            url=redact(url),
        )

    async def _failure(self, call: Call, response: HttpResponse) -> SyncerError:
        from syncer.registry.failures import ERROR_BODY_LIMIT, Answer, failure  # noqa: PLC0415 - only when one comes

        origin = Origin.of(response.url)
        answer = Answer(
            # A storage that a registry redirects to speaks for itself.
            registry=self.host if origin == self.home else str(origin),
            method=call.method,
            url=redact(response.url),
            asked=call.asked,
            status=response.status,
            headers=response.headers,
            body=b"",
            wanted=call.expected,
            now=self._wall_clock(),
            repository=f"{self.host}/{call.scopes[0].name}" if call.names_repository else "",
        )
        if call.method == "HEAD":
            return failure(answer)
        try:
            return failure(replace(answer, body=await response.read_start(ERROR_BODY_LIMIT)))
        except anyio.get_cancelled_exc_class():
            # Who was to be told is gone, and the wish to be left alone is meant for all.
            self._leave_alone(failure(answer), call)
            raise

    def _leave_alone(self, error: SyncerError, call: Call) -> None:
        """Take note of what ``error`` says of a pause, for the others."""
        if self._deferred(error, call) is None:
            decision = self.standing.policy.decide(error, 1, self._random)
            if decision.reaction is Reaction.PAUSE_HOST:
                self.limits.pause(decision.delay, self._place_of(error))

    async def _explained(
        self, error: SyncerError, call: Call, challenges: list[Challenge], *, is_own: bool
    ) -> SyncerError:
        """Return ``error`` with what the challenge adds to it, and take note of a right that is missing."""
        if isinstance(error, Unauthorized | Denied) and (said := described(challenges)):
            error.message = f"{error.message} ({said})"
            error.args = (error.message,)
        if isinstance(error, Unauthorized | Denied) and is_own and call.authorization is None:
            error.hint = await self._tokens.refusal_hint(call.scopes)
            self._denials.note(call, error)
        return error

    async def _challenges_of_ping(self) -> list[Challenge]:
        """Ask ``/v2/`` for the challenge that a 401 did not bring (gcr.io), once."""
        async with self._ping_lock:
            if self._ping_challenges is not None:
                return self._ping_challenges
            call = Call(
                kind=events.RequestKind.PING,
                method="GET",
                url=self.url("/v2/"),
                asked=self.host,
                # Nothing but an answer: who denies it, or has no such page, has no challenge either.
                expected=frozenset({200, 401, 403, 404, 405}),
                authorization="",
                tries=2,
            )
            try:
                reply = await self.exchange(call)
            except RegistryError:
                # The 401 that led here says more than a failed ping does.
                return []
            self._ping_challenges = parse_challenges(reply.headers.getall("WWW-Authenticate", ()))
            return self._ping_challenges

    async def _fetch_token(self, request: TokenRequest) -> Reply:
        form = request.form
        return await self.exchange(
            Call(
                kind=events.RequestKind.TOKEN,
                method=request.method.value,
                url=request.url,
                asked=f"a token for {self.host}",
                headers={"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {},
                body=form,
                authorization=request.authorization,
                is_redirectable=False,
            )
        )

    def _heed_warnings(self, response: HttpResponse) -> None:
        """Pass a registry's warnings on, each once."""
        for header in response.headers.getall("Warning", ()):
            text = header[:_LONGEST_WARNING]
            if text.startswith("299 ") and text not in self._warnings and len(self._warnings) < _MOST_WARNINGS:
                from syncer.registry.failures import without_credentials  # noqa: PLC0415 - most say nothing

                self._warnings.add(text)
                self.notice(without_credentials(text.partition('"')[2].rstrip('"') or text))


def _give_up(error: SyncerError, attempt: int) -> None:
    """Note on ``error`` how often it was tried."""
    if isinstance(error, RegistryError):
        error.attempts = attempt
    if attempt > 1:
        error.hint = f"It was tried {attempt} times. {error.hint}".strip()


def _is_redirect(call: Call, response: HttpResponse) -> bool:
    """Tell whether to go on to the Location: always to read, to write only where the body goes along unchanged."""
    if response.status not in _REDIRECTS or not call.is_redirectable or "Location" not in response.headers:
        return False
    return call.method in ("GET", "HEAD") or (response.status in (307, 308) and call.is_replayable)


def _creation(client: RegistryClient, settings: CreationSettings, credentials: CredentialStore) -> Creation:
    from syncer.registry.creation import Creation  # noqa: PLC0415 - most registries need no such hook

    return Creation(client, settings, credentials)
