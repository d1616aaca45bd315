"""Where names lead: looked up once, checked, and connected to as checked.

aiohttp connects to exactly the addresses that its resolver returns, so a check made here holds for
the connection: there is no second lookup that could say something else (DNS rebinding). Addresses
in URLs never come to a resolver; :meth:`Guard.check` looks at those before anything is sent.
"""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import anyio.to_thread
from aiohttp.abc import AbstractResolver, ResolveResult

from syncer.errors import ConnectionFailed, UnsafeAddress
from syncer.registry.network.addresses import (
    AddressKind,
    home_kind,
    is_oddly_spelled,
    is_trusted,
    is_within_reach,
    kind_of,
    kind_of_name,
    literal,
)
from syncer.registry.network.daemons import Daemons

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from syncer.registry.network.addresses import Classifier
    from syncer.registry.network.urls import Origin

    #: Returns the addresses of a name, as text; raises OSError when it has none.
    Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

#: Names that are looked up at once, at most.
_LOOKUPS = Daemons("syncer-lookup", 16)
_HINT = (
    "Only hosts of the same network as the registry's are asked. If this one is meant (a token service or a storage "
    "of your own), name it in the registry's 'trusted_hosts' in the spec, or give --trusted-hosts."
)
_HINT_NEVER = "Nothing there is a registry's business: check the realm and the addresses in its configuration."


async def system_lookup(host: str, port: int) -> list[str]:
    """Return the addresses of ``host`` as the operating system knows them (hosts file, DNS), best first.

    Raises:
        OSError: when it has none (``socket.gaierror``).
    """
    try:
        found = await _LOOKUPS.run(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        )
    except socket.gaierror:
        # Without a file to read or a socket to ask by, the C library says that there is no such name.
        await anyio.to_thread.run_sync(_try_opening)
        raise
    texts = []
    for family, _, _, _, place in found:
        scope = place[3] if family == socket.AF_INET6 and len(place) > 3 else 0  # noqa: PLR2004 - a sockaddr_in6 has four
        texts.append(f"{place[0]}%{scope}" if scope else str(place[0]))
    return texts


def _try_opening() -> None:
    """Open a file; raises OSError when this process may open none."""
    os.close(os.open(os.devnull, os.O_RDONLY))


class Guard:
    """Decides to which addresses the connections of one registry may go.

    The registry's own origin is where its user says that it is: it may have any address. What kind
    of network that is, is settled by the first lookup and holds for as long as this guard lives; the
    addresses themselves may change, as those behind a load balancer do. Every other origin must be
    within reach of that kind (see :func:`~syncer.registry.network.addresses.is_within_reach`).
    """

    def __init__(
        self,
        *,
        registry: str,
        home: Origin,
        is_home_proxied: bool,
        trusted_hosts: Sequence[str],
        lookup: Lookup = system_lookup,
        classify: Classifier = kind_of,
    ) -> None:
        """Keep what is needed; ``is_home_proxied`` tells that somebody else resolves the registry's name."""
        self._registry = registry
        self._home = home
        self._trusted_hosts = trusted_hosts
        self._lookup = lookup
        self._classify = classify
        self._home_kinds = self._known_kinds(is_home_proxied=is_home_proxied)
        self._lock = anyio.Lock()

    async def check(self, origin: Origin) -> None:
        """Refuse ``origin``, which the registry led to, where that can be told by the URL alone.

        That is all there is to check when a proxy resolves its name.

        Raises:
            UnsafeAddress: when nothing may be sent there.
            ConnectionFailed: when that depends on the registry's own address, and it has none.
        """
        if origin == self._home:
            return
        try:
            address = literal(origin.host)
        except ValueError:
            raise self._refusal(origin, "which is neither a host name nor an address", _HINT_NEVER) from None
        if address is None:
            kind = kind_of_name(origin.host)
        elif is_oddly_spelled(origin.host, address):
            raise self._refusal(origin, f"which is {address} in disguise", _HINT_NEVER)
        else:
            kind = self._classify(address)
        if kind is not None and not await self._is_admitted(origin.host, origin.port, kind):
            raise self._unsafe(origin, origin.host, kind)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of ``host`` to which a connection may go.

        Raises:
            UnsafeAddress: when it has none of those.
            OSError: when it has none at all, or cannot be resolved.
        """
        is_home = (host.lower(), port) == (self._home.host, self._home.port)
        found = await self._resolve(host, port)
        kinds = {text: self._classify(ip_address(text)) for text in found}
        if is_home:
            if not self._home_kinds:
                self._home_kinds = frozenset(kinds.values())
            home = home_kind(self._home_kinds)
            allowed = [text for text in found if kinds[text] in self._home_kinds or is_within_reach(home, kinds[text])]
        else:
            allowed = [text for text in found if await self._is_admitted(host, port, kinds[text])]
        if not allowed:
            raise self._unsafe(f"{host}:{port}", found[0], kinds[found[0]])
        return allowed

    async def _resolve(self, host: str, port: int) -> list[str]:
        # The same address comes once for each protocol on some systems.
        found = list(dict.fromkeys(await self._lookup(host, port)))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return found

    async def _is_admitted(self, host: str, port: int, kind: AddressKind) -> bool:
        # A public address is within everyone's reach; the registry's own is looked up for all others only.
        return (
            kind is AddressKind.PUBLIC
            or is_within_reach(AddressKind.PUBLIC, kind, is_trusted=is_trusted(host, port, self._trusted_hosts))
            or is_within_reach(await self._kind_of_home(), kind)
        )

    async def _kind_of_home(self) -> AddressKind:
        async with self._lock:
            if not self._home_kinds:
                try:
                    found = await self._resolve(self._home.host, self._home.port)
                except OSError as error:
                    # Said here: whoever asks is about to connect to somebody else.
                    raise ConnectionFailed(
                        f"the name of {self._registry} cannot be resolved: {(error.strerror or str(error)).lower()}",
                        registry=self._registry,
                        hint="Check the host's name.",
                    ) from None
                self._home_kinds = frozenset(self._classify(ip_address(text)) for text in found)
        return home_kind(self._home_kinds)

    def _known_kinds(self, *, is_home_proxied: bool) -> frozenset[AddressKind]:
        """Return what the registry's own URL says of its kind; empty where its name has to be looked up."""
        try:
            address = literal(self._home.host)
        except ValueError:
            return frozenset({AddressKind.PUBLIC})
        if address is not None:
            return frozenset({self._classify(address)})
        if not is_home_proxied:
            return frozenset()
        # Our resolver may not know the name at all. Strictness is safe: what it refuses can be trusted by name.
        return frozenset({kind_of_name(self._home.host) or AddressKind.PUBLIC})

    def _unsafe(self, origin: Origin | str, address: str, kind: AddressKind) -> UnsafeAddress:
        hint = _HINT if is_within_reach(AddressKind.LOOPBACK, kind) else _HINT_NEVER
        shown = "" if address in str(origin) else f" ({address})"
        return self._refusal(origin, f"which is {kind}{shown}", hint)

    def _refusal(self, origin: Origin | str, reason: str, hint: str) -> UnsafeAddress:
        return UnsafeAddress(
            f"{self._registry} leads to {origin}, {reason}; nothing was sent there", registry=self._registry, hint=hint
        )


class GuardedResolver(AbstractResolver):
    """Gives aiohttp the addresses that a :class:`Guard` lets through."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of ``host``; raises as :meth:`Guard.addresses`."""
        del family
        return _results(host, port, await self._guard.addresses(host, port))

    async def close(self) -> None:
        """Release nothing."""


class PlainResolver(AbstractResolver):
    """Gives aiohttp the addresses of proxies, which may be anywhere."""

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of ``host``; raises OSError when it has none."""
        del family
        found = await self._lookup(host, port)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return _results(host, port, found)

    async def close(self) -> None:
        """Release nothing."""


def _results(host: str, port: int, addresses: Sequence[str]) -> list[ResolveResult]:
    return [
        ResolveResult(
            hostname=host,
            host=text,
            port=port,
            family=socket.AF_INET6 if ":" in text else socket.AF_INET,
            proto=0,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for text in addresses
    ]
