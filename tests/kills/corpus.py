"""What runs copy when they are killed, and what of it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from syncer.layout.store import LayoutStore
from syncer.oci.referrers import cosign_tags
from tests.support import images
from tests.support.world import fill

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from tests.support.images import Sample

#: The repositories of the target.
APP, OTHER = "mirror/app", "mirror/other"


class Corpus:
    """Two repositories: an image that moved, a large one, an index that is signed, a cosign tag, a shared layer."""

    def __init__(self) -> None:
        shared = images.random_bytes(3000, "shared")
        large = images.random_bytes(3_000_000, "large")
        self.old = images.image(seed="old", layers=1)
        self.moved = images.image(seed="moved", layers=1, shared=[shared])
        self.multi = images.index(seed="multi", layers=1)
        self.signature = images.artifact(subject=self.multi.manifest, seed="signature")
        self.cosign = images.artifact(seed="cosign")
        self.cosign_tag = cosign_tags(self.moved.digest)[0]
        self.app: dict[str, Sample] = {
            "large": images.image(seed="large", layers=1, shared=[shared, large]),
            "moved": self.moved,
            "multi": self.multi,
        }
        self.other: dict[str, Sample] = {"only": images.image(seed="other", layers=1, shared=[shared])}
        self.companions = {"moved": [self.cosign], "multi": [self.signature]}

    async def keep(self, host: str) -> None:
        """Put everything into the source."""
        await fill(host, "app", {**self.app, "@signature": self.signature, self.cosign_tag: self.cosign})
        await fill(host, "other", self.other)

    def tags(self) -> dict[str, dict[str, str]]:
        """Return what every tag of the target stands for in the end, by repository."""
        app = {tag: str(sample.digest) for tag, sample in self.app.items()}
        return {
            APP: {**app, self.cosign_tag: str(self.cosign.digest)},
            OTHER: {tag: str(sample.digest) for tag, sample in self.other.items()},
        }

    def needed(self) -> dict[str, dict[str, frozenset[str]]]:
        """Return what must be there before each tag of the target: blobs, children, and what refers to them."""
        needed = {APP: {tag: self._below(tag, sample) for tag, sample in self.app.items()}}
        needed[APP]["moved"] |= {self.cosign_tag}
        needed[APP]["moved"] -= {str(self.cosign.digest)}
        needed[OTHER] = {tag: self._below(tag, sample) for tag, sample in self.other.items()}
        return needed

    def _below(self, tag: str, sample: Sample) -> frozenset[str]:
        companions = self.companions.get(tag, [])
        digests = {str(child.digest) for child in sample.children} | {str(one.digest) for one in companions}
        return frozenset(digests.union(*(map(str, one.blobs) for one in [sample, *companions])))

    def parts(self, repository: str, tag: str) -> list[Sample]:
        """Return the image of a tag and what refers to it."""
        return [(self.app if repository == APP else self.other)[tag], *self.companions.get(tag, [])]

    def blobs(self) -> dict[str, int]:
        """Return the size of every blob, by digest."""
        samples = [*self.app.values(), *self.other.values(), self.signature, self.cosign]
        return {str(digest): len(data) for sample in samples for digest, data in sample.blobs.items()}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the target has on its disk.

    Attributes:
        content: the digests of the blobs and manifests of each repository.
        tags: the digest of each tag, by repository.
    """

    content: Mapping[str, frozenset[str]]
    tags: Mapping[str, Mapping[str, str]]

    @classmethod
    async def of(cls, root: Path) -> Self:
        """Look at the layouts below ``root``, whose server may be running."""
        content: dict[str, frozenset[str]] = {}
        tags: dict[str, dict[str, str]] = {}
        for repository in (APP, OTHER):
            blobs = [path async for path in anyio.Path(root, repository).glob("blobs/sha256/*")]
            content[repository] = frozenset(f"sha256:{blob.name}" for blob in blobs)
            tags[repository] = {}
            if await anyio.Path(root, repository, "oci-layout").exists():
                store = await LayoutStore.open(root / repository)
                tags[repository] = {tag: str(digest) for tag, digest in store.tag_digests(store.tags()).items()}
        return cls(content=content, tags=tags)

    @property
    def anywhere(self) -> frozenset[str]:
        """Every digest that some repository has."""
        return frozenset().union(*self.content.values())
