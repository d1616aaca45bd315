"""Credential files on disk. Everything here blocks, and belongs in a thread."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncer.errors import CredentialsError, StorageFull
from syncer.registry.credentials.authfile import AuthFile, parse_auth_file, parse_document, section
from syncer.registry.credentials.places import Format, Place

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes; a credential file is a few kilobytes long.
MAX_SIZE = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reading:
    """A file as it was when it was read, and whether it is still the same.

    ``failure`` is message and hint of why it could not be read: a broken file matters only to a
    registry that no file before it knows.
    """

    stamp: tuple[int, ...]
    content: AuthFile
    failure: tuple[str, str] | None = None


def read_place(place: Place) -> AuthFile | None:
    """Read a credential file; None when there is none.

    Raises:
        CredentialsError: when it is there and cannot be read.
    """
    try:
        with place.path.open("rb") as file:
            raw = file.read(MAX_SIZE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(place, error) from None
    if len(raw) > MAX_SIZE:
        raise CredentialsError(
            f"the credential file {place.path} is over {MAX_SIZE} bytes long", hint="It is not a credential file."
        )
    return parse_auth_file(raw, str(place.path), legacy=place.format is Format.LEGACY)


def read_again(place: Place, known: Reading | None) -> Reading | None:
    """Read a credential file unless ``known`` is still true of it; None when a usual one is absent."""
    try:
        status = place.path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if known is not None and known.stamp == stamp:
            return known
        content = read_place(place)
        if content is None:
            return _absent(place)
        return Reading(stamp=stamp, content=content)
    except (FileNotFoundError, NotADirectoryError):
        return _absent(place)
    except OSError as error:
        return _failed(place, _unreadable(place, error))
    except CredentialsError as error:
        return _failed(place, error)


def rewrite(place: Place, change: Callable[[dict[str, Any]], bool]) -> None:
    """Apply ``change`` to the ``auths`` of the file, in one step for whoever reads it meanwhile.

    The file is left alone when ``change`` says that it changed nothing; otherwise it has mode 0600
    afterwards, and all else in it is as before.

    Raises:
        StorageFull: when there is no space for the new one.
        CredentialsError: when it cannot be read or written for another reason.
    """
    # A file that is a link (to a dotfiles folder, to a mount) stays one.
    path = Path(os.path.realpath(place.path))
    try:
        raw = path.read_bytes() if path.exists() else b""
        document = parse_document(raw, str(place.path))
        auths = document if place.format is Format.LEGACY else section(document, "auths", str(place.path))
        if not change(auths):
            return
        if place.format is not Format.LEGACY:
            document["auths"] = auths
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Half a surrogate pair, which JSON can hold and UTF-8 cannot, is escaped again: it is not ours to judge.
        _replace(path, json.dumps(document, indent="\t", ensure_ascii=False).encode("utf-8", "backslashreplace"))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"no space is left for the credential file {place.path}", hint="Make room; the file is as it was."
            ) from None
        raise CredentialsError(
            f"the credential file {place.path} cannot be written: {error.strerror}",
            hint="Let this user write to it and its folder, or name another file with --authfile.",
        ) from None


def _replace(path: Path, raw: bytes) -> None:
    _sweep(path)
    # mkstemp makes the file with mode 0600, so that at no time another user can read it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
    temporary = Path(name)
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            with suppress(OSError):
                owner = path.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _prefix(path: Path) -> str:
    return f".{path.name}.syncer-"


def _sweep(path: Path) -> None:
    """Remove what a login that was killed left beside ``path``, credentials and all; who is writing holds a lock."""
    # What cannot be listed, opened, locked or removed is not ours to tidy up.
    with suppress(OSError):
        for entry in path.parent.iterdir():
            if not entry.name.startswith(_prefix(path)):
                continue
            with suppress(OSError):
                handle = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    entry.unlink()
                finally:
                    os.close(handle)


def _absent(place: Place) -> Reading | None:
    if not place.named_by:
        return None
    error = CredentialsError(
        f"the credential file {place.path} named by {place.named_by} does not exist",
        hint="Log in with it first, or do not name it.",
    )
    return _failed(place, error)


def _failed(place: Place, error: CredentialsError) -> Reading:
    # No file has an empty stamp: it is read again the next time.
    nothing = AuthFile(name=str(place.path), entries={}, helpers={}, store="")
    return Reading(stamp=(), content=nothing, failure=(error.message, error.hint))


def _unreadable(place: Place, error: OSError) -> CredentialsError:
    return CredentialsError(
        f"the credential file {place.path} cannot be read: {error.strerror}",
        hint="Let this user read it, or name another file with --authfile.",
    )
