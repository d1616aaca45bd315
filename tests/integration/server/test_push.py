"""Pushing blobs: endpoints 4, 5, 6, 11, 13 and 14 of the table in the protocol reference."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from syncer.oci import Digest
from tests.integration.server.peer import OCTETS, serving
from tests.support import images

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.integration.server.peer import Answer, Peer

DATA = images.random_bytes(3000)
DIGEST = Digest.of(DATA)
UPLOADS = "/v2/team/app/blobs/uploads/"


async def stored(peer: Peer, digest: Digest = DIGEST, repository: str = "team/app") -> bytes | None:
    """Return the blob as the registry serves it, or None."""
    answer = await peer.ask("GET", f"/v2/{repository}/blobs/{digest}")
    return answer.body if answer.status == 200 else None


def sessions(peer: Peer) -> list[str]:
    """Return the files of the upload sessions."""
    return sorted(os.listdir(peer.tree.root / ".syncer" / "uploads"))  # noqa: PTH208 - a folder of a few files


async def patch(peer: Peer, location: str, start: int, data: bytes) -> Answer:
    """Send one chunk."""
    return await peer.ask("PATCH", location, data, Content_Range=f"{start}-{start + len(data) - 1}", **OCTETS)


async def test_open_session(peer: Peer) -> None:
    """Endpoint 4a: POST opens a session: 202, Location, Range 0-0."""
    answer = await peer.ask("POST", UPLOADS)
    assert (answer.status, answer.headers["Range"]) == (202, "0-0")
    assert answer.location.startswith(UPLOADS)
    assert answer.headers["Docker-Upload-UUID"] in answer.location
    assert len(sessions(peer)) == 1


async def test_open_session_without_slash(peer: Peer) -> None:
    """Endpoint 4a: the last slash may be missing."""
    assert (await peer.ask("POST", UPLOADS[:-1])).status == 202


async def test_post_then_put(peer: Peer) -> None:
    """Endpoint 6: a monolithic PUT commits: 201, the blob's Location and digest; the session is gone."""
    location = await peer.open_upload("team/app")
    answer = await peer.ask("PUT", f"{location}?digest={DIGEST}", DATA, **OCTETS)
    assert (answer.status, answer.location) == (201, f"/v2/team/app/blobs/{DIGEST}")
    assert answer.headers["Docker-Content-Digest"] == DIGEST
    assert await stored(peer) == DATA
    assert sessions(peer) == []
    again = await peer.ask("GET", location)
    assert (again.status, again.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])


async def test_single_post(peer: Peer) -> None:
    """Endpoint 4b: POST with a digest and the whole body: 201 at once."""
    answer = await peer.ask("POST", f"{UPLOADS}?digest={DIGEST}", DATA, **OCTETS)
    assert (answer.status, answer.location) == (201, f"/v2/team/app/blobs/{DIGEST}")
    assert await stored(peer) == DATA
    assert sessions(peer) == []


async def test_single_post_wrong_digest(peer: Peer) -> None:
    """Endpoint 4b: a body with another digest is 400 DIGEST_INVALID, and leaves nothing."""
    answer = await peer.ask("POST", f"{UPLOADS}?digest={DIGEST}", DATA[1:], **OCTETS)
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    assert (await stored(peer), sessions(peer)) == (None, [])


@pytest.mark.parametrize("hinted", [True, False])
@pytest.mark.parametrize("single", [True, False])
async def test_sha512(peer: Peer, *, hinted: bool, single: bool) -> None:
    """Endpoint 4c: sha512 blobs are taken, whether or not digest-algorithm announced them."""
    digest = Digest.of(DATA, "sha512")
    query = "digest-algorithm=sha512" if hinted else ""
    if single:
        answer = await peer.ask("POST", f"{UPLOADS}?digest={digest}&{query}", DATA, **OCTETS)
    else:
        location = await peer.open_upload("team/app", f"?{query}")
        answer = await peer.ask("PUT", f"{location}?digest={digest}", DATA, **OCTETS)
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
    assert await stored(peer, digest) == DATA


async def test_unknown_algorithm(peer: Peer) -> None:
    """Endpoint 4c: an algorithm that is not known is 400 DIGEST_INVALID."""
    answer = await peer.ask("POST", f"{UPLOADS}?digest-algorithm=md5")
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


async def test_chunks(peer: Peer) -> None:
    """Endpoint 5: chunks in order: 202 with Location and Range, then an empty PUT."""
    location = await peer.open_upload("team/app")
    for start in range(0, 3000, 1000):
        answer = await patch(peer, location, start, DATA[start : start + 1000])
        assert (answer.status, answer.headers["Range"]) == (202, f"0-{start + 999}")
        location = answer.location
    answer = await peer.ask("PUT", f"{location}?digest={DIGEST}")
    assert (answer.status, await stored(peer)) == (201, DATA)


async def test_last_chunk_in_put(peer: Peer) -> None:
    """Endpoint 6: the PUT may bring the last chunk."""
    location = (await patch(peer, await peer.open_upload("team/app"), 0, DATA[:2000])).location
    answer = await peer.ask("PUT", f"{location}?digest={DIGEST}", DATA[2000:], Content_Range="2000-2999", **OCTETS)
    assert (answer.status, await stored(peer)) == (201, DATA)


@pytest.mark.parametrize("start", [0, 500, 1001, 2000])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_wrong_offset(peer: Peer, method: str, start: int) -> None:
    """Endpoint 5 and 6: a chunk at another offset is 416 with Location and Range, and changes nothing."""
    location = (await patch(peer, await peer.open_upload("team/app"), 0, DATA[:1000])).location
    query = f"?digest={DIGEST}" if method == "PUT" else ""
    answer = await peer.ask(method, location + query, DATA[start:], Content_Range=f"{start}-2999", **OCTETS)
    assert (answer.status, answer.codes) == (416, ["BLOB_UPLOAD_INVALID"])
    assert (answer.location, answer.headers["Range"]) == (location, "0-999")
    assert (await patch(peer, answer.location, 1000, DATA[1000:])).status == 202
    assert (await peer.ask("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_first_chunk_at_wrong_offset(peer: Peer) -> None:
    """Endpoint 5: the first chunk must start at 0, and the status says so."""
    location = await peer.open_upload("team/app")
    assert (await patch(peer, location, 1000, DATA[1000:])).status == 416
    assert (await peer.ask("GET", location)).headers["Range"] == "0-0"


@pytest.mark.parametrize("content_range", ["bytes 0-999", "0-999/3000", "0", "-", "999-0", "a-b"])
async def test_malformed_content_range(peer: Peer, content_range: str) -> None:
    """Endpoint 5: a Content-Range that is not FIRST-LAST is 400."""
    location = await peer.open_upload("team/app")
    answer = await peer.ask("PATCH", location, DATA[:1000], Content_Range=content_range, **OCTETS)
    assert (answer.status, answer.codes) == (400, ["BLOB_UPLOAD_INVALID"])


async def slowly(data: bytes, size: int = 700) -> AsyncIterator[bytes]:
    """Give ``data`` in pieces, so that it is sent without a Content-Length."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


@pytest.mark.parametrize("content_range", ["0-2998", "0-3000"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_length_unlike_content_range(peer: Peer, content_range: str, *, streamed: bool) -> None:
    """Endpoint 5: a body of another length than its Content-Range is 400, and nothing of it is kept."""
    location = await peer.open_upload("team/app")
    body: Any = slowly(DATA) if streamed else DATA
    answer = await peer.ask("PATCH", location, body, Content_Range=content_range, **OCTETS)
    assert (answer.status, answer.codes) == (400, ["SIZE_INVALID"])
    assert (await patch(peer, location, 0, DATA)).status == 202
    assert (await peer.ask("PUT", f"{location}?digest={DIGEST}")).status == 201


@pytest.mark.parametrize("streamed", [True, False])
async def test_streamed_patch(peer: Peer, *, streamed: bool) -> None:
    """Endpoint 5: a PATCH without Content-Range appends, with a length or without."""
    location = await peer.open_upload("team/app")
    answer = await peer.ask("PATCH", location, slowly(DATA) if streamed else DATA, **OCTETS)
    assert (answer.status, answer.headers["Range"]) == (202, "0-2999")
    answer = await peer.ask("PUT", f"{answer.location}?digest={DIGEST}")
    assert (answer.status, await stored(peer)) == (201, DATA)


async def test_wrong_digest(peer: Peer) -> None:
    """Endpoint 6: bytes of another digest are 400 DIGEST_INVALID, and the session is cancelled."""
    location = await peer.open_upload("team/app")
    answer = await peer.ask("PUT", f"{location}?digest={DIGEST}", DATA[::-1], **OCTETS)
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    assert (await peer.ask("GET", location)).status == 404
    assert (await stored(peer), sessions(peer)) == (None, [])


@pytest.mark.parametrize(
    "query", ["", "?digest=", "?digest=sha256:short", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e"]
)
async def test_missing_or_malformed_digest(peer: Peer, query: str) -> None:
    """Endpoint 6: a PUT without a valid digest is 400 DIGEST_INVALID, and the session lives on."""
    location = (await patch(peer, await peer.open_upload("team/app"), 0, DATA)).location
    answer = await peer.ask("PUT", location + query)
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    assert (await peer.ask("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_status(peer: Peer) -> None:
    """Endpoint 13: GET tells the offset: 204 with Location and Range."""
    location = await peer.open_upload("team/app")
    await patch(peer, location, 0, DATA[:1234])
    answer = await peer.ask("GET", location)
    assert (answer.status, answer.headers["Range"], answer.location) == (204, "0-1233", location)


async def test_cancel(peer: Peer) -> None:
    """Endpoint 14: DELETE cancels a session: 204, then 404 for everything."""
    location = await peer.open_upload("team/app")
    await patch(peer, location, 0, DATA)
    assert (await peer.ask("DELETE", location)).status == 204
    assert sessions(peer) == []
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = await peer.ask(method, f"{location}?digest={DIGEST}")
        assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])


@pytest.mark.parametrize("identifier", ["0" * 32, "nonsense", "..%2f..%2findex.json", "%00"])
async def test_unknown_session(peer: Peer, identifier: str) -> None:
    """Endpoint 5: a session that never was is 404 BLOB_UPLOAD_UNKNOWN, whatever its name."""
    answer = await peer.ask("PATCH", f"{UPLOADS}{identifier}", DATA)
    assert answer.status in (400, 404)
    if "%" not in identifier:
        assert answer.codes == ["BLOB_UPLOAD_UNKNOWN"]


async def test_session_belongs_to_its_repository(peer: Peer) -> None:
    """A session cannot be continued through another repository."""
    location = await peer.open_upload("team/app")
    answer = await peer.ask("PATCH", location.replace("team/app", "team/other"), DATA)
    assert answer.status == 404


async def test_mount(peer: Peer) -> None:
    """Endpoint 11: a blob of another repository is mounted: 201, no bytes on the wire."""
    await peer.push_blob("origin", DATA)
    answer = await peer.ask("POST", f"{UPLOADS}?mount={DIGEST}&from=origin")
    assert (answer.status, answer.location) == (201, f"/v2/team/app/blobs/{DIGEST}")
    assert answer.headers["Docker-Content-Digest"] == DIGEST
    assert await stored(peer) == DATA


@pytest.mark.parametrize("origin", ["nowhere", "empty", "Not/A/Name", "team/app"])
async def test_mount_missing(peer: Peer, origin: str) -> None:
    """Endpoint 11: a mount that cannot be done opens a session instead: 202, good for the PUT."""
    await peer.push_blob("empty", b"other")
    answer = await peer.ask("POST", f"{UPLOADS}?mount={DIGEST}&from={origin}")
    assert answer.status == 202
    assert (await peer.ask("GET", "/v2/team/app/tags/list")).status == 404
    assert (await peer.ask("PUT", f"{answer.location}?digest={DIGEST}", DATA)).status == 201


@pytest.mark.parametrize("query", ["", "&from=team/app"])
async def test_mount_from_itself(peer: Peer, query: str) -> None:
    """Endpoint 11: asking the repository itself is an existence check: 201."""
    await peer.push_blob("team/app", DATA)
    assert (await peer.ask("POST", f"{UPLOADS}?mount={DIGEST}{query}")).status == 201


async def test_mount_without_from(peer: Peer) -> None:
    """Endpoint 11: without ``from``, a blob that was seen in another repository is mounted."""
    await peer.push_blob("origin", DATA)
    assert (await peer.ask("POST", f"{UPLOADS}?mount={DIGEST}")).status == 201
    assert await stored(peer) == DATA
    absent = Digest.of(b"absent")
    assert (await peer.ask("POST", f"{UPLOADS}?mount={absent}")).status == 202


async def test_mounted_blob_outlives_its_origin(peer: Peer) -> None:
    """Deleting a blob where it came from leaves it where it was mounted."""
    await peer.push_blob("origin", DATA)
    await peer.ask("POST", f"{UPLOADS}?mount={DIGEST}&from=origin")
    assert (await peer.ask("DELETE", f"/v2/origin/blobs/{DIGEST}")).status == 202
    assert (await stored(peer, repository="origin"), await stored(peer)) == (None, DATA)


async def test_mount_malformed(peer: Peer) -> None:
    """A mount of what is no digest is 400 DIGEST_INVALID."""
    answer = await peer.ask("POST", f"{UPLOADS}?mount=sha256:x&from=origin")
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


async def test_push_twice(peer: Peer) -> None:
    """Pushing a blob that is there already is 201 again."""
    await peer.push_blob("team/app", DATA)
    await peer.push_blob("team/app", DATA)
    assert await stored(peer) == DATA


async def test_content_encoding_is_left_alone(peer: Peer) -> None:
    """A body that calls itself gzip is stored as it came: the digest is of those bytes."""
    location = await peer.open_upload("team/app")
    answer = await peer.ask("PUT", f"{location}?digest={DIGEST}", DATA, Content_Encoding="gzip", **OCTETS)
    assert (answer.status, await stored(peer)) == (201, DATA)


async def test_expect_continue(peer: Peer) -> None:
    """A client that asks first is told to go on when the body is wanted, and refused before it is sent."""
    location = await peer.open_upload("team/app")
    refused = await raw(
        peer, f"PUT {location} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    )
    assert refused.startswith(b"HTTP/1.1 400 ")
    wanted = (
        f"PUT {location}?digest={DIGEST} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3000\r\n\r\n"
    )
    answered = await raw(peer, wanted, then=DATA)
    assert answered.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 ")
    assert await stored(peer) == DATA


async def raw(peer: Peer, head: str, then: bytes = b"") -> bytes:
    """Send ``head``, wait for what comes, send ``then`` and return all that came until a whole answer."""
    reader, writer = await asyncio.open_connection(peer.server.host, peer.server.port)
    writer.write(head.encode())
    came = await reader.readuntil(b"\r\n\r\n")
    if then:
        writer.write(then)
        came += await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return came


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_resume_after_reset(peer: Peer, method: str) -> None:
    """A client cut off in the middle finds what had arrived, and goes on from there."""
    data = images.random_bytes(5 * 1024 * 1024)
    digest = Digest.of(data)
    location = await peer.open_upload("team/app")
    query = f"?digest={digest}" if method == "PUT" else ""
    _, writer = await asyncio.open_connection(peer.server.host, peer.server.port)
    writer.write(f"{method} {location}{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode())
    writer.write(data[: 3 * 1024 * 1024])
    await writer.drain()
    writer.transport.abort()
    await peer.server.settled()
    offset = int((await peer.ask("GET", location)).headers["Range"][2:]) + 1
    assert 0 < offset <= 3 * 1024 * 1024
    assert (await patch(peer, location, offset, data[offset:])).status == 202
    assert (await peer.ask("PUT", f"{location}?digest={digest}")).status == 201
    assert await stored(peer, digest) == data


async def test_single_post_reset_leaves_nothing(peer: Peer) -> None:
    """A single POST that is cut off leaves no session behind: nobody knows its name."""
    _, writer = await asyncio.open_connection(peer.server.host, peer.server.port)
    head = f"POST {UPLOADS}?digest={DIGEST} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n"
    writer.write(head.encode() + DATA[:1000])
    await writer.drain()
    await until(lambda: bool(sessions(peer)))
    writer.transport.abort()
    await until(lambda: bool(peer.records))
    assert sessions(peer) == []
    assert peer.records[-1].status == 499


async def until(claim: Callable[[], bool]) -> None:
    """Wait for what another task is about to do."""
    while not claim():  # noqa: ASYNC110 - the server has no event to offer for this
        await asyncio.sleep(0.001)


async def test_two_writers_of_one_session(tmp_path: Path) -> None:
    """While one request writes to a session another is 409, and the first is not disturbed."""
    async with serving(tmp_path, session_patience=0.01) as peer:
        location = await peer.open_upload("team/app")
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def held() -> AsyncIterator[bytes]:
            yield DATA[:1000]
            begun.set()
            await go_on.wait()
            yield DATA[1000:]

        first = asyncio.create_task(peer.ask("PATCH", location, held(), **OCTETS))
        await begun.wait()
        second = await peer.ask("PATCH", location)
        while second.status == 202:
            second = await peer.ask("PATCH", location)
        assert (second.status, second.codes) == (409, ["BLOB_UPLOAD_INVALID"])
        assert (await peer.ask("DELETE", location)).status == 409
        assert (await peer.ask("GET", location)).status == 204
        go_on.set()
        assert (await first).headers["Range"] == "0-2999"
        assert (await peer.ask("PUT", f"{location}?digest={DIGEST}")).status == 201
        assert await stored(peer) == DATA


async def test_a_request_waits_for_the_one_before(peer: Peer) -> None:
    """A chunk that comes while the one before it is still being taken waits for its turn."""
    location = await peer.open_upload("team/app")
    go_on = asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        yield DATA[:1000]
        await go_on.wait()

    first = asyncio.create_task(peer.ask("PATCH", location, held(), **OCTETS))
    second = asyncio.create_task(peer.ask("GET", location))
    await asyncio.sleep(0.01)
    go_on.set()
    assert ((await first).status, (await second).status) == (202, 204)
    assert (await patch(peer, location, 1000, DATA[1000:])).status == 202


async def test_blob_cap(tmp_path: Path) -> None:
    """A blob over the cap is 413, whether its length is announced or not; one at the cap is taken."""
    async with serving(tmp_path, max_blob_size=2000) as peer:
        location = await peer.open_upload("app")
        announced = await peer.ask("PUT", f"{location}?digest={DIGEST}", DATA)
        streamed = await peer.ask("PATCH", location, slowly(DATA))
        assert (announced.status, announced.codes) == (413, ["SIZE_INVALID"])
        assert (streamed.status, streamed.headers["Range"]) == (413, "0-0")
        await peer.push_blob("app", DATA[:2000])


async def test_stalled_body(tmp_path: Path) -> None:
    """A body that stops is given up with 408, and what came of it is kept."""
    async with serving(tmp_path, stall_timeout=0.05) as peer:
        location = await peer.open_upload("app")
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n"
        reader, writer = await asyncio.open_connection(peer.server.host, peer.server.port)
        writer.write(head.encode() + DATA[:1000])
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()
        assert (await peer.ask("GET", location)).headers["Range"] == "0-999"


async def test_sessions_survive_a_restart(tmp_path: Path) -> None:
    """A session is found again by the next server, at its offset, and committed there."""
    async with serving(tmp_path) as peer:
        location = (await patch(peer, await peer.open_upload("team/app"), 0, DATA[:1000])).location
    async with serving(tmp_path) as peer:
        assert (await peer.ask("GET", location)).headers["Range"] == "0-999"
        assert (await patch(peer, location, 1000, DATA[1000:])).status == 202
        assert (await peer.ask("PUT", f"{location}?digest={DIGEST}")).status == 201
        assert await stored(peer) == DATA


async def test_wrong_digest_after_a_restart(tmp_path: Path) -> None:
    """The hash of a session of an earlier server is computed from its file, and still decides."""
    async with serving(tmp_path) as peer:
        location = (await patch(peer, await peer.open_upload("team/app"), 0, DATA[:-1])).location
    async with serving(tmp_path) as peer:
        answer = await peer.ask("PUT", f"{location}?digest={DIGEST}")
        assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


async def test_stale_sessions_are_purged(tmp_path: Path) -> None:
    """A server that starts removes the sessions that nobody touched for their lifetime, and no others."""
    async with serving(tmp_path) as peer:
        old = (await patch(peer, await peer.open_upload("app"), 0, DATA)).location
        fresh = await peer.open_upload("app")
        stale = next(name for name in sessions(peer) if name.endswith(old.rpartition("/")[2]))
    os.utime(tmp_path / ".syncer" / "uploads" / stale, (1, 1))
    async with serving(tmp_path) as peer:
        assert (await peer.ask("GET", old)).status == 404
        assert (await peer.ask("GET", fresh)).status == 204


async def test_no_space(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is 507, and the session is where it was."""
    location = (await patch(peer, await peer.open_upload("app"), 0, DATA[:1000])).location

    def full(*_args: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("os.pwrite", full)
        answer = await peer.ask("PATCH", location, DATA[1000:])
    assert (answer.status, answer.codes) == (507, ["DENIED"])
    assert (await peer.ask("PUT", f"{location}?digest={DIGEST}", DATA[1000:])).status == 201


async def test_session_whose_file_is_gone(peer: Peer) -> None:
    """A session that was purged under a client is 404 BLOB_UPLOAD_UNKNOWN, and 404 it stays."""
    location = (await patch(peer, await peer.open_upload("app"), 0, DATA[:1000])).location
    (peer.tree.root / ".syncer" / "uploads" / sessions(peer)[0]).unlink()
    for _ in range(2):
        answer = await peer.ask("PATCH", location, DATA[1000:])
        assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])


async def test_commit_of_a_session_whose_file_is_gone(peer: Peer) -> None:
    """The same for a PUT that brings no bytes."""
    location = (await patch(peer, await peer.open_upload("app"), 0, DATA)).location
    (peer.tree.root / ".syncer" / "uploads" / sessions(peer)[0]).unlink()
    answer = await peer.ask("PUT", f"{location}?digest={DIGEST}")
    assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
