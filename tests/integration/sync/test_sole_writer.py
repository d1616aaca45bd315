"""``sole_writer`` on the wire: what a target that nobody else writes is asked, and when a record is not enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.events import RunStatus, TagFinished, TagOutcome
from syncer.state import StateStore
from tests.support import images
from tests.support.observing import Recorder
from tests.support.world import Embedded, embedded, fill, run, spec_between

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from syncer.telemetry.report import Report

ENTRY = "name: all, from: source/app, to: target/app, referrers: false, sole_writer: true"
LIST = ("GET", "tags/list")
HEAD = ("HEAD", "manifests")
GET = ("GET", "manifests")
PUT = ("PUT", "manifests")
#: Tags in a page of the target's list.
PAGE = 200


async def cost(
    source: Embedded, target: Embedded, folder: Path, entry: str = ENTRY, *, recheck: bool = False
) -> tuple[Report, Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Run the entry, and return its report and the requests that each side answered."""
    source.requests.clear()
    target.requests.clear()
    report = await run(spec_between(source.host, target.host, entry), folder, recheck=recheck)
    assert not report.failures
    return report, source.counts(), target.counts()


@pytest.mark.untraced
@pytest.mark.parametrize(
    ("count", "tells"), [(250, False), (50, True)], ids=["plain lists", "the source's list tells digests"]
)
async def test_many_tags_in_sync_cost_the_target_its_list(tmp_path: Path, count: int, *, tells: bool) -> None:
    """A list and a HEAD per tag at the source, or only the list where it tells digests; only a list at the target."""
    sample = images.image(layers=0)
    async with (
        embedded(tmp_path / "source", tag_digests=tells) as source,
        embedded(tmp_path / "target", page_size=PAGE) as target,
    ):
        await fill(source.host, "app", {f"v{at:03}": sample for at in range(count)})
        await cost(source, target, tmp_path)
        report, asked, told = await cost(source, target, tmp_path)
        assert asked == ({LIST: 1} if tells else {LIST: 1, HEAD: count})
        assert told == {LIST: -(-count // PAGE)}
        assert report.totals.tags[TagOutcome.IN_SYNC] == report.totals.recorded == count
        assert report.status is RunStatus.DONE


async def test_what_changed_is_read_and_written_and_nothing_is_asked_of_the_target(tmp_path: Path) -> None:
    """A tag that moves to an image which the target has: HEAD and GET at the source, and a PUT."""
    samples = {f"v{at}": images.image(layers=1, seed=at) for at in range(6)}
    async with embedded(tmp_path / "source") as source, embedded(tmp_path / "target") as target:
        await fill(source.host, "app", samples)
        await cost(source, target, tmp_path)
        await fill(source.host, "app", {"v1": samples["v2"]})
        report, asked, told = await cost(source, target, tmp_path)
        assert asked == {LIST: 1, HEAD: 6, GET: 1}
        assert told == {LIST: 1, PUT: 1}
        assert (report.totals.recorded, report.totals.tags[TagOutcome.COPIED]) == (5, 1)


async def test_a_state_that_was_lost_costs_a_look_at_both_sides(tmp_path: Path) -> None:
    """Without a record it is 1 + 1, once."""
    async with embedded(tmp_path / "source") as source, embedded(tmp_path / "target") as target:
        await fill(source.host, "app", {f"v{at}": images.image(layers=0, seed=at) for at in range(6)})
        await cost(source, target, tmp_path)
        await anyio.Path(tmp_path, "state.db").unlink()
        report, asked, told = await cost(source, target, tmp_path)
        assert (report.totals.recorded, asked, told) == (0, {LIST: 1, HEAD: 6}, {LIST: 1, HEAD: 6})
        report, _, told = await cost(source, target, tmp_path)
        assert (report.totals.recorded, told) == (6, {LIST: 1})


async def test_what_was_recorded_before_a_run_was_killed_is_not_believed(tmp_path: Path) -> None:
    """A run that was killed has moved a tag and could not say so; the source's tag went back since.

    The record of the run before it agrees with the source, and would be wrong of the target.
    """
    samples = {f"v{at}": images.image(layers=0, seed=at) for at in range(6)}
    async with embedded(tmp_path / "source") as source, embedded(tmp_path / "target") as target:
        await fill(source.host, "app", samples)
        await cost(source, target, tmp_path)
        async with StateStore.open(tmp_path / "state.db", observer=Recorder()) as state:
            await state.begin_run("spec.yaml")
            await fill(target.host, "app", {"v1": images.image(layers=0, seed="moved")})
        # What a run says of each tag is compared with what the target holds, here and in every other run.
        report, _, told = await cost(source, target, tmp_path)
        assert (report.totals.recorded, report.totals.tags[TagOutcome.COPIED]) == (0, 1)
        assert told == {LIST: 1, HEAD: 6, PUT: 1}
        report, _, told = await cost(source, target, tmp_path)
        assert (report.totals.recorded, told) == (6, {LIST: 1})


async def test_what_somebody_else_writes_is_found_by_a_recheck(tmp_path: Path) -> None:
    """That is what is risked: a tag that another writer moves stays so, and is repaired by a recheck."""
    samples = {f"v{at}": images.image(layers=0, seed=at) for at in range(6)}
    async with embedded(tmp_path / "source") as source, embedded(tmp_path / "target") as target:
        await fill(source.host, "app", samples)
        await cost(source, target, tmp_path)
        await fill(target.host, "app", {"v1": images.image(layers=0, seed="somebody else's")})
        text = spec_between(source.host, target.host, ENTRY)
        with pytest.raises(AssertionError, match="app:v1 is said to be"):
            await run(text, tmp_path)
        report, asked, told = await cost(source, target, tmp_path, recheck=True)
        assert report.totals.tags[TagOutcome.COPIED] == 1
        assert report.totals.recorded == 0
        assert told[HEAD] >= 6
        assert asked[HEAD] >= 6
        heard = Recorder()
        await run(text, tmp_path, heard)
        assert {event.reason for event in heard.of(TagFinished)} == {"recorded"}
