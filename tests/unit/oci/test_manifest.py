"""Manifests: verbatim bytes, and no two readings of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from syncer.errors import (
    DigestMismatch,
    MalformedManifest,
    NotFound,
    SizeExceedsLimit,
    SyncerError,
    UnsupportedMediaType,
)
from syncer.oci import Descriptor, Digest, Manifest, Platform, media_types
from syncer.oci.manifest import MAX_CHILDREN, MAX_MANIFEST_SIZE
from syncer.oci.subset import subset


def link(name: str, media_type: str = media_types.OCI_LAYER_GZIP, **more: Any) -> dict[str, Any]:
    """Return a descriptor of the bytes of ``name``."""
    return {"mediaType": media_type, "digest": Digest.of(name.encode()), "size": len(name), **more}


def image(**more: Any) -> dict[str, Any]:
    """Return an image manifest of a config and two layers, one of them twice."""
    return {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": link("config", media_types.OCI_CONFIG),
        "layers": [link("one"), link("two"), link("one")],
        **more,
    }


def index(*children: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an index."""
    return {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": list(children), **more}


def raw(document: Any) -> bytes:
    """Return the document as bytes with odd white space, as some tools write it."""
    return json.dumps(document, indent=3).encode() + b"\n"


def test_an_image_keeps_its_bytes_and_shows_its_links() -> None:
    """The bytes stay what they were; blobs come once each, the config first."""
    data = raw(image(annotations={"a": "b"}, artifactType="x/y", subject=link("subject", media_types.OCI_MANIFEST)))
    manifest = Manifest.parse(data, media_types.OCI_MANIFEST)
    assert manifest.raw == data
    assert manifest.digest == Digest.of(data)
    assert [blob.digest for blob in manifest.blobs()] == [Digest.of(b"config"), Digest.of(b"one"), Digest.of(b"two")]
    assert manifest.subject is not None
    assert manifest.subject.digest == Digest.of(b"subject")
    assert not manifest.is_index
    assert manifest.descriptor == Descriptor(
        media_type=media_types.OCI_MANIFEST, digest=manifest.digest, size=len(data)
    )
    referrer = manifest.referrer_descriptor
    assert (referrer.artifact_type, referrer.annotations) == ("x/y", {"a": "b"})


def test_a_referrer_without_artifact_type_takes_its_configs() -> None:
    """distribution-spec: the artifactType of a referrer falls back to the config's media type."""
    assert Manifest.parse(raw(image())).referrer_descriptor.artifact_type == media_types.OCI_CONFIG


@pytest.mark.parametrize("kind", [media_types.OCI_INDEX, media_types.DOCKER_LIST])
def test_an_index_lists_its_children(kind: str) -> None:
    """OCI indexes and Docker manifest lists read alike."""
    child = link("child", media_types.OCI_MANIFEST, platform={"os": "linux", "architecture": "arm64", "variant": "v8"})
    manifest = Manifest.parse(raw(index(child, mediaType=kind)))
    assert manifest.is_index
    assert manifest.manifests[0].platform == Platform.parse("linux/arm64/v8")
    assert list(manifest.blobs()) == []


def test_foreign_layers_with_urls_are_no_blobs_of_ours() -> None:
    """A layer that may not be redistributed and says where it lives is left there."""
    foreign = link("w", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls=["https://example.com/w"])
    kept = link("k", "application/vnd.oci.image.layer.nondistributable.v1.tar")
    manifest = Manifest.parse(raw(image(layers=[foreign, kept])))
    assert [blob.digest for blob in manifest.blobs()] == [Digest.of(b"config"), Digest.of(b"k")]


def test_an_unknown_type_is_carried_with_the_links_it_shows() -> None:
    """A media type nobody knows keeps its name, and links in the image-spec's members are followed."""
    data = raw({"mediaType": "application/vnd.future.v9+json", "layers": [link("one")], "config": "free text"})
    manifest = Manifest.parse(data, "application/vnd.future.v9+json")
    assert manifest.media_type == "application/vnd.future.v9+json"
    assert [blob.digest for blob in manifest.blobs()] == [Digest.of(b"one")]


def test_the_old_artifact_manifest_has_blobs() -> None:
    """The artifact manifest of the image-spec's release candidates lists blobs, not layers."""
    manifest = Manifest.parse(raw({"mediaType": media_types.OCI_ARTIFACT, "blobs": [link("one")]}))
    assert [blob.digest for blob in manifest.blobs()] == [Digest.of(b"one")]


@pytest.mark.parametrize(
    ("document", "stated", "expected"),
    [
        ({"layers": [], "config": link("c")}, "", media_types.OCI_MANIFEST),
        ({"manifests": []}, "application/json", media_types.OCI_INDEX),
        ({"manifests": []}, "application/octet-stream", media_types.OCI_INDEX),
        ({"layers": []}, media_types.DOCKER_MANIFEST, media_types.DOCKER_MANIFEST),
        ({"layers": []}, f"{media_types.OCI_MANIFEST}; charset=utf-8", media_types.OCI_MANIFEST),
        (image(), "text/plain", media_types.OCI_MANIFEST),
    ],
)
def test_the_media_type_is_what_content_and_header_agree_on(document: Any, stated: str, expected: str) -> None:
    """Vague headers give way to the document; parameters of the Content-Type do not count."""
    assert Manifest.parse(raw(document), stated).media_type == expected


@pytest.mark.parametrize(
    ("data", "stated", "error"),
    [
        (b"", "", MalformedManifest),
        (b"[]", "", MalformedManifest),
        (b"\xff\xfe", "", MalformedManifest),
        (b'{"layers": [], "layers": []}', "", MalformedManifest),
        (b'{"config": {"digest": "x", "digest": "y"}}', "", MalformedManifest),
        (b"[" * 100_000 + b"]" * 100_000, "", MalformedManifest),
        (raw(index(layers=[])), "", MalformedManifest),
        (raw(index(config=link("c"))), "", MalformedManifest),
        (raw(image()), media_types.OCI_INDEX, MalformedManifest),
        (raw(index()), media_types.OCI_MANIFEST, MalformedManifest),
        (raw({"mediaType": media_types.OCI_INDEX, "layers": []}), "", MalformedManifest),
        (raw({"mediaType": media_types.OCI_MANIFEST, "manifests": []}), "", MalformedManifest),
        (raw({"mediaType": 7}), "", MalformedManifest),
        (raw({}), "", MalformedManifest),
        (raw(image(layers={})), "", MalformedManifest),
        (raw(image(layers=[1])), "", MalformedManifest),
        (raw(image(layers=[link("x", size=-1)])), "", MalformedManifest),
        (raw(image(layers=[link("x", size=True)])), "", MalformedManifest),
        (raw(image(layers=[{"size": 1}])), "", MalformedManifest),
        (raw(image(layers=[link("x", digest="sha256:../x")])), "", MalformedManifest),
        (raw(image(layers=[link("x", size=1 << 63)])), "", MalformedManifest),
        (raw(image(layers=[link("x", size=10**400)])), "", MalformedManifest),
        (raw(image(Layers=[])), "", MalformedManifest),
        (raw({**image(), "layer\u017f": []}), "", MalformedManifest),
        (raw(image(layers=[link("x", Digest="sha256:" + "a" * 64)])), "", MalformedManifest),
        (raw(index(link("x", platform={"os": "linux", "OS": "windows"}))), "", MalformedManifest),
        (raw(image()).decode().encode("utf-16"), "", MalformedManifest),
        (b"\xef\xbb\xbf" + raw(image()), "", MalformedManifest),
        (raw(image(annotations={"a": float("nan")})), "", MalformedManifest),
        (raw({"schemaVersion": 1, "fsLayers": []}), "", UnsupportedMediaType),
        (raw({}), media_types.DOCKER_SCHEMA1_SIGNED, UnsupportedMediaType),
        (b" " * (MAX_MANIFEST_SIZE + 1), "", SizeExceedsLimit),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(data: bytes, stated: str, error: type[SyncerError]) -> None:
    """Ambiguous, oversized and broken manifests are refused before anything is done with them (CVE-2021-41190)."""
    with pytest.raises(error):
        Manifest.parse(data, stated)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000, "1" + "0" * 400])
def test_a_number_that_nobody_reads_may_be_any(number: str) -> None:
    """Registries take it, and the bytes are passed on as they are; only what is read has to be sound."""
    data = raw({**image(), "x": 0}).replace(b'"x": 0', f'"x": {number}'.encode())
    assert number.encode() in data
    assert Manifest.parse(data).raw == data
    with pytest.raises(MalformedManifest, match="no valid size"):
        Manifest.parse(raw(image(layers=[link("x", size=7)])).replace(b'"size": 7', f'"size": {number}'.encode()))


@pytest.mark.parametrize("number", ["1e999", "9" * 5000])
def test_a_number_that_cannot_be_written_again_is_refused_where_it_would_be(number: str) -> None:
    """A platform subset is written by us: it must not say Infinity, which is no JSON."""
    entries = (link(name, platform={"os": "linux", "architecture": name}) for name in ("amd64", "arm64"))
    data = raw({**index(*entries), "x": 0}).replace(b'"x": 0', f'"x": {number}'.encode())
    with pytest.raises(MalformedManifest):
        subset(Manifest.parse(data), [Platform.parse("linux/amd64")])


def test_an_index_of_too_many_manifests_is_refused() -> None:
    """The fan-out of an index has a bound."""
    child = {"mediaType": "x", "digest": Digest.of(b""), "size": 0}
    with pytest.raises(SizeExceedsLimit, match="lists 10001 manifests"):
        Manifest.parse(raw({"manifests": [child] * (MAX_CHILDREN + 1)})[:MAX_MANIFEST_SIZE])


def test_the_digest_asked_for_is_checked() -> None:
    """Bytes that are not those of the digest are refused; a sha512 digest is checked as such."""
    data = raw(image())
    assert Manifest.parse(data, digest=Digest.of(data, "sha512")).digest.algorithm == "sha512"
    with pytest.raises(DigestMismatch, match="hashes to"):
        Manifest.parse(data, digest=Digest.of(b"else"))


AMD = {"platform": {"os": "linux", "architecture": "amd64"}}
ARM = {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}
UNKNOWN = {"platform": {"os": "unknown", "architecture": "unknown"}}


def multi_platform() -> Manifest:
    """Return an index of two platforms with an attestation each, and one entry without a platform."""
    return Manifest.parse(
        raw(
            index(
                link("amd", media_types.OCI_MANIFEST, **AMD),
                link("arm", media_types.OCI_MANIFEST, **ARM),
                link(
                    "a1",
                    media_types.OCI_MANIFEST,
                    **UNKNOWN,
                    annotations={"vnd.docker.reference.digest": Digest.of(b"amd")},
                ),
                link(
                    "a2",
                    media_types.OCI_MANIFEST,
                    **UNKNOWN,
                    annotations={"vnd.docker.reference.digest": Digest.of(b"arm")},
                ),
                link("extra", media_types.OCI_MANIFEST),
                annotations={"kept": "yes"},
            )
        )
    )


def test_a_platform_subset_is_a_valid_index_with_its_attestations() -> None:
    """Entries of other platforms go, attestations follow their manifest, everything else stays."""
    whole = multi_platform()
    part = subset(whole, [Platform.parse("linux/arm64")])
    assert [child.digest for child in part.manifests] == [Digest.of(b"arm"), Digest.of(b"a2"), Digest.of(b"extra")]
    assert part.annotations == {"kept": "yes"}
    assert part.digest == Digest.of(part.raw) != whole.digest
    assert subset(whole, [Platform.parse("linux/arm64")]).digest == part.digest


def test_a_subset_of_everything_is_the_index_itself() -> None:
    """When nothing has to go, the bytes and the digest stay."""
    whole = multi_platform()
    assert subset(whole, [Platform.parse("linux/amd64"), Platform.parse("linux/arm64/v8")]) is whole


def test_a_platform_that_is_not_there_is_an_error() -> None:
    """An index without a platform that was asked for is not copied in part."""
    with pytest.raises(NotFound, match=r"no manifest for linux/s390x; it has linux/amd64, linux/arm64/v8"):
        subset(multi_platform(), [Platform.parse("linux/s390x"), Platform.parse("linux/amd64")])
