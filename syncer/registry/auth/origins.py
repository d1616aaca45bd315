"""Who is shown what: credentials belong to an origin (RFC 6454), and no other sees them.

A registry may redirect reading to another one that wants a token of its own (registry.k8s.io does):
it is answered with that origin's challenge and with what is known for that host, usually nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from syncer.events import RequestKind
from syncer.registry.auth.scopes import scopes_of_path
from syncer.registry.credentials.values import Anonymous
from syncer.registry.network.addresses import AddressKind, is_trusted, kind_of, kind_of_name, literal
from syncer.registry.network.urls import Origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from yarl import URL

    from syncer.registry.auth.challenge import Challenge
    from syncer.registry.auth.scopes import Scope
    from syncer.registry.auth.tokens import Tokens
    from syncer.registry.call import Call
    from syncer.registry.credentials.values import Credential

#: A registry that leads to more other registries than this has their tokens fetched anew.
_MOST_ORIGINS = 64
_READING = frozenset({"GET", "HEAD"})
#: Seconds from choosing a header to sending it after which it is chosen anew; a token that is chosen holds for ten.
_LONG = 5.0


def may_see_credentials(origin: Origin, trusted_hosts: Iterable[str]) -> bool:
    """Tell whether another origin may be shown what is kept for its host: one that is trusted, over TLS.

    A registry could otherwise redirect to any other one that we have credentials for, and have us fetch
    what is not meant for the target. And whoever sits on the way to a registry without TLS could answer
    in place of another without TLS, unless that is this machine.
    """
    if not is_trusted(origin.host, origin.port, trusted_hosts):
        return False
    try:
        address = literal(origin.host)
    except ValueError:
        return False
    kind = kind_of_name(origin.host) if address is None else kind_of(address)
    return origin.is_secure or kind is AddressKind.LOOPBACK


class Nobody:
    """Knows no credential; a store for origins that may see none."""

    async def get(self, registry: str, repository: str) -> Credential:
        """Return nothing."""
        del registry, repository
        return Anonymous()

    async def renew(self, registry: str, repository: str, refused: Credential) -> Credential:
        """Return nothing."""
        del refused
        return await self.get(registry, repository)


class OriginTokens:
    """The tokens of a registry, and of the other registries that it redirects to.

    Args:
        home: the registry's origin.
        own: its tokens.
        elsewhere: makes the tokens of another origin, from the host that its credentials are kept under.
        ping: asks the registry for the challenge that a refusal did not bring.
    """

    def __init__(
        self,
        home: Origin,
        own: Tokens,
        elsewhere: Callable[[Origin, str], Tokens],
        ping: Callable[[], Awaitable[Sequence[Challenge]]],
    ) -> None:
        self.home = home
        self.own = own
        self.ping = ping
        self._make = elsewhere
        self._elsewhere: dict[Origin, Tokens] = {}

    async def disclose(self, call: Call) -> Disclosure:
        """Return what ``call`` is to show.

        Raises:
            RegistryError: when the token service refuses, or cannot be asked.
            CredentialsError: when the credentials cannot be read.
        """
        header = call.authorization
        return Disclosure(self, call, await self.own.header(call.scopes) if header is None else header)

    def known(self, origin: Origin) -> Tokens | None:
        """Return the tokens of another origin that has asked for one."""
        return self._elsewhere.get(origin)

    def met(self, origin: Origin) -> Tokens:
        """Return the tokens of another origin that asks for one now."""
        if origin not in self._elsewhere:
            if len(self._elsewhere) >= _MOST_ORIGINS:
                self._elsewhere.clear()
            self._elsewhere[origin] = self._make(origin, str(origin).partition("://")[2])
        return self._elsewhere[origin]


class Disclosure:
    """What one call shows of our credentials, origin by origin."""

    def __init__(self, origins: OriginTokens, call: Call, header: str) -> None:
        self._origins = origins
        self._call = call
        # A token service is shown what it needs by the call itself.
        self._own = Origin.of(call.url) if call.kind is RequestKind.TOKEN else origins.home
        self._shown = {self._own: header}
        self._attached_at = origins.own.now()
        #: When what is shown was renewed, until that has been looked at once: then infinity.
        self._renewed: dict[Origin, float] = {}
        self._shown_older: set[Origin] = set()

    def is_own(self, url: URL) -> bool:
        """Tell whether ``url`` is of the origin that the call is for."""
        return Origin.of(url) == self._own

    @property
    def shown(self) -> str:
        """The Authorization header for the registry itself; empty for none."""
        return self._shown.get(self._own, "")

    async def header(self, url: URL, *, has_left: bool) -> str:
        """Return the Authorization header for ``url``; empty for none.

        What has once been elsewhere (``has_left``) is no longer ours, wherever it comes to.
        """
        if not has_left:
            own = self._origins.own
            if own.now() - self._attached_at > _LONG and self._call.authorization is None:
                # In a pause, or a queue, what was good may have had its time.
                self._attached_at = own.now()
                self._shown[self._own] = await own.header(self._call.scopes)
            return self.shown
        origin = Origin.of(url)
        if not self._may_speak_to(origin):
            return ""
        if origin not in self._shown:
            tokens = self._origins.known(origin)
            self._shown[origin] = await tokens.header(scopes_of_path(url.raw_path)) if tokens else ""
        return self._shown[origin]

    async def renew(self, url: URL, challenges: Sequence[Challenge], status: int) -> bool:
        """Find something else to show to ``url``, which refused what it was shown; False when there is nothing.

        Raises:
            RegistryError, CredentialsError: as :meth:`OriginTokens.disclose`.
        """
        origin = Origin.of(url)
        if self._call.authorization is not None:
            return False
        if origin in self._renewed and not self._may_be_taken_back(origin):
            if origin == self._own:
                self._origins.own.refused(self._call.scopes, self.shown, challenges, status=status)
            return False
        if origin == self._own:
            tokens, scopes = self._origins.own, self._call.scopes
            challenges = challenges or await self._origins.ping()
        elif challenges and self._may_speak_to(origin):
            tokens, scopes = self._origins.met(origin), self._scopes(url)
        else:
            self._renewed[origin] = math.inf
            return False
        fetched = tokens.fetched
        renewed = await tokens.renew(scopes, self._shown.get(origin, ""), challenges, status=status)
        if tokens.fetched > fetched or origin in self._shown_older:
            self._renewed.setdefault(origin, self._origins.own.now())
        # What was known before may have been taken back together with what was refused: then a new one decides.
        self._shown_older.add(origin)
        if renewed is None:
            return False
        self._shown[origin] = renewed
        return True

    def accepted(self, url: URL) -> None:
        """Take note that ``url`` gave an answer."""
        origin = Origin.of(url)
        if origin == self._own:
            self._origins.own.accepted(self._call.scopes, self.shown)
        elif tokens := self._origins.known(origin):
            tokens.accepted(self._scopes(url), self._shown.get(origin, ""))

    def _may_be_taken_back(self, origin: Origin) -> bool:
        """Tell, once, whether what was renewed may have been good until just before it was shown.

        A line, or a pause, may lie between a token and the request that it is for.
        """
        since, self._renewed[origin] = self._renewed[origin], math.inf
        if since == math.inf:
            return False
        tokens = self._origins.own if origin == self._own else self._origins.known(origin)
        was_good = tokens is not None and tokens.may_be_taken_back(self._shown.get(origin, ""))
        return was_good or self._origins.own.now() - since > _LONG

    def _may_speak_to(self, origin: Origin) -> bool:
        """Tell whether another origin may be answered: one that the registry redirects reading to."""
        call = self._call
        return (
            origin != self._own
            and call.method in _READING
            and call.authorization is None
            and Origin.of(call.url) == self._own
        )

    def _scopes(self, url: URL) -> tuple[Scope, ...]:
        return scopes_of_path(url.raw_path)
