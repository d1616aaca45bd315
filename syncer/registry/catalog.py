"""The list of a registry's repositories, where it has one (``_catalog`` is docker's, not the specification's)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.errors import Denied, InvalidReference, NotFound, StatusError, Unauthorized, Unsupported
from syncer.events import RequestKind
from syncer.oci.reference import check_repository
from syncer.registry.auth.scopes import Scope
from syncer.registry.call import Call
from syncer.registry.network.translation import WANTS_TLS
from syncer.registry.paging import PAGE_LIMIT, entries, pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from syncer.errors import Side
    from syncer.registry.client import RegistryClient

_NOT_FOUND = 404
#: How registries answer that have no catalog, or have it switched off.
_NOT_OFFERED = frozenset({400, _NOT_FOUND, 405, 406, 501})
_HINT = "Name the repositories in the spec instead of a pattern; many hosted registries do not list theirs."


class RegistryCatalog:
    """The repositories of one registry."""

    def __init__(self, client: RegistryClient, side: Side | None = None) -> None:
        self._client = client
        self._side = side

    async def repositories(self, prefix: str = "") -> AsyncIterator[str]:
        """Yield the names that start with ``prefix``, page by page, each once.

        Every page is read: neither the order of the names nor the meaning of ``last`` is the same
        everywhere, so nothing is skipped on the strength of it.

        Raises:
            Unsupported, Denied, Unauthorized: when the registry does not list them.
        """
        if not self._client.capabilities.traits.catalog:
            raise self._unsupported()
        call = Call(
            kind=RequestKind.CATALOG,
            method="GET",
            url=self._client.url("/v2/_catalog"),
            asked=f"the repositories of {self._client.host}",
            scopes=(Scope("registry", "catalog", frozenset("*")),),
            side=self._side,
            limit=PAGE_LIMIT,
        )
        seen: set[str] = set()
        try:
            async for document, reply in pages(self._client, call):
                async for name in entries(self._client, document, "repositories", reply):
                    if name.startswith(prefix) and name not in seen and _is_name(name):
                        seen.add(name)
                        yield name
        except (Denied, Unauthorized) as error:
            # A proxy that refuses would refuse the repositories too.
            if error.registry == self._client.host:
                error.hint = f"{error.hint} {_HINT}".strip()
            raise
        except (NotFound, StatusError) as error:
            status = error.status if isinstance(error, StatusError) else _NOT_FOUND
            # A first page is there or is not; a list that breaks off is another matter.
            # Nor is a server that wants TLS one without a catalog.
            if seen or status not in _NOT_OFFERED or error.hint == WANTS_TLS:
                raise
            raise self._unsupported(status) from error

    def _unsupported(self, status: int = _NOT_FOUND) -> Unsupported:
        return Unsupported(
            f"{self._client.host} does not list its repositories",
            status=status,
            registry=self._client.host,
            hint=_HINT,
            side=self._side,
        )


def _is_name(name: str) -> bool:
    try:
        check_repository(name)
    except InvalidReference:
        return False
    return True
