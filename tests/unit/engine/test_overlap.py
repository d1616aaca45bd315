"""Listing, looking and copying go on at the same time, and cost no request more for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.engine.journal import MemoryJournal
from syncer.engine.listing import FEW_TAGS, Listing
from syncer.engine.runs import Breadth
from syncer.errors import NotFound, PolicyViolation, ServerFailure, SyncerError
from syncer.events import EntryFailed, RepositoryFinished, TagFinished, TagOutcome
from syncer.oci import Digest
from syncer.oci.referrers import cosign_tags
from syncer.spec.selection import TagSelection
from tests.support import images
from tests.support.memory import MemoryRegistry, MemoryRepository, Operation
from tests.support.observing import Recorder
from tests.unit.engine.test_runs import ONE, World, filled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from syncer.plan.records import TagRecord


class Paged(MemoryRepository):
    """A repository whose tag list comes in two pages; the second comes when the event of its registry is set."""

    async def tags(self) -> AsyncIterator[str]:
        place = self.place
        assert isinstance(place, PagedRegistry)
        listed = [tag async for tag in super().tags()]
        for tag in [*(tag for tag in listed if tag not in place.late), *sorted(place.late & set(listed))]:
            if tag in place.late:
                await place.second_page.wait()
                if place.breaks_off:
                    raise place.breaks_off
            yield tag


class PagedRegistry(MemoryRegistry):
    """A registry of such repositories; the tags of the second page are ``late``."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.late: set[str] = set()
        self.second_page = anyio.Event()
        self.breaks_off: SyncerError | None = None

    def repository(self, name: str) -> Paged:
        """Return a repository."""
        return Paged(self, name)

    def release_on(self, other: MemoryRegistry, *verbs: str) -> None:
        """Send the second page once ``other`` is asked one of ``verbs``."""

        @asynccontextmanager
        async def gate(operation: Operation) -> AsyncIterator[None]:
            if operation.verb in verbs:
                self.second_page.set()
            yield

        other.gate = gate


def paged(count: int = 12, late: int = 6) -> tuple[World, PagedRegistry]:
    """Return a world whose source has ``count`` tags, the last ``late`` of them on a second page."""
    world = filled(count)
    source = PagedRegistry("source")
    source.referrers_api = False
    source.blobs, source.manifests, source.tagged = world.source.blobs, world.source.manifests, world.source.tagged
    source.late = {f"v{at:03}" for at in range(count - late, count)}
    world.source = world.registries["source"] = source
    return world, source


async def test_the_first_blob_moves_before_the_last_tag_is_listed() -> None:
    """The second page of the tag list is sent only once a blob of the first has arrived: nothing waits for it."""
    world, source = paged()
    source.release_on(world.target, "blob-put")
    with anyio.fail_after(5):
        outcomes = await world.run(ONE)
    assert {event.outcome for event in outcomes.values()} == {TagOutcome.COPIED}
    assert world.target.tagged["mirror/app"] == source.tagged["app"]
    assert source.counts("head", "tags", "get") == {"tags": 1, "get": 12}
    assert world.target.counts("head", "tags", "put") == {"tags": 1, "put": 12}


async def test_tags_of_the_first_page_are_looked_at_while_the_second_is_fetched() -> None:
    """Where nothing is due, the tags of one page are asked for on both sides before the next page comes."""
    world, source = paged()
    source.second_page.set()
    await world.run(ONE)
    source.second_page = anyio.Event()
    run = await world.prepare(ONE)
    both = {"source": source, "target": world.target}

    @asynccontextmanager
    async def gate(_operation: Operation) -> AsyncIterator[None]:
        if all(registry.counts("head")["head"] >= 6 for registry in both.values()):
            source.second_page.set()
        yield

    source.gate = world.target.gate = gate
    with anyio.fail_after(5):
        await run.execute()
    assert source.counts() == world.target.counts() == {"tags": 1, "head": 12}


async def test_a_signature_on_the_last_page_still_arrives_before_its_image() -> None:
    """An image whose content is there waits for the whole list: somebody may have signed it."""
    world, source = paged()
    signed = source.tagged["app"]["v000"]
    signature = cosign_tags(signed)[0]
    source.store("app", images.artifact(seed="signature"), signature)
    source.late.add(signature)
    source.release_on(world.target, "blob-put")
    with anyio.fail_after(5):
        await world.run(ONE)
    written = [operation.about for operation in world.target.log if operation.verb == "put"]
    assert written.index(signature) < written.index("v000")


async def test_a_list_that_breaks_off_fails_the_repository_and_tags_nothing() -> None:
    """What was begun by then is given up: nobody knows what was signed. The next run completes it."""
    world, source = paged()
    source.breaks_off = ServerFailure(status=500)
    source.release_on(world.target, "blob-put")
    with anyio.fail_after(5):
        outcomes = await world.run(ONE)
    (finished,) = world.recorder.of(RepositoryFinished)
    assert isinstance(finished.error, ServerFailure)
    assert {event.outcome for event in outcomes.values()} <= {TagOutcome.CANCELLED}
    assert not world.target.tagged.get("mirror/app")
    source.breaks_off = None
    await world.run(ONE)
    assert world.target.tagged["mirror/app"] == source.tagged["app"]


async def test_a_target_list_that_breaks_off_with_not_found_is_no_empty_repository() -> None:
    """What was not listed by then is asked for one by one: an immutable tag among it is not written over."""
    world, source = paged(late=0)
    target = PagedRegistry("target")
    world.target = world.registries["target"] = target
    target.store("mirror/app", images.image(seed="older"), "v011")
    target.store("mirror/app", images.image(seed="older"), "v000")
    held = target.tagged["mirror/app"]["v011"]
    target.late = {"v011"}
    target.second_page.set()
    target.breaks_off = NotFound("no such page")
    await world.run("  - {name: one, from: source/app, to: target/mirror/app, tags: {immutable: [v011]}}\n")
    assert target.tagged["mirror/app"] == {**source.tagged["app"], "v011": held}


@pytest.mark.parametrize("runs", [1, 2], ids=["copied", "in sync"])
async def test_a_stop_loses_no_note_of_what_was_done(runs: int) -> None:
    """A tag that was brought, or found, in step is recorded and told, though the run is stopped at that very moment."""
    world = filled(1)
    for _ in range(runs - 1):
        await world.run(ONE)
    scope = anyio.CancelScope()

    class Full(MemoryJournal):
        async def record_tag(self, record: TagRecord) -> None:
            # As the store does when a batch is being written: whoever has something to note waits.
            if record.tag:
                scope.cancel()
            await anyio.lowlevel.checkpoint()
            await super().record_tag(record)

    world.journal = journal = Full()
    run = await world.prepare(ONE)
    with scope:
        await run.execute()
    (told,) = world.recorder.of(TagFinished)
    assert told.outcome is (TagOutcome.IN_SYNC if runs > 1 else TagOutcome.COPIED)
    (noted,) = (await journal.tags("target/mirror/app", ["v000"])).values()
    assert noted.outcome is told.outcome


@pytest.mark.parametrize("runs", [1, 2], ids=["copied", "in sync"])
async def test_what_is_noted_is_there_when_it_is_noted(runs: int) -> None:
    """A kill at whatever instant leaves no note of a tag or of content that the target has not got yet."""
    world = filled(3)
    place = world.target

    noted: list[str] = []

    class Strict(MemoryJournal):
        async def record_tag(self, record: TagRecord) -> None:
            if record.tag:
                noted.append(record.tag)
                repository = record.target.partition("/")[2]
                assert place.tagged[repository][record.tag] == record.target_digest
            await super().record_tag(record)

        async def record_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
            held = place.blobs.get(repository, {}).keys() | place.manifests.get(repository, {}).keys()
            assert held >= set(digests)
            await super().record_content(registry, repository, digests)

    for _ in range(runs):
        world.journal = Strict()
        await world.run(ONE)
    assert len(noted) == 3 * runs


@pytest.mark.parametrize("slow", ["target", "other"])
async def test_the_repositories_of_a_target_that_stalls_leave_room_for_others(slow: str) -> None:
    """Many more repositories than a run has open at once arrive at one target while the other answers nothing."""
    world = World()
    world.registries["other"] = MemoryRegistry("other")
    quick = world.registries["other" if slow == "target" else "target"]
    for at in range(20):
        world.source.store(f"team/app{at}", images.image(layers=1), "v1")
    is_done = anyio.Event()

    @asynccontextmanager
    async def gate(_operation: Operation) -> AsyncIterator[None]:
        await is_done.wait()
        yield

    @asynccontextmanager
    async def count(_operation: Operation) -> AsyncIterator[None]:
        if sum(map(len, quick.tagged.values())) + 1 == 20 and _operation.verb == "put":
            is_done.set()
        yield

    world.registries[slow].gate, quick.gate = gate, count
    entries = [
        f"  - {{name: to-{name}, from: 'source/team/*', to: '{name}/{{path}}'}}\n" for name in ("target", "other")
    ]
    run = await world.prepare("".join(entries), breadth=Breadth(repositories=4))
    with anyio.fail_after(5):
        await run.execute()
    for name in ("target", "other"):
        assert len(world.registries[name].tagged) == 20


async def test_the_first_in_the_spec_comes_first_however_long_it_takes() -> None:
    """Two entries meet in a repository of the target: the second has its own at once, and the first a slow catalog."""
    world = World()
    world.registries["other"] = MemoryRegistry("other")
    world.registries["other"].store("app", images.image(seed="second"), "v1")
    world.source.store("team/app", images.image(seed="first"), "v1")
    world.registries["third"] = MemoryRegistry("third")

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        if operation.verb == "catalog":
            # What can begin meanwhile has begun, and is done.
            while not world.registries["third"].tagged.get("app"):
                await anyio.lowlevel.checkpoint()
        yield

    world.source.gate = gate
    sync = (
        "  - {name: first, from: 'source/team/*', to: 'target/{name}'}\n"
        "  - {name: second, from: other/app, to: target/app, tags: {include: ['re:v.']}}\n"
        "  - {name: elsewhere, from: other/app, to: third/app}\n"
    )
    run = await world.prepare(sync)
    with anyio.fail_after(5):
        await run.execute()
    assert world.target.tagged["app"] == world.source.tagged["team/app"]
    failed = [event for event in world.recorder.of(TagFinished) if event.outcome is TagOutcome.FAILED]
    assert [(event.entry, event.tag) for event in failed] == [("second", "v1")]
    assert world.registries["third"].tagged["app"] == world.registries["other"].tagged["app"]


async def test_a_catalog_is_not_read_before_its_entry_s_turn() -> None:
    """Many entries for one target, each with a pattern of its own: their catalogs are read one after the other."""
    world = World()
    for at in range(8):
        world.source.store(f"team{at}/app", images.image(layers=1), "v1")
    reading = most = 0

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        nonlocal reading, most
        if operation.verb == "catalog":
            reading += 1
            most = max(most, reading)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            reading -= 1
        yield

    world.source.gate = gate
    await world.run(
        "".join(f"  - {{name: e{at}, from: 'source/team{at}/*', to: 'target/{{path}}'}}\n" for at in range(8))
    )
    assert most == 1
    assert len(world.target.tagged) == 8


async def test_a_catalog_that_no_entry_can_go_on_with_is_left() -> None:
    """When the source cannot be opened for any of the entries that share its catalog, each fails, and the run ends."""

    class Refusing(World):
        def repository(self, registry: str, repository: str) -> MemoryRepository:
            if registry == "source":
                raise PolicyViolation("it is blocked")
            return super().repository(registry, repository)

    world = Refusing()
    world.registries["other"] = MemoryRegistry("other")
    for at in range(20):
        world.source.store(f"team/app{at}", images.image(layers=1), "v1")
    sync = "".join(
        f"  - {{name: {name}, from: 'source/team/*', to: '{name}/{{path}}'}}\n" for name in ("target", "other")
    )
    with anyio.fail_after(5):
        await world.run(sync, breadth=Breadth(repositories=4))
    assert [event.entry for event in world.recorder.of(EntryFailed)] == ["target", "other"]


async def test_manifests_are_fetched_ahead_of_blobs() -> None:
    """While no blob moves, the manifests of further images are fetched, so that the blobs never wait for one."""
    world = filled(12)
    base = world.source.manifests["app"][world.source.tagged["app"]["v000"]].layers[0].digest

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        if operation.verb == "blob-get":
            with anyio.fail_after(5):
                while world.source.counts("get")["get"] < 12:
                    await anyio.lowlevel.checkpoint()
        yield

    world.source.gate = gate
    await world.run(ONE)
    assert world.source.counts("get", "blob-get") == {"get": 12, "blob-get": 25}
    assert base in world.target.blobs["mirror/app"]


async def test_the_largest_blob_of_an_image_goes_first() -> None:
    """What is started last should be what ends soonest."""
    world = World()
    sample = images.image(shared=[images.random_bytes(size, size) for size in (10, 3000, 200)])
    world.source.store("app", sample, "v1")
    await world.run(ONE)
    sizes = {digest: len(data) for digest, data in sample.blobs.items()}
    begun = [sizes[Digest(operation.about)] for operation in world.target.log if operation.verb == "blob-post"]
    assert begun == sorted(begun, reverse=True)


# ------------------------------------------------------------------ the listing by itself


def listing(source: MemoryRepository, target: MemoryRepository, *include: str, referrers: bool = True) -> Listing:
    """Return the listing of a pair."""
    return Listing(source, target, TagSelection.parse(include=include), Recorder(), referrers=referrers)


async def handed_out(lists: Listing) -> list[str]:
    """Run the listing and return the tags in the order they come."""
    tags: list[str] = []
    async with anyio.create_task_group() as group:
        group.start_soon(lists.run)
        async for batch in lists.batches():
            tags += batch
    return tags


@pytest.mark.parametrize("count", [FEW_TAGS, FEW_TAGS + 1])
async def test_whether_the_target_is_listed_depends_on_how_many_tags_are_wanted(count: int) -> None:
    """Up to four wanted tags are asked for one by one; from the fifth on the target is listed, once."""
    world = filled(count)
    lists = listing(world.source.repository("app"), world.target.repository("app"))
    assert await handed_out(lists) == [f"v{at:03}" for at in range(count)]
    assert world.target.counts() == ({} if count == FEW_TAGS else {"tags": 1})
    assert lists.present == (None if count == FEW_TAGS else {})


async def test_a_tag_is_handed_out_once_its_presence_is_known() -> None:
    """What the target has listed already is handed out; what it has not waits for the end of its list."""
    _, source = paged(12, late=0)
    target = PagedRegistry("target")
    target.manifests, target.tagged = {"app": source.manifests["app"]}, {"app": dict(source.tagged["app"])}
    del target.tagged["app"]["v000"]
    target.late = {"v011"}
    lists = listing(source.repository("app"), target.repository("app"))
    first: list[str] = []
    async with anyio.create_task_group() as group:
        group.start_soon(lists.run)
        batches = lists.batches()
        while len(first) < 10:
            first += await anext(batches)
        assert sorted(first) == [f"v{at:03}" for at in range(1, 11)]
        target.second_page.set()
        rest = [tag async for batch in batches for tag in batch]
    assert sorted(rest) == ["v000", "v011"]
    assert lists.present is not None
    assert "v000" not in lists.present
    assert not lists.is_new


async def test_literal_tags_without_referrers_are_not_listed_at_all() -> None:
    """Tags that are all named need no list on either side when nothing is to be looked for beside them."""
    world = filled(3)
    lists = listing(world.source.repository("app"), world.target.repository("app"), "v001", "gone", referrers=False)
    assert await handed_out(lists) == ["v001", "gone"]
    assert await lists.companions() is None
    assert not world.source.log
    assert not world.target.log


async def test_each_tag_of_a_run_is_told_once() -> None:
    """What both lists settle is told like any other tag: once, with its digest, and recorded."""
    world, source = paged()
    source.second_page.set()
    await world.run(ONE)
    await world.run(ONE)
    told = world.recorder.of(TagFinished)
    assert sorted(event.tag for event in told) == sorted(source.tagged["app"])
    assert {event.digest for event in told} == set(source.tagged["app"].values())
