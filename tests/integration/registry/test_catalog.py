"""Lists of repositories, where there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from syncer.errors import (
    Denied,
    NotFound,
    ProtocolViolation,
    ServerFailure,
    Side,
    StatusError,
    Unauthorized,
    Unsupported,
)
from syncer.registry import RegistrySettings
from syncer.registry.network.proxies import ProxySettings
from tests.support.scripted import connected, scripted

if TYPE_CHECKING:
    from tests.support.scripted import Connected


async def names(it: Connected) -> list[str]:
    """Read the catalog."""
    return [name async for name in it.client.catalog(Side.SOURCE).repositories()]


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
async def test_a_registry_without_a_catalog(status: int) -> None:
    """However it says so, the error is one, and tells to name the repositories."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text="<html>no</html>", content_type="text/html")

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(Unsupported, match="does not list its repositories") as caught:
            await names(it)
    assert "Name the repositories" in caught.value.hint
    assert Side.SOURCE is caught.value.side
    assert len(server.lines) == 1


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (403, Denied)])
async def test_a_catalog_for_others(status: int, kind: type[Exception]) -> None:
    """Who may not list is told both ways out: other credentials, or names in the spec."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(kind) as caught:
            await names(it)
    assert isinstance(caught.value, Unauthorized | Denied)
    assert "Name the repositories" in caught.value.hint


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (500, ServerFailure)])
async def test_a_catalog_that_breaks_off(status: int, kind: type[Exception]) -> None:
    """A second page that is not there means that names are missing, not that there is no catalog."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "last" in request.raw_path:
            return web.Response(status=status)
        return web.json_response({"repositories": ["a"]}, headers={"Link": '<?last=a>; rel="next"'})

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(kind):
            await names(it)


@pytest.mark.parametrize("host", ["docker.io", "ghcr.io", "registry.k8s.io", "cgr.dev"])
async def test_registries_known_to_have_none_are_not_asked(host: str) -> None:
    """The name tells, and no request is sent."""
    async with connected(host, settings=RegistrySettings(host=host)) as it:
        with pytest.raises(Unsupported, match=host):
            await names(it)


@pytest.mark.parametrize(
    ("document", "expected"), [({"repositories": None}, []), ({"repositories": ["a", None]}, ["a"])]
)
async def test_nulls(document: Any, expected: list[str]) -> None:
    """A null is an empty catalog, and no name."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(document)

    async with scripted(handler) as server, connected(server.address) as it:
        assert expected == await names(it)


async def test_something_else_is_no_empty_catalog() -> None:
    """An object without a list would look like a registry with nothing in it."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation, match="no list of repositories"):
            await names(it)


async def test_a_server_that_wants_tls_is_not_one_without_a_catalog() -> None:
    """What Go's servers say to plain HTTP is about TLS, and so is the hint."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=400, text="Client sent an HTTP request to an HTTPS server.\n")

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(StatusError, match="HTTP request to an HTTPS server") as caught:
            await names(it)
    assert "--no-plain-http" in caught.value.hint
    assert "Name the repositories" not in caught.value.hint


async def test_a_proxy_that_refuses_is_no_reason_to_name_repositories() -> None:
    """Whatever is asked through it is refused in the same way: the hint is about the proxy alone."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=407)

    async with scripted(handler) as proxy:
        settings = RegistrySettings(host="registry.example", plain_http=True, proxies=ProxySettings(http=proxy.url))
        async with connected("registry.example", settings=settings) as it:
            with pytest.raises(Denied, match=r"the proxy .* wants a user name and password") as caught:
                await names(it)
    assert "Name the repositories" not in caught.value.hint
