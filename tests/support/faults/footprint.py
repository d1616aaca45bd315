"""Invariant I7: memory and open files are bounded, whatever the size of a blob and the number of tags."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.faults.invariants import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Seconds between two looks.
_INTERVAL = 0.01


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a process took at most: bytes of memory, and files open at once, both beyond what it began with."""

    memory: int = 0
    files: int = 0

    @classmethod
    def now(cls, pid: int) -> Footprint:
        """Return what the process ``pid`` has; nothing when it is gone."""
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
            files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return cls()
        return cls(memory=pages * _PAGE, files=files)


class Watcher:
    """Looks at a process every few milliseconds, for the length of a ``with`` block; a thread of its own."""

    def __init__(self, pid: int | None = None) -> None:
        """Watch ``pid``, or else this process."""
        self._pid = pid or os.getpid()
        self._start = Footprint.now(self._pid)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._most = self._start
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._start = self._most = Footprint.now(self._pid)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def most(self) -> Footprint:
        """The most that was seen, beyond the start."""
        return Footprint(
            memory=self._most.memory - self._start.memory,
            files=self._most.files - self._start.files,
        )

    def look(self) -> None:
        """Look now."""
        with self._lock:
            now = Footprint.now(self._pid)
            self._most = Footprint(memory=max(self._most.memory, now.memory), files=max(self._most.files, now.files))

    def _watch(self) -> None:
        while not self._is_over.wait(_INTERVAL):
            self.look()
        self.look()


def bounded(most: Footprint, bound: Footprint) -> Iterator[Violation]:
    """I7: a process stays within ``bound``, which knows nothing of sizes and numbers."""
    for name in ("memory", "files"):
        taken, allowed = getattr(most, name), getattr(bound, name)
        if taken > allowed:
            yield Violation(invariant="I7", text=f"{name}: {taken}, where {allowed} are allowed", number=0)
