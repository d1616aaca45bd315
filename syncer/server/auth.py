"""Who asks, and may they: Basic and Bearer as the Docker token specification has them.

401 says "log in, or ask for a token with this scope"; 403 says that it would not help. A token
that lacks a scope which its user could have is therefore answered with 401 and
``insufficient_scope``, as clients know it from Docker's registry; one whose user may not do this at
all with 403.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from aiohttp import web

from syncer.server.bodies import read_whole
from syncer.server.errors import ErrorCode, error_response
from syncer.server.exchange import Exchange, Identity
from syncer.server.passwords import PasswordFile
from syncer.server.settings import Action, AuthMode, ServerSettings
from syncer.server.tokens import (
    CATALOG_RESOURCE,
    Claims,
    format_scope,
    parse_scopes,
    read,
    repository_resource,
    sign,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from syncer.server.passwords import UnusableEntry

_MAX_FORM = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What a request needs to be allowed; no actions means that any login will do."""

    resource: str = ""
    actions: frozenset[Action] = frozenset()

    @classmethod
    def of_repository(cls, repository: str, *actions: Action) -> Need:
        """Return the need of ``actions`` in a repository."""
        return cls(resource=repository_resource(repository), actions=frozenset(actions))

    @classmethod
    def of_catalog(cls) -> Need:
        """Return the need to list repositories."""
        return cls(resource=CATALOG_RESOURCE, actions=frozenset({Action.CATALOG}))


class Authority:
    """Decides, from the settings, who may do what."""

    def __init__(self, settings: ServerSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._secret = settings.token_secret or os.urandom(32)
        self._passwords = PasswordFile(settings.htpasswd) if settings.htpasswd is not None else None

    @property
    def is_open(self) -> bool:
        """True when nobody has to log in for anything."""
        return self._settings.auth is AuthMode.NONE

    @property
    def offers_tokens(self) -> bool:
        """True when this server is its own token service."""
        return self._settings.auth is AuthMode.TOKEN

    async def load(self) -> tuple[UnusableEntry, ...]:
        """Read the password file; return its entries with which nobody can log in.

        Raises:
            CredentialsError: when it cannot be read.
        """
        return await self._passwords.load() if self._passwords is not None else ()

    async def identify(self, request: web.Request) -> Identity | None:
        """Return who asks, or None when what they show is not valid."""
        header = request.headers.get("Authorization", "")
        if self.is_open or not header:
            return Identity()
        scheme, _, value = header.partition(" ")
        if self.offers_tokens:
            if scheme.lower() != "bearer":
                return None
            claims = read(value.strip(), self._secret, service=self._settings.service, now=self._clock())
            return None if claims is None else Identity(user=claims.user, claims=claims)
        user = await self._log_in(scheme, value)
        return None if user is None else Identity(user=user)

    def permits(self, identity: Identity, need: Need) -> bool:
        """Tell whether ``identity``, with what it shows, may do this."""
        if self.is_open:
            return True
        if self.offers_tokens:
            if identity.claims is None:
                return False
            return not need.actions or identity.claims.allows(need.resource, need.actions)
        if not need.actions:
            return bool(identity.user)
        return need.actions <= self._granted(identity.user, need.resource, need.actions)

    def refuse(self, request: web.Request, identity: Identity | None, needs: Iterable[Need]) -> web.Response:
        """Return the 401 or 403 to a request that :meth:`permits` did not allow."""
        wanted = [need for need in needs if need.actions]
        logged_in = identity is not None and bool(identity.user)
        hopeless = logged_in and any(
            not need.actions <= self._granted(identity.user, need.resource, need.actions)
            for need in wanted
            if identity is not None
        )
        reason = ""
        if identity is None:
            reason = "invalid_token" if self.offers_tokens else ""
        elif identity.claims is not None:
            reason = "insufficient_scope"
        challenge = {"WWW-Authenticate": self._challenge(request, wanted, reason)}
        if hopeless:
            return error_response(
                403, ErrorCode.DENIED, "this user may not do this", headers=challenge if self.offers_tokens else None
            )
        return error_response(401, ErrorCode.UNAUTHORIZED, "authentication required", headers=challenge)

    async def token(self, exchange: Exchange) -> web.Response:
        """Answer the token service's GET (Basic) and POST (OAuth2 password grant).

        What is granted may be less than what was asked for; that is no error (the token
        specification), the next request will show it.
        """
        request = exchange.request
        if not self.offers_tokens:
            return error_response(404, ErrorCode.UNSUPPORTED, "this registry has no token service")
        if request.method == "POST":
            form = parse_form(await read_whole(request, _MAX_FORM, stall_timeout=self._settings.stall_timeout))
            if form.get("grant_type", [""])[-1] != "password":
                return web.json_response({"error": "unsupported_grant_type"}, status=400)
            user = await self._check(form.get("username", [""])[-1], form.get("password", [""])[-1])
            scopes = form.get("scope", [])
        else:
            user = ""
            if header := request.headers.get("Authorization", ""):
                scheme, _, value = header.partition(" ")
                user = await self._log_in(scheme, value)
            scopes = request.query.getall("scope", [])
        if user is None or not (user or self._settings.anonymous_pull):
            return error_response(
                401,
                ErrorCode.UNAUTHORIZED,
                "user name or password is wrong" if user is None else "authentication required",
                headers={"WWW-Authenticate": f'Basic realm="{self._settings.service}"'},
            )
        return self._issue(user, scopes)

    def _issue(self, user: str, scopes: Iterable[str]) -> web.Response:
        access = {
            resource: granted
            for resource, actions in parse_scopes(scopes).items()
            if (granted := self._granted(user, resource, actions))
        }
        now = self._clock()
        lifetime = self._settings.token_lifetime
        claims = Claims(user=user, service=self._settings.service, expires=int(now) + lifetime, access=access)
        token = sign(claims, self._secret)
        issued = datetime.fromtimestamp(int(now), UTC).isoformat().replace("+00:00", "Z")
        document = {"token": token, "access_token": token, "expires_in": lifetime, "issued_at": issued}
        return web.json_response(document, headers={"Cache-Control": "no-store"})

    def _granted(self, user: str, resource: str, actions: frozenset[Action]) -> frozenset[Action]:
        """Return those of ``actions`` that the user may have."""
        allowed: set[Action] = set()
        kind, _, name = resource.partition(":")
        if kind == "repository" and self._settings.anonymous_pull:
            allowed.add(Action.PULL)
        if user:
            grants = self._settings.grants
            if not grants:
                return actions
            for grant in grants:
                if grant.user not in ("*", user):
                    continue
                if kind == "registry":
                    allowed |= grant.actions & {Action.CATALOG}
                elif fnmatch.fnmatchcase(name, grant.repositories):
                    allowed |= grant.actions - {Action.CATALOG}
        return actions & allowed

    async def _log_in(self, scheme: str, value: str) -> str | None:
        if scheme.lower() != "basic":
            return None
        try:
            text = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        user, colon, password = text.partition(":")
        return await self._check(user, password) if colon else None

    async def _check(self, user: str, password: str) -> str | None:
        if self._passwords is None or not user or "\0" in user:
            return None
        return user if await self._passwords.verify(user, password) else None

    def _challenge(self, request: web.Request, needs: Iterable[Need], reason: str) -> str:
        if not self.offers_tokens:
            return f'Basic realm="{self._settings.service}"'
        realm = self._settings.realm or f"{request.scheme}://{request.host}/token"
        # The Host header is the client's own word; it must not break out of the quotes.
        fields = [f'realm="{realm}"'.replace("\\", ""), f'service="{self._settings.service}"']
        if '"' in realm:
            fields[0] = 'realm="/token"'
        if scope := " ".join(format_scope(need.resource, need.actions) for need in needs):
            fields.append(f'scope="{scope}"')
        if reason:
            fields.append(f'error="{reason}"')
        return f"Bearer {','.join(fields)}"


def parse_form(body: bytes) -> dict[str, list[str]]:
    """Return the fields of a urlencoded form; none of them when there are absurdly many."""
    try:
        return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return {}
