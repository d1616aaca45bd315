"""Proxies on the wire: who is asked through them, what they see, and what is said when they do not help."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.errors import ConnectionFailed, Denied, RegistryError, ServerFailure, UnsafeAddress
from syncer.registry import RegistrySettings, TlsSettings
from syncer.registry.credentials.values import Basic
from syncer.registry.network.proxies import ProxySettings
from tests.support import images
from tests.support.authority import Authority
from tests.support.proxying import proxying
from tests.support.scripted import connected, scripted

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE = images.image()
USER = Basic(username="user", password="canary-password")
PROXY_USER = "Basic cHJveHk6Y2FuYXJ5LXByb3h5"  # proxy:canary-proxy


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a certificate authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


async def manifest(request: web.BaseRequest) -> web.StreamResponse:
    """Answer with a manifest to who shows a password."""
    if "Authorization" not in request.headers:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
    return web.Response(body=SAMPLE.manifest.raw, content_type=SAMPLE.manifest.media_type)


async def nobody(host: str, _port: int) -> Sequence[str]:
    """Know the proxy's name only: who uses a proxy often has no name service for the world outside."""
    if host == "proxy.test":
        return ["127.0.0.1"]
    raise socket.gaierror(socket.EAI_NONAME, f"{host} must not be looked up")


def port_of(address: str) -> int:
    """Return the port of ``host:port``."""
    return int(address.rpartition(":")[2])


async def test_plain_http() -> None:
    """A plain registry is asked through the proxy, which is shown its own password, and the registry only its own."""
    async with (
        scripted(manifest) as server,
        proxying({"reg.test": port_of(server.address)}, authorization=PROXY_USER) as proxy,
    ):
        url = f"http://proxy:canary-proxy@proxy.test:{port_of(proxy.address)}"
        settings = RegistrySettings(host="reg.test", plain_http=True, proxies=ProxySettings(http=url))
        async with connected("", settings=settings, credential=USER, lookup=nobody) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("ab")).digest
    assert proxy.lines[0] == "GET http://reg.test/v2/a/manifests/ab"
    assert [seen.headers["Host"] for seen in server.seen] == ["reg.test", "reg.test"]
    assert all("canary-proxy" not in str(seen.headers) and PROXY_USER not in str(seen.headers) for seen in server.seen)


async def test_tunnel(authority: Authority) -> None:
    """A TLS registry is reached by CONNECT: the proxy sees no credential, and one tunnel serves many requests."""
    tls = authority.server("reg.test")
    async with scripted(manifest, tls=tls) as server, proxying({"reg.test": port_of(server.address)}) as proxy:
        settings = RegistrySettings(
            host="reg.test",
            tls=TlsSettings(ca=str(authority.ca)),
            proxies=ProxySettings(https=f"http://{proxy.address}"),
        )
        async with connected("", settings=settings, credential=USER, lookup=nobody) as it:
            for _ in range(3):
                assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
    assert proxy.lines == ["CONNECT reg.test:443"]
    assert "uthorization: Basic" not in proxy.heads[0]
    assert b"canary" not in proxy.tunnelled
    assert len(server.seen) == 4


async def test_password_in_a_tunnel(authority: Authority) -> None:
    """The proxy's password goes with the CONNECT and not through the tunnel."""
    tls = authority.server("reg.test")
    async with (
        scripted(manifest, tls=tls) as server,
        proxying({"reg.test": port_of(server.address)}, authorization=PROXY_USER) as proxy,
    ):
        settings = RegistrySettings(
            host="reg.test",
            tls=TlsSettings(ca=str(authority.ca)),
            proxies=ProxySettings(https=f"http://proxy:canary-proxy@{proxy.address}"),
        )
        async with connected("", settings=settings, credential=USER, lookup=nobody) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
    assert all("Proxy-Authorization" not in seen.headers for seen in server.seen)


async def test_proxy_over_tls(authority: Authority) -> None:
    """A proxy may itself be spoken to in TLS; it sees no client certificate, as then it is refused."""
    tls = authority.server("reg.test")
    async with (
        scripted(manifest, tls=tls) as server,
        proxying({"reg.test": port_of(server.address)}, tls=authority.server("proxy.test")) as proxy,
    ):
        proxies = ProxySettings(https=f"https://proxy.test:{port_of(proxy.address)}")
        settings = RegistrySettings(host="reg.test", tls=TlsSettings(ca=str(authority.ca)), proxies=proxies)
        async with connected("", settings=settings, credential=USER, lookup=nobody) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
        cert, key = authority.issue("me")
        for ours in (TlsSettings(ca=str(authority.ca), cert=str(cert), key=str(key)), TlsSettings(insecure=True)):
            with pytest.raises(RegistryError, match="client certificate") as caught:
                async with connected("", settings=RegistrySettings(host="reg.test", tls=ours, proxies=proxies)):
                    pass
            assert "http://" in caught.value.hint


async def test_each_host_has_its_own_rule() -> None:
    """A storage that NO_PROXY names is reached directly by a registry that is not, and the other way round."""

    async def storage_handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=SAMPLE.manifest.raw, content_type=SAMPLE.manifest.media_type)

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": target})

    async with scripted(storage_handler) as storage, scripted(handler) as server:
        routes = {"reg.test": port_of(server.address), "storage.test": port_of(storage.address)}
        async with proxying(routes) as proxy:

            async def lookup(_host: str, _port: int) -> Sequence[str]:
                return ["127.0.0.1"]

            for exceptions, lines in (
                ("storage.test", ["GET http://reg.test:PORT/v2/a/manifests/1"]),
                ("reg.test", ["GET http://storage.test:STORE/x?sig=%2F+A"]),
            ):
                proxy.heads.clear()
                target = f"http://storage.test:{port_of(storage.address)}/x?sig=%2F+A"
                settings = RegistrySettings(
                    host=f"reg.test:{port_of(server.address)}",
                    plain_http=True,
                    proxies=ProxySettings(http=proxy.address, exceptions=(exceptions,)),
                    trusted_hosts=("storage.test",),
                )
                async with connected("", settings=settings, lookup=lookup) as it:
                    assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
                expected = [
                    line.replace("PORT", str(port_of(server.address))).replace("STORE", str(port_of(storage.address)))
                    for line in lines
                ]
                assert proxy.lines == expected


@pytest.mark.parametrize(
    ("host", "is_refused"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("a.localhost", True),
        ("metadata.google.internal", True),
        ("169.254.169.254", True),
        ("10.0.0.1", True),
        ("0x7f.1", True),
        ("storage.test", False),
    ],
)
async def test_where_a_proxy_is_led(host: str, is_refused: bool) -> None:  # noqa: FBT001 - a table's column
    """Names are resolved by the proxy; what the URL itself says of its address is checked before it is asked."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        if _request.host == "storage.test":
            return web.Response(body=SAMPLE.manifest.raw, content_type=SAMPLE.manifest.media_type)
        return web.Response(status=307, headers={"Location": f"http://{host}/x"})

    async with (
        scripted(handler) as server,
        proxying(dict.fromkeys(("reg.test", "storage.test", host), port_of(server.address))) as proxy,
    ):
        proxies = ProxySettings(http=f"http://proxy.test:{port_of(proxy.address)}")
        settings = RegistrySettings(host="reg.test", plain_http=True, proxies=proxies)
        async with connected("", settings=settings, lookup=nobody) as it:
            if is_refused:
                with pytest.raises(UnsafeAddress):
                    await it.client.repository("a").fetch_manifest("1")
            else:
                await it.client.repository("a").fetch_manifest("1")
    assert len(proxy.lines) == (1 if is_refused else 2)


async def test_a_public_registry_leads_past_the_proxy() -> None:
    """A registry that only the proxy knows counts as public: it leads nowhere inside, NO_PROXY or not."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"http://inside.test:{port_of(inside.address)}/x"})

    async def lookup(host: str, _port: int) -> Sequence[str]:
        assert host == "inside.test"
        return ["127.0.0.1"]

    async with (
        scripted(manifest) as inside,
        scripted(handler) as server,
        proxying({"reg.test": port_of(server.address)}) as proxy,
    ):
        proxies = ProxySettings(http=proxy.address, exceptions=("inside.test",))
        settings = RegistrySettings(host="reg.test", plain_http=True, proxies=proxies)
        async with connected("", settings=settings, lookup=lookup) as it:
            with pytest.raises(UnsafeAddress, match=r"inside\.test"):
                await it.client.repository("a").fetch_manifest("1")
        assert inside.seen == []


# In plain HTTP every other answer of a proxy looks like the registry's.
@pytest.mark.parametrize(
    ("scheme", "status", "kind", "words"),
    [
        ("http", 407, Denied, "user name and password"),
        ("https", 407, Denied, "user name and password"),
        ("https", 403, Denied, "refuses"),
        ("https", 502, ServerFailure, "cannot reach"),
    ],
)
async def test_a_proxy_that_refuses(scheme: str, status: int, kind: type[RegistryError], words: str) -> None:
    """A proxy's refusal is told from the registry's, names the proxy without its password, and says what to do."""
    async with proxying({}, status=status) as proxy:
        url = f"http://proxy:canary-proxy@{proxy.address}"
        settings = RegistrySettings(
            host="reg.test", plain_http=scheme == "http", proxies=ProxySettings(http=url, https=url)
        )
        async with connected("", settings=settings, lookup=nobody, credential=USER) as it:
            with pytest.raises(kind, match=words) as caught:
                await it.client.repository("a").resolve("1")
    error = caught.value
    assert f"the proxy http://{proxy.address}" in error.message
    assert "reg.test" in error.message
    assert error.hint
    assert "canary" not in f"{error!r}{error.message}{error.hint}{error.url}"
    # Only what may pass is tried again.
    assert len(proxy.heads) == (1 if kind is Denied else 6)
    assert all("canary" not in head for head in proxy.heads)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_proxy_there(scheme: str) -> None:
    """A proxy that is not there is named, and not the registry."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    url = f"http://proxy:canary-proxy@{address}"
    settings = RegistrySettings(
        host="reg.test", plain_http=scheme == "http", proxies=ProxySettings(http=url, https=url)
    )
    async with connected("", settings=settings, lookup=nobody) as it:
        with pytest.raises(ConnectionFailed) as caught:
            await it.client.repository("a").resolve("1")
    assert caught.value.message == f"cannot connect to the proxy http://{address} for reg.test: connection refused"
    assert "HTTPS_PROXY" in caught.value.hint
    assert "canary" not in f"{caught.value!r}{caught.value.hint}"


async def test_the_name_of_the_proxy_is_unknown() -> None:
    """A proxy whose name does not exist is named as well."""
    proxies = ProxySettings(https="http://nowhere.test:3128")
    async with connected("", settings=RegistrySettings(host="reg.test", proxies=proxies), lookup=nobody) as it:
        with pytest.raises(
            ConnectionFailed, match=r"the proxy http://nowhere\.test:3128 for reg\.test cannot be resolved"
        ):
            await it.client.repository("a").resolve("1")


async def test_untrusted_through_a_proxy(authority: Authority) -> None:
    """A registry whose certificate is not trusted is told of as such, with the proxy that was in between."""
    async with (
        scripted(manifest, tls=authority.server("reg.test")) as server,
        proxying({"reg.test": port_of(server.address)}) as proxy,
    ):
        settings = RegistrySettings(host="reg.test", proxies=ProxySettings(https=proxy.address))
        async with connected("", settings=settings, lookup=nobody) as it:
            with pytest.raises(
                RegistryError, match=r"certificate of reg\.test, through the proxy http://127"
            ) as caught:
                await it.client.repository("a").resolve("1")
    assert "ca:" in caught.value.hint


async def test_socks() -> None:
    """A SOCKS proxy is refused before anything is sent."""
    settings = RegistrySettings(host="reg.test", proxies=ProxySettings.of({"ALL_PROXY": "socks5://u:canary@p:1080"}))
    with pytest.raises(RegistryError, match="SOCKS") as caught:
        async with connected("", settings=settings, lookup=nobody):
            pass
    assert "canary" not in f"{caught.value!r}{caught.value.hint}"


async def test_this_machine_needs_no_proxy() -> None:
    """A registry on this machine is reached directly, whatever the environment says."""
    async with scripted(manifest) as server:
        settings = RegistrySettings(
            host=server.address, plain_http=True, proxies=ProxySettings.of({"ALL_PROXY": "http://nowhere.test:1"})
        )
        async with connected(server.address, settings=settings, credential=USER) as it:
            await it.client.repository("a").fetch_manifest("1")
