"""Progress bars on a terminal: one for the run, and one for each repository in work.

Noting an event costs what the :class:`~syncer.telemetry.tally.Tally` costs. A few times a second
:meth:`ProgressObserver.run` takes a frozen :class:`Frame` of the counts on the loop, and a thread
draws it: neither drawing nor a slow terminal holds the sync up, and nothing is read while it changes.

rich is imported when the first frame is drawn.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from syncer.telemetry.quantities import format_count, format_duration, format_rate, format_size
from syncer.telemetry.tally import Pace, Progress, Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from syncer.events import Event

#: Seconds between two frames.
INTERVAL = 0.125
#: How many repositories have a bar of their own.
MAX_BARS = 8
#: Terminals narrower than these do without the rate, the bars, or the blobs and the time to go. The figures
#: change with every frame; were it they that decided, columns would come and go.
_RATE_FROM = 72
_BARS_FROM = 100
_DETAILS_FROM = 128
_BAR_WIDTH = 20
_PADDING = 2
_NARROWEST_NAME = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One line: whose, how far, how fast (bytes per second), and for how much longer (seconds)."""

    name: str
    progress: Progress
    rate: float
    remaining: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """What is drawn at one moment. ``more`` counts the repositories in work without a bar."""

    total: Bar
    bars: tuple[Bar, ...] = ()
    more: int = 0


class ProgressObserver:
    """Shows bars on ``console`` while :meth:`run` runs, and leaves nothing behind.

    Args:
        console: a rich console on standard error; lines written to ``sys.stderr`` appear above the bars.
        label: the name of the first bar.
        interval: seconds between two frames.
        clock: seconds of a steady clock.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        console: Console,
        *,
        label: str = "total",
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._console = console
        self._label = label
        self._interval = interval
        self._clock = clock
        self._sleep = sleep
        self._pace = Pace()
        self._paces: dict[str, Pace] = {}
        self.tally = Tally()

    def notify(self, event: Event) -> None:
        """Take note of ``event``."""
        self.tally.notify(event)

    async def run(self) -> None:
        """Draw until cancelled, or until the terminal has gone away."""
        # One thread at a time, and none of those that move blobs.
        limiter = anyio.CapacityLimiter(1)
        live = await to_thread.run_sync(self._open, limiter=limiter)
        try:
            while await to_thread.run_sync(self._draw, live, self.frame(), limiter=limiter):
                await self._sleep(self._interval)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._close, live, limiter=limiter)

    def frame(self) -> Frame:
        """Return what is to be drawn now."""
        now = self._clock()
        active = self.tally.active
        rows = max(1, min(MAX_BARS, self._console.height - 3))
        shown = list(islice(active.values(), rows))
        paces = {repository.name: self._paces.get(repository.name) or Pace() for repository in shown}
        self._paces = paces
        return Frame(
            total=_bar(self._label, self.tally.total, self._pace, now),
            bars=tuple(_bar(repository.name, repository.progress, paces[repository.name], now) for repository in shown),
            more=len(active) - len(shown),
        )

    def _open(self) -> Live:
        from rich.live import Live  # noqa: PLC0415 - see the module

        # Standard output is for results, also while bars are shown: only standard error goes above them.
        live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        live.start()
        return live

    def _draw(self, live: Live, frame: Frame) -> bool:
        try:
            live.update(draw(frame, self._console.width), refresh=True)
        except (OSError, ValueError):
            return False
        return True

    def _close(self, live: Live) -> None:
        try:
            live.stop()
        except (OSError, ValueError):
            return


def _bar(name: str, progress: Progress, pace: Pace, now: float) -> Bar:
    rate = pace.sample(now, progress.bytes_moved)
    return Bar(name=name, progress=replace(progress), rate=rate, remaining=pace.remaining(progress))


def draw(frame: Frame, width: int) -> Table:
    """Return ``frame`` as a table for a terminal of ``width`` columns."""
    from rich.progress_bar import ProgressBar  # noqa: PLC0415 - see the module
    from rich.table import Table  # noqa: PLC0415 - same
    from rich.text import Text  # noqa: PLC0415 - same

    bars = (frame.total, *frame.bars)
    figures = [_figures(bar, width) for bar in bars]
    widths = [max(len(figure) for figure, _ in column) for column in zip(*figures, strict=True)]
    with_bar = width >= _BARS_FROM
    taken = sum(_PADDING + figure for figure in widths if figure) + (_PADDING + _BAR_WIDTH if with_bar else 0)
    name_width = max(min(max(len(bar.name) for bar in bars), width - taken), _NARROWEST_NAME)

    table = Table.grid(padding=(0, _PADDING, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", width=name_width)
    if with_bar:
        table.add_column(width=_BAR_WIDTH)
    for figure_width in widths:
        if figure_width:
            table.add_column(justify="right", no_wrap=True, width=figure_width)
    for bar, row in zip(bars, figures, strict=True):
        cells: list[Text | ProgressBar] = [Text(bar.name, style="bold" if bar is frame.total else "")]
        if with_bar:
            cells.append(ProgressBar(total=1.0, completed=bar.progress.fraction, width=_BAR_WIDTH))
        cells += [Text(figure, style=style) for (figure, style), wide in zip(row, widths, strict=True) if wide]
        table.add_row(*cells)
    if frame.more > 0:
        table.add_row(Text(f"+{format_count(frame.more)} more", style="dim"))
    return table


def _figures(bar: Bar, width: int) -> list[tuple[str, str]]:
    """Return texts and their styles; a text that is empty in every bar has no column."""
    progress = bar.progress
    tags = f"{format_count(progress.tags_done)}/{format_count(progress.tags_known)} tags"
    size = f"{format_size(progress.bytes_done)} of {format_size(progress.bytes_known)}"
    figures = [(tags if progress.tags_known else "listing", ""), (size if progress.bytes_known else "", "green")]
    if width >= _RATE_FROM:
        figures.append((format_rate(bar.rate) if bar.rate >= 1 else "", "cyan"))
    if width >= _DETAILS_FROM:
        blobs = f"{format_count(progress.blobs_done)}/{format_count(progress.blobs_known)} blobs"
        figures.insert(1, (blobs if progress.blobs_known else "", ""))
        # Under a second it is over before it is read.
        figures.append((f"ETA {format_duration(max(bar.remaining, 1.0))}" if bar.remaining is not None else "", "dim"))
    figures.append((f"{format_count(progress.failed)} failed" if progress.failed else "", "bold red"))
    return figures
