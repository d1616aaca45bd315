"""The journal: changes of a layout since ``index.json`` was written, one JSON line each.

A line is acknowledged when it is whole, newline included. Blocks; belongs in a worker thread.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from syncer.errors import ContentError, InvalidReference, LayoutError
from syncer.layout import files
from syncer.layout.index import Change, Put, Remove, Untag
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Bytes of one line. The largest changes speak of a manifest's 10,000 children, or repeat its 4 MiB of annotations.
MAX_LINE = 64 * 1024 * 1024


def to_line(change: Change) -> bytes:
    """Return the change as one line."""
    value: dict[str, Any]
    match change:
        case Put():
            value = {"put": change.descriptor.to_json()}
            if change.tag:
                value["tag"] = change.tag
            if change.covers:
                value["covers"] = change.covers
            if change.subject is not None and change.referrer is not None:
                value["subject"] = change.subject
                value["referrer"] = change.referrer.to_json()
        case Untag():
            value = {"untag": change.tag}
        case Remove():
            value = {"remove": change.digest}
            if change.orphans:
                value["orphans"] = [orphan.to_json() for orphan in change.orphans]
        case _:
            assert_never(change)
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Change:
    """Read a line.

    Raises:
        ValueError: when it is not one that :func:`to_line` writes.
    """
    try:
        value = json.loads(line)
        if "put" in value:
            subject = value.get("subject")
            return Put(
                descriptor=Descriptor.from_json(value["put"]),
                tag=str(value.get("tag", "")),
                covers=tuple(Digest(child) for child in value.get("covers", ())),
                subject=None if subject is None else Digest(subject),
                referrer=None if subject is None else Descriptor.from_json(value["referrer"]),
            )
        if "untag" in value:
            return Untag(tag=str(value["untag"]))
        orphans = tuple(Descriptor.from_json(orphan) for orphan in value.get("orphans", ()))
        return Remove(digest=Digest(value["remove"]), orphans=orphans)
    except (ContentError, InvalidReference, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error


class Journal:
    """The journal file of one layout."""

    def __init__(self, path: Path, *, durable: bool) -> None:
        self.path = path
        self.durable = durable
        self.size = 0
        self._handle: int | None = None

    def read(self) -> list[Change]:
        """Return the acknowledged changes; a last line that was torn off is left out.

        Sets :attr:`size` to the bytes of the lines that count.

        Raises:
            LayoutError: when a line before the last is damaged, or one is longer than any change.
        """
        self.size = 0
        handle = files.open_regular(self.path)
        if handle is None:
            return []
        changes: list[Change] = []
        with files.reported(self.path), os.fdopen(handle, "rb") as file:
            for number, line in enumerate(iter(partial(file.readline, MAX_LINE + 1), b""), start=1):
                if len(line) > MAX_LINE:
                    raise LayoutError(
                        f"{self.path}:{number} is over {MAX_LINE} bytes",
                        hint="Nothing that Syncer writes is. Copy the layout again.",
                    )
                if not line.endswith(b"\n"):
                    break
                try:
                    changes.append(from_line(line))
                except ValueError as error:
                    if not file.read(1):
                        break
                    raise LayoutError(
                        f"{self.path}:{number} is damaged: {error}",
                        hint="Remove that line to go on; what it recorded may have to be pushed again.",
                    ) from error
                self.size += len(line)
        return changes

    def open(self) -> None:
        """Open for appending after the last whole line; the caller has read the journal and holds the lock."""
        if self._handle is not None:
            return
        with files.reported(self.path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            created = not self.path.exists()
            self._handle = os.open(self.path, flags, 0o644)
            os.ftruncate(self._handle, self.size)
        if created and self.durable:
            files.sync_directory(self.path.parent)

    def append(self, changes: Sequence[Change]) -> None:
        """Write changes and make them last.

        Raises:
            StorageFull, LayoutError: when they could not be; the journal is as it was.
        """
        lines = b"".join(map(to_line, changes))
        handle = self._opened()
        with files.reported(self.path, needed=len(lines)):
            try:
                files.write_all(handle, [lines])
                if self.durable:
                    os.fsync(handle)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, self.size)
                raise
        self.size += len(lines)

    def clear(self) -> None:
        """Empty the journal: index.json has everything."""
        handle = self._opened()
        with files.reported(self.path):
            os.ftruncate(handle, 0)
            if self.durable:
                os.fsync(handle)
        self.size = 0

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _opened(self) -> int:
        if self._handle is None:
            raise LayoutError(f"{self.path} is not open for writing")
        return self._handle

    def __del__(self) -> None:
        self.close()
