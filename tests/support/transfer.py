"""Moving a sample to and from a place, as an engine would, without one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from syncer.content import BlobOutcome, verified

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from syncer.content import Source, Target
    from syncer.oci import Descriptor
    from tests.support.images import Sample


async def chunks_of(data: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Yield ``data`` in chunks of ``size`` bytes."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def opener_of(
    data: bytes, descriptor: Descriptor, *, size: int = 64 * 1024
) -> Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]:
    """Return an opener that gives ``data``, verified against ``descriptor``."""

    @asynccontextmanager
    async def opener() -> AsyncGenerator[AsyncIterator[bytes], None]:
        yield verified(chunks_of(data, size), descriptor)

    return opener


async def push_blob(target: Target, descriptor: Descriptor, data: bytes, *, mount_from: str = "") -> BlobOutcome:
    """Make one blob present in ``target``."""
    begun = await target.begin_blob(descriptor, mount_from=mount_from)
    if isinstance(begun, BlobOutcome):
        return begun
    await begun.send(opener_of(data, descriptor))
    return BlobOutcome.STREAMED


async def push(target: Target, sample: Sample, tag: str = "") -> None:
    """Write everything of ``sample``, children first, and its root under ``tag``."""
    for descriptor in sample.descriptors():
        await push_blob(target, descriptor, sample.blobs[descriptor.digest])
    for child in sample.children:
        await target.push_manifest(child)
    await target.push_manifest(sample.manifest, tag)


async def read_blob(source: Source, descriptor: Descriptor) -> bytes:
    """Read one blob whole."""
    async with source.fetch_blob(descriptor) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def check(source: Source, sample: Sample, reference: str) -> None:
    """Assert that ``reference`` in ``source`` is ``sample``, byte for byte, all the way down."""
    assert (await source.resolve(reference)).digest == sample.digest
    assert (await source.fetch_manifest(reference)).raw == sample.manifest.raw
    for manifest in sample.manifests:
        found = await source.fetch_manifest(manifest.digest)
        assert (found.raw, found.media_type) == (manifest.raw, manifest.media_type)
    for descriptor in sample.descriptors():
        assert await read_blob(source, descriptor) == sample.blobs[descriptor.digest]
