"""The token service of a registry: how it is asked, and what its answers mean; no I/O.

The protocol is docker's (distribution, docs/spec/auth/token and oauth): GET with Basic for a user
name and a password, POST for an identity (refresh) token. Services that know only the other way are
asked in it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlencode

from syncer.errors import ProtocolViolation
from syncer.registry.credentials.values import Anonymous, Basic, Credential, IdentityToken, RegistryToken
from syncer.registry.network.urls import Origin, absolute, octets, with_query

if TYPE_CHECKING:
    from yarl import URL

    from syncer.registry.auth.scopes import Scope

#: Seconds that a token lives when the answer does not say (token spec, "expires_in").
DEFAULT_LIFETIME = 60.0
_LONGEST_LIFETIME = 24 * 3600.0
#: Seconds that every token is used, whatever the answer says.
SHORTEST_LIFETIME = 1.0
#: The user name that ACR gives to who shows a refresh token; others look at the token alone.
TOKEN_BEARER = "00000000-0000-0000-0000-000000000000"  # noqa: S105 - a name, not a secret


class Way(StrEnum):
    """How a token is asked for."""

    GET = "GET"
    POST = "POST"


#: The answers of a service that may know only the other way: no such path or method (GAR and others), and for
#: the exchange of identity tokens also what Artifactory (401) and ACR (400) say to it.
_OTHER_WAY = {Way.GET: frozenset({404, 405}), Way.POST: frozenset({400, 401, 404, 405})}


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRequest:
    """A token to be fetched, and with which credential; ``way`` is None for the usual one."""

    realm: str
    service: str
    scopes: tuple[Scope, ...]
    credential: Credential
    way: Way | None = None

    @property
    def method(self) -> Way:
        """POST to exchange an identity token (OAuth 2), GET for everything else."""
        usual = Way.POST if isinstance(self.credential, IdentityToken) else Way.GET
        return self.way or usual

    def turned(self, status: int) -> TokenRequest | None:
        """Return the request in the other way, when ``status`` may mean that this one is not known there."""
        if isinstance(self.credential, Anonymous | RegistryToken) or status not in _OTHER_WAY[self.method]:
            return None
        return replace(self, way=Way.GET if self.method is Way.POST else Way.POST)

    @property
    def url(self) -> URL:
        """The URL to ask, with one ``scope`` parameter for each scope of a GET."""
        url = absolute(self.realm)
        if self.method is Way.POST:
            return url
        if self.service:
            url = with_query(url, service=self.service)
        for scope in self.scopes:
            url = with_query(url, scope=str(scope))
        return url

    @property
    def authorization(self) -> str:
        """The Authorization header for the realm; empty for none."""
        match self.credential:
            case Basic() as basic if self.method is Way.GET:
                return basic_header(basic)
            case IdentityToken(token=token, username=username) if self.method is Way.GET:
                return basic_header(Basic(username=username or TOKEN_BEARER, password=token))
            case _:
                return ""

    @property
    def form(self) -> bytes | None:
        """The body of a POST."""
        if self.method is not Way.POST:
            return None
        fields = {"service": self.service, "client_id": "syncer"}
        if self.scopes:
            fields["scope"] = " ".join(map(str, self.scopes))
        return urlencode({**self._grant(), **fields}).encode()

    def _grant(self) -> dict[str, str | bytes]:
        match self.credential:
            case IdentityToken(token=token):
                return {"grant_type": "refresh_token", "refresh_token": octets(token)}
            case Basic(username=username, password=password) if username == TOKEN_BEARER:
                return {"grant_type": "refresh_token", "refresh_token": octets(password)}
            case Basic(username=username, password=password):
                return {"grant_type": "password", "username": octets(username), "password": octets(password)}
            case _:
                return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A bearer token, and when to ask for the next one (on the monotonic clock, in seconds).

    ``rotation`` is the refresh token that takes the place of the one shown; empty for none.
    """

    value: str = field(repr=False)
    refresh_at: float
    request: TokenRequest
    rotation: str = field(default="", repr=False)

    @property
    def header(self) -> str:
        """The Authorization header."""
        return f"Bearer {self.value}"


def basic_header(credential: Basic) -> str:
    """Return the Basic Authorization header (RFC 7617, in UTF-8)."""
    pair = octets(f"{credential.username}:{credential.password}")
    return f"Basic {base64.b64encode(pair).decode()}"


def refresh_time(now: float, expires_in: Any, *, age: float = 0.0) -> float:
    """Return when a token fetched ``now`` should be replaced.

    That is 10 % or 10 s before its end, but no more than a sixth of its life. ``age`` is how many
    seconds old it is already.
    """
    lifetime = DEFAULT_LIFETIME
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit():
        # OAuth servers exist that write numbers in quotes.
        expires_in = int(expires_in[:12])
    if isinstance(expires_in, int | float) and not isinstance(expires_in, bool) and expires_in > 0:
        # In this order: JSON knows integers that no float can hold.
        lifetime = float(min(expires_in, _LONGEST_LIFETIME))
    if 0 < age < lifetime:
        lifetime -= age
    # A token that had ended when it came would be asked for again without an end.
    lifetime = max(lifetime, SHORTEST_LIFETIME)
    return now + lifetime - min(max(10.0, lifetime * 0.1), lifetime / 6)


def parse_token(request: TokenRequest, body: bytes, now: float, date: str = "") -> Token:
    """Read the answer to ``request``, with the ``date`` header that came with it.

    Raises:
        ProtocolViolation: when it is not a JSON object with ``token`` or ``access_token``.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    value = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
    if not isinstance(document, dict) or not _is_token(value):
        raise ProtocolViolation(
            f"the token service {Origin.of(absolute(request.realm))} answered without a token",
            hint="The answer should be a JSON object with 'token' or 'access_token'.",
        )
    rotation = document.get("refresh_token")
    return Token(
        value=value,
        refresh_at=refresh_time(now, document.get("expires_in"), age=_age(document.get("issued_at"), date)),
        request=request,
        rotation=rotation if isinstance(request.credential, IdentityToken) and _is_token(rotation) else "",
    )


def _is_token(value: Any) -> TypeGuard[str]:
    """Tell whether ``value`` can stand in a header."""
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable() and " " not in value


def _age(issued_at: Any, date: str) -> float:
    """Return the seconds between ``issued_at`` and the ``date`` of the answer, both by the service's clock.

    Our own clock is not asked: where the two disagree, every token would look old, or none. A token of
    the future, or one without both times, is as old as its answer.
    """
    if not isinstance(issued_at, str) or not date:
        return 0.0
    try:
        issued = datetime.fromisoformat(issued_at)
        issued = issued.replace(tzinfo=issued.tzinfo or UTC)
        return max(0.0, parsedate_to_datetime(date).timestamp() - issued.timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
