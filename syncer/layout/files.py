"""Files of a layout: opened without following links, replaced in one step, failures named.

Everything here blocks and belongs in a worker thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from syncer.errors import OUT_OF_FILES, OUT_OF_FILES_HINT, LayoutError, StorageFull

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

#: The disk, the quota, or the limit on the size of files: whatever it is, somebody has to make room.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: What the kernel says of a link where O_NOFOLLOW forbids one.
_LINKS = frozenset({errno.ELOOP, errno.ENOTDIR})
#: What helps when something is in the way of a directory that is to be made.
_ELSEWHERE = "Name a path in a directory, or one that is not there yet."
#: Buffers that one writev takes (IOV_MAX is 1024 on Linux).
_MAX_BUFFERS = 512

Signature = tuple[int, int, int]


def failure(error: OSError, path: Path, *, needed: int | None = None) -> LayoutError:
    """Return the LayoutError for an OSError at ``path``; ``needed`` is how many bytes were to be written."""
    if error.errno in _FULL:
        size = "" if needed is None else f" for {needed} bytes"
        return StorageFull(
            f"no space left at {path}{size}",
            hint="Free space or raise the quota, and run again; what was finished is kept."
            if error.errno != errno.EFBIG
            else "Raise the limit on the size of files ('ulimit -f'), or use a file system that takes larger ones.",
        )
    if error.errno == errno.EROFS:
        return LayoutError(f"{path} is on a read-only file system", hint="Choose a directory that can be written.")
    if error.errno in OUT_OF_FILES:
        return LayoutError(f"{path} cannot be opened: {error.strerror}", hint=OUT_OF_FILES_HINT)
    if error.errno == errno.ENOLCK:
        return LayoutError(
            f"{path} cannot be locked: {error.strerror}",
            hint="Put the layout on a local disk; this file system has no locks.",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return LayoutError(f"{path} may not be accessed: {error.strerror}", hint="Check its owner and mode.")
    if error.errno == errno.ENOTDIR:
        missing = LayoutError(f"there is no {path}: a part of this path is a file", hint="Check the path.")
        return _blocked(path, "Check the path.") or missing
    return LayoutError(f"{path}: {error.strerror or error}")


def _blocked(path: Path, hint: str) -> LayoutError | None:
    """Return the error for a directory that cannot be at ``path``: something else is there, or on the way to it."""
    for place in (path, *path.parents):
        try:
            mode = place.stat().st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode):
            return None
        is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        kind = "a device" if is_device else "a file" if stat.S_ISREG(mode) else "a pipe or socket"
        what = f"{place} is {kind}, and was expected to be a directory"
        return LayoutError(
            what if place == path else f"there can be no {path}: {what}",
            hint=hint,
        )
    return None


@contextmanager
def reported(path: Path, *, needed: int | None = None) -> Iterator[None]:
    """Raise what goes wrong inside as a LayoutError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise failure(error, path, needed=needed) from error


def not_followed(path: Path) -> LayoutError:
    """Return the error for a link where a file or directory of a layout should be."""
    return LayoutError(
        f"{path} is a symbolic link or no regular file",
        hint="A layout holds its files itself; links could lead out of it and are not followed.",
    )


def open_regular(path: Path) -> int | None:
    """Open a regular file for reading; None when there is none.

    Raises:
        LayoutError: when it is a link, a device or a directory, or cannot be read.
    """
    try:
        # O_NONBLOCK: a FIFO must not hang the open.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise (not_followed(path) if error.errno in _LINKS else failure(error, path)) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise not_followed(path)
    return handle


def read_regular(path: Path, *, limit: int) -> bytes | None:
    """Return the bytes of a regular file; None when there is none.

    Raises:
        LayoutError: when it is over ``limit`` bytes, a link, or cannot be read.
    """
    handle = open_regular(path)
    if handle is None:
        return None
    with reported(path), os.fdopen(handle, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise LayoutError(f"{path} is over {limit} bytes")
    return data


def regular_size(path: Path) -> int | None:
    """Return the size of a regular file in bytes; None when there is none.

    Raises:
        LayoutError: when it is a link, a device or a directory.
    """
    with reported(path):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
    if not stat.S_ISREG(status.st_mode):
        raise not_followed(path)
    return status.st_size


def signature(path: Path) -> Signature | None:
    """Return what changes when a file is replaced or written (inode, size, time); None when there is none."""
    with reported(path):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def refuse_links(*paths: Path) -> None:
    """Check directories that hold content: absent is good, a link is not.

    Raises:
        LayoutError: when one is a link or no directory.
    """
    for path in paths:
        with reported(path):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
        if not stat.S_ISDIR(status.st_mode):
            raise not_followed(path)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    with reported(path):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_directory(path: Path, *, durable: bool) -> None:
    """Make a directory and its parents; their names survive a power cut when ``durable``.

    Raises:
        StorageFull, LayoutError: when it cannot be made.
    """
    if path.is_dir():
        return
    if (blocked := _blocked(path, _ELSEWHERE)) is not None:
        raise blocked
    make_directory(path.parent, durable=durable)
    with reported(path):
        # A neighbour may have made it in the meantime; a file of that name is still an error.
        try:
            path.mkdir()
        except FileExistsError:
            if not path.is_dir():
                raise
    if durable:
        sync_directory(path.parent)


def write_all(handle: int, buffers: Sequence[bytes], offset: int | None = None) -> int:
    """Write every buffer, at ``offset`` or at the file's position; return the bytes written."""
    total = 0
    for start in range(0, len(buffers), _MAX_BUFFERS):
        rest = [memoryview(buffer) for buffer in buffers[start : start + _MAX_BUFFERS] if buffer]
        while rest:
            count = os.writev(handle, rest) if offset is None else os.pwritev(handle, rest, offset + total)
            total += count
            while rest and count >= len(rest[0]):
                count -= len(rest.pop(0))
            if rest:
                rest[0] = rest[0][count:]
    return total


def replace(path: Path, parts: Iterable[bytes], *, scratch: Path, durable: bool) -> None:
    """Replace ``path`` by a file of ``parts``, written to ``scratch`` (a directory of the same file system) first.

    Readers see the old file or the new one, through any crash.

    Raises:
        StorageFull, LayoutError: when it cannot be written; the old file is as it was.
    """
    temporary = scratch / f"{path.name}.{secrets.token_hex(8)}"
    written = 0
    try:
        with reported(path), temporary.open("xb") as file:
            for part in parts:
                written += len(part)
                file.write(part)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        with reported(path):
            temporary.replace(path)
    except StorageFull as error:
        raise StorageFull(f"no space left at {path} for {written} bytes", hint=error.hint) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    if durable:
        sync_directory(path.parent)


def lock_now(handle: int) -> bool | None:
    """Lock an open file until it is closed, without waiting: False when somebody else has, None when nobody can."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def begin_beside(path: Path, *, mode: int = 0o644) -> tuple[int, Path]:
    """Make the file that is to replace ``path``, beside it; return its handle, which locks it, and its name.

    The lock tells it from what writers that were killed left there, which is removed.

    Raises:
        OSError: when it cannot be made.
    """
    while True:
        temporary = path.with_name(f"{path.name}.tmp-{secrets.token_hex(6)}")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        # Before it was locked, another writer may have taken it for a leftover.
        if lock_now(handle) is not False and temporary.exists():
            break
        os.close(handle)
        temporary.unlink(missing_ok=True)
    leftover = re.compile(rf"{re.escape(path.name)}\.tmp-[0-9a-f]{{12}}")
    # What cannot be listed, opened, locked or removed is not ours to tidy up.
    with suppress(OSError):
        for entry in path.absolute().parent.iterdir():
            if leftover.fullmatch(entry.name) and entry.name != temporary.name:
                with suppress(OSError, LayoutError):
                    _remove_unlocked(entry)
    return handle, temporary


def _remove_unlocked(path: Path) -> None:
    handle = open_regular(path)
    if handle is None:
        return
    try:
        if lock_now(handle):
            path.unlink()
    finally:
        os.close(handle)


class FileLock:
    """An exclusive lock on a file, held by one process; the kernel frees it when the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def is_held(self) -> bool:
        """Tell whether this object holds the lock."""
        return self._handle is not None

    def acquire(self) -> None:
        """Take the lock or raise; it does not wait.

        Raises:
            LayoutError: when another process holds it.
        """
        if self._handle is not None:
            return
        with reported(self.path):
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            with reported(self.path):
                self._lock(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise LayoutError(
                f"{self.path.parent.parent} is being written by {who}",
                hint="Wait until it is done, or stop it; one process at a time may write to a layout.",
            ) from None
        # Who holds it is said for people only; a full disk must not keep anyone from deleting.
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __del__(self) -> None:
        self.release()
