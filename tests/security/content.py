"""Attacks with content: documents of two meanings, digests that are paths, graphs and bodies without end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from syncer import content as contract
from syncer.engine import images as engine
from syncer.errors import (
    DigestMismatch,
    MalformedManifest,
    NotFound,
    ProtocolViolation,
    SizeExceedsLimit,
    SizeMismatch,
    SyncerError,
)
from syncer.oci import Manifest, digest, manifest, reference
from syncer.oci import media_types as mt
from syncer.registry import download, paging, tags
from tests.security.stage import Heard, Outcome, Row, Warehouse, reply, rewritten, said, sync, wire
from tests.support import images
from tests.support.scripted import connected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from tests.security.stage import Answer

SAMPLE = images.image(seed="content")
DATA = images.random_bytes(200_000, "content")
BLOB = images.blob(DATA)
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def encoded(document: Any) -> bytes:
    """Return a document as JSON."""
    return json.dumps(document).encode()


async def copied(tmp_path: Path, source: Warehouse, *, tag: str = "v1") -> Outcome:
    """Sync a hostile source to a target that stores anything; the loot is what the tag came to hold there."""
    target = Warehouse()
    async with wire(source) as from_here, wire(target) as to_there:
        error = await sync(tmp_path, from_here.address, to_there.address)
    return Outcome(loot=target.manifests.get(tag, ("", b""))[1].decode()[:200], error=error)


# ---------------------------------------------------------------------------------- S1: foreign layers


async def foreign_layer(tmp_path: Path) -> Outcome:
    """Name a layer that lives at the attacker's, and have the source redirect there."""
    layer = {**images.blob(DATA, FOREIGN).to_json(), "urls": ["http://attacker/layer"]}
    document = json.loads(SAMPLE.manifest.raw)
    document["layers"].append(layer)
    async with wire(lambda _: reply(200, DATA)) as evil:

        def special(heard: Heard) -> Answer | None:
            return reply(307, Location=f"{evil.url}/layer") if heard.path.endswith(BLOB.digest) else None

        source = Warehouse(special)
        source.put(SAMPLE, "v1")
        source.put_raw(encoded(document), mt.OCI_MANIFEST, "v2")
        outcome = await copied(tmp_path, source, tag="v2")
    return Outcome(loot=" ".join(evil.lines), error=outcome.error)


# ---------------------------------------------------------------------------------- S2: two meanings


async def image_and_index(tmp_path: Path) -> Outcome:
    """Serve a manifest that is an image to one reader and an index to another."""
    source = Warehouse()
    source.put(SAMPLE, "other")
    source.put_raw(encoded({**json.loads(SAMPLE.manifest.raw), "manifests": []}), mt.OCI_MANIFEST, "v1")
    return await copied(tmp_path, source)


async def other_type(tmp_path: Path) -> Outcome:
    """Serve an image whose Content-Type says that it is an index."""
    source = Warehouse()
    source.put(SAMPLE, "other")
    source.put_raw(SAMPLE.manifest.raw, mt.OCI_INDEX, "v1")
    return await copied(tmp_path, source)


async def member_twice(tmp_path: Path) -> Outcome:
    """Serve a manifest with two configs, of which each reader takes another."""
    source = Warehouse()
    source.put(SAMPLE, "other")
    twice = SAMPLE.manifest.raw.replace(b'"config"', b'"config":{"digest":"evil"},"config"', 1)
    source.put_raw(twice, mt.OCI_MANIFEST, "v1")
    return await copied(tmp_path, source)


def _believe_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def naive(document: dict[str, Any], stated: str) -> str:
        return stated or str(document.get("mediaType"))

    monkeypatch.setattr(manifest, "_effective_media_type", naive)


# ---------------------------------------------------------------------------------- S3: digests and names as paths


def any_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any text for a digest."""
    monkeypatch.setattr(digest, "_ENCODED", {"sha256": re.compile(r".*", re.DOTALL)})


def any_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any text for a tag."""
    monkeypatch.setattr(reference, "_TAG", re.compile(r".*", re.DOTALL))


def any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any text for the name of a repository."""
    monkeypatch.setattr(reference, "_NAME", re.compile(r".*", re.DOTALL))


async def digest_path(tmp_path: Path) -> Outcome:
    """Name a layer whose digest leads to another endpoint of the registry."""
    document = json.loads(SAMPLE.manifest.raw)
    document["layers"][0]["digest"] = "sha256:../../../../admin/delete-everything"
    source = Warehouse()
    source.put(SAMPLE, "other")
    source.put_raw(encoded(document), mt.OCI_MANIFEST, "v1")
    async with wire(source) as from_here, wire(Warehouse()) as to_there:
        error = await sync(tmp_path, from_here.address, to_there.address)
        lines = [line for line in [*from_here.lines, *to_there.lines] if "admin" in line]
    return Outcome(loot=" ".join(lines), error=error)


async def tag_path(tmp_path: Path) -> Outcome:
    """List a tag that leads to another endpoint of the registry."""
    source = Warehouse()
    source.put(SAMPLE, "v1")
    source.tags.append("../../../admin/delete-everything?")
    async with wire(source) as from_here, wire(Warehouse()) as to_there:
        error = await sync(tmp_path, from_here.address, to_there.address)
        lines = [line for line in [*from_here.lines, *to_there.lines] if "admin" in line]
    return Outcome(loot=" ".join(lines), error=error)


async def name_path(tmp_path: Path) -> Outcome:
    """List a repository whose name leads to another endpoint, in a catalog that is mirrored whole."""

    def special(heard: Heard) -> Answer | None:
        return (
            reply(200, b'{"repositories": ["../admin/delete-everything"]}') if heard.path.endswith("_catalog") else None
        )

    async with wire(Warehouse(special)) as from_here, wire(Warehouse()) as to_there:
        entry = "name: e, from: 'source/**', to: 'target/{path}'"
        error = await sync(tmp_path, from_here.address, to_there.address, entry)
        lines = [line for line in [*from_here.lines, *to_there.lines] if "admin" in line]
    return Outcome(loot=" ".join(lines), error=error)


# ---------------------------------------------------------------------------------- S9: bodies without end


async def longer_blob(_tmp_path: Path) -> Outcome:
    """Send more bytes than the descriptor says, in an answer that does not say how many."""

    def answer(_heard: Heard) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        for _ in range(64):
            yield DATA

    async with wire(answer) as server, connected(server.address) as it:
        taken = 0

        async def take() -> None:
            nonlocal taken
            async with it.client.repository("app").fetch_blob(BLOB) as chunks:
                async for chunk in chunks:
                    taken += len(chunk)

        error = await said(take(), SyncerError)
    return Outcome(loot=f"{taken} bytes" if taken > BLOB.size else "", error=error)


async def longer_stream(_tmp_path: Path) -> Outcome:
    """Hand the engine more bytes than the descriptor says, whatever place they come from."""
    taken = 0

    async def endless() -> Any:
        for _ in range(64):
            yield DATA

    async def take() -> None:
        nonlocal taken
        async for chunk in contract.verified(endless(), BLOB):
            taken += len(chunk)

    error = await said(take(), SyncerError)
    return Outcome(loot=f"{taken} bytes" if taken > BLOB.size else "", error=error)


# ---------------------------------------------------------------------------------- S14: other bytes


async def other_manifest(tmp_path: Path) -> Outcome:
    """Serve other bytes under the digest of an index's child."""
    index = images.index(seed="content")
    source = Warehouse()
    source.put(index, "v1")
    child = index.children[0]
    source.manifests[child.digest] = (SAMPLE.manifest.media_type, SAMPLE.manifest.raw)
    source.blobs.update({str(key): data for key, data in SAMPLE.blobs.items()})
    return await copied(tmp_path, source)


async def other_blob(tmp_path: Path) -> Outcome:
    """Serve other bytes, as many of them, under the digest of a layer."""
    source, target = Warehouse(), Warehouse()
    source.put(SAMPLE, "v1")
    layer = SAMPLE.manifest.layers[0]
    source.blobs[layer.digest] = images.random_bytes(layer.size, "evil")
    async with wire(source) as from_here, wire(target) as to_there:
        error = await sync(tmp_path, from_here.address, to_there.address)
    evil = target.blobs.get(layer.digest, b"")
    return Outcome(loot=evil.hex()[:40], error=error)


# ---------------------------------------------------------------------------------- S16: graphs and nesting


async def nested_json(_tmp_path: Path) -> Outcome:
    """Serve a manifest of 100,000 brackets."""
    deep = b'{"config": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    source = Warehouse()
    source.put_raw(deep, mt.OCI_MANIFEST, "v1")
    async with wire(source) as server, connected(server.address) as it:
        try:
            error = await said(it.client.repository("app").fetch_manifest("v1"), SyncerError)
        except RecursionError as crash:
            return Outcome(loot=f"{type(crash).__name__} in the engine")
    return Outcome(error=error)


async def wide_index(_tmp_path: Path) -> Outcome:
    """Serve an index of 10,001 manifests."""
    entry = SAMPLE.manifest.descriptor.to_json()
    raw = encoded({"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [entry] * 10_001})
    source = Warehouse()
    source.put_raw(raw, mt.OCI_INDEX, "v1")
    async with wire(source) as server, connected(server.address) as it:
        found: list[Manifest] = []

        async def fetch() -> None:
            found.append(await it.client.repository("app").fetch_manifest("v1"))

        error = await said(fetch(), SyncerError)
    return Outcome(loot=f"{len(found[0].manifests)} children" if found else "", error=error)


async def deep_index(tmp_path: Path) -> Outcome:
    """Serve indexes within indexes, twelve levels of them."""
    source = Warehouse()
    source.put(images.nested_index(depth=12), "v1")
    return await copied(tmp_path, source)


async def endless_referrers(tmp_path: Path) -> Outcome:
    """Serve a signature of the signature of the signature, made up as it is asked for."""
    subjects: list[str] = []

    def special(heard: Heard) -> Answer | None:
        if "/referrers/" not in heard.path:
            return None
        subjects.append(heard.path)
        if len(subjects) > 30:
            return reply(200, encoded({"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": []}))
        sample = images.artifact(seed=heard.path)
        for key, data in sample.blobs.items():
            source.blobs[key] = data
        source.put_raw(sample.manifest.raw, mt.OCI_MANIFEST)
        entry = sample.manifest.descriptor.to_json()
        listed = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [entry]}
        return reply(200, encoded(listed), Content_Type=mt.OCI_INDEX)

    source = Warehouse(special)
    source.put(SAMPLE, "v1")
    outcome = await copied(tmp_path, source)
    return Outcome(loot=f"{len(subjects)} levels" if len(subjects) > 30 else "", error=outcome.error)


async def circle(_tmp_path: Path) -> Outcome:
    """Link a list of tags to its own first page."""
    asked = 0

    def answer(_heard: Heard) -> Answer:
        nonlocal asked
        asked += 1
        return reply(200, b'{"tags": ["a"]}', Link=f"</v2/app/tags/list>; rel={'next' if asked < 50 else 'last'}")

    async def listed() -> None:
        assert [tag async for tag in it.client.repository("app").tags()]

    async with wire(answer) as server, connected(server.address) as it:
        error = await said(listed(), SyncerError)
    return Outcome(loot=f"{asked} requests" if asked > 3 else "", error=error)


def _unhashed(monkeypatch: pytest.MonkeyPatch) -> None:
    condition = "if self._hasher.hexdigest() != digest.encoded:"
    rewritten(monkeypatch, contract.verified, "_check", condition, "if False:")


def _any_page(monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten(monkeypatch, paging, "pages", "if url in seen or len(seen) >= most:", "if len(seen) >= most:")
    monkeypatch.setattr(tags, "pages", paging.pages)


ROWS = [
    Row(
        name="S1-foreign",
        threat="a layer that lives elsewhere is fetched from where the manifest or the registry says",
        defence="syncer.oci.manifest.Manifest.blobs",
        attack=foreign_layer,
        switch_off=lambda patch: rewritten(
            patch, Manifest, "blobs", "if blob.digest in seen or (blob.is_foreign and blob.urls):", "if False:"
        ),
    ),
    Row(
        name="S2-both",
        threat="a manifest is an image and an index at once",
        defence="syncer.oci.manifest._effective_media_type",
        attack=image_and_index,
        switch_off=_believe_the_header,
        refusal=MalformedManifest,
    ),
    Row(
        name="S2-type",
        threat="a manifest is announced as another type than it says",
        defence="syncer.oci.manifest._effective_media_type",
        attack=other_type,
        switch_off=_believe_the_header,
        refusal=MalformedManifest,
    ),
    Row(
        name="S2-twice",
        threat="a manifest has a member twice",
        defence="syncer.oci.manifest._unique",
        attack=member_twice,
        switch_off=lambda patch: patch.setattr(manifest, "_unique", dict),
        refusal=MalformedManifest,
    ),
    Row(
        name="S3-digest",
        threat="a digest is a path to another endpoint",
        defence="syncer.oci.digest.Digest.__new__",
        attack=digest_path,
        switch_off=any_digest,
        refusal=MalformedManifest,
    ),
    Row(
        name="S3-tag",
        threat="a listed tag is a path to another endpoint",
        defence="syncer.oci.reference.check_tag",
        attack=tag_path,
        switch_off=any_tag,
    ),
    Row(
        name="S3-name",
        threat="a listed repository is a path to another endpoint",
        defence="syncer.oci.reference.check_repository",
        attack=name_path,
        switch_off=any_name,
        refusal=NotFound,
    ),
    Row(
        name="S9-download",
        threat="a blob is longer than its descriptor says, without end",
        defence="syncer.registry.download.BlobDownload.__anext__",
        attack=longer_blob,
        switch_off=lambda patch: rewritten(
            patch, download.BlobDownload, "__anext__", "if self._offset > self._end:", "if False:"
        ),
        refusal=SizeMismatch,
    ),
    Row(
        name="S9-stream",
        threat="a source gives more bytes than the descriptor says",
        defence="syncer.content.verified",
        attack=longer_stream,
        switch_off=lambda patch: rewritten(patch, contract.verified, "__anext__", "if self._seen > size:", "if False:"),
        refusal=SizeMismatch,
    ),
    Row(
        name="S14-manifest",
        threat="other bytes are served under a manifest's digest",
        defence="syncer.oci.manifest.Manifest.parse",
        attack=other_manifest,
        switch_off=lambda patch: rewritten(
            patch, Manifest, "parse", "if digest is not None and not digest.matches(raw):", "if False:"
        ),
        refusal=DigestMismatch,
    ),
    Row(
        name="S14-blob",
        threat="other bytes are served under a blob's digest",
        defence="syncer.content.verified",
        attack=other_blob,
        switch_off=_unhashed,
        refusal=DigestMismatch,
    ),
    Row(
        name="S16-json",
        threat="a document is nested until the reader's stack is used up",
        defence="syncer.oci.manifest.parse_object",
        attack=nested_json,
        switch_off=lambda patch: rewritten(
            patch, manifest, "parse_object", "except RecursionError:", "except KeyError:"
        ),
        refusal=MalformedManifest,
    ),
    Row(
        name="S16-width",
        threat="an index lists more manifests than any image has",
        defence="syncer.oci.manifest._children",
        attack=wide_index,
        switch_off=lambda patch: patch.setattr(manifest, "MAX_CHILDREN", 10**9),
        refusal=SizeExceedsLimit,
    ),
    Row(
        name="S16-depth",
        threat="indexes lie within indexes without end",
        defence="syncer.engine.images._Walk.enter",
        attack=deep_index,
        switch_off=lambda patch: patch.setattr(engine, "MAX_DEPTH", 10**9),
        refusal=SizeExceedsLimit,
    ),
    Row(
        name="S16-referrers",
        threat="referrers have referrers without end",
        defence="syncer.engine.images.ImageCopier._copy_companions",
        attack=endless_referrers,
        switch_off=lambda patch: patch.setattr(engine, "MAX_DEPTH", 10**3),
        refusal=SizeExceedsLimit,
    ),
    Row(
        name="S16-pages",
        threat="a list links to itself",
        defence="syncer.registry.paging.pages",
        attack=circle,
        switch_off=_any_page,
        refusal=ProtocolViolation,
    ),
]
