"""What Syncer itself makes of a layout: opened as a reader, beside whoever may be writing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from syncer.errors import LayoutError, NotFound, SyncerError
from syncer.layout.store import LayoutStore
from tests.support.layouts.findings import Finding, Flaw, Layout
from tests.support.layouts.reading import read_tree

if TYPE_CHECKING:
    from pathlib import Path

    from syncer.oci.manifest import Manifest


async def open_layout(path: Path) -> Layout:
    """Open the layout at ``path``, and find what its tags stand for and lack, at any depth.

    Where there is no ``oci-layout`` there is no layout yet, and nothing is wrong.
    """
    layout = Layout()
    try:
        store = await LayoutStore.open(path)
    except (LayoutError, NotFound) as error:
        if await anyio.Path(path / "oci-layout").exists():
            layout.findings.append(Finding(Flaw.REFUSED, "the layout", f"cannot be opened: {error}"))
        return layout
    for tag in store.tags():
        pending = [await _found(store, tag, layout)]
        layout.tags[tag] = str(pending[0].digest) if pending[0] else ""
        while pending:
            manifest = pending.pop()
            if manifest is None:
                continue
            layout.digests.add(str(manifest.digest))
            layout.findings += await _wrong_blobs(store, manifest, tag)
            pending += [await _found(store, child.digest, layout) for child in manifest.manifests]
    return layout


async def told_of_tree(root: Path) -> list[str]:
    """Say what is wrong with each layout below ``root``, as other tools see it and when it is opened."""
    told: list[str] = []
    for name, layout in (await to_thread.run_sync(read_tree, root)).items():
        told += [*layout.told(name), *(await open_layout(root / name)).told(name)]
    return told


async def _wrong_blobs(store: LayoutStore, manifest: Manifest, tag: str) -> list[Finding]:
    blobs = [blob.digest for blob in manifest.blobs()]
    try:
        missing = set(blobs) - await store.present(blobs)
    except SyncerError as error:
        return [Finding(Flaw.REFUSED, str(manifest.digest), f"cannot be brought, below {tag}: {error}")]
    return [Finding(Flaw.MISSING, str(digest), f"is missing below {tag}, when opened") for digest in sorted(missing)]


async def _found(store: LayoutStore, reference: str, layout: Layout) -> Manifest | None:
    try:
        return await store.manifest(reference)
    except SyncerError as error:
        layout.findings.append(Finding(Flaw.REFUSED, reference, f"cannot be read: {error}"))
        return None
