"""Uploads in pieces that are broken off: where they go on, and from where the source is read again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web

from syncer.content import BlobOutcome
from syncer.errors import ConnectionFailed, DigestMismatch, NotFound, RegistryError, Side
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.capabilities import Capability
from syncer.registry.hosts import traits_of
from syncer.registry.settings import UploadForm, UploadSettings
from syncer.registry.upload import opening
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import Clock, Keys, connected, scripted
from tests.support.uploading import Source, Target, described, methods, push, repository_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.support.scripted import Connected, Scripted

DATA = images.random_bytes(1_000_000, "data")
DIGEST = described(DATA).digest


@asynccontextmanager
async def pair(
    target: Target, form: UploadForm = UploadForm.CHUNKS, chunk: int = 300_000
) -> AsyncIterator[tuple[Scripted, Connected]]:
    """Serve ``target`` and connect to it."""
    async with scripted(target.handle) as server:
        settings = RegistrySettings(host=server.address, plain_http=True, upload=UploadSettings(form=form, chunk=chunk))
        async with connected(server.address, settings=settings) as it:
            yield server, it


def code(name: str, status: int) -> web.Response:
    """Return an error of the distribution-spec."""
    return web.json_response({"errors": [{"code": name}]}, status=status)


@pytest.mark.parametrize("form", ["0-{last}", "bytes=0-{size}"])
async def test_a_broken_chunk_goes_on_at_its_byte(form: str) -> None:
    """After a cut the session says how far it came, in whichever way, and no byte of it is sent twice."""
    target, source = Target(trouble={"PATCH": [None, 100_000]}, status_range=form), Source(DATA)
    async with pair(target) as (server, it):
        await push(it, source)
    assert methods(server.lines) == "POST PATCH PATCH GET PATCH PATCH PUT"
    assert target.spans[-2:] == ["400000-699999", "700000-999999"]
    assert target.blobs == {DIGEST: DATA}
    assert target.opened == 1
    assert source.opened == 2


async def test_a_lost_answer_to_a_chunk_reads_nothing_again() -> None:
    """When only the answer was lost, the session has it all: the same reading of the source goes on."""
    target, source = Target(trouble={"PATCH": [None, "lose"]}), Source(DATA)
    async with pair(target) as (server, it):
        await push(it, source)
    assert methods(server.lines) == "POST PATCH PATCH GET PATCH PATCH PUT"
    assert source.opened == 1
    assert source.given == len(DATA)
    assert target.blobs == {DIGEST: DATA}


async def test_a_broken_stream_goes_on_at_its_byte() -> None:
    """One PATCH for all that is broken off is followed by one for the rest, with its range."""
    target = Target(trouble={"PATCH": [400_000]})
    async with pair(target, form=UploadForm.STREAM) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH GET PATCH PUT"
    assert target.spans == ["", "400000-999999"]
    assert target.blobs == {DIGEST: DATA}


async def test_where_chunks_are_no_use_a_broken_stream_starts_over() -> None:
    """GHCR spoils blobs that come in several PATCHes: a broken one is followed by a new session."""
    target = Target(trouble={"PATCH": [400_000]})
    async with pair(target, form=UploadForm.STREAM) as (server, it):
        it.client.capabilities.traits = traits_of("ghcr.io")
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH GET DELETE POST PATCH PUT"
    assert target.spans == ["", ""]


async def test_many_cuts_one_session() -> None:
    """Twenty chunks that are broken off, each at another byte, need one session and no byte twice at the target."""
    cuts: list[object] = []
    for index in range(20):
        cuts += [None, 1_000 + 900 * index]
    target = Target(trouble={"PATCH": cuts})
    async with pair(target, chunk=20_000) as (server, it):
        await push(it, Source(DATA))
    assert target.opened == 1
    assert target.blobs == {DIGEST: DATA}
    assert methods(server.lines).count("GET") == 20


async def test_a_lost_answer_to_the_commit() -> None:
    """A HEAD finds the blob, nothing is sent again, and a session that may be open yet is deleted."""
    target = Target(trouble={"PUT": ["lose"]})
    async with pair(target) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH PATCH PATCH PATCH PUT HEAD DELETE"


async def test_a_commit_that_was_not_made_is_made_again() -> None:
    """When the blob is not there after a lost PUT, the session is asked and committed, without a byte sent again."""
    target, source = Target(trouble={"PUT": ["cut"]}), Source(DATA)
    async with pair(target) as (server, it):
        await push(it, source)
    assert methods(server.lines) == "POST PATCH PATCH PATCH PATCH PUT HEAD GET PUT"
    assert source.opened == 1


async def test_a_session_that_is_lost_on_the_way() -> None:
    """BLOB_UPLOAD_UNKNOWN in the middle: a new session, all bytes again, no DELETE for the old one."""
    target = Target(trouble={"PATCH": [None, code("BLOB_UPLOAD_UNKNOWN", 404)]})
    async with pair(target) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH PATCH POST PATCH PATCH PATCH PATCH PUT"
    assert target.blobs == {DIGEST: DATA}


async def test_sessions_that_are_lost_again_and_again() -> None:
    """After three new sessions the registry's answer is final."""
    target = Target(trouble={"PATCH": [code("BLOB_UPLOAD_INVALID", 404) for _ in range(9)]})
    async with pair(target) as (server, it):
        with pytest.raises((NotFound, RegistryError)):
            await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH POST PATCH POST PATCH POST PATCH"


async def test_zot_throws_the_session_away_with_a_500() -> None:
    """A 500 to a PATCH is followed by a new session; the old one is not asked how far it is."""
    target = Target(trouble={"PATCH": [None, web.Response(status=500)]})
    async with pair(target) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH PATCH DELETE POST PATCH PATCH PATCH PATCH PUT"
    assert target.blobs == {DIGEST: DATA}


async def test_a_wrong_digest_starts_over_once() -> None:
    """DIGEST_INVALID: a new session with all the bytes; the second time, a mismatch at the target."""
    target = Target(trouble={"PUT": [code("DIGEST_INVALID", 400)]})
    async with pair(target) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines).count("POST") == 2
    target = Target(trouble={"PUT": [code("DIGEST_INVALID", 400) for _ in range(2)]})
    async with pair(target) as (server, it):
        with pytest.raises(DigestMismatch) as caught:
            await push(it, Source(DATA))
    assert caught.value.side is Side.TARGET
    assert "DELETE" not in methods(server.lines)


async def test_a_416_is_asked_about() -> None:
    """A chunk that does not fit is followed by the question how far the session is, and goes on there."""
    target = Target(trouble={"PATCH": [None, web.Response(status=416)]})
    async with pair(target) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH PATCH GET PATCH PATCH PATCH PUT"
    assert target.opened == 1


async def test_a_second_416_ends_the_chunks() -> None:
    """Two in a row: the blob goes out in one PUT, and chunks are not tried there again."""
    target = Target(trouble={"PUT": [web.Response(status=413)], "PATCH": [web.Response(status=416) for _ in range(2)]})
    async with pair(target, form=UploadForm.AUTO, chunk=0) as (server, it):
        await push(it, Source(DATA))
        assert it.client.capabilities.observed(Capability.CHUNKS) is False
    assert methods(server.lines) == "POST PUT DELETE POST PATCH GET DELETE POST PATCH DELETE POST PATCH PUT"


async def test_a_registry_that_counts_otherwise() -> None:
    """A Range that contradicts what was sent (ECR's stays at the first chunk) is asked about, not built upon."""
    stuck = web.Response(status=201, headers={"Range": "0-9"})
    target = Target(trouble={"PATCH": [None, stuck]})
    async with pair(target) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH PATCH GET PATCH PATCH PATCH PUT"
    assert target.blobs == {DIGEST: DATA}


async def test_a_session_without_bytes_is_not_gone_on_with() -> None:
    """``0-0`` is none or one byte: a new session is the only certain thing."""
    target = Target(trouble={"PATCH": ["cut"]})
    async with pair(target) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PATCH GET DELETE POST PATCH PATCH PATCH PATCH PUT"


async def test_too_many_requests_in_the_middle() -> None:
    """429 pauses, and the session goes on where it was."""
    busy = web.Response(status=429, headers={"Retry-After": "7"})
    target = Target(trouble={"PATCH": [None, busy]})
    async with pair(target) as (server, it):
        await push(it, Source(DATA))
        assert sum(it.clock.slept) >= 7
    assert methods(server.lines) == "POST PATCH PATCH GET PATCH PATCH PATCH PUT"
    assert target.opened == 1


async def test_a_session_that_met_a_pause_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """429 to the PUT, and a pause longer than a DELETE has time: the session is deleted after it, not left behind."""
    monkeypatch.setattr(opening, "ABORT_DEADLINE", 0.02)
    target = Target(trouble={"PUT": [web.Response(status=429, headers={"Retry-After": "7"})]})
    async with scripted(target.handle) as server:
        clock = Clock()

        async def sleep(seconds: float) -> None:
            await anyio.sleep(0.04)
            await clock.sleep(seconds)

        settings = RegistrySettings(host=server.address, plain_http=True)
        async with RegistryClient(settings, Keys(), Recorder(), clock=clock, sleep=sleep) as client:
            session = await client.repository("a", Side.TARGET).begin_blob(described(DATA))
            assert not isinstance(session, BlobOutcome)
            await session.send(Source(DATA))
    assert methods(server.lines) == "POST PUT DELETE POST PUT"
    assert target.sessions == {}


async def test_a_registry_that_cuts_without_end() -> None:
    """A registry that takes no byte more is given up after the policy's tries, and its session deleted."""
    target = Target(trouble={"PATCH": [None, *(["cut"] * 30)]})
    async with pair(target) as (server, it):
        with pytest.raises(ConnectionFailed) as caught:
            await push(it, Source(DATA))
    assert caught.value.side is Side.TARGET
    assert server.lines[-1].startswith("DELETE")
    assert target.sessions == {}
    assert methods(server.lines).count("PATCH") < 15


async def test_a_corrupt_source_commits_nothing() -> None:
    """Bytes that are not the digest's are found before the commit, in pieces as well; the session is deleted."""
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])

    class Corrupt(Source):
        async def _chunks(self) -> AsyncIterator[bytes]:
            for at in range(0, len(wrong), self.chunk):
                yield wrong[at : at + self.chunk]

    target = Target()
    async with pair(target) as (server, it):
        with pytest.raises(DigestMismatch, match="arrived as"):
            await push(it, Corrupt(DATA))
    assert target.blobs == {}
    assert target.sessions == {}
    assert "PUT" not in methods(server.lines)


@pytest.mark.parametrize("form", [UploadForm.STREAM, UploadForm.CHUNKS])
async def test_cancelled_in_the_middle(form: UploadForm) -> None:
    """Cancelled between two bytes, an upload of any form deletes its session."""
    started = anyio.Event()

    def slow() -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        @asynccontextmanager
        async def opening() -> AsyncIterator[AsyncIterator[bytes]]:
            async def chunks() -> AsyncIterator[bytes]:
                yield DATA[:400_000]
                started.set()
                await anyio.sleep_forever()

            yield chunks()

        return opening()

    opener: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]] = slow
    target = Target()
    async with pair(target, form=form) as (server, it):
        session = await repository_of(it).begin_blob(described(DATA))
        async with anyio.create_task_group() as group:
            group.start_soon(session.send, opener)  # type: ignore[union-attr] # nothing is there: it is a session
            await started.wait()
            group.cancel_scope.cancel()
        assert server.lines[-1].startswith("DELETE")
        assert target.sessions == {}
