"""kill -9 at every step: what is left is whole, and the next run brings it to its end within the budget."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread

from tests.kills import planted
from tests.kills.copying import PLACES, Copy
from tests.kills.crashes import Job, Point, Tally, every, some, spread
from tests.kills.filling import Fill
from tests.kills.jobs import jobs
from tests.kills.migrating import Migrate
from tests.kills.mirroring import Mirror
from tests.kills.serving import Serve
from tests.kills.table import TITLE, row
from tests.kills.withdrawing import Withdraw
from tests.support.forks import forking

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.untraced

#: The jobs of every day, and how many failpoints of each; ``make kills`` and ``make torture`` play all of all.
SAMPLED: tuple[Callable[[], Job], ...] = (
    Mirror,
    Withdraw,
    Fill,
    lambda: Copy(PLACES[0]),
    lambda: Copy(PLACES[1]),
    Serve,
    lambda: Migrate(1),
)
SAMPLE = 2


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Say nothing of the connections of processes that died."""
    logging.getLogger("aiohttp.server").disabled = True


def check(tally: Tally) -> None:
    """Fail with all that was not as it should be."""
    assert not tally.failed, "\n".join(tally.told())
    assert tally.deaths


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_sample_of_failpoints(tmp_path: Path) -> None:
    """Jobs of each sort are killed at a few of their failpoints, and all is well after each."""
    async with forking() as forks:
        for number, make in enumerate(SAMPLED):
            job = await to_thread.run_sync(make)
            check(await some(job, forks, tmp_path / str(number), count=SAMPLE, seed=number))


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("make", [pytest.param(make, id=f"{number}") for number, make in enumerate(jobs())])
async def test_every_failpoint(
    tmp_path: Path, make: Callable[[], Job], record_property: Callable[[str, object], None]
) -> None:
    """A job is killed at each of its failpoints until it survives, and all is well after each."""
    async with forking() as forks:
        job = await to_thread.run_sync(make)
        tally = await every(job, forks, tmp_path)
    record_property("told", f"{TITLE}\n{row(tally)}")
    check(tally)


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("plant", "make"),
    [
        (planted.ended_before_it_began, Withdraw),
        (planted.written_in_place, lambda: Copy(PLACES[0])),
        (planted.tag_before_content, lambda: Copy(PLACES[0])),
        (planted.archive_in_place, lambda: Copy(PLACES[1])),
        (planted.told_before_written, Serve),
        (planted.known_before_sent, Mirror),
        (planted.noted_before_written, Mirror),
        (planted.migrated_without_a_transaction, lambda: Migrate(1)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_planted_defect_is_found(tmp_path: Path, plant: Callable[[], None], make: Callable[[], Job]) -> None:
    """A defect that only a kill brings to light is found."""
    async with forking() as forks:
        forks.plant = f"{plant.__module__}:{plant.__name__}"
        job = await to_thread.run_sync(make)
        tally = await some(job, forks, tmp_path, count=60, seed=1, until_failed=True)
        assert tally.failed


def test_spread() -> None:
    """Failpoints are spread evenly from a start that the seed chooses; there are no more of them than there are."""
    counts = {"a": 60, "b": 40}
    assert spread(counts, count=4, seed=0) == [Point(1, "a"), Point(26, "a"), Point(51, "a"), Point(16, "b")]
    assert spread(counts, count=4, seed=7) == [Point(8, "a"), Point(33, "a"), Point(58, "a"), Point(23, "b")]
    assert spread({"a": 3}, count=10, seed=5) == [Point(1, "a"), Point(2, "a"), Point(3, "a")]
