"""One process at a time: an flock beside the state file, which the kernel lets go when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from syncer.errors import StateError, StateLocked

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self


#: How often, and how many seconds apart, a lock is tried for: :meth:`FileLock.is_held` takes it for a moment.
_TRIES = 3
_PAUSE = 0.01


class FileLock:
    """The lock of one state file, held from :meth:`take` to :meth:`release`. Both block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> Self:
        """Lock ``path`` through ``<path>.lock``, without waiting.

        Raises:
            StateLocked: when another process, or another store of this one, holds it.
            StateError: when the file system has no locks.
        """
        name = path.with_name(f"{path.name}.lock")
        # The file is never removed: whoever waits for the lock of a removed file waits for nothing.
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(descriptor)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                who = f"process {holder}" if holder.isdigit() else "another process"
                raise StateLocked(
                    f"the state file {path} is in use by {who}",
                    hint="Wait until it is done, or give this run a 'state' file of its own.",
                ) from None
            raise StateError(
                f"the state file {path} cannot be locked: {error.strerror}",
                hint="Put the state file on a local disk; this file system has no locks.",
            ) from None
        # Who holds it is said for people only, and a full disk is for the state itself to tell of.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    @staticmethod
    def is_held(path: Path) -> bool:
        """Tell whether some process holds the lock of ``path``; True where nobody can tell."""
        try:
            descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Let the lock go."""
        os.close(self._descriptor)


def _lock(descriptor: int) -> None:
    """Lock an open file; who only looks whether it is locked is gone a moment later."""
    for is_last in (*[False] * (_TRIES - 1), True):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if is_last:
                raise
            time.sleep(_PAUSE)
        else:
            return
