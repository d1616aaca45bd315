"""Ending a run without giving up what is under way."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from syncer.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds by which a sleep has to outlast the drain to be given up at once. When the drain is over, what is given up is
#: tidied away within two seconds (an upload, for example). Who has to wait with that for the end of a pause sleeps up
#: to two seconds longer than the pause, lest all come back at once.
_TIDYING = 4.0


class Drain:
    """Lets a run be asked to begin nothing more and to end what is under way.

    What looks for more to do is a block of :meth:`cut`, which is cancelled when the drain begins. What was begun
    by it runs outside of the block, and is left alone: whoever asked may cancel it once it has had its time.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        """Give what is under way so many ``seconds``, once the drain begins; it is who asks that cancels it then."""
        self.seconds = seconds
        self.has_begun = False
        self._until = math.inf
        self._begun = anyio.Event()
        self._cuts: set[anyio.CancelScope] = set()

    def begin(self) -> None:
        """Cancel every block that is open, and every one to come."""
        self.has_begun = True
        self._until = anyio.current_time() + self.seconds
        for scope in self._cuts:
            scope.cancel()
        self._begun.set()

    @contextmanager
    def cut(self) -> Iterator[anyio.CancelScope]:
        """Open a block that ends when the drain begins; ``cancelled_caught`` of what it gives tells whether it did."""
        with anyio.CancelScope() as scope:
            self._cuts.add(scope)
            if self.has_begun:
                scope.cancel()
            try:
                yield scope
            finally:
                self._cuts.discard(scope)

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless there is no use in it: what is to be done afterwards would be cancelled before.

        Raises:
            Interrupted: when the drain begins, or has begun, and is over long before.
        """
        awake_at = anyio.current_time() + seconds
        if not self.has_begun:
            with anyio.CancelScope(deadline=awake_at):
                await self._begun.wait()
        now = anyio.current_time()
        # Once it is over nobody is under way but who tidies up, and has a deadline.
        if now < self._until and awake_at > self._until + _TIDYING:
            raise Interrupted(
                "stopped while a registry was to be left alone for longer than there was time",
                hint="Run it again to go on: what was sent whole is not sent again.",
            )
        await anyio.sleep(max(0.0, awake_at - now))
