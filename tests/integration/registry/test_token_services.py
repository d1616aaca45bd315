"""The ways and the answers of token services: each gives a token, or one clear error for all who wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web

from syncer.errors import (
    NotFound,
    ProtocolViolation,
    ServerFailure,
    SizeExceedsLimit,
    StatusError,
    SyncerError,
    Unauthorized,
)
from syncer.registry.credentials.values import Basic, IdentityToken
from tests.support.scripted import Connected, connected

if TYPE_CHECKING:
    from tests.support.guarded import GuardedRegistry
    from tests.support.token_service import Asked, TokenService

USER = Basic(username="u", password="canary")
IDENTITY = IdentityToken(token="canary-identity")
ACR_USER = "00000000-0000-0000-0000-000000000000"


async def read(it: Connected, name: str = "a") -> None:
    """Ask for a tag."""
    await it.client.repository(name).resolve("1")


async def fail_together(it: Connected, count: int = 20) -> list[SyncerError]:
    """Ask many times at once; return the errors, of which there is one for each."""
    errors: list[SyncerError] = []

    async def one() -> None:
        try:
            await read(it)
        except SyncerError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one)
    assert len(errors) == count
    assert len(set(map(id, errors))) == count
    return errors


@pytest.mark.parametrize("status", [400, 401, 404, 405])
async def test_identity_token_where_there_is_no_post(
    registry: GuardedRegistry, service: TokenService, status: int
) -> None:
    """A service without POST gets the identity token as a password, and after that at once (GAR, Artifactory, ACR)."""

    def get_only(asked: Asked) -> web.Response | None:
        return web.Response(status=status) if asked.method == "POST" else None

    service.answer = get_only
    async with connected(registry.server.address, credential=IDENTITY) as it:
        await read(it)
        await read(it, "b")
    assert [asked.method for asked in service.asked] == ["POST", "GET", "GET"]
    assert [(asked.user, asked.secret) for asked in service.asked[1:]] == [(ACR_USER, "canary-identity")] * 2


async def test_password_where_there_is_no_get(registry: GuardedRegistry, service: TokenService) -> None:
    """A service that knows only POST gets user name and password in its body, and after that at once."""
    service.takes = frozenset({"POST"})
    service.users = {"u": "canary"}
    async with connected(registry.server.address, credential=USER) as it:
        await read(it)
        await read(it, "b")
    assert [asked.method for asked in service.asked] == ["GET", "POST", "POST"]
    assert all("canary" not in line for line in registry.server.lines)


async def test_refresh_token_as_a_password(registry: GuardedRegistry, service: TokenService) -> None:
    """What 'az acr login --expose-token' gives is shown as a password, and as a refresh token where GET is unknown."""
    service.takes = frozenset({"POST"})
    async with connected(registry.server.address, credential=Basic(username=ACR_USER, password="canary-refresh")) as it:
        await read(it)
    assert [(asked.method, asked.secret) for asked in service.asked] == [
        ("GET", "canary-refresh"),
        ("POST", "canary-refresh"),
    ]


async def test_wrong_identity_token_is_one_error(registry: GuardedRegistry, service: TokenService) -> None:
    """An identity token that no way takes is a typed error without it, after two requests for all who ask."""
    service.answer = lambda _asked: web.json_response({"error": "invalid_grant"}, status=400)
    async with connected(registry.server.address, credential=IDENTITY) as it:
        errors = await fail_together(it)
    assert [asked.method for asked in service.asked] == ["POST", "GET"]
    assert all(isinstance(error, Unauthorized) and error.hint for error in errors)
    assert all("canary" not in f"{error!r}{error.paragraph()}{vars(error)}" for error in errors)


async def test_refresh_token_that_rotates(registry: GuardedRegistry, service: TokenService) -> None:
    """A refresh token in the answer takes the place of the one shown, until it is refused."""
    valid = {"canary-identity"}

    def rotate(asked: Asked) -> web.Response | None:
        if asked.secret not in valid:
            return web.json_response({"error": "invalid_grant"}, status=400)
        service.extra = {"refresh_token": f"canary-{len(service.asked)}"}
        valid.add(f"canary-{len(service.asked)}")
        return None

    service.answer = rotate
    async with connected(registry.server.address, credential=IDENTITY) as it:
        for _ in range(3):
            await read(it)
            it.clock.now += 271
        # The rotated one has had its time, and the one that was configured has not.
        valid.clear()
        valid.add("canary-identity")
        await read(it)
    assert [asked.secret for asked in service.asked] == [
        "canary-identity",
        "canary-0",
        "canary-1",
        "canary-2",
        "canary-identity",
    ]


@pytest.mark.parametrize(
    ("extra", "lasts"),
    [
        ({"expires_in": None}, 50),
        ({"expires_in": 0}, 50),
        ({"expires_in": -300}, 50),
        ({"expires_in": "300"}, 270),
        ({"expires_in": 10**30}, 77_760),
        ({"expires_in": 300, "issued_at": "1999-01-01T00:00:00Z"}, 270),
        ({"expires_in": 300, "issued_at": "2999-01-01T00:00:00Z"}, 270),
        ({"expires_in": 300, "issued_at": "yesterday"}, 270),
        ({"expires_in": 300, "issued_at": 7}, 270),
    ],
)
async def test_how_long_a_token_is_used(
    registry: GuardedRegistry, service: TokenService, extra: dict[str, object], lasts: int
) -> None:
    """A token is used until shortly before its end, whatever the answer says of it."""
    service.extra = extra
    async with connected(registry.server.address, credential=USER) as it:
        await read(it)
        for later, count in ((lasts - 1, 1), (2, 2)):
            it.clock.now += later
            await read(it)
            assert len(service.asked) == count


async def test_access_token_does_as_well(registry: GuardedRegistry, service: TokenService) -> None:
    """A service that calls the token access_token is understood."""

    def other_name(asked: Asked) -> web.Response | None:
        return web.json_response({"access_token": service.token(asked.scopes)})

    service.answer = other_name
    async with connected(registry.server.address, credential=USER) as it:
        await read(it)
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(text="<html>log in here</html>", content_type="text/html"),
        web.Response(body=b"\xff\x00"),
        web.json_response({"expires_in": 300}),
        web.json_response(["token"]),
        web.json_response({"token": {"canary": 1}}),
    ],
    ids=["html", "bytes", "empty", "list", "object"],
)
async def test_answer_without_a_token(registry: GuardedRegistry, service: TokenService, answer: web.Response) -> None:
    """An answer without a token is one question and one error for all who wait, and for who comes right after."""
    body, kind = answer.body, answer.content_type
    service.answer = lambda _asked: web.Response(body=body, content_type=kind)
    async with connected(registry.server.address, credential=USER) as it:
        errors = await fail_together(it)
        with pytest.raises(ProtocolViolation):
            await read(it)
        assert len(service.asked) == 1
        it.clock.now += 6
        with pytest.raises(ProtocolViolation):
            await read(it)
    assert len(service.asked) == 2
    assert all(isinstance(error, ProtocolViolation) and error.hint for error in errors)


async def test_answer_without_an_end(registry: GuardedRegistry, service: TokenService) -> None:
    """An answer of over a megabyte is not read on (reference 2.5, S4)."""
    service.answer = lambda _asked: web.Response(body=b'{"token": "t"}' + b" " * 2_000_000)
    async with connected(registry.server.address, credential=USER) as it:
        with pytest.raises(SizeExceedsLimit):
            await read(it)


@pytest.mark.parametrize("status", [500, 503])
async def test_failing_service_is_tried_by_one(registry: GuardedRegistry, service: TokenService, status: int) -> None:
    """A service in trouble is tried as often as the policy says, by one for all who wait, who share the outcome."""
    service.answer = lambda _asked: web.Response(status=status)
    async with connected(registry.server.address, credential=USER) as it:
        errors = await fail_together(it, 50)
    assert len(service.asked) == 6
    assert all(isinstance(error, ServerFailure) for error in errors)


async def test_service_that_is_not_there_is_not_an_image_that_is_missing(
    registry: GuardedRegistry, service: TokenService
) -> None:
    """A 404 of the token service is never taken for a tag that does not exist."""
    service.answer = lambda _asked: web.Response(status=404)
    async with connected(registry.server.address, credential=USER) as it:
        with pytest.raises(StatusError, match="no token service") as caught:
            await read(it)
    assert not isinstance(caught.value, NotFound)
    assert caught.value.hint
