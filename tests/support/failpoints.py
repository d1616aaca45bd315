"""Failpoints: a process that kills itself at the n-th instant at which it touches the world outside.

:func:`arm` is called in the process that is to die, before its work begins. From then on the process
counts, over all its threads:

* each socket event and each completion of a thread that the event loop takes up, twice: as the event
  is about to be handled, and when all that followed from it has been done and the loop would wait again
  (what was to be sent is sent by then, and nobody has answered);
* each system call of Python code that changes files (open for writing, write, fsync, rename, link, unlink,
  mkdir, truncate): as it is about to be made; a write once more when half of its bytes are written;
* every few opcodes of SQLite, within statements and transactions.

Each kind of instant is counted by itself: the events, the opcodes, and the system calls of each place in Syncer
that makes them. At the instant whose kind and number were given the process sends itself SIGKILL. Threads take
turns as they like, so the numbers of one kind are not exactly the same from one run to the next, and all kinds
together would be still less so: a window that opens once, for one call, could be missed.

A bound on the size of files (:func:`bound`) reaches what lies within SQLite's own writes: the kernel ends
the process with SIGXFSZ, as abruptly, in the middle of the write that goes beyond.
"""

from __future__ import annotations

import asyncio
import builtins
import functools
import os
import resource
import signal
import sqlite3
import sys
import threading
from asyncio import base_events, selector_events
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

#: Calls that change names or lengths, or wait until a change is on the disk.
_CALLS = (
    "fdatasync",
    "fsync",
    "ftruncate",
    "link",
    "mkdir",
    "remove",
    "rename",
    "replace",
    "rmdir",
    "truncate",
    "unlink",
)
#: Calls that write; the position of what they write among their arguments is always the second.
_WRITES = ("pwrite", "pwritev", "write", "writev")
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Failpoints:
    """The instants of one process, counted; nothing is counted before :meth:`install`."""

    def __init__(self, at: int, kind: str, *, opcodes: int) -> None:
        """Die at the instant number ``at`` of ``kind``, never when that is 0; SQLite counts once in ``opcodes``."""
        self.passed: Counter[str] = Counter()
        self._at = at
        self._kind = kind
        self._opcodes = opcodes
        self._counting = threading.Lock()
        self._is_doomed = False

    def install(self) -> None:
        """Put the counters in place, for the rest of the process's life."""
        for name in _CALLS:
            setattr(os, name, self._counted(getattr(os, name)))
        for name in _WRITES:
            setattr(os, name, self._torn(getattr(os, name)))
        os.open = self._counted_open(os.open)
        setattr(sqlite3, "connect", self._watched_database(sqlite3.connect))  # noqa: B010 - which has overloads
        self._watch_loop()
        sys.addaudithook(self._audit)

    def reach(self, kind: str) -> bool:
        """Count an instant; True when it is the one to die at."""
        with self._counting:
            self.passed[kind] += 1
            return kind == self._kind and self.passed[kind] == self._at

    def point(self, kind: str) -> None:
        """Count an instant, and do not return when it is the one."""
        if self.reach(kind):
            _die()

    # ---------------------------------------------------------------- system calls

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def counted(*arguments: Any, **options: Any) -> Any:
            self.point(_place(call.__name__))
            return call(*arguments, **options)

        return counted

    def _counted_open(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def counted(path: Any, flags: int, *arguments: Any, **options: Any) -> Any:
            if flags & _CHANGING:
                self.point(_place("open"))
            return call(path, flags, *arguments, **options)

        return counted

    def _torn(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def torn(handle: int, data: Any, *arguments: Any) -> Any:
            place = _place(call.__name__)
            self.point(place)
            if self.reach(f"{place}, half done"):
                call(handle, _half(data), *arguments)
                _die()
            return call(handle, data, *arguments)

        return torn

    # ---------------------------------------------------------------- the interpreter's own

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        # A file object; what os.open opens has no mode, and was counted there.
        if event == "open" and isinstance(arguments[1], str) and not set(arguments[1]).isdisjoint("wxa+"):
            self.point(_place("open"))

    def _watched_database(self, connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
        @functools.wraps(connect)
        def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
            self.point("connect")
            connection = connect(*arguments, **options)
            connection.set_progress_handler(lambda: self.point("opcodes"), self._opcodes)
            return connection

        return connected

    # ---------------------------------------------------------------- the event loop

    def _watch_loop(self) -> None:
        process = selector_events.BaseSelectorEventLoop._process_events  # type: ignore[attr-defined]  # a loop's own
        run_once = base_events.BaseEventLoop._run_once  # type: ignore[attr-defined]  # same

        def counted(loop: asyncio.AbstractEventLoop, events: list[Any]) -> None:
            for _ in events:
                self.point("event")
                self._is_doomed = self.reach("event, done with") or self._is_doomed
            process(loop, events)

        def watched(loop: base_events.BaseEventLoop) -> None:
            if self._is_doomed and not loop._ready:  # type: ignore[attr-defined]  # same
                _die()
            run_once(loop)

        selector_events.BaseSelectorEventLoop._process_events = counted  # type: ignore[attr-defined]  # same
        base_events.BaseEventLoop._run_once = watched  # type: ignore[attr-defined]  # same
        # The loop in C has no such seams: without its module syncer.app.loop takes asyncio's.
        sys.modules["uvloop"] = None  # type: ignore[assignment]  # how the import system notes what cannot be imported


def arm(at: int = 0, kind: str = "", *, opcodes: int = 50) -> Failpoints:
    """Let this process die at the instant number ``at`` of ``kind``; with 0 it only counts."""
    points = Failpoints(at, kind, opcodes=opcodes)
    points.install()
    return points


def bound(size: int) -> None:
    """Let this process die in the middle of the write that makes a file longer than ``size`` bytes."""
    # Python ignores the signal, and would raise instead.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _place(call: str) -> str:
    """Name ``call`` with the two functions of Syncer that lead to it."""
    names: list[str] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(names) < 2:
        if frame.f_globals.get("__name__", "").startswith("syncer."):
            names.append(frame.f_code.co_name)
        frame = frame.f_back
    return " < ".join([call, *names])


def _half(data: Any) -> Any:
    """Return the first half of what was to be written, of bytes or of a list of them."""
    if isinstance(data, builtins.list | tuple):
        whole = b"".join(data)
        return [whole[: len(whole) // 2]]
    return memoryview(data)[: len(data) // 2]


def _die() -> NoReturn:
    while True:
        os.kill(os.getpid(), signal.SIGKILL)
