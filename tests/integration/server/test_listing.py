"""Tags, catalog and referrers: endpoints 8 and 12 of the table in the protocol reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer.oci import Digest
from syncer.oci import media_types as mt
from tests.integration.server.peer import serving
from tests.support import images

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.server.peer import Answer, Peer

TAGS = ["1.0", "1.10", "1.2", "A", "Z", "_x", "a", "latest"]


async def tagged(peer: Peer, repository: str = "app") -> None:
    """Push one image under every tag."""
    sample = images.image()
    await peer.push(repository, sample)
    for tag in reversed(TAGS):
        await peer.put_manifest(repository, sample.manifest, tag)


def next_page(answer: Answer) -> str:
    """Return where the Link header leads, or an empty string."""
    link = answer.headers.get("Link", "")
    if link:
        assert link.startswith("<"), link
        assert link.endswith('>; rel="next"'), link
    return link[1:].partition(">")[0]


async def test_tags(peer: Peer) -> None:
    """Endpoint 8a: all tags, in ASCII order, with the repository's name."""
    await tagged(peer, "team/app")
    answer = await peer.ask("GET", "/v2/team/app/tags/list")
    assert (answer.status, answer.document) == (200, {"name": "team/app", "tags": TAGS})
    assert "Link" not in answer.headers


async def test_tags_of_no_repository(peer: Peer) -> None:
    """Endpoint 8a: a repository that is not there is 404 NAME_UNKNOWN."""
    answer = await peer.ask("GET", "/v2/nowhere/tags/list")
    assert (answer.status, answer.codes) == (404, ["NAME_UNKNOWN"])


@pytest.mark.parametrize("size", [1, 3, 4, 7])
async def test_tag_pages(peer: Peer, size: int) -> None:
    """Endpoint 8b: following Link gives every tag once, in order; the last page has no Link."""
    await tagged(peer)
    seen: list[str] = []
    path = f"/v2/app/tags/list?n={size}"
    while path:
        answer = await peer.ask("GET", path)
        assert len(answer.document["tags"]) <= size
        seen += answer.document["tags"]
        path = next_page(answer)
    assert seen == TAGS


@pytest.mark.parametrize(
    ("query", "expected", "more"),
    [
        ("n=8", TAGS, False),
        ("n=100", TAGS, False),
        ("n=0", [], False),
        ("last=1.2", TAGS[3:], False),
        ("last=1.15", TAGS[2:], False),
        ("last=zzz", [], False),
        ("n=2&last=A", ["Z", "_x"], True),
        ("n=0&last=A", [], False),
    ],
)
async def test_tag_queries(peer: Peer, query: str, expected: list[str], *, more: bool) -> None:
    """Endpoint 8b: n bounds, last starts after it whether or not it exists, and n=0 is an empty list."""
    await tagged(peer)
    answer = await peer.ask("GET", f"/v2/app/tags/list?{query}")
    assert (answer.document["tags"], bool(next_page(answer))) == (expected, more)


@pytest.mark.parametrize("count", ["-1", "x", "1.5", "%C2%B2", ""])
@pytest.mark.parametrize("path", ["/v2/app/tags/list", "/v2/_catalog"])
async def test_bad_page_size(peer: Peer, path: str, count: str) -> None:
    """Endpoint 8b: an n that is no natural number is 400 PAGINATION_NUMBER_INVALID."""
    answer = await peer.ask("GET", f"{path}?n={count}")
    assert (answer.status, answer.codes) == (400, ["PAGINATION_NUMBER_INVALID"])


async def test_server_bounds_pages(tmp_path: Path) -> None:
    """Endpoint 8a: a registry that gives fewer than it has sends a Link, asked for n or not."""
    async with serving(tmp_path, page_size=3) as peer:
        await tagged(peer)
        for query in ("", "?n=1000"):
            answer = await peer.ask("GET", f"/v2/app/tags/list{query}")
            assert (answer.document["tags"], next_page(answer)) == (TAGS[:3], "/v2/app/tags/list?n=3&last=1.2")


async def test_catalog(peer: Peer) -> None:
    """The catalog lists every repository in lexical order, in pages like tags."""
    assert (await peer.ask("GET", "/v2/_catalog")).document == {"repositories": []}
    names = ["a", "a-b", "a/b", "a/b/c", "ab", "blobs", "index.json/x", "z"]
    for name in reversed(names):
        await peer.push(name, images.image(), "1")
    assert (await peer.ask("GET", "/v2/_catalog")).document == {"repositories": names}
    seen: list[str] = []
    path = "/v2/_catalog?n=3"
    while path:
        answer = await peer.ask("GET", path)
        seen += answer.document["repositories"]
        path = next_page(answer)
    assert seen == names


async def test_referrers(peer: Peer) -> None:
    """Endpoint 12a: an index of what has the digest as its subject, with artifactType and annotations."""
    subject = images.image()
    sbom = images.artifact(subject=subject.manifest, annotations={"a": "b"}, seed=1)
    image = images.image(subject=subject.manifest, seed=2)
    index = images.index(subject=subject.manifest, seed=3)
    for sample in (subject, sbom, image, index):
        await peer.push("app", sample)
    answer = await peer.ask("GET", f"/v2/app/referrers/{subject.digest}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, mt.OCI_INDEX)
    assert "OCI-Filters-Applied" not in answer.headers
    document = answer.document
    assert (document["schemaVersion"], document["mediaType"]) == (2, mt.OCI_INDEX)
    found = {entry["digest"]: entry for entry in document["manifests"]}
    assert set(found) == {sbom.digest, image.digest, index.digest}
    assert found[sbom.digest] == {
        "mediaType": mt.OCI_MANIFEST,
        "digest": sbom.digest,
        "size": sbom.manifest.size,
        "artifactType": "application/vnd.example.sbom.v1",
        "annotations": {"a": "b"},
    }
    assert found[image.digest]["artifactType"] == mt.OCI_CONFIG
    assert "artifactType" not in found[index.digest]


async def test_referrers_filter(peer: Peer) -> None:
    """Endpoint 12b: artifactType filters, and OCI-Filters-Applied says so."""
    subject = images.image()
    wanted = images.artifact(subject=subject.manifest, artifact_type="a/b+c", seed=1)
    other = images.artifact(subject=subject.manifest, artifact_type="x/y", seed=2)
    for sample in (subject, wanted, other):
        await peer.push("app", sample)
    answer = await peer.ask("GET", f"/v2/app/referrers/{subject.digest}?artifactType=a%2Fb%2Bc")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [entry["digest"] for entry in answer.document["manifests"]] == [wanted.digest]


@pytest.mark.parametrize("repository", ["app", "nowhere"])
async def test_no_referrers(peer: Peer, repository: str) -> None:
    """Endpoint 12a: a digest of which nothing is known has an empty list, never a 404."""
    await peer.push("app", images.image())
    answer = await peer.ask("GET", f"/v2/{repository}/referrers/{Digest.of(b'unknown')}")
    assert (answer.status, answer.document["manifests"]) == (200, [])


async def test_referrers_of_no_digest(peer: Peer) -> None:
    """Endpoint 12a: what is no digest is 400 DIGEST_INVALID."""
    answer = await peer.ask("GET", "/v2/app/referrers/latest")
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


async def test_deleted_referrer(peer: Peer) -> None:
    """A referrer that is deleted is listed no more."""
    subject = images.image()
    referrer = images.artifact(subject=subject.manifest)
    await peer.push("app", subject)
    await peer.push("app", referrer)
    await peer.ask("DELETE", f"/v2/app/manifests/{referrer.digest}")
    assert (await peer.ask("GET", f"/v2/app/referrers/{subject.digest}")).document["manifests"] == []


async def test_many_referrers_go_in_pages(peer: Peer) -> None:
    """A list of referrers that no client would read at once goes in pages, filtered alike."""
    subject = images.image()
    await peer.push("app", subject)
    digests = set()
    for seed in range(4):
        referrer = images.artifact(subject=subject.manifest, seed=seed, annotations={"note": "x" * 1024 * 1024})
        await peer.push("app", referrer)
        digests.add(referrer.digest)
    seen: list[str] = []
    path = f"/v2/app/referrers/{subject.digest}?artifactType=application/vnd.example.sbom.v1"
    pages = 0
    while path:
        answer = await peer.ask("GET", path)
        assert len(answer.body) < 4 * 1024 * 1024
        assert answer.headers["OCI-Filters-Applied"] == "artifactType"
        seen += [entry["digest"] for entry in answer.document["manifests"]]
        path = next_page(answer)
        pages += 1
    assert (pages, len(seen), set(seen)) == (2, 4, digests)


async def test_a_list_of_tags_can_tell_what_they_stand_for(tmp_path: Path) -> None:
    """Each page has the digests of its own tags, grouped as gcr.io groups them."""
    first, second = images.image(), images.image(seed=1)
    async with serving(tmp_path, tag_digests=True) as peer:
        await peer.push("app", first)
        await peer.push("app", second)
        for tag, sample in (("a", first), ("b", second), ("c", first), ("d", second)):
            await peer.put_manifest("app", sample.manifest, tag)
        answer = await peer.ask("GET", "/v2/app/tags/list?n=3")
    assert answer.document == {
        "name": "app",
        "tags": ["a", "b", "c"],
        "manifest": {first.manifest.digest: {"tag": ["a", "c"]}, second.manifest.digest: {"tag": ["b"]}},
    }
