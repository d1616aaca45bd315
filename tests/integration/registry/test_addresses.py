"""Where a registry may lead: nothing is sent to an address that is not its business, however it is named.

127.0.0.2 stands for the internet here: the classifier calls it public. 127.0.0.1 is what it is.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
from aiohttp import web

from syncer.errors import ConnectionFailed, SyncerError, UnsafeAddress
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.auth.memory import Demand
from syncer.registry.credentials.values import Basic
from syncer.registry.network.addresses import AddressKind, kind_of
from syncer.registry.network.resolver import system_lookup
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import Clock, Keys, connected, scripted
from tests.support.transfer import opener_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from syncer.registry import RegistryRepository
    from syncer.registry.network.addresses import IpAddress
    from tests.support.scripted import Scripted

SAMPLE = images.image()
DATA = images.random_bytes(2000, "blob")
BLOB = images.blob(DATA)
USER = Basic(username="user", password="canary-password")
OUTSIDE = "127.0.0.2"


def classify(address: IpAddress) -> AddressKind:
    """Tell what an address is, with one loopback address for the internet and one for a company's network."""
    special = {OUTSIDE: AddressKind.PUBLIC, "127.0.0.3": AddressKind.PRIVATE}
    return special.get(str(address)) or kind_of(address)


class Names:
    """A name service with a script: each name has its answers, the last of which stays; counts what it is asked."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self._answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


def port_of(server: Scripted) -> int:
    """Return the port of a server."""
    return int(server.address.rpartition(":")[2])


async def manifest(_request: web.BaseRequest) -> web.StreamResponse:
    """Answer with a manifest, a token or a blob's success, whatever is asked."""
    return web.Response(body=SAMPLE.manifest.raw, content_type=SAMPLE.manifest.media_type)


async def pull(repository: RegistryRepository) -> None:
    """Read a manifest."""
    await repository.fetch_manifest("1")


async def push(repository: RegistryRepository) -> None:
    """Push a blob."""
    session = await repository.begin_blob(BLOB)
    assert not isinstance(session, str)
    await session.send(opener_of(DATA, BLOB))


async def tags(repository: RegistryRepository) -> None:
    """List the tags."""
    assert all([tag async for tag in repository.tags()])


#: How a registry leads to another host: what is asked of it, and what it answers.
WAYS: dict[str, tuple[Callable[[RegistryRepository], Awaitable[None]], int, str]] = {
    "redirect": (pull, 307, "Location: {}"),
    "realm": (pull, 401, 'WWW-Authenticate: Bearer realm="{}",service="s"'),
    "location": (push, 202, "Location: {}"),
    "link": (tags, 200, 'Link: <{}>; rel="next"'),
}


async def lead(
    way: str, target: str, names: Names, *, trusted: tuple[str, ...] = (), home: str = "reg.test", bind: str = OUTSIDE
) -> SyncerError | None:
    """Let a registry lead the client to ``target``, and return what came of it."""
    ask, status, header = WAYS[way]
    name, value = header.format(target).split(": ", 1)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(status=404)
        return web.Response(status=status, headers={name: value}, body=b'{"name": "a", "tags": []}')

    async with scripted(handler, host=bind) as server:
        host = f"{home}:{port_of(server)}"
        settings = RegistrySettings(host=host, plain_http=True, trusted_hosts=trusted)
        async with connected(host, settings=settings, credential=USER, lookup=names, classify=classify) as it:
            try:
                await ask(it.client.repository("a"))
            except SyncerError as error:
                return error
    return None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["evil.test", "127.0.0.1", "localhost"])
async def test_a_public_registry_leads_to_this_machine(way: str, name: str) -> None:
    """A public registry that leads to loopback, by a name or by the address, is refused and nothing is sent there."""
    names = Names(reg_test=[[OUTSIDE]], evil_test=[["127.0.0.1"]], localhost=[["127.0.0.1"]])
    async with scripted(manifest) as inside:
        error = await lead(way, f"http://{name}:{port_of(inside)}/token", names)
        assert inside.seen == []
    if way != "link":
        assert isinstance(error, UnsafeAddress)
        assert f"reg.test:{error.registry.rpartition(':')[2]} leads to" in error.message
        assert name in error.message
        assert "a loopback address" in error.message
        assert "trusted_hosts" in error.hint
        assert "canary" not in f"{error!r}{error.hint}{error.url}"


@pytest.mark.parametrize("way", ["redirect", "realm", "location"])
async def test_a_trusted_host(way: str) -> None:
    """What the operator trusts by name is asked wherever it is; a trusted domain is not the name itself."""
    names = Names(reg_test=[[OUTSIDE]], a_corp_example=[["127.0.0.1"]])
    async with scripted(manifest) as inside:
        target = f"http://a.corp.example:{port_of(inside)}/x"
        assert isinstance(await lead(way, target, names, trusted=("corp.example", "b.corp.example")), UnsafeAddress)
        assert inside.seen == []
        assert not isinstance(await lead(way, target, names, trusted=("*.corp.example",)), UnsafeAddress)
        assert inside.seen != []


@pytest.mark.parametrize(
    "host",
    [
        "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "127.0.0.1.", "LOCALHOST", "localhost.",
        "[::ffff:127.0.0.1]", "[::1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "%31%32%37.0.0.1", "127.0.0.1%2f",
        "[fe80::1%25lo]", "[::1%25lo]", "0.0.0.0", "0", "[::]",
        "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "169.254.169.254",
        "[fd00:ec2::254]", "10.0.0.1", "100.64.0.1", "224.0.0.1", "metadata.test",
    ],
)  # fmt: skip
async def test_odd_spellings(host: str) -> None:
    """No spelling of an address gets past the check, and what is no host at all is not tried."""
    names = Names(
        reg_test=[[OUTSIDE]],
        localhost=[["127.0.0.1"]],
        LOCALHOST=[["127.0.0.1"]],
        metadata_test=[["169.254.169.254"]],
        **{"localhost.": [["127.0.0.1"]]},
    )
    async with scripted(manifest) as inside:
        error = await lead("redirect", f"http://{host}:{port_of(inside)}/latest/meta-data", names)
        assert inside.seen == []
    assert isinstance(error, UnsafeAddress)


@pytest.mark.parametrize(("home", "bind"), [("127.0.0.1", "127.0.0.1"), ("private.test", "127.0.0.3")])
async def test_metadata_is_for_nobody(home: str, bind: str) -> None:
    """Neither a loopback nor a private registry leads to a metadata service, and no trust changes that."""
    names = Names(private_test=[["127.0.0.3"]], evil_test=[["169.254.169.254"]])
    for host in ("169.254.169.254", "evil.test"):
        error = await lead("realm", f"http://{host}/x", names, trusted=(host,), home=home, bind=bind)
        assert isinstance(error, UnsafeAddress)
        assert "metadata" in error.message
        assert "trusted_hosts" not in error.hint


async def test_a_private_registry() -> None:
    """A private registry leads to private hosts, and not to this machine."""
    names = Names(reg_test=[["127.0.0.3"]], storage_test=[["127.0.0.3"]], local_test=[["127.0.0.1"]])
    async with scripted(manifest, host="127.0.0.3") as storage, scripted(manifest) as inside:
        target = f"http://storage.test:{port_of(storage)}/x"
        assert await lead("redirect", target, names, bind="127.0.0.3") is None
        assert [request.authorization for request in storage.seen] == [""]
        error = await lead("redirect", f"http://local.test:{port_of(inside)}/x", names, bind="127.0.0.3")
        assert isinstance(error, UnsafeAddress)
        assert inside.seen == []


async def test_a_registry_with_an_address_too_many() -> None:
    """A registry cannot widen its reach by giving its own name a loopback address as well."""
    names = Names(reg_test=[[OUTSIDE, "127.0.0.1"]], evil_test=[["127.0.0.1"]])
    async with scripted(manifest) as inside:
        error = await lead("redirect", f"http://evil.test:{port_of(inside)}/x", names)
        assert isinstance(error, UnsafeAddress)
        # Its own name is no way round either, on any port but its own.
        error = await lead("redirect", f"http://reg.test:{port_of(inside)}/x", names)
        assert isinstance(error, ConnectionFailed)
        assert inside.seen == []


async def test_a_name_with_good_and_bad_addresses() -> None:
    """Of a name's addresses those are used that are within reach."""
    names = Names(reg_test=[[OUTSIDE]], cdn_test=[["127.0.0.1", OUTSIDE]])
    async with scripted(manifest, host=OUTSIDE) as storage:
        assert await lead("redirect", f"http://cdn.test:{port_of(storage)}/x", names) is None
        assert len(storage.seen) == 1


async def test_rebinding() -> None:
    """A name that is public when it is checked and loopback a moment later is connected to as it was checked."""
    names = Names(reg_test=[[OUTSIDE]], evil_test=[[OUTSIDE], ["127.0.0.1"]])
    async with scripted(manifest, host=OUTSIDE) as outside, scripted(manifest, port=port_of(outside)) as inside:
        target = f"http://evil.test:{port_of(outside)}/x"
        assert await lead("redirect", target, names) is None
        assert (len(outside.seen), inside.seen) == (1, [])
        # One lookup for the check and the connection together.
        assert names.asked.count("evil.test") == 1
        assert isinstance(await lead("redirect", target, names), UnsafeAddress)
        assert inside.seen == []


async def test_rebinding_of_the_registry_itself() -> None:
    """A registry's own name that turns from public to loopback during a run is not followed."""
    names = Names(reg_test=[[OUTSIDE], ["127.0.0.1"]])

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        response = await manifest(_request)
        response.force_close()
        return response

    async with scripted(handler, host=OUTSIDE) as server, scripted(manifest, port=port_of(server)) as inside:
        host = f"reg.test:{port_of(server)}"
        settings = RegistrySettings(host=host, plain_http=True)
        async with connected(host, settings=settings, lookup=names, classify=classify) as it:
            await it.client.repository("a").fetch_manifest("1")
            for session in it.client._transport._sessions.values():
                session.connector.clear_dns_cache()  # type: ignore[union-attr]  # as after its ten seconds
            with pytest.raises(UnsafeAddress):
                await it.client.repository("a").fetch_manifest("1")
        assert inside.seen == []


async def test_public_hosts_cost_no_lookup_of_the_registry() -> None:
    """Each name is looked up once, and the registry's only because it is asked itself."""
    names = Names(reg_test=[[OUTSIDE]], cdn_test=[[OUTSIDE]])
    async with scripted(manifest, host=OUTSIDE) as storage:
        assert await lead("redirect", f"http://cdn.test:{port_of(storage)}/x", names) is None
    assert names.asked == ["reg.test", "cdn.test"]


async def test_a_name_that_does_not_exist() -> None:
    """A registry whose name is unknown is said to have no such name, and one without an address as well."""
    for names in (Names(), Names(reg_test=[[]])):
        settings = RegistrySettings(host="reg.test:5000", plain_http=True)
        async with connected("reg.test:5000", settings=settings, lookup=names, classify=classify) as it:
            with pytest.raises(ConnectionFailed, match="cannot be resolved") as caught:
                await it.client.repository("a").resolve("1")
        assert caught.value.is_absent


async def test_a_registry_without_a_name_whose_token_service_has_an_address() -> None:
    """What an earlier run learned may lead to an address first: the error is that the registry has no name."""
    async with scripted(manifest) as service:
        clock = Clock()
        client = RegistryClient(
            RegistrySettings(host="reg.test:5000", plain_http=True),
            Keys(USER),
            Recorder(),
            clock=clock,
            sleep=clock.sleep,
            lookup=Names(),
            learned=[Demand(realm=f"{service.url}/token")],
        )
        async with client:
            with pytest.raises(ConnectionFailed, match=r"the name of reg\.test:5000 cannot be resolved"):
                await client.repository("a").resolve("1")
    assert service.seen == []


async def test_ipv6() -> None:
    """A registry is reached by an IPv6 address in brackets, its token service and its storage as well."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"token": "t"})
        if request.headers.get("Authorization") != "Bearer t":
            challenge = f'Bearer realm="http://{server.address}/token"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(status=307, headers={"Location": f"http://{storage.address}/x"})

    async with scripted(manifest, host="::1") as storage, scripted(handler, host="::1") as server:
        assert server.address.startswith("[::1]:")
        async with connected(server.address) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
        assert len(server.seen) == 3
        assert [seen.headers["Host"] for seen in storage.seen] == [storage.address]


async def test_the_first_address_refuses() -> None:
    """Of several addresses, one that refuses costs nothing."""
    async with scripted(manifest, host=OUTSIDE) as server:
        names = Names(reg_test=[["127.0.0.5", "::1", OUTSIDE]])
        host = f"reg.test:{port_of(server)}"
        settings = RegistrySettings(host=host, plain_http=True)
        async with connected(host, settings=settings, lookup=names) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
        assert it.clock.slept == []


async def test_the_first_address_does_not_answer() -> None:
    """Of several addresses, one that is a black hole costs a fraction of a second (RFC 8305), not the timeout."""
    with socket.socket() as hole:
        # A queue for one connection that nobody accepts: Linux drops what comes after it.
        hole.bind(("127.0.0.5", 0))
        hole.listen(0)
        port = hole.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.settimeout(0)
                filler.connect_ex(("127.0.0.5", port))
            async with scripted(manifest, host=OUTSIDE, port=port):
                names = Names(reg_test=[["127.0.0.5", OUTSIDE]])
                settings = RegistrySettings(host=f"reg.test:{port}", plain_http=True)
                async with connected("", settings=settings, lookup=names) as it:
                    began = anyio.current_time()
                    assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
                    assert anyio.current_time() - began < settings.timeouts.connect / 2
        finally:
            for filler in fillers:
                filler.close()


def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup that was given up holds up neither the end of the loop nor that of the process."""
    asked, answered, ended = threading.Event(), threading.Event(), threading.Event()

    def hang(*_arguments: object, **_options: object) -> list[object]:
        asked.set()
        answered.wait(5)
        ended.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(system_lookup, "registry.example", 443)
                await anyio.to_thread.run_sync(asked.wait)
                scope.cancel()

    asyncio.run(main())
    assert not ended.is_set()
    assert {thread.daemon for thread in threading.enumerate() if thread.name == "syncer-lookup"} == {True}
    # What comes now, comes to a loop that is closed.
    answered.set()
    assert ended.wait(5)
