"""Descriptors: the links of the manifest graph (image-spec, descriptor.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncer.errors import InvalidDigest, MalformedManifest
from syncer.oci.digest import Digest
from syncer.oci.media_types import is_foreign_layer, is_index, is_manifest
from syncer.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

#: What the specifications' int64 can say; anything beyond breaks arithmetic further on.
MAX_SIZE = 1 << 63
#: The members that mean something to somebody, by what they are to who does not mind upper and lower case.
_MEMBERS = {
    name.casefold(): name
    for name in ("mediaType", "digest", "size", "urls", "annotations", "platform", "artifactType", "data")
}
_PLATFORM = {name.casefold(): name for name in ("os", "architecture", "variant", "os.version", "os.features")}


def refuse_lookalikes(value: Mapping[str, Any], members: Mapping[str, str], *, where: str) -> None:
    """Refuse an object with a member that is one of ``members`` but for upper and lower case.

    Registries written in Go take ``Layers`` for ``layers``, and of both the last: the same bytes would mean one
    thing to us and another to them (CVE-2021-41190).

    Raises:
        MalformedManifest: when there is one.
    """
    for name in value:
        if (meant := members.get(name.casefold(), name)) != name:
            raise MalformedManifest(f"{where} has a member {name!r}, which some read as {meant!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptor:
    """What a piece of content is: media type, digest and size in bytes, and what is said of it."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    urls: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Any, *, where: str = "descriptor") -> Self:
        """Read a descriptor, strictly where it matters (digest, size) and kindly elsewhere.

        Raises:
            MalformedManifest: when it is not an object, its size is no natural number of 63 bits, its
                digest breaks the grammar, or a member is spelled in other cases.
        """
        if not isinstance(value, dict):
            raise MalformedManifest(f"{where} is not an object")
        refuse_lookalikes(value, _MEMBERS, where=where)
        size = value.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < MAX_SIZE:
            raise MalformedManifest(f"{where} has no valid size: {str(size)[:40]!r}")
        digest = value.get("digest")
        if not isinstance(digest, str):
            raise MalformedManifest(f"{where} has no digest")
        try:
            checked = Digest(digest)
        except InvalidDigest as error:
            raise MalformedManifest(f"{where} has an {error.message}") from None
        platform = value.get("platform")
        annotations = value.get("annotations")
        urls = value.get("urls")
        if isinstance(platform, dict):
            refuse_lookalikes(platform, _PLATFORM, where=f"the platform of {where}")
        return cls(
            media_type=str(value.get("mediaType") or ""),
            digest=checked,
            size=size,
            platform=Platform.from_json(platform) if isinstance(platform, dict) else None,
            artifact_type=str(value.get("artifactType") or ""),
            annotations={str(k): str(v) for k, v in annotations.items()} if isinstance(annotations, dict) else {},
            urls=tuple(str(url) for url in urls) if isinstance(urls, list) else (),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor's JSON object, without empty members."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.urls:
            value["urls"] = list(self.urls)
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.platform is not None:
            value["platform"] = self.platform.to_json()
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        return value

    @property
    def is_index(self) -> bool:
        """True when the content lists other manifests."""
        return is_index(self.media_type)

    @property
    def is_manifest(self) -> bool:
        """True when the content is a manifest or an index."""
        return is_manifest(self.media_type)

    @property
    def is_foreign(self) -> bool:
        """True for a layer that lives elsewhere and may not be redistributed."""
        return is_foreign_layer(self.media_type)
