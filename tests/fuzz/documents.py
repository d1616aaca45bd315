"""Manifests and indexes, and what is made of them: OCI, Docker, schema 1, subsets, lists of referrers."""

from __future__ import annotations

import json
from typing import Any

from syncer.errors import SyncerError
from syncer.layout.graph import recognise, stated_media_type
from syncer.oci import Descriptor, Digest, Manifest, Platform, media_types
from syncer.oci.referrers import referrers_index
from syncer.oci.subset import subset
from tests.fuzz.stage import Family, always, pure
from tests.support import images

_IMAGE = images.image(layers=2, size=64, annotations={"a": "b"})
_SCHEMA1 = {
    "schemaVersion": 1,
    "name": "library/app",
    "tag": "1",
    "architecture": "amd64",
    "fsLayers": [{"blobSum": f"sha256:{'a' * 64}"}],
    "history": [{"v1Compatibility": '{"id":"x"}'}],
    "signatures": [{"header": {"alg": "ES256"}, "signature": "x", "protected": "e30"}],
}
_WITH_EVERYTHING = {
    "schemaVersion": 2,
    "mediaType": media_types.OCI_MANIFEST,
    "artifactType": "application/vnd.example",
    "config": {"mediaType": media_types.OCI_EMPTY, "digest": f"sha256:{'b' * 64}", "size": 2, "data": "e30="},
    "layers": [
        {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": f"sha512:{'c' * 128}",
            "size": 9,
            "urls": ["https://other.test/layer"],
            "annotations": {"org.opencontainers.image.title": "x"},
        }
    ],
    "subject": {"mediaType": media_types.OCI_MANIFEST, "digest": f"sha256:{'d' * 64}", "size": 100},
    "annotations": {"org.opencontainers.image.created": "2020-01-01T00:00:00Z"},
}
_PLATFORMS = (Platform.parse("linux/amd64"),)
_STATED = (
    "",
    "application/json",
    media_types.OCI_MANIFEST,
    media_types.OCI_INDEX,
    media_types.DOCKER_LIST,
    "text/x;q=1",
)


def read(data: bytes) -> None:
    """Parse in every way the product does, and hold what was taken against a reader that knows nothing of ours."""
    recognise(data, Digest.of(data))
    stated_media_type(data)
    refused: SyncerError | None = None
    for stated in _STATED:
        try:
            manifest = Manifest.parse(data, stated)
        except SyncerError as error:
            refused = error
            continue
        _hold_against_strict_json(manifest)
        _read_on(manifest)
    if refused is not None:
        raise refused


def _hold_against_strict_json(manifest: Manifest) -> None:
    document = in_other_cases(strict(manifest.raw))
    for name, links in (("layers", manifest.layers), ("manifests", manifest.manifests)):
        if links and name in document:
            assert [str(link.digest) for link in links] == [entry["digest"] for entry in document[name]]
            assert [link.size for link in links] == [entry["size"] for entry in document[name]]
    assert manifest.media_type.isascii()
    assert manifest.media_type.isprintable()
    assert manifest.raw is not None


def strict(raw: bytes) -> dict[str, Any]:
    """Read JSON as RFC 8259 has it, which is what registries written in Go do; AssertionError for anything else."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{text[:20]} is no JSON, and was taken")

    try:
        text = raw.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise AssertionError("JSON is UTF-8 (RFC 8259 section 8.1), and this was taken") from None
    assert not text.startswith("\ufeff"), "JSON has no byte order mark (RFC 8259 section 8.1), and this was taken"
    document: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return document


def in_other_cases(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a reader finds in a manifest who does not mind upper and lower case: the last of each name."""
    found = {name.casefold(): value for name, value in document.items()}
    for name in ("layers", "manifests"):
        if isinstance(entries := found.get(name), list):
            found[name] = [{key.casefold(): value for key, value in entry.items()} for entry in entries]
    return found


def _read_on(manifest: Manifest) -> None:
    """Do with a manifest what is done after it was taken."""
    for descriptor in (*manifest.blobs(), *manifest.manifests):
        assert Descriptor.from_json(json.loads(json.dumps(descriptor.to_json()))) == descriptor
    Manifest.parse(referrers_index([manifest.referrer_descriptor]), media_types.OCI_INDEX)
    if manifest.manifests:
        reduced = subset(manifest, _PLATFORMS)
        strict(reduced.raw)
        assert {child.digest for child in reduced.manifests} <= {child.digest for child in manifest.manifests}
        assert subset(reduced, _PLATFORMS) == reduced, "a subset of a subset is itself"


FAMILY = Family(
    name="documents",
    seeds=always(
        _IMAGE.manifest.raw,
        images.image(docker=True, layers=1, size=64).manifest.raw,
        images.index(size=64, attestations=True).manifest.raw,
        images.docker_list().manifest.raw,
        images.nested_index(size=64).manifest.raw,
        images.artifact(subject=_IMAGE.manifest).manifest.raw,
        json.dumps(_WITH_EVERYTHING).encode(),
        json.dumps(_SCHEMA1).encode(),
    ),
    opened=pure(read),
)
