"""``dir:path``: one image as plain files, the way Skopeo's ``dir`` transport lays them out.

``manifest.json`` is the image or index, ``<hex>.manifest.json`` the children of an index,
``<hex>`` the blobs, and ``version`` marks the directory. There are no tags and no referrers.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from syncer.content import BlobOutcome, BlobSession
from syncer.errors import LayoutError, NotFound
from syncer.layout import files
from syncer.layout.blobs import BlobFolder, reading, write_blob
from syncer.layout.graph import require_links
from syncer.layout.ledger import PRIVATE
from syncer.oci.digest import Digest, is_digest
from syncer.oci.manifest import MAX_MANIFEST_SIZE, Manifest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from syncer.oci.descriptor import Descriptor

VERSION_FILE = "version"
MANIFEST_FILE = "manifest.json"
_VERSION = b"Directory Transport Version: 1.1\n"
_KNOWN_VERSION = re.compile(rb"Directory Transport Version: 1\.[0-9]+\s*")
#: What stands for the image where a tag is asked for: nothing, or what a reference without a tag means.
_ROOT_NAMES = frozenset({"", "latest"})
_OURS = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{128})(?:\.manifest\.json)?|signature-[0-9]+")


class _Flat(BlobFolder):
    """Blobs beside each other, named by their hex digits."""

    def path(self, digest: Digest) -> Path:
        """Return where the blob is or would be."""
        return self.root / digest.encoded


class _Directory:
    """What reading and writing have in common: a name, and manifests by digest."""

    def __init__(self, path: Path, repository: str, *, durable: bool) -> None:
        self.path = path
        self._registry = f"dir:{path.absolute()}"
        self._repository = repository or path.name
        self._durable = durable
        self._scratch = path / PRIVATE
        self._blobs = _Flat(path, scratch=self._scratch, durable=durable)

    @property
    def registry(self) -> str:
        """``dir:`` and the absolute path; no two directories share blobs."""
        return self._registry

    @property
    def repository(self) -> str:
        """The name of the directory, or the one that was given."""
        return self._repository

    async def resolve(self, reference: str) -> Descriptor:
        """Return what stands at a digest; an empty reference, or ``latest``, is the image itself.

        Raises:
            NotFound: when there is no such manifest.
        """
        return (await run_sync(self._manifest, reference)).descriptor

    def _manifest(self, reference: str) -> Manifest:
        root = files.read_regular(self.path / MANIFEST_FILE, limit=MAX_MANIFEST_SIZE)
        if reference in _ROOT_NAMES and root is not None:
            return Manifest.parse(root)
        if is_digest(reference):
            digest = Digest(reference)
            if root is not None and digest.matches(root):
                return Manifest.parse(root, digest=digest)
            raw = files.read_regular(self._child_path(digest), limit=MAX_MANIFEST_SIZE)
            if raw is not None:
                return Manifest.parse(raw, digest=digest)
        raise NotFound(
            f"there is no {reference or 'image'} in {self.path}",
            hint="A dir: holds one image and no tags; leave it out.",
        )

    def _child_path(self, digest: Digest) -> Path:
        return self.path / f"{digest.encoded}.{MANIFEST_FILE}"

    def _check_version(self, raw: bytes | None) -> None:
        if raw is not None and _KNOWN_VERSION.fullmatch(raw) is None:
            raise LayoutError(
                f"{self.path / VERSION_FILE} says {raw[:60].decode('utf-8', 'replace').strip()!r}",
                hint="This Syncer knows 'Directory Transport Version: 1.1', as Skopeo writes it.",
            )


class DirSource(_Directory):
    """A ``dir:`` to read from; implements :class:`~syncer.content.Source`."""

    @classmethod
    async def open(cls, path: Path, repository: str = "") -> Self:
        """Open the directory.

        Raises:
            NotFound: when there is none.
            LayoutError: when it holds no image, or one of a version that is not known.
        """
        source = cls(path, repository, durable=False)
        await run_sync(source._start)
        return source

    def _start(self) -> None:
        if not self.path.exists():
            raise NotFound(f"there is no directory at {self.path}", hint="Check the path.")
        self._check_version(files.read_regular(self.path / VERSION_FILE, limit=4096))
        if files.regular_size(self.path / MANIFEST_FILE) is None:
            raise LayoutError(f"{self.path} holds no image: it has no {MANIFEST_FILE}", hint="Check the path.")

    async def fetch_manifest(self, reference: str) -> Manifest:
        """Return the image's manifest or that of a child, as :meth:`resolve` finds it.

        Raises:
            NotFound: when there is no such manifest.
            DigestMismatch: when its bytes are damaged.
        """
        return await run_sync(self._manifest, reference)

    def fetch_blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob for reading, a mebibyte at a time; entering raises NotFound when there is none."""
        return reading(lambda: self._blobs.open(descriptor.digest))

    async def tags(self) -> AsyncIterator[str]:
        """Yield nothing: the image has no tag."""
        none: tuple[str, ...] = ()
        for tag in none:
            yield tag


class DirTarget(_Directory):
    """A ``dir:`` to write one image to; implements :class:`~syncer.content.Target`.

    The manifest that is pushed with a tag is the image, and the tag is forgotten; where none is,
    it is the last that no other one lists or is the subject of. ``manifest.json`` is written last.
    An image that was there before is replaced; what both have is not written again. One process
    at a time may write; nothing enforces it here.

    :meth:`close` ends the image. As an asynchronous context manager it closes at the end of the
    block, and leaves the directory without its new ``manifest.json`` when the block raises before it.
    """

    def __init__(self, path: Path, repository: str = "", *, durable: bool = True) -> None:
        """Use :meth:`open`."""
        super().__init__(path, repository, durable=durable)
        self._pushed: dict[Digest, Manifest] = {}
        self._root: Manifest | None = None
        self._tag = ""

    @classmethod
    async def open(cls, path: Path, repository: str = "", *, durable: bool = True) -> Self:
        """Begin an image at ``path``.

        Raises:
            StorageFull, LayoutError: when it cannot be written there, or holds files that are no image.
        """
        target = cls(path, repository, durable=durable)
        await run_sync(target._start)
        return target

    def _start(self) -> None:
        files.make_directory(self.path, durable=self._durable)
        version = files.read_regular(self.path / VERSION_FILE, limit=4096)
        self._check_version(version)
        with files.reported(self.path):
            foreign = version is None and any(entry.name != PRIVATE for entry in self.path.iterdir())
        if foreign:
            raise LayoutError(
                f"{self.path} is not empty and holds no image",
                hint="Name an empty directory, or one that does not exist.",
            )
        files.refuse_links(self._scratch)
        files.make_directory(self._scratch, durable=False)
        with files.reported(self._scratch):
            for leftover in self._scratch.iterdir():
                leftover.unlink()
        self._replace(self.path / VERSION_FILE, _VERSION)

    async def resolve(self, reference: str) -> Descriptor:
        """Return what stands at a digest, or the image for the tag it was pushed with."""
        return await super().resolve("" if reference == self._tag else reference)

    async def begin_blob(self, descriptor: Descriptor, *, mount_from: str = "") -> BlobSession | BlobOutcome:  # noqa: ARG002 - there is nowhere to mount from
        """Find the blob in the directory, or open a session for it."""
        if await run_sync(self._blobs.size, descriptor.digest) == descriptor.size:
            return BlobOutcome.PRESENT
        return _Session(self._blobs, descriptor)

    async def push_manifest(self, manifest: Manifest, tag: str = "") -> None:
        """Write a manifest: the image when it has a tag, else a child.

        Raises:
            NotFound: when a blob or child manifest it links to is missing, naming each.
            LayoutError: when another image has been written; a ``dir:`` holds one.
            StorageFull: when there is no space.
        """
        if tag and self._root is not None and self._root.digest != manifest.digest:
            raise LayoutError(
                f"{self.path} holds image {self._root.digest} already; a dir: holds one",
                hint="Write each image to a directory of its own, or all of them to an oci: layout.",
            )
        await run_sync(self._push, manifest, bool(tag))
        self._pushed[manifest.digest] = manifest
        if tag:
            self._root, self._tag = manifest, tag

    def _push(self, manifest: Manifest, is_root: bool) -> None:  # noqa: FBT001 - private, and run_sync takes no keywords
        present = [blob.digest for blob in manifest.blobs() if self._blobs.size(blob.digest) is not None]
        present += [c.digest for c in manifest.manifests if files.regular_size(self._child_path(c.digest)) is not None]
        require_links(manifest, present, where=self.path)
        self._replace(self.path / MANIFEST_FILE if is_root else self._child_path(manifest.digest), manifest.raw)

    def _replace(self, path: Path, data: bytes) -> None:
        files.replace(path, [data], scratch=self._scratch, durable=self._durable)

    async def close(self) -> None:
        """Write ``manifest.json`` where that is still to be done, and remove what an earlier image left.

        Raises:
            StorageFull, LayoutError: when it cannot be written.
        """
        root = self._root or self._find_root()
        with anyio.CancelScope(shield=True):
            await run_sync(self._finish, root)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            await self.close()
        else:
            with anyio.CancelScope(shield=True):
                await run_sync(self._tidy)

    def _find_root(self) -> Manifest | None:
        listed = {child.digest for manifest in self._pushed.values() for child in manifest.manifests}
        candidates = [
            manifest
            for manifest in self._pushed.values()
            if manifest.digest not in listed
            and (manifest.subject is None or manifest.subject.digest not in self._pushed)
        ]
        return candidates[-1] if candidates else None

    def _finish(self, root: Manifest | None) -> None:
        try:
            if root is not None:
                if self._root is None:
                    self._replace(self.path / MANIFEST_FILE, root.raw)
                self._prune(root)
        finally:
            self._tidy()

    def _prune(self, root: Manifest) -> None:
        keep = {VERSION_FILE, MANIFEST_FILE}
        pending = [root, *self._pushed.values()]
        seen: set[Digest] = set()
        while pending:
            manifest = pending.pop()
            if manifest.digest in seen:
                continue
            seen.add(manifest.digest)
            keep.update(blob.digest.encoded for blob in (*manifest.blobs(), *manifest.layers))
            if manifest.digest != root.digest:
                keep.add(self._child_path(manifest.digest).name)
            pending.extend(self._manifest(child.digest) for child in manifest.manifests)
        with files.reported(self.path):
            for entry in self.path.iterdir():
                if _OURS.fullmatch(entry.name) and entry.name not in keep:
                    entry.unlink()

    def _tidy(self) -> None:
        with suppress(OSError):
            self._scratch.rmdir()


class _Session:
    """A blob to be written; nothing is on disk before it is sent."""

    def __init__(self, blobs: BlobFolder, descriptor: Descriptor) -> None:
        self._blobs = blobs
        self._descriptor = descriptor

    async def send(self, opener: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
        """Read the blob from ``opener`` and put it in place; nothing is left behind when that fails."""
        async with opener() as chunks:
            await write_blob(self._blobs, self._descriptor, chunks)

    async def abort(self) -> None:
        """Give up: there is nothing to undo."""
