"""One repository of a layout tree, or a lone layout, as the engine's source and target."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from syncer.content import BlobOutcome, BlobSession
from syncer.errors import NotFound
from syncer.layout.graph import links, require_links
from syncer.layout.store import LayoutStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from syncer.layout.tree import LayoutTree
    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest
    from syncer.oci.manifest import Manifest


class LayoutRepository:
    """A repository on disk.

    Implements :class:`~syncer.content.Source`, :class:`~syncer.content.Target`,
    :class:`~syncer.content.ReferrerLister`, :class:`~syncer.content.Deleter`,
    :class:`~syncer.content.Filed`, :class:`~syncer.content.Linker` and :class:`~syncer.content.Examiner`.
    """

    def __init__(self, place: LayoutTree | LayoutStore, repository: str = "") -> None:
        """Stand for ``repository`` in a tree, or for the one image layout that a store is.

        Args:
            place: a tree, where the repository is made by its first write; or an opened store.
            repository: the name in the tree; for a store, what to call it (its directory's name).
        """
        self._place = place
        self._root = place.path if isinstance(place, LayoutStore) else place.root
        self._registry = f"layout:{self._root.absolute()}"
        self._repository = repository or self._root.name

    @property
    def registry(self) -> str:
        """``layout:`` and the absolute path of the tree, whose repositories can share blobs."""
        return self._registry

    @property
    def repository(self) -> str:
        """The name within the tree."""
        return self._repository

    async def _store(self, *, create: bool = False) -> LayoutStore:
        if isinstance(self._place, LayoutStore):
            return self._place
        return await self._place.store(self._repository, create=create)

    # ---------------------------------------------------------------- source

    async def resolve(self, reference: str) -> Descriptor:
        """Return what a tag or digest stands for, see :meth:`LayoutStore.resolve`."""
        return await (await self._store()).resolve(reference)

    async def fetch_manifest(self, reference: str) -> Manifest:
        """Return the manifest a tag or digest stands for, see :meth:`LayoutStore.manifest`."""
        return await (await self._store()).manifest(reference)

    @asynccontextmanager
    async def fetch_blob(self, descriptor: Descriptor) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Open a blob for reading, a mebibyte at a time.

        Raises:
            NotFound: on entering, when there is no such blob or repository.
        """
        store = await self._store()
        async with store.read_blob(descriptor.digest) as chunks:
            yield chunks

    async def blob_path(self, digest: Digest) -> Path:
        """Return the file that holds the blob, or would hold it."""
        return (await self._store()).blob_path(digest)

    async def tags(self) -> AsyncIterator[str]:
        """Yield every tag, in lexical order."""
        for tag in (await self._store()).tags():
            yield tag

    async def referrers(
        self,
        digest: Digest,
        artifact_type: str = "",
        *,
        known_tags: Collection[str] | None = None,  # noqa: ARG002 - no request to spare here
    ) -> list[Descriptor]:
        """Return the manifests whose subject is ``digest``, of one ``artifact_type`` when given."""
        found = await (await self._store()).referrers(digest)
        return [descriptor for descriptor in found if artifact_type in ("", descriptor.artifact_type)]

    # ---------------------------------------------------------------- target

    async def begin_blob(self, descriptor: Descriptor, *, mount_from: str = "") -> BlobSession | BlobOutcome:
        """Find the blob here, link it from ``mount_from``, or open a session for it.

        A file of the wrong size counts as absent, and the session replaces it.

        Raises:
            StorageFull, LayoutError: when the repository cannot be made or written.
        """
        store = await self._store(create=True)
        if await store.blob_size(descriptor.digest) == descriptor.size:
            return BlobOutcome.PRESENT
        if mount_from and await self._mount(store, descriptor, mount_from):
            return BlobOutcome.MOUNTED
        return _Session(store, descriptor)

    async def _mount(self, store: LayoutStore, descriptor: Descriptor, mount_from: str) -> bool:
        if isinstance(self._place, LayoutStore):
            return False
        try:
            origin = await self._place.store(mount_from)
        except NotFound:
            return False
        if await origin.blob_size(descriptor.digest) != descriptor.size:
            return False
        return await store.link(origin, descriptor.digest)

    async def link_blob(self, descriptor: Descriptor, file: Path) -> bool:
        """Share ``file`` by a hard link, once its bytes have been checked; False where that cannot be.

        Raises:
            StorageFull, LayoutError: when the repository cannot be made or written.
        """
        return await (await self._store(create=True)).share(file, descriptor)

    async def examine_blob(self, descriptor: Descriptor) -> bool:
        """Tell whether the blob is here, by its bytes; a file that has others is removed.

        Raises:
            LayoutError: when it cannot be read or removed.
        """
        try:
            store = await self._store()
        except NotFound:
            return False
        return await store.examine(descriptor)

    async def push_manifest(self, manifest: Manifest, tag: str = "") -> None:
        """Write a manifest, and ``tag`` when given.

        Raises:
            NotFound: when a blob or child manifest it links to is missing, naming each; layers that
                live elsewhere (foreign, with urls) need not be here.
            StorageFull, LayoutError: when it cannot be written.
        """
        store = await self._store(create=True)
        require_links(manifest, await store.present(links(manifest)), where=store.path)
        await store.put_manifest(manifest, tag)

    # ---------------------------------------------------------------- deletion

    async def delete_tag(self, tag: str) -> None:
        """Remove a tag and leave its manifest."""
        await (await self._store()).delete_tag(tag)

    async def delete_manifest(self, digest: Digest) -> None:
        """Remove a manifest, and with it every tag that points to it."""
        await (await self._store()).delete_manifest(digest)


class _Session:
    """A blob to be written; nothing is on disk before it is sent."""

    def __init__(self, store: LayoutStore, descriptor: Descriptor) -> None:
        self._store = store
        self._descriptor = descriptor

    async def send(self, opener: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
        """Read the blob from ``opener`` and put it in place; nothing is left behind when that fails."""
        async with opener() as chunks:
            await self._store.write_blob(self._descriptor, chunks)

    async def abort(self) -> None:
        """Give up: there is nothing to undo."""
