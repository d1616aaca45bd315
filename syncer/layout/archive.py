"""OCI archives, ``oci-archive:file[:tag]``: an image layout in one tar file, read and written in place.

Nothing is unpacked and nothing is staged. An archive holds one repository.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from syncer.errors import LayoutError, NotFound, SizeExceedsLimit
from syncer.layout import files
from syncer.layout.blobs import Extent, reading
from syncer.layout.graph import find_manifest, walk
from syncer.layout.index import LayoutIndex
from syncer.layout.ledger import INDEX_FILE, LAYOUT_FILE, MAX_INDEX_SIZE, check_version
from syncer.oci.digest import Digest, is_digest
from syncer.oci.manifest import MAX_MANIFEST_SIZE, Manifest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import Self

    from syncer.oci.descriptor import Descriptor

_BLOCK = tarfile.BLOCKSIZE
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
#: Bytes of the headers before one member: names, extended attributes, and the map of a sparse file.
_MAX_HEADERS = 4 * 1024 * 1024
#: What the standard library's reader lets through where a header makes no sense.
_NONSENSE = (ValueError, ArithmeticError, LookupError, RecursionError)


class _Headers(io.BufferedReader):
    """A file that a :class:`tarfile.TarFile` reads the headers of, and no more: data is read where it lies.

    The standard library believes every size in a header: it would read gigabytes of extended
    attributes, walk backwards for ever, and raise what is no TarError.
    """

    _left = _MAX_HEADERS

    def read(self, size: int | None = -1, /) -> bytes:
        """Return ``size`` bytes.

        Raises:
            ReadError: when they are more than headers have.
        """
        if size is None or not 0 <= size <= self._left:
            raise tarfile.ReadError(f"the headers of a member are over {_MAX_HEADERS} bytes")
        self._left -= size
        return super().read(size)

    def next_of(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Return the next member of ``tar``; None after the last.

        Raises:
            TarError: when there is none where it should be.
        """
        self._left = _MAX_HEADERS
        with _making_sense():
            member = tar.next()
        tar.members.clear()  # type: ignore[attr-defined]  # it keeps all it has seen, and typeshed hides them
        if member is not None and (member.size < 0 or tar.offset <= member.offset):
            raise tarfile.ReadError(f"a member has a size of {member.size} bytes")
        return member


@contextmanager
def _making_sense() -> Iterator[None]:
    try:
        yield
    except _NONSENSE as error:
        raise tarfile.ReadError("a header makes no sense") from error


class Archive:
    """What reading and writing have in common: a name, and manifests by tag and digest."""

    def __init__(self, path: Path, repository: str) -> None:
        self.path = path
        self._registry = f"oci-archive:{path.absolute()}"
        self._repository = repository or path.name
        self._index = LayoutIndex()
        #: Where each blob's bytes are in the file: offset and size.
        self._members: dict[Digest, tuple[int, int]] = {}
        self._handle: int | None = None

    @property
    def registry(self) -> str:
        """``oci-archive:`` and the absolute path; no two archives share blobs."""
        return self._registry

    @property
    def repository(self) -> str:
        """The name of the file, or the one that was given."""
        return self._repository

    async def resolve(self, reference: str) -> Descriptor:
        """Return what a tag or digest stands for; an empty reference is the only image of the archive.

        Raises:
            NotFound: when there is no such tag or manifest.
        """
        found = self._index.find(reference)
        return found if found is not None and found.media_type else (await self._manifest(reference)).descriptor

    async def _manifest(self, reference: str) -> Manifest:
        return await run_sync(lambda: find_manifest(self._index, reference, self._read, where=self.path))

    def _opened(self) -> int:
        if self._handle is None:
            raise LayoutError(f"{self.path} is closed")
        return self._handle

    def _extent(self, digest: Digest) -> Extent:
        place = self._members.get(digest)
        if place is None:
            raise NotFound(f"blob {digest} is not in {self.path}")
        offset, size = place
        with files.reported(self.path):
            return Extent(os.dup(self._opened()), path=self.path, offset=offset, size=size)

    def _read(self, digest: Digest) -> bytes:
        _, size = self._members.get(digest, (0, 0))
        if size > MAX_MANIFEST_SIZE:
            raise SizeExceedsLimit(f"{digest} in {self.path} has {size} bytes; a manifest has {MAX_MANIFEST_SIZE}")
        return _drain(self._extent(digest))


class ArchiveSource(Archive):
    """An archive to read from; its table of contents is read once, its blobs where they lie.

    Implements :class:`~syncer.content.Source` and :class:`~syncer.content.ReferrerLister`.
    Use :meth:`open`, and the source as an asynchronous context manager.
    """

    @classmethod
    async def open(cls, path: Path, repository: str = "") -> Self:
        """Open the archive at ``path``.

        Raises:
            NotFound: when there is none.
            LayoutError: when it is compressed, damaged, or holds no OCI image layout.
        """
        source = cls(path, repository)
        await run_sync(source._start)
        return source

    def _start(self) -> None:
        try:
            with files.reported(self.path):
                # O_NONBLOCK: a FIFO must not hang the open.
                self._handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except LayoutError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotFound(f"there is no archive at {self.path}", hint="Check the path.") from None
            raise
        try:
            self._check_kind()
            with files.reported(self.path):
                documents = self._scan()
            check_version(documents.get(LAYOUT_FILE), where=self.path)
            self._index = LayoutIndex.parse(documents.get(INDEX_FILE, b""), where=f"{self.path}/{INDEX_FILE}")
        except BaseException:
            self._end()
            raise

    def _check_kind(self) -> None:
        if not stat.S_ISREG(os.fstat(self._opened()).st_mode):
            raise no_file(self.path)

    def _scan(self) -> dict[str, bytes]:
        """Note where each blob lies; return the layout's own two files."""
        documents: dict[str, bytes] = {}
        with _Headers(io.FileIO(os.dup(self._opened()))) as file:
            head = file.read(8)
            for magic, name in _MAGIC.items():
                if head.startswith(magic):
                    raise LayoutError(
                        f"{self.path} is compressed with {name}; blobs cannot be read in place",
                        hint=f"Decompress it first, for example with 'gzip -d' or 'zstd -d' ({name} here).",
                    )
            file.seek(0)
            try:
                with _making_sense():
                    tar = tarfile.TarFile(fileobj=file)
                with tar:
                    while (member := file.next_of(tar)) is not None:
                        self._note(member, documents)
            except tarfile.TarError as error:
                raise LayoutError(
                    f"{self.path} is damaged, or no tar file: {error}", hint="Copy or write it again."
                ) from error
        return documents

    def _note(self, member: tarfile.TarInfo, documents: dict[str, bytes]) -> None:
        if not member.isreg() or member.issparse():
            return
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        # The last of several members with one name is what unpacking would leave.
        if parts in ([LAYOUT_FILE], [INDEX_FILE]):
            if member.size > MAX_INDEX_SIZE:
                raise LayoutError(f"{self.path}: {member.name} is over {MAX_INDEX_SIZE} bytes")
            handle = os.dup(self._opened())
            documents[parts[0]] = _drain(Extent(handle, path=self.path, offset=member.offset_data, size=member.size))
        elif len(parts) == 3 and parts[0] == "blobs" and is_digest(f"{parts[1]}:{parts[2]}"):  # noqa: PLR2004 - blobs/algorithm/hex
            self._members[Digest(f"{parts[1]}:{parts[2]}")] = member.offset_data, member.size

    async def fetch_manifest(self, reference: str) -> Manifest:
        """Return the manifest a tag or digest stands for; an empty reference is the only image.

        Raises:
            NotFound: when there is no such tag or manifest.
            DigestMismatch: when its bytes are damaged.
        """
        return await self._manifest(reference)

    def fetch_blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob for reading, a mebibyte at a time; entering raises NotFound when there is none."""
        return reading(lambda: self._extent(descriptor.digest))

    async def tags(self) -> AsyncIterator[str]:
        """Yield every tag, in lexical order."""
        for tag in self._index.tags():
            yield tag

    async def referrers(
        self,
        digest: Digest,
        artifact_type: str = "",
        *,
        known_tags: Collection[str] | None = None,  # noqa: ARG002 - no request to spare here
    ) -> list[Descriptor]:
        """Return the manifests whose subject is ``digest``, of one ``artifact_type`` when given."""
        if not self._index.knows_subjects:
            await run_sync(self._learn_subjects)
        found = self._index.referrers(digest)
        return [descriptor for descriptor in found if artifact_type in ("", descriptor.artifact_type)]

    def _learn_subjects(self) -> None:
        for manifest in walk(self._index.digests(), self._read):
            if manifest.subject is not None:
                self._index.refer(manifest.subject.digest, manifest.referrer_descriptor)
        self._index.knows_subjects = True

    async def close(self) -> None:
        """Close the file; blobs that are being read go on."""
        with anyio.CancelScope(shield=True):
            await run_sync(self._end)

    def _end(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def no_file(path: Path) -> LayoutError:
    """Return the error for an archive that is a device, a pipe or a directory."""
    return LayoutError(f"{path} is no file", hint="Archives are read and written in place: name a file on a disk.")


def _drain(extent: Extent) -> bytes:
    parts: list[bytes] = []
    try:
        while part := extent.read():
            parts.append(part)
    finally:
        extent.close()
    return b"".join(parts)
