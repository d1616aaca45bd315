"""A run that is asked to begin nothing more: what is under way is finished, and the rest is found again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.engine.draining import Drain
from syncer.engine.runs import Breadth
from syncer.errors import Interrupted, ServerFailure
from syncer.events import LookCut, RepositoryFinished, RepositoryListed, TagFinished, TagOutcome
from syncer.oci.referrers import cosign_tags
from syncer.plan.records import Unresolved
from tests.support import images
from tests.support.faults.virtual_time import virtually
from tests.unit.engine.test_overlap import paged
from tests.unit.engine.test_runs import ONE, World, filled, unresolved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.memory import MemoryRegistry, Operation

CATALOG = "  - {name: all, from: 'source/team/*', to: 'target/{path}'}\n"
TWO_AT_ONCE = Breadth(images=2)


def begins_at(drain: Drain, registry: MemoryRegistry, verb: str, about: str = "") -> None:
    """Begin the drain when ``registry`` is asked ``verb``, about ``about`` where that is given."""

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        if operation.verb == verb and about in ("", operation.about):
            drain.begin()
        yield

    registry.gate = gate


async def drained(world: World, sync: str, drain: Drain, **options: object) -> dict[str, TagOutcome]:
    """Run ``sync`` with ``drain``, which must end by itself, and return what became of each tag."""
    run = await world.prepare(sync, drain=drain, **options)
    with anyio.fail_after(30):
        await run.execute()
    world.source.gate = world.target.gate = None
    return {event.tag: event.outcome for event in world.recorder.of(TagFinished)}


async def test_images_under_way_are_finished_and_the_next_is_not_begun() -> None:
    """Of twelve tags the two under way arrive whole, nothing is asked of the others, and the next run does those."""
    world, drain = filled(), Drain()
    begins_at(drain, world.target, "put")
    outcomes = await drained(world, ONE, drain, breadth=TWO_AT_ONCE)
    assert set(outcomes.values()) == {TagOutcome.COPIED}
    assert set(outcomes) == set(world.target.tagged["mirror/app"])
    assert len(outcomes) == 2
    assert world.source.counts("get", "head") == {"get": 2}
    (listed,) = world.recorder.of(RepositoryListed)
    assert listed.selected == 12
    (finished,) = world.recorder.of(RepositoryFinished)
    assert finished.error is None
    assert world.recorder.of(LookCut) == [LookCut(entry="one", source="source/app", target="target/mirror/app")]
    only = await unresolved(world)
    assert only == Unresolved(repositories=frozenset({"target/mirror/app"}))
    rest = await world.run(ONE, only=only)
    assert [event.outcome for event in rest.values()].count(TagOutcome.COPIED) == 10
    assert world.target.counts("put") == {"put": 10}
    assert await unresolved(world) == Unresolved()


async def test_a_run_that_had_begun_everything_is_done_all_the_same() -> None:
    """Where nothing was left to begin nothing is cut, and nothing is left to be tried again."""
    world, drain = filled(3), Drain()
    begins_at(drain, world.target, "put", "v002")
    outcomes = await drained(world, ONE, drain)
    assert list(outcomes.values()) == [TagOutcome.COPIED] * 3
    assert world.recorder.of(LookCut) == []
    assert await unresolved(world) == Unresolved()


async def test_a_drain_before_the_first_request() -> None:
    """Nothing is asked of anybody, and every entry is remembered as not looked at."""
    world, drain = filled(), Drain()
    drain.begin()
    assert await drained(world, ONE + CATALOG, drain) == {}
    assert world.source.log == world.target.log == []
    assert world.recorder.of(LookCut) == [LookCut(entry="one"), LookCut(entry="all")]
    assert await unresolved(world) == Unresolved(entries=frozenset({"one", "all"}))


@pytest.mark.parametrize("referrers", [False, True])
async def test_a_list_that_stalls_holds_nothing_up(*, referrers: bool) -> None:
    """A second page that never comes is waited for no longer; images that need it are given up, the others finished.

    Whether somebody signed an image is known only when all tags are: without them its tag is not written.
    """
    world, source = paged()
    drain = Drain()
    begins_at(drain, world.target, "blob-put")
    entry = ONE if referrers else ONE.replace("}\n", ", referrers: false}\n")
    outcomes = await drained(world, entry, drain)
    assert set(outcomes.values()) == {TagOutcome.CANCELLED if referrers else TagOutcome.COPIED}
    assert len(outcomes) == 6
    assert len(world.target.tagged.get("mirror/app", {})) == (0 if referrers else 6)
    (listed,) = world.recorder.of(RepositoryListed)
    assert (listed.listed, listed.selected) == (6, 6)
    assert len(world.recorder.of(LookCut)) == 1
    source.second_page.set()
    sent = set(world.target.blobs["mirror/app"])
    only = await unresolved(world)
    assert only.repositories == {"target/mirror/app"}
    await world.run(entry, only=only)
    assert world.target.tagged["mirror/app"] == source.tagged["app"]
    assert not sent & {operation.about for operation in world.target.log if operation.verb == "blob-put"}
    assert await unresolved(world) == Unresolved()


async def test_a_catalog_is_read_no_further() -> None:
    """The repository that waits for a place is not begun; its entry is tried again, not the one that was finished."""
    world, drain = World(), Drain()
    for at in range(3):
        world.source.store(f"team/app{at}", images.image(seed=at), "v1")
    begins_at(drain, world.target, "put")
    assert await drained(world, CATALOG + ONE, drain, breadth=Breadth(repositories=1)) == {"v1": TagOutcome.COPIED}
    assert list(world.target.tagged) == ["team/app0"]
    assert {cut.entry for cut in world.recorder.of(LookCut)} == {"all", "one"}
    assert await unresolved(world) == Unresolved(entries=frozenset({"all", "one"}))


async def test_a_catalog_that_stalls_holds_nothing_up() -> None:
    """A catalog that does not answer is waited for no longer than until the drain begins."""
    world, drain = World(), Drain()

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        if operation.verb == "catalog":
            drain.begin()
            await anyio.sleep_forever()
        yield

    world.source.gate = gate
    assert await drained(world, CATALOG, drain) == {}
    assert await unresolved(world) == Unresolved(entries=frozenset({"all"}))


async def test_what_was_attached_later_is_not_begun() -> None:
    """Signatures of images that are in step already are left to the next run, which is not called done for less."""
    world = filled(1)
    await world.run(ONE)
    signature = cosign_tags(world.source.tagged["app"]["v000"])[0]
    world.source.store("app", images.artifact(seed="signature"), signature)
    drain = Drain()
    begins_at(drain, world.source, "head", "v000")
    assert await drained(world, ONE, drain) == {"v000": TagOutcome.IN_SYNC}
    assert len(world.recorder.of(LookCut)) == 1
    only = await unresolved(world)
    assert only.repositories == {"target/mirror/app"}
    await world.run(ONE, only=only)
    assert signature in world.target.tagged["mirror/app"]
    assert await unresolved(world) == Unresolved()


async def test_a_drained_run_of_what_failed_leaves_exactly_the_rest() -> None:
    """Of tags that are tried again, those not begun are tried again next time, and no others with them."""
    world = filled()
    for at in range(4):
        world.source.fail("get", f"v{at:03}", ServerFailure(status=500))
    await world.run(ONE)
    only = await unresolved(world)
    assert len(only.tags) == 4
    drain = Drain()
    begins_at(drain, world.target, "put")
    outcomes = await drained(world, ONE, drain, only=only, breadth=TWO_AT_ONCE)
    assert list(outcomes.values()) == [TagOutcome.COPIED] * 2
    assert len(world.recorder.of(LookCut)) == 1
    rest = {(target, tag) for target, tag in only.tags if tag not in outcomes}
    assert await unresolved(world) == Unresolved(tags=frozenset(rest))


async def test_a_stop_remembers_entries_that_were_not_begun() -> None:
    """Also without a drain: an entry whose turn had not come is tried again as a whole."""
    world = World()
    for at in range(3):
        world.source.store(f"team/app{at}", images.image(seed=at), "v1")
    run = await world.prepare(CATALOG + ONE, breadth=Breadth(repositories=1))
    with anyio.CancelScope() as scope:

        @asynccontextmanager
        async def gate(operation: Operation) -> AsyncIterator[None]:
            if operation.verb == "put":
                scope.cancel()
            yield

        world.target.gate = gate
        await run.execute()
    assert (await unresolved(world)).entries == {"all", "one"}


@pytest.mark.parametrize(
    ("begins", "wakes"),
    [
        (None, 10.0),
        (0.0, 10.0),
        (3.5, 10.0),
        (12.0, 10.0),
        pytest.param(1.5, 10.0, id="time to tidy up"),
        (0.5, "given up"),
        pytest.param(-8.0, 10.0, id="over before"),
    ],
)
def test_a_sleep_takes_as_long_as_it_should_or_is_given_up_at_once(begins: float | None, wakes: float | str) -> None:
    """A drain neither lengthens nor shortens a sleep; one that outlasts it by far is given up."""
    # Ten seconds of sleep; five of drain, but where it begins early.
    drain = Drain(5.0 if begins else 60.0)

    async def main() -> tuple[float, float | str]:
        clock = asyncio.get_running_loop().time
        if begins is not None and begins <= 0:
            drain.begin()
            await anyio.sleep(-begins)
        elif begins is not None:
            asyncio.get_running_loop().call_later(begins, drain.begin)
        began = clock()
        try:
            await drain.sleep(10.0)
        except Interrupted:
            return clock() - began, "given up"
        return clock() - began, clock() - began

    took, came_to = virtually(main())
    assert came_to == (wakes if isinstance(wakes, str) else pytest.approx(wakes))
    if came_to == "given up":
        assert took == pytest.approx(begins)
