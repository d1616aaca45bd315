"""A target that nobody else writes: what is recorded of its tags is believed, and only as far as it says enough."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.engine.journal import MemoryJournal
from syncer.engine.listing import BATCH
from syncer.errors import ServerFailure
from syncer.events import ManifestPushed, TagOutcome
from syncer.oci.digest import Digest
from syncer.oci.referrers import cosign_tags
from syncer.plan.actions import ActionKind, Reason
from tests.support import images
from tests.support.memory import MemoryRepository
from tests.unit.engine.test_runs import World, filled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from syncer.oci.descriptor import Descriptor
    from syncer.plan.records import TagRecord
    from tests.support.memory import Operation

ONE = "  - {name: one, from: source/app, to: target/app, sole_writer: true}\n"
#: What a run with nothing to do asks: a list on each side, and the source for each of twelve tags.
SOURCE, TARGET = {"tags": 1, "head": 12}, {"tags": 1}


def cost(world: World) -> tuple[dict[str, int], dict[str, int]]:
    """Return what each side was asked in the last run."""
    return dict(world.source.counts()), dict(world.target.counts())


async def synced(entry: str = ONE, count: int = 12) -> World:
    """Return a world that one run has brought in step."""
    world = filled(count)
    await world.run(entry)
    return world


async def test_only_the_source_is_asked_for_a_tag_that_is_recorded() -> None:
    """What an earlier run has copied, or has found in sync, is asked for at the source and not at the target."""
    world = await synced()
    for _ in range(2):
        outcomes = await world.run(ONE)
        assert {(event.outcome, event.reason) for event in outcomes.values()} == {(TagOutcome.IN_SYNC, Reason.RECORDED)}
        assert {tag: event.digest for tag, event in outcomes.items()} == world.target.tagged["app"]
        assert cost(world) == (SOURCE, TARGET)
    # A run that was told nothing of it records as well what it has seen.
    world.journal = MemoryJournal()
    await world.run(ONE.replace(", sole_writer: true", ""))
    assert cost(world) == (SOURCE, {"tags": 1, "head": 12})
    await world.run(ONE)
    assert cost(world) == (SOURCE, TARGET)


async def test_without_a_record_both_sides_are_asked() -> None:
    """A state that was lost costs a HEAD per tag at the target, once."""
    world = await synced()
    world.journal = MemoryJournal()
    outcomes = await world.run(ONE)
    assert {event.reason for event in outcomes.values()} == {Reason.IN_SYNC}
    assert cost(world) == (SOURCE, {"tags": 1, "head": 12})
    await world.run(ONE)
    assert cost(world) == (SOURCE, TARGET)


async def test_a_tag_that_the_target_does_not_list_is_copied_again() -> None:
    """The record does not stand against the list."""
    world = await synced()
    del world.target.tagged["app"]["v003"]
    outcomes = await world.run(ONE)
    assert {tag for tag, event in outcomes.items() if event.outcome is TagOutcome.COPIED} == {"v003"}
    assert world.target.tagged["app"] == world.source.tagged["app"]
    assert world.target.counts("head", "put") == {"put": 1}


async def test_a_changed_tag_is_copied_without_a_look_at_the_target() -> None:
    """The source says that it moved; what the target's tag was before is known from the record."""
    world = await synced()
    world.source.store("app", images.image(layers=1, seed="new"), "v003")
    outcomes = await world.run(ONE)
    assert (outcomes["v003"].outcome, outcomes["v003"].reason) == (TagOutcome.COPIED, Reason.CHANGED)
    assert world.target.tagged["app"] == world.source.tagged["app"]
    assert "head" not in world.target.counts()
    await world.run(ONE)
    assert cost(world) == (SOURCE, TARGET)


async def test_a_tag_that_goes_back_and_forth_is_followed() -> None:
    """What counts is the last record: a tag that is what it once was is copied again."""
    world = await synced()
    first, second = images.image(seed="first"), images.image(seed="second")
    for sample in (first, second, first, second, second):
        world.source.store("app", sample, "v003")
        await world.run(ONE)
        assert world.target.tagged["app"]["v003"] == sample.digest


@pytest.mark.parametrize(
    "other",
    [
        pytest.param("  - {name: two, from: source/app, to: target/app, sole_writer: true}\n", id="entry"),
        pytest.param("  - {name: one, from: source/copy, to: target/app, sole_writer: true}\n", id="source"),
    ],
)
async def test_a_record_of_another_entry_or_source_is_not_believed(other: str) -> None:
    """It is asked for on both sides, and then the record is one's own."""
    world = await synced()
    source = world.source
    source.blobs["copy"], source.manifests["copy"] = dict(source.blobs["app"]), dict(source.manifests["app"])
    source.tagged["copy"] = dict(source.tagged["app"])
    await world.run(other)
    assert cost(world) == (SOURCE, {"tags": 1, "head": 12})
    await world.run(other)
    assert cost(world) == (SOURCE, TARGET)


async def test_the_record_of_a_tag_that_failed_or_was_left_is_none() -> None:
    """After a failure or a stop nobody knows what the tag stands for: both sides are asked."""
    world = await synced()
    world.source.fail("head", "v003", ServerFailure("broken", status=500))
    outcomes = await world.run(ONE)
    assert outcomes["v003"].outcome is TagOutcome.FAILED
    await world.run(ONE)
    assert cost(world) == (SOURCE, {"tags": 1, "head": 1})

    scope = anyio.CancelScope()

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        if operation.about == "v005":
            scope.cancel()
        yield

    world.source.gate = gate
    run = await world.prepare(ONE)
    with scope:
        await run.execute()
    world.source.gate = None
    left = {record.tag for record in (await world.journal.tags("target/app")).values() if record.target_digest is None}
    assert "v005" in left
    await world.run(ONE)
    assert world.target.counts() == {"tags": 1, "head": len(left - {""})}


async def test_the_record_of_a_tag_at_which_a_run_broke_down_is_none() -> None:
    """A fault of ours ends the run, and may have left the tag as anything."""
    world = await synced()
    world.source.fail("head", "v003", ZeroDivisionError("a fault of ours"))
    run = await world.prepare(ONE)
    with pytest.raises(ExceptionGroup):
        await run.execute()
    record = (await world.journal.tags("target/app"))["v003"]
    assert (record.outcome, record.target_digest) == (TagOutcome.CANCELLED, None)


async def test_a_recheck_asks_for_everything() -> None:
    """What somebody else has done to the target after all is found by a recheck, and repaired."""
    world = await synced()
    world.target.store("app", images.image(seed="somebody else's"), "v003")
    outcomes = await world.run(ONE)
    assert {event.outcome for event in outcomes.values()} == {TagOutcome.IN_SYNC}
    outcomes = await world.run(ONE, recheck=True)
    assert {tag for tag, event in outcomes.items() if event.outcome is TagOutcome.COPIED} == {"v003"}
    assert world.target.tagged["app"] == world.source.tagged["app"]
    assert world.target.counts("head") == {"head": 12 + 12}, "each tag, and each manifest that was written again"


async def test_a_plan_asks_both_sides() -> None:
    """What somebody else has done to the target after all is seen by a plan."""
    world = await synced()
    world.target.store("app", images.image(seed="somebody else's"), "v003")
    actions = await (await world.prepare(ONE)).plan()
    assert {action.tag for action in actions if action.kind is ActionKind.COPY} == {"v003"}
    assert cost(world) == (SOURCE, {"tags": 1, "head": 12})


async def test_few_tags_are_asked_for_one_by_one() -> None:
    """Where the target is not listed, nothing confirms that a tag is there: each is asked for."""
    world = await synced(count=4)
    outcomes = await world.run(ONE)
    assert {event.reason for event in outcomes.values()} == {Reason.IN_SYNC}
    assert world.target.counts() == {"head": 4}


async def test_an_immutable_tag_is_none_that_was_looked_at() -> None:
    """A tag that was immutable until now has a record that no run has confirmed: it is asked for, once."""
    world = await synced()
    await world.run(ONE.replace("sole_writer: true", "tags: {immutable: ['v*']}"))
    records = (await world.journal.tags("target/app")).values()
    assert {record.run for record in records if record.tag} == {""}
    outcomes = await world.run(ONE.replace("true", "true, tags: {immutable: ['v00*']}"))
    assert {event.reason for event in outcomes.values()} == {Reason.IMMUTABLE, Reason.RECORDED}
    assert world.source.counts() == {"tags": 1, "head": 2}


async def test_companions_are_asked_for() -> None:
    """A signature's tag is written with its image, too, without a record: it is asked for on both sides."""
    world = await synced()
    digest = world.source.tagged["app"]["v003"]
    tag = cosign_tags(digest)[0]
    world.source.store("app", images.artifact(seed="signature"), tag)
    named = ONE.replace("true", f"true, tags: {{include: ['v*', {tag}]}}")
    await world.run(named)
    assert world.target.tagged["app"] == world.source.tagged["app"]
    outcomes = await world.run(named)
    assert outcomes[tag].reason == Reason.IN_SYNC
    # By itself, and as what belongs to an image in sync.
    assert set(world.target.counts()) == {"tags", "head"}
    assert {one.about for one in world.target.log if one.verb == "head"} == {tag}


async def test_signatures_that_come_later_are_found() -> None:
    """A tag that was taken from the record counts as in sync for what is attached to it."""
    world = await synced()
    digest = world.source.tagged["app"]["v003"]
    tag = cosign_tags(digest)[0]
    world.source.store("app", images.artifact(seed="signature"), tag)
    outcomes = await world.run(ONE)
    assert outcomes[tag].outcome is TagOutcome.COPIED
    assert world.target.tagged["app"] == world.source.tagged["app"]


async def test_what_was_collected_behind_the_state_is_brought_again() -> None:
    """A changed tag whose blobs the target has lost: the registry says what is missing, and gets it."""
    world = await synced()
    shared = set.intersection(*(set(manifest.blobs()) for manifest in world.source.manifests["app"].values()))
    (lost,) = shared
    del world.target.blobs["app"][lost.digest]
    new = images.image(layers=1, seed="new", shared=[world.source.blobs["app"][lost.digest]])
    world.source.store("app", new, "v003")
    outcomes = await world.run(ONE)
    assert outcomes["v003"].outcome is TagOutcome.COPIED
    assert world.target.refused == [new.digest]
    assert world.target.tagged["app"] == world.source.tagged["app"]


class TestSubsets:
    """Platform subsets, which have a digest of their own."""

    ENTRY = ONE.replace("true", "true, platforms: [linux/amd64]")

    @pytest.fixture
    async def world(self) -> World:
        """Return a world with seven indexes and an image, brought in step."""
        world = World()
        for at in range(7):
            world.source.store("app", images.index(seed=at), f"v{at}")
        world.source.store("app", images.image(), "v7")
        await world.run(self.ENTRY)
        return world

    async def test_they_are_believed_as_well(self, world: World) -> None:
        """The record tells the index and what was made of it: one HEAD for each, and nothing of the target."""
        outcomes = await world.run(self.ENTRY)
        assert {event.reason for event in outcomes.values()} == {Reason.RECORDED}
        assert cost(world) == ({"tags": 1, "head": 8}, {"tags": 1})

    async def test_those_of_other_platforms_are_not(self, world: World) -> None:
        """Another set of platforms wants another subset: both sides are asked, and what is due is copied."""
        other = self.ENTRY.replace("amd64", "arm64")
        outcomes = await world.run(other)
        assert sum(event.outcome is TagOutcome.COPIED for event in outcomes.values()) == 7
        assert world.target.counts("head") == {"head": 8}
        outcomes = await world.run(ONE)
        assert sum(event.outcome is TagOutcome.COPIED for event in outcomes.values()) == 7
        assert world.target.counts("head") == {"head": 7}
        assert world.target.tagged["app"] == world.source.tagged["app"]

    async def test_an_image_for_one_platform_is_all_there_is(self, world: World) -> None:
        """After the state was lost an image is found in sync once, and believed from then on, as indexes are."""
        world.journal = MemoryJournal()
        await world.run(self.ENTRY)
        assert cost(world) == ({"tags": 1, "head": 8, "get": 7}, {"tags": 1, "head": 8})
        await world.run(self.ENTRY)
        assert cost(world) == ({"tags": 1, "head": 8}, {"tags": 1})

    async def test_an_index_that_changed_elsewhere_is_in_sync(self, world: World) -> None:
        """A new platform that nobody wants makes another index and the same subset: nothing is written."""
        more = images.index(platforms=("linux/amd64", "linux/arm64/v8", "linux/s390x"), seed=3)
        assert more.digest != world.source.tagged["app"]["v3"]
        world.source.store("app", more, "v3")
        outcomes = await world.run(self.ENTRY)
        assert outcomes["v3"].outcome is TagOutcome.IN_SYNC
        assert not world.recorder.of(ManifestPushed)


async def test_the_state_is_read_once_for_many_tags() -> None:
    """Records, and the subsets that they speak of, are read a page of tags at a time."""
    asked: list[tuple[str, int]] = []

    class Counting(MemoryJournal):
        async def last_words(self, target: str, tags: Sequence[str]) -> dict[str, TagRecord]:
            asked.append(("last_words", len(tags)))
            return await super().last_words(target, tags)

        async def subset(self, source: Digest, platforms: str) -> Digest | None:
            asked.append(("subset", 1))
            return await super().subset(source, platforms)

        async def subsets(self, sources: Collection[Digest], platforms: str) -> dict[Digest, Digest]:
            asked.append(("subsets", len(sources)))
            return await super().subsets(sources, platforms)

    world = World()
    world.source.referrers_api = False
    world.journal = Counting()
    sample = images.image()
    for at in range(BATCH + 50):
        world.source.store("app", sample, f"v{at}")
    entry = ONE.replace("true", "true, platforms: [linux/amd64]")
    await world.run(entry)
    asked.clear()
    outcomes = await world.run(entry)
    assert {event.reason for event in outcomes.values()} == {Reason.RECORDED}
    assert sum(count for call, count in asked if call == "last_words") == BATCH + 50
    assert len(asked) <= 2 * 4
    assert {call for call, _ in asked} == {"last_words", "subsets"}


async def test_a_head_that_is_wrong_is_read_and_not_written() -> None:
    """A source whose HEAD names another digest than its bytes have: the bytes are recorded, and nothing is due."""
    world = await synced()
    wrong = {"v003": Digest.of(b"never was")}

    class Wrong(MemoryRepository):
        async def resolve(self, reference: str) -> Descriptor:
            descriptor = await super().resolve(reference)
            return replace(descriptor, digest=wrong.get(reference, descriptor.digest))

    def repository(registry: str, repository: str) -> Wrong:
        return Wrong(world.registries[registry], repository)

    world.repository = repository  # type: ignore[method-assign]  # that is the defect
    outcomes = await world.run(ONE)
    assert (outcomes["v003"].outcome, outcomes["v003"].reason) == (TagOutcome.IN_SYNC, Reason.RECORDED)
    assert cost(world) == ({**SOURCE, "get": 1}, TARGET)
