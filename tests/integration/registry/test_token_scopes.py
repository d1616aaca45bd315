"""Scopes on the wire: what is asked for together, what is not, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from aiohttp import web

from syncer.content import BlobOutcome
from syncer.errors import Side
from syncer.registry.credentials.values import Basic
from tests.support import images
from tests.support.scripted import connected

if TYPE_CHECKING:
    from syncer.registry import RegistryClient
    from tests.support.guarded import GuardedRegistry
    from tests.support.token_service import Asked, TokenService

USER = Basic(username="u", password="canary")
BLOB = images.blob(b"x")


async def mount(client: RegistryClient, source: str, target: str = "dst") -> BlobOutcome | object:
    """Ask for a mount; return its outcome, or what was opened in its place."""
    return await client.repository(target, Side.TARGET).begin_blob(BLOB, mount_from=source)


@pytest.mark.untraced
async def test_one_token_for_two_hundred_tasks(registry: GuardedRegistry, service: TokenService) -> None:
    """Two hundred tasks that push to one repository and read another share two tokens, and two more when these end."""
    async with connected(registry.server.address, credential=USER) as it:

        async def both(number: int) -> None:
            await it.client.repository("dst", Side.TARGET).resolve(f"t{number}")
            await it.client.repository("src").resolve(f"t{number}")

        for _ in range(2):
            async with anyio.create_task_group() as group:
                for number in range(200):
                    group.start_soon(both, number)
            it.clock.now += 271
        assert dict(service.by_scopes) == {("repository:dst:pull,push",): 2, ("repository:src:pull",): 2}


async def test_mount_sources_gather_in_one_token(registry: GuardedRegistry, service: TokenService) -> None:
    """A mount from another source widens the token; what it covers already is not asked for, nor after its end."""
    async with connected(registry.server.address, credential=USER) as it:
        for source in ("a", "b", "a", "b", "a"):
            assert await mount(it.client, source) is BlobOutcome.MOUNTED
        await it.client.repository("dst", Side.TARGET).resolve("1")
        it.clock.now += 271
        for source in ("b", "a"):
            assert await mount(it.client, source) is BlobOutcome.MOUNTED
    dst, a, b = "repository:dst:pull,push", "repository:a:pull", "repository:b:pull"
    assert [(dst, a), (dst, a, b), (dst, a, b)] == [asked.scopes for asked in service.asked]


async def test_reading_a_source_takes_a_token_of_its_own(registry: GuardedRegistry, service: TokenService) -> None:
    """A token for two repositories is used for the first only: some registries refuse the token of another."""
    async with connected(registry.server.address, credential=USER) as it:
        await mount(it.client, "a")
        await it.client.repository("a").resolve("1")
    assert service.asked[-1].scopes == ("repository:a:pull",)


async def test_service_that_takes_one_scope(registry: GuardedRegistry, service: TokenService) -> None:
    """A service that refuses two scopes is asked for one, from then on at once."""
    service.most_scopes = 1
    registry.lenient_mounts = True
    async with connected(registry.server.address, credential=USER) as it:
        for source in ("a", "b", "c"):
            assert not isinstance(await mount(it.client, source), BlobOutcome)
        it.clock.now += 271
        await mount(it.client, "d")
    assert [asked.status for asked in service.asked] == [400, 200, 200]
    assert {asked.scopes for asked in service.asked[1:]} == {("repository:dst:pull,push",)}


async def test_service_that_heeds_the_last_scope(registry: GuardedRegistry, service: TokenService) -> None:
    """Where of two scopes only the last is granted (GitLab), the registry's refusal leads to single ones, for good."""
    registry.lenient_mounts = True

    def last_only(asked: Asked) -> web.Response | None:
        return web.json_response({"token": service.token(asked.scopes[-1:]), "expires_in": 300})

    service.answer = last_only
    async with connected(registry.server.address, credential=USER) as it:
        for source in ("a", "b", "c"):
            assert not isinstance(await mount(it.client, source), BlobOutcome)
        await mount(it.client, "a", "other")
    dst = "repository:dst:pull,push"
    assert [asked.scopes for asked in service.asked] == [
        (dst, "repository:a:pull"),
        (dst,),
        ("repository:other:pull,push",),
    ]


async def test_source_that_is_not_granted(registry: GuardedRegistry, service: TokenService) -> None:
    """A source that this user may not read costs one token, and is not asked for again."""
    service.granted = {"secret": set()}
    async with connected(registry.server.address, credential=USER) as it:
        for _ in range(3):
            assert not isinstance(await mount(it.client, "secret"), BlobOutcome)
        assert await mount(it.client, "a") is BlobOutcome.MOUNTED
    dst = "repository:dst:pull,push"
    assert [(dst, "repository:secret:pull"), (dst, "repository:a:pull")] == [asked.scopes for asked in service.asked]


async def test_source_that_the_service_forbids(registry: GuardedRegistry, service: TokenService) -> None:
    """A 403 of the service is about these scopes: others are still asked for together."""

    def forbid(asked: Asked) -> web.Response | None:
        return web.Response(status=403) if "repository:secret:pull" in asked.scopes else None

    service.answer = forbid
    registry.lenient_mounts = True
    async with connected(registry.server.address, credential=USER) as it:
        for source in ("secret", "secret", "a"):
            await mount(it.client, source)
    dst = "repository:dst:pull,push"
    assert [
        (dst, "repository:secret:pull"),
        (dst,),
        (dst, "repository:a:pull"),
    ] == [asked.scopes for asked in service.asked]


async def test_scopes_that_make_the_request_too_long(registry: GuardedRegistry, service: TokenService) -> None:
    """A 414 halves how many scopes are asked for together."""

    def bounded(asked: Asked) -> web.Response | None:
        return web.Response(status=414) if len(asked.scopes) > 2 else None

    service.answer = bounded
    registry.lenient_mounts = True
    async with connected(registry.server.address, credential=USER) as it:
        for source in ("a", "b", "c", "d"):
            await mount(it.client, source)
    counts = [len(asked.scopes) for asked in service.asked]
    assert counts.count(3) == 1


async def test_scope_that_is_missing_is_asked_for(registry: GuardedRegistry, service: TokenService) -> None:
    """A 403 that names a scope the token lacks leads to one that has it, once."""
    registry.status = 403
    async with connected(registry.server.address, credential=USER) as it:
        repository = it.client.repository("a")
        await repository.resolve("1")
        await repository.push_manifest(images.image().manifest)
    assert [asked.scopes for asked in service.asked] == [("repository:a:pull",), ("repository:a:pull,push",)]


async def test_catalog_and_repositories_do_not_mix(registry: GuardedRegistry, service: TokenService) -> None:
    """The scope of the catalog is no repository's, and none of theirs."""

    def catalog(request: web.BaseRequest) -> web.StreamResponse | None:
        if not request.path.endswith("_catalog"):
            return None
        if not request.headers.get("Authorization"):
            challenge = f'Bearer realm="{service.realm}",service="witness",scope="registry:catalog:*"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.json_response({"repositories": ["catalog"]})

    registry.instead = catalog
    async with connected(registry.server.address, credential=USER) as it:
        assert [name async for name in it.client.catalog().repositories()] == ["catalog"]
        await it.client.repository("catalog").resolve("1")
    queries = [parse_qs(urlsplit(line).query)["scope"] for line in service.server.lines] if service.server else []
    assert queries == [["registry:catalog:*"], ["repository:catalog:pull"]]
