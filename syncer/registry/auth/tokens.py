"""The Authorization of requests: fetches tokens, one at a time for each set of scopes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from syncer.errors import NotFound, StatusError, SyncerError, Unauthorized
from syncer.registry.auth.denials import echo
from syncer.registry.auth.memory import MOST_SCOPES, AuthMemory, Demand, is_anonymous, widened
from syncer.registry.auth.token_service import basic_header, parse_token
from syncer.registry.credentials.values import Basic, Credential, RegistryToken
from syncer.registry.network.urls import Origin, absolute

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from syncer.registry.auth.challenge import Challenge
    from syncer.registry.auth.scopes import Scope
    from syncer.registry.auth.token_service import TokenRequest
    from syncer.registry.call import Reply
    from syncer.registry.credentials.values import CredentialStore

#: Seconds during which a refusal of the token service is taken as its answer, without asking again.
_REFUSAL_HOLDS = 30.0
#: Seconds that any other failure holds, after it was tried as often as it is worth.
_FAILURE_HOLDS = 5.0
_MOST_FAILURES = 4096
_REFUSALS = frozenset({400, 401, 403})
#: A set of scopes that a token service will not take, or not take together.
_TOO_BROAD = frozenset({400, 403, 414, 431})


@dataclass(slots=True, eq=False)
class _Flight:
    """One token on its way, for all who wait for it; neither done nor failed when its leader was cancelled."""

    landed: anyio.Event = field(default_factory=anyio.Event)
    is_done: bool = False
    failure: SyncerError | None = None


class Tokens:
    """What the requests to one origin carry, and where it comes from.

    Attributes:
        fetched: how many tokens there have been.

    Args:
        registry: the host that credentials are looked up for.
        home: the origin itself.
        credentials: who knows them.
        fetch: asks a token service.
        clock: monotonic, in seconds.
        most_scopes: how many scopes the token service takes in one request.
        learned: what :meth:`learned` gave in an earlier run.
    """

    def __init__(
        self,
        *,
        registry: str,
        home: Origin,
        credentials: CredentialStore,
        fetch: Callable[[TokenRequest], Awaitable[Reply]],
        clock: Callable[[], float],
        most_scopes: int = MOST_SCOPES,
        learned: Iterable[Demand] = (),
    ) -> None:
        self._registry = registry
        self._credentials = credentials
        self._fetch = fetch
        self._clock = clock
        self._memory = AuthMemory(home, most_scopes=most_scopes, learned=learned)
        self.fetched = 0
        self._flights: dict[TokenRequest, _Flight] = {}
        self._failures: dict[TokenRequest, tuple[float, SyncerError]] = {}
        #: Tokens that were fetched anew and refused no less, and until when another is not worth asking for.
        self._useless: dict[str, float] = {}

    def now(self) -> float:
        """Return the time by which tokens have theirs, in seconds."""
        return self._clock()

    def learned(self) -> tuple[Demand, ...]:
        """Return what the registry asks for, without any secret, for a later run to start with."""
        return self._memory.learned()

    async def credential(self, scopes: tuple[Scope, ...]) -> Credential:
        """Return the credential of the repository that the first scope names."""
        return await self._credentials.get(self._registry, _repository(scopes))

    async def header(self, scopes: tuple[Scope, ...]) -> str:
        """Return the Authorization header for ``scopes``; empty when none is known to be wanted.

        Raises:
            Unauthorized: when the token service refuses the credentials.
            RegistryError: when it cannot be asked.
            CredentialsError: when the credentials cannot be read.
        """
        credential = await self.credential(scopes)
        is_renewed = False
        while True:
            attachment = self._memory.attach(scopes, credential, self._clock())
            if attachment.fetch is None:
                return attachment.header
            try:
                await self._share(attachment.fetch)
            except SyncerError as error:
                if self._memory.forget_learned(scopes):
                    # The registry has moved to another token service since, or to none: it will say so itself.
                    continue
                if not isinstance(error, Unauthorized):
                    raise
                fresh = None if is_renewed else await self._fresh(scopes, credential)
                if fresh is None:
                    raise
                credential, is_renewed = fresh, True

    async def renew(
        self, scopes: tuple[Scope, ...], used: str, challenges: Iterable[Challenge], *, status: int = 401
    ) -> str | None:
        """Return another header after a refusal of a request with ``used``; None when there is nothing else to show.

        Raises:
            RegistryError, CredentialsError: as :meth:`header`.
        """
        challenges = tuple(challenges)
        if status == 401 and self._useless.get(used, 0.0) > self._clock():  # noqa: PLR2004 - Unauthorized
            return None
        if self._memory.learn(scopes, challenges, used, status=status):
            header = await self.header(widened(scopes, challenges))
            if header and header != used:
                return header
        # What a token service gave out came from credentials that it took; the others may have had their time.
        credential = await self.credential(scopes)
        shown = _shown(credential)
        if not shown or status != 401:  # noqa: PLR2004 - Unauthorized
            return None
        if shown != used:
            return shown if used and _is_same_kind(shown, used) else None
        fresh = await self._fresh(scopes, credential)
        return _shown(fresh) or None if fresh is not None else None

    def refused(
        self, scopes: tuple[Scope, ...], used: str, challenges: Iterable[Challenge], *, status: int = 401
    ) -> None:
        """Take note that a request was refused for good, for which nothing else will be shown."""
        if len(scopes) > 1:
            self._memory.learn(scopes, challenges, used, status=status)
        elif status == 401 and used.startswith("Bearer "):  # noqa: PLR2004 - Unauthorized
            now = self._clock()
            self._useless = {token: until for token, until in self._useless.items() if until > now}
            self._useless[used] = now + _REFUSAL_HOLDS

    def accepted(self, scopes: tuple[Scope, ...], used: str) -> None:
        """Take note of a request with ``used`` that was answered."""
        if used:
            self._memory.accepted(scopes, used)

    def may_be_taken_back(self, used: str) -> bool:
        """Tell whether a token that is refused was good before: it was taken, or somebody else has dropped it since."""
        return self._memory.has_proved(used) or self._memory.has_dropped(used)

    async def refusal_hint(self, scopes: tuple[Scope, ...]) -> str:
        """Say what to do about a refusal, by what was shown."""
        if is_anonymous(await self.credential(scopes)):
            return (
                f"No credentials are known for {self._registry}; run 'syncer login {self._registry}', "
                "or set 'credentials' in the spec. A repository that does not exist is refused in the same way."
            )
        return f"The credentials for {self._registry} were sent and not accepted; check them and their rights."

    async def _fresh(self, scopes: tuple[Scope, ...], refused: Credential) -> Credential | None:
        """Return another credential in place of one that was refused; None when there is no other."""
        if is_anonymous(refused):
            return None
        fresh = await self._credentials.renew(self._registry, _repository(scopes), refused)
        return None if fresh == refused or is_anonymous(fresh) else fresh

    async def _share(self, request: TokenRequest) -> None:
        """Fetch the token of ``request``, or share what comes of whoever is fetching it."""
        while (flight := self._flights.get(request)) is not None:
            await flight.landed.wait()
            if flight.failure is not None:
                raise echo(flight.failure)
            if flight.is_done:
                return
        until, failure = self._failures.get(request, (0.0, None))
        if failure is not None and until > self._clock():
            raise echo(failure)
        flight = self._flights[request] = _Flight()
        try:
            await self._obtain(request)
            flight.is_done = True
            self._failures.pop(request, None)
        except SyncerError as error:
            # A copy, from before it is marked with the side of whoever asked first.
            flight.failure = echo(error)
            holds = _REFUSAL_HOLDS if isinstance(error, Unauthorized) else _FAILURE_HOLDS
            if len(self._failures) >= _MOST_FAILURES:
                self._failures.clear()
            self._failures[request] = (self._clock() + holds, flight.failure)
            raise
        finally:
            del self._flights[request]
            flight.landed.set()

    async def _obtain(self, request: TokenRequest) -> None:
        """Ask for ``request`` as it is, then in the other way, then for its first scope alone."""
        narrowed = [replace(request, scopes=request.scopes[:1])] if len(request.scopes) > 1 else []
        broad_status = 0
        for asked in (request, *narrowed):
            try:
                await self._ask_both_ways(asked)
            except (StatusError, NotFound) as error:
                if asked is request and narrowed and _status(error) in _TOO_BROAD:
                    broad_status = _status(error)
                    continue
                raise self._explained(error, request) from None
            if broad_status:
                self._memory.refused_scopes(request, broad_status)
            return

    async def _ask_both_ways(self, request: TokenRequest) -> None:
        sent = self._memory.sent(request)
        try:
            reply = await self._fetch(sent)
        except (StatusError, NotFound) as error:
            if _status(error) in _REFUSALS and self._memory.forget_rotation(request):
                await self._ask_both_ways(request)
                return
            turned = sent.turned(_status(error))
            if turned is None:
                raise
            try:
                reply = await self._fetch(turned)
            except (StatusError, NotFound):
                # The way that is usual tells more about the credentials.
                raise error from None
            sent = turned
        now = self._clock()
        token = parse_token(sent, reply.body, now, reply.headers.get("Date", ""))
        self._memory.works(sent)
        self._memory.keep(replace(token, request=request), now)
        self.fetched += 1

    def _explained(self, error: StatusError | NotFound, request: TokenRequest) -> StatusError:
        realm = Origin.of(absolute(request.realm))
        status = _status(error)
        if isinstance(error, StatusError) and status not in _REFUSALS:
            return error
        if isinstance(error, NotFound):
            # Not found is the service, and not the image that somebody wanted to read.
            return StatusError(
                f"there is no token service at {realm} where {self._registry} sends to",
                status=status,
                codes=error.codes,
                registry=self._registry,
                hint="Correct the realm in the registry's configuration.",
            )
        if is_anonymous(request.credential):
            message = f"the token service {realm} gives no token for {self._registry} without credentials"
            hint = f"Run 'syncer login {self._registry}', or set 'credentials' in the spec."
        else:
            message = f"the token service {realm} refused the credentials for {self._registry}"
            hint = "Check the user name, the password and what they may do."
        return Unauthorized(
            message,
            status=status,
            codes=error.codes,
            registry=self._registry,
            method=error.method,
            url=error.url,
            hint=hint,
        )


def _status(error: StatusError | NotFound) -> int:
    return error.status if isinstance(error, StatusError) else 404


def _repository(scopes: tuple[Scope, ...]) -> str:
    return scopes[0].name if scopes and scopes[0].kind == "repository" else ""


def _shown(credential: Credential) -> str:
    """Return the header that shows the credential itself; empty where a token service comes between."""
    match credential:
        case Basic():
            return basic_header(credential)
        case RegistryToken(token=token):
            return f"Bearer {token}"
        case _:
            return ""


def _is_same_kind(one: str, other: str) -> bool:
    return one.partition(" ")[0] == other.partition(" ")[0]
