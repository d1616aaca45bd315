"""One line every few seconds, where there is no terminal to draw on: CI logs, journals, pipes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from syncer.telemetry.quantities import format_count, format_duration, format_rate, format_size
from syncer.telemetry.tally import Pace, Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TextIO

    from syncer.events import Event

#: Seconds between two lines.
INTERVAL = 10.0


def _local_time() -> datetime:
    return datetime.now(UTC).astimezone()


class HeartbeatObserver:
    """Says every ten seconds how far the run is.

    ::

        12:01:10 sync: 134/500 tags, 3.1 GiB of 8.0 GiB, 210 MiB/s, ETA 23 s, 2 failed

    Args:
        stream: where the lines go, standard error as a rule.
        label: the word before the colon.
        interval: seconds between two lines.
        clock: seconds of a steady clock, for the rate.
        now: the time of day, for the line.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        label: str = "sync",
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _local_time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._stream = stream
        self._label = label
        self._interval = interval
        self._clock = clock
        self._now = now
        self._sleep = sleep
        # Three lines of memory: steadier than bars, which have ten samples a second.
        self._pace = Pace(memory=3 * interval)
        self.tally = Tally()

    def notify(self, event: Event) -> None:
        """Take note of ``event``."""
        self.tally.notify(event)

    async def run(self) -> None:
        """Write lines until cancelled, or until nobody reads them."""
        self._pace.sample(self._clock(), self.tally.total.bytes_moved)
        while True:
            await self._sleep(self._interval)
            # In a thread that may be left behind: a reader that stalls must not stall the sync.
            if not await to_thread.run_sync(self._write, self.line(), abandon_on_cancel=True):
                return

    def line(self) -> str:
        """Return the line of this moment, without its end."""
        total = self.tally.total
        rate = self._pace.sample(self._clock(), total.bytes_moved)
        if total.tags_known:
            parts = [f"{format_count(total.tags_done)}/{format_count(total.tags_known)} tags"]
        elif self.tally.active:
            parts = [f"listing {format_count(len(self.tally.active), 'repository')}"]
        else:
            parts = ["waiting"]
        if total.bytes_known:
            parts.append(f"{format_size(total.bytes_done)} of {format_size(total.bytes_known)}")
        if rate >= 1:
            parts.append(format_rate(rate))
        if (remaining := self._pace.remaining(total)) is not None:
            parts.append(f"ETA {format_duration(max(remaining, 1.0))}")
        if total.failed:
            parts.append(f"{format_count(total.failed)} failed")
        return f"{self._now():%H:%M:%S} {self._label}: {', '.join(parts)}"

    def _write(self, line: str) -> bool:
        try:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except (OSError, ValueError):
            return False
        return True
