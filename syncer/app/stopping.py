"""Stopping on request: once cleanly, after a drain or without one, and twice at once."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio

from syncer.app.interrupting import WISHES
from syncer.engine.fanout import open_group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import FrameType

    from syncer.engine.draining import Drain

T = TypeVar("T")

#: EX_TEMPFAIL of sysexits.h, and what ARCHITECTURE section 5 calls "stopped, resumable".
STOPPED = 75
#: Seconds for which SIGTERM lets go on what is under way. With what a clean stop takes after them (uploads are given
#: up within two, and the state is written) they are less than the ten after which ``docker stop`` kills.
DRAIN = 7.0


@contextmanager
def stop_signals() -> Iterator[AsyncIterator[signal.Signals]]:
    """Give the signals that ask to stop as they come; afterwards they do what they did before.

    SIGHUP is one of them, as a terminal that is closed is no reason to leave upload sessions open; but
    not where it is ignored, for that is what ``nohup`` asks for.

    The first is for the loop. A second one ends the process wherever it is: it may be that nobody reads what it writes,
    and that its loop stands still.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    former = {number: signal.getsignal(number) for number in numbers}
    try:
        with anyio.open_signal_receiver(*numbers) as signals:
            for number in numbers:
                # In place of the loop's own, which does nothing: that they come is told to the loop by other means.
                signal.signal(number, _heed)
            yield signals
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _heed(number: int, _frame: FrameType | None) -> None:
    is_first = WISHES.first is None
    if WISHES.note(number) and not is_first:
        # Nothing is flushed and nobody is asked: that is what the second signal is for.
        os._exit(STOPPED)


async def stoppable(
    call: Callable[[anyio.Event], Awaitable[T]], *, say: Callable[[str], None], drain: Drain | None = None
) -> T:
    """Run ``call`` with an event that the first of :func:`stop_signals` sets; a second one ends the process at once.

    What :data:`WISHES` has noted before is the first.

    Args:
        call: the work; it is expected to return soon after the event was set.
        say: tells a person what happens.
        drain: begun by SIGTERM, which sets the event only when its seconds are over; None where nothing is worth it.
    """
    stop = anyio.Event()

    async def expire(seconds: float) -> None:
        await anyio.sleep(seconds)
        stop.set()

    def ask(number: signal.Signals) -> None:
        if number == signal.SIGTERM and drain is not None and drain.seconds > 0:
            most = f"{drain.seconds:g} s at most"
            say(f"SIGTERM: finishing what is under way, {most}; a second signal stops at once")
            drain.begin()
            group.start_soon(expire, drain.seconds)
        else:
            say(f"{signal.Signals(number).name}: stopping; a second one stops at once")
            stop.set()

    async def watch() -> None:
        if WISHES.first is None:
            await anext(signals)
        if WISHES.first is not None:
            ask(WISHES.first)

    # Before the work begins, which imports for a while, and until it is over.
    with stop_signals() as signals:
        async with open_group() as group:
            group.start_soon(watch)
            result = await call(stop)
            group.cancel_scope.cancel()
    return result


async def until(stop: anyio.Event, work: Callable[[], Awaitable[object]]) -> bool:
    """Run ``work``, but no longer than until ``stop`` is set; tell whether it came to its own end."""
    is_done = False
    async with open_group() as group:

        async def watch() -> None:
            await stop.wait()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        await work()
        # From here on it is too late to stop: what was to be done is done.
        is_done = True
        group.cancel_scope.cancel()
    return is_done
