"""Uploads: the fewest requests when all is well, the right ones when it is not."""

from __future__ import annotations

import asyncio
import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from syncer.content import BlobOutcome, verified
from syncer.errors import (
    ConnectionFailed,
    DigestMismatch,
    NotFound,
    ProtocolViolation,
    RegistryError,
    Side,
    StatusError,
    Timeout,
    Unauthorized,
)
from syncer.events import RetryScheduled
from syncer.oci import Digest
from syncer.registry import RegistryClient, RegistrySettings, TimeoutSettings
from syncer.registry.credentials.values import Basic
from syncer.registry.upload import UploadSession
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import Keys, connected, cut, scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from syncer.registry import RegistryRepository
    from tests.support.scripted import Connected

DATA = images.random_bytes(700_000, "blob")
BLOB = images.blob(DATA)
BIG = images.random_bytes(8_000_000, "big")
HUGE = BIG * 4
#: Described once, here: to hash so much within a test would hold up its loop.
described = functools.cache(images.blob)
described(BIG)
described(HUGE)


def opener(
    data: bytes = DATA, *, expected: bytes | None = None, chunk: int = 100_000
) -> Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]:
    """Give ``data`` in chunks, verified to be ``expected``."""
    descriptor = described(data if expected is None else expected)

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), chunk):
                await anyio.lowlevel.checkpoint()
                yield data[at : at + chunk]

        yield verified(chunks(), descriptor)

    return opened


class Registry:
    """A target that opens sessions and commits them, and fails as it is told, by method, in turn."""

    def __init__(self, **trouble: list[object]) -> None:
        self.trouble = trouble
        self.blobs: dict[str, bytes] = {}
        self.sessions = 0
        self.headers: list[dict[str, str]] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        waiting = self.trouble.get(request.method.lower())
        failure = waiting.pop(0) if waiting else None
        if isinstance(failure, web.Response):
            return failure
        if failure == "cut":
            cut(request)
            return web.Response()
        match request.method:
            case "POST":
                self.sessions += 1
                return web.Response(
                    status=202, headers={"Location": f"up/{self.sessions}?_state=A%2Fb+{self.sessions}=="}
                )
            case "PUT":
                self.headers.append(dict(request.headers))
                return await self.commit(request, lose=failure == "lose")
            case "HEAD":
                digest = request.path.rpartition("/")[2]
                if digest not in self.blobs:
                    return web.Response(status=404)
                return web.Response(headers={"Docker-Content-Digest": digest})
        return web.Response(status=204)

    async def commit(self, request: web.BaseRequest, *, lose: bool) -> web.Response:
        """Take a blob, and lose the answer if told so."""
        body = await request.content.read()
        digest = request.query["digest"]
        if Digest.of(body) != digest:
            return web.json_response({"errors": [{"code": "DIGEST_INVALID"}]}, status=400)
        self.blobs[digest] = body
        if lose:
            cut(request)
        return web.Response(status=201, headers={"Docker-Content-Digest": digest})


def target(it: Connected, name: str = "a") -> RegistryRepository:
    """Return a repository to push to."""
    return it.client.repository(name, Side.TARGET)


async def push(it: Connected, data: bytes = DATA) -> None:
    """Push a blob that is not there."""
    session = await target(it).begin_blob(images.blob(data))
    assert isinstance(session, UploadSession)
    await session.send(opener(data))


MOUNT = f"POST /v2/a/blobs/uploads/?mount=sha256%3A{BLOB.digest.encoded}&from=a"
POST = "POST /v2/a/blobs/uploads/"


def put(session: int) -> str:
    """Return the commit of a session."""
    return f"PUT /v2/a/blobs/uploads/up/{session}?_state=A%2Fb+{session}==&digest=sha256%3A{BLOB.digest.encoded}"


def delete(session: int) -> str:
    """Return the end of a session that is given up."""
    return f"DELETE /v2/a/blobs/uploads/up/{session}?_state=A%2Fb+{session}=="


HEAD = f"HEAD /v2/a/blobs/{BLOB.digest}"


async def test_new_blob_is_two_requests() -> None:
    """POST and PUT: the Location byte for byte, a Content-Length, no chunked encoding."""
    registry = Registry()
    async with scripted(registry.handle) as server, connected(server.address) as it:
        await push(it)
    assert [MOUNT, put(1)] == server.lines
    assert server.seen[0].headers["Content-Length"] == "0"
    assert str(len(DATA)) == registry.headers[0]["Content-Length"]
    assert registry.headers[0]["Content-Type"] == "application/octet-stream"
    assert "Transfer-Encoding" not in registry.headers[0]
    assert registry.blobs[BLOB.digest] == DATA


async def test_empty_blob() -> None:
    """A blob of no bytes is pushed like any other."""
    registry = Registry()
    async with scripted(registry.handle) as server, connected(server.address) as it:
        await push(it, b"")
    assert registry.blobs[Digest.of(b"")] == b""


@pytest.mark.parametrize(("source", "outcome"), [("", BlobOutcome.PRESENT), ("other", BlobOutcome.MOUNTED)])
async def test_blob_that_is_there_is_one_request(source: str, outcome: BlobOutcome) -> None:
    """One POST finds a blob in the repository itself, or mounts it from another."""
    registry = Registry(post=[web.Response(status=201, headers={"Docker-Content-Digest": BLOB.digest})])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        assert outcome is await target(it).begin_blob(BLOB, mount_from=source)
    assert len(server.lines) == 1
    assert server.lines[0].endswith(f"&from={source or 'a'}")


@pytest.mark.parametrize(
    "failure", [web.Response(status=405), web.Response(status=500), web.Response(status=403), "cut"]
)
async def test_mount_failure_of_any_kind_is_one_more_post(failure: object) -> None:
    """A registry that fails over the mount is asked once more, without it."""
    registry = Registry(post=[failure])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        await push(it)
    assert [MOUNT, POST, put(1)] == server.lines


async def test_refused_parameters_are_not_tried_again() -> None:
    """A registry that knows no mount is not asked for one again in this run."""
    registry = Registry(post=[web.Response(status=405)])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        await push(it)
        await push(it)
    assert [MOUNT, POST, put(1), POST, put(2)] == server.lines


async def test_lost_answer_is_looked_after() -> None:
    """When the answer to the commit is lost, a HEAD finds the blob and nothing is sent twice."""
    registry = Registry(put=["lose"])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        await push(it)
    assert [MOUNT, put(1), HEAD, delete(1)] == server.lines


async def test_cut_upload_starts_over() -> None:
    """A connection that is cut in the middle is followed by a new session and the bytes read anew."""
    registry = Registry(put=["cut"])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        await push(it, BIG)
        lines = [line.partition("?")[0] for line in server.lines]
    assert lines == [
        "POST /v2/a/blobs/uploads/",
        "PUT /v2/a/blobs/uploads/up/1",
        "DELETE /v2/a/blobs/uploads/up/1",
        "POST /v2/a/blobs/uploads/",
        "PUT /v2/a/blobs/uploads/up/2",
    ]
    assert registry.blobs[Digest.of(BIG)] == BIG


async def test_server_failure_after_the_body() -> None:
    """A 5xx after the whole body may have committed: look first, then start over."""
    registry = Registry(put=[web.Response(status=502)])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        session = await target(it).begin_blob(images.blob(b"x"))
        assert isinstance(session, UploadSession)
        await session.send(opener(b"x"))
    methods = [line.split()[0] for line in server.lines]
    assert methods == ["POST", "PUT", "HEAD", "DELETE", "POST", "PUT"]


@pytest.mark.parametrize("code", ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"])
async def test_lost_session_is_opened_again(code: str) -> None:
    """A session that the registry has forgotten is replaced, without a DELETE for it."""
    registry = Registry(put=[web.json_response({"errors": [{"code": code}]}, status=404)])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        await push(it)
    assert [MOUNT, put(1), POST, put(2)] == server.lines


async def test_corrupted_on_the_way_twice() -> None:
    """A registry that receives other bytes is given the blob once more; then it is a mismatch at the target."""
    bad = [web.json_response({"errors": [{"code": "DIGEST_INVALID"}]}, status=400) for _ in range(5)]
    registry = Registry(put=list(bad))
    async with scripted(registry.handle) as server, connected(server.address) as it:
        with pytest.raises(DigestMismatch) as caught:
            await push(it)
    assert [MOUNT, put(1), POST, put(2)] == server.lines
    assert Side.TARGET is caught.value.side


async def test_corrupt_source_commits_nothing() -> None:
    """Bytes that are not what the digest says never arrive whole; the session is deleted, the source's error raised."""
    registry = Registry()
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        session = await target(it).begin_blob(BLOB)
        assert isinstance(session, UploadSession)
        with pytest.raises(DigestMismatch) as caught:
            await session.send(opener(wrong, expected=DATA))
    assert "arrived as" in caught.value.message
    assert registry.blobs == {}
    assert [MOUNT, delete(1)] == [line for line in server.lines if not line.startswith("PUT")]


async def test_source_that_cannot_be_opened() -> None:
    """What the source raises on opening is raised as it is, and the session is deleted."""

    @asynccontextmanager
    async def missing() -> AsyncIterator[AsyncIterator[bytes]]:
        raise NotFound("gone", side=Side.SOURCE)
        yield  # type: ignore[unreachable] # makes this a generator

    async with scripted(Registry().handle) as server, connected(server.address) as it:
        session = await target(it).begin_blob(BLOB)
        assert isinstance(session, UploadSession)
        with pytest.raises(NotFound, match="gone") as caught:
            await session.send(missing)
    assert Side.SOURCE is caught.value.side
    assert [MOUNT, delete(1)] == server.lines


@pytest.mark.parametrize("status", [401, 413])
async def test_early_answer_is_what_is_raised(status: int) -> None:
    """An answer that comes while the body is still on its way is the error, not a broken pipe."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method in ("PUT", "PATCH"):
            response = web.Response(status=status, text="no")
            response.force_close()
            return response
        return web.Response(status=202, headers={"Location": "/up/1"})

    async with scripted(handler) as server, connected(server.address) as it:
        session = await target(it).begin_blob(described(BIG))
        assert isinstance(session, UploadSession)
        with pytest.raises(StatusError) as caught:
            await session.send(opener(BIG))
    assert status == caught.value.status


async def test_early_success_is_no_success() -> None:
    """A 201 before the blob was sent whole is a violation: what was stored is not the blob."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PUT":
            return web.Response(status=201)
        return web.Response(status=202, headers={"Location": "/up/1"})

    @asynccontextmanager
    async def slow() -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield DATA[:-1]
            await anyio.sleep_forever()

        yield chunks()

    async with scripted(handler) as server, connected(server.address) as it:
        session = await target(it).begin_blob(BLOB)
        assert isinstance(session, UploadSession)
        with pytest.raises(ProtocolViolation):
            await session.send(slow)


async def test_wrong_digest_in_the_answer() -> None:
    """A commit that is confirmed with another digest did not happen."""
    other = web.Response(status=201, headers={"Docker-Content-Digest": Digest.of(b"other")})
    async with scripted(Registry(put=[other]).handle) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation):
            await push(it)


async def test_location_on_another_origin_gets_no_credentials() -> None:
    """An upload that is sent elsewhere goes there without Authorization."""
    elsewhere = Registry()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return web.Response(status=202, headers={"Location": f"{storage.url}/up?sig=A%2fb"})

    async with scripted(elsewhere.handle) as storage, scripted(handler) as server:
        async with connected(server.address, credential=Basic(username="u", password="canary")) as it:
            await push(it)
        assert ["", ""][: len(storage.seen)] == [seen.authorization for seen in storage.seen]
        assert storage.lines[0].startswith("PUT /up?sig=A%2fb&digest=")


async def test_no_location() -> None:
    """An upload without a Location is a violation."""
    answers: list[object] = [web.Response(status=202), web.Response(status=202)]
    async with scripted(Registry(post=answers).handle) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation, match="without saying where"):
            await push(it)


async def test_late_401_starts_over_twice() -> None:
    """A 401 at the commit, when a token expired during the upload, is followed by one more session, and by a third."""
    refusals = [web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'}) for _ in range(3)]
    async with scripted(Registry(put=list(refusals)).handle) as server, connected(server.address) as it:
        with pytest.raises(Unauthorized):
            await push(it)
    assert [MOUNT, put(1), delete(1), POST, put(2), delete(2), POST, put(3), delete(3)] == server.lines


async def test_registry_that_is_gone() -> None:
    """A target that fails every time is given up with its own error, on its side."""
    registry = Registry(put=["cut"] * 20)
    async with scripted(registry.handle) as server, connected(server.address) as it:
        with pytest.raises(ConnectionFailed) as caught:
            await push(it)
    assert Side.TARGET is caught.value.side
    assert sum(line.startswith("PUT") for line in server.lines) == 6
    assert sum(line.startswith("DELETE") for line in server.lines) == 6


async def test_cancellation_deletes_the_session_and_leaves_no_task() -> None:
    """Cancelled in the middle of a body, an upload ends its session, closes its source and leaves nothing running."""
    started, closed = anyio.Event(), anyio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield DATA[:300_000]
            started.set()
            await anyio.sleep_forever()

        try:
            yield chunks()
        finally:
            closed.set()

    async with scripted(Registry().handle) as server, connected(server.address) as it:
        before = asyncio.all_tasks()
        session = await target(it).begin_blob(BLOB)
        assert isinstance(session, UploadSession)
        async with anyio.create_task_group() as group:
            group.start_soon(session.send, slow)
            await started.wait()
            group.cancel_scope.cancel()
        assert closed.is_set()
        assert delete(1) == server.lines[-1]
        ours = {task for task in asyncio.all_tasks() - before if "aiohttp/web" not in repr(task)}
        await asyncio.sleep(0)
        assert not {task for task in ours if not task.done() and "web_protocol" not in repr(task)}


async def test_a_session_opened_while_we_are_cancelled_is_given_up() -> None:
    """A cancelled POST still learns where the upload is, and deletes it."""
    asked, cancelled = anyio.Event(), anyio.Event()
    registry = Registry()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            asked.set()
            await cancelled.wait()
        return await registry.handle(request)

    async with scripted(handle) as server, connected(server.address) as it:
        async with anyio.create_task_group() as group:
            group.start_soon(target(it).begin_blob, BLOB)
            await asked.wait()
            group.cancel_scope.cancel()
            cancelled.set()
        assert [MOUNT, delete(1)] == server.lines


async def test_a_session_that_cannot_be_found_hides_no_cancellation() -> None:
    """A Location that must not be gone to, of a session opened while we are cancelled, raises nothing."""
    asked, cancelled = anyio.Event(), anyio.Event()

    async def handle(_request: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        await cancelled.wait()
        return web.Response(status=202, headers={"Location": "ftp://elsewhere/"})

    async with scripted(handle) as server, connected(server.address) as it:
        async with anyio.create_task_group() as group:
            group.start_soon(target(it).begin_blob, BLOB)
            await asked.wait()
            group.cancel_scope.cancel()
            cancelled.set()
        assert server.lines == [MOUNT]


async def test_what_was_not_sent_when_we_are_cancelled_is_not_sent() -> None:
    """Of thirty POSTs under a window of two, those under way are waited for, and the others never leave."""
    asked = anyio.Event()
    registry = Registry()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            asked.set()
            await anyio.sleep(0.02)
        return await registry.handle(request)

    async with scripted(handle) as server:
        settings = RegistrySettings(host=server.address, plain_http=True, connections=2)
        async with connected(server.address, settings=settings) as it, anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(target(it).begin_blob, BLOB)
            await asked.wait()
            group.cancel_scope.cancel()
    assert len([line for line in server.lines if line.startswith("POST")]) <= 2


async def test_abort() -> None:
    """Giving a session up is one DELETE, and failures of it are nobody's business; a second one does nothing."""
    registry = Registry(delete=[web.Response(status=500)])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        session = await target(it).begin_blob(BLOB)
        assert isinstance(session, UploadSession)
        await session.abort()
        await session.abort()
    assert [MOUNT, delete(1)] == server.lines


async def test_session_whose_state_is_stale_is_deleted_by_a_fresh_location() -> None:
    """Where a DELETE is refused after a cut body, the registry is asked for the Location of now."""
    registry = Registry(
        delete=[web.Response(status=404)], get=[web.Response(status=204, headers={"Location": "/v2/up/fresh?_state=B"})]
    )
    wrong = BIG[:-1] + bytes([BIG[-1] ^ 1])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        session = await target(it).begin_blob(described(BIG))
        assert isinstance(session, UploadSession)
        with pytest.raises(DigestMismatch):
            await session.send(opener(wrong, expected=BIG))
    assert [line.split()[0] for line in server.lines[-3:]] == ["DELETE", "GET", "DELETE"]
    assert server.lines[-1] == "DELETE /v2/up/fresh?_state=B"


async def test_waiting_for_leave_to_send_is_no_stall() -> None:
    """A pause that the registry asked for is not held against the target: the PUT goes out after it, once."""
    registry, recorder = Registry(), Recorder()
    async with scripted(registry.handle) as server:
        timeouts = TimeoutSettings(stall=0.01)
        settings = RegistrySettings(host=server.address, plain_http=True, timeouts=timeouts)
        async with RegistryClient(settings, Keys(), recorder) as client:
            session = await client.repository("a", Side.TARGET).begin_blob(images.blob(b"x"))
            assert isinstance(session, UploadSession)
            client.limits.pause(0.05)
            await session.send(opener(b"x"))
    assert [line.split()[0] for line in server.lines] == ["POST", "PUT"]
    assert recorder.of(RetryScheduled) == []


async def test_target_that_takes_no_more_bytes() -> None:
    """A target that stops reading is given up after the stall time, not waited for."""
    stuck = anyio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PUT":
            await stuck.wait()
            cut(request)
        return web.Response(status=202, headers={"Location": "/up/1"})

    async with scripted(handler) as server:
        timeouts = TimeoutSettings(stall=0.05)
        settings = RegistrySettings(host=server.address, plain_http=True, timeouts=timeouts)
        async with connected(server.address, settings=settings) as it:
            session = await target(it).begin_blob(described(HUGE))
            assert isinstance(session, UploadSession)
            with pytest.raises((Timeout, RegistryError)) as caught:
                await session.send(opener(HUGE, chunk=1_000_000))
            stuck.set()
    assert isinstance(caught.value, Timeout)


async def test_target_that_takes_bytes_too_slowly() -> None:
    """A target that takes fewer bytes a second than the floor is given up, though it takes some."""
    over = anyio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        while request.method == "PUT" and not over.is_set() and await request.content.readany():  # noqa: ASYNC110 - slow on purpose
            await anyio.sleep(0.005)
        return web.Response(status=202, headers={"Location": "/up/1"})

    async with scripted(handler) as server:
        timeouts = TimeoutSettings(stall=0.03, slowest=10**9)
        settings = RegistrySettings(host=server.address, plain_http=True, timeouts=timeouts)
        async with connected(server.address, settings=settings) as it:
            session = await target(it).begin_blob(described(HUGE))
            assert isinstance(session, UploadSession)
            with pytest.raises(Timeout, match="takes no more bytes"):
                await session.send(opener(HUGE, chunk=1_000_000))
            over.set()
