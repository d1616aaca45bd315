"""Upload sessions: a file each, so that they outlive the process.

What a session has received is the length of its file, and nothing else is needed to go on after a
kill: the repository a session belongs to is part of the file's name, and the hash, which is kept
while the bytes arrive in order, is computed again from the file when the memory of it is gone.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from syncer.errors import DigestMismatch, NotFound, RangeRejected, SizeExceedsLimit, StatusError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Container
    from pathlib import Path

    from syncer.oci.digest import Digest

DEFAULT_ALGORITHM = "sha256"
_IDENTIFIER = re.compile(r"[0-9a-f]{32}")
#: Sessions whose hash is kept in memory; the file of one that falls out is read again at its commit.
_REMEMBERED = 4096
#: Seconds that a request waits for one on the same session whose client is known to have gone.
_HANDOVER = 5.0
_READ_SIZE = 1024 * 1024


@dataclass(slots=True, eq=False)
class UploadSession:
    """One upload: how many bytes its file has, and the hash of them while it is known."""

    identifier: str
    repository: str
    path: Path
    offset: int = 0
    hasher: hashlib._Hash | None = None
    busy: bool = False
    #: Tells whether the client of the request that holds the session has gone.
    client_gone: Callable[[], bool] = field(default=lambda: False)
    released: anyio.Event = field(default_factory=anyio.Event)

    def write(self, batch: list[bytes]) -> None:
        """Append ``batch`` at the offset; blocking."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            # What a request killed half-way left behind the offset is written over.
            position = self.offset
            for chunk in batch:
                view = memoryview(chunk)
                while view:
                    written = os.pwrite(descriptor, view, position)
                    position += written
                    view = view[written:]
        except OSError:
            os.ftruncate(descriptor, self.offset)
            raise
        finally:
            os.close(descriptor)
        if self.hasher is not None:
            for chunk in batch:
                self.hasher.update(chunk)
        self.offset = position

    def sync(self) -> None:
        """Bring what was written to the disk; blocking. A session that has expired has nothing to bring."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def truncate(self, offset: int, hasher: hashlib._Hash | None) -> None:
        """Go back to a state that was before; blocking."""
        os.truncate(self.path, offset)
        self.offset, self.hasher = offset, hasher

    def matches(self, digest: Digest) -> bool:
        """Tell whether the file hashes to ``digest``; blocking, and reads the file when the hash is not known.

        Raises:
            FileNotFoundError: when the file is gone.
        """
        size = self.path.stat().st_size
        if size > self.offset:
            # What a failed write left behind the offset was never hashed, and must not come into the store.
            os.truncate(self.path, self.offset)
        elif size < self.offset:
            return False
        hasher = self.hasher
        if hasher is None or hasher.name != digest.algorithm:
            hasher = digest.hasher()
            with self.path.open("rb", buffering=0) as file:
                while data := file.read(_READ_SIZE):
                    hasher.update(data)
        return hasher.hexdigest() == digest.encoded


class UploadSessions:
    """The sessions of a server, in ``ROOT/.syncer/uploads``."""

    def __init__(self, folder: Path, *, durable: bool, lifetime: float, patience: float) -> None:
        self._folder = folder
        self._patience = patience
        self._durable = durable
        self._lifetime = lifetime
        self._sessions: OrderedDict[tuple[str, str], UploadSession] = OrderedDict()

    async def open(self, repository: str, algorithm: str = DEFAULT_ALGORITHM) -> UploadSession:
        """Return a new, empty session, on the disk already."""
        identifier = uuid.uuid4().hex
        session = UploadSession(
            identifier=identifier,
            repository=repository,
            path=self._path(repository, identifier),
            hasher=hashlib.new(algorithm),
        )
        await run_sync(self._create, session.path)
        self._remember(session)
        return session

    @asynccontextmanager
    async def hold(
        self, repository: str, identifier: str, client_gone: Callable[[], bool]
    ) -> AsyncIterator[UploadSession]:
        """Have a session for oneself.

        A client that lost its connection comes back at once, while the request it lost is still writing
        what it had received and may not have seen the end of its connection: a request waits a little for
        the one before it, and longer when ``client_gone`` says that it only has to finish.

        Raises:
            NotFound: when there is no such session in this repository.
            StatusError: 409 when another request is writing to it.
        """
        session = await self.find(repository, identifier)
        if session.busy:
            await self._await_handover(session)
            session = await self.find(repository, identifier)
        if session.busy:
            raise StatusError(
                "another request is using this upload session", status=409, codes=("BLOB_UPLOAD_INVALID",)
            )
        session.busy = True
        session.client_gone = client_gone
        try:
            yield session
        finally:
            session.busy = False
            # Without awaiting anything: a request that is cancelled by a stop of the server must not keep it.
            session.released.set()
            session.released = anyio.Event()

    async def find(self, repository: str, identifier: str) -> UploadSession:
        """Return a session without holding it.

        Raises:
            NotFound: when there is no such session in this repository.
        """
        key = (repository, identifier)
        if (session := self._sessions.get(key)) is not None:
            self._sessions.move_to_end(key)
            return session
        if _IDENTIFIER.fullmatch(identifier) is None:
            raise NotFound("no such upload session")
        path = self._path(repository, identifier)
        size = await run_sync(self._size, path)
        if size is None:
            raise NotFound("no such upload session", hint="It was committed, cancelled or has expired; start again.")
        # Two requests may have looked at the same time: both must get the same object.
        if (session := self._sessions.get(key)) is None:
            hasher = hashlib.new(DEFAULT_ALGORITHM) if size == 0 else None
            session = UploadSession(identifier=identifier, repository=repository, path=path, offset=size, hasher=hasher)
            self._remember(session)
        return session

    async def settled(self, repository: str, identifier: str) -> UploadSession:
        """Return a session to look at, after a request that only had to finish has done so.

        Raises:
            NotFound: when there is no such session in this repository.
        """
        session = await self.find(repository, identifier)
        if session.busy:
            await self._await_handover(session)
        return await self.find(repository, identifier)

    async def receive(
        self, session: UploadSession, chunks: AsyncIterator[list[bytes]], *, limit: int | None, exactly: int | None
    ) -> None:
        """Append all that ``chunks`` gives to a session that is held.

        Args:
            session: the session.
            chunks: batches of bytes; what came before it raises is kept, and the error passed on.
            limit: the most bytes that the blob may have.
            exactly: the length that the client announced by its Content-Range.

        Raises:
            SizeExceedsLimit: when there are more than ``limit`` bytes.
            RangeRejected: when the length is not ``exactly``; nothing of it is kept.
            OSError: when the disk is full; same.
        """
        start = session.offset
        before = session.hasher.copy() if session.hasher is not None else None
        try:
            async for batch in chunks:
                end = session.offset + sum(map(len, batch))
                _check_length(end, limit, end - start, None if exactly is None else range(exactly + 1))
                await run_sync(session.write, batch)
            _check_length(session.offset, limit, session.offset - start, None if exactly is None else (exactly,))
        except FileNotFoundError:
            self.forget(session)
            raise NotFound("the upload session has expired") from None
        except (RangeRejected, SizeExceedsLimit, OSError):
            with anyio.CancelScope(shield=True):
                await run_sync(session.truncate, start, before)
            raise

    async def secure(self, session: UploadSession) -> None:
        """Bring a session's bytes to the disk, so that the offset that is about to be told is true."""
        if self._durable:
            await run_sync(session.sync)

    async def verify(self, session: UploadSession, digest: Digest) -> None:
        """Check a held session's bytes; drop the session when they are wrong.

        Raises:
            DigestMismatch: when the bytes do not hash to ``digest``.
            NotFound: when the session has expired.
        """
        try:
            right = await run_sync(session.matches, digest)
        except FileNotFoundError:
            self.forget(session)
            raise NotFound("the upload session has expired") from None
        if not right:
            await self.drop(session)
            raise DigestMismatch(f"the {session.offset} bytes received do not hash to {digest}")

    async def drop(self, session: UploadSession) -> None:
        """Remove a held session and what it received."""
        with anyio.CancelScope(shield=True):
            await run_sync(_unlink, session.path)
        self.forget(session)

    def forget(self, session: UploadSession) -> None:
        """Remove a session whose file has been moved into the store."""
        self._sessions.pop((session.repository, session.identifier), None)

    async def purge(self) -> int:
        """Remove the sessions that nobody touched for their lifetime; return how many."""
        in_use = {session.path.name for session in self._sessions.values() if session.busy}
        removed = await run_sync(self._purge, time.time() - self._lifetime, in_use)
        for key, session in list(self._sessions.items()):
            if session.path.name in removed and not session.busy:
                del self._sessions[key]
        return len(removed)

    async def _await_handover(self, session: UploadSession) -> None:
        for patience in (self._patience, _HANDOVER):
            with anyio.move_on_after(patience):
                while session.busy:
                    await session.released.wait()
            if not (session.busy and session.client_gone()):
                return

    def _remember(self, session: UploadSession) -> None:
        self._sessions[session.repository, session.identifier] = session
        excess = len(self._sessions) - _REMEMBERED
        if excess > 0:
            idle = [key for key, other in self._sessions.items() if not other.busy and other is not session]
            for key in idle[:excess]:
                del self._sessions[key]

    def _path(self, repository: str, identifier: str) -> Path:
        scope = hashlib.sha256(repository.encode()).hexdigest()[:16]
        return self._folder / f"{scope}-{identifier}"

    def _create(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.close(descriptor)

    @staticmethod
    def _size(path: Path) -> int | None:
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def _purge(self, before: float, in_use: set[str]) -> set[str]:
        removed: set[str] = set()
        try:
            entries = list(os.scandir(self._folder))
        except FileNotFoundError:
            return removed
        for entry in entries:
            try:
                if entry.name not in in_use and entry.stat(follow_symlinks=False).st_mtime < before:
                    (self._folder / entry.name).unlink()
                    removed.add(entry.name)
            except FileNotFoundError:
                continue
        return removed


def _check_length(size: int, limit: int | None, received: int, allowed: Container[int] | None) -> None:
    if limit is not None and size > limit:
        raise SizeExceedsLimit(f"the blob is longer than the limit of {limit} bytes")
    if allowed is not None and received not in allowed:
        raise RangeRejected(
            f"the body has {received} bytes or more, which is not what its Content-Range says",
            status=400,
            codes=("SIZE_INVALID",),
        )


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
