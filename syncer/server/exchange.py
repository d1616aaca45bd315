"""One request on its way to an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from syncer.server.routing import Route
    from syncer.server.tokens import Claims

    Act = Callable[["Exchange"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who makes a request: a user, or nobody; and what their token holds when they have one."""

    user: str = ""
    claims: Claims | None = None


@dataclass(kw_only=True, slots=True)
class Exchange:
    """A request, what its path means, who makes it, and the bytes of a streamed answer so far."""

    request: web.Request
    route: Route
    identity: Identity = field(default_factory=Identity)
    sent: int = 0

    def client_is_gone(self) -> bool:
        """Tell whether the connection is lost."""
        return self.request.transport is None
