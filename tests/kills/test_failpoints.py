"""The failpoints themselves: they kill, they are counted, and no window of a write is beyond their reach."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread

from syncer.layout.archive_target import ArchiveTarget
from tests.kills.crashes import spread
from tests.support import images
from tests.support.forks import Order, forking
from tests.support.transfer import push

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = ("copy", "oci-archive:source.tar:v1", "oci:target:v1", "--quiet")
LARGE = 1_500_000
WINDOWS = {
    "a blob is half written",
    "a blob is written and not in place",
    "a blob is in place and nothing lists it",
    "a line of the journal is torn",
    "the journal has what index.json lacks",
    "index.json has what the journal still has",
    "all is done",
}


async def fill(path: Path) -> None:
    """Make an archive of one image with one layer of several writes."""
    async with await ArchiveTarget.open(path, durable=False) as archive:
        await push(archive, images.image(layers=1, size=LARGE), "v1")


def windows(target: Path) -> Iterator[str]:
    """Tell in which windows of its life a layout is."""
    spools = [blob.stat().st_size for blob in target.glob(".syncer/tmp/blob.*")]
    if any(LARGE / 10 < size < LARGE for size in spools):
        yield "a blob is half written"
    if LARGE in spools:
        yield "a blob is written and not in place"
    index, journal = target / "index.json", target / ".syncer" / "journal"
    lines = journal.read_bytes() if journal.exists() else b""
    has_tag = index.exists() and b'"v1"' in index.read_bytes()
    if any(target.glob("blobs/*/*")) and not lines and not has_tag:
        yield "a blob is in place and nothing lists it"
    if lines and not lines.endswith(b"\n"):
        yield "a line of the journal is torn"
    if lines.endswith(b"\n"):
        yield "index.json has what the journal still has" if has_tag else "the journal has what index.json lacks"
    if has_tag and not lines:
        yield "all is done"


@pytest.mark.slow
async def test_a_process_dies_at_its_failpoint(tmp_path: Path) -> None:
    """It dies of SIGKILL at the number given, of SIGXFSZ beyond the size given, and else counts what it passes."""
    await fill(tmp_path / "source.tar")
    async with forking() as forks:
        free = await forks.run(Order(arguments=COMMAND, folder=str(tmp_path)))
        assert (free.code, free.was_killed) == (0, False)
        assert free.points["event"] > 10
        await to_thread.run_sync(shutil.rmtree, tmp_path / "target")
        killed = await forks.run(Order(arguments=COMMAND, folder=str(tmp_path), at=10, kind="event"))
        assert (killed.code, killed.was_killed, killed.points) == (-signal.SIGKILL, True, {})
        await to_thread.run_sync(shutil.rmtree, tmp_path / "target")
        bound = await forks.run(Order(arguments=COMMAND, folder=str(tmp_path), size=1_000_000))
        assert (bound.code, bound.was_killed) == (-signal.SIGXFSZ, True)
        assert "half written" in next(windows(tmp_path / "target"))
        last = await forks.run(Order(arguments=COMMAND, folder=str(tmp_path)))
        assert (last.code, last.err) == (0, "")


@pytest.mark.torture
@pytest.mark.timeout(600)
async def test_every_window_is_reached(tmp_path: Path) -> None:
    """Each state that a layout passes through while it is written is left behind by the one failpoint or other."""
    await fill(tmp_path / "source.tar")
    seen: set[str] = set()
    async with forking() as forks:
        free = await forks.run(Order(arguments=COMMAND, folder=str(tmp_path)))
        for point in spread(free.points, count=sum(free.points.values()), seed=0):
            await to_thread.run_sync(lambda: shutil.rmtree(tmp_path / "target", ignore_errors=True))
            await forks.run(Order(arguments=COMMAND, folder=str(tmp_path), at=point.number, kind=point.kind))
            seen |= await to_thread.run_sync(lambda: set(windows(tmp_path / "target")))
    assert seen == WINDOWS
