"""Why SQLite could not read or write: it keeps the system's error to itself, so what it tried is tried again."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from typing import TYPE_CHECKING

from syncer.errors import OUT_OF_FILES, OUT_OF_FILES_HINT, StateFailed, StorageFull

if TYPE_CHECKING:
    from pathlib import Path

    from syncer.errors import LayoutError, StateError

#: The disk, the quota, or the limit on the size of files: whatever it is, somebody has to make room.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: Bytes that are written to see whether there is room; a batch of records takes about as many.
_ATTEMPT = 64 * 1024


def full(path: Path) -> StorageFull:
    """Return the error for a state file that there is no room for."""
    return StorageFull(
        f"no space is left for the state file {path}", hint="Make room, and run again; what is done stays done."
    )


def out_of_files(path: Path) -> StateFailed:
    """Return the error for a state file that is one file too many."""
    return StateFailed(f"the state file {path} cannot be opened: too many open files", hint=OUT_OF_FILES_HINT)


def diagnosed(error: StateError | LayoutError, path: Path) -> StateError | LayoutError:
    """Return a more exact error where the reason of ``error`` can be found out, else ``error``. Blocks.

    SQLite knows a full disk when it sees one. A quota, a limit on the size of files, and a process that has too
    many of them open are "disk I/O error" and "unable to open database file" to it.
    """
    code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
    if code not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return error
    try:
        _attempt(path)
    except OSError as reason:
        if reason.errno in OUT_OF_FILES:
            return out_of_files(path)
        if reason.errno in FULL:
            return full(path)
    return error


def _attempt(path: Path) -> None:
    """Write a little beside the file, as far into another one as the file itself and its log reach.

    Raises:
        OSError: when that cannot be.
    """
    sizes = [name.stat().st_size for name in (path, path.with_name(f"{path.name}-wal")) if name.is_file()]
    with tempfile.TemporaryFile(dir=path.parent) as file:
        file.seek(max(sizes, default=0))
        # Buffered, so that what is written in part is tried to the end.
        file.write(bytes(_ATTEMPT))
        file.flush()
        os.fsync(file.fileno())
