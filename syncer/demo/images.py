"""The demo's repositories: three of them, eleven tags, two platforms, signatures and an SBOM.

The layers of ``library/base`` are also those of ``team/api`` and ``team/web``, so a sync moves each of
them once and mounts it twice.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from syncer.content import BlobOutcome
from syncer.demo.artifacts import describe, encode, sbom_artifact, signature_artifact, signature_tag
from syncer.demo.recipes import API, BASE, PLATFORMS, RECIPES, WEB, make_layer
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.referrers import cosign_tags

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from syncer.content import Target
    from syncer.demo.layers import File, Layer
    from syncer.demo.recipes import Recipe
    from syncer.oci.platform import Platform

_CHUNK = 256 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """A blob and its bytes."""

    descriptor: Descriptor
    data: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoRepository:
    """A repository: its blobs, its manifests in the order to push them, and what its tags stand for."""

    name: str
    blobs: Mapping[Digest, Blob] = field(repr=False)
    manifests: tuple[Manifest, ...]
    tags: Mapping[str, Digest]

    @property
    def size(self) -> int:
        """The bytes of the blobs."""
        return sum(blob.descriptor.size for blob in self.blobs.values())


def demo_content() -> list[DemoRepository]:
    """Build everything: about 15 MB in a second or two, on as many processors as there are.

    It computes and reads files; call it in a thread. The result is the same every time on one Python.
    """
    names = sorted({name for recipe in RECIPES for platform in PLATFORMS for name in recipe.layer_names(platform)})
    with ThreadPoolExecutor(thread_name_prefix="demo") as pool:
        built = dict(zip(names, pool.map(make_layer, names), strict=True))
    return [_repository(name, built) for name in (BASE, API, WEB)]


async def fill(target_for: Callable[[str], Target], content: Iterable[DemoRepository] | None = None) -> None:
    """Push the demo's repositories, or ``content``, to the targets that ``target_for`` gives for their names.

    Raises:
        RegistryError, LayoutError: as the targets do.
    """
    if content is None:
        content = await to_thread.run_sync(demo_content)
    homes: dict[tuple[str, Digest], str] = {}
    for repository in content:
        target = target_for(repository.name)
        for blob in repository.blobs.values():
            home = homes.get((target.registry, blob.descriptor.digest), "")
            session = await target.begin_blob(blob.descriptor, mount_from=home)
            if not isinstance(session, BlobOutcome):
                await session.send(partial(_reading, blob.data))
        homes |= {(target.registry, digest): repository.name for digest in repository.blobs}
        for manifest in repository.manifests:
            tags = [tag for tag, digest in repository.tags.items() if digest == manifest.digest]
            for tag in tags or [""]:
                await target.push_manifest(manifest, tag)


@asynccontextmanager
async def _reading(data: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
    yield _chunks(data)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


class _Collection:
    """A repository while it is put together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.blobs: dict[Digest, Blob] = {}
        self.manifests: list[Manifest] = []
        self.tags: dict[str, Digest] = {}

    def add(self, manifest: Manifest, blobs: Iterable[bytes] = (), *, tag: str = "") -> Manifest:
        """Add a manifest, with the bytes of what it links to that are not there yet."""
        descriptors = {descriptor.digest: descriptor for descriptor in manifest.blobs()}
        for data in blobs:
            digest = Digest.of(data)
            self.blobs.setdefault(digest, Blob(descriptor=descriptors[digest], data=data))
        self.manifests.append(manifest)
        if tag:
            self.tags[tag] = manifest.digest
        return manifest


def _repository(name: str, built: Mapping[str, Layer]) -> DemoRepository:
    collection = _Collection(name)
    for recipe in RECIPES:
        if recipe.repository == name:
            index = _add_image(collection, recipe, built)
            if (name, recipe.version) == (BASE, "2.0"):
                collection.tags["latest"] = index.digest
                manifest, blobs = signature_tag(name, index, recipe.created)
                collection.add(manifest, blobs, tag=cosign_tags(index.digest)[0])
            if (name, recipe.version) == (API, "v2"):
                collection.add(*signature_artifact(name, index, recipe.created))
                files = _files(built[layer] for layer in recipe.layer_names(PLATFORMS[0]))
                collection.add(*sbom_artifact(f"{name}:{recipe.version}", index, files, recipe.created))
    return DemoRepository(
        name=name, blobs=collection.blobs, manifests=tuple(collection.manifests), tags=collection.tags
    )


def _add_image(collection: _Collection, recipe: Recipe, built: Mapping[str, Layer]) -> Manifest:
    children = []
    for platform in PLATFORMS:
        stack = [built[name] for name in recipe.layer_names(platform)]
        config = encode(_config(recipe, platform, stack))
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": describe(config, media_types.OCI_CONFIG).to_json(),
            "layers": [layer.descriptor.to_json() for layer in stack],
        }
        child = collection.add(Manifest.parse(encode(document)), (config, *(layer.data for layer in stack)))
        children.append(
            Descriptor(media_type=child.media_type, digest=child.digest, size=child.size, platform=platform)
        )
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [child.to_json() for child in children],
        "annotations": {
            "org.opencontainers.image.created": recipe.created,
            "org.opencontainers.image.title": recipe.repository,
            "org.opencontainers.image.version": recipe.version,
        },
    }
    return collection.add(Manifest.parse(encode(document)), tag=recipe.version)


def _config(recipe: Recipe, platform: Platform, stack: Iterable[Layer]) -> dict[str, object]:
    """Return an image configuration (image-spec, config.md)."""
    stack = list(stack)
    history: list[dict[str, object]] = [{"created": recipe.created, "created_by": layer.created_by} for layer in stack]
    entrypoint = f"ENTRYPOINT {json.dumps(recipe.entrypoint)}"
    history.append({"created": recipe.created, "created_by": entrypoint, "empty_layer": True})
    return {
        "created": recipe.created,
        "author": "syncer demo",
        **platform.to_json(),
        "config": {
            "Env": ["PATH=/usr/bin:/bin", "PYTHONHOME=/usr"],
            "Entrypoint": list(recipe.entrypoint),
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": recipe.repository,
                "org.opencontainers.image.version": recipe.version,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in stack]},
        "history": history,
    }


def _files(stack: Iterable[Layer]) -> list[File]:
    """Return the files of an image: a layer's file hides one of the same path below."""
    return list({file.path: file for layer in stack for file in layer.files}.values())
