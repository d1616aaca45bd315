"""Pushing and deleting manifests: endpoints 7, 9 and 10 of the table in the protocol reference."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from syncer.oci import Descriptor, Digest, Manifest
from syncer.oci import media_types as mt
from tests.support import images

if TYPE_CHECKING:
    from tests.integration.server.peer import Peer


async def push_blobs(peer: Peer, repository: str, sample: images.Sample) -> None:
    """Push the blobs of a sample only."""
    for data in sample.blobs.values():
        await peer.push_blob(repository, data)


async def test_put_by_tag(peer: Peer) -> None:
    """Endpoint 7a: PUT by tag: 201, Location by digest, the digest; no OCI-Subject without a subject."""
    sample = images.image()
    await push_blobs(peer, "team/app", sample)
    answer = await peer.put_manifest("team/app", sample.manifest, "1.0")
    assert (answer.status, answer.location) == (201, f"/v2/team/app/manifests/{sample.digest}")
    assert answer.headers["Docker-Content-Digest"] == sample.digest
    assert "OCI-Subject" not in answer.headers
    assert "OCI-Tag" not in answer.headers
    assert (await peer.ask("GET", answer.location)).body == sample.manifest.raw


async def test_put_by_digest(peer: Peer) -> None:
    """Endpoint 7a: PUT by digest stores the manifest and sets no tag."""
    sample = images.image()
    await push_blobs(peer, "app", sample)
    assert (await peer.put_manifest("app", sample.manifest)).status == 201
    assert (await peer.ask("GET", f"/v2/app/manifests/{sample.digest}")).status == 200
    assert (await peer.ask("GET", "/v2/app/tags/list")).document["tags"] == []


async def test_put_with_wrong_digest(peer: Peer) -> None:
    """Endpoint 7a: bytes of another digest than the path's are 400 DIGEST_INVALID."""
    sample = images.image()
    await push_blobs(peer, "app", sample)
    raw = sample.manifest.raw + b"  "
    answer = await peer.ask("PUT", f"/v2/app/manifests/{sample.digest}", raw, Content_Type=mt.OCI_MANIFEST)
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


async def test_put_with_malformed_digest(peer: Peer) -> None:
    """Endpoint 7a: a reference with a colon that is no digest is 400 DIGEST_INVALID."""
    answer = await peer.put_manifest("app", images.image().manifest, "sha256:baddigeststring")
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize("tag", [".dot", "-dash", "a" * 129, "sp%20ace"])
async def test_put_with_malformed_tag(peer: Peer, tag: str) -> None:
    """Endpoint 7a: what cannot be a tag is 400 MANIFEST_INVALID."""
    answer = await peer.put_manifest("app", images.image().manifest, tag)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_multi_tag(peer: Peer, algorithm: str) -> None:
    """Endpoint 7b: PUT by digest with tag parameters sets them all, and says so in OCI-Tag headers."""
    sample = images.image()
    await push_blobs(peer, "app", sample)
    digest = Digest.of(sample.manifest.raw, algorithm)
    tags = [f"v{number}" for number in range(12)]
    query = "&".join(f"tag={tag}" for tag in tags)
    answer = await peer.ask(
        "PUT", f"/v2/app/manifests/{digest}?{query}", sample.manifest.raw, Content_Type=mt.OCI_MANIFEST
    )
    assert (answer.status, answer.headers.getall("OCI-Tag")) == (201, tags)
    for tag in tags:
        head = await peer.ask("HEAD", f"/v2/app/manifests/{tag}")
        assert head.headers["Docker-Content-Digest"] == digest


async def test_too_many_tags(peer: Peer) -> None:
    """Endpoint 7b: more tags than the registry sets at once are 414."""
    sample = images.image()
    query = "&".join(f"tag=v{number}" for number in range(101))
    answer = await peer.ask("PUT", f"/v2/app/manifests/{sample.digest}?{query}", sample.manifest.raw)
    assert answer.status == 414


async def test_multi_tag_malformed(peer: Peer) -> None:
    """Endpoint 7b: one tag that cannot be refuses the push, and sets none."""
    sample = images.image()
    await push_blobs(peer, "app", sample)
    answer = await peer.ask("PUT", f"/v2/app/manifests/{sample.digest}?tag=good&tag=.bad", sample.manifest.raw)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])
    assert (await peer.ask("GET", "/v2/app/tags/list")).document["tags"] == []


async def test_missing_blobs_are_all_listed(peer: Peer) -> None:
    """Endpoint 7a: every blob that is missing is named, each in an error of its own; nothing is tagged."""
    sample = images.image(layers=3)
    kept, *missing = sample.blobs
    await peer.push_blob("app", sample.blobs[kept])
    answer = await peer.put_manifest("app", sample.manifest, "1")
    assert answer.status == 400
    assert set(answer.codes) == {"MANIFEST_BLOB_UNKNOWN"}
    assert {error["detail"]["digest"] for error in answer.document["errors"]} == set(missing)
    assert (await peer.ask("HEAD", "/v2/app/manifests/1")).status == 404


async def test_missing_children_are_all_listed(peer: Peer) -> None:
    """Endpoint 7a: an index is refused until its manifests are there."""
    sample = images.index()
    answer = await peer.put_manifest("app", sample.manifest, "1")
    assert {error["detail"]["digest"] for error in answer.document["errors"]} == {c.digest for c in sample.children}
    assert (await peer.ask("GET", "/v2/app/tags/list")).status == 404
    await peer.push("app", sample, "1")


async def test_blobs_of_another_repository_do_not_count(peer: Peer) -> None:
    """A blob must be in the manifest's own repository."""
    sample = images.image()
    await push_blobs(peer, "other", sample)
    assert (await peer.put_manifest("app", sample.manifest, "1")).status == 400


async def test_foreign_layers(peer: Peer) -> None:
    """Layers that live elsewhere need not be pushed."""
    foreign = Descriptor(
        media_type="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        digest=Digest.of(b"elsewhere"),
        size=123456,
        urls=("https://store.example.com/layer",),
    )
    await peer.push("app", images.image(foreign=[foreign]), "1")


@pytest.mark.parametrize("sample", [images.nested_index(depth=3), images.index(platforms=())], ids=["nested", "empty"])
async def test_indexes(peer: Peer, sample: images.Sample) -> None:
    """Indexes of indexes, and an index of nothing, are taken and given back."""
    await peer.push("app", sample, "1")
    assert (await peer.ask("GET", "/v2/app/manifests/1")).body == sample.manifest.raw


async def test_unknown_members_and_no_media_type(peer: Peer) -> None:
    """A manifest is kept byte for byte, unknown members and all; its type may be in the Content-Type alone."""
    raw = json.dumps({"schemaVersion": 2, "manifests": [], "x.future": [1, None]}, indent=3).encode()
    answer = await peer.ask("PUT", "/v2/app/manifests/1", raw, Content_Type=f"{mt.OCI_INDEX}; charset=utf-8")
    assert answer.status == 201
    got = await peer.ask("GET", "/v2/app/manifests/1")
    assert (got.body, got.headers["Content-Type"]) == (raw, mt.OCI_INDEX)


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b"not json", mt.OCI_MANIFEST),
        (b"", mt.OCI_MANIFEST),
        (b"[]", mt.OCI_MANIFEST),
        (b"{}", ""),
        (b'{"schemaVersion":2,"layers":[],"manifests":[]}', mt.OCI_INDEX),
        (b'{"schemaVersion":2,"mediaType":"a/b","layers":[]}', mt.OCI_MANIFEST),
        (b'{"schemaVersion":2,"layers":[{"digest":"sha256:short","size":1,"mediaType":"a/b"}]}', mt.OCI_MANIFEST),
        (b'{"schemaVersion":1,"fsLayers":[]}', mt.DOCKER_SCHEMA1_SIGNED),
    ],
)
async def test_invalid_manifests(peer: Peer, raw: bytes, content_type: str) -> None:
    """Endpoint 7a: what is no manifest, or is two at once, is 400 MANIFEST_INVALID."""
    headers = {"Content_Type": content_type} if content_type else {}
    answer = await peer.ask("PUT", "/v2/app/manifests/1", raw, **headers)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("excess", [0, 1])
async def test_size_cap(peer: Peer, excess: int) -> None:
    """Endpoint 7a: a manifest of 4 MiB is taken, one byte more is 413."""
    head, tail = b'{"schemaVersion":2,"manifests":[],"annotations":{"a":"', b'"}}'
    raw = head + b"x" * (4 * 1024 * 1024 + excess - len(head) - len(tail)) + tail
    answer = await peer.ask("PUT", "/v2/app/manifests/big", raw, Content_Type=mt.OCI_INDEX)
    assert answer.status == (413 if excess else 201)
    if not excess:
        assert len((await peer.ask("GET", "/v2/app/manifests/big")).body) == len(raw)


async def test_subject(peer: Peer) -> None:
    """Endpoint 7a: a manifest with a subject is answered with OCI-Subject, even when the subject is missing."""
    subject = images.image(seed="subject")
    referrer = images.artifact(subject=subject.manifest)
    await push_blobs(peer, "app", referrer)
    answer = await peer.put_manifest("app", referrer.manifest)
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, subject.digest)


async def test_retag(peer: Peer) -> None:
    """A tag moves to the manifest that is pushed to it; the old one stays by digest."""
    first, second = images.image(seed=1), images.image(seed=2)
    await peer.push("app", first, "latest")
    await peer.push("app", second, "latest")
    assert (await peer.ask("GET", "/v2/app/manifests/latest")).body == second.manifest.raw
    assert (await peer.ask("GET", f"/v2/app/manifests/{first.digest}")).body == first.manifest.raw


async def test_delete_tag(peer: Peer) -> None:
    """Endpoint 9: DELETE of a tag is 202, and leaves the manifest and its other tags."""
    sample = images.image()
    await peer.push("app", sample, "a")
    await peer.push("app", sample, "b")
    assert (await peer.ask("DELETE", "/v2/app/manifests/a")).status == 202
    assert (await peer.ask("HEAD", "/v2/app/manifests/a")).status == 404
    assert (await peer.ask("HEAD", "/v2/app/manifests/b")).status == 200
    assert (await peer.ask("HEAD", f"/v2/app/manifests/{sample.digest}")).status == 200
    assert (await peer.ask("DELETE", "/v2/app/manifests/a")).status == 404


async def test_delete_manifest(peer: Peer) -> None:
    """Endpoint 9: DELETE by digest is 202, and takes all tags along."""
    sample = images.image()
    await peer.push("app", sample, "a")
    await peer.push("app", sample, "b")
    assert (await peer.ask("DELETE", f"/v2/app/manifests/{sample.digest}")).status == 202
    for reference in ("a", "b", str(sample.digest)):
        assert (await peer.ask("HEAD", f"/v2/app/manifests/{reference}")).status == 404
    assert (await peer.ask("GET", "/v2/app/tags/list")).document["tags"] == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_delete_blob(peer: Peer, algorithm: str) -> None:
    """Endpoint 10: DELETE of a blob is 202, and then it is gone at once."""
    digest = await peer.push_blob("app", b"bytes", algorithm)
    assert (await peer.ask("DELETE", f"/v2/app/blobs/{digest}")).status == 202
    assert (await peer.ask("HEAD", f"/v2/app/blobs/{digest}")).status == 404
    assert (await peer.ask("DELETE", f"/v2/app/blobs/{digest}")).status == 404


async def test_manifests_are_not_deleted_as_blobs(peer: Peer) -> None:
    """A manifest cannot be pulled from under its tags through the blobs' endpoint."""
    sample = images.image()
    await peer.push("app", sample, "1")
    answer = await peer.ask("DELETE", f"/v2/app/blobs/{sample.digest}")
    assert (answer.status, answer.codes) == (405, ["UNSUPPORTED"])
    assert (await peer.ask("GET", "/v2/app/manifests/1")).status == 200


async def test_sha512_index(peer: Peer) -> None:
    """Manifests, children and blobs may all be named by sha512."""
    data = b"layer"
    layer = await peer.push_blob("app", data, "sha512")
    config = await peer.push_blob("app", b"{}", "sha512")
    child = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "config": {"mediaType": mt.OCI_EMPTY, "digest": config, "size": 2},
            "layers": [{"mediaType": mt.OCI_LAYER, "digest": layer, "size": len(data)}],
        }
    ).encode()
    manifest = Manifest.parse(child, digest=Digest.of(child, "sha512"))
    assert (await peer.put_manifest("app", manifest)).status == 201
    raw = json.dumps(
        {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [manifest.descriptor.to_json()]}
    ).encode()
    index = Manifest.parse(raw, digest=Digest.of(raw, "sha512"))
    assert (await peer.put_manifest("app", index)).status == 201
    for one in (manifest, index):
        assert (await peer.ask("GET", f"/v2/app/manifests/{one.digest}")).body == one.raw
