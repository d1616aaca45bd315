"""One OCI image layout directory (image-spec, image-layout.md), as a place to read and write."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from syncer.errors import ContentError, LayoutError, NotFound, StorageFull
from syncer.layout import files
from syncer.layout.blobs import absent, holds, reading, share_blob, write_blob
from syncer.layout.graph import find_manifest, stated_media_type
from syncer.layout.index import Put, Remove, Untag
from syncer.layout.ledger import LAYOUT_FILE, Ledger
from syncer.oci.manifest import MAX_MANIFEST_SIZE, Manifest
from syncer.oci.reference import check_tag

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import Self

    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest


class LayoutStore:
    """An OCI image layout: blobs as files, tags and manifests in memory since it was opened.

    One process at a time may write; it is the one that wrote first. What a call has returned from
    survives ``kill -9``, and a power cut when ``durable``.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Wrap an opened ledger; use :meth:`open`."""
        self.path = ledger.path
        self._ledger = ledger

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        create: bool = False,
        durable: bool = True,
        before_writing: Callable[[], None] | None = None,
    ) -> Self:
        """Open the layout at ``path``.

        Args:
            path: its directory.
            create: make an empty layout when there is none, and be its writer from now on.
            durable: sync files and directories, so that what was acknowledged survives a power cut.
            before_writing: called in a worker thread when this object becomes the writer; may refuse.

        Raises:
            NotFound: when there is nothing at ``path`` and ``create`` is not set.
            LayoutError: when it is no layout, is damaged, has a version that is not known, or is to
                be created and another process writes to it.
        """
        ledger = Ledger(path, durable=durable, before_writing=before_writing)

        def start() -> None:
            if create:
                ledger.create()
            elif not path.exists():
                raise NotFound(f"there is no OCI layout at {path}", hint="Check the path.")
            else:
                ledger.load()

        await run_sync(start)
        return cls(ledger)

    async def close(self) -> None:
        """Bring index.json up to date and let other processes write; a later change takes that back."""
        with anyio.CancelScope(shield=True):
            await run_sync(self._ledger.close)

    async def flush(self) -> None:
        """Bring index.json up to date, so that other tools see everything."""
        await run_sync(self._ledger.compact)

    @property
    def is_dirty(self) -> bool:
        """True when index.json does not have everything yet."""
        return self._ledger.is_dirty

    # ---------------------------------------------------------------- blobs

    def blob_path(self, digest: Digest) -> Path:
        """Return where the blob is, or would be.

        Raises:
            NotFound: when it is a manifest that was deleted and whose file is still to go.
        """
        if digest in self._ledger.blobs.hidden:
            raise absent(digest, self.path)
        return self._ledger.blobs.path(digest)

    async def blob_size(self, digest: Digest) -> int | None:
        """Return the size of a blob or manifest in bytes; None when it is not here."""
        return await run_sync(self._ledger.blobs.size, digest)

    async def present(self, digests: Sequence[Digest]) -> set[Digest]:
        """Return those of ``digests`` whose blobs are here, in one visit to a thread."""
        size = self._ledger.blobs.size
        return await run_sync(lambda: {digest for digest in digests if size(digest) is not None})

    def read_blob(self, digest: Digest) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob for reading, a mebibyte at a time.

        Raises:
            NotFound: on entering, when it is not here.
            LayoutError: when it is a link or cannot be read.
        """
        return reading(lambda: self._ledger.blobs.open(digest))

    async def adopt(self, file: Path, digest: Digest) -> None:
        """Move ``file`` into place; it was verified, and lies on the same file system. Done already is done.

        Raises:
            StorageFull, LayoutError: when it cannot be moved.
        """

        def move() -> None:
            self._ledger.begin()
            self._ledger.blobs.adopt(file, digest)

        await run_sync(move)

    async def link(self, origin: LayoutStore, digest: Digest) -> bool:
        """Share the blob's file with another store, by a hard link or else a copy; False when it lacks it.

        Raises:
            StorageFull, LayoutError: when it can be neither linked nor copied.
        """

        def share() -> bool:
            self._ledger.begin()
            return self._ledger.blobs.link(origin._ledger.blobs, digest)

        return await run_sync(share)

    async def share(self, file: Path, descriptor: Descriptor) -> bool:
        """Make ``file``, whoever's it is, the blob of this layout as well; see ``share_blob``."""
        await run_sync(self._ledger.begin)
        return await share_blob(self._ledger.blobs, descriptor, file)

    async def examine(self, descriptor: Descriptor) -> bool:
        """Tell whether the blob is here, byte for byte; a file that is not the blob is removed, to be written anew.

        Raises:
            StorageFull, LayoutError: when it cannot be read, or not be removed.
        """
        if await self.blob_size(descriptor.digest) is None:
            return False
        if await holds(self.blob_path(descriptor.digest), descriptor):
            return True
        await run_sync(self._ledger.begin)
        await run_sync(self._ledger.blobs.remove, descriptor.digest)
        return False

    async def write_blob(self, descriptor: Descriptor, chunks: AsyncIterator[bytes]) -> None:
        """Write a blob that the caller verifies; it is in place when ``chunks`` has ended normally, else not at all.

        Raises:
            SizeMismatch: when there are more or fewer bytes than the descriptor says.
            StorageFull, LayoutError: when it cannot be written.
        """
        await run_sync(self._ledger.begin)
        await write_blob(self._ledger.blobs, descriptor, chunks)

    async def delete_blob(self, digest: Digest) -> None:
        """Remove a blob.

        Raises:
            NotFound: when it is not here, or is a manifest that is listed here.
        """

        def remove() -> None:
            if self._ledger.index.find(digest) is not None:
                raise NotFound(f"{digest} is a manifest in {self.path}, not a blob")
            if self._ledger.blobs.size(digest) is None:
                raise absent(digest, self.path)
            self._ledger.begin()
            if self._ledger.blobs.hidden:
                # The blob may be what a deleted manifest linked to, and index.json may still list that. A disk that is
                # too full for a new one is to be made room on.
                with suppress(StorageFull):
                    self._ledger.compact()
            self._ledger.blobs.remove(digest)

        await run_sync(remove)

    # ---------------------------------------------------------------- manifests and tags

    def tags(self) -> list[str]:
        """Return every tag, in lexical order."""
        return self._ledger.index.tags()

    def tag_digests(self, tags: Iterable[str]) -> dict[str, Digest]:
        """Return what each of ``tags`` stands for, without those that are gone."""
        return self._ledger.index.tag_digests(tags)

    async def resolve(self, reference: str) -> Descriptor:
        """Return the media type, digest and size of what a tag or digest stands for.

        An empty reference stands for the image of a layout that has no other.

        Raises:
            NotFound: when there is no such tag or manifest.
            InvalidDigest: when the reference has a colon and is no digest.
        """
        found = self._ledger.index.find(reference)
        if found is not None and found.media_type:
            return found
        return (await self.manifest(reference)).descriptor

    async def manifest(self, reference: str) -> Manifest:
        """Return the manifest a tag or digest stands for; its bytes are hashed.

        Raises:
            NotFound: when there is no such tag or manifest.
            DigestMismatch, MalformedManifest: when its file is damaged.
        """
        return await run_sync(self._manifest, reference)

    def _manifest(self, reference: str) -> Manifest:
        blobs = self._ledger.blobs
        return find_manifest(
            self._ledger.index, reference, lambda digest: blobs.read(digest, limit=MAX_MANIFEST_SIZE), where=self.path
        )

    async def put_manifest(self, manifest: Manifest, tag: str = "") -> None:
        """Write a manifest, and ``tag`` when given; what it links to is not looked at.

        Raises:
            InvalidReference: when ``tag`` breaks the grammar.
            StorageFull, LayoutError: when it cannot be written.
        """
        if tag:
            check_tag(tag)
        await run_sync(self._put_manifest, manifest, tag)

    def _put_manifest(self, manifest: Manifest, tag: str) -> None:
        self._ledger.begin()
        self._ledger.blobs.write(manifest.digest, manifest.raw)
        change = Put(
            descriptor=manifest.descriptor,
            tag=tag,
            covers=tuple(child.digest for child in manifest.manifests if self._is_covered(child)),
            subject=manifest.subject.digest if manifest.subject else None,
            referrer=manifest.referrer_descriptor if manifest.subject else None,
        )
        if not self._ledger.index.holds(change):
            self._ledger.commit(change)

    def _is_covered(self, child: Descriptor) -> bool:
        """Tell whether an index entry of this very type is enough for the child to be found again."""
        if not self._ledger.index.is_listed(child.digest):
            return False
        known = self._ledger.index.find(child.digest)
        try:
            raw = self._ledger.blobs.read(child.digest, limit=MAX_MANIFEST_SIZE)
        except (ContentError, LayoutError):
            return False
        return known is not None and known.media_type == child.media_type == stated_media_type(raw)

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """Return the manifests whose subject is ``digest``, with artifactType and annotations."""
        if not self._ledger.index.knows_subjects:
            await run_sync(self._ledger.learn_subjects)
        return self._ledger.index.referrers(digest)

    async def delete_tag(self, tag: str) -> None:
        """Remove a tag; its manifest stays.

        Raises:
            NotFound: when there is no such tag.
        """

        def remove() -> None:
            self._ledger.begin()
            if not self._ledger.index.has_tag(tag):
                raise NotFound(f"there is no tag {tag!r} in {self.path}")
            self._ledger.commit(Untag(tag=tag))

        await run_sync(remove)

    async def delete_manifest(self, digest: Digest) -> None:
        """Remove a manifest and all its tags.

        Raises:
            NotFound: when there is no such manifest.
        """
        await run_sync(self._delete_manifest, digest)

    def _delete_manifest(self, digest: Digest) -> None:
        self._ledger.begin()
        try:
            manifest = self._manifest(digest)
        except ContentError:
            # A damaged or missing file must not keep its entry alive.
            if self._ledger.index.find(digest) is None:
                raise
            orphans: tuple[Descriptor, ...] = ()
        else:
            orphans = tuple(child for child in manifest.manifests if self._is_orphaned(child))
        self._ledger.commit(Remove(digest=digest, orphans=orphans))

    def _is_orphaned(self, child: Descriptor) -> bool:
        if self._ledger.index.find(child.digest) is not None:
            return False
        return self._ledger.blobs.size(child.digest) is not None


def is_layout(path: Path) -> bool:
    """Tell whether there is an image layout at ``path``; blocks, for a worker thread."""
    return files.regular_size(path / LAYOUT_FILE) is not None
