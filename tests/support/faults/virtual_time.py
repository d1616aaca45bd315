"""An event loop on which nobody waits: time stands still while anything happens, and jumps when nothing does.

Backoffs, pauses of minutes, stalls and deadlines then cost a few milliseconds each, and a test sees
them at the seconds at which they are due. It works where all that happens, happens in this process:
both sides of every connection are on this loop, and what threads do is waited for.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

T = TypeVar("T")
#: Real seconds in which nothing must happen before time jumps: what a connection or a thread may lag behind.
_GRACE = 0.002
#: And in which a thread that was about to go on gets the interpreter's lock, which this one holds while it looks.
_PASSING = 0.0005
#: CPU seconds of other threads that are none.
_NOTHING = 20e-6


class _Jumping(selectors.BaseSelector):
    """A selector that does not wait for a timer: it moves the loop's clock there."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; nothing once the time has jumped by ``timeout``."""
        if timeout is None or timeout <= 0:
            return self._real.select(timeout)
        while True:
            before, began = _time_of_others(), time.perf_counter()
            ready = self._real.select(_GRACE)
            if ready:
                return ready
            if time.perf_counter() - began > 2 * _GRACE:
                # On a machine that is this busy, what is on its way over a socket lags behind, too.
                continue
            if _is_another_thread_running():
                continue
            ready = self._real.select(_PASSING)
            if ready:
                return ready
            if _time_of_others() - before < _NOTHING and not _is_another_thread_running():
                break
        self.now += timeout
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As the real one."""
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As the real one."""
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As the real one."""
        return self._real.modify(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """As the real one."""
        return self._real.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """As the real one."""
        return self._real.get_map()

    def close(self) -> None:
        """As the real one."""
        self._real.close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop by whose clock nothing takes any time but waiting."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the seconds of the virtual clock."""
        return self._jumping.now


def virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on a loop of its own with virtual time, and return what it returns."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def _time_of_others() -> float:
    """Return the CPU seconds of all threads of this process but this one."""
    return time.process_time() - time.thread_time()


def _is_another_thread_running() -> bool:
    """Tell whether another thread of this process is ready to run, or waits for a disk.

    One that has just lost the interpreter's lock to this one is not to be told from one that waits for
    work: only the time it has spent shows it.
    """
    own = threading.get_native_id()
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != own:
            try:
                stat = (task / "stat").read_text(encoding="ascii")
            except OSError:
                continue
            if stat.rpartition(")")[2].split()[0] in "RD":
                return True
    return False
