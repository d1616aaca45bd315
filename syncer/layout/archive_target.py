"""Writing an OCI archive: one tar file, any number of blobs at the same time."""

from __future__ import annotations

import os
import tarfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from syncer.content import BlobOutcome, BlobSession
from syncer.errors import LayoutError
from syncer.layout import files
from syncer.layout.archive import Archive, no_file
from syncer.layout.blobs import pour
from syncer.layout.graph import links, require_links, stated_media_type
from syncer.layout.index import Put
from syncer.layout.ledger import INDEX_FILE, LAYOUT_FILE, version_text
from syncer.oci.reference import check_tag

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest
    from syncer.oci.manifest import Manifest

_BLOCK = tarfile.BLOCKSIZE


class ArchiveTarget(Archive):
    """An archive to write; an existing one at the path is replaced as a whole, never merged with.

    It is written beside its place and renamed by :meth:`close`, so that there is the old archive
    or the new one at any instant; :meth:`abort` leaves nothing, and what a writer that was killed
    left beside its place is removed by the next one. As an asynchronous context manager it closes at
    the end of the block, and aborts when the block raises.

    Implements :class:`~syncer.content.Target`. The size of a blob is known before its bytes, so
    each gets its stretch of the file at once and any number are written at the same time.
    """

    def __init__(self, path: Path, repository: str = "", *, durable: bool = True) -> None:
        """Use :meth:`open`."""
        super().__init__(path, repository)
        self._durable = durable
        self._place = self._temporary = path
        self._end = 0
        #: Stretches that were given to blobs that failed: offset and length, header included.
        self._void: list[tuple[int, int]] = []
        self._open_regions: set[_Region] = set()
        self._stated: dict[Digest, str] = {}

    @classmethod
    async def open(cls, path: Path, repository: str = "", *, durable: bool = True) -> Self:
        """Begin an archive that will be at ``path``.

        Raises:
            StorageFull, LayoutError: when it cannot be written there.
        """
        target = cls(path, repository, durable=durable)
        await run_sync(target._start)
        return target

    def _start(self) -> None:
        if self.path.exists() and not self.path.is_file():
            raise no_file(self.path)
        # A file that is a link stays one; what it leads to is replaced.
        self._place = Path(os.path.realpath(self.path))
        with files.reported(self.path):
            self._handle, self._temporary = files.begin_beside(self._place)
        try:
            self._write_file(LAYOUT_FILE, version_text())
        except BaseException:
            self._discard()
            raise

    # ---------------------------------------------------------------- target

    async def begin_blob(self, descriptor: Descriptor, *, mount_from: str = "") -> BlobSession | BlobOutcome:  # noqa: ARG002 - there is nowhere to mount from
        """Find the blob in what was written so far, or open a session for it."""
        if descriptor.digest in self._members:
            return BlobOutcome.PRESENT
        return _Session(self, descriptor)

    async def push_manifest(self, manifest: Manifest, tag: str = "") -> None:
        """Write a manifest; the tag is in the archive when it is closed.

        Raises:
            NotFound: when a blob or child manifest it links to is missing, naming each.
            StorageFull, LayoutError: when it cannot be written.
        """
        if tag:
            check_tag(tag)
        require_links(manifest, [digest for digest in links(manifest) if digest in self._members], where=self.path)
        if manifest.digest not in self._members:
            region = self.reserve(manifest.digest, manifest.size)
            try:
                await run_sync(lambda: region.finish([manifest.raw]))
                self.settle(region)
            finally:
                await self.release(region)
        self._stated[manifest.digest] = await run_sync(stated_media_type, manifest.raw)
        covers = tuple(
            child.digest
            for child in manifest.manifests
            if self._index.is_listed(child.digest) and self._stated.get(child.digest) == child.media_type
        )
        self._index.apply(Put(descriptor=manifest.descriptor, tag=tag, covers=covers))

    # ---------------------------------------------------------------- stretches of the file

    def reserve(self, digest: Digest, size: int) -> _Region:
        """Give a blob its stretch; there is no await between here and the next one, so none overlap."""
        header = _header(f"blobs/{digest.algorithm}/{digest.encoded}", size)
        length = len(header) + _padded(size)
        # A blob that failed and is sent again fits where it was.
        at = next((at for at, (_, free) in enumerate(self._void) if free == length), None)
        if at is None:
            offset, self._end = self._end, self._end + length
        else:
            offset, _ = self._void.pop(at)
        region = _Region(self._opened(), digest, header, path=self.path, offset=offset, size=size)
        self._open_regions.add(region)
        return region

    def settle(self, region: _Region) -> None:
        """Take a region's blob into the archive."""
        if region.digest in self._members:
            return  # somebody else has sent the same blob; this copy is given up
        self._members[region.digest] = region.data_offset, region.size
        self._open_regions.discard(region)

    async def release(self, region: _Region) -> None:
        """End the writing to a region; one that was not settled is free for the next blob of its length."""
        with anyio.CancelScope(shield=True):
            await run_sync(region.close)
        if region in self._open_regions:
            self._open_regions.discard(region)
            self._void.append((region.offset, region.length))

    # ---------------------------------------------------------------- the end

    async def close(self) -> None:
        """Write index.json and put the archive in place; nothing is replaced when nothing was pushed.

        Raises:
            StorageFull, LayoutError: when it cannot be written, or blobs are still on their way;
                what was at the path is there still.
        """
        with anyio.CancelScope(shield=True):
            await run_sync(self._finish)

    async def abort(self) -> None:
        """Give the archive up; what was at the path before is there still."""
        with anyio.CancelScope(shield=True):
            await run_sync(self._discard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await (self.close() if exc_type is None else self.abort())

    def _finish(self) -> None:
        if self._handle is None:
            return
        try:
            if not self._index.digests():
                return
            if self._open_regions:
                count = len(self._open_regions)
                raise LayoutError(f"{self.path} cannot be finished: {count} blobs are still being written")
            self._fill_voids()
            self._write_file(INDEX_FILE, b"".join(self._index.serialise()))
            with files.reported(self.path):
                # Two zero blocks end a tar; writers round up to a record of twenty.
                end = self._end + 2 * _BLOCK
                os.ftruncate(self._handle, end + -end % tarfile.RECORDSIZE)
                if self._durable:
                    os.fsync(self._handle)
                self._temporary.replace(self._place)
            if self._durable:
                files.sync_directory(self._place.parent)
        finally:
            self._discard()

    def _fill_voids(self) -> None:
        """Cut free stretches off the end, and make the others members that every reader passes over."""
        for offset, length in sorted(self._void, reverse=True):
            if offset + length == self._end:
                self._end = offset
                continue
            header = _header(f".syncer/void-{offset}", length - _BLOCK)
            with files.reported(self.path, needed=len(header)):
                files.write_all(self._opened(), [header], offset)
        self._void.clear()

    def _write_file(self, name: str, data: bytes) -> None:
        buffers = [_header(name, len(data)), data, bytes(-len(data) % _BLOCK)]
        with files.reported(self.path, needed=len(data)):
            self._end += files.write_all(self._opened(), buffers, self._end)

    def _discard(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
            with suppress(OSError):
                self._temporary.unlink()


class _Region:
    """A stretch of the archive for one blob: header, data, padding.

    Its methods run in worker threads and exclude each other: a write that outlives its cancelled
    task must have ended before the stretch is given to another blob, or the file is closed.
    """

    def __init__(self, handle: int, digest: Digest, header: bytes, *, path: Path, offset: int, size: int) -> None:
        self.digest = digest
        self.offset = offset
        self.size = size
        self.data_offset = offset + len(header)
        self.length = len(header) + _padded(size)
        self._handle: int | None = handle
        self._header = header
        self._path = path
        self._written = 0
        self._mutex = threading.Lock()

    def write(self, buffers: list[bytes]) -> None:
        """Write the next bytes of the blob."""
        with self._mutex:
            if self._handle is None:
                raise LayoutError(f"{self._path}: blob {self.digest} was given up")
            self._written += files.write_all(self._handle, buffers, self.data_offset + self._written)

    def finish(self, buffers: list[bytes]) -> None:
        """Write the last bytes, the header and the padding."""
        with files.reported(self._path, needed=self.size):
            self.write([*buffers, bytes(-self.size % _BLOCK)])
            if self._handle is not None:
                files.write_all(self._handle, [self._header], self.offset)

    def close(self) -> None:
        """Wait for a write that is under way, and allow no other."""
        with self._mutex:
            self._handle = None


class _Session:
    """A blob that was opened and not yet sent."""

    def __init__(self, target: ArchiveTarget, descriptor: Descriptor) -> None:
        self._target = target
        self._descriptor = descriptor

    async def send(self, opener: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
        """Read the blob from ``opener`` and write it to its own stretch of the archive."""
        target = self._target
        async with opener() as chunks:
            region = target.reserve(self._descriptor.digest, self._descriptor.size)
            try:
                await pour(chunks, self._descriptor, region.write, where=target.path)
                await run_sync(region.finish, [])
                target.settle(region)
            finally:
                await target.release(region)

    async def abort(self) -> None:
        """Give up: a stretch is reserved only while bytes are sent."""


def _padded(size: int) -> int:
    return size + -size % _BLOCK


def _header(name: str, size: int) -> bytes:
    """Return a tar header; the same content gives the same archive, so it has no time and no owner."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member.tobuf(tarfile.GNU_FORMAT)
