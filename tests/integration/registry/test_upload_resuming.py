"""Uploads that an earlier run began and left behind: asked for first, gone on with, or forgotten."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import anyio
import pytest
from aiohttp import web
from yarl import URL

from syncer.content import BlobOutcome
from syncer.errors import ConnectionFailed, Denied, RateLimitReached, RegistryError
from syncer.plan.records import UnfinishedUpload
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.hosts import traits_of
from syncer.registry.settings import UploadForm, UploadSettings
from syncer.registry.unfinished import LARGE, UnfinishedUploads
from syncer.registry.upload import resuming
from syncer.registry.upload.calls import UploadCalls
from syncer.registry.upload.proof import is_stored
from tests.support import images
from tests.support.docker_registry import docker_registry
from tests.support.faults.virtual_time import virtually
from tests.support.observing import Recorder
from tests.support.scripted import Clock, Connected, Keys, connected, scripted
from tests.support.uploading import Source, Target, described, methods, push, repository_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from syncer.oci import Digest
    from tests.support.scripted import Scripted

DATA = images.random_bytes(1_000_000, "resumed")
DIGEST = described(DATA).digest


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note uploads of any size: to send megabytes shows nothing more."""
    monkeypatch.setattr(resuming, "LARGE", 1)


@dataclass
class Notebook:
    """Keeps notes, and remembers which offsets it was told of."""

    notes: dict[tuple[str, str, Digest], UnfinishedUpload] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)

    def record_upload(self, record: UnfinishedUpload) -> None:
        """Keep a note."""
        self.notes[record.registry, record.repository, record.digest] = record
        self.offsets.append(record.offset)

    def forget_upload(self, registry: str, repository: str, digest: Digest) -> None:
        """Throw a note away."""
        self.notes.pop((registry, repository, digest), None)


@asynccontextmanager
async def pair(
    target: Target,
    notebook: Notebook,
    *,
    form: UploadForm = UploadForm.AUTO,
    location: str = "",
    offset: int = 0,
) -> AsyncIterator[tuple[Scripted, Connected]]:
    """Serve ``target`` and connect to it, with a note of an upload at ``location``, if any."""
    async with scripted(target.handle) as server:
        settings = RegistrySettings(
            host=server.address, plain_http=True, upload=UploadSettings(form=form, chunk=300_000)
        )
        if location:
            notebook.record_upload(
                UnfinishedUpload(
                    registry=server.address,
                    repository="a",
                    digest=DIGEST,
                    location=location.format(origin=server.url),
                    offset=offset,
                )
            )
        async with connected(server.address, settings=settings) as it:
            it.client.unfinished = UnfinishedUploads(notebook, list(notebook.notes.values()))
            yield server, it


def left_behind(count: int, **more: object) -> Target:
    """Return a registry with a session that has the first ``count`` bytes."""
    target = Target(**more)  # type: ignore[arg-type]  # whatever a test wants
    target.sessions["7"] = DATA[:count]
    return target


#: The session of :func:`left_behind`.
SEVEN = "{origin}/v2/a/blobs/uploads/7?_state=A%2F0"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (UploadForm.AUTO, "GET PATCH PUT"),
        (UploadForm.STREAM, "GET PATCH PUT"),
        (UploadForm.CHUNKS, "GET PATCH PATCH PUT"),
    ],
)
async def test_a_session_goes_on_at_its_byte(form: UploadForm, expected: str) -> None:
    """It is asked how far it is, and gets the rest: no POST, no byte twice; the whole source is checked."""
    target, notebook, source = left_behind(412_345), Notebook(), Source(DATA)
    async with pair(target, notebook, form=form, location=SEVEN) as (server, it):
        await push(it, source)
    assert methods(server.lines) == expected
    assert target.spans[0].startswith("412345-")
    assert target.blobs == {DIGEST: DATA}
    assert source.given == len(DATA)
    assert notebook.notes == {}


async def test_a_session_that_has_everything_is_committed() -> None:
    """Killed before the commit: the source is read and checked, and nothing is sent but the commit."""
    target, notebook, source = left_behind(len(DATA)), Notebook(), Source(DATA)
    async with pair(target, notebook, location=SEVEN) as (server, it):
        await push(it, source)
    assert methods(server.lines) == "GET PUT"
    assert target.blobs == {DIGEST: DATA}
    assert source.given == len(DATA)


async def test_quay_counts_one_too_many() -> None:
    """What had been confirmed tells how a Range is meant that may be one byte off."""
    target, notebook = left_behind(300_000, status_range="bytes=0-{last}"), Notebook()
    async with pair(target, notebook, location=SEVEN, offset=300_000) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "GET PATCH PUT"
    assert target.spans == ["300000-999999"]
    assert target.blobs == {DIGEST: DATA}


async def test_a_note_is_good_for_one_upload() -> None:
    """The second upload of the same blob does not get the session of the first."""
    target, notebook = left_behind(400_000), Notebook()
    async with pair(target, notebook, location=SEVEN) as (server, it):
        begun = [await repository_of(it).begin_blob(described(DATA)) for _ in range(2)]
        for session in begun:
            assert not isinstance(session, BlobOutcome)
            await session.abort()
    assert methods(server.lines) == "GET POST DELETE DELETE"
    assert target.sessions == {}
    assert notebook.notes == {}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (web.json_response({"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}, status=404), "GET POST PUT"),
        (web.json_response({"errors": [{"code": "BLOB_UPLOAD_INVALID"}]}, status=400), "GET POST PUT"),
        (web.Response(status=403), "GET POST PUT"),
        (web.Response(status=405), "GET POST PUT"),
        (web.Response(status=204, headers={"Location": "ftp://elsewhere/", "Range": "0-399999"}), "GET POST PUT"),
        (web.Response(status=204), "GET DELETE POST PUT"),
        (web.Response(status=204, headers={"Range": "0-0"}), "GET DELETE POST PUT"),
        (web.Response(status=204, headers={"Range": "0-1000000"}), "GET DELETE POST PUT"),
        (web.Response(status=204, headers={"Range": "5-9"}), "GET DELETE POST PUT"),
        (web.Response(status=200, text="<html>log in</html>"), "GET DELETE POST PUT"),
    ],
    ids=["unknown", "invalid", "denied", "no-method", "ftp", "no-range", "nothing", "too-much", "no-start", "page"],
)
async def test_what_is_not_understood_is_forgotten(answer: web.Response, expected: str) -> None:
    """Whatever else a session answers, a new one takes all the bytes, and the note of the old one is gone."""
    target, notebook = left_behind(400_000, trouble={"GET": [answer]}), Notebook()
    async with pair(target, notebook, location=SEVEN) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == expected
    assert target.blobs == {DIGEST: DATA}
    assert notebook.notes == {}


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:9/v2/a/blobs/uploads/7",
        "{origin}/v2/b/blobs/uploads/7",
        "{origin}/v2/a/blobs/uploads/7?X-Amz-Signature=1",
        "/v2/a/blobs/uploads/7",
        "nonsense",
    ],
)
async def test_a_note_that_leads_elsewhere_is_not_followed(location: str) -> None:
    """A note is held to the registry's own uploads of the repository: nothing else is asked."""
    target, notebook = left_behind(400_000), Notebook()
    async with pair(target, notebook, location=location) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PUT"
    assert notebook.notes == {}


async def test_other_bytes_than_the_blobs_are_found_out() -> None:
    """A session that holds something else fails its commit, and all the bytes go out in a new one."""
    target, notebook = left_behind(400_000), Notebook()
    target.sessions["7"] = b"x" * 400_000
    async with pair(target, notebook, location=SEVEN) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "GET PATCH PUT POST PATCH PUT"
    assert target.blobs == {DIGEST: DATA}
    assert notebook.notes == {}


async def test_a_registry_that_takes_no_patch() -> None:
    """Where the rest is refused as such, the session is given up and the blob goes out as usual."""
    target, notebook = left_behind(400_000, trouble={"PATCH": [web.Response(status=405)]}), Notebook()
    async with pair(target, notebook, location=SEVEN) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "GET PATCH DELETE POST PUT"
    assert target.blobs == {DIGEST: DATA}


async def test_what_can_be_mounted_is_not_sent() -> None:
    """A blob that another repository has by now is mounted, and the session is deleted."""
    target, notebook = left_behind(400_000), Notebook()
    target.blobs[DIGEST] = DATA
    async with pair(target, notebook, location=SEVEN) as (server, it):
        assert await push(it, Source(DATA), mount_from="b") is BlobOutcome.MOUNTED
    assert methods(server.lines) == "GET POST DELETE"
    assert target.sessions == {}
    assert notebook.notes == {}


async def test_what_cannot_be_mounted_goes_on() -> None:
    """The session that a refused mount opens is given up for the one that has bytes."""
    target, notebook = left_behind(400_000), Notebook()
    async with pair(target, notebook, location=SEVEN) as (server, it):
        await push(it, Source(DATA), mount_from="b")
    assert methods(server.lines) == "GET POST DELETE PATCH PUT"
    assert target.sessions == {}
    assert notebook.notes == {}


async def test_a_registry_that_is_not_there_loses_no_note() -> None:
    """An upload that cannot be asked for now may be when the registry is back."""
    target, notebook = left_behind(400_000, trouble={"GET": ["cut"] * 30, "POST": ["cut"] * 30}), Notebook()
    async with pair(target, notebook, location=SEVEN) as (_, it):
        with pytest.raises(ConnectionFailed):
            await push(it, Source(DATA))
    assert [note.location.rpartition("/")[2] for note in notebook.notes.values()] == ["7?_state=A%2F0"]


async def test_a_registry_that_has_closed_the_door_loses_no_note() -> None:
    """What is deferred until tomorrow goes on tomorrow, at its byte."""
    closed = web.Response(status=429, headers={"Retry-After": "20000"})
    target, notebook = left_behind(400_000, trouble={"GET": [closed]}), Notebook()
    async with pair(target, notebook, location=SEVEN) as (server, it):
        with pytest.raises(RateLimitReached):
            await push(it, Source(DATA))
    assert methods(server.lines) == "GET"
    assert len(notebook.notes) == 1


@pytest.mark.parametrize(
    ("form", "offsets"),
    [
        (UploadForm.AUTO, [0]),
        (UploadForm.STREAM, [0, 1_000_000]),
        (UploadForm.CHUNKS, [0, *range(300_000, 900_001, 300_000), 1_000_000]),
    ],
)
async def test_an_upload_is_noted_as_it_goes_on(form: UploadForm, offsets: list[int]) -> None:
    """Its session when it is opened, and each offset that the registry confirms; nothing once it has ended."""
    notebook = Notebook()
    async with pair(Target(), notebook, form=form) as (server, it):
        await push(it, Source(DATA))
    assert "GET" not in methods(server.lines)
    assert notebook.offsets == offsets
    assert notebook.notes == {}


async def test_a_refusal_ends_the_note() -> None:
    """An upload that is given up with its session deleted leaves nothing to go on with."""
    target, notebook = Target(trouble={"PUT": [web.Response(status=403)]}), Notebook()
    async with pair(target, notebook) as (server, it):
        with pytest.raises(Denied):
            await push(it, Source(DATA))
    assert methods(server.lines) == "POST PUT DELETE"
    assert notebook.offsets == [0]
    assert notebook.notes == {}


async def test_a_session_that_could_not_be_deleted_is_left_to_the_next_run() -> None:
    """When the registry goes away in the middle, the next run finds the session, and what has arrived of it."""
    trouble: dict[str, list[object]] = {"PATCH": [None, 100_000, *["cut"] * 30], "GET": ["cut"] * 30, "DELETE": ["cut"]}
    target, notebook = Target(trouble=trouble), Notebook()
    async with pair(target, notebook, form=UploadForm.CHUNKS) as (_, it):
        with pytest.raises(RegistryError):
            await push(it, Source(DATA))
    ((key, note),) = notebook.notes.items()
    assert note.offset == 300_000
    target.trouble = {}
    async with scripted(target.handle) as server, connected(server.address) as it:
        # The same registry, at another port.
        location = f"{server.url}/v2/{note.location.partition('/v2/')[2]}"
        moved = UnfinishedUpload(registry=server.address, repository="a", digest=key[2], location=location)
        it.client.unfinished = UnfinishedUploads(notebook, [moved])
        await push(it, Source(DATA))
    assert methods(server.lines) == "GET PATCH PUT"
    assert target.spans[-1].startswith("400000-")
    assert target.blobs == {DIGEST: DATA}


async def test_a_stop_ends_the_note_with_the_session() -> None:
    """Who is stopped deletes the session, also one of an earlier run, and notes that it is gone."""
    target, notebook = left_behind(400_000), Notebook()
    started = anyio.Event()

    class Slow(Source):
        async def _chunks(self) -> AsyncIterator[bytes]:
            yield DATA[:600_000]
            started.set()
            await anyio.sleep_forever()

    async with pair(target, notebook, location=SEVEN) as (server, it), anyio.create_task_group() as group:
        group.start_soon(push, it, Slow(DATA))
        await started.wait()
        group.cancel_scope.cancel()
    assert methods(server.lines)[-6:] == "DELETE"
    assert target.sessions == {}
    assert notebook.notes == {}


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_stop_does_not_wait_for_a_pause(*, is_elsewhere: bool) -> None:
    """Of two sessions one is needless, and its registry wants a minute of quiet: who is stopped goes in two seconds.

    What has bytes, and is needed, is left to the next run.
    """
    target, notebook = left_behind(400_000), Notebook()
    if is_elsewhere:
        target.blobs[DIGEST] = DATA

    async def main() -> float:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.method == "POST":
                it.client.limits.pause(60)
            return await target.handle(request)

        clock = asyncio.get_running_loop().time
        async with scripted(handle) as server:
            settings = RegistrySettings(host=server.address, plain_http=True)
            key = (server.address, "a", DIGEST)
            note = UnfinishedUpload(
                registry=server.address, repository="a", digest=DIGEST, location=SEVEN.format(origin=server.url)
            )
            notebook.record_upload(note)
            async with RegistryClient(settings, Keys(), Recorder(), clock=clock) as client:
                client.unfinished = UnfinishedUploads(notebook, [note])
                it = Connected(client, Clock(), Recorder())
                began = clock()
                with anyio.move_on_after(10):
                    await push(it, Source(DATA), mount_from="b")
                assert methods(server.lines) == "GET POST"
                assert is_elsewhere or (notebook.notes[key].offset, "/7?" in notebook.notes[key].location) == (
                    400_000,
                    True,
                )
                return clock() - began

    assert 10 <= virtually(main()) < 13


async def test_signed_locations_are_not_noted() -> None:
    """What may be a signature does not get into the state."""
    notebook = Notebook()
    async with pair(Target(parameter="X-Goog-Signature"), notebook, form=UploadForm.CHUNKS) as (_, it):
        await push(it, Source(DATA))
    assert notebook.offsets == []


async def test_a_location_that_becomes_signed_ends_the_note() -> None:
    """A session that moves on to where it may not be noted is not asked for at its old place."""
    target, notebook = Target(), Notebook()

    class Moving(Source):
        async def _chunks(self) -> AsyncIterator[bytes]:
            yield DATA[:300_000]
            yield DATA[300_000:300_001]
            target.parameter = "sig"
            yield DATA[300_001:]

    async with pair(target, notebook, form=UploadForm.CHUNKS) as (server, it):
        await push(it, Moving(DATA))
    assert notebook.notes == {}
    assert max(notebook.offsets) < len(DATA)
    assert "GET" not in methods(server.lines)


@pytest.mark.parametrize("size", [LARGE - 1, LARGE])
async def test_only_large_blobs_are_noted(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A small blob is sent again in less time than its note is worth."""
    monkeypatch.undo()
    notebook = Notebook()
    async with pair(Target(), notebook) as (server, it):
        await push(it, Source(bytes(size), chunk=size))
    assert methods(server.lines) == "POST PUT"
    assert bool(notebook.offsets) is (size >= LARGE)


async def test_where_nothing_can_be_gone_on_with_nothing_is_noted() -> None:
    """Neither with ``form: put`` nor in a registry that does not put blobs together; what is noted is forgotten."""
    notebook = Notebook()
    async with pair(Target(), notebook, form=UploadForm.PUT, location=SEVEN) as (server, it):
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PUT"
    async with pair(Target(), notebook) as (server, it):
        it.client.capabilities.traits = traits_of("ghcr.io")
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PUT"
    assert notebook.offsets == [0]
    assert notebook.notes == {}


@pytest.mark.witness
async def test_docker_registry_goes_on_after_a_chunk(tmp_path: Path) -> None:
    """Debian's registry keeps a session between two chunks, and wants its ``_state`` to say how far it is."""
    notebook = Notebook()
    with docker_registry(tmp_path / "registry") as witness:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{witness.url}/v2/a/blobs/uploads/") as answer:
                location = answer.headers["Location"]
            headers = {"Content-Type": "application/octet-stream", "Content-Range": "0-299999"}
            url = URL(location, encoded=True)
            async with session.patch(url, data=DATA[:300_000], headers=headers) as answer:
                assert answer.status == 202
                location = answer.headers["Location"]
        note = UnfinishedUpload(registry=witness.host, repository="a", digest=DIGEST, location=location, offset=300_000)
        async with connected(witness.host) as it:
            it.client.unfinished = UnfinishedUploads(notebook, [note])
            await push(it, Source(DATA))
            assert await is_stored(UploadCalls(repository_of(it), described(DATA)))
        asked = [access.method for access in witness.requests() if "/blobs/uploads/" in access.target]
    assert "_state=" in location
    assert asked == ["POST", "PATCH", "GET", "PATCH", "PUT"]
    assert notebook.notes == {}
