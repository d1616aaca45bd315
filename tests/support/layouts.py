"""Whether a layout on the disk is whole: as any other tool reads it, and as Syncer does.

What is not a coroutine blocks.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from syncer.errors import LayoutError, NotFound, SyncerError
from syncer.layout.store import LayoutStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from syncer.oci.manifest import Manifest

_REF_NAME = "org.opencontainers.image.ref.name"


@dataclass
class Layout:
    """What a layout holds: the digest of each tag, and every digest that has an entry."""

    tags: dict[str, str] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def read_layout(path: Path) -> Layout:
    """Read the layout at ``path`` by the image-spec alone, and note all that is wrong with it.

    Where there is no ``oci-layout`` there is no layout yet, and nothing is wrong.
    """
    layout = Layout()
    if not (path / "oci-layout").exists():
        return layout
    try:
        if json.loads((path / "oci-layout").read_bytes()) != {"imageLayoutVersion": "1.0.0"}:
            layout.problems.append("oci-layout does not say its version")
        index = json.loads((path / "index.json").read_bytes())
    except (OSError, ValueError) as error:
        layout.problems.append(f"the layout cannot be read: {error}")
        return layout
    if index.get("schemaVersion") != 2:
        layout.problems.append("index.json is no index")
    for entry in index["manifests"]:
        layout.digests.add(entry["digest"])
        if tag := entry.get("annotations", {}).get(_REF_NAME):
            layout.tags[tag] = entry["digest"]
        name = f"index.json's {tag or entry['digest']}"
        layout.problems += [f"{name}: {problem}" for problem in missing_below(path, entry)]
    layout.problems += wrong_blobs(path)
    return layout


def read_tree(root: Path) -> dict[str, Layout]:
    """Read every layout below ``root``, by its path below it."""
    return {
        str(marker.parent.relative_to(root)): read_layout(marker.parent) for marker in sorted(root.rglob("oci-layout"))
    }


def wrong_blobs(path: Path) -> Iterator[str]:
    """Yield what is below ``blobs`` and is no blob of its name."""
    for blob in sorted((path / "blobs").glob("*/*")):
        if hashlib.new(blob.parent.name, blob.read_bytes()).hexdigest() != blob.name:
            yield f"{blob.name} is not the digest of its bytes"


def missing_below(path: Path, descriptor: dict[str, Any]) -> Iterator[str]:
    """Yield what a manifest, and all that it links to at any depth, lacks."""
    raw = _blob(path, descriptor)
    if raw is None:
        yield f"{descriptor['digest']} is missing"
        return
    if len(raw) != descriptor["size"]:
        yield f"{descriptor['digest']} has {len(raw)} bytes in place of {descriptor['size']}"
    manifest = json.loads(raw)
    for child in manifest.get("manifests", []):
        yield from missing_below(path, child)
    for blob in [*([manifest["config"]] if "config" in manifest else []), *manifest.get("layers", [])]:
        file = path / "blobs" / blob["digest"].replace(":", "/")
        if not file.exists():
            yield f"{blob['digest']} is missing"
        elif file.stat().st_size != blob["size"]:
            yield f"{blob['digest']} has {file.stat().st_size} bytes in place of {blob['size']}"


def leftovers(path: Path) -> list[str]:
    """Return the names of what a writer that is done must not leave, anywhere below ``path``."""
    places = (*path.rglob(".syncer/tmp/*"), *path.rglob("*.tmp-*"))
    return sorted(str(place.relative_to(path)) for place in places)


def _blob(path: Path, descriptor: dict[str, Any]) -> bytes | None:
    file = path / "blobs" / descriptor["digest"].replace(":", "/")
    return file.read_bytes() if file.exists() else None


def read_dir(path: Path, tag: str) -> Layout:
    """Read a directory of Skopeo's ``dir`` transport at ``path`` as a layout whose image has ``tag``."""
    layout = Layout()
    manifest = path / "manifest.json"
    if not manifest.exists():
        return layout
    layout.tags[tag] = f"sha256:{hashlib.sha256(manifest.read_bytes()).hexdigest()}"
    layout.problems += _missing_beside(path, json.loads(manifest.read_bytes()))
    if not (path / "version").read_bytes().startswith(b"Directory Transport Version: 1."):
        layout.problems.append("version does not say what this is")
    return layout


def _missing_beside(path: Path, manifest: dict[str, Any]) -> Iterator[str]:
    for child in manifest.get("manifests", []):
        file = path / f"{child['digest'].partition(':')[2]}.manifest.json"
        if not file.exists():
            yield f"{child['digest']} is missing"
        elif f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" != child["digest"]:
            yield f"{file.name} is another"
        else:
            yield from _missing_beside(path, json.loads(file.read_bytes()))
    for blob in [*([manifest["config"]] if "config" in manifest else []), *manifest.get("layers", [])]:
        name = blob["digest"].partition(":")[2]
        if not (path / name).exists():
            yield f"{blob['digest']} is missing"
        elif hashlib.sha256((path / name).read_bytes()).hexdigest() != name:
            yield f"{blob['digest']} is not the digest of its bytes"


async def read_with_journal(path: Path) -> Layout:
    """Read the layout at ``path`` as Syncer does, with its journal, beside whoever may be writing it.

    Noted as wrong is what a tag stands for and lacks, at any depth.
    """
    layout = Layout()
    try:
        store = await LayoutStore.open(path)
    except (LayoutError, NotFound) as error:
        if await anyio.Path(path / "oci-layout").exists():
            layout.problems.append(f"with its journal it cannot be read: {error}")
        return layout
    for tag in store.tags():
        pending = [await _found(store, tag, layout)]
        layout.tags[tag] = str(pending[0].digest) if pending[0] else ""
        while pending:
            manifest = pending.pop()
            if manifest is None:
                continue
            layout.digests.add(str(manifest.digest))
            blobs = [blob.digest for blob in manifest.blobs()]
            missing = set(blobs) - await store.present(blobs)
            layout.problems += [f"with its journal {tag} lacks {digest}" for digest in sorted(missing)]
            pending += [await _found(store, child.digest, layout) for child in manifest.manifests]
    return layout


async def _found(store: LayoutStore, reference: str, layout: Layout) -> Manifest | None:
    try:
        return await store.manifest(reference)
    except SyncerError as error:
        layout.problems.append(f"with its journal: {error}")
        return None
