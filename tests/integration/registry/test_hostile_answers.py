"""Answers that no HTTP library would write: whatever comes over the wire, what leaves is a typed error."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.content import BlobOutcome
from syncer.errors import ProtocolViolation, Side, SyncerError, Unauthorized
from syncer.oci import Digest
from tests.support import images
from tests.support.scripted import connected, scripted
from tests.support.streams import answering
from tests.support.transfer import opener_of, read_blob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from syncer.registry import RegistryRepository

pytestmark = pytest.mark.untraced

SAMPLE = images.image()
DATA = images.random_bytes(2000, "blob")
BLOB = images.blob(DATA)


async def tags(repository: RegistryRepository) -> None:
    """List the tags."""
    assert all([tag.isascii() async for tag in repository.tags()])


async def catalog(repository: RegistryRepository) -> None:
    """List the repositories."""
    assert all([name.isascii() async for name in repository.client.catalog().repositories()])


async def upload(repository: RegistryRepository) -> None:
    """Push a blob."""
    session = await repository.begin_blob(BLOB)
    if not isinstance(session, BlobOutcome):
        await session.send(opener_of(DATA, BLOB))


ASKED: dict[str, Callable[[RegistryRepository], Awaitable[object]]] = {
    "resolve": lambda repository: repository.resolve("1"),
    "manifest": lambda repository: repository.fetch_manifest("1"),
    "blob": lambda repository: read_blob(repository, BLOB),
    "tags": tags,
    "catalog": catalog,
    "referrers": lambda repository: repository.referrers(SAMPLE.digest),
    "push": lambda repository: repository.push_manifest(SAMPLE.manifest, "1"),
    "upload": upload,
    "delete": lambda repository: repository.delete_tag("1"),
}
HEADERS = {
    "digest": b"Docker-Content-Digest: sha256:\xff\xfe",
    "type": b"Content-Type: application/\xff",
    "location": b"Location: /\xff\xfe?\xff",
    "locations": b"Location: http://[\xff/",
    "link": b'Link: </\xff>; rel="next"',
    "links": b"Link: <http://[::1/>; rel=next",
    "warning": b'Warning: 299 - "\xff\x80"',
    "retry": b"Retry-After: \xff\r\nDate: \xff",
    "retries": b"Retry-After: " + b"9" * 5000,
    "dates": b"Retry-After: Mon, 99 Jan 99999999999999999999 99:99:99 +9999\r\nDate: Mon, 01 Jan 0001 00:00:00 -0000",
    "range": b"Content-Range: bytes \xd9\xa3-\xff/*",
    "service": b'WWW-Authenticate: Bearer realm="/",service="\xff"',
    "realm": b'WWW-Authenticate: Bearer realm="http://\xff/"',
    "basic": b'WWW-Authenticate: Basic realm="\xff"',
    "subject": b"OCI-Subject: \xff",
    "filters": b"OCI-Filters-Applied: \xff",
}
BODIES = {
    "bytes": b"\xff\xfe\x00",
    "nested": b"[" * 50_000,
    "number": b'{"manifests": ' + b"9" * 5000 + b"}",
    "surrogate": b'{"tags": ["\\ud800"], "repositories": ["\\udcff"], "manifests": ["\\ud800"], "errors": "\\ud800"}',
    "errors": b'{"errors": [{"code": "\\ud800", "message": "\\udfff", "detail": "\\ud800"}, {"message": [[1]]}, 7]}',
}


@pytest.mark.parametrize("status", [200, 201, 202, 206, 307, 400, 401, 404, 416, 429, 500])
@pytest.mark.parametrize("asked", ASKED)
async def test_any_answer_is_an_outcome_or_a_typed_error(asked: str, status: int) -> None:
    """No header and no body, under any status, makes a call raise what is no error of ours or cannot be shown."""
    for name, header in HEADERS.items():
        for body in BODIES.values() if name in ("digest", "type") else (b"{}",):
            answer = b"HTTP/1.1 %d X\r\n%b\r\nContent-Length: %d\r\n\r\n" % (status, header, len(body))

            def reply(head: bytes, answer: bytes = answer, body: bytes = body) -> bytes:
                return answer if head.startswith(b"HEAD ") else answer + body

            async with answering(reply) as address, connected(address) as it:
                try:
                    await ASKED[asked](it.client.repository("a", Side.TARGET))
                except SyncerError as error:
                    # Whoever logs, stores or prints it encodes it.
                    assert f"{error.message}{error.hint}".encode()  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("values", [b'service="\xff"', b'scope="repository:\xff:pull"', b"service=a,scope=\xff"])
async def test_a_challenge_in_other_bytes(values: bytes) -> None:
    """A challenge whose service or scope is no ASCII still leads to the token service, and to a typed refusal."""
    asked: list[bytes] = []

    def refuse(head: bytes) -> bytes:
        asked.append(head.split(b" ")[1])
        host = re.search(rb"(?i)host: (\S+)", head)
        assert host is not None
        realm = b'Bearer realm="http://%b/token",' % host[1]
        return b"HTTP/1.1 401 X\r\nWww-Authenticate: " + realm + values + b"\r\nContent-Length: 0\r\n\r\n"

    async with answering(refuse) as address, connected(address) as it:
        with pytest.raises(Unauthorized):
            await it.client.repository("app").resolve("v1")
    assert any(path.startswith(b"/token?") and b"repository%3Aapp%3Apull" in path for path in asked)


async def test_a_location_in_other_bytes() -> None:
    """The bytes of a Location come back percent-encoded and otherwise as they were."""
    asked: list[bytes] = []

    def answer(head: bytes) -> bytes:
        asked.append(b" ".join(head.split(b" ")[:2]))
        if head.startswith(b"POST"):
            return b"HTTP/1.1 202 X\r\nLocation: /up/\xff?s=\xfe%2f\r\nContent-Length: 0\r\n\r\n"
        digest = head.partition(b"digest=")[2].partition(b" ")[0].replace(b"%3A", b":")
        return b"HTTP/1.1 201 X\r\nDocker-Content-Digest: %b\r\nContent-Length: 0\r\n\r\n" % digest

    async with answering(answer) as address, connected(address) as it:
        await upload(it.client.repository("a", Side.TARGET))
    assert asked[1].startswith(b"PUT /up/%FF?s=%FE%2f&digest=")


async def test_a_media_type_in_other_bytes() -> None:
    """A Content-Type that is no ASCII says nothing; the manifest's own media type holds."""
    raw = SAMPLE.manifest.raw
    head = (
        b"HTTP/1.1 200 X\r\nContent-Type: application/\xff\r\nDocker-Content-Digest: %b\r\nContent-Length: %d\r\n\r\n"
    )
    head %= (SAMPLE.digest.encode(), len(raw))

    async with answering(lambda _head: head + raw) as address, connected(address) as it:
        assert SAMPLE.manifest == await it.client.repository("a").fetch_manifest("1")
    answers = {b"HEAD": head, b"GET": head + raw}
    async with answering(lambda asked: answers[asked.split()[0]]) as address, connected(address) as it:
        assert SAMPLE.digest == (await it.client.repository("a").resolve("1")).digest


@pytest.mark.parametrize("length", [str(2**63), "9" * 19, "9" * 40])
async def test_a_length_beyond_all_bounds(length: str) -> None:
    """A HEAD that announces a manifest of exabytes is not believed; the manifest itself is measured."""

    def answer(head: bytes) -> bytes:
        announced = length if head.startswith(b"HEAD ") else str(len(SAMPLE.manifest.raw))
        text = f"Docker-Content-Digest: {SAMPLE.digest}\r\nContent-Type: {SAMPLE.manifest.media_type}\r\n"
        text = f"HTTP/1.1 200 X\r\n{text}Content-Length: {announced}\r\n\r\n"
        return text.encode() + (b"" if head.startswith(b"HEAD ") else SAMPLE.manifest.raw)

    async with answering(answer) as address, connected(address) as it:
        try:
            assert SAMPLE.manifest.descriptor == await it.client.repository("a").resolve("1")
        except ProtocolViolation:
            # What does not fit into 64 bits is no HTTP.
            assert len(length) > 19


async def test_a_token_that_lives_for_ever() -> None:
    """A token service that promises more seconds than a float can hold gives a token all the same."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            return web.Response(body=json.dumps({"token": "t", "expires_in": 10**400}).encode())
        if request.headers.get("Authorization") != "Bearer t":
            challenge = f'Bearer realm="{server.url}/token"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(headers={"Docker-Content-Digest": Digest.of(b"x")}, body=b"x")

    async with scripted(handler) as server, connected(server.address) as it:
        assert (await it.client.repository("a").resolve("1")).digest == Digest.of(b"x")
