"""Threads that nobody waits for: for calls that may take long and cannot be broken off.

The threads of a loop are waited for when it is closed, and those of uvloop and of an executor when the process ends: a
name server that does not answer would hold up every stop by half a minute.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Daemons:
    """A few daemon threads, started when they are needed, and kept."""

    def __init__(self, name: str, most: int) -> None:
        """Start at most so many; what comes when all are busy waits for its turn."""
        self._name = name
        self._most = most
        self._started = 0
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        #: One for each thread that has nothing to do. Adding and taking is a single step of the interpreter: no lock
        #: is needed for which a loop would have to wait.
        self._idle: deque[None] = deque()

    async def run(self, call: Callable[[], T]) -> T:
        """Return what ``call`` does in one of the threads; who is cancelled does not wait for its end.

        Raises:
            RuntimeError: when no thread can be started, and there is none.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(found: T | None, error: Exception | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(cast("T", found))
            else:
                answer.set_exception(error)

        def work() -> None:
            found: T | None = None
            failure: Exception | None = None
            try:
                found = call()
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                failure = error
            # The loop may be closed by now.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, found, failure)

        self._provide()
        self._work.put(work)
        return await answer

    def _provide(self) -> None:
        """See to it that somebody does what comes next: who is idle, or another thread."""
        try:
            self._idle.pop()
        except IndexError:
            if self._started == self._most:
                return
            try:
                threading.Thread(target=self._serve, name=self._name, daemon=True).start()
            except RuntimeError:
                if not self._started:
                    raise
                # No more threads are to be had: one of those that there are will come to it.
                return
            self._started += 1

    def _serve(self) -> None:
        while True:
            self._work.get()()
            self._idle.append(None)
