"""The record of one layout: index.json, the journal beside it, and the lock of who may write.

Everything here blocks and runs in worker threads; :attr:`Ledger.index` may be read from the loop's.

Strategy: a change is one journal line, so that a push costs the same in a repository of a hundred
thousand tags as in an empty one. Threads that commit at the same time share one write and one
fsync: whoever gets the writer's lock first writes for all that wait. When the journal has outgrown
index.json, index.json is written anew and the journal emptied: each entry is rewritten a bounded
number of times on average. A crash between the two leaves both, and the journal is applied to an
index that has its changes already, which :mod:`syncer.layout.index` makes harmless.

Other tools read index.json and no journal. So the file of a manifest that was removed stays, out of
our own sight, until an index.json without it is in place; and before anything else is removed, or put
where such a file is, that is brought about. What index.json lists is whole at any instant.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from syncer.errors import ContentError, InvalidReference, LayoutError, NotFound, SyncerError
from syncer.layout import files
from syncer.layout.blobs import BlobFolder
from syncer.layout.graph import walk
from syncer.layout.index import Change, LayoutIndex, Put, Remove
from syncer.layout.journal import Journal
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import MAX_MANIFEST_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

LAYOUT_VERSION = "1.0.0"
LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
PRIVATE = ".syncer"
#: A bound against a hostile file; a million tags take a quarter of it.
MAX_INDEX_SIZE = 1024 * 1024 * 1024
#: The journal is not worth emptying below this many bytes.
MIN_JOURNAL = 256 * 1024
_OPEN_ATTEMPTS = 10


def version_text() -> bytes:
    """Return the content of the file ``oci-layout``."""
    return json.dumps({"imageLayoutVersion": LAYOUT_VERSION}).encode()


def check_version(raw: bytes | None, *, where: object) -> None:
    """Check the content of the file ``oci-layout``; None when there is none.

    Raises:
        LayoutError: when ``where`` is no image layout, or one of a version that is not known.
    """
    if raw is None:
        raise LayoutError(f"{where} is no OCI image layout: it has no {LAYOUT_FILE}", hint="Check the path.")
    try:
        version = json.loads(raw)["imageLayoutVersion"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise LayoutError(
            f"{LAYOUT_FILE} of {where} does not say its imageLayoutVersion", hint="Is this an OCI image layout?"
        ) from None
    if version != LAYOUT_VERSION:
        raise LayoutError(
            f"{where} is a layout of version {str(version)[:40]!r}; this Syncer knows {LAYOUT_VERSION}",
            hint="Upgrade Syncer, or write the layout again.",
        )


class _Ticket:
    """One change on its way into the journal."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.written = False
        self.error: SyncerError | None = None


class _Blobs(BlobFolder):
    """The layout's blobs; where the file of a removed one still is, nothing is put before it has gone."""

    def __init__(self, root: Path, *, scratch: Path, durable: bool, tidy: Callable[[], None]) -> None:
        super().__init__(root, scratch=scratch, durable=durable)
        self._tidy = tidy

    def _prepare(self, digest: Digest) -> Path:
        if digest in self.hidden:
            self._tidy()
        return super()._prepare(digest)


class Ledger:
    """Tags and manifests of the layout at ``path``, and the right to write to it."""

    def __init__(self, path: Path, *, durable: bool, before_writing: Callable[[], None] | None = None) -> None:
        self.path = path
        self.index = LayoutIndex()
        self._private = path / PRIVATE
        self._scratch = self._private / "tmp"
        self.blobs = _Blobs(path, scratch=self._scratch, durable=durable, tidy=self.compact)
        self._durable = durable
        self._before_writing = before_writing
        self._lock = files.FileLock(self._private / "lock")
        self._journal = Journal(self._private / "journal", durable=durable)
        self._writer = threading.RLock()
        #: This is the writer, and may write.
        self._is_ready = False
        self._queue: deque[_Ticket] = deque()
        self._seen: tuple[files.Signature | None, files.Signature | None] = (None, None)
        self._compact_at = MIN_JOURNAL
        self._learned = False

    # ---------------------------------------------------------------- opening

    def create(self) -> None:
        """Make an empty layout where there is none, and open it for writing."""
        self._make_private()
        self._check_links()
        with self._writer:
            self._acquire()
            try:
                # image-layout.md asks for the folder even when it is empty.
                files.make_directory(self.path / "blobs" / "sha256", durable=self._durable)
                if files.signature(self.path / INDEX_FILE) is None:
                    self._write(INDEX_FILE, LayoutIndex().serialise())
                if files.signature(self.path / LAYOUT_FILE) is None:
                    self._write(LAYOUT_FILE, [version_text()])
                self._enter()
            except BaseException:
                self._leave()
                raise

    def load(self) -> None:
        """Read the layout as it is.

        Raises:
            LayoutError: when it is no layout, of a version that is not known, or damaged.
        """
        self._check_links()
        check_version(files.read_regular(self.path / LAYOUT_FILE, limit=4096), where=self.path)
        path = self.path / INDEX_FILE
        for _ in range(_OPEN_ATTEMPTS):
            # The journal first: when its writer empties it now, then into an index.json that is read after.
            seen = self._signatures()
            changes = self._journal.read()
            raw = files.read_regular(path, limit=MAX_INDEX_SIZE)
            if self._signatures()[0] == seen[0]:
                break
        else:
            raise LayoutError(f"{path} changes faster than it can be read", hint="Try again when its writer is done.")
        if raw is None:
            raise LayoutError(f"{path} is missing", hint="Restore it, or copy the images again.")
        index = LayoutIndex.parse(raw, where=str(path))
        self._read_subjects(index, raw)
        hidden: set[Digest] = set()
        for change in changes:
            _apply(change, index, hidden)
        self.index = index
        self.blobs.hidden = hidden
        self._seen = seen
        self._compact_at = max(MIN_JOURNAL, len(raw))

    def _check_links(self) -> None:
        folders = [self.path / "blobs", *(self.path / "blobs" / name for name in ("sha256", "sha512"))]
        files.refuse_links(*folders, self._private, self._scratch)

    def _signatures(self) -> tuple[files.Signature | None, files.Signature | None]:
        return files.signature(self.path / INDEX_FILE), files.signature(self._journal.path)

    # ---------------------------------------------------------------- the right to write

    def begin(self) -> None:
        """Become the layout's writer, once; every change needs it.

        Raises:
            LayoutError: when another process is.
        """
        # Not as soon as the lock is held: what is written before the scratch folder is clean is cleaned away.
        if self._is_ready:
            return
        with self._writer:
            if self._lock.is_held():
                return
            self._make_private()
            self._acquire()
            try:
                self._enter()
            except BaseException:
                self._leave()
                raise

    def _make_private(self) -> None:
        if self._before_writing is not None:
            self._before_writing()
        files.make_directory(self.path, durable=self._durable)
        files.refuse_links(self._private, self._scratch)
        files.make_directory(self._scratch, durable=self._durable)

    def _acquire(self) -> None:
        self._lock.acquire()

    def _enter(self) -> None:
        """Clean up after a writer that was killed, and open the journal."""
        with files.reported(self._scratch):
            for leftover in self._scratch.iterdir():
                leftover.unlink()
        if self._seen[0] is None or self._signatures() != self._seen:
            self.load()
        self._journal.open()
        if self.blobs.hidden:
            # They are gone from the journal's point of view; a disk too full to say so in index.json is no hindrance.
            with suppress(LayoutError):
                self.compact()
        self._is_ready = True

    def _leave(self) -> None:
        self._is_ready = False
        self._journal.close()
        self._lock.release()

    def close(self) -> None:
        """Write everything to index.json and let others write; a later change becomes the writer again."""
        with self._writer:
            try:
                self.compact()
            finally:
                self._leave()

    # ---------------------------------------------------------------- changing

    def commit(self, change: Change) -> None:
        """Make ``change`` last, then visible.

        Raises:
            StorageFull, LayoutError: when it cannot be written; nothing has changed then.
        """
        ticket = _Ticket(change)
        self._queue.append(ticket)
        with self._writer:
            if not ticket.written and ticket.error is None:
                self._write_queue()
        if not ticket.written:
            raise ticket.error or LayoutError(f"{self._journal.path} was not written")

    def _write_queue(self) -> None:
        batch: list[_Ticket] = []
        while self._queue:
            batch.append(self._queue.popleft())
        try:
            self.begin()
            self._journal.append([ticket.change for ticket in batch])
        except SyncerError as error:
            for ticket in batch:
                ticket.error = error
            return
        for ticket in batch:
            _apply(ticket.change, self.index, self.blobs.hidden)
            ticket.written = True
        if self._journal.size > self._compact_at:
            # The changes are safe in the journal. If index.json cannot be written now, that is no
            # failure of theirs: try again when the journal has doubled.
            self._compact_at = 2 * self._journal.size
            with suppress(LayoutError):
                self.compact()

    @property
    def is_dirty(self) -> bool:
        """True when index.json does not have everything yet."""
        return self._journal.size > 0

    def compact(self) -> None:
        """Bring index.json up to date and empty the journal.

        Raises:
            StorageFull, LayoutError: when it cannot be written; nothing is lost then.
        """
        with self._writer:
            if not self._journal.size and not self._learned:
                return
            self.begin()
            if self._signatures()[0] != self._seen[0]:
                # Another tool, which knows no lock, has written index.json: our changes go on top of its own.
                self.load()
            hasher = hashlib.sha256()
            size = self._write(INDEX_FILE, _hashed(self.index.serialise(), hasher))
            size += self._write_subjects(Digest(f"sha256:{hasher.hexdigest()}"))
            for digest in list(self.blobs.hidden):
                self.blobs.remove(digest)
                self.blobs.hidden.discard(digest)
            # Last: until then a crash leaves the removals on record.
            self._journal.clear()
            self._seen = self._signatures()
            self._compact_at = max(MIN_JOURNAL, size)
            self._learned = False

    def _write(self, name: str, parts: Iterable[bytes]) -> int:
        path = self.path / name
        files.replace(path, parts, scratch=self._scratch, durable=self._durable)
        return files.regular_size(path) or 0

    # ---------------------------------------------------------------- subjects

    def learn_subjects(self) -> None:
        """Search the manifests that other tools wrote for their subjects, once."""
        with self._writer:
            if self.index.knows_subjects:
                return
            for manifest in walk(self.index.digests(), self._read):
                if manifest.subject is not None:
                    self.index.refer(manifest.subject.digest, manifest.referrer_descriptor)
            self.index.knows_subjects = True
            self._learned = self._lock.is_held()

    def _read(self, digest: Digest) -> bytes:
        try:
            return self.blobs.read(digest, limit=MAX_MANIFEST_SIZE)
        except LayoutError as error:
            raise NotFound(error.message) from error

    @property
    def _subjects_path(self) -> Path:
        return self._private / "referrers.json"

    def _read_subjects(self, index: LayoutIndex, raw: bytes) -> None:
        """Take the subjects from the file beside, if it was written for this very index.json."""
        if index.knows_subjects:
            return
        text = files.read_regular(self._subjects_path, limit=MAX_INDEX_SIZE)
        if text is None:
            return
        try:
            document = json.loads(text)
            if document["index"] != Digest.of(raw):
                return
            for subject, referrer in document["referrers"]:
                index.refer(Digest(subject), Descriptor.from_json(referrer))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ContentError, InvalidReference):
            return  # it is only a shortcut: the manifests will be searched instead
        index.knows_subjects = True

    def _write_subjects(self, digest: Digest) -> int:
        if not self.index.knows_subjects:
            return 0
        path = self._subjects_path
        parts = _subject_parts(digest, self.index)
        files.replace(path, parts, scratch=self._scratch, durable=self._durable)
        return files.regular_size(path) or 0


def _apply(change: Change, index: LayoutIndex, hidden: set[Digest]) -> None:
    """Make ``change`` true, and note in ``hidden`` whose file is to go with it."""
    index.apply(change)
    if isinstance(change, Remove):
        hidden.add(change.digest)
    elif isinstance(change, Put):
        hidden.discard(change.descriptor.digest)


def _hashed(parts: Iterable[bytes], hasher: hashlib._Hash) -> Iterator[bytes]:
    for part in parts:
        hasher.update(part)
        yield part


def _subject_parts(digest: Digest, index: LayoutIndex) -> Iterator[bytes]:
    yield f'{{"index":"{digest}","referrers":['.encode()
    for at, (subject, referrer) in enumerate(index.subjects()):
        line = json.dumps([subject, referrer.to_json()], separators=(",", ":"))
        yield (",\n" * bool(at) + line).encode()
    yield b"]}\n"
