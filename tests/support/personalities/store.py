"""What an imitated registry holds, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from syncer.oci import Manifest
from syncer.oci import media_types as mt
from syncer.oci.referrers import fallback_tag, referrers_index
from tests.support.personalities.history import What

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.images import Sample

    class Journal(Protocol):
        """Hears what changes in a repository."""

        def __call__(
            self, what: What, name: str, *, content: str = "", before: str = "", links: Iterable[str] = ()
        ) -> None:
            """Take note of a change."""
            ...


def sha256(data: bytes) -> str:
    """Return the digest of ``data``, computed without any code of Syncer's."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A manifest as it was put."""

    media_type: str
    raw: bytes = field(repr=False)
    document: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, raw: bytes, media_type: str) -> Stored:
        """Read ``raw``; ValueError when it is no JSON object."""
        document = json.loads(raw)
        if not isinstance(document, dict):
            raise ValueError("no object")  # noqa: TRY004 - one kind of error for one kind of garbage
        return cls(media_type=media_type, raw=raw, document=document)

    @property
    def is_index(self) -> bool:
        """True for an index or a Docker list."""
        return self.media_type in (mt.OCI_INDEX, mt.DOCKER_LIST)

    def links(self) -> list[str]:
        """The digests of what it lists directly."""
        listed = [*self.document.get("manifests", ()), *self.document.get("layers", ())]
        if "config" in self.document:
            listed.append(self.document["config"])
        return [entry["digest"] for entry in listed]


def _unheard(what: What, name: str, *, content: str = "", before: str = "", links: Iterable[str] = ()) -> None:
    """Take no note of anything."""


@dataclass(kw_only=True)
class Repository:
    """One repository: blobs are its own, as in every registry that checks rights.

    ``dropped`` are the digests that went without anybody having asked for it, as a collection of garbage does.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Stored] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    journal: Journal = field(default=_unheard, repr=False)

    def hold_blob(self, digest: str, data: bytes) -> None:
        """Hold ``data`` as the blob ``digest``."""
        self.blobs[digest] = data
        self.dropped.discard(digest)
        self.journal(What.BLOB_STORED, digest, content=sha256(data))

    def hold_manifest(self, digest: str, stored: Stored) -> None:
        """Hold a manifest."""
        self.manifests[digest] = stored
        self.dropped.discard(digest)
        self.journal(What.MANIFEST_STORED, digest, content=sha256(stored.raw), links=stored.links())

    def point(self, tag: str, digest: str) -> None:
        """Set a tag."""
        before = self.tags.get(tag, "")
        self.tags[tag] = digest
        self.journal(What.TAG_SET, tag, content=digest, before=before)

    def drop(self, digest: str) -> None:
        """Lose a blob or manifest, as a collection of garbage does."""
        self.dropped.add(digest)
        if self.blobs.pop(digest, None) is not None:
            self.journal(What.BLOB_DROPPED, digest)
        if self.manifests.pop(digest, None) is not None:
            self.journal(What.MANIFEST_DROPPED, digest)

    def untag(self, tag: str) -> None:
        """Take a tag away."""
        self.journal(What.TAG_DROPPED, tag, before=self.tags.pop(tag))

    def find(self, reference: str) -> tuple[str, Stored] | None:
        """Return what a tag or digest stands for."""
        digest = self.tags.get(reference, reference)
        stored = self.manifests.get(digest)
        return None if stored is None else (digest, stored)

    def lacks(self, stored: Stored) -> list[str]:
        """Return what ``stored`` lists and the repository does not hold."""
        return [digest for digest in stored.links() if digest not in self.blobs and digest not in self.manifests]

    def hole(self, digest: str) -> str:
        """Return something that is missing at or below ``digest``; empty when it is whole."""
        if digest in self.blobs:
            return ""
        stored = self.manifests.get(digest)
        if stored is None:
            return digest
        return next(filter(None, map(self.hole, stored.links())), "")

    def below(self, digest: str) -> Iterator[tuple[str, bytes]]:
        """Yield the digest and the bytes of everything at and below ``digest`` that is held."""
        if digest in self.blobs:
            yield digest, self.blobs[digest]
        elif stored := self.manifests.get(digest):
            yield digest, stored.raw
            for link in stored.links():
                yield from self.below(link)

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Return the descriptors of the manifests whose subject is ``digest``."""
        found = []
        for name, stored in self.manifests.items():
            if (stored.document.get("subject") or {}).get("digest") == digest:
                kind = stored.document.get("artifactType") or stored.document.get("config", {}).get("mediaType", "")
                entry = {
                    "mediaType": stored.media_type,
                    "digest": name,
                    "size": len(stored.raw),
                    "artifactType": kind,
                    "annotations": stored.document.get("annotations"),
                }
                found.append({key: value for key, value in entry.items() if value})
        return found

    def keep(self, sample: Sample, tag: str = "") -> None:
        """Hold ``sample``, as if it had been pushed long ago."""
        for blob, data in sample.blobs.items():
            self.hold_blob(str(blob), data)
        for manifest in sample.manifests:
            self.hold_manifest(str(manifest.digest), Stored.of(manifest.raw, manifest.media_type))
        if tag:
            self.point(tag, str(sample.digest))

    def list_under_tag(self, subject: Manifest, referrer: Manifest) -> None:
        """Write the list that clients keep where there is no referrers API."""
        raw = referrers_index([referrer.descriptor])
        self.hold_manifest(sha256(raw), Stored.of(raw, mt.OCI_INDEX))
        self.point(fallback_tag(subject.digest), sha256(raw))


@dataclass(kw_only=True)
class Session:
    """An upload under way."""

    name: str
    repository: str
    data: bytearray = field(default_factory=bytearray)
    #: The Location that the last answer gave; the next request has to use it byte for byte.
    location: str = ""
    turns: int = 0
