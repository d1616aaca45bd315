"""Files that a command writes beside its result."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from syncer.errors import StorageFull, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_writable(path: Path) -> None:
    """Find out before the work begins whether ``path`` can be written.

    Raises:
        UsageError: when it cannot.
    """
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{path} is a directory", hint="Name a file.")
    if not folder.is_dir():
        raise UsageError(f"there is no directory {folder}", hint=f"Make it, or write {path.name} elsewhere.")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise UsageError(f"{path} cannot be written", hint="Check the permissions, or name another file.")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` and a line end to ``path``, as :func:`write_parts` does."""
    write_parts(path, [text if text.endswith("\n") else f"{text}\n"])


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Write the parts of a text to ``path``: wholly, or not at all.

    A pipe or device is written as it is, and so is what a standard stream goes to (``/dev/stdout``). A link stays one.

    Names of files may have bytes that are no UTF-8 (PEP 383). They are escaped as on the terminal, which in JSON
    stands for what they were. What a process that was killed left beside ``path`` is removed.

    Raises:
        StorageFull: when there is no space left.
        UsageError: when it cannot be written for another reason.
    """
    from syncer.layout.files import begin_beside  # noqa: PLC0415 - most commands write no file

    try:
        standing = _open_standing(path)
        if standing is not None:
            with os.fdopen(standing, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(parts)
            return
        path = Path(os.path.realpath(path))
        handle, temporary = begin_beside(path, mode=0o666)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(parts)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(message, hint="Free space, or name a file elsewhere.") from None
        raise UsageError(message, hint="Check the directory.") from None


def _open_standing(path: Path) -> int | None:
    """Open what is not to be replaced; None where that is a file like any other, or nothing."""
    if not path.exists():
        return None
    status = path.stat()
    for stream in (sys.stdout, sys.stderr):
        # Through the stream's own handle: another one would begin at the file's first byte, or leave it behind.
        with suppress(OSError, ValueError, AttributeError):
            if os.path.samestat(os.fstat(stream.fileno()), status):
                stream.flush()
                return os.dup(stream.fileno())
    return None if path.is_file() else os.open(path, os.O_WRONLY | os.O_CLOEXEC)
