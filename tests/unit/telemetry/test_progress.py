"""Bars on a terminal."""

from __future__ import annotations

import re
import sys
import threading
from io import StringIO

import anyio
import pytest
from rich.console import Console

from syncer.content import BlobOutcome
from syncer.events import (
    BlobFinished,
    BlobProgress,
    BlobStarted,
    RepositoryListed,
    RepositoryStarted,
    TagFinished,
    TagOutcome,
)
from syncer.oci import Digest
from syncer.telemetry.progress import MAX_BARS, Frame, ProgressObserver, draw

MIB = 1024**2
BLOB = Digest.of(b"blob")


def terminal(width: int = 140, height: int = 40) -> Console:
    """Make a terminal to look at."""
    return Console(force_terminal=True, file=StringIO(), width=width, height=height, color_system=None)


def screen(console: Console) -> str:
    """Return what a terminal was sent, without control sequences."""
    file = console.file
    assert isinstance(file, StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


def drawn(frame: Frame, width: int) -> list[str]:
    """Draw a frame on a terminal of that width, as lines."""
    console = terminal(width)
    console.print(draw(frame, width))
    return screen(console).splitlines()


class Clock:
    """A clock moved by hand."""

    seconds = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.seconds


def busy(observer: ProgressObserver, repositories: int, *, failing: bool = False) -> None:
    """Put repositories in work, each with one of two tags done and half a blob moved."""
    for number in range(repositories):
        source, target = f"hub/team-{number}/app", f"prod/team-{number}/app"
        observer.notify(RepositoryStarted(entry="e", source=source, target=target))
        observer.notify(RepositoryListed(source=source, target=target, listed=9, selected=2))
        observer.notify(BlobStarted(source=source, target=target, digest=BLOB, size=10 * MIB))
        observer.notify(BlobProgress(target=target, digest=BLOB, count=5 * MIB))
        outcome = TagOutcome.FAILED if failing else TagOutcome.COPIED
        observer.notify(TagFinished(entry="e", source=source, target=target, tag="1", outcome=outcome))


def moving(console: Console, repositories: int, *, failing: bool = False) -> Frame:
    """Return a frame of a run that has moved for two seconds."""
    clock = Clock()
    observer = ProgressObserver(console, clock=clock)
    for number in range(repositories):
        observer.notify(RepositoryStarted(entry="e", source="", target=f"prod/team-{number}/app"))
    observer.frame()
    clock.seconds = 2.0
    busy(observer, repositories, failing=failing)
    return observer.frame()


def test_wide_terminal_shows_everything() -> None:
    """The run and each repository have tags, blobs, bytes, rate and the time to go."""
    total, first, second = drawn(moving(terminal(), 2), 140)
    assert re.fullmatch(r"total +━+ +2/4 tags +0/2 blobs +10\.0 MiB of 20\.0 MiB +5\.0 MiB/s +ETA 2\.0 s *", total)
    assert first.startswith("prod/team-0/app")
    assert second.startswith("prod/team-1/app")
    assert "2.5 MiB/s" in second


@pytest.mark.parametrize("width", [20, 40, 60, 72, 80, 100, 128, 200])
def test_any_width(width: int) -> None:
    """On a terminal of any width there is one line for each bar, and none is too long."""
    lines = drawn(moving(terminal(width), 3, failing=True), width)
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)


def test_failures_show() -> None:
    """Failures are counted beside the bars, and leave no empty column where there are none."""
    assert "3 failed" in drawn(moving(terminal(), 3, failing=True), 140)[0]
    assert "failed" not in "".join(drawn(moving(terminal(), 3), 140))


def test_many_repositories() -> None:
    """Eight repositories have a bar, the others are counted."""
    frame = moving(terminal(), 20)
    assert (len(frame.bars), frame.more) == (MAX_BARS, 12)
    assert drawn(frame, 140)[-1].strip() == "+12 more"


def test_low_terminal() -> None:
    """No more bars are shown than the terminal has lines for."""
    frame = moving(terminal(height=6), 20)
    assert (len(frame.bars), frame.more) == (3, 17)


def test_present_blobs_have_no_speed() -> None:
    """Blobs that were there already fill the bar at no rate."""
    clock = Clock()
    observer = ProgressObserver(terminal(), clock=clock)
    observer.frame()
    clock.seconds = 1.0
    observer.notify(RepositoryStarted(entry="e", source="s", target="t"))
    observer.notify(BlobStarted(source="s", target="t", digest=BLOB, size=10))
    observer.notify(BlobFinished(target="t", digest=BLOB, size=10, outcome=BlobOutcome.MOUNTED))
    total = observer.frame().total
    assert (total.progress.fraction, total.rate, total.remaining) == (1.0, 0.0, None)


def test_frame_does_not_change() -> None:
    """A frame shows one moment: events that come while it is drawn do not reach it."""
    observer = ProgressObserver(terminal())
    frame = observer.frame()
    busy(observer, 1)
    assert frame.total.progress.tags_done == 0


async def test_run_draws_in_a_thread_and_cleans_up() -> None:
    """Frames are drawn off the loop until cancelled; then the cursor is back and standard error is restored."""
    console = terminal()
    stderr = sys.stderr
    loop_thread = threading.get_ident()
    drawn_in: set[int] = set()
    frames = anyio.Event()

    class Recorder(StringIO):
        def write(self, text: str) -> int:
            drawn_in.add(threading.get_ident())
            return super().write(text)

    console.file = Recorder()
    count = 0

    async def sleep(_seconds: float) -> None:
        nonlocal count
        count += 1
        if count == 3:
            frames.set()
        await anyio.lowlevel.checkpoint()

    observer = ProgressObserver(console, sleep=sleep)
    busy(observer, 2)
    async with anyio.create_task_group() as group:
        group.start_soon(observer.run)
        with anyio.fail_after(5):
            await frames.wait()
        print("above the bars", file=sys.stderr)  # noqa: T201 - this is what is tested
        group.cancel_scope.cancel()
    text = console.file.getvalue()
    assert "prod/team-1/app" in text
    assert "above the bars" in text
    assert text.endswith(("\x1b[?25h", "\x1b[2K"))
    assert "\x1b[?25h" in text
    assert sys.stderr is stderr
    assert drawn_in - {loop_thread}


async def test_run_survives_a_terminal_that_left() -> None:
    """When the terminal is gone the bars end, and not the sync."""

    class Gone(StringIO):
        broken = False

        def write(self, text: str) -> int:
            if self.broken:
                raise OSError(5, "Input/output error")
            return super().write(text)

    gone = Gone()
    console = Console(force_terminal=True, file=gone, width=80, height=20)

    async def sleep(_seconds: float) -> None:
        gone.broken = True
        await anyio.lowlevel.checkpoint()

    stderr = sys.stderr
    with anyio.fail_after(5):
        await ProgressObserver(console, sleep=sleep).run()
    assert sys.stderr is stderr
