"""What a registry refuses for good: one clear error each, few requests, and nothing secret in it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web

from syncer.errors import Denied, NotFound, Side, SyncerError, Unauthorized
from syncer.registry.credentials.values import Basic
from tests.support import images
from tests.support.scripted import Connected, connected, scripted
from tests.support.transfer import push_blob

if TYPE_CHECKING:
    from tests.support.guarded import GuardedRegistry
    from tests.support.token_service import TokenService

USER = Basic(username="u", password="canary")


async def fetch_all(it: Connected, name: str, count: int = 200) -> list[SyncerError]:
    """Fetch many tags, eight at a time; return the errors."""
    errors: list[SyncerError] = []
    tags = iter(range(count))

    async def some() -> None:
        for number in tags:
            try:
                await it.client.repository(name).fetch_manifest(f"t{number}")
            except SyncerError as error:
                errors.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(some)
    return errors


async def test_denied_repository_is_not_asked_two_hundred_times(registry: GuardedRegistry) -> None:
    """Two hundred tags of a repository that may not be read cost a handful of requests, and fail one by one."""
    registry.instead = lambda request: web.Response(status=403) if "/secret/" in request.path else None
    async with connected(registry.server.address, credential=USER) as it:
        errors = await fetch_all(it, "secret")
        await it.client.repository("open").fetch_manifest("1")
    assert len(errors) == 200
    assert len(set(map(id, errors))) == 200
    assert all(isinstance(error, Denied) and error.hint for error in errors)
    assert sum("/v2/secret/" in line for line in registry.server.lines) <= 8 + 3 + 8


async def test_one_image_may_be_denied(registry: GuardedRegistry) -> None:
    """A single image that a policy forbids, between others that may be read, is the only one that fails."""
    registry.instead = lambda request: web.Response(status=403) if request.path.endswith("/t7") else None
    async with connected(registry.server.address, credential=USER) as it:
        errors = await fetch_all(it, "a", 40)
    assert len(errors) == 1


async def test_success_clears_what_was_denied(registry: GuardedRegistry) -> None:
    """After three denials of pushing, a read that works lets the next push go out."""
    registry.instead = lambda request: web.Response(status=403) if request.method == "PUT" else None
    manifest = images.image().manifest
    async with connected(registry.server.address, credential=USER) as it:
        repository = it.client.repository("a", Side.TARGET)
        for number in range(5):
            with pytest.raises(Denied):
                await repository.push_manifest(manifest, f"t{number}")
        assert sum(seen.method == "PUT" and seen.authorization != "" for seen in registry.server.seen) == 3
        await repository.resolve("1")
        registry.instead = None
        await repository.push_manifest(manifest, "t9")


async def test_refused_upload_is_not_asked_for_again_for_each_image(registry: GuardedRegistry) -> None:
    """A repository that may be read and not written costs one upload and one mount, however many images are due."""
    registry.instead = lambda request: web.Response(status=403) if request.method == "POST" else None
    async with connected(registry.server.address, credential=USER) as it:
        repository = it.client.repository("a", Side.TARGET)
        for number in range(20):
            await repository.resolve(f"t{number}")
            with pytest.raises(Denied):
                await repository.begin_blob(images.blob(b"%d" % number))
    assert sum(seen.method == "POST" and seen.authorization != "" for seen in registry.server.seen) <= 2


async def test_head_that_is_denied_says_nothing(registry: GuardedRegistry) -> None:
    """A HEAD answered 403 (Artifactory, for what is not there) is asked again for each tag."""
    registry.instead = lambda request: web.Response(status=403) if request.method == "HEAD" else None
    async with connected(registry.server.address, credential=USER) as it:
        for number in range(6):
            with pytest.raises(Denied):
                await it.client.repository("a").resolve(f"t{number}")
    assert sum(line.startswith("HEAD") for line in registry.server.lines) == 6 + 1


async def test_refused_token_is_not_fetched_for_each_task(service: TokenService, registry: GuardedRegistry) -> None:
    """A right that the token service does not grant costs one token in all, and holds for half a minute."""
    service.granted = {"secret": set()}
    async with connected(registry.server.address, credential=USER) as it:
        errors = await fetch_all(it, "secret", 50)
        assert len(service.asked) == 1
        before = len(registry.server.lines)
        it.clock.now += 31
        await fetch_all(it, "secret", 1)
    assert len(registry.server.lines) == before + 1
    assert all(isinstance(error, Unauthorized) for error in errors)
    assert before <= 8 * 2


async def test_refused_head_does_not_cost_a_token_each(service: TokenService, registry: GuardedRegistry) -> None:
    """A registry that answers HEAD with 401, whatever the token, has one token replaced in half a minute."""
    challenge = f'Bearer realm="{service.realm}",service="witness",scope="repository:a:pull"'

    def refuse(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(status=401, headers={"WWW-Authenticate": challenge}) if request.method == "HEAD" else None

    async with connected(registry.server.address, credential=USER) as it:
        repository = it.client.repository("a")
        await repository.fetch_manifest("1")
        registry.instead = refuse
        for number in range(20):
            with pytest.raises(Unauthorized):
                await repository.resolve(f"t{number}")
        assert len(service.asked) == 2
        it.clock.now += 31
        with pytest.raises(Unauthorized):
            await repository.resolve("t")
        assert len(service.asked) == 3
        registry.instead = None
        await repository.resolve("1")
        assert len(service.asked) == 3


async def test_a_challenge_is_looked_for_once() -> None:
    """Where neither the refusal nor ``/v2/`` brings a challenge, ``/v2/`` is not asked for each image."""

    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404 if request.path == "/v2/" else 401)

    async with scripted(refuse) as server, connected(server.address, credential=USER) as it:
        for number in range(5):
            with pytest.raises(Unauthorized):
                await it.client.repository("a").resolve(f"t{number}")
    assert server.lines.count("GET /v2/") == 1


async def test_reason_of_the_refusal_is_told_without_secrets() -> None:
    """The challenge's error and its description are in the message, printable, bounded, and without the token."""
    token = "canary" * 20

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"token": token})
        said = f'error="invalid_token",error_description="no \\"push\\" with {token} \t{"very " * 100}"'
        challenge = f'Bearer realm="http://{request.host}/token",service="s",{said}'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async with scripted(handle) as server, connected(server.address, credential=USER) as it:
        with pytest.raises(Unauthorized) as caught:
            await it.client.repository("a").resolve("1")
    message = caught.value.message
    assert 'invalid_token: no "push" with …' in message
    assert "canary" not in f"{caught.value!r}{vars(caught.value)}"
    assert message.isprintable()
    assert len(message) < 500
    assert [line.split("?")[0] for line in server.lines] == [
        "HEAD /v2/a/manifests/1",
        "GET /token",
        "HEAD /v2/a/manifests/1",
    ]


async def test_token_that_ends_during_an_upload(service: TokenService, registry: GuardedRegistry) -> None:
    """A 401 to the commit of a blob leads to one new upload, under a new token (moby#33558)."""
    is_late = True

    def late(request: web.BaseRequest) -> web.StreamResponse | None:
        nonlocal is_late
        if request.method != "PUT" or not is_late:
            return None
        is_late = False
        registry.revoked.add(request.headers["Authorization"].removeprefix("Bearer "))
        challenge = f'Bearer realm="{service.realm}",service="witness",error="invalid_token"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    registry.instead = late
    data = b"x" * 1000
    async with connected(registry.server.address, credential=USER) as it:
        await push_blob(it.client.repository("a", Side.TARGET), images.blob(data), data)
    methods = [seen.method for seen in registry.server.seen if seen.authorization]
    assert [method for method in methods if method != "DELETE"] == ["POST", "PUT", "POST", "PUT"]
    # The third is for giving the first session up, which distribution takes for a deletion.
    pushing, deleting = ("repository:a:pull,push",), ("repository:a:pull,push,delete",)
    assert [asked.scopes for asked in service.asked] == [pushing, pushing, deleting]


@pytest.mark.parametrize(
    ("waits", "refusals", "tokens"),
    [pytest.param(6.0, 1, 2, id="once"), pytest.param(6.0, 9, 2, id="ever"), pytest.param(4.0, 9, 1, id="soon")],
)
async def test_a_token_that_is_taken_back_while_its_request_waits(
    service: TokenService, registry: GuardedRegistry, waits: float, refusals: int, tokens: int
) -> None:
    """A pause may lie between a token and the request that it is for: then one more is tried, and no third."""
    async with connected(registry.server.address, credential=USER) as it:

        def taken_back(request: web.BaseRequest) -> web.StreamResponse | None:
            it.clock.now += waits
            token = request.headers["Authorization"].removeprefix("Bearer ")
            if len(registry.revoked) == refusals:
                return None
            registry.revoked.add(token)
            challenge = f'Bearer realm="{service.realm}",service="witness",error="invalid_token"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})

        registry.instead = taken_back
        with nullcontext() if refusals < tokens else pytest.raises(Unauthorized):
            await it.client.repository("a").resolve("1")
    assert len(service.asked) == tokens
    assert len(registry.server.lines) == 1 + tokens


@pytest.mark.parametrize(
    "is_replaced", [pytest.param(False, id="it was good"), pytest.param(True, id="somebody has another")]
)
async def test_a_token_that_is_taken_back_before_its_request_comes(
    service: TokenService, registry: GuardedRegistry, *, is_replaced: bool
) -> None:
    """What others were let in with was good: when it is refused, even a call that has just fetched it tries another."""
    others = anyio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and request.path.endswith("/1") and not others.is_set():
            await others.wait()
            registry.revoked.add(token)
        return await registry.handle(request)

    async with scripted(handle) as server, connected(server.address, credential=USER) as it:
        repository = it.client.repository("a")
        async with anyio.create_task_group() as group:
            group.start_soon(repository.resolve, "1")
            await repository.resolve("2")
            if is_replaced:
                registry.revoked |= service.issued
                await repository.resolve("3")
            others.set()
    assert len(service.asked) == 2
    assert sum(line.endswith("/1") for line in server.lines) == 3


async def test_other_refusals_stay_what_they_are(registry: GuardedRegistry) -> None:
    """A repository where everything is missing is asked every time: "not found" is no denial."""
    registry.instead = lambda _request: web.Response(status=404)
    async with connected(registry.server.address, credential=USER) as it:
        errors = await fetch_all(it, "a", 20)
    assert all(isinstance(error, NotFound) for error in errors)
    assert sum("/manifests/" in line for line in registry.server.lines) >= 20
