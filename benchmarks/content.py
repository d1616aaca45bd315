"""What is copied: repositories of images whose layers are real archives of bytes that do not compress.

The same arguments give the same bytes. Large blobs are made again when they are needed instead of kept.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio

from syncer.app.places import Opened, Reach
from syncer.app.surroundings import OFF, Surroundings
from syncer.content import BlobOutcome
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from benchmarks.servers import Server
    from syncer.content import Target
    from syncer.events import Event

T = TypeVar("T")

#: Images that are pushed, or checked, at once in a repository, and repositories.
_WIDTH = 8
_PIECE = 16 * 1024 * 1024
#: Bytes from which on it is cheaper to make a blob again than to keep it.
_LARGE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A blob, and how its bytes are made."""

    descriptor: Descriptor
    make: Callable[[], bytes] = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image under a tag."""

    tag: str
    manifest: Manifest
    blobs: tuple[Blob, ...]


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Images under a name."""

    name: str
    images: tuple[Image, ...]

    @property
    def tags(self) -> list[str]:
        """The tags, in order."""
        return [image.tag for image in self.images]

    @property
    def blobs(self) -> dict[Digest, Blob]:
        """Every blob, once."""
        return {blob.descriptor.digest: blob for image in self.images for blob in image.blobs}


class Nobody:
    """An observer that does not listen."""

    def notify(self, event: Event) -> None:
        """Let ``event`` pass."""


def layer(name: str, size: int) -> Blob:
    """Return a layer of about ``size`` bytes; a gzip archive, as skopeo would compress anything else on its way."""
    make = partial(_layer, name, size)
    data = make()
    descriptor = Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=Digest.of(data), size=len(data))
    return Blob(descriptor=descriptor, make=make if size > _LARGE else partial(bytes, data))


def image(tag: str, layers: Sequence[Blob], **annotations: str) -> Image:
    """Return an image of ``layers``; annotations make a manifest of its own of the same blobs."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            # Nobody unpacks it, so that the digests of the archives may be those of the compressed layers.
            "rootfs": {"type": "layers", "diff_ids": [str(blob.descriptor.digest) for blob in layers]},
        }
    ).encode()
    descriptor = Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(config), size=len(config))
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptor.to_json(),
        "layers": [blob.descriptor.to_json() for blob in layers],
        **({"annotations": annotations} if annotations else {}),
    }
    blobs = (*layers, Blob(descriptor=descriptor, make=partial(bytes, config)))
    return Image(tag=tag, manifest=Manifest.parse(json.dumps(document).encode()), blobs=blobs)


def fill(server: Server, repositories: Iterable[Repository]) -> None:
    """Push the repositories to ``server``."""

    async def push(opened: Opened, repository: Repository) -> None:
        reference = Reference(registry=server.direct, repository=repository.name)
        target = await opened.target(reference, _reach(server))
        # What they share is there once the first of them is.
        first, *others = repository.images
        await _push(target, first, frozenset())
        there = frozenset(blob.descriptor.digest for blob in first.blobs)
        await _side_by_side(others, lambda image: _push(target, image, there))

    async def push_all() -> None:
        async with _opened() as opened:
            await _side_by_side(list(repositories), partial(push, opened))

    anyio.run(push_all)


def count_wrong(server: Server, repositories: Iterable[Repository]) -> int:
    """Return how many tags of ``server`` are missing, unexpected, or not the image they should be."""

    async def count(opened: Opened, repository: Repository) -> int:
        reference = Reference(registry=server.direct, repository=repository.name)
        source = await opened.source(reference, _reach(server))
        wanted = {one.tag: one.manifest.digest for one in repository.images}
        found: dict[str, Digest] = {}

        async def resolve(tag: str) -> None:
            found[tag] = (await source.resolve(tag)).digest

        await _side_by_side([tag async for tag in source.tags()], resolve)
        return sum(found.get(tag) != wanted.get(tag) for tag in found.keys() | wanted.keys())

    async def count_all() -> int:
        counts: list[int] = []
        async with _opened() as opened:

            async def add(repository: Repository) -> None:
                counts.append(await count(opened, repository))

            await _side_by_side(list(repositories), add)
        return sum(counts)

    return anyio.run(count_all)


@asynccontextmanager
async def _opened() -> AsyncIterator[Opened]:
    async with Opened(Surroundings(environ={}, home=Path("/nonexistent"), registries_conf=OFF), Nobody()) as opened:
        yield opened


def _reach(server: Server) -> Reach:
    return Reach(plain_http=server.ca is None, ca=str(server.ca or ""))


async def _side_by_side(things: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Do the work for each thing, some of them at once."""

    async def some(ours: Sequence[T]) -> None:
        for thing in ours:
            await work(thing)

    async with anyio.create_task_group() as group:
        for at in range(min(_WIDTH, len(things))):
            group.start_soon(some, things[at::_WIDTH])


async def _push(target: Target, one: Image, there: AbstractSet[Digest]) -> None:
    for blob in one.blobs:
        if blob.descriptor.digest in there:
            continue
        session = await target.begin_blob(blob.descriptor, mount_from=target.repository)
        if not isinstance(session, BlobOutcome):
            await session.send(partial(_chunks, blob.make()))
    await target.push_manifest(one.manifest, one.tag)


@asynccontextmanager
async def _chunks(data: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), _PIECE):
            yield data[start : start + _PIECE]

    yield pieces()


def _layer(name: str, size: int) -> bytes:
    source = random.Random(name)  # noqa: S311 - bytes that do not compress, not secrets
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("data")
        entry.size = size
        content = b"".join(source.randbytes(min(_PIECE, size - start)) for start in range(0, size, _PIECE))
        archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getbuffer(), compresslevel=0, mtime=0)
