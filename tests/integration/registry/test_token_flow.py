"""Tokens on the wire: how few, whose, and when anew."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from aiohttp import web

from syncer.content import BlobOutcome
from syncer.errors import ProtocolViolation, Side, Unauthorized
from syncer.events import RequestFinished, RequestKind
from syncer.registry.credentials.values import Anonymous, Basic, IdentityToken, RegistryToken
from tests.support import images
from tests.support.scripted import Connected, Scripted, connected, scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SAMPLE = images.image()
USER = Basic(username="u", password="canary")


class Guarded:
    """A registry that wants a token for everything, and its token service on the same origin."""

    def __init__(self) -> None:
        self.issued = 0
        self.valid: set[str] = set()
        self.lifetime: int | None = 300
        self.token_status = 200
        self.challenge = True
        self.scopes: list[list[str]] = []
        self.server = Scripted("")
        self.posted: list[str] = []
        self.was_asked = anyio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        if request.path == "/token":
            return await self.token(request)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.valid:
            realm = f'Bearer realm="{self.server.url}/token",service="s"'
            wants = self.challenge or request.path == "/v2/"
            return web.Response(status=401, headers={"WWW-Authenticate": realm} if wants else {})
        if request.method == "POST":
            return web.Response(status=201, headers={"Docker-Content-Digest": request.query["mount"]})
        return web.Response(
            body=b"" if request.method == "HEAD" else SAMPLE.manifest.raw,
            content_type=SAMPLE.manifest.media_type,
            headers={"Docker-Content-Digest": SAMPLE.digest},
        )

    async def token(self, request: web.BaseRequest) -> web.Response:
        """Give a token out."""
        self.was_asked.set()
        query = parse_qs(urlsplit(request.raw_path).query)
        self.scopes.append(query.get("scope", []))
        if request.method == "POST":
            self.posted.append((await request.read()).decode())
        await anyio.sleep(0.01)
        if self.token_status != 200:
            return web.json_response({"details": "incorrect username or password"}, status=self.token_status)
        self.issued += 1
        token = f"t{self.issued}"
        self.valid.add(token)
        return web.json_response({"token": token, **({"expires_in": self.lifetime} if self.lifetime else {})})

    @property
    def asked(self) -> list[str]:
        """Requests to the token service."""
        return [line for line in self.server.lines if "/token" in line]


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    """Serve a guarded registry."""
    it = Guarded()
    async with scripted(it.handle) as server:
        it.server = server
        yield it


async def get(it: Connected, name: str = "a", side: Side | None = None) -> None:
    """Fetch a manifest."""
    await it.client.repository(name, side).fetch_manifest("1")


async def test_one_challenge_then_tokens(guarded: Guarded) -> None:
    """The first request meets the challenge; from then on every repository costs a token and no 401, and no ping."""
    async with connected(guarded.server.address, credential=USER) as it:
        await get(it)
        await get(it)
        await get(it, "b")
        await get(it, "b")
    assert guarded.server.lines == [
        "GET /v2/a/manifests/1",
        "GET /token?service=s&scope=repository%3Aa%3Apull",
        "GET /v2/a/manifests/1",
        "GET /v2/a/manifests/1",
        "GET /token?service=s&scope=repository%3Ab%3Apull",
        "GET /v2/b/manifests/1",
        "GET /v2/b/manifests/1",
    ]
    basic = f"Basic {base64.b64encode(b'u:canary').decode()}"
    assert [basic, basic] == [seen.authorization for seen in guarded.server.seen if "/token" in seen.path]
    assert sum(event.kind is RequestKind.TOKEN for event in it.recorder.of(RequestFinished)) == 2


async def test_single_flight(guarded: Guarded) -> None:
    """Twenty requests that need the same token fetch one."""
    async with connected(guarded.server.address) as it, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(get, it)
    assert len(guarded.asked) == 1


async def test_cancelled_leader_does_not_take_the_others_along(guarded: Guarded) -> None:
    """When the task that fetches a token is cancelled, another one fetches it."""
    async with connected(guarded.server.address) as it, anyio.create_task_group() as group:
        with anyio.CancelScope() as leader:

            async def cancel() -> None:
                await guarded.was_asked.wait()
                leader.cancel()

            group.start_soon(cancel)
            await get(it)
        await get(it)
    assert len(guarded.asked) == 2


async def test_refresh_before_expiry(guarded: Guarded) -> None:
    """A token that is about to expire is replaced without another 401."""
    async with connected(guarded.server.address) as it:
        await get(it)
        it.clock.now += 271
        await get(it)
    assert len(guarded.asked) == 2
    assert sum(event.status == 401 for event in it.recorder.of(RequestFinished)) == 1


async def test_refresh_once_on_401(guarded: Guarded) -> None:
    """A token that is refused is replaced once, by one of those who hold it."""
    async with connected(guarded.server.address) as it:
        await get(it)
        guarded.valid.clear()
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(get, it)
    assert len(guarded.asked) == 2


async def test_token_that_never_helps(guarded: Guarded) -> None:
    """A second 401 with a fresh token is final, and says that the credentials were not accepted."""

    async def token(request: web.BaseRequest) -> web.Response:
        del request
        return web.json_response({"token": "useless"})

    guarded.token = token  # type: ignore[method-assign] # this registry's token service is broken
    async with connected(guarded.server.address, credential=USER) as it:
        with pytest.raises(Unauthorized) as caught:
            await get(it, side=Side.TARGET)
    assert len(guarded.server.seen) == 3
    assert Side.TARGET is caught.value.side
    assert "not accepted" in caught.value.hint
    assert "canary" not in f"{caught.value!r} {caught.value.hint} {caught.value.url}"


@pytest.mark.parametrize(("credential", "words"), [(USER, "refused the credentials"), (Anonymous(), "no token")])
async def test_token_service_refuses(guarded: Guarded, credential: Basic | Anonymous, words: str) -> None:
    """A refusal of the token service is one typed error for all who wait, and is not asked for again at once."""
    guarded.token_status = 401
    errors = []

    async def one(it: Connected) -> None:
        with pytest.raises(Unauthorized, match=words) as caught:
            await get(it)
        errors.append(caught.value)

    async with connected(guarded.server.address, credential=credential) as it:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(one, it)
        await one(it)
    assert len(guarded.asked) == 1
    assert all(error.hint for error in errors)


async def test_push_scope_comes_first_and_serves_reading(guarded: Guarded) -> None:
    """On the target one token for pull and push does for everything; a mount adds the source behind it."""
    async with connected(guarded.server.address, credential=USER) as it:
        repository = it.client.repository("dst", Side.TARGET)
        await repository.resolve("1")
        assert BlobOutcome.PRESENT is await repository.begin_blob(images.blob(b"x"))
        assert BlobOutcome.MOUNTED is await repository.begin_blob(images.blob(b"x"), mount_from="src")
    assert guarded.scopes == [
        ["repository:dst:pull,push"],
        ["repository:dst:pull,push", "repository:src:pull"],
    ]


async def test_too_broad_request_is_narrowed(guarded: Guarded) -> None:
    """A token service that will not take two scopes is asked for the first alone."""
    plain = guarded.token

    async def token(request: web.BaseRequest) -> web.Response:
        if "src" in request.raw_path:
            return web.Response(status=400)
        return await plain(request)

    guarded.token = token  # type: ignore[method-assign] # this token service takes one scope at a time
    async with connected(guarded.server.address, credential=USER) as it:
        repository = it.client.repository("dst", Side.TARGET)
        assert BlobOutcome.MOUNTED is await repository.begin_blob(images.blob(b"x"), mount_from="src")
    assert guarded.scopes == [["repository:dst:pull,push"]]


async def test_identity_token_is_posted(guarded: Guarded) -> None:
    """An identity token is exchanged in the body of a POST, and shown to nobody else."""
    async with connected(guarded.server.address, credential=IdentityToken(token="canary")) as it:
        await get(it)
    assert "refresh_token=canary" in guarded.posted[0]
    assert all("canary" not in f"{seen.path}{seen.authorization}" for seen in guarded.server.seen)


async def test_registry_token_goes_out_at_once(guarded: Guarded) -> None:
    """A registry token needs neither a challenge nor a token service."""
    guarded.valid.add("mine")
    async with connected(guarded.server.address, credential=RegistryToken(token="mine")) as it:
        await get(it)
    assert guarded.server.lines == ["GET /v2/a/manifests/1"]


async def test_401_without_challenge_asks_for_it_once(guarded: Guarded) -> None:
    """A registry that sends no challenge is asked for it at /v2/, once."""
    guarded.challenge = False
    async with connected(guarded.server.address) as it:
        await get(it)
        guarded.valid.clear()
        await get(it)
    assert guarded.server.lines.count("GET /v2/") == 1
    assert len(guarded.asked) == 2


async def test_token_service_may_not_redirect(guarded: Guarded) -> None:
    """A token request, which carries the password, follows no redirect."""

    async def token(request: web.BaseRequest) -> web.Response:
        del request
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    guarded.token = token  # type: ignore[method-assign] # this token service redirects
    async with connected(guarded.server.address, credential=USER) as it:
        with pytest.raises(ProtocolViolation):
            await get(it)
    assert not any("elsewhere" in line for line in guarded.server.lines)


async def test_token_service_in_trouble_is_asked_again(guarded: Guarded) -> None:
    """A passing failure of the token service is retried like any other."""
    plain = guarded.token
    troubles = [503, 429]

    async def token(request: web.BaseRequest) -> web.Response:
        if troubles:
            return web.Response(status=troubles.pop())
        return await plain(request)

    guarded.token = token  # type: ignore[method-assign] # this token service is overloaded at first
    async with connected(guarded.server.address) as it:
        await get(it)
    assert len(guarded.asked) == 3
