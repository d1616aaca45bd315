"""A registry in memory that checks the engine's promises at every write.

It stands for any place behind the content contracts: it records what was asked of it, holds the
invariant that nothing written links to something missing, and fails where a test tells it to.
"""

from __future__ import annotations

from collections import Counter, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from syncer.content import BlobOutcome
from syncer.errors import NotFound, ServerFailure
from syncer.oci import Descriptor, Digest, Manifest
from syncer.oci.referrers import is_companion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from contextlib import AbstractAsyncContextManager

    from tests.support.images import Sample

CHUNK = 256


@dataclass(kw_only=True)
class Operation:
    """One thing that was asked: a verb, the repository, and what it was about."""

    verb: str
    repository: str
    about: str


@dataclass
class MemoryRegistry:
    """Repositories by name, what was asked of them, and how they are to fail."""

    name: str = "memory"
    mounts: bool = True
    #: Answers PRESENT for a blob that the repository itself has.
    knows_itself: bool = True
    #: Names every missing digest when it refuses a manifest, or the first only.
    names_all_missing: bool = True
    #: Manifests that were refused since content was missing.
    refused: list[Digest] = field(default_factory=list)
    #: Manifests whose writes are acknowledged, and which are not given back: what a full disk left of them.
    hollow: set[Digest] = field(default_factory=set)
    referrers_api: bool = True
    log: list[Operation] = field(default_factory=list)
    blobs: dict[str, dict[Digest, bytes]] = field(default_factory=dict)
    manifests: dict[str, dict[Digest, Manifest]] = field(default_factory=dict)
    tagged: dict[str, dict[str, Digest]] = field(default_factory=dict)
    #: Errors to raise, by verb and what it is about; each is raised once.
    faults: dict[tuple[str, str], deque[Exception]] = field(default_factory=dict)
    #: Awaited before each answer; tests hold operations here.
    gate: Callable[[Operation], AbstractAsyncContextManager[None]] | None = None
    slots: int = 0
    most_slots: int = 0

    def repository(self, name: str) -> MemoryRepository:
        """Return a repository, which need not exist."""
        return MemoryRepository(self, name)

    def store(self, repository: str, sample: Sample, tag: str = "") -> None:
        """Put a sample where it is to be found, behind everybody's back."""
        self.blobs.setdefault(repository, {}).update(sample.blobs)
        self.manifests.setdefault(repository, {}).update({one.digest: one for one in sample.manifests})
        if tag:
            self.tagged.setdefault(repository, {})[tag] = sample.digest

    def fail(self, verb: str, about: str, error: Exception) -> None:
        """Raise ``error`` the next time ``verb`` is asked about ``about``."""
        self.faults.setdefault((verb, about), deque()).append(error)

    def counts(self, *verbs: str) -> Counter[str]:
        """Count what was asked, by verb."""
        return Counter(operation.verb for operation in self.log if not verbs or operation.verb in verbs)

    async def asked(self, verb: str, repository: str, about: str) -> None:
        """Take note, let others run, and fail when told to."""
        operation = Operation(verb=verb, repository=repository, about=about)
        self.log.append(operation)
        if self.gate is not None:
            async with self.gate(operation):
                pass
        await anyio.lowlevel.checkpoint()
        queue = self.faults.get((verb, about)) or self.faults.get((verb, "*"))
        if queue:
            raise queue.popleft()

    async def repositories(self, prefix: str = "") -> AsyncIterator[str]:
        """List the repositories."""
        await self.asked("catalog", "", prefix)
        for name in sorted(self.manifests):
            if name.startswith(prefix):
                yield name

    def assert_closed(self) -> None:
        """Every manifest's links are there: at any time, not only at the end."""
        for repository, manifests in self.manifests.items():
            for manifest in manifests.values():
                assert not self.missing(repository, manifest), f"{repository}@{manifest.digest} is incomplete"

    def missing(self, repository: str, manifest: Manifest) -> list[Digest]:
        """Return what ``manifest`` links to and the repository lacks."""
        blobs = self.blobs.get(repository, {})
        manifests = self.manifests.get(repository, {})
        return [
            *(blob.digest for blob in manifest.blobs() if blob.digest not in blobs),
            *(child.digest for child in manifest.manifests if child.digest not in manifests | blobs),
        ]


class MemorySession:
    """An upload."""

    def __init__(self, repository: MemoryRepository, descriptor: Descriptor) -> None:
        self._repository = repository
        self._descriptor = descriptor

    async def send(self, opener: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
        """Read it all, then commit."""
        registry = self._repository.place
        data = b""
        async with opener() as chunks:
            async for chunk in chunks:
                data += chunk
        await registry.asked("blob-put", self._repository.repository, self._descriptor.digest)
        assert self._descriptor.digest.matches(data), "the engine let wrong bytes through"
        registry.blobs.setdefault(self._repository.repository, {})[self._descriptor.digest] = data

    async def abort(self) -> None:
        """Give it up."""
        await self._repository.place.asked("blob-abort", self._repository.repository, self._descriptor.digest)


class MemoryRepository:
    """One repository: Source, Target, ReferrerLister and Throttled."""

    def __init__(self, place: MemoryRegistry, name: str) -> None:
        self.place = place
        self._name = name

    @property
    def registry(self) -> str:
        return self.place.name

    @property
    def repository(self) -> str:
        return self._name

    async def resolve(self, reference: str) -> Descriptor:
        await self.place.asked("head", self._name, reference)
        found = self._find(reference).descriptor
        if found.digest in self.place.hollow:
            raise ServerFailure("500", registry=self.place.name, method="HEAD", url="", status=500)
        return found

    async def fetch_manifest(self, reference: str) -> Manifest:
        await self.place.asked("get", self._name, reference)
        return self._find(reference)

    @asynccontextmanager
    async def fetch_blob(self, descriptor: Descriptor) -> AsyncIterator[AsyncIterator[bytes]]:
        await self.place.asked("blob-get", self._name, descriptor.digest)
        data = self.place.blobs.get(self._name, {}).get(descriptor.digest)
        if data is None:
            raise NotFound(f"no blob {descriptor.digest}")

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), CHUNK):
                await anyio.lowlevel.checkpoint()
                yield data[at : at + CHUNK]

        yield chunks()

    async def tags(self) -> AsyncIterator[str]:
        await self.place.asked("tags", self._name, "")
        if self._name not in self.place.manifests:
            raise NotFound(f"no repository {self._name}")
        for tag in sorted(self.place.tagged.get(self._name, {})):
            yield tag

    async def begin_blob(self, descriptor: Descriptor, *, mount_from: str = "") -> MemorySession | BlobOutcome:
        await self.place.asked("blob-post", self._name, descriptor.digest)
        mine = self.place.blobs.setdefault(self._name, {})
        if descriptor.digest in mine and self.place.knows_itself:
            return BlobOutcome.PRESENT
        theirs = self.place.blobs.get(mount_from, {})
        if self.place.mounts and descriptor.digest in theirs:
            mine[descriptor.digest] = theirs[descriptor.digest]
            return BlobOutcome.MOUNTED
        return MemorySession(self, descriptor)

    async def push_manifest(self, manifest: Manifest, tag: str = "") -> None:
        await self.place.asked("put", self._name, tag or manifest.digest)
        if missing := self.place.missing(self._name, manifest):
            self.place.refused.append(manifest.digest)
            error = NotFound(f"{manifest.digest} needs {missing}")
            error.missing = tuple(missing) if self.place.names_all_missing else tuple(missing[:1])
            raise error
        self.place.manifests.setdefault(self._name, {})[manifest.digest] = manifest
        if tag:
            self.place.tagged.setdefault(self._name, {})[tag] = manifest.digest

    async def referrers(
        self, digest: Digest, artifact_type: str = "", *, known_tags: Collection[str] | None = None
    ) -> list[Descriptor]:
        if known_tags is not None:
            assert all(is_companion(tag) for tag in known_tags)
        if not self.place.referrers_api:
            return []
        await self.place.asked("referrers", self._name, digest)
        found = [
            one.referrer_descriptor
            for one in self.place.manifests.get(self._name, {}).values()
            if one.subject and one.subject.digest == digest
        ]
        return [one for one in found if artifact_type in ("", one.artifact_type)]

    @asynccontextmanager
    async def data_slot(self, size: int = 0, partner: str = "", of: int = 1) -> AsyncIterator[None]:
        del size, partner, of
        self.place.slots += 1
        self.place.most_slots = max(self.place.most_slots, self.place.slots)
        try:
            yield
        finally:
            self.place.slots -= 1

    def _find(self, reference: str) -> Manifest:
        manifests = self.place.manifests.get(self._name, {})
        digest = self.place.tagged.get(self._name, {}).get(reference, reference)
        found = manifests.get(digest)  # type: ignore[call-overload]  # a tag is no key, which is the point
        if not isinstance(found, Manifest):
            raise NotFound(f"no manifest {self._name}:{reference}")
        return found
