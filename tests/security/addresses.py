"""Attacks on the network that Syncer runs in: a registry leads to addresses that only insiders reach (S7).

Names and kinds of addresses are given to the client: 127.0.0.1 counts as public here, 127.0.0.2 as an
address of the internal network, 127.0.0.3 as a cloud's metadata service. Everything else is real.
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from syncer.errors import Side, SyncerError, Unauthorized, UnsafeAddress
from syncer.registry import RegistrySettings
from syncer.registry import client as client_module
from syncer.registry.client import RegistryClient
from syncer.registry.network import resolver
from syncer.registry.network.addresses import AddressKind, is_trusted, kind_of
from syncer.registry.network.resolver import Guard, GuardedResolver
from tests.security.origins import BLOB, DATA, HostKeys
from tests.security.stage import Heard, Outcome, Row, Wire, reply, said, wire
from tests.support.observing import Recorder
from tests.support.scripted import Clock
from tests.support.transfer import push_blob, read_blob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    import pytest
    from aiohttp.abc import ResolveResult

    from syncer.registry import RegistryRepository
    from syncer.registry.network.addresses import IpAddress
    from tests.security.stage import Answer

PUBLIC, INTERNAL, METADATA = "127.0.0.1", "127.0.0.2", "127.0.0.3"
_NAMES = {
    "registry.test": [PUBLIC],
    "public.test": [PUBLIC],
    "internal.test": [INTERNAL],
    "metadata.test": [METADATA],
    "both.test": [INTERNAL, PUBLIC],
}
_KINDS = {
    PUBLIC: AddressKind.PUBLIC,
    INTERNAL: AddressKind.PRIVATE,
    METADATA: AddressKind.METADATA,
}


def classify(address: IpAddress) -> AddressKind:
    """Say what an address is in the network of these tests."""
    carried = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return _KINDS.get(str(carried or address), kind_of(address))


async def lookup(host: str, port: int) -> Sequence[str]:
    """Look a name up, and take everything for an address that C libraries take for one."""
    del port
    if host in _NAMES:
        return _NAMES[host]
    try:
        return [str(IPv4Address(socket.inet_aton(host)))]
    except OSError:
        raise socket.gaierror(socket.EAI_NONAME, "no such name") from None


@asynccontextmanager
async def inside(
    turn: Callable[[Heard, int], Answer], *, at: str = INTERNAL, knows: str = "registry.test"
) -> AsyncIterator[tuple[RegistryRepository, Wire]]:
    """Give a repository of a public registry that answers by ``turn``, and a server of the internal network."""
    async with (
        wire(lambda _: reply(200, DATA, Docker_Content_Digest=BLOB.digest), host=at) as victim,
        wire(lambda heard: turn(heard, port_of(victim))) as home,
        client_of(home, knows) as client,
    ):
        yield client.repository("app", Side.TARGET), victim


@asynccontextmanager
async def client_of(home: Wire, knows: str = "registry.test", *trusted: str) -> AsyncIterator[RegistryClient]:
    """Give a client of the server ``home``, which it knows as registry.test."""
    settings = RegistrySettings(host=f"registry.test:{port_of(home)}", plain_http=True, trusted_hosts=trusted)
    keys = HostKeys(settings.host if knows == "registry.test" else knows)
    clock = Clock()
    client = RegistryClient(
        settings, keys, Recorder(), clock=clock, sleep=clock.sleep, lookup=lookup, classify=classify
    )
    async with client:
        yield client


def port_of(server: Wire) -> int:
    """Return the port of a server."""
    return int(server.address.rpartition(":")[2])


async def led(
    act: Callable[[RegistryRepository], Awaitable[object]], turn: Callable[[Heard, int], Answer], *, at: str = INTERNAL
) -> Outcome:
    """Let a public registry lead ``act`` to an address; the loot is what was asked there."""
    async with inside(turn, at=at) as (repository, victim):
        error = await said(act(repository), SyncerError)
        return Outcome(loot=" ".join(victim.lines), error=error)


def read(repository: RegistryRepository) -> Awaitable[bytes]:
    """Read a blob."""
    return read_blob(repository, BLOB)


def redirecting(host: str) -> Callable[[Heard, int], Answer]:
    """Return a registry that redirects to ``host``."""
    return lambda _, port: reply(307, Location=f"http://{host}:{port}/latest/meta-data/")


async def redirect(_tmp_path: Path) -> Outcome:
    """Redirect a blob to a name of the internal network."""
    return await led(read, redirecting("internal.test"))


async def metadata(_tmp_path: Path) -> Outcome:
    """Redirect a blob to a cloud's metadata service."""
    return await led(read, redirecting("metadata.test"), at=METADATA)


async def one_of_two(_tmp_path: Path) -> Outcome:
    """Redirect to a name with an internal address and a public one."""
    return await led(read, redirecting("both.test"))


async def realm(_tmp_path: Path) -> Outcome:
    """Name a token service in the internal network."""

    def turn(_heard: Heard, port: int) -> Answer:
        return reply(401, WWW_Authenticate=f'Bearer realm="http://internal.test:{port}/token",service="s"')

    return await led(lambda repository: repository.resolve("1"), turn)


async def location(_tmp_path: Path) -> Outcome:
    """Open an upload in the internal network: a PUT with bytes of the attacker's choice."""

    def turn(heard: Heard, port: int) -> Answer:
        return reply(202, Location=f"http://internal.test:{port}/api") if heard.method == "POST" else reply(404)

    return await led(lambda repository: push_blob(repository, BLOB, DATA), turn)


async def spelled(host: str, _tmp_path: Path) -> Outcome:
    """Redirect to an address of the internal network, spelled as ``host``."""
    return await led(read, redirecting(host))


#: 127.0.0.2 in the ways that an unguarded client follows.
SPELLINGS = {
    "plain": "127.0.0.2",
    "hex": "0x7f.0x0.0x0.0x2",
    "hex-number": "0x7f000002",
    "mapped": "[::ffff:127.0.0.2]",
    "mapped-hex": "[::ffff:7f00:2]",
}


@asynccontextmanager
async def same_port(one: str, other: str) -> AsyncIterator[tuple[Wire, Wire]]:
    """Serve the same at two addresses, at one port that is free at both."""
    while True:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(wire(lambda _: reply(200, DATA), host=one))
            try:
                beside = wire(lambda _: reply(200, DATA), host=other, port=port_of(first))
                second = await stack.enter_async_context(beside)
            except OSError:
                continue
            yield first, second
            return


async def rebinding(_tmp_path: Path) -> Outcome:
    """Redirect to a name that is public when it is checked, and internal when it is connected to."""
    asked: list[str] = []

    async def changing(host: str, port: int) -> Sequence[str]:
        if host != "evil.test":
            return await lookup(host, port)
        asked.append(host)
        return [PUBLIC if len(asked) == 1 else INTERNAL]

    async with (
        same_port(PUBLIC, INTERNAL) as (public, internal),
        wire(lambda _: reply(307, Location=f"http://evil.test:{port_of(public)}/x")) as home,
    ):
        settings = RegistrySettings(host=f"registry.test:{port_of(home)}", plain_http=True)
        keys = HostKeys(settings.host)
        async with RegistryClient(settings, keys, Recorder(), lookup=changing, classify=classify) as client:
            error = await said(read_blob(client.repository("app"), BLOB), SyncerError)
        return Outcome(loot=" ".join(internal.lines), error=error)


async def other_registry(*trusted: str) -> Outcome:
    """Redirect from a registry to the name of another, over plain HTTP, which asks for its credentials.

    Where the other is trusted, whoever sits on the way to the one plays it, and gets the password that is
    kept for it; where it is not, the one has us use what we may read there.
    """

    def turn(_heard: Heard, port: int) -> Answer:
        return reply(307, Location=f"http://public.test:{port}/v2/app/blobs/{BLOB.digest}")

    challenge = reply(401, WWW_Authenticate='Basic realm="x"')
    async with (
        wire(lambda heard: reply(200, DATA) if heard.authorization else challenge) as mallory,
        wire(lambda heard: turn(heard, port_of(mallory))) as home,
        client_of(home, f"public.test:{port_of(mallory)}", *trusted) as client,
    ):
        error = await said(read_blob(client.repository("app"), BLOB), SyncerError)
        return Outcome(loot=" ".join(mallory.authorizations), error=error)


def admit_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a registry lead anywhere."""

    async def admitted(_self: Guard, _host: str, _port: int, _kind: AddressKind) -> bool:
        return True

    monkeypatch.setattr(Guard, "_is_admitted", admitted)


def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a registry lead anywhere, however it is spelled."""

    async def unchecked(*_: object, **__: object) -> None:
        return

    admit_all(monkeypatch)
    monkeypatch.setattr(Guard, "check", unchecked)


def _look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check one answer of the name service and connect to the next, as a check before the request does."""

    async def resolve(
        self: GuardedResolver, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        await self._guard.addresses(host, port)
        return resolver._results(host, port, await self._guard._resolve(host, port))

    monkeypatch.setattr(GuardedResolver, "resolve", resolve)


def _row(name: str, threat: str, attack: Callable[[Path], Awaitable[Outcome]]) -> Row:
    return Row(
        name=name,
        threat=threat,
        defence="syncer.registry.network.resolver.Guard._is_admitted",
        attack=attack,
        switch_off=admit_all,
        refusal=UnsafeAddress,
    )


ROWS = [
    _row("S7-realm", "the token service of a public registry is in the internal network", realm),
    _row("S7-location", "an upload of a public registry is in the internal network", location),
    _row("S7-redirect", "a redirect of a public registry leads into the internal network", redirect),
    _row("S7-metadata", "a redirect leads to the metadata service, with its credentials", metadata),
    Row(
        name="S7-one-of-two",
        threat="a name has an internal address beside a public one",
        defence="syncer.registry.network.resolver.Guard._is_admitted",
        attack=one_of_two,
        switch_off=admit_all,
        refusal=SyncerError,
    ),
    *(
        Row(
            name=f"S7-spelling-{name}",
            threat=f"an internal address is spelled {spelling}",
            defence="syncer.registry.network.resolver.Guard.check",
            attack=partial(spelled, spelling),
            switch_off=unguarded,
            refusal=UnsafeAddress,
        )
        for name, spelling in SPELLINGS.items()
    ),
    Row(
        name="S7-rebinding",
        threat="a name has another address when it is connected to than when it was checked",
        defence="syncer.registry.network.resolver.GuardedResolver.resolve",
        attack=rebinding,
        switch_off=_look_again,
    ),
    Row(
        name="S6-other-registry",
        threat="a redirect from a registry without TLS gets another registry's credentials in the clear",
        defence="syncer.registry.auth.origins.may_see_credentials",
        attack=lambda _: other_registry("public.test"),
        switch_off=lambda patch: patch.setattr(
            client_module, "may_see_credentials", lambda there, hosts: is_trusted(there.host, there.port, hosts)
        ),
        refusal=Unauthorized,
    ),
    Row(
        name="S6-deputy",
        threat="a redirect to another registry has what the user may read there copied to the target",
        defence="syncer.registry.auth.origins.may_see_credentials",
        attack=lambda _: other_registry(),
        switch_off=lambda patch: patch.setattr(client_module, "may_see_credentials", lambda *_: True),
        refusal=Unauthorized,
    ),
]
