"""Pulling: endpoints 1, 2 and 3 of the table in the protocol reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer.oci import Digest
from syncer.oci import media_types as mt
from tests.support import images

if TYPE_CHECKING:
    from tests.integration.server.peer import Peer

DATA = images.random_bytes(2048)
ABSENT = Digest.of(b"absent")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/v2/", "/v2"])
async def test_base(peer: Peer, method: str, path: str) -> None:
    """Endpoint 1: the base answers 200 and says which API it is."""
    answer = await peer.ask(method, path)
    assert (answer.status, answer.headers["Docker-Distribution-API-Version"]) == (200, "registry/2.0")


async def test_no_endpoint(peer: Peer) -> None:
    """A path that is no endpoint is answered with 404 and an error body."""
    answer = await peer.ask("GET", "/v2/app/nonsense")
    assert (answer.status, answer.codes) == (404, ["UNSUPPORTED"])


async def test_blob_get(peer: Peer) -> None:
    """Endpoint 2: GET gives the bytes, their digest, their length and an entity tag."""
    digest = await peer.push_blob("team/app", DATA)
    answer = await peer.ask("GET", f"/v2/team/app/blobs/{digest}")
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Content-Length"] == "2048"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["ETag"] == f'"{digest}"'
    assert answer.headers["Accept-Ranges"] == "bytes"


async def test_blob_head(peer: Peer) -> None:
    """Endpoint 2: HEAD gives what GET gives, without the bytes."""
    digest = await peer.push_blob("team/app", DATA)
    answer = await peer.ask("HEAD", f"/v2/team/app/blobs/{digest}")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Content-Length"] == "2048"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("repository", ["app", "nowhere"])
async def test_blob_absent(peer: Peer, method: str, repository: str) -> None:
    """Endpoint 2 and 10: a blob or repository that is not there is 404 BLOB_UNKNOWN."""
    await peer.push_blob("app", DATA)
    answer = await peer.ask(method, f"/v2/{repository}/blobs/{ABSENT}")
    assert answer.status == 404
    assert method == "HEAD" or answer.codes == ["BLOB_UNKNOWN"]


@pytest.mark.parametrize("digest", ["sha256:baddigeststring", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../x"])
async def test_blob_invalid_digest(peer: Peer, digest: str) -> None:
    """A digest that breaks the grammar is 400 DIGEST_INVALID, before it is near a path."""
    answer = await peer.ask("GET", f"/v2/app/blobs/{digest.replace('/', '%2F')}")
    assert answer.status in (400, 404)
    if "/" not in digest:
        assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, 2048),
        ("bytes=-500", 1548, 2048),
        ("bytes=2000-5000", 2000, 2048),
        ("bytes=0-0", 0, 1),
        ("bytes=-5000", 0, 2048),
    ],
)
async def test_blob_range(peer: Peer, asked: str, start: int, end: int) -> None:
    """Endpoint 2: one byte range is answered with 206, its bytes and where they lie."""
    digest = await peer.push_blob("app", DATA)
    answer = await peer.ask("GET", f"/v2/app/blobs/{digest}", Range=asked)
    assert (answer.status, answer.body) == (206, DATA[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/2048"
    assert answer.headers["Content-Length"] == str(end - start)
    assert answer.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("asked", ["bytes=2048-", "bytes=5000-10000", "bytes=500-0", "bytes=-0"])
async def test_blob_range_unsatisfiable(peer: Peer, asked: str) -> None:
    """Endpoint 2: a range outside the blob is 416 with the blob's size."""
    digest = await peer.push_blob("app", DATA)
    answer = await peer.ask("GET", f"/v2/app/blobs/{digest}", Range=asked)
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */2048")


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=x-y", "bytes=-"])
async def test_blob_range_ignored(peer: Peer, asked: str) -> None:
    """RFC 9110 section 14.2: several ranges, other units and nonsense get the whole blob."""
    digest = await peer.push_blob("app", DATA)
    answer = await peer.ask("GET", f"/v2/app/blobs/{digest}", Range=asked)
    assert (answer.status, answer.body) == (200, DATA)


async def test_blob_if_range(peer: Peer) -> None:
    """A Range holds only while If-Range names this blob."""
    digest = await peer.push_blob("app", DATA)
    path = f"/v2/app/blobs/{digest}"
    same = await peer.ask("GET", path, Range="bytes=0-9", If_Range=f'"{digest}"')
    other = await peer.ask("GET", path, Range="bytes=0-9", If_Range=f'"{ABSENT}"')
    assert (same.status, other.status) == (206, 200)


@pytest.mark.parametrize("kind", ["blobs", "manifests"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("held", ['"{}"', "{}", 'W/"{}"', '"x", "{}"', "*"])
async def test_not_modified(peer: Peer, kind: str, method: str, held: str) -> None:
    """Conditional requests: If-None-Match with the digest is 304, quoted, bare, weak or in a list."""
    sample = images.image(seed="304")
    await peer.push("app", sample, "1")
    digest = sample.digest if kind == "manifests" else next(iter(sample.blobs))
    answer = await peer.ask(method, f"/v2/app/{kind}/{digest}", If_None_Match=held.format(digest))
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == f'"{digest}"'
    assert answer.headers["Docker-Content-Digest"] == digest


async def test_modified(peer: Peer) -> None:
    """Conditional requests: another digest in If-None-Match gets the body."""
    sample = images.image()
    await peer.push("app", sample, "1")
    answer = await peer.ask("GET", "/v2/app/manifests/1", If_None_Match=f'"{ABSENT}"')
    assert (answer.status, answer.body) == (200, sample.manifest.raw)


async def test_large_blob_and_range(peer: Peer) -> None:
    """Endpoint 2: blobs over the inline size are streamed, whole and in part, and counted."""
    data = images.random_bytes(9 * 1024 * 1024 + 7)
    digest = await peer.push_blob("app", data)
    whole = await peer.ask("GET", f"/v2/app/blobs/{digest}")
    part = await peer.ask("GET", f"/v2/app/blobs/{digest}", Range="bytes=1000-")
    await peer.server.settled()
    assert (whole.status, whole.body == data) == (200, True)
    assert (part.status, part.body == data[1000:]) == (206, True)
    assert [record.bytes_out for record in peer.records[-2:]] == [len(data), len(data) - 1000]


async def test_empty_blob(peer: Peer) -> None:
    """The blob of no bytes is a blob like any other."""
    digest = await peer.push_blob("app", b"")
    answer = await peer.ask("GET", f"/v2/app/blobs/{digest}")
    head = await peer.ask("HEAD", f"/v2/app/blobs/{digest}")
    assert (answer.status, answer.body, head.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    "sample",
    [images.image(), images.index(), images.docker_image(), images.docker_list(), images.artifact()],
    ids=["image", "index", "docker", "list", "artifact"],
)
@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_manifest_get(peer: Peer, sample: images.Sample, by: str) -> None:
    """Endpoint 3: GET gives the exact bytes, media type and digest, by tag and by digest."""
    await peer.push("team/app", sample, "1.0")
    reference = "1.0" if by == "tag" else sample.digest
    answer = await peer.ask("GET", f"/v2/team/app/manifests/{reference}", Accept=mt.ACCEPT_MANIFESTS)
    assert (answer.status, answer.body) == (200, sample.manifest.raw)
    assert answer.headers["Content-Type"] == sample.manifest.media_type
    assert answer.headers["Docker-Content-Digest"] == sample.digest
    head = await peer.ask("HEAD", f"/v2/team/app/manifests/{reference}", Accept=mt.ACCEPT_MANIFESTS)
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Type", "Content-Length", "Docker-Content-Digest", "ETag"):
        assert head.headers[name] == answer.headers[name]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("reference", ["nothing", ".INVALID_MANIFEST_NAME", str(ABSENT)])
@pytest.mark.parametrize("repository", ["app", "nowhere"])
async def test_manifest_absent(peer: Peer, method: str, reference: str, repository: str) -> None:
    """Endpoint 3 and 9: a tag or digest that is not there, or cannot be, is 404 MANIFEST_UNKNOWN."""
    await peer.push_blob("app", DATA)
    answer = await peer.ask(method, f"/v2/{repository}/manifests/{reference}")
    assert answer.status == 404
    assert method == "HEAD" or answer.codes == ["MANIFEST_UNKNOWN"]


async def test_manifest_invalid_digest(peer: Peer) -> None:
    """A reference with a colon that is no digest is 400 DIGEST_INVALID."""
    answer = await peer.ask("GET", "/v2/app/manifests/sha256:baddigeststring")
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


async def test_manifest_corrupt_on_disk(peer: Peer) -> None:
    """Bytes that rotted on the disk are a 500, never served under their old digest."""
    sample = images.image()
    await peer.push("app", sample, "1")
    store = await peer.tree.store("app")
    store.blob_path(sample.digest).write_bytes(b"{}")
    answer = await peer.ask("GET", "/v2/app/manifests/1")
    assert (answer.status, answer.codes) == (500, ["UNKNOWN"])


@pytest.mark.parametrize("name", ["Upper/case", "a//b", "-a", "a" * 256, "a/../b", "a_-b"])
async def test_invalid_names(peer: Peer, name: str) -> None:
    """A repository name that breaks the grammar is 400 NAME_INVALID."""
    answer = await peer.ask("GET", f"/v2/{name}/tags/list")
    assert (answer.status, answer.codes) == (400, ["NAME_INVALID"])


@pytest.mark.parametrize("name", ["tags/list", "a/blobs/uploads", "manifests", "blobs", "referrers/x/tags"])
async def test_names_like_endpoints(peer: Peer, name: str) -> None:
    """A repository may be called like a part of the API."""
    sample = images.image(seed=name)
    await peer.push(name, sample, "list")
    answer = await peer.ask("GET", f"/v2/{name}/manifests/list")
    tags = await peer.ask("GET", f"/v2/{name}/tags/list")
    assert (answer.body, tags.document) == (sample.manifest.raw, {"name": name, "tags": ["list"]})


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("PUT", f"/v2/app/blobs/{ABSENT}", "GET, HEAD, DELETE"),
        ("PATCH", "/v2/app/manifests/1", "GET, HEAD, PUT, DELETE"),
        ("DELETE", "/v2/app/tags/list", "GET, HEAD"),
        ("GET", "/v2/app/blobs/uploads/", "POST"),
        ("POST", "/v2/app/blobs/uploads/0123", "GET, PATCH, PUT, DELETE"),
    ],
)
async def test_wrong_method(peer: Peer, method: str, path: str, allow: str) -> None:
    """A method that an endpoint does not have is 405 UNSUPPORTED with the Allow header."""
    answer = await peer.ask(method, path)
    assert (answer.status, answer.codes, answer.headers["Allow"]) == (405, ["UNSUPPORTED"], allow)


async def test_encoded_digest_in_path(peer: Peer) -> None:
    """The colon of a digest may come percent-encoded."""
    digest = await peer.push_blob("app", DATA)
    answer = await peer.ask("GET", f"/v2/app/blobs/{digest.replace(':', '%3A')}")
    assert answer.body == DATA
