"""The Authorization of requests: fetches tokens, one at a time for each set of scopes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from syncer.errors import StatusError, Unauthorized
from syncer.registry.auth import AuthMemory, is_anonymous, parse_token
from syncer.registry.urls import Origin, absolute

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from syncer.registry.auth import Scope, Token, TokenRequest
    from syncer.registry.challenge import Challenge
    from syncer.registry.credentials.values import Credential, CredentialStore

#: Seconds during which a refusal of the token service is taken as its answer, without asking again.
_REFUSAL_HOLDS = 30.0
#: A set of scopes that a token service will not take, or not take together.
_TOO_BROAD = frozenset({400, 403, 414, 431})


@dataclass(slots=True)
class _Flight:
    """Those who wait for one token."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    waiting: int = 0


class Tokens:
    """What one registry's requests carry, and where it comes from."""

    def __init__(
        self,
        *,
        registry: str,
        home: Origin,
        credentials: CredentialStore,
        fetch: Callable[[TokenRequest], Awaitable[bytes]],
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._credentials = credentials
        self._fetch = fetch
        self._clock = clock
        self._memory = AuthMemory(home)
        self._flights: dict[TokenRequest, _Flight] = {}
        self._refusals: dict[TokenRequest, tuple[float, StatusError]] = {}

    async def credential(self, scopes: tuple[Scope, ...]) -> Credential:
        """Return the credential of the repository that the first scope names."""
        name = scopes[0].name if scopes and scopes[0].kind == "repository" else ""
        return await self._credentials.get(self._registry, name)

    async def header(self, scopes: tuple[Scope, ...]) -> str:
        """Return the Authorization header for ``scopes``; empty when none is known to be wanted.

        Raises:
            Unauthorized: when the token service refuses the credentials.
            RegistryError: when it cannot be asked.
            CredentialsError: when the credentials cannot be read.
        """
        credential = await self.credential(scopes)
        attachment = self._memory.attach(scopes, credential, self._clock())
        while attachment.fetch is not None:
            await self._share(attachment.fetch)
            attachment = self._memory.attach(scopes, credential, self._clock())
        return attachment.header

    async def renew(self, scopes: tuple[Scope, ...], used: str, challenges: Iterable[Challenge]) -> str | None:
        """Return another header after a 401 to a request with ``used``; None when there is nothing else to show.

        Raises:
            RegistryError, CredentialsError: as :meth:`header`.
        """
        if not self._memory.learn(scopes, challenges, used):
            return None
        header = await self.header(scopes)
        return header if header and header != used else None

    async def refusal_hint(self, scopes: tuple[Scope, ...]) -> str:
        """Say what to do about a refusal, by what was shown."""
        if is_anonymous(await self.credential(scopes)):
            return (
                f"No credentials are known for {self._registry}; run 'syncer login {self._registry}', "
                "or set 'credentials' in the spec. A repository that does not exist is refused in the same way."
            )
        return f"The credentials for {self._registry} were sent and not accepted; check them and their rights."

    async def _share(self, request: TokenRequest) -> None:
        """Fetch the token of ``request``, or wait for whoever is fetching it."""
        flight = self._flights.setdefault(request, _Flight())
        flight.waiting += 1
        try:
            async with flight.lock:
                now = self._clock()
                until, refusal = self._refusals.get(request, (0.0, None))
                if refusal is not None and until > now:
                    raise self._unauthorized(refusal, request)
                if not self._memory.holds(request, now):
                    self._memory.keep(await self._obtain(request), self._clock())
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._flights.pop(request, None)

    async def _obtain(self, request: TokenRequest) -> Token:
        asked = request
        while True:
            try:
                body = await self._fetch(asked)
            except StatusError as error:
                narrowed = asked.narrowed() if error.status in _TOO_BROAD else None
                if narrowed is not None:
                    asked = narrowed
                    continue
                if error.status in (400, 401, 403):
                    self._refusals[request] = (self._clock() + _REFUSAL_HOLDS, error)
                    raise self._unauthorized(error, request) from None
                raise
            # Kept under the request as it was made: a token for less than was asked is still the answer to it.
            return parse_token(request, body, self._clock())

    def _unauthorized(self, error: StatusError, request: TokenRequest) -> Unauthorized:
        realm = Origin.of(absolute(request.realm))
        if is_anonymous(request.credential):
            message = f"the token service {realm} gives no token for {self._registry} without credentials"
            hint = f"Run 'syncer login {self._registry}', or set 'credentials' in the spec."
        else:
            message = f"the token service {realm} refused the credentials for {self._registry}"
            hint = "Check the user name, the password and what they may do."
        return Unauthorized(
            message,
            status=error.status,
            codes=error.codes,
            registry=self._registry,
            method=error.method,
            url=error.url,
            hint=hint,
        )
