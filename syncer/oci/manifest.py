"""Manifests and indexes, kept as the bytes they came as.

A manifest is never serialised again: other bytes are another digest. :class:`Manifest` holds
the verbatim bytes beside what was read from them, in the terms of the OCI image-spec and of
Docker's image manifest schema 2 alike. A type that is not known is carried as bytes with the
links that the image-spec's members show, and no others.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncer.errors import DigestMismatch, MalformedManifest, SizeExceedsLimit, UnsupportedMediaType
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor, refuse_lookalikes
from syncer.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: distribution-spec "Pushing Manifests": registries accept 4 MiB at least, and docker's no more.
MAX_MANIFEST_SIZE = 4 * 1024 * 1024
#: Fan-out of one index; the largest public ones have a few hundred entries.
MAX_CHILDREN = 10_000
_MEMBERS = {
    name.casefold(): name
    for name in (
        *("schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "manifests", "subject"),
        *("annotations", "fsLayers", "history", "signatures"),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """One manifest or index: its exact bytes, and the links in them."""

    raw: bytes = field(repr=False)
    media_type: str
    digest: Digest
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The length of the manifest in bytes."""
        return len(self.raw)

    @property
    def is_index(self) -> bool:
        """True for an index or a Docker manifest list."""
        return media_types.is_index(self.media_type)

    @property
    def descriptor(self) -> Descriptor:
        """A descriptor of this manifest: media type, digest and size."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.raw))

    @property
    def referrer_descriptor(self) -> Descriptor:
        """The descriptor that a referrers list shows of this manifest.

        distribution-spec "Pushing Manifests with Subject": the artifactType is the manifest's,
        else its config's media type, and the annotations are copied.
        """
        artifact_type = self.artifact_type or (self.config.media_type if self.config else "")
        return Descriptor(
            media_type=self.media_type,
            digest=self.digest,
            size=len(self.raw),
            artifact_type=artifact_type,
            annotations=self.annotations,
        )

    def blobs(self) -> Iterator[Descriptor]:
        """Yield the config and the layers, each digest once, without foreign layers that have ``urls``."""
        seen: set[Digest] = set()
        for blob in (*((self.config,) if self.config else ()), *self.layers):
            if blob.digest in seen or (blob.is_foreign and blob.urls):
                continue
            seen.add(blob.digest)
            yield blob

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "", *, digest: Digest | None = None) -> Manifest:
        """Read a manifest from ``raw``.

        Args:
            raw: the exact bytes.
            media_type: what the Content-Type or the descriptor said; empty when nobody said.
            digest: what it must hash to; computed with sha256 when not given.

        Raises:
            DigestMismatch: when the bytes do not hash to ``digest``.
            SizeExceedsLimit: when it is over 4 MiB or lists over 10,000 manifests.
            MalformedManifest: when it is not JSON, has a member twice or spelled in other cases, is both
                an image and an index, or says another media type than ``media_type`` (CVE-2021-41190).
            UnsupportedMediaType: for Docker schema 1, whose digest does not cover its bytes.
        """
        if len(raw) > MAX_MANIFEST_SIZE:
            raise SizeExceedsLimit(f"the manifest is {len(raw)} bytes long; the limit is {MAX_MANIFEST_SIZE}")
        stated = media_types.bare(media_type)
        # Before the digest, which covers the payload of its signatures, and not the bytes.
        if stated in media_types.SCHEMA1_TYPES:
            raise UnsupportedMediaType(
                "Docker schema 1 manifests cannot be copied bit by bit",
                hint="Push the image again with a current tool, or exclude the tag.",
            )
        if digest is not None and not digest.matches(raw):
            raise DigestMismatch(f"the manifest hashes to {Digest.of(raw, digest.algorithm)}, not to {digest}")
        digest = digest or Digest.of(raw)
        document = parse_object(raw)
        refuse_lookalikes(document, _MEMBERS, where="the manifest")
        effective = _effective_media_type(document, stated)
        return cls(
            raw=raw,
            media_type=effective,
            digest=digest,
            config=_config(document),
            layers=_descriptors(document, "layers") or _descriptors(document, "blobs"),
            manifests=_children(document),
            subject=_optional(document, "subject"),
            artifact_type=str(document.get("artifactType") or ""),
            annotations=_annotations(document),
        )


def parse_object(raw: bytes, *, is_rewritten: bool = False) -> dict[str, Any]:
    """Parse a JSON object whose member names are unique at every level, as strictly as others do.

    What Python takes besides (UTF-16, a byte order mark, half surrogate pairs as bytes, NaN) registries
    refuse, and what is written again of it would not be JSON. A number may be of any size (RFC 8259 section 6),
    as registries have it that do not read it: one that no float can hold comes out as infinite.

    Args:
        raw: the bytes.
        is_rewritten: what is read is to be written again, and must have no such number.

    Raises:
        MalformedManifest: when it is not JSON (RFC 8259), not an object, nested too deep, ambiguous, or
            has a number that could not be written again.
    """
    numbers: dict[str, Any] = {"parse_float": _finite} if is_rewritten else {"parse_int": _integer}
    try:
        document = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_number, **numbers)
    except RecursionError:
        raise MalformedManifest("the manifest is nested too deep") from None
    except ValueError as error:
        raise MalformedManifest(f"the manifest is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedManifest("the manifest is not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        # Two readers may take two different ones of the pair: the same digest, two meanings.
        raise MalformedManifest("the manifest has a member twice")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedManifest(f"the manifest has a number that cannot be written again: {text[:40]}")
    return value


def _integer(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        # Of more digits than Python converts, lest it take for ever.
        return float(text)


def _effective_media_type(document: Mapping[str, Any], stated: str) -> str:
    inner = document.get("mediaType")
    if inner is not None and not isinstance(inner, str):
        raise MalformedManifest("mediaType is not a string")
    looks_like_index = isinstance(document.get("manifests"), list)
    looks_like_image = "layers" in document or "config" in document
    if looks_like_index and looks_like_image:
        raise MalformedManifest("the manifest is an image and an index at once")
    if document.get("schemaVersion") == 1 and "fsLayers" in document:
        raise UnsupportedMediaType(
            "Docker schema 1 manifests cannot be copied bit by bit",
            hint="Push the image again with a current tool, or exclude the tag.",
        )
    # Servers that do not know better send these for anything; they say nothing of the content.
    vague = stated in {"", "application/json", "application/octet-stream", "text/plain"}
    if inner and not vague and inner != stated:
        raise MalformedManifest(f"the manifest says it is {inner!r}, but was announced as {stated!r}")
    guess = media_types.OCI_INDEX if looks_like_index else media_types.OCI_MANIFEST if looks_like_image else stated
    effective = inner or (guess if vague else stated)
    if effective in media_types.INDEX_TYPES and looks_like_image:
        raise MalformedManifest(f"{effective!r} has the members of an image")
    if effective in media_types.IMAGE_TYPES and looks_like_index:
        raise MalformedManifest(f"{effective!r} has the members of an index")
    if not effective:
        raise MalformedManifest("nothing says what media type the manifest has")
    if not effective.isascii() or not effective.isprintable():
        # It is to stand in a header of the request that writes it (RFC 6838 section 4.2).
        raise MalformedManifest(f"{effective[:100]!r} is no media type")
    return effective


def _config(document: Mapping[str, Any]) -> Descriptor | None:
    # In a type that is not known "config" may be anything; it is a link when it looks like one.
    config = document.get("config")
    return Descriptor.from_json(config, where="config") if isinstance(config, dict) and "digest" in config else None


def _optional(document: Mapping[str, Any], name: str) -> Descriptor | None:
    value = document.get(name)
    return None if value is None else Descriptor.from_json(value, where=name)


def _descriptors(document: Mapping[str, Any], name: str) -> tuple[Descriptor, ...]:
    value = document.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise MalformedManifest(f"{name} is not a list")
    return tuple(Descriptor.from_json(item, where=f"{name}[{at}]") for at, item in enumerate(value))


def _children(document: Mapping[str, Any]) -> tuple[Descriptor, ...]:
    value = document.get("manifests")
    if isinstance(value, list) and len(value) > MAX_CHILDREN:
        raise SizeExceedsLimit(f"the index lists {len(value)} manifests; the limit is {MAX_CHILDREN}")
    return _descriptors(document, "manifests")


def _annotations(document: Mapping[str, Any]) -> dict[str, str]:
    value = document.get("annotations")
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, dict) else {}
