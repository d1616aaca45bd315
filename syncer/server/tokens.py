"""Bearer tokens and their scopes.

A token is a JSON document and its HMAC-SHA256, each in base64: opaque to clients, and checked
without a look-up. Scopes are those of the Docker token specification: ``repository:NAME:pull,push``
and ``registry:catalog:*``.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncer.server.settings import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MAX_TOKEN = 16 * 1024
#: Scopes of one token; a client that wants to mount from many repositories asks for many.
MAX_SCOPES = 64
_CATALOG = "registry:catalog"


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What a token says: who, until when (seconds since the epoch), and what is granted by resource."""

    user: str
    service: str
    expires: int
    access: Mapping[str, frozenset[Action]]

    def allows(self, resource: str, actions: Iterable[Action]) -> bool:
        """Tell whether all ``actions`` on ``resource`` are granted."""
        return frozenset(actions) <= self.access.get(resource, frozenset())


def repository_resource(repository: str) -> str:
    """Return the resource of a repository."""
    return f"repository:{repository}"


CATALOG_RESOURCE = _CATALOG


def parse_scopes(values: Iterable[str]) -> dict[str, frozenset[Action]]:
    """Return what is asked for, by resource; scopes of another grammar are left out.

    The resource type may have a class, ``repository(plugin)``, and a name may hold colons, so a scope is
    split at its first and its last.
    """
    wanted: dict[str, frozenset[Action]] = {}
    for scope in (scope for value in values for scope in value.split()):
        kind, _, rest = scope.partition(":")
        name, colon, listed = rest.rpartition(":")
        kind = kind.partition("(")[0]
        if not colon or not name or kind not in ("repository", "registry"):
            continue
        resource = f"{kind}:{name}"
        actions = _actions(resource, listed)
        if resource not in wanted and len(wanted) >= MAX_SCOPES:
            continue
        wanted[resource] = wanted.get(resource, frozenset()) | actions
    return wanted


def _actions(resource: str, listed: str) -> frozenset[Action]:
    if resource == _CATALOG:
        return frozenset({Action.CATALOG}) if "*" in listed.split(",") else frozenset()
    actions: set[Action] = set()
    for word in listed.split(","):
        if word == "*":
            actions |= {Action.PULL, Action.PUSH, Action.DELETE}
        elif word in (Action.PULL, Action.PUSH, Action.DELETE):
            actions.add(Action(word))
    return frozenset(actions)


def format_scope(resource: str, actions: Iterable[Action]) -> str:
    """Return the scope that grants ``actions`` on ``resource``; push brings pull, as clients expect."""
    if resource == _CATALOG:
        return f"{_CATALOG}:*"
    wanted = set(actions)
    if Action.PUSH in wanted:
        wanted.add(Action.PULL)
    return f"{resource}:{','.join(action for action in Action if action in wanted)}"


def sign(claims: Claims, secret: bytes) -> str:
    """Return the token that says ``claims``."""
    document = {
        "sub": claims.user,
        "aud": claims.service,
        "exp": claims.expires,
        "access": {resource: sorted(actions) for resource, actions in claims.access.items()},
    }
    payload = base64.urlsafe_b64encode(json.dumps(document, separators=(",", ":")).encode()).rstrip(b"=")
    signature = base64.urlsafe_b64encode(hmac.digest(secret, payload, "sha256")).rstrip(b"=")
    return f"{payload.decode()}.{signature.decode()}"


def read(token: str, secret: bytes, *, service: str, now: float) -> Claims | None:
    """Return what a token says, or None when it is not ours, not for this service, or has expired."""
    payload, dot, signature = token.encode("ascii", "replace").partition(b".")
    if not dot or len(token) > _MAX_TOKEN:
        return None
    try:
        given = base64.urlsafe_b64decode(signature + b"=" * (-len(signature) % 4))
    except binascii.Error:
        return None
    if not hmac.compare_digest(hmac.digest(secret, payload, "sha256"), given):
        return None
    # The signature is ours, so the document is as sign() wrote it.
    document = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    if document["aud"] != service or document["exp"] <= now:
        return None
    access = {name: frozenset(map(Action, actions)) for name, actions in document["access"].items()}
    return Claims(user=document["sub"], service=service, expires=document["exp"], access=access)
