"""Signals that ask to stop: what they do while nobody listens who can do better, and which of them say anything new."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

#: Seconds in which the same signal is the same wish: timeout(1) tells its command and then its whole group, and so do
#: programs that pass on to their child what the terminal has told it already.
_ECHO = 0.5


class Stopped(KeyboardInterrupt):
    """Raised by a signal, wherever the program is.

    Not KeyboardInterrupt itself: when that has gone through ``exec`` (each dataclass has one), CPython ends the
    process by SIGINT although it was handled (``_PyRuntime.signals.unhandled_keyboard_interrupt``).
    """


class Wishes:
    """What the process was asked by signals so far."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = 0.0
        #: The first of them. One that came where errors are ignored, as in what an import calls behind the scenes,
        #: has stopped nothing yet.
        self.first: signal.Signals | None = None

    def note(self, number: int) -> bool:
        """Take note of a signal; False when nothing new is asked by it.

        A terminal that is closed says so twice, by its shell and by the kernel, and nobody is impatient by SIGHUP.
        """
        now = self._clock()
        if self.first is None:
            self.first, self._since = signal.Signals(number), now
            return True
        return number != signal.SIGHUP and (number != self.first or now - self._since >= _ECHO)

    def forget(self) -> None:
        """Begin anew: another command, in the same process."""
        self.first = None


#: Of this process.
WISHES = Wishes()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, wherever nobody listens who can do better.

    They would end the process without a word and with a code of their own, and leave behind what was
    started: a credential helper that waits for a password, for example.
    """
    WISHES.forget()
    former = {}
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    try:
        for number, handler in usual.items():
            # One that is ignored stays so: that is how nohup works.
            if signal.getsignal(number) is handler:
                former[number] = signal.signal(number, _interrupt)
    except ValueError:
        # Only the main thread may; elsewhere somebody else's program decides about signals.
        pass
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    if WISHES.note(number):
        raise Stopped
