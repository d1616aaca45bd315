"""Writing manifests: what counts as written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.errors import ImmutableTag, ProtocolViolation, RateLimitReached, ServerFailure, Side
from syncer.oci import Digest
from syncer.oci.referrers import fallback_tag
from syncer.registry import RegistrySettings
from syncer.registry.settings import CreationKind, CreationSettings
from syncer.registry.traffic.retry import RetryPolicy
from tests.support import images
from tests.support.scripted import connected, scripted
from tests.support.uploading import methods

if TYPE_CHECKING:
    from tests.support.scripted import Handler

SAMPLE = images.image(seed="sample")
MANIFEST = SAMPLE.manifest
TRIES = RetryPolicy().tries


def registry(*puts: web.Response, held: bytes = MANIFEST.raw, names_digest: bool = True) -> Handler:
    """Return a registry that answers each PUT with the next of ``puts``, then with 201, and holds ``held``."""
    waiting = list(puts)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        named = {"Docker-Content-Digest": Digest.of(held)} if names_digest else {}
        if request.method == "PUT":
            created = {"Docker-Content-Digest": Digest.of(body)} if names_digest else {}
            return waiting.pop(0) if waiting else web.Response(status=201, headers=created)
        return web.Response(body=held, headers={**named, "Content-Type": MANIFEST.media_type})

    return handle


def error(status: int, code: str, message: str = "") -> web.Response:
    """Return an error of the distribution-spec."""
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status)


IMMUTABLE = [
    (400, "TAG_INVALID", "The image tag '1' already exists in the 'a' repository and cannot be overwritten"),
    (400, "TAG_INVALID", "already exists, and the repository is immutable"),
    (412, "PRECONDITION", "configured as immutable"),
    (409, "TAG_IMMUTABLE", "tag is immutable"),
]


@pytest.mark.parametrize(("status", "code", "message"), IMMUTABLE)
@pytest.mark.parametrize("tag", ["1", ""])
async def test_what_is_there_already_counts_as_written(status: int, code: str, message: str, tag: str) -> None:
    """ECR, Harbor and Quay refuse an immutable tag even for the digest that it holds: that is success."""
    handler = registry(error(status, code, message))
    async with scripted(handler) as server, connected(server.address) as it:
        await it.client.repository("a", Side.TARGET).push_manifest(MANIFEST, tag)
    assert methods(server.lines) == "PUT HEAD"


async def test_an_immutable_tag_that_cannot_be_looked_at() -> None:
    """Where the registry does not say what the tag holds there is no verdict: it is deferred, not blocked."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PUT":
            return error(400, "TAG_INVALID", "already exists, and the repository is immutable")
        return web.Response(status=429, headers={"Retry-After": "3600"})

    async with scripted(handle) as server, connected(server.address) as it:
        with pytest.raises(RateLimitReached):
            await it.client.repository("a", Side.TARGET).push_manifest(MANIFEST, "t")
    assert methods(server.lines) == "PUT HEAD"


@pytest.mark.parametrize(("status", "code", "message"), IMMUTABLE)
async def test_another_manifest_under_an_immutable_tag(status: int, code: str, message: str) -> None:
    """Held by another digest, the tag is a conflict."""
    handler = registry(error(status, code, message), held=images.image(seed="other").manifest.raw)
    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(ImmutableTag):
            await it.client.repository("a", Side.TARGET).push_manifest(MANIFEST, "1")
    assert methods(server.lines) == "PUT HEAD"


@pytest.mark.parametrize("tag", ["1", ""])
async def test_what_a_proxy_says_to_have_failed_and_is_there(tag: str) -> None:
    """A proxy with less patience than the registry says 504 to each try; one look shows that it was done."""
    handler = registry(*[web.Response(status=504) for _ in range(TRIES)])
    async with scripted(handler) as server, connected(server.address) as it:
        await it.client.repository("a", Side.TARGET).push_manifest(MANIFEST, tag)
    assert methods(server.lines) == "PUT " * TRIES + "HEAD"


async def test_what_failed_and_is_not_there() -> None:
    """Where something else is held, or the look fails too, the failure stands."""
    for status, held in ((200, images.image(seed="other").manifest.raw), (503, MANIFEST.raw)):

        async def handle(request: web.BaseRequest, status: int = status, held: bytes = held) -> web.StreamResponse:
            await request.content.read()
            named = {"Docker-Content-Digest": Digest.of(held)}
            return web.Response(status=504 if request.method == "PUT" else status, headers=named)

        async with scripted(handle) as server, connected(server.address) as it:
            with pytest.raises(ServerFailure) as caught:
                await it.client.repository("a", Side.TARGET).push_manifest(MANIFEST, "1")
        assert caught.value.status == 504
        assert methods(server.lines) == "PUT " * TRIES + "HEAD"


async def test_a_referrer_whose_answer_never_came_is_listed() -> None:
    """Nobody has said that the registry keeps the list itself: it is kept for it."""
    referrer = images.artifact(subject=MANIFEST).manifest

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        if not request.path.endswith(referrer.digest):
            created = {"Docker-Content-Digest": Digest.of(body)}
            return web.Response(status=201, headers=created) if request.method == "PUT" else web.Response(status=404)
        named = {"Docker-Content-Digest": referrer.digest}
        return web.Response(status=504 if request.method == "PUT" else 200, headers=named)

    async with scripted(handle) as server, connected(server.address) as it:
        await it.client.repository("a", Side.TARGET).push_manifest(referrer)
    listed = [line for line in server.lines if line.endswith(fallback_tag(MANIFEST.digest))]
    assert methods(listed) == "GET PUT"


async def test_a_registry_that_names_no_digest_is_checked_once() -> None:
    """201 without a digest: the bytes are compared once, and then it is believed."""
    handler = registry(names_digest=False)
    async with scripted(handler) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        await repository.push_manifest(MANIFEST, "1")
        assert methods(server.lines) == "PUT HEAD GET"
        await repository.push_manifest(MANIFEST, "2")
    assert methods(server.lines) == "PUT HEAD GET PUT"


async def test_a_portal_that_agrees_to_everything() -> None:
    """A page of HTML in the manifest's place is no success."""

    async def portal(request: web.BaseRequest) -> web.StreamResponse:
        await request.content.read()
        return web.Response(status=201 if request.method == "PUT" else 200, text="<html>", content_type="text/html")

    async with scripted(portal) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation, match="does not show it"):
            await it.client.repository("a", Side.TARGET).push_manifest(MANIFEST, "1")


async def test_another_manifest_than_was_written() -> None:
    """A registry that names no digest and holds other bytes has not stored the manifest."""
    handler = registry(names_digest=False, held=images.image(seed="other").manifest.raw)
    for tag in ("1", ""):
        async with scripted(handler) as server, connected(server.address) as it:
            with pytest.raises(ProtocolViolation, match="does not show it"):
                await it.client.repository("a", Side.TARGET).push_manifest(MANIFEST, tag)


async def test_a_missing_repository_is_created() -> None:
    """An image without a blob to upload meets the missing repository at its manifest."""
    handler = registry(error(404, "NAME_UNKNOWN"))
    async with scripted(handler) as server:
        settings = RegistrySettings(
            host=server.address,
            plain_http=True,
            creation=CreationSettings(kind=CreationKind.COMMAND, command=("true", "{repository}")),
        )
        async with connected(server.address, settings=settings) as it:
            await it.client.repository("a", Side.TARGET).push_manifest(MANIFEST, "1")
    assert methods(server.lines) == "PUT PUT"


@pytest.mark.parametrize("status", [200, 403, 500])
async def test_what_was_taken_at_the_second_try_is_asked_for(status: int) -> None:
    """docker-registry whose disk was full keeps an empty file, and acknowledges what it will not give back."""
    puts = [web.Response(status=500)]

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        if request.method == "PUT":
            created = web.Response(status=201, headers={"Docker-Content-Digest": Digest.of(body)})
            return puts.pop() if puts else created
        named = {"Docker-Content-Digest": MANIFEST.digest, "Content-Type": MANIFEST.media_type}
        return web.Response(status=status, headers=named)

    async with scripted(handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        if status != 500:
            await repository.push_manifest(MANIFEST, "t")
            assert methods(server.lines).startswith("PUT PUT HEAD")
            return
        with pytest.raises(ServerFailure) as raised:
            await repository.push_manifest(MANIFEST, "t")
    assert "does not give it back" in raised.value.hint
