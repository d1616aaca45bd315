"""Telling manifests from other blobs by their bytes."""

from __future__ import annotations

import json

import pytest

from syncer.errors import DigestMismatch, NotFound
from syncer.layout.graph import find_manifest, recognise, require_links, stated_media_type, walk
from syncer.layout.index import LayoutIndex, Put
from syncer.oci import Digest
from syncer.oci import media_types as mt
from syncer.oci.referrers import cosign_tags, fallback_tag
from tests.support import images

IMAGE = images.image()


@pytest.mark.parametrize(
    "sample",
    [IMAGE, images.image(state_media_type=False), images.index(), images.docker_list(), images.artifact()],
    ids=["image", "unstated", "index", "list", "artifact"],
)
def test_manifests_are_recognised(sample: images.Sample) -> None:
    """A manifest is known by its bytes, with the media type it has."""
    found = recognise(sample.manifest.raw, sample.digest)
    assert found is not None
    assert (found.raw, found.media_type) == (sample.manifest.raw, sample.manifest.media_type)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"\x1f\x8b",
        b'{"a":1,"a":2}',
        b'{"mediaType":1}',
        b'{"mediaType":"application/vnd.oci.image.config.v1+json"}',
        b'{"schemaVersion":2}',
        b'{"schemaVersion":2,"config":{},"layers":[]}',
        b'{"schemaVersion":1,"manifests":[]}',
        json.dumps({"mediaType": mt.OCI_INDEX, "manifests": [{"digest": "x", "size": 1}]}).encode(),
        *IMAGE.blobs.values(),
    ],
)
def test_other_blobs_are_not(raw: bytes) -> None:
    """Whatever is not wholly a manifest is none, an image's config included."""
    assert recognise(raw, Digest.of(raw)) is None


def test_damaged_bytes() -> None:
    """Bytes that look like a manifest and are not those of the digest are an error, not a manifest."""
    with pytest.raises(DigestMismatch):
        recognise(IMAGE.manifest.raw, Digest.of(b"other"))


def test_stated_media_type() -> None:
    """Only what the bytes themselves state counts."""
    assert stated_media_type(IMAGE.manifest.raw) == mt.OCI_MANIFEST
    for raw in (images.image(state_media_type=False).manifest.raw, b'{"mediaType":1}', b"{", b"x"):
        assert not stated_media_type(raw)


def test_walk() -> None:
    """Every manifest below the roots is met once; blobs that are absent, damaged or no manifests are passed over."""
    sample = images.nested_index(depth=3)
    raws = {manifest.digest: manifest.raw for manifest in sample.manifests}
    lost, *_ = sample.manifest.manifests[1:]
    del raws[lost.digest]
    layer, data = next(iter(sample.blobs.items()))

    def read(digest: Digest) -> bytes:
        if digest == layer:
            return data
        try:
            return raws[digest]
        except KeyError:
            raise NotFound from None

    found = [manifest.digest for manifest in walk([sample.digest, layer], read)]
    assert len(found) == len(set(found))
    assert set(found) == set(raws)


@pytest.mark.parametrize("tag", [*cosign_tags(IMAGE.digest), fallback_tag(IMAGE.digest)])
def test_the_only_image_is_not_its_signature(tag: str) -> None:
    """What is tagged as a companion of something else does not make ``oci:path`` ambiguous."""
    signature = images.artifact(seed="signature")
    raws = {sample.digest: sample.manifest.raw for sample in (IMAGE, signature)}
    entries = [IMAGE.manifest.descriptor, signature.manifest.descriptor]
    index = LayoutIndex()
    index.apply(Put(descriptor=entries[0]))
    index.apply(Put(descriptor=entries[1], tag=tag))
    assert find_manifest(index, "", raws.__getitem__, where="here").digest == IMAGE.digest
    index.apply(Put(descriptor=entries[1], tag="v1"))
    with pytest.raises(NotFound, match="several images"):
        find_manifest(index, "", raws.__getitem__, where="here")


def test_a_companion_alone_is_the_only_image() -> None:
    """A layout that holds a signature and nothing else can be read without a name, too."""
    signature = images.artifact(seed="signature")
    index = LayoutIndex()
    index.apply(Put(descriptor=signature.manifest.descriptor, tag=cosign_tags(IMAGE.digest)[0]))
    found = find_manifest(index, "", lambda _: signature.manifest.raw, where="here")
    assert found.digest == signature.digest


def test_every_missing_link_is_named() -> None:
    """The error names each blob that is missing, once."""
    config, first, second = IMAGE.manifest.blobs()
    with pytest.raises(NotFound) as caught:
        require_links(IMAGE.manifest, [first.digest], where="here")
    assert caught.value.message.endswith(f"not in here: {config.digest}, {second.digest}")
