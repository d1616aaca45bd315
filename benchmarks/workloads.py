"""What is copied: one repository of many tags that share most of their layers."""

from __future__ import annotations

import hashlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from syncer.app.places import Opened
from syncer.app.surroundings import Surroundings
from syncer.content import BlobOutcome
from syncer.demo.layers import File, build_layer
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from syncer.content import Target
    from syncer.demo.layers import Layer
    from syncer.events import Event

REPOSITORY = "bench/app"
#: One tag, for the tools to warm up with.
WARM_UP = "bench/warm"
SHARED_LAYERS = 5
SHARED_BYTES = 300_000
UNIQUE_BYTES = 20_000
#: Images that are pushed, or checked, at once.
_WIDTH = 8


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image with everything it is made of."""

    tag: str
    manifest: Manifest
    blobs: dict[Descriptor, bytes]


class Nobody:
    """An observer that does not listen."""

    def notify(self, event: Event) -> None:
        """Let ``event`` pass."""


def images(count: int) -> list[Image]:
    """Return ``count`` images, the same ones every time: shared layers below, a layer of its own on top."""
    shared = [_layer(f"shared {number}", SHARED_BYTES) for number in range(SHARED_LAYERS)]
    return [_image(f"v{number:05}", [*shared, _layer(f"unique {number}", UNIQUE_BYTES)]) for number in range(count)]


def fill(host: str, repository: str, content: list[Image]) -> None:
    """Push the images to a registry."""

    async def push_all() -> None:
        async with _opened() as opened:
            target = await opened.target(Reference(registry=host, repository=repository))
            # What they share is there once the first of them is.
            await _push(target, content[0])
            limiter = anyio.CapacityLimiter(_WIDTH)
            async with anyio.create_task_group() as group:
                for image in content[1:]:
                    group.start_soon(_limited, limiter, target, image)

    anyio.run(push_all)


def count_wrong(host: str, repository: str, content: list[Image]) -> int:
    """Return how many tags of the repository are missing, unexpected, or not the image they should be."""

    async def count() -> int:
        async with _opened() as opened:
            source = await opened.source(Reference(registry=host, repository=repository))
            wanted = {image.tag: image.manifest.digest for image in content}
            found: dict[str, Digest] = {}
            async for tag in source.tags():
                found[tag] = (await source.resolve(tag)).digest
            return sum(found.get(tag) != wanted.get(tag) for tag in found.keys() | wanted.keys())

    return anyio.run(count)


@asynccontextmanager
async def _opened() -> AsyncIterator[Opened]:
    async with Opened(Surroundings(environ={}, home=Path("/nonexistent")), Nobody()) as opened:
        yield opened


async def _limited(limiter: anyio.CapacityLimiter, target: Target, image: Image) -> None:
    async with limiter:
        await _push(target, image)


async def _push(target: Target, image: Image) -> None:
    for descriptor, data in image.blobs.items():
        session = await target.begin_blob(descriptor, mount_from=target.repository)
        if not isinstance(session, BlobOutcome):
            await session.send(partial(_chunks, data))
    await target.push_manifest(image.manifest, image.tag)


@asynccontextmanager
async def _chunks(data: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
    async def once() -> AsyncIterator[bytes]:
        yield data

    yield once()


def _layer(name: str, size: int) -> Layer:
    # Bytes that do not compress, in a real archive: skopeo would compress anything else on its way.
    data = hashlib.shake_256(name.encode()).digest(size)
    return build_layer(name, [File(path="data", data=data)])


def _image(tag: str, layers: list[Layer]) -> Image:
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
        }
    ).encode()
    descriptor = Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(config), size=len(config))
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptor.to_json(),
        "layers": [layer.descriptor.to_json() for layer in layers],
    }
    blobs = {layer.descriptor: layer.data for layer in layers} | {descriptor: config}
    return Image(tag=tag, manifest=Manifest.parse(json.dumps(document).encode()), blobs=blobs)
