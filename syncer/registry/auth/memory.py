"""What a registry has asked for so far, and the tokens that are good; no I/O.

The token protocol is docker's (distribution, docs/spec/auth/token and oauth): a 401 names a realm
and a service, the realm gives a token for a set of scopes, and the token goes with the request.
Nothing is asked in advance: the first useful request meets the challenge, and from then on every
request to that registry carries a token from the start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from syncer.errors import ProtocolViolation
from syncer.registry.auth.scopes import Scope, are_covered, merge_scopes, parse_scopes
from syncer.registry.auth.token_service import (
    Token,
    TokenRequest,
    Way,
    basic_header,
)
from syncer.registry.credentials.values import Anonymous, Basic, Credential, IdentityToken, RegistryToken
from syncer.registry.network.urls import Origin, absolute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from syncer.registry.auth.challenge import Challenge

_MOST_REMEMBERED = 4096
#: Seconds between two looks at all tokens, for those that have ended: there may be one for each of thousands.
_SWEEP = 30.0
#: Scopes of one token: URLs and headers have bounds (ACR refuses tokens over 6 kB).
MOST_SCOPES = 10
#: The answers of a token service to a request that is too long, rather than not allowed.
_TOO_LONG = frozenset({414, 431})


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """How a registry wants to be shown who asks, for the repositories below ``prefix`` (empty: for all).

    Without a realm it is Basic. There is nothing secret in it: it may be kept from one run to the next.
    """

    prefix: str = ""
    realm: str = ""
    service: str = ""

    @property
    def is_bearer(self) -> bool:
        """True when a token of a realm is wanted."""
        return bool(self.realm)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Attachment:
    """What a request is to carry: an Authorization header, perhaps after a token was fetched."""

    header: str = field(default="", repr=False)
    fetch: TokenRequest | None = None


_NOTHING = Attachment()


class AuthMemory:
    """What one registry has asked for so far, and the tokens that are good.

    Args:
        home: the registry's origin; a realm without TLS is not believed of one with TLS.
        most_scopes: how many scopes its token service takes in one request.
        learned: what it asked for in an earlier run; what is not valid any more is left out.
    """

    def __init__(self, home: Origin, *, most_scopes: int = MOST_SCOPES, learned: Iterable[Demand] = ()) -> None:
        self._home = home
        self._most = most_scopes
        # By repository, and by each part of its path up to the empty one: the latest that was met there.
        self._demands: dict[str, Demand] = {}
        # The resources that a registry named besides our own first one, by that.
        self._named: dict[tuple[str, str], tuple[Scope, ...]] = {}
        # By the resource of the first scope, so that a lookup sees only tokens that may fit.
        self._tokens: dict[tuple[str, str], list[Token]] = {}
        self._proven: set[str] = set()
        # Where blobs were mounted from, by target: one token does for all of them.
        self._sources: dict[tuple[str, str], dict[tuple[str, str], Scope]] = {}
        self._withheld: set[tuple[tuple[str, str], tuple[str, str]]] = set()
        self._suspects: set[tuple[str, str]] = set()
        self._ways: dict[tuple[str, type[Credential]], Way] = {}
        self._rotations: dict[IdentityToken, IdentityToken] = {}
        self._doubtful: set[str] = set()
        self._sweep_at = 0.0
        for demand in learned:
            if self._is_safe(demand):
                self._demands[demand.prefix] = demand
                self._doubtful.add(demand.prefix)

    def learned(self) -> tuple[Demand, ...]:
        """Return what a later run may start with: each prefix whose demand is not that of the prefix above it."""
        return tuple(
            replace(demand, prefix=prefix)
            for prefix, demand in sorted(self._demands.items())
            if not prefix or not _is_same(demand, self._nearest(_above(prefix)))
        )

    def forget_learned(self, scopes: Sequence[Scope]) -> bool:
        """Forget what an earlier run learned for ``scopes``, unless this one has met it; tell whether there was any."""
        prefix = next((prefix for prefix in _prefixes(_place(scopes)) if prefix in self._demands), None)
        if prefix not in self._doubtful or prefix is None:
            return False
        self._doubtful.discard(prefix)
        del self._demands[prefix]
        return True

    def attach(self, scopes: Sequence[Scope], credential: Credential, now: float) -> Attachment:
        """Decide what a request for ``scopes`` carries."""
        if isinstance(credential, RegistryToken):
            return Attachment(header=f"Bearer {credential.token}")
        # Most registries that are read ask for nothing, and every request comes by here.
        demand = self._nearest(_place(scopes)) if self._demands else None
        if demand is None:
            return _NOTHING
        if not demand.is_bearer:
            return Attachment(header=basic_header(credential) if isinstance(credential, Basic) else "")
        wanted = self._wanted(scopes)
        request = TokenRequest(realm=demand.realm, service=demand.service, scopes=wanted, credential=credential)
        token = self._find(request, now)
        if token:
            return Attachment(header=token.header)
        return Attachment(fetch=replace(request, scopes=self._folded(wanted)))

    def learn(self, scopes: Sequence[Scope], challenges: Iterable[Challenge], used: str, *, status: int = 401) -> bool:
        """Take note of a refusal (401 or 403) of a request that carried ``used``; tell whether asking again may help.

        Raises:
            ProtocolViolation: when the realm is not a URL that may be given credentials.
        """
        by_scheme = {challenge.scheme: challenge for challenge in reversed(list(challenges))}
        bearer = by_scheme.get("bearer")
        if bearer is not None and bearer.parameters.get("realm"):
            return self._learn_bearer(scopes, bearer, used, status)
        self._drop(used)
        known = self._nearest(_place(scopes))
        if known is not None and known.is_bearer:
            # Harbor answers "Basic" when a request carried a token that has expired.
            return bool(used)
        if "basic" in by_scheme:
            self._remember(_place(scopes), Demand())
            return not used.startswith("Basic ")
        return False

    def accepted(self, scopes: Sequence[Scope], used: str) -> None:
        """Take note of a request that was answered: the token it carried is good for something."""
        self._proven.add(used)
        if self._suspects and _resource(scopes) in self._suspects:
            # Alone the scope does what it did not do together with others (GitLab heeds one scope only).
            self._suspects.clear()
            self._most = 1

    def has_proved(self, used: str) -> bool:
        """Tell whether a request with ``used`` was answered."""
        return used in self._proven

    def has_dropped(self, used: str) -> bool:
        """Tell whether the token ``used`` would not be shown again."""
        return not any(token.header == used for tokens in self._tokens.values() for token in tokens)

    def refused_scopes(self, request: TokenRequest, status: int) -> None:
        """Take note that the token service took the first scope alone where it had refused several with ``status``."""
        if status in _TOO_LONG:
            self._most = max(1, len(request.scopes) // 2)
        elif status == 403:  # noqa: PLR2004 - Forbidden: it is about these scopes, and not about their number
            self._withhold(request.scopes[0], request.scopes[1:])
        else:
            self._most = 1

    def sent(self, request: TokenRequest) -> TokenRequest:
        """Return ``request`` as it goes out: in the way that works there, with the refresh token of today."""
        credential = request.credential
        if isinstance(credential, IdentityToken):
            credential = self._rotations.get(credential, credential)
        return replace(request, way=self._ways.get((request.realm, type(credential))), credential=credential)

    def works(self, sent: TokenRequest) -> None:
        """Take note that the token service answered ``sent``: it is asked in this way from now on."""
        if sent.way is not None:
            self._ways[sent.realm, type(sent.credential)] = sent.way

    def forget_rotation(self, request: TokenRequest) -> bool:
        """Go back to the identity token that was configured; tell whether another was in its place."""
        credential = request.credential
        return isinstance(credential, IdentityToken) and self._rotations.pop(credential, None) is not None

    def keep(self, token: Token, now: float) -> None:
        """Remember a token that was fetched."""
        request = token.request
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP
            for key in [key for key, held in self._tokens.items() if all(t.refresh_at <= now for t in held)]:
                self._forget(self._tokens.pop(key))
        held = self._tokens.get(_resource(request.scopes), [])
        self._forget([t for t in held if t.refresh_at <= now])
        self._tokens[_resource(request.scopes)] = [*(t for t in held if t.refresh_at > now), token]
        if token.rotation and isinstance(request.credential, IdentityToken):
            self._rotations[request.credential] = replace(request.credential, token=token.rotation)

    def holds(self, request: TokenRequest, now: float) -> bool:
        """Tell whether there is a token that answers ``request``."""
        return self._find(request, now) is not None

    def _learn_bearer(self, scopes: Sequence[Scope], bearer: Challenge, used: str, status: int) -> bool:
        named = parse_scopes(bearer.parameters.get("scope", ""))
        demand = Demand(realm=bearer.parameters["realm"], service=bearer.parameters.get("service", ""))
        self._check(demand)
        self._remember(_place(scopes), demand)
        # What we ask for anyway is not worth remembering; what is left is the registry's own naming.
        own = {scope.resource for scope in scopes}
        if others := [scope for scope in named if scope.resource not in own]:
            self._note_named(_resource(scopes), others)
        token = self._held(used)
        if token is None or not _is_same(demand, Demand(realm=token.request.realm, service=token.request.service)):
            # Nothing was shown, or what somebody has replaced meanwhile.
            self._drop(used)
            return True
        asked = token.request.scopes
        if not are_covered(named, asked):
            # The token is good for what it was fetched for; this takes another, if one can be had.
            return are_covered(named, self._wanted(widened(scopes, [bearer])))
        error = bearer.parameters.get("error")
        is_scant = status == 403 or error == "insufficient_scope"  # noqa: PLR2004 - Forbidden
        is_doubtful = len(asked) > 1 and used not in self._proven and error != "invalid_token"
        if len(scopes) > 1 and (is_scant or is_doubtful):
            # It is not good for the first together with the others; for the first alone it may be.
            self._withhold(scopes[0], scopes[1:])
            return False
        if is_doubtful:
            # Nor for the first: the service may heed the last scope only (GitLab).
            self._suspects.add(asked[0].resource)
            self._withhold(asked[0], asked[1:])
        elif is_scant:
            return False
        else:
            self._suspects.discard(asked[0].resource if asked else ("", ""))
            # Its time is over, or it was taken back: those that were fetched before it are no better.
            held = self._tokens[_resource(asked)]
            for older in held[: held.index(token)]:
                self._drop(older.header)
        self._drop(used)
        return True

    def _wanted(self, scopes: Sequence[Scope]) -> tuple[Scope, ...]:
        """Return the scopes that a token for ``scopes`` must have, as far as they can be had."""
        if not scopes:
            return self._named.get(_resource(scopes), ())
        first = scopes[0]
        merged = merge_scopes(scopes, self._named.get(first.resource, ()))
        kept = (scope for scope in merged[1:] if (first.resource, scope.resource) not in self._withheld)
        return (merged[0], *kept)[: self._most]

    def _folded(self, wanted: tuple[Scope, ...]) -> tuple[Scope, ...]:
        """Return ``wanted`` with all that blobs were mounted from before, in one order for all who ask."""
        if not wanted or wanted[0].kind != "repository" or "push" not in wanted[0].actions:
            return wanted
        sources = self._sources.setdefault(wanted[0].resource, {})
        for scope in wanted[1:]:
            sources[scope.resource] = merge_scopes(filter(None, [sources.get(scope.resource)]), [scope])[0]
        while len(sources) >= self._most and sources:
            # The oldest go; those of this very request are the last that would.
            oldest = next((r for r in sources if r not in {scope.resource for scope in wanted}), None)
            if oldest is None:
                return wanted
            del sources[oldest]
        return merge_scopes(wanted[:1], sources.values())

    def _find(self, request: TokenRequest, now: float) -> Token | None:
        # The latest first: it may have been fetched because an older one would not do.
        for token in reversed(self._tokens.get(_resource(request.scopes), ())):
            asked = token.request
            if (
                token.refresh_at > now
                and (asked.realm, asked.service, asked.credential)
                == (request.realm, request.service, request.credential)
                and are_covered(request.scopes, asked.scopes)
            ):
                return token
        return None

    def _held(self, used: str) -> Token | None:
        return next((token for held in self._tokens.values() for token in held if token.header == used), None)

    def _drop(self, used: str) -> None:
        for key, tokens in list(self._tokens.items()):
            kept = [token for token in tokens if token.header != used]
            if kept:
                self._tokens[key] = kept
            else:
                del self._tokens[key]
        self._proven.discard(used)

    def _forget(self, tokens: Iterable[Token]) -> None:
        self._proven.difference_update(token.header for token in tokens)

    def _withhold(self, first: Scope, others: Iterable[Scope]) -> None:
        sources = self._sources.get(first.resource, {})
        for scope in others:
            self._withheld.add((first.resource, scope.resource))
            sources.pop(scope.resource, None)

    def _note_named(self, resource: tuple[str, str], others: Sequence[Scope]) -> None:
        if len(self._named) >= _MOST_REMEMBERED:
            self._named.clear()
        self._named[resource] = merge_scopes(self._named.get(resource, ()), others)[:MOST_SCOPES]

    def _nearest(self, name: str) -> Demand | None:
        """Return the demand of the longest prefix of ``name`` that one is known for."""
        return next((self._demands[prefix] for prefix in _prefixes(name) if prefix in self._demands), None)

    def _remember(self, name: str, demand: Demand) -> None:
        if len(self._demands) >= _MOST_REMEMBERED:
            self._demands.clear()
        for prefix in _prefixes(name):
            self._demands[prefix] = demand
            self._doubtful.discard(prefix)

    def _check(self, demand: Demand) -> None:
        origin = Origin.of(absolute(demand.realm))
        if self._home.is_secure and not origin.is_secure:
            raise ProtocolViolation(
                f"the registry sends to the token service {origin} without TLS; no credentials were sent",
                hint="Correct the realm in the registry's configuration.",
            )

    def _is_safe(self, demand: Demand) -> bool:
        try:
            if demand.is_bearer:
                self._check(demand)
        except ProtocolViolation:
            return False
        return (demand.realm + demand.service).isascii()


def widened(scopes: Sequence[Scope], challenges: Iterable[Challenge]) -> tuple[Scope, ...]:
    """Return ``scopes`` with the actions that Bearer challenges name besides on the same resources."""
    own = {scope.resource for scope in scopes}
    text = " ".join(one.parameters.get("scope", "") for one in challenges if one.scheme == "bearer")
    return merge_scopes(scopes, (scope for scope in parse_scopes(text) if scope.resource in own))


def _place(scopes: Sequence[Scope]) -> str:
    """Return what demands are remembered by: the repository's name, or another resource in a form that no name has."""
    if not scopes:
        return ""
    return scopes[0].name if scopes[0].kind == "repository" else f"{scopes[0].kind}:{scopes[0].name}"


def _prefixes(name: str) -> Iterator[str]:
    """Yield ``a/b/c``, ``a/b``, ``a`` and the empty one."""
    while name:
        yield name
        name = _above(name)
    yield ""


def _above(name: str) -> str:
    return name.rpartition("/")[0]


def _is_same(one: Demand, other: Demand | None) -> bool:
    return other is not None and (one.realm, one.service) == (other.realm, other.service)


def _resource(scopes: Sequence[Scope]) -> tuple[str, str]:
    return scopes[0].resource if scopes else ("", "")


def is_anonymous(credential: Credential) -> bool:
    """Tell whether there is nothing to show."""
    return isinstance(credential, Anonymous)
