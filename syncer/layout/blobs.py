"""The blobs of one directory: ``blobs/<algorithm>/<hex>``, each in place whole or not at all.

What is not a coroutine blocks and belongs in a worker thread.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from syncer.errors import LayoutError, NotFound, SizeExceedsLimit, SizeMismatch
from syncer.layout import files

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest

#: Bytes read or written per visit to a worker thread.
CHUNK = 1024 * 1024
#: Bytes of a file that are checked per visit to a worker thread, which cannot be broken off.
_CHECKED_AT_ONCE = 16 * CHUNK
#: Reasons for which a hard link cannot be made where a copy still can.
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})


class Spool:
    """A blob that is being written beside its place.

    Its methods run in worker threads and exclude each other: a task that is cancelled while a write
    is under way discards the spool from another thread, and must not close the file beneath it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
        self._mutex = threading.Lock()
        with files.reported(path):
            self._handle: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def write(self, buffers: list[bytes]) -> None:
        """Append ``buffers``."""
        with self._mutex:
            if self._handle is None:
                raise LayoutError(f"{self.path} was given up")
            self.written += files.write_all(self._handle, buffers)

    def close(self, *, durable: bool) -> None:
        """End the writing; the bytes survive a power cut when ``durable``."""
        with self._mutex:
            handle, self._handle = self._handle, None
            if handle is None:
                return
            try:
                if durable:
                    os.fsync(handle)
            finally:
                os.close(handle)

    def discard(self) -> None:
        """Remove the file, if it is still here."""
        self.close(durable=False)
        with suppress(OSError):
            self.path.unlink()


class BlobFolder:
    """The blobs below one layout's directory; ``scratch`` is where they are written first."""

    def __init__(self, root: Path, *, scratch: Path, durable: bool) -> None:
        self.root = root
        self.scratch = scratch
        self.durable = durable
        #: Blobs that were removed, and whose files stay a little for other readers; here they count as gone.
        self.hidden: set[Digest] = set()

    def path(self, digest: Digest) -> Path:
        """Return where the blob is or would be."""
        return self.root / "blobs" / digest.algorithm / digest.encoded

    def size(self, digest: Digest) -> int | None:
        """Return the blob's size in bytes; None when it is not here."""
        return None if digest in self.hidden else files.regular_size(self.path(digest))

    def read(self, digest: Digest, *, limit: int) -> bytes:
        """Return the blob's bytes.

        Raises:
            NotFound: when it is not here.
            SizeExceedsLimit: when it is over ``limit`` bytes.
            LayoutError: when it is a link or cannot be read.
        """
        size = self.size(digest)
        if size is not None and size > limit:
            raise SizeExceedsLimit(f"{digest} in {self.root} has {size} bytes; a manifest has at most {limit}")
        data = None if digest in self.hidden else files.read_regular(self.path(digest), limit=limit)
        if data is None:
            raise absent(digest, self.root)
        return data

    def adopt(self, file: Path, digest: Digest) -> None:
        """Move ``file``, whose bytes were verified, into place; done already is done."""
        place = self._prepare(digest)
        with files.reported(place):
            try:
                handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                if place.exists():
                    return
                raise
            try:
                if self.durable:
                    os.fsync(handle)
            finally:
                os.close(handle)
            file.replace(place)
        self._settle(place)

    def write(self, digest: Digest, data: bytes) -> None:
        """Put ``data`` in place; nothing is written when it is there already, byte for byte."""
        place = self._prepare(digest)
        if files.regular_size(place) == len(data) and files.read_regular(place, limit=len(data)) == data:
            return
        files.replace(place, [data], scratch=self.scratch, durable=self.durable)

    def link(self, origin: BlobFolder, digest: Digest) -> bool:
        """Make the blob one file with ``origin``'s, or copy it where that cannot be; False when it is not there."""
        theirs = origin.path(digest)
        size = origin.size(digest)
        if size is None:
            return False
        place = self._prepare(digest)
        if files.regular_size(place) == size:
            return True
        with files.reported(place, needed=size):
            try:
                self._share(theirs, place)
            except FileNotFoundError:
                # Somebody may have deleted it since.
                if theirs.exists():
                    raise
                return False
        self._settle(place)
        return True

    def _share(self, theirs: Path, place: Path) -> None:
        try:
            os.link(theirs, place, follow_symlinks=False)
        except FileExistsError:
            self._copy(theirs, place)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._copy(theirs, place)

    def borrow(self, file: Path) -> Path | None:
        """Give ``file`` a second name in the scratch folder; None where that cannot be, or would not be wise.

        Only a regular file of our own is shared: whoever owns a file may write to it later.
        """
        borrowed = self.scratch / f"blob.{secrets.token_hex(8)}"
        try:
            os.link(file, borrowed, follow_symlinks=False)
        except OSError:
            return None
        status = os.lstat(borrowed)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            borrowed.unlink()
            return None
        return borrowed

    def remove(self, digest: Digest) -> bool:
        """Remove the blob; False when it was not here."""
        place = self.path(digest)
        with files.reported(place):
            try:
                place.unlink()
            except FileNotFoundError:
                return False
        self._settle(place)
        return True

    def open(self, digest: Digest) -> Extent:
        """Open the blob for reading.

        Raises:
            NotFound: when it is not here.
            LayoutError: when it is a link or cannot be read.
        """
        path = self.path(digest)
        handle = None if digest in self.hidden else files.open_regular(path)
        if handle is None:
            raise absent(digest, self.root)
        return Extent(handle, path=path)

    def spool(self) -> Spool:
        """Begin a blob whose digest is checked while it is written."""
        return Spool(self.scratch / f"blob.{secrets.token_hex(8)}")

    def commit(self, spool: Spool, digest: Digest) -> None:
        """Put a spool that is complete in place."""
        place = self._prepare(digest)
        with files.reported(place, needed=spool.written):
            spool.close(durable=self.durable)
            spool.path.replace(place)
        self._settle(place)

    def _prepare(self, digest: Digest) -> Path:
        place = self.path(digest)
        files.make_directory(place.parent, durable=self.durable)
        return place

    def _settle(self, place: Path) -> None:
        if self.durable:
            files.sync_directory(place.parent)

    def _copy(self, theirs: Path, place: Path) -> None:
        source = files.open_regular(theirs)
        if source is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(theirs))
        spool = self.spool()
        try:
            with os.fdopen(source, "rb") as file:
                while chunk := file.read(CHUNK):
                    spool.write([chunk])
            spool.close(durable=self.durable)
            spool.path.replace(place)
        finally:
            spool.discard()


def absent(digest: Digest, where: Path) -> NotFound:
    """Return the error for a blob that is not in ``where``."""
    return NotFound(f"blob {digest} is not in {where}")


async def write_blob(folder: BlobFolder, descriptor: Descriptor, chunks: AsyncIterator[bytes]) -> None:
    """Write a blob; it is in place when ``chunks`` has ended normally, else nothing is left of it.

    Raises:
        SizeMismatch: when there are more or fewer bytes than the descriptor says.
        StorageFull, LayoutError: when it cannot be written.
    """
    spool = await run_sync(folder.spool)
    try:
        await pour(chunks, descriptor, spool.write, where=folder.path(descriptor.digest))
        await run_sync(folder.commit, spool, descriptor.digest)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(spool.discard)


async def share_blob(folder: BlobFolder, descriptor: Descriptor, file: Path) -> bool:
    """Make ``file`` the blob by a hard link, once its bytes have been checked; False when that cannot be or it is not.

    What is checked is the link, which nobody else knows of, not whatever has the file's name by then.

    Raises:
        LayoutError: when it cannot be read, or the link cannot be put in place.
    """
    borrowed = await run_sync(folder.borrow, file)
    if borrowed is None:
        return False
    try:
        if not await holds(borrowed, descriptor):
            return False
        await run_sync(folder.adopt, borrowed, descriptor.digest)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(lambda: borrowed.unlink(missing_ok=True))
    return True


async def holds(file: Path, descriptor: Descriptor) -> bool:
    """Tell whether ``file`` holds the bytes of ``descriptor``."""
    handle = await run_sync(files.open_regular, file)
    if handle is None:
        return False
    extent = Extent(handle, path=file)
    hasher = descriptor.digest.hasher()

    def advance() -> int:
        """Read and hash on, a while that a stop can wait for; return how many bytes were left."""
        passed = 0
        while passed < _CHECKED_AT_ONCE and (chunk := extent.read()):
            hasher.update(chunk)
            passed += len(chunk)
        return passed

    try:
        left = descriptor.size
        while left >= 0 and (passed := await run_sync(advance)):
            left -= passed
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(extent.close)
    return left == 0 and hasher.hexdigest() == descriptor.digest.encoded


class Extent:
    """A stretch of an open file that holds one blob; its methods exclude each other as a spool's do.

    It closes ``handle``, which is its own.
    """

    def __init__(self, handle: int, *, path: Path, offset: int = 0, size: int | None = None) -> None:
        self._handle: int | None = handle
        self._path = path
        self._offset = offset
        self._left = size
        self._mutex = threading.Lock()

    def read(self) -> bytes:
        """Return the next bytes, at most :data:`CHUNK` of them; empty at the end."""
        wanted = CHUNK if self._left is None else min(CHUNK, self._left)
        with self._mutex, files.reported(self._path):
            if self._handle is None:
                raise LayoutError(f"{self._path} was closed while it was read")
            chunk = os.pread(self._handle, wanted, self._offset)
        self._offset += len(chunk)
        if self._left is not None:
            self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            handle, self._handle = self._handle, None
            if handle is not None:
                os.close(handle)


@asynccontextmanager
async def reading(opener: Callable[[], Extent]) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """Open an extent in a thread and hand out its chunks; it is closed whatever happens."""
    extent = await run_sync(opener)
    try:
        yield _chunks(extent)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(extent.close)


async def _chunks(extent: Extent) -> AsyncIterator[bytes]:
    while chunk := await run_sync(extent.read):
        yield chunk


async def pour(
    chunks: AsyncIterator[bytes], descriptor: Descriptor, write: Callable[[list[bytes]], object], *, where: Path
) -> None:
    """Pass ``chunks`` to ``write`` in a thread, about a mebibyte at a time.

    Raises:
        SizeMismatch: when there are more or fewer bytes than the descriptor says; no byte beyond
            its size is written.
        StorageFull, LayoutError: when ``write`` fails.
    """
    seen = 0
    pending: list[bytes] = []
    waiting = 0
    needed = descriptor.size

    def put(buffers: list[bytes]) -> None:
        with files.reported(where, needed=needed):
            write(buffers)

    async for chunk in chunks:
        seen += len(chunk)
        if seen > descriptor.size:
            raise SizeMismatch(f"blob {descriptor.digest} is longer than the {descriptor.size} bytes announced")
        pending.append(chunk)
        waiting += len(chunk)
        if waiting >= CHUNK:
            batch, pending, waiting = pending, [], 0
            await run_sync(put, batch)
    if seen != descriptor.size:
        raise SizeMismatch(f"blob {descriptor.digest} ended after {seen} of {descriptor.size} bytes")
    if pending:
        await run_sync(put, pending)
