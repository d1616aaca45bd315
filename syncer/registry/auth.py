"""How a registry wants to be asked for a token, and what is remembered of it; no I/O.

The token protocol is docker's (distribution, docs/spec/auth/token and oauth): a 401 names a realm
and a service, the realm gives a token for a set of scopes, and the token goes with the request.
Nothing is asked in advance: the first useful request meets the challenge, and from then on every
request to that registry carries a token from the start.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from syncer.errors import ProtocolViolation
from syncer.registry.credentials.values import Anonymous, Basic, Credential, IdentityToken, RegistryToken
from syncer.registry.urls import Origin, absolute, octets, with_query

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from yarl import URL

    from syncer.registry.challenge import Challenge

#: Seconds that a token lives when the answer does not say (token spec, "expires_in").
DEFAULT_LIFETIME = 60.0
_LONGEST_LIFETIME = 24 * 3600.0
_ACTIONS = ("pull", "push", "delete", "*")
_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is for: actions on one resource, ``repository:name:pull,push``."""

    kind: str
    name: str
    actions: frozenset[str]

    @classmethod
    def repository(cls, name: str, *actions: str) -> Scope:
        """Return the scope of ``actions`` on a repository."""
        return cls("repository", name, frozenset(actions))

    def covers(self, other: Scope) -> bool:
        """Tell whether a token for this scope is good for ``other``."""
        return (self.kind, self.name) == (other.kind, other.name) and (
            other.actions <= self.actions or "*" in self.actions
        )

    def __str__(self) -> str:
        actions = sorted(self.actions, key=lambda action: (_ACTIONS.index(action) if action in _ACTIONS else 9, action))
        return f"{self.kind}:{self.name}:{','.join(actions)}"


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """Read the ``scope`` of a challenge: one or more scopes, separated by spaces.

    The name may hold colons (``host:port/name``); what is not a scope is left out.
    """
    scopes = []
    for word in text.split():
        kind, _, rest = word.partition(":")
        name, colon, actions = rest.rpartition(":")
        if kind and colon and name and actions:
            scopes.append(Scope(kind, name, frozenset(action for action in actions.split(",") if action)))
    return tuple(scopes)


def merge_scopes(own: Iterable[Scope], named: Iterable[Scope]) -> tuple[Scope, ...]:
    """Return each resource once, our ``own`` first and in order, with what the challenge ``named`` added.

    The order is kept because some registries look at the first scope only.
    """
    merged: dict[tuple[str, str], Scope] = {}
    for scope in (*own, *named):
        key = (scope.kind, scope.name)
        held = merged.get(key)
        merged[key] = scope if held is None else Scope(scope.kind, scope.name, held.actions | scope.actions)
    return tuple(merged.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What a registry asks for: Basic credentials, or a token of a realm."""

    realm: str = ""
    service: str = ""
    scopes: tuple[Scope, ...] = ()

    @property
    def is_bearer(self) -> bool:
        """True when a token of a realm is wanted."""
        return bool(self.realm)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRequest:
    """A token to be fetched, and with which credential."""

    realm: str
    service: str
    scopes: tuple[Scope, ...]
    credential: Credential

    @property
    def method(self) -> str:
        """POST to exchange an identity token (OAuth 2), GET for everything else."""
        return "POST" if isinstance(self.credential, IdentityToken) else "GET"

    @property
    def url(self) -> URL:
        """The URL to ask, with one ``scope`` parameter for each scope of a GET."""
        url = absolute(self.realm)
        if isinstance(self.credential, IdentityToken):
            return url
        if self.service:
            url = with_query(url, service=self.service)
        for scope in self.scopes:
            url = with_query(url, scope=str(scope))
        return url

    @property
    def authorization(self) -> str:
        """The Authorization header for the realm; empty for none."""
        return basic_header(self.credential) if isinstance(self.credential, Basic) else ""

    @property
    def form(self) -> bytes | None:
        """The body of a POST."""
        if not isinstance(self.credential, IdentityToken):
            return None
        fields = {"grant_type": "refresh_token", "service": self.service, "client_id": "syncer"}
        if self.scopes:
            fields["scope"] = " ".join(map(str, self.scopes))
        return urlencode({**fields, "refresh_token": octets(self.credential.token)}).encode()

    def narrowed(self) -> TokenRequest | None:
        """Return the request for the first scope alone, or None when it has no more than one."""
        if len(self.scopes) < 2:  # noqa: PLR2004 - one scope is as narrow as it gets
            return None
        return TokenRequest(realm=self.realm, service=self.service, scopes=self.scopes[:1], credential=self.credential)


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A bearer token, and when to ask for the next one (on the monotonic clock, in seconds)."""

    value: str = field(repr=False)
    refresh_at: float
    request: TokenRequest

    @property
    def header(self) -> str:
        """The Authorization header."""
        return f"Bearer {self.value}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """What a request is to carry: an Authorization header, perhaps after a token was fetched."""

    header: str = field(default="", repr=False)
    fetch: TokenRequest | None = None


def basic_header(credential: Basic) -> str:
    """Return the Basic Authorization header (RFC 7617, in UTF-8)."""
    pair = octets(f"{credential.username}:{credential.password}")
    return f"Basic {base64.b64encode(pair).decode()}"


def refresh_time(now: float, expires_in: Any) -> float:
    """Return when a token fetched ``now`` should be replaced: 10 % or 10 s before its end, at half of a short life."""
    lifetime = DEFAULT_LIFETIME
    if isinstance(expires_in, int | float) and not isinstance(expires_in, bool) and expires_in > 0:
        # In this order: JSON knows integers that no float can hold.
        lifetime = float(min(expires_in, _LONGEST_LIFETIME))
    return now + max(lifetime - max(10.0, lifetime * 0.1), lifetime / 2)


def parse_token(request: TokenRequest, body: bytes, now: float) -> Token:
    """Read the realm's answer.

    Raises:
        ProtocolViolation: when it is not a JSON object with ``token`` or ``access_token``.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    value = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ProtocolViolation(
            f"the token service {Origin.of(absolute(request.realm))} answered without a token",
            hint="The answer should be a JSON object with 'token' or 'access_token'.",
        )
    return Token(value=value, refresh_at=refresh_time(now, document.get("expires_in")), request=request)


class AuthMemory:
    """What one registry has asked for so far, and the tokens that are good."""

    def __init__(self, home: Origin) -> None:
        self._home = home
        self._demands: dict[str, Demand] = {}
        self._latest: Demand | None = None
        # By the resource of the first scope, so that a lookup sees only tokens that may fit.
        self._tokens: dict[tuple[str, str], list[Token]] = {}

    def attach(self, scopes: Sequence[Scope], credential: Credential, now: float) -> Attachment:
        """Decide what a request for ``scopes`` carries."""
        if isinstance(credential, RegistryToken):
            return Attachment(header=f"Bearer {credential.token}")
        demand = self._demands.get(scopes[0].name if scopes else "")
        if demand is None and self._latest is not None:
            # The realm of another repository, but not its scopes.
            demand = Demand(realm=self._latest.realm, service=self._latest.service)
        if demand is None:
            return Attachment()
        if not demand.is_bearer:
            return Attachment(header=basic_header(credential) if isinstance(credential, Basic) else "")
        request = TokenRequest(
            realm=demand.realm,
            service=demand.service,
            scopes=merge_scopes(scopes, demand.scopes),
            credential=credential,
        )
        token = self._find(request, now)
        return Attachment(header=token.header) if token else Attachment(fetch=request)

    def learn(self, scopes: Sequence[Scope], challenges: Iterable[Challenge], used: str) -> bool:
        """Take note of a 401 to a request that carried ``used``; tell whether asking again may help.

        Raises:
            ProtocolViolation: when the realm is not a URL that may be given credentials.
        """
        name = scopes[0].name if scopes else ""
        by_scheme = {challenge.scheme: challenge for challenge in reversed(list(challenges))}
        self._drop(used)
        bearer = by_scheme.get("bearer")
        if bearer is not None and bearer.parameters.get("realm"):
            self._remember(name, self._demand(bearer, scopes))
            return True
        known = self._demands.get(name) or self._latest
        if known is not None and known.is_bearer:
            # Harbor answers "Basic" when a request carried a token that has expired.
            return bool(used)
        if "basic" in by_scheme:
            self._remember(name, Demand())
            return not used.startswith("Basic ")
        return False

    def keep(self, token: Token, now: float) -> None:
        """Remember a token that was fetched."""
        for key in [key for key, held in self._tokens.items() if all(t.refresh_at <= now for t in held)]:
            del self._tokens[key]
        held = [t for t in self._tokens.get(_place(token.request), []) if t.refresh_at > now]
        self._tokens[_place(token.request)] = [*held, token]

    def holds(self, request: TokenRequest, now: float) -> bool:
        """Tell whether there is a token that answers ``request``."""
        return self._find(request, now) is not None

    def _find(self, request: TokenRequest, now: float) -> Token | None:
        for token in self._tokens.get(_place(request), ()):
            asked = token.request
            if (
                token.refresh_at > now
                and (asked.realm, asked.service, asked.credential)
                == (request.realm, request.service, request.credential)
                and all(any(has.covers(scope) for has in asked.scopes) for scope in request.scopes)
            ):
                return token
        return None

    def _drop(self, used: str) -> None:
        for key, tokens in list(self._tokens.items()):
            kept = [token for token in tokens if token.header != used]
            if kept:
                self._tokens[key] = kept
            else:
                del self._tokens[key]

    def _remember(self, name: str, demand: Demand) -> None:
        if len(self._demands) >= _MOST_REMEMBERED:
            self._demands.clear()
        self._demands[name] = demand
        self._latest = demand

    def _demand(self, challenge: Challenge, own: Sequence[Scope]) -> Demand:
        realm = challenge.parameters["realm"]
        origin = Origin.of(absolute(realm))
        if self._home.is_secure and not origin.is_secure:
            raise ProtocolViolation(
                f"the registry sends to the token service {origin} without TLS; no credentials were sent",
                hint="Correct the realm in the registry's configuration.",
            )
        named = parse_scopes(challenge.parameters.get("scope", ""))
        return Demand(
            realm=realm,
            service=challenge.parameters.get("service", ""),
            # What we ask for anyway is not worth remembering; what is left is the registry's own naming.
            scopes=tuple(scope for scope in named if not any(held.covers(scope) for held in own)),
        )


def _place(request: TokenRequest) -> tuple[str, str]:
    return (request.scopes[0].kind, request.scopes[0].name) if request.scopes else ("", "")


def is_anonymous(credential: Credential) -> bool:
    """Tell whether there is nothing to show."""
    return isinstance(credential, Anonymous)
