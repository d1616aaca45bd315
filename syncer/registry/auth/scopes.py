"""What a token is for: the scopes of the token protocol, ``repository:name:pull,push``.

The grammar is distribution's (docs/spec/auth/scope): ``type[(class)]:name:actions``, where the name
may hold colons.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ACTIONS = ("pull", "push", "delete", "*")
_READ_PATH = re.compile(r"/v2/([a-z0-9][a-z0-9._/-]{0,254})/(?:manifests|blobs|tags|referrers)/[^/]+")


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

    @property
    def resource(self) -> tuple[str, str]:
        """What the actions are on."""
        return self.kind, self.name

    def covers(self, other: Scope) -> bool:
        """Tell whether a token for this scope is good for ``other``."""
        return self.resource == other.resource and (other.actions <= self.actions or "*" in self.actions)

    def __str__(self) -> str:
        actions = sorted(self.actions, key=lambda action: (_ACTIONS.index(action) if action in _ACTIONS else 9, action))
        return f"{self.kind}:{self.name}:{','.join(actions)}"


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """Read the ``scope`` of a challenge: one or more scopes, separated by spaces (Harbor sends two in one value).

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
        held = merged.get(scope.resource)
        merged[scope.resource] = scope if held is None else Scope(scope.kind, scope.name, held.actions | scope.actions)
    return tuple(merged.values())


def are_covered(wanted: Iterable[Scope], held: Iterable[Scope]) -> bool:
    """Tell whether each of the ``wanted`` scopes is within one of those ``held``."""
    held = tuple(held)
    return all(any(has.covers(scope) for has in held) for scope in wanted)


def scopes_of_path(path: str) -> tuple[Scope, ...]:
    """Return the scope that reading the percent-encoded API ``path`` takes; none when it is no such path."""
    match = _READ_PATH.fullmatch(path)
    return (Scope.repository(match[1], "pull"),) if match else ()
