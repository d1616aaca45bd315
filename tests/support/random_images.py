"""Repositories full of random images, the same for the same seed: indexes within indexes, shared layers, odd types."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

from syncer.oci import Manifest
from syncer.oci.referrers import cosign_tags
from tests.support import images

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.images import Sample

_PLATFORMS = ("linux/amd64", "linux/arm64/v8", "linux/arm/v7", "windows/amd64", "linux/s390x", "unknown/unknown")
_ODD_TYPES = (
    "application/vnd.cncf.helm.config.v1+json",
    "application/vnd.wasm.config.v0+json",
    "application/vnd.example.of-nobody.v1.tar+gzip",
    "text/plain",
)


class RandomRepository:
    """One repository: what its tags stand for, and what refers to that."""

    def __init__(self, seed: object, *, plain: bool = False) -> None:
        """Make it up; a ``plain`` one has neither indexes in indexes nor referrers, which not every tool can carry."""
        self._random = Random(f"{seed}")  # noqa: S311 - test content, no secret
        self._seed = seed
        self._count = 0
        #: Layers that several images have, one of them empty.
        self._pool = [images.random_bytes(self._random.randrange(1, 5000), f"{seed}/pool/{at}") for at in range(3)] + [
            b""
        ]
        kinds: list[Callable[[], Sample]] = [self._image, self._image, self._index, self._list, self._artifact]
        kinds += [] if plain else [self._nested]
        self.tags: dict[str, Sample] = {}
        for at in range(self._random.randint(2, 5)):
            self.tags[self._tag(at)] = self._respelled(self._random.choice(kinds)())
        self.tags["twin"] = self._random.choice(list(self.tags.values()))
        self.referrers = [] if plain else self._referrers()
        if plain or self._random.random() < 0.5:
            self.tags[cosign_tags(self.tags["twin"].digest)[0]] = images.artifact(seed=self._fresh())

    def samples(self) -> dict[str, Sample]:
        """Return everything by tag, what is pushed by its digest alone under names that begin with ``@``."""
        return {**self.tags, **{f"@{at}": sample for at, sample in enumerate(self.referrers)}}

    def _tag(self, at: int) -> str:
        return self._random.choice((f"v{at}.0", f"{at}", f"_{at}", f"A-{at}_b.c", f"{at}" + "x" * 127))

    def _fresh(self) -> str:
        self._count += 1
        return f"{self._seed}/{self._count}"

    def _shared(self) -> list[bytes]:
        return self._random.sample(self._pool, self._random.randint(0, 2))

    def _image(self, *, docker: bool | None = None) -> Sample:
        is_docker = self._random.random() < 0.4 if docker is None else docker
        return images.image(
            layers=self._random.randint(0, 3),
            size=self._random.randrange(1, 20_000),
            seed=self._fresh(),
            docker=is_docker,
            platform=self._random.choice(_PLATFORMS),
            shared=self._shared(),
            state_media_type=is_docker or self._random.random() < 0.7,
        )

    def _index(self, *, docker: bool = False) -> Sample:
        return images.index(
            platforms=self._random.sample(_PLATFORMS[:-1], self._random.randint(1, 3)),
            layers=self._random.randint(0, 2),
            size=self._random.randrange(1, 3000),
            seed=self._fresh(),
            docker=docker,
            attestations=not docker and self._random.random() < 0.5,
            shared=self._shared(),
        )

    def _list(self) -> Sample:
        return self._index(docker=True)

    def _nested(self) -> Sample:
        return images.nested_index(depth=self._random.randint(2, 3), seed=self._fresh())

    def _artifact(self) -> Sample:
        return images.artifact(artifact_type=self._random.choice(_ODD_TYPES), seed=self._fresh())

    def _respelled(self, sample: Sample) -> Sample:
        """Write the top manifest in other bytes that mean the same: whitespace, order, members that nobody knows."""
        if self._random.random() < 0.4:
            return sample
        document = json.loads(sample.manifest.raw)
        members = list(document.items())
        self._random.shuffle(members)
        document = {**dict(members), "x-unknown": {"é": [1.50, None, "\u2028"]}}
        text = json.dumps(
            document, indent=self._random.choice((None, 1, "\t")), ensure_ascii=self._random.random() < 0.5
        )
        manifest = Manifest.parse(text.encode() + b"\n" * self._random.randint(0, 2), sample.manifest.media_type)
        return images.Sample(manifest=manifest, manifests=(*sample.children, manifest), blobs=sample.blobs)

    def _referrers(self) -> list[Sample]:
        """Return artifacts that refer to some images, and put what cosign hangs on a tag among the tags."""
        made: list[Sample] = []
        for sample in list(self.tags.values()):
            if self._random.random() < 0.5:
                subject = self._random.choice(sample.manifests)
                made.append(images.artifact(subject=subject, seed=self._fresh(), annotations={"of": "somebody"}))
        if made and self._random.random() < 0.5:
            made.append(images.artifact(subject=made[0].manifest, seed=self._fresh()))
        return made
