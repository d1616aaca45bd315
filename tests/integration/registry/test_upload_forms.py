"""Every form of upload on the wire: what it costs, and when another takes its place."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.content import BlobOutcome, verified
from syncer.errors import DigestMismatch, StatusError, Unsupported
from syncer.oci import Descriptor
from syncer.registry import RegistrySettings
from syncer.registry.capabilities import Capability
from syncer.registry.hosts import traits_of
from syncer.registry.settings import UploadForm, UploadSettings
from tests.support import images
from tests.support.scripted import connected, scripted
from tests.support.uploading import Source, Target, described, methods, push, repository_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.scripted import Connected, Scripted

SMALL = images.random_bytes(50_000, "small")
DATA = images.random_bytes(1_000_000, "data")
LARGE = images.random_bytes(6_000_000, "large")
for known in (SMALL, DATA, LARGE):
    described(known)


@asynccontextmanager
async def pair(
    target: Target, form: UploadForm = UploadForm.AUTO, chunk: int = 0, host: str = ""
) -> AsyncIterator[tuple[Scripted, Connected]]:
    """Serve ``target`` and connect to it; ``host`` lends its traits."""
    async with scripted(target.handle) as server:
        uploads = UploadSettings(form=form, chunk=chunk)
        settings = RegistrySettings(host=server.address, plain_http=True, upload=uploads)
        async with connected(server.address, settings=settings) as it:
            if host:
                it.client.capabilities.traits = traits_of(host)
            yield server, it


async def test_put_is_two_requests() -> None:
    """POST, and PUT with the bytes."""
    target, source = Target(), Source(DATA)
    async with pair(target) as (server, it):
        await push(it, source)
    assert methods(server.lines) == "POST PUT"
    assert target.blobs == {described(DATA).digest: DATA}
    assert source.opened == 1


async def test_single_post_is_one_request() -> None:
    """A small blob goes out in the POST, with its length and as octets, and the source is read once."""
    target, source = Target(single_post=True), Source(SMALL)
    async with pair(target, host="quay.io") as (server, it):
        assert await push(it, source) is BlobOutcome.STREAMED
    assert methods(server.lines) == "POST"
    assert server.seen[0].headers["Content-Length"] == str(len(SMALL))
    assert server.seen[0].headers["Content-Type"] == "application/octet-stream"
    assert target.blobs == {described(SMALL).digest: SMALL}
    assert source.opened == 1


async def test_single_post_of_nothing() -> None:
    """A blob of no bytes goes out in the POST too."""
    target = Target(single_post=True)
    async with pair(target, host="quay.io") as (server, it):
        await push(it, Source(b""))
    assert methods(server.lines) == "POST"
    assert target.blobs == {described(b"").digest: b""}


async def test_single_post_of_nothing_that_should_be_something() -> None:
    """A blob of no bytes whose digest is not that of nothing is the source's fault, found before anything is sent."""
    claimed = Descriptor(media_type="application/octet-stream", digest=described(SMALL).digest, size=0)

    @asynccontextmanager
    async def opener() -> AsyncIterator[AsyncIterator[bytes]]:
        async def nothing() -> AsyncIterator[bytes]:
            yield b""

        yield verified(nothing(), claimed)

    async with pair(Target(single_post=True), host="quay.io") as (server, it):
        session = await repository_of(it).begin_blob(claimed)
        assert not isinstance(session, BlobOutcome)
        with pytest.raises(DigestMismatch, match="arrived as"):
            await session.send(opener)
    assert server.lines == []


async def test_single_post_is_for_small_blobs() -> None:
    """A larger blob is asked for by a mount, and sent by PUT."""
    target = Target(single_post=True)
    async with pair(target, host="quay.io") as (server, it):
        await push(it, Source(LARGE))
    assert methods(server.lines) == "POST PUT"


async def test_a_blob_that_can_be_mounted_is_not_sent() -> None:
    """Where a repository with the blob is known, a small blob is mounted rather than sent."""
    target = Target(single_post=True, blobs={described(SMALL).digest: SMALL})
    source = Source(SMALL)
    async with pair(target, host="quay.io") as (server, it):
        assert await push(it, source, mount_from="other") is BlobOutcome.MOUNTED
    assert methods(server.lines) == "POST"
    assert source.opened == 0


async def test_a_single_post_that_only_opens_a_session() -> None:
    """202 to a single POST: its session is used, the source is not read again, and the next blob is not tried so."""
    target, source = Target(single_post=False), Source(SMALL)
    async with pair(target, form=UploadForm.SINGLE_POST) as (server, it):
        await push(it, source)
        assert methods(server.lines) == "POST PUT"
        assert it.client.capabilities.observed(Capability.SINGLE_POST) is False
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PUT POST PUT"
    assert "mount=" in server.lines[2]
    assert source.opened == 1
    assert target.opened == 2


@pytest.mark.parametrize("status", [400, 405, 411, 413, 415, 416, 501])
async def test_a_refused_single_post(status: int) -> None:
    """A refusal of the POST with bytes is answered by POST and PUT, and remembered."""
    target, source = Target(trouble={"POST": [web.Response(status=status)]}), Source(SMALL)
    async with pair(target, form=UploadForm.SINGLE_POST) as (server, it):
        await push(it, source)
        assert it.client.capabilities.observed(Capability.SINGLE_POST) is False
    assert methods(server.lines) == "POST POST PUT"
    assert source.opened == 1


async def test_a_single_post_whose_answer_is_lost() -> None:
    """It is sent again: to store the same bytes twice is harmless."""
    target = Target(single_post=True, trouble={"POST": ["lose"]})
    async with pair(target, form=UploadForm.SINGLE_POST) as (server, it):
        await push(it, Source(SMALL))
    assert methods(server.lines) == "POST POST"


async def test_stream_is_three_requests() -> None:
    """POST, one PATCH with the whole blob and no Content-Range, and an empty PUT."""
    target = Target()
    async with pair(target, form=UploadForm.STREAM) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH PUT"
    assert target.spans == [""]
    assert server.seen[1].headers["Content-Length"] == str(len(DATA))
    assert server.seen[2].headers["Content-Length"] == "0"
    assert target.blobs == {described(DATA).digest: DATA}


async def test_stream_of_nothing_needs_no_patch() -> None:
    """A blob of no bytes is POST and PUT in every form."""
    async with pair(Target(), form=UploadForm.STREAM) as (server, it):
        await push(it, Source(b""))
    assert methods(server.lines) == "POST PUT"


async def test_chunks() -> None:
    """POST, a PATCH for each chunk with its Content-Range, an empty PUT; the source is read once."""
    target, source = Target(), Source(DATA)
    async with pair(target, form=UploadForm.CHUNKS, chunk=300_000) as (server, it):
        await push(it, source)
    assert methods(server.lines) == "POST PATCH PATCH PATCH PATCH PUT"
    assert target.spans == ["0-299999", "300000-599999", "600000-899999", "900000-999999"]
    assert target.blobs == {described(DATA).digest: DATA}
    assert source.opened == 1
    assert source.given == len(DATA)


async def test_chunks_as_large_as_the_registry_wants() -> None:
    """OCI-Chunk-Min-Length makes chunks larger than what is set."""
    target = Target(minimum=600_000)
    async with pair(target, form=UploadForm.CHUNKS, chunk=300_000) as (_, it):
        await push(it, Source(DATA))
    assert target.spans == ["0-599999", "600000-999999"]


@pytest.mark.parametrize("patched", [200, 201, 202, 204])
async def test_answers_to_a_patch(patched: int) -> None:
    """Registries say 200, 201 (ECR), 202 or 204 to a PATCH, with a Range or without."""
    target = Target(patched=patched, ranges=False)
    async with pair(target, form=UploadForm.CHUNKS, chunk=600_000) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH PATCH PUT"


async def test_a_body_that_is_too_large() -> None:
    """413 and a page of HTML (Cloudflare): the blob goes out in chunks, and the next as large from the start."""
    target = Target(largest_body=2_000_000)
    async with pair(target, chunk=1_500_000) as (server, it):
        await push(it, Source(LARGE))
        assert methods(server.lines) == "POST PUT DELETE POST PATCH PATCH PATCH PATCH PUT"
        server.seen.clear()
        await push(it, Source(LARGE[::-1]))
        assert methods(server.lines) == "POST PATCH PATCH PATCH PATCH PUT"
        server.seen.clear()
        await push(it, Source(DATA))
        assert methods(server.lines) == "POST PUT"
    assert target.blobs[described(LARGE).digest] == LARGE


async def test_chunks_shrink_until_they_pass() -> None:
    """A chunk that is too large is halved, and the size that passes is kept to."""
    target = Target(largest_body=1_000_000)
    async with pair(target) as (_, it):
        await push(it, Source(LARGE))
        bound = it.client.capabilities.largest_body
    assert target.blobs[described(LARGE).digest] == LARGE
    assert bound == 750_000


async def test_a_registry_that_takes_no_body_at_all() -> None:
    """When even the smallest chunk is too large, the error is the registry's own."""
    target = Target(largest_body=0)
    async with pair(target) as (server, it):
        with pytest.raises(StatusError) as caught:
            await push(it, Source(DATA))
    assert caught.value.status == 413
    assert "No other form" in caught.value.hint
    assert target.sessions == {}
    assert len(server.lines) < 30


async def test_a_registry_that_cannot_chunk_and_takes_no_such_body() -> None:
    """GHCR is never sent chunks: one PATCH is tried, and then the error says why there is no more to try."""
    target = Target(largest_body=2_000_000)
    async with pair(target, host="ghcr.io") as (server, it):
        with pytest.raises(StatusError) as caught:
            await push(it, Source(LARGE))
    assert methods(server.lines) == "POST PUT DELETE POST PATCH DELETE"
    assert target.spans == []
    assert "does not put blobs together from chunks" in caught.value.hint


@pytest.mark.parametrize("status", [400, 405, 411, 501])
async def test_a_refused_put(status: int) -> None:
    """A PUT with bytes that is refused as such is replaced by a PATCH, and that is remembered once it has worked."""
    target = Target(trouble={"PUT": [web.Response(status=status)]})
    async with pair(target) as (server, it):
        await push(it, Source(DATA))
        assert methods(server.lines) == "POST PUT DELETE POST PATCH PUT"
        server.seen.clear()
        await push(it, Source(SMALL))
        assert methods(server.lines) == "POST PATCH PUT"


async def test_refused_in_every_form() -> None:
    """What refuses PUT and PATCH gets its own error back, after each was tried once."""
    refusals: list[object] = [web.Response(status=405) for _ in range(9)]
    target = Target(trouble={"PUT": list(refusals), "PATCH": [web.Response(status=405) for _ in range(9)]})
    async with pair(target) as (server, it):
        with pytest.raises(Unsupported) as caught:
            await push(it, Source(DATA))
    assert methods(server.lines) == "POST PUT DELETE POST PATCH DELETE POST PATCH DELETE"
    assert "No other form" in caught.value.hint
    assert target.sessions == {}


async def test_a_form_that_is_set_is_not_left() -> None:
    """Where a form is set, its refusal is final, and the hint names the setting."""
    target = Target(trouble={"PATCH": [web.Response(status=405)]})
    async with pair(target, form=UploadForm.STREAM) as (server, it):
        with pytest.raises(Unsupported) as caught:
            await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH DELETE"
    assert "'upload: {form: stream}'" in caught.value.hint


async def test_an_overload_demotes_nothing() -> None:
    """503 is no reason to send a blob in another form."""
    target = Target(trouble={"PUT": [web.Response(status=503) for _ in range(3)]})
    async with pair(target) as (server, it):
        await push(it, Source(DATA))
        capabilities = it.client.capabilities
        assert capabilities.largest_body is None
        assert capabilities.observed(Capability.WHOLE_PUT) is None
    assert "PATCH" not in methods(server.lines)


async def test_connections_that_end_at_the_same_byte() -> None:
    """Two PUTs that are reset at about the same byte: the third try is in chunks below it, and is learned from."""
    target = Target(trouble={"PUT": [1_500_000, 1_500_000]})
    source = Source(LARGE * 3)
    async with pair(target) as (server, it):
        await push(it, source)
        bound = it.client.capabilities.largest_body
        text = methods(server.lines)
        server.seen.clear()
        await push(it, Source(LARGE * 3, chunk=99_999))
    assert text.startswith("POST PUT DELETE POST PUT DELETE POST PATCH PATCH")
    assert bound is not None
    assert 0 < bound < len(source.data)
    assert target.blobs[described(source.data).digest] == source.data


async def test_a_learned_form_is_forgotten_in_time() -> None:
    """What was learned of the single POST is asked anew once it is old."""
    target = Target(single_post=False)
    async with pair(target, form=UploadForm.SINGLE_POST) as (server, it):
        await push(it, Source(SMALL))
        it.clock.now += 3600
        target.single_post = True
        server.seen.clear()
        await push(it, Source(SMALL))
    assert methods(server.lines) == "POST"
