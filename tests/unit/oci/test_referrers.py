"""The tag schema and cosign's tags."""

from __future__ import annotations

import json

from syncer.oci import Descriptor, Digest
from syncer.oci.referrers import (
    cosign_tags,
    fallback_tag,
    is_companion,
    is_fallback,
    referrers_index,
    subject_of_tag,
)

D256 = Digest.of(b"x")
D512 = Digest.of(b"x", "sha512")


def test_tags_of_a_digest() -> None:
    """The tag schema cuts the hash to 64 characters; cosign adds its suffixes."""
    assert fallback_tag(D256) == f"sha256-{D256.encoded}"
    assert fallback_tag(D512) == f"sha512-{D512.encoded[:64]}"
    assert cosign_tags(D256) == tuple(f"sha256-{D256.encoded}.{kind}" for kind in ("sig", "att", "sbom"))


def test_companion_tags_are_recognised() -> None:
    """Tags that belong to a manifest are told from tags that belong to people."""
    assert all(is_companion(tag) for tag in (*cosign_tags(D256), fallback_tag(D256), fallback_tag(D512)))
    assert is_fallback(fallback_tag(D512))
    assert not is_fallback(cosign_tags(D256)[0])
    assert not any(is_companion(tag) for tag in ("latest", "sha256-abc", "sha256-" + "A" * 64, "v1.sig"))


def test_the_subject_of_a_tag() -> None:
    """A companion tag leads back to its digest, where the tag holds all of it."""
    assert subject_of_tag(cosign_tags(D256)[1]) == D256
    assert subject_of_tag(fallback_tag(D256)) == D256
    assert subject_of_tag(fallback_tag(D512)) is None
    assert subject_of_tag("latest") is None


def test_a_referrers_index_is_an_index() -> None:
    """The list of referrers is an image index of their descriptors."""
    descriptor = Descriptor(media_type="a/b", digest=D256, size=1, artifact_type="c/d")
    document = json.loads(referrers_index([descriptor]))
    assert document["manifests"] == [descriptor.to_json()]
    assert document["schemaVersion"] == 2
