"""Lists of tags as registries send them: with digests, with nulls, by pages of their own ideas, or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from anyio import to_thread

from syncer.content import TagDescriber
from syncer.errors import NotFound, ProtocolViolation, Side, StatusError
from syncer.oci import Digest
from syncer.registry.capabilities import Capabilities, Capability
from syncer.registry.hosts import Traits, traits_of
from tests.support.scripted import connected, scripted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.scripted import Connected

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")
#: A registry that is known to give pages of 10,000 tags, as GAR is by its name.
LARGE = Traits(tag_page=10_000)


def answering(document: Any, **headers: str) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Return a handler that sends one page."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=json.dumps(document).encode(), headers=headers)

    return handler


def entry(*tags: Any) -> dict[str, Any]:
    """Return what GCR's map says of a manifest."""
    return {"tag": list(tags), "mediaType": "application/vnd.oci.image.index.v1+json", "timeUploadedMs": "1"}


async def described(it: Connected, name: str = "a") -> dict[str, Digest | None]:
    """Read the list of a repository."""
    repository = it.client.repository(name, Side.SOURCE)
    assert isinstance(repository, TagDescriber)
    return {tag: digest async for tag, digest in repository.described_tags()}


async def tags(it: Connected) -> list[str]:
    """Read the tags alone."""
    return [tag async for tag in it.client.repository("a", Side.SOURCE).tags()]


# ------------------------------------------------------------------ digests beside the tags


async def test_a_map_of_manifests_gives_the_digests() -> None:
    """Where the list says what every tag stands for, one request tells it all, whoever sends it."""
    document = {"tags": ["1", "latest", "2"], "manifest": {ONE: entry("1", "latest"), TWO: entry("2"), "x": entry()}}
    async with scripted(answering(document)) as server, connected(server.address) as it:
        assert await described(it) == {"1": ONE, "latest": ONE, "2": TWO}
    assert server.lines == ["GET /v2/a/tags/list"]


async def test_without_a_map_no_digest_is_known() -> None:
    """The field is taken when it is there and never assumed, not even of a registry that has it as a rule."""
    async with scripted(answering({"tags": ["1"]})) as server, connected(server.address) as it:
        it.client.capabilities = Capabilities(traits=traits_of("gcr.io"))
        assert await described(it) == {"1": None}


@pytest.mark.parametrize(
    "listed",
    [
        None,
        [],
        "x",
        {ONE: None},
        {ONE: {"tag": "1"}},
        {ONE: {"tag": [None, 1, {"1": 1}]}},
        {"sha256:short": entry("1")},
        {"../../x": entry("1")},
        {ONE: entry("1"), TWO: entry("1")},
        {ONE: entry("1"), "no digest": entry("1")},
        {ONE: entry("other")},
    ],
)
async def test_a_map_that_cannot_be_right_is_not_used(listed: Any) -> None:
    """A tag with two digests, with none, or with something else has to be asked for."""
    async with scripted(answering({"tags": ["1"], "manifest": listed})) as server, connected(server.address) as it:
        assert await described(it) == {"1": None}


async def test_a_tag_that_is_only_in_the_map_is_none() -> None:
    """The tags are those of the list."""
    document = {"tags": ["1"], "manifest": {ONE: entry("1", "2", "../x")}}
    async with scripted(answering(document)) as server, connected(server.address) as it:
        assert await described(it) == {"1": ONE}


async def test_a_large_map_does_not_hold_up_the_loop() -> None:
    """Ten thousand tags with their digests come in one page and one request."""
    names = [f"build-{at:05}" for at in range(10_000)]
    held = await to_thread.run_sync(lambda: {Digest.of(name.encode()): entry(name) for name in names})
    body = {"tags": names, "manifest": held}
    async with scripted(answering(body)) as server, connected(server.address) as it:
        it.client.capabilities = Capabilities(traits=LARGE)
        found = await described(it)
    assert [found[name] for name in names] == list(held)
    assert server.lines == ["GET /v2/a/tags/list?n=10000"]


# ------------------------------------------------------------------ pages


async def test_no_number_is_sent_to_a_stranger() -> None:
    """What number a registry takes is its own affair, unless it is known."""
    async with scripted(answering({"tags": []})) as server, connected(server.address) as it:
        assert await tags(it) == []
    assert server.lines == ["GET /v2/a/tags/list"]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_number_that_is_refused(status: int) -> None:
    """The list is read without it, and the next one of that registry is asked for without it at once."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "n=" in request.raw_path:
            error = {"code": "PAGINATION_NUMBER_INVALID", "message": "invalid number"}
            return web.json_response({"errors": [error]}, status=status)
        return web.json_response({"tags": ["1"]})

    async with scripted(handler) as server, connected(server.address) as it:
        it.client.capabilities = Capabilities(traits=LARGE, clock=it.clock)
        assert await tags(it) == ["1"]
        assert await tags(it) == ["1"]
    assert [line.partition("?")[2] for line in server.lines] == ["n=10000", "", ""]


async def test_a_refusal_that_is_not_about_the_number() -> None:
    """When the list is refused without a number too, that is the error, and nothing is learned."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=400)

    async with scripted(handler) as server, connected(server.address) as it:
        it.client.capabilities = Capabilities(traits=LARGE)
        with pytest.raises(StatusError):
            await tags(it)
        assert it.client.capabilities.observed(Capability.TAG_PAGE) is None


@pytest.mark.parametrize("status", [400, 403])
async def test_a_later_page_that_is_refused_is_an_error(status: int) -> None:
    """A list that breaks off is no list: what was read is not taken for all there is."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "last" in request.raw_path:
            return web.Response(status=status)
        return web.json_response({"tags": ["1"]}, headers={"Link": '<?last=1>; rel="next"'})

    async with scripted(handler) as server, connected(server.address) as it:
        it.client.capabilities = Capabilities(traits=LARGE)
        with pytest.raises(StatusError):
            await tags(it)
    assert len(server.lines) == 2


async def test_quays_older_pages() -> None:
    """A Link with a token of Quay's own is followed byte for byte, also through an empty page."""
    pages = {
        "/v2/a/tags/list": (["1"], "</v2/a/tags/list?n=1&next_page=gAAA%3D%2Bx>; rel=next"),
        "/v2/a/tags/list?n=1&next_page=gAAA%3D%2Bx": (
            [],
            '</v2/a/tags/list?n=1&next_page=gBBB>; title="a, b"; rel="next"',
        ),
        "/v2/a/tags/list?n=1&next_page=gBBB": (["1", "2"], ""),
    }

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        listed, link = pages[request.raw_path]
        return web.json_response({"tags": listed}, headers={"Link": link} if link else {})

    async with scripted(handler) as server, connected(server.address) as it:
        assert await tags(it) == ["1", "2"]
    assert [f"GET {path}" for path in pages] == server.lines


@pytest.mark.parametrize("page", ["/v2/a/tags/list?last=1", "/v2/a/tags/list"])
async def test_pages_in_a_circle(page: str) -> None:
    """A next page that was read before ends the list with an error."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        link = "?last=1" if request.raw_path == "/v2/a/tags/list" else page
        return web.json_response({"tags": ["1"]}, headers={"Link": f'<{link}>; rel="next"'})

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation, match="in a circle") as caught:
            await tags(it)
    assert Side.SOURCE is caught.value.side
    assert len(server.lines) == 2


async def test_a_list_that_is_redirected() -> None:
    """registry.k8s.io leads every list to another host; its pages go on there."""

    async def backend(request: web.BaseRequest) -> web.StreamResponse:
        if "last" in request.raw_path:
            return web.json_response({"tags": ["2"]})
        headers = {"Link": '</v2/k8s/a/tags/list?last=1>; rel="next"'}
        return web.json_response({"tags": ["1"], "manifest": {ONE: entry("1")}}, headers=headers)

    async with scripted(backend) as other:

        async def handler(_request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"{other.url}/v2/k8s/a/tags/list"})

        async with scripted(handler) as server, connected(server.address) as it:
            assert await described(it) == {"1": ONE, "2": None}
    assert server.lines == ["GET /v2/a/tags/list"]
    assert other.lines == ["GET /v2/k8s/a/tags/list", "GET /v2/k8s/a/tags/list?last=1"]


async def test_a_next_page_on_another_host_is_not_asked_for() -> None:
    """A Link stays where the list is; the error says what an operator can do."""
    async with scripted(answering({"tags": []})) as other:
        link = f'<{other.url}/v2/a/tags/list?last=1>; rel="next"'
        async with scripted(answering({"tags": ["1"]}, Link=link)) as server, connected(server.address) as it:
            with pytest.raises(ProtocolViolation, match="another host") as caught:
                await tags(it)
    assert other.lines == []
    assert "relative" in caught.value.hint


# ------------------------------------------------------------------ nothing, and something else


@pytest.mark.parametrize(
    "document", [{"tags": None}, {"tags": []}, {"name": "a"}, {"name": "a", "tags": [None, 1, []]}]
)
async def test_an_empty_list(document: Any) -> None:
    """A null is a list of nothing; so is a list of what are no tags."""
    async with scripted(answering(document)) as server, connected(server.address) as it:
        assert await tags(it) == []


@pytest.mark.parametrize(
    "document", [{}, {"status": "ok"}, {"tags": "1"}, {"tags": {"1": "x"}}, {"name": "a", "tags": 0}]
)
async def test_something_else_is_no_empty_list(document: Any) -> None:
    """An object without a list of tags would look like a repository where nothing is to be done."""
    async with scripted(answering(document)) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation, match="no list of tags"):
            await tags(it)


async def test_no_repository_or_no_tags() -> None:
    """A 404 with NAME_UNKNOWN is about the name; another may be about a repository without tags (GHCR)."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "/none/" in request.path:
            return web.json_response({"errors": [{"code": "NAME_UNKNOWN"}]}, status=404)
        return web.Response(status=404, text="<html>not here</html>", content_type="text/html")

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(NotFound) as caught:
            await described(it, "none")
        assert "without tags" not in caught.value.hint
        with pytest.raises(NotFound) as caught:
            await described(it, "a")
        assert "without tags" in caught.value.hint
