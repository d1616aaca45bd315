"""The client on the wire: headers, retries, pauses, redirects, and where credentials go."""

from __future__ import annotations

import gzip
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.errors import (
    CertificateError,
    ConnectionFailed,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    ServerFailure,
    Side,
    SizeExceedsLimit,
    SyncerError,
    Unauthorized,
)
from syncer.events import Notice, RequestFinished, RequestKind, RetryScheduled
from syncer.registry import RegistrySettings, TlsSettings
from syncer.registry.credentials.values import Basic
from tests.support import images
from tests.support.scripted import connected, cut, scripted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted import Handler

SAMPLE = images.image()
USER = Basic(username="u", password="canary")


def manifest(_request: web.BaseRequest) -> web.Response:
    """Answer with the sample's manifest."""
    return web.Response(
        body=SAMPLE.manifest.raw,
        content_type=SAMPLE.manifest.media_type,
        headers={"Docker-Content-Digest": SAMPLE.digest},
    )


def after(*answers: web.Response | None) -> Handler:
    """Give the answers in turn (None drops the connection), then the manifest."""
    left = list(answers)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if not left:
            return manifest(request)
        answer = left.pop(0)
        if answer is None:
            cut(request)
            return web.Response()
        return answer

    return handler


async def test_headers_on_the_wire() -> None:
    """Every manifest request accepts all formats and no compression, and carries no cookie."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = manifest(request)
        response.set_cookie("sid", "canary")
        return response

    async with scripted(handler) as server, connected(server.address) as it:
        await it.client.repository("a").resolve("1")
        await it.client.repository("a").fetch_manifest("1")
    assert server.lines == ["HEAD /v2/a/manifests/1", "GET /v2/a/manifests/1"]
    for seen in server.seen:
        assert seen.headers["Accept-Encoding"] == "identity"
        assert "application/vnd.oci.image.index.v1+json" in seen.headers["Accept"]
        assert "Cookie" not in seen.headers
        assert seen.authorization == ""


async def test_nothing_is_sent_twice_behind_our_back() -> None:
    """A dropped connection costs one request for each try of ours, kept alive or not (aiohttp would resend)."""
    async with scripted(after(web.Response(status=404), *[None] * 10)) as server, connected(server.address) as it:
        with pytest.raises(NotFound):
            await it.client.repository("a").fetch_manifest("1")
        with pytest.raises(ConnectionFailed):
            await it.client.repository("a").fetch_manifest("2")
    assert len(server.seen) == 1 + 6
    assert len(it.recorder.of(RequestFinished)) == 7
    assert it.clock.slept == [0.25, 0.5, 1.0, 2.0, 4.0]


async def test_passing_failures_are_retried() -> None:
    """Errors that pass and lost connections are asked again, and each retry is an event."""
    passing = [web.Response(status=502), None, web.Response(status=408), web.Response(status=500)]
    async with scripted(after(*passing)) as server, connected(server.address) as it:
        assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
    assert len(server.seen) == 5
    assert len(it.recorder.of(RetryScheduled)) == 4
    assert [event.status for event in it.recorder.of(RequestFinished)] == [502, 0, 408, 500, 200]


@pytest.mark.parametrize("status", [429, 503])
async def test_throttling_pauses_the_whole_host(status: int) -> None:
    """Retry-After holds back every request to the host, not only the one that was told."""
    async with (
        scripted(after(web.Response(status=status, headers={"Retry-After": "17"}))) as server,
        connected(server.address) as it,
    ):
        await it.client.repository("a").fetch_manifest("1")
        assert 1017.0 <= it.clock.now <= 1019.0
    assert len(server.seen) == 2


async def test_throttling_ends_in_rate_limited() -> None:
    """A registry that never lets go ends in RateLimited with the seconds it asked for, on the right side."""
    answers = [web.Response(status=429, headers={"Retry-After": "2"}) for _ in range(10)]
    async with scripted(after(*answers)) as server, connected(server.address) as it:
        with pytest.raises(RateLimited) as caught:
            await it.client.repository("a", Side.SOURCE).fetch_manifest("1")
    assert (2.0, Side.SOURCE, server.address) == (
        caught.value.retry_after,
        caught.value.side,
        caught.value.registry,
    )
    assert len(server.seen) == 6


async def test_final_answers_are_not_retried() -> None:
    """A 404 is an answer."""
    async with scripted(after(web.Response(status=404))) as server, connected(server.address) as it:
        with pytest.raises(NotFound) as caught:
            await it.client.repository("team/app", Side.SOURCE).resolve("1.2")
    assert f"{server.address}/team/app:1.2 was not found" == caught.value.message
    assert Side.SOURCE is caught.value.side
    assert len(server.seen) == 1


async def test_credentials_stay_at_home() -> None:
    """A redirect to another origin carries no Authorization, not even on the way back."""

    async def storage_handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"{server.url}/back?sig=%2F+x"})

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith("/back"):
            return manifest(request)
        if "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return web.Response(status=307, headers={"Location": f"{storage.url}/b%2fc?sig=A%2Fb+c%3D%3d"})

    async with scripted(storage_handler) as storage, scripted(handler) as server:
        async with connected(server.address, credential=USER) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
        # The signed URL went out byte for byte.
        assert storage.lines == ["GET /b%2fc?sig=A%2Fb+c%3D%3d"]
        assert [
            seen.authorization if at != 1 else seen.authorization.startswith("Basic ")
            for at, seen in enumerate(server.seen)
        ] == ["", True, ""]
        assert server.lines[-1] == "GET /back?sig=%2F+x"
        assert [seen.authorization for seen in storage.seen] == [""]


async def test_same_origin_redirects_keep_credentials() -> None:
    """A redirect within the registry carries the credentials on."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        if "moved" in request.raw_path:
            return manifest(request)
        return web.Response(status=302, headers={"Location": "/moved"})

    async with scripted(handler) as server, connected(server.address, credential=USER) as it:
        await it.client.repository("a").fetch_manifest("1")
    assert len(server.seen) == 3


async def test_redirect_loop_ends() -> None:
    """A registry that redirects for ever is given up after ten hops."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "/again"})

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation, match="redirects"):
            await it.client.repository("a").fetch_manifest("1")
    assert len(server.seen) == 11


async def test_challenge_of_another_origin_gets_nothing() -> None:
    """A storage that asks for credentials is not shown ours."""

    async def storage_handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="give me"'})

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"{storage.url}/x?sig=canary"})

    async with scripted(storage_handler) as storage, scripted(handler) as server:
        async with connected(server.address, credential=USER) as it:
            with pytest.raises(Unauthorized) as caught:
                await it.client.repository("a").fetch_manifest("1")
        assert [seen.authorization for seen in storage.seen] == [""]
        assert "canary" not in f"{caught.value!r}{caught.value.url}{caught.value.hint}"
        assert storage.url == caught.value.registry


async def test_bodies_are_bounded() -> None:
    """A manifest without an end is cut off at its limit, an error body is read only in part."""

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(status=400 if request.raw_path.endswith("/bad") else 200)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    async with scripted(endless) as server, connected(server.address) as it:
        with pytest.raises(SizeExceedsLimit):
            await it.client.repository("a").fetch_manifest("1")
        with pytest.raises(RegistryError) as caught:
            await it.client.repository("a").fetch_manifest("bad")
    assert len(caught.value.message) < 600


async def test_compressed_answers_are_not_inflated() -> None:
    """A Content-Encoding is taken as content: what comes is hashed as it is, and cannot blow up."""
    bomb = gzip.compress(b"\0" * 10_000_000)

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with scripted(handler) as server, connected(server.address) as it:
        descriptor = images.blob(bomb)
        async with it.client.repository("a").fetch_blob(descriptor) as chunks:
            assert bomb == b"".join([chunk async for chunk in chunks])


async def test_something_that_is_not_a_registry() -> None:
    """A log-in page that says 200 to everything is not taken for success."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="<html>Welcome</html>", content_type="text/html")

    async with scripted(handler) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        with pytest.raises(SyncerError):
            await repository.begin_blob(images.blob(b"x"))
        with pytest.raises(ProtocolViolation):
            await repository.push_manifest(SAMPLE.manifest, "1")
        with pytest.raises(SyncerError):
            await repository.resolve("1")


async def test_not_http() -> None:
    """An answer that is not HTTP is a violation, with nothing of it in the message but its kind."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        request.transport.close()
        return web.Response()

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(RegistryError) as caught:
            await it.client.repository("a").fetch_manifest("1")
    assert not isinstance(caught.value, ServerFailure)


async def test_nobody_listens() -> None:
    """A refused connection names the registry, is retried for some seconds, and says so and what to check."""
    async with scripted(after()) as server:
        address = server.address
    async with connected(address) as it:
        with pytest.raises(ConnectionFailed) as caught:
            await it.client.repository("a").resolve("1")
    assert caught.value.message == f"cannot connect to {address}: connection refused"
    assert caught.value.hint == ("It was tried 5 times. Check the host and port, and that the registry is running.")
    assert it.clock.slept == [0.25, 0.5, 1.0, 1.0]
    assert {event.reason for event in it.recorder.of(RetryScheduled)} == {caught.value.message}


async def test_nobody_listens_any_more() -> None:
    """A registry that has answered before is given as long to come back as after any other failure."""
    async with AsyncExitStack() as stack:
        async with scripted(after()) as server:
            it = await stack.enter_async_context(connected(server.address))
            await it.client.repository("a").resolve("1")
        with pytest.raises(ConnectionFailed, match="connection refused"):
            await it.client.repository("a").resolve("1")
    assert it.clock.slept[-5:] == [0.25, 0.5, 1.0, 2.0, 4.0]


async def test_no_token_service_listens() -> None:
    """A token service that has never been there is named, and tried no longer than a registry that is not there."""
    async with scripted(after()) as gone:
        realm = f'Bearer realm="{gone.url}/token"'
    refusal = web.Response(status=401, headers={"WWW-Authenticate": realm})
    async with scripted(after(refusal)) as server, connected(server.address) as it:
        with pytest.raises(ConnectionFailed) as caught:
            await it.client.repository("a").resolve("1")
    assert caught.value.message == f"cannot connect to {gone.address}, where {server.address} leads: connection refused"
    assert it.clock.slept == [0.25, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("code", ["NAME_UNKNOWN", "MANIFEST_UNKNOWN"])
async def test_two_kinds_of_not_found(code: str) -> None:
    """Where the registry tells, a missing repository does not look like a missing tag."""
    error = web.json_response({"errors": [{"code": code}]}, status=404)
    async with scripted(after(error)) as server, connected(server.address) as it:
        with pytest.raises(NotFound) as caught:
            await it.client.repository("team/app").fetch_manifest("1")
    expected = {
        "NAME_UNKNOWN": f"the repository {server.address}/team/app does not exist",
        "MANIFEST_UNKNOWN": f"{server.address}/team/app has no tag 1",
    }
    assert expected[code] == caught.value.message


async def test_plain_http_to_a_tls_port() -> None:
    """A server that hangs up on plain HTTP may want TLS, and the hint says what to change."""
    async with scripted(after(*[None] * 6)) as server, connected(server.address) as it:
        with pytest.raises(ConnectionFailed) as caught:
            await it.client.repository("a").resolve("1")
    assert "--no-plain-http" in caught.value.hint


async def test_plain_http_on_the_tls_port() -> None:
    """A registry without TLS is recognised at the first try, and the hint says what to set."""
    async with scripted(after()) as server:
        async with connected(server.address, settings=RegistrySettings(host=server.address)) as it:
            with pytest.raises(CertificateError) as caught:
                await it.client.repository("a").resolve("1")
        assert "plain_http" in caught.value.hint
        assert it.clock.slept == []


async def test_missing_ca_file(tmp_path: Path) -> None:
    """A CA file that is not there is named before any request."""
    missing = str(tmp_path / "ca.pem")
    with pytest.raises(CertificateError, match=r"ca\.pem"):
        async with connected("x", settings=RegistrySettings(host="localhost:1", tls=TlsSettings(ca=missing))):
            pass


async def test_warnings_are_passed_on_once() -> None:
    """A Warning header is a notice, the first time it comes."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = manifest(request)
        response.headers["Warning"] = '299 - "this registry moves"'
        return response

    async with scripted(handler) as server, connected(server.address) as it:
        for _ in range(3):
            await it.client.repository("a").resolve("1")
    assert [Notice(where=server.address, text="this registry moves")] == it.recorder.of(Notice)


async def test_every_hop_is_an_event() -> None:
    """Each exchange is told of with its kind and status, redirects included."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "moved" in request.raw_path:
            return manifest(request)
        return web.Response(status=307, headers={"Location": "/moved"})

    async with scripted(handler) as server, connected(server.address) as it:
        await it.client.repository("a").fetch_manifest("1")
    assert [(event.kind, event.status) for event in it.recorder.of(RequestFinished)] == [
        (RequestKind.MANIFEST_GET, 307),
        (RequestKind.MANIFEST_GET, 200),
    ]
