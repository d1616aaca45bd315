"""A whole run: what is looked at, what is copied, what is told."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread

from syncer.engine.journal import MemoryJournal
from syncer.engine.runs import Breadth, SyncRun
from syncer.errors import ConnectionFailed, Denied, InvalidReference, NotFound, PolicyViolation, ServerFailure, Side
from syncer.events import (
    BlobFinished,
    EntryFailed,
    ManifestPushed,
    Notice,
    RepositoryFinished,
    RepositoryListed,
    RepositoryStarted,
    TagFinished,
    TagOutcome,
)
from syncer.oci import Manifest
from syncer.oci.referrers import cosign_tags, fallback_tag, referrers_index
from syncer.plan.actions import ActionKind, Reason
from syncer.plan.records import Unresolved
from syncer.spec import parse_spec
from tests.support import images
from tests.support.memory import MemoryRegistry, MemoryRepository, Operation
from tests.support.observing import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from syncer.content import Catalog


class World:
    """Two registries, a journal, and runs of a spec between them."""

    def __init__(self) -> None:
        self.registries = {"source": MemoryRegistry("source"), "target": MemoryRegistry("target")}
        self.source, self.target = self.registries["source"], self.registries["target"]
        self.journal = MemoryJournal()
        self.recorder = Recorder()

    def repository(self, registry: str, repository: str) -> MemoryRepository:
        """Open a repository, as Places does."""
        return self.registries[registry].repository(repository)

    def catalog(self, registry: str) -> Catalog:
        """Open a catalog, as Places does."""
        return self.registries[registry]

    async def prepare(self, sync: str, **options: Any) -> SyncRun:
        """Return a run of the entries in ``sync`` (YAML, without the head)."""
        hosts = ", ".join(f"{name}: {{host: {name}.example}}" for name in ("source", "target", "other", "third"))
        head = f"version: 1\nregistries: {{{hosts}}}\nsync:\n"
        spec = await to_thread.run_sync(lambda: parse_spec(head + sync, file="spec.yaml", base=Path("/"), environ={}))
        self.recorder = Recorder()
        self.source.log.clear()
        self.target.log.clear()
        return SyncRun(spec.entries, _Places(self), self.journal, self.recorder, **options)

    async def run(self, sync: str, **options: Any) -> dict[str, TagFinished]:
        """Run the entries, and return what became of each tag."""
        await (await self.prepare(sync, **options)).execute()
        return {event.tag: event for event in self.recorder.of(TagFinished)}


class _Places:
    def __init__(self, world: World) -> None:
        self.source = self.target = world.repository
        self.catalog = world.catalog


ONE = "  - {name: one, from: source/app, to: target/mirror/app}\n"


def filled(count: int = 12) -> World:
    """Return a world whose source has ``count`` tags that share a layer."""
    world = World()
    world.source.referrers_api = False
    base = images.random_bytes(1500, "base")
    for at in range(count):
        world.source.store("app", images.image(layers=1, seed=at, shared=[base]), f"v{at:03}")
    return world


async def test_the_first_run_copies_and_the_second_finds_nothing_to_do() -> None:
    """First: no HEAD at all. Second: one HEAD per tag and side, no blob, no manifest."""
    world = filled()
    outcomes = await world.run(ONE)
    assert {event.outcome for event in outcomes.values()} == {TagOutcome.COPIED}
    assert world.target.tagged["mirror/app"] == world.source.tagged["app"]
    world.target.assert_closed()
    assert world.source.counts("head", "tags", "get") == {"tags": 1, "get": 12}
    assert world.target.counts("head", "tags", "put") == {"tags": 1, "put": 12}
    outcomes = await world.run(ONE)
    assert {event.outcome for event in outcomes.values()} == {TagOutcome.IN_SYNC}
    assert world.source.counts() == {"tags": 1, "head": 12}
    assert world.target.counts() == {"tags": 1, "head": 12}
    assert not world.recorder.of(BlobFinished)
    assert not world.recorder.of(ManifestPushed)


async def test_a_run_with_an_empty_journal_is_as_right() -> None:
    """Losing the state costs nothing that is visible here: the target is asked."""
    world = filled()
    await world.run(ONE)
    world.journal = MemoryJournal()
    outcomes = await world.run(ONE)
    assert {event.outcome for event in outcomes.values()} == {TagOutcome.IN_SYNC}


async def test_a_changed_tag_is_copied_again() -> None:
    """A tag that moved at the source moves at the target; what is shared is not sent again."""
    world = filled()
    await world.run(ONE)
    world.source.store("app", images.image(layers=1, seed="new", shared=[images.random_bytes(1500, "base")]), "v003")
    outcomes = await world.run(ONE)
    assert [tag for tag, event in outcomes.items() if event.outcome is TagOutcome.COPIED] == ["v003"]
    assert outcomes["v003"].reason == Reason.CHANGED
    assert world.target.tagged["mirror/app"] == world.source.tagged["app"]
    assert world.source.counts("blob-get") == {"blob-get": 2}


async def test_few_tags_are_asked_for_one_by_one() -> None:
    """A target of few wanted tags is not listed: a new tag costs it one HEAD, and the source none."""
    world = filled(3)
    await world.run(ONE)
    assert world.target.counts("head", "tags") == {"head": 3}
    assert world.source.counts("head") == {}


async def test_one_bad_tag_does_not_stop_the_others() -> None:
    """A failure is told with its side and kept; every other tag is copied."""
    world = filled()
    layer = world.source.manifests["app"][world.source.tagged["app"]["v005"]].layers[1].digest
    del world.source.blobs["app"][layer]
    outcomes = await world.run(ONE)
    failed = [event for event in outcomes.values() if event.outcome is TagOutcome.FAILED]
    assert [event.tag for event in failed] == ["v005"]
    assert isinstance(failed[0].error, NotFound)
    assert failed[0].error.side is Side.SOURCE
    assert sorted(world.target.tagged["mirror/app"]) == [f"v{at:03}" for at in range(12) if at != 5]
    assert (await world.journal.tags("target/mirror/app", ["v005"]))["v005"].error


async def test_only_the_failed_ones_can_be_tried_again() -> None:
    """A run can be limited to given tags; the others are not looked at."""
    world = filled()
    outcomes = await world.run(ONE, only=Unresolved(tags=frozenset({("target/mirror/app", "v004")})))
    assert list(outcomes) == ["v004"]
    assert list(world.target.tagged["mirror/app"]) == ["v004"]


async def unresolved(world: World) -> Unresolved:
    """Return what the journal holds as failed or cancelled, as the state store's query does."""
    records = [record for tags in world.journal._tags.values() for record in tags.values()]
    return Unresolved.of(record for record in records if record.outcome in (TagOutcome.FAILED, TagOutcome.CANCELLED))


@pytest.mark.parametrize("is_selected", [True, False], ids=["gone from the source", "not selected any more"])
async def test_what_failed_and_is_not_wanted_any_more_is_done_with(*, is_selected: bool) -> None:
    """A tag that failed, and that no run will come to again, does not stay in the journal as not in step for good."""
    world = filled()
    lost = world.source.manifests["app"][world.source.tagged["app"]["v005"]].layers[1].digest
    del world.source.blobs["app"][lost]
    await world.run(ONE)
    assert (await unresolved(world)).tags == {("target/mirror/app", "v005")}
    # Another entry's look at other tags of the same target says nothing of it.
    await world.run("  - {name: other, from: source/app, to: target/mirror/app, tags: {include: [v001]}}\n")
    assert (await unresolved(world)).tags == {("target/mirror/app", "v005")}
    if is_selected:
        del world.source.tagged["app"]["v005"]
        outcomes = await world.run(ONE, only=await unresolved(world))
        assert outcomes == {}
    else:
        await world.run("  - {name: one, from: source/app, to: target/mirror/app, tags: {exclude: [v005]}}\n")
    assert not (await unresolved(world)).tags


async def test_a_repository_that_failed_is_tried_again_as_a_whole() -> None:
    """What could not be listed is remembered; a run limited to failures looks at all of its tags, and nothing else."""
    world = filled()
    world.source.store("other", images.image(), "v1")
    both = ONE + "  - {name: two, from: source/other, to: target/other}\n"
    world.source.fail("tags", "", ServerFailure(status=500))
    await world.run(both)
    only = await unresolved(world)
    assert only == Unresolved(repositories=frozenset({"target/mirror/app"}))
    outcomes = await world.run(both, only=only)
    assert len(outcomes) == 12
    assert {event.entry for event in outcomes.values()} == {"one"}
    assert await unresolved(world) == Unresolved()


async def test_an_entry_that_failed_is_tried_again_as_a_whole() -> None:
    """An entry whose catalog could not be read is remembered too."""
    world = filled(3)
    entry = "  - {name: all, from: 'source/*', to: 'target/{path}'}\n"
    world.source.fail("catalog", "*", ServerFailure(status=500))
    await world.run(entry)
    only = await unresolved(world)
    assert only == Unresolved(entries=frozenset({"all"}))
    assert len(await world.run(entry, only=only)) == 3
    assert await unresolved(world) == Unresolved()


async def test_what_a_stopped_run_did_not_reach_is_tried_again() -> None:
    """Tags under way, and the repository with those not begun, are remembered when a run is cancelled."""
    world = filled()
    with anyio.move_on_after(5) as scope:
        run = await world.prepare(ONE, breadth=Breadth(images=2))

        @asynccontextmanager
        async def gate(operation: Operation) -> AsyncIterator[None]:
            if operation.verb == "put":
                scope.cancel()
            yield

        world.target.gate = gate
        await run.execute()
    world.target.gate = None
    only = await unresolved(world)
    assert only.repositories == {"target/mirror/app"}
    await world.run(ONE, only=only)
    assert len(world.target.tagged["mirror/app"]) == 12
    assert await unresolved(world) == Unresolved()


async def test_a_repository_of_a_catalog_that_lists_no_tags_is_empty() -> None:
    """A repository that only has blobs yet is in the catalog and has no tag list: that is no failure."""
    world = filled(2)
    world.source.fail("tags", "", NotFound("no tags"))
    await world.run("  - {name: all, from: 'source/*', to: 'target/{path}'}\n")
    (finished,) = world.recorder.of(RepositoryFinished)
    assert finished.error is None
    assert "lists no tags" in world.recorder.of(Notice)[0].text


async def test_named_tags_need_no_tag_list() -> None:
    """Where a repository with untagged images answers a tag list with 404, named tags are copied all the same."""
    world = filled(3)
    world.source.fail("tags", "", NotFound("no tags"))
    outcomes = await world.run("  - {name: one, from: source/app, to: target/m, tags: {include: [v001]}}\n")
    assert outcomes["v001"].outcome is TagOutcome.COPIED


async def test_a_missing_repository_fails_the_repository_only() -> None:
    """A source repository that is not there is one failure; other entries go on."""
    world = filled(2)
    await world.run("  - {name: none, from: source/nothing, to: target/nothing}\n" + ONE)
    finished = {event.entry: event for event in world.recorder.of(RepositoryFinished)}
    assert isinstance(finished["none"].error, NotFound)
    assert finished["one"].error is None
    assert len(world.target.tagged["mirror/app"]) == 2


async def test_a_pattern_goes_over_the_catalog() -> None:
    """A glob takes each matching repository once, and its template says where it goes."""
    world = World()
    for name in ("team/a", "team/b", "team/deep/c", "other/d"):
        world.source.store(name, images.image(seed=name), "v1")
    await world.run("  - {name: all, from: source/team/*, to: 'target/mirror/{path}'}\n")
    assert sorted(world.target.tagged) == ["mirror/team/a", "mirror/team/b"]


async def test_a_pattern_that_fits_nothing_is_a_failure() -> None:
    """An entry that looked at nothing is not a success."""
    world = filled(1)
    await world.run("  - {name: all, from: source/team/*, to: 'target/{path}'}\n")
    (failed,) = world.recorder.of(EntryFailed)
    assert isinstance(failed.error, NotFound)
    assert "no repository of 'source' matches team/*" in failed.error.message


async def test_a_repository_that_gets_no_name_fails_alone() -> None:
    """When the template makes no repository name of one match, that one fails and the others are copied."""
    world = World()
    for name in ("solo", "team/a"):
        world.source.store(name, images.image(seed=name), "v1")
    await world.run("  - {name: all, from: 'source/**', to: 'target/m/{parent}/{name}'}\n")
    (failed,) = world.recorder.of(EntryFailed)
    assert isinstance(failed.error, InvalidReference)
    assert list(world.target.tagged) == ["m/team/a"]


async def test_a_registry_without_a_catalog_fails_the_entry() -> None:
    """When the catalog cannot be read the entry fails, with the source as the side."""
    world = filled(1)
    world.source.fail("catalog", "*", Denied(status=403))
    await world.run("  - {name: all, from: 'source/*', to: 'target/{path}'}\n" + ONE)
    (failed,) = world.recorder.of(EntryFailed)
    assert failed.error.side is Side.SOURCE
    assert world.target.tagged["mirror/app"]


async def test_two_entries_cannot_write_one_tag() -> None:
    """Where only the catalog shows that two entries meet, the first in the spec writes and the second fails."""
    world = World()
    world.source.store("a/app", images.image(seed="a"), "v1")
    world.source.store("b/app", images.image(seed="b"), "v1")
    world.source.store("b/app", images.image(seed="b2"), "v2")
    two = "  - {name: a, from: 'source/a/*', to: 'target/m/{name}', tags: {include: ['re:v.*']}}\n"
    two += "  - {name: b, from: 'source/b/*', to: 'target/m/{name}', tags: {include: ['re:v\\d']}}\n"
    await world.run(two)
    failed = [event for event in world.recorder.of(TagFinished) if event.outcome is TagOutcome.FAILED]
    assert [(event.entry, event.tag) for event in failed] == [("b", "v1")]
    assert isinstance(failed[0].error, PolicyViolation)
    assert world.target.tagged["m/app"] == {
        "v1": world.source.tagged["a/app"]["v1"],
        "v2": world.source.tagged["b/app"]["v2"],
    }


@pytest.mark.parametrize("verb", ["tags", "catalog"])
async def test_a_failing_source_does_not_lose_its_tags_to_another_entry(verb: str) -> None:
    """While the first owner of a tag cannot be looked at, the second entry that wants it does not take it over."""
    world = World()
    world.source.store("a/app", images.image(seed="a"), "v1")
    world.source.store("b/app", images.image(seed="b"), "v1")
    world.source.store("b/app", images.image(seed="b2"), "w")
    two = "  - {name: a, from: 'source/a/*', to: 'target/m/{name}', tags: {include: ['re:v.*']}}\n"
    two += "  - {name: b, from: source/b/app, to: target/m/app, tags: {include: ['re:[vw]\\d?', x]}}\n"
    await world.run(two)
    before = dict(world.target.tagged["m/app"])
    assert before["v1"] == world.source.tagged["a/app"]["v1"]
    world.source.fail(verb, "" if verb == "tags" else "a/", ServerFailure(status=500))
    world.source.store("b/app", images.image(seed="b3"), "w")
    await world.run(two)
    assert world.target.tagged["m/app"]["v1"] == before["v1"]
    assert world.target.tagged["m/app"]["w"] == world.source.tagged["b/app"]["w"]
    refused = [event for event in world.recorder.of(TagFinished) if isinstance(event.error, PolicyViolation)]
    assert [(event.entry, event.tag) for event in refused] == [("b", "v1")]
    assert "could not be looked at" in str(refused[0].error)


async def test_one_entry_can_meet_itself() -> None:
    """A template that drops the path lets two repositories of one entry meet; the tag is written once."""
    world = World()
    world.source.store("a/app", images.image(seed="a"), "v1")
    world.source.store("b/app", images.image(seed="b"), "v1")
    await world.run("  - {name: all, from: 'source/**', to: 'target/m/{name}'}\n")
    failed = [event for event in world.recorder.of(TagFinished) if event.outcome is TagOutcome.FAILED]
    assert [(event.source, event.tag) for event in failed] == [("source/b/app", "v1")]
    assert world.target.tagged["m/app"] == world.source.tagged["a/app"]


async def test_a_vanished_tag_is_skipped_and_a_named_one_is_a_failure() -> None:
    """A tag that was listed and is gone is no failure; one that the spec names is."""
    world = filled(6)
    world.source.fail("get", "v002", NotFound("gone"))
    world.source.fail("head", "v002", NotFound("gone"))
    outcomes = await world.run(ONE)
    assert (outcomes["v002"].outcome, outcomes["v002"].reason) == (TagOutcome.SKIPPED, Reason.VANISHED)
    named = "  - {name: one, from: source/app, to: target/x, tags: {include: [v001, nope]}}\n"
    outcomes = await world.run(named)
    assert outcomes["v001"].outcome is TagOutcome.COPIED
    assert outcomes["nope"].outcome is TagOutcome.FAILED
    mixed = "  - {name: one, from: source/app, to: target/y, tags: {include: [latest, 'v00[01]']}}\n"
    outcomes = await world.run(mixed)
    assert {tag: event.outcome for tag, event in outcomes.items()} == {
        "latest": TagOutcome.FAILED,
        "v000": TagOutcome.COPIED,
        "v001": TagOutcome.COPIED,
    }


async def test_immutable_tags_cost_nothing_once_copied() -> None:
    """A tag declared immutable is not asked for again while the target lists it, and copied again when it does not."""
    world = filled()
    entry = "  - {name: one, from: source/app, to: target/m, tags: {immutable: ['v*']}}\n"
    await world.run(entry)
    outcomes = await world.run(entry)
    assert {event.reason for event in outcomes.values()} == {Reason.IMMUTABLE}
    assert world.source.counts() == world.target.counts() == {"tags": 1}
    del world.target.tagged["m"]["v003"]
    outcomes = await world.run(entry)
    assert [tag for tag, event in outcomes.items() if event.outcome is TagOutcome.COPIED] == ["v003"]


async def test_a_platform_subset_is_recognised_the_next_time() -> None:
    """The subset's digest is remembered, or computed again: either way the second run copies nothing."""
    world = World()
    for at in range(3):
        world.source.store("app", images.index(seed=at), f"v{at}")
    entry = "  - {name: one, from: source/app, to: target/m, platforms: [linux/amd64]}\n"
    await world.run(entry)
    for journal, gets in ((world.journal, 0), (MemoryJournal(), 3)):
        world.journal = journal
        outcomes = await world.run(entry)
        assert {event.outcome for event in outcomes.values()} == {TagOutcome.IN_SYNC}
        assert world.source.counts("get")["get"] == gets


async def test_signatures_that_come_later_are_found_in_the_tag_list() -> None:
    """A cosign tag that appears after the copy is brought by the next run, for an index in sync or a child of one."""
    world = World()
    world.source.referrers_api = False
    sample = images.index()
    world.source.store("app", sample, "v1")
    await world.run(ONE)
    signatures = {
        cosign_tags(subject.digest)[0]: images.artifact(seed=subject.digest)
        for subject in (sample.manifest, sample.children[0])
    }
    for tag, signature in signatures.items():
        world.source.store("app", signature, tag)
    outcomes = await world.run(ONE)
    assert {tag: event.outcome for tag, event in outcomes.items()} == {
        "v1": TagOutcome.IN_SYNC,
        **dict.fromkeys(signatures, TagOutcome.COPIED),
    }
    for tag, signature in signatures.items():
        assert world.target.tagged["mirror/app"][tag] == signature.digest
    outcomes = await world.run(ONE)
    assert list(outcomes) == ["v1"]
    assert not world.target.counts("put")


async def test_a_list_of_the_tag_schema_that_comes_later_is_read_once() -> None:
    """A referrers list that appears, or changes, after the copy is read by the next run, and then only looked at."""
    world = filled(6)
    await world.run(ONE)
    digest = world.source.tagged["app"]["v001"]
    world.source.referrers_api = True
    sbom = images.artifact(subject=world.source.manifests["app"][digest], seed="sbom")
    world.source.store("app", sbom)
    listing = Manifest.parse(referrers_index([sbom.manifest.referrer_descriptor]))
    world.source.manifests["app"][listing.digest] = listing
    world.source.tagged["app"][fallback_tag(digest)] = listing.digest
    outcomes = await world.run(ONE)
    assert outcomes[fallback_tag(digest)].referrers == 1
    assert sbom.digest in world.target.manifests["mirror/app"]
    await world.run(ONE)
    assert not world.target.counts("put")
    assert not world.source.counts("referrers")


async def test_a_list_of_the_tag_schema_that_brings_nothing_is_no_copy() -> None:
    """What a list names came with the image: the next run reads the list once, and does not report it as copied."""
    world = filled(1)
    digest = world.source.tagged["app"]["v000"]
    world.source.referrers_api = True
    sbom = images.artifact(subject=world.source.manifests["app"][digest], seed="sbom")
    world.source.store("app", sbom)
    listing = Manifest.parse(referrers_index([sbom.manifest.referrer_descriptor]))
    world.source.manifests["app"][listing.digest] = listing
    world.source.tagged["app"][fallback_tag(digest)] = listing.digest
    await world.run(ONE)
    assert sbom.digest in world.target.manifests["mirror/app"]
    outcomes = await world.run(ONE)
    assert {tag: event.outcome for tag, event in outcomes.items()} == {"v000": TagOutcome.IN_SYNC}
    assert not world.target.counts("put")
    await world.run(ONE)
    assert not world.source.counts("referrers")


async def test_a_companion_that_cannot_be_brought_is_a_failure() -> None:
    """When a late signature fails to arrive the run says so."""
    world = filled(6)
    await world.run(ONE)
    sig = cosign_tags(world.source.tagged["app"]["v001"])[0]
    world.source.store("app", images.artifact(seed="sig"), sig)
    world.source.fail("get", sig, ConnectionFailed("lost"))
    outcomes = await world.run(ONE)
    assert outcomes[sig].outcome is TagOutcome.FAILED


async def test_a_source_that_cannot_be_listed_still_gives_named_tags() -> None:
    """Named tags are copied even where listing is not allowed; a notice says what was not looked for."""
    world = filled(3)
    world.source.fail("tags", "", Denied("no listing", status=403))
    entry = "  - {name: one, from: source/app, to: target/m, tags: {include: [v001]}}\n"
    outcomes = await world.run(entry)
    assert outcomes["v001"].outcome is TagOutcome.COPIED
    assert "cosign" in world.recorder.of(Notice)[0].text


async def test_a_target_that_cannot_be_listed_is_asked_tag_by_tag() -> None:
    """Where the target does not list its tags each is asked for with a HEAD."""
    world = filled()
    world.target.fail("tags", "", Denied("no listing", status=403))
    await world.run(ONE)
    assert world.target.counts("head")["head"] == 12
    assert len(world.target.tagged["mirror/app"]) == 12


async def test_a_failing_listing_is_not_mistaken_for_an_empty_one() -> None:
    """When the target fails to list, nothing is assumed about it: the repository fails."""
    world = filled()
    world.target.fail("tags", "", ServerFailure(status=500))
    await world.run(ONE)
    (finished,) = world.recorder.of(RepositoryFinished)
    assert isinstance(finished.error, ServerFailure)
    assert finished.error.side is Side.TARGET
    assert world.target.tagged == {}


async def test_planning_says_what_is_due_and_writes_nothing() -> None:
    """A plan names every tag with its digests and reason, in a stable order; nothing is written or recorded."""
    world = filled(6)
    await world.run(ONE)
    world.source.store("app", images.image(seed="new"), "v000")
    world.source.store("app", images.image(seed="newer"), "w")
    world.source.fail("head", "v002", ConnectionFailed("lost"))
    run = await world.prepare(ONE)
    actions = await run.plan()
    assert [(action.tag, action.reason) for action in actions] == [
        ("v000", Reason.CHANGED),
        ("v001", Reason.IN_SYNC),
        ("v003", Reason.IN_SYNC),
        ("v004", Reason.IN_SYNC),
        ("v005", Reason.IN_SYNC),
        ("w", Reason.NEW),
    ]
    assert actions[-1].kind is ActionKind.COPY
    assert actions[-1].digest == world.source.tagged["app"]["w"]
    assert not world.target.counts("put", "blob-post")
    assert [event.tag for event in world.recorder.of(TagFinished)] == ["v002"]


async def test_recheck_repairs_what_is_in_sync_by_name_only() -> None:
    """A tag whose digest is right but whose blob is gone from the target is made whole by a recheck."""
    world = filled(6)
    await world.run(ONE)
    lost = world.source.manifests["app"][world.source.tagged["app"]["v001"]].layers[1].digest
    del world.target.blobs["mirror/app"][lost]
    await world.run(ONE)
    assert lost not in world.target.blobs["mirror/app"]
    await world.run(ONE, recheck=True)
    world.target.assert_closed()


async def test_recheck_leaves_immutable_tags_where_they_are() -> None:
    """A recheck repairs what an immutable tag stands for, and does not follow the source's tag elsewhere."""
    world = filled(6)
    entry = "  - {name: one, from: source/app, to: target/m, tags: {immutable: ['v*']}}\n"
    await world.run(entry)
    before = dict(world.target.tagged["m"])
    lost = world.source.manifests["app"][before["v001"]].layers[1].digest
    del world.target.blobs["m"][lost]
    world.source.store("app", images.image(seed="moved"), "v001")
    world.source.manifests["app"].pop(before["v002"])
    world.source.store("app", images.image(seed="moved too"), "v002")
    outcomes = await world.run(entry, recheck=True)
    assert {event.outcome for event in outcomes.values()} == {TagOutcome.IN_SYNC}
    assert world.target.tagged["m"] == before
    world.target.assert_closed()


@pytest.mark.parametrize("has_content", [True, False], ids=["tag-alone", "emptied"])
async def test_recheck_brings_immutable_tags_that_are_gone(*, has_content: bool) -> None:
    """An immutable tag that the target has lost is not called in sync by a recheck, but written again."""
    world = filled(3)
    entry = "  - {name: one, from: source/app, to: target/m, tags: {immutable: ['v*']}}\n"
    await world.run(entry)
    before = dict(world.target.tagged["m"])
    del world.target.tagged["m"]["v001"]
    if not has_content:
        world.target.tagged["m"].clear()
        world.target.manifests["m"].clear()
        world.target.blobs["m"].clear()
    outcomes = await world.run(entry, recheck=True)
    gone = {"v001"} if has_content else set(before)
    assert {tag for tag, event in outcomes.items() if event.outcome is TagOutcome.COPIED} == gone
    assert world.target.tagged["m"] == before
    world.target.assert_closed()


async def test_a_recheck_asks_about_a_shared_blob_once() -> None:
    """Rechecking forty tags that share a layer asks for that layer once, and sends nothing that is there."""
    world = filled(40)
    await world.run(ONE)
    await world.run(ONE, recheck=True)
    asked = [operation.about for operation in world.target.log if operation.verb == "blob-post"]
    assert len(asked) == len(set(asked)) == 81
    assert not world.target.counts("blob-put")


async def test_a_blob_that_the_source_lost_is_asked_for_once() -> None:
    """Forty tags that need a blob which the source does not have fail by one request, not by forty in a row."""
    world = filled(40)
    base = next(blob.digest for blob in world.source.manifests["app"][world.source.tagged["app"]["v000"]].layers)
    del world.source.blobs["app"][base]
    outcomes = await world.run(ONE)
    assert {event.outcome for event in outcomes.values()} == {TagOutcome.FAILED}
    assert [operation.about for operation in world.source.log if operation.verb == "blob-get"].count(base) == 1


async def test_a_target_that_refuses_to_speak_of_a_new_repository_gets_it() -> None:
    """403 on a HEAD of what is not there yet does not keep the first push from being tried."""
    world = filled(2)
    for tag in ("v000", "v001"):
        world.target.fail("head", tag, Denied(status=403))
    await world.run(ONE)
    assert len(world.target.tagged["mirror/app"]) == 2


async def test_a_platform_that_is_missing_is_the_sources_fault() -> None:
    """An index without the platform asked for fails its tag, with the source as the side."""
    world = World()
    world.source.store("app", images.index(), "v1")
    outcomes = await world.run("  - {name: o, from: source/app, to: target/m, platforms: [linux/s390x]}\n")
    assert outcomes["v1"].error is not None
    assert outcomes["v1"].error.side is Side.SOURCE


async def test_the_record_of_a_subset_keeps_the_sources_digest() -> None:
    """What is remembered of a tag is the source's digest beside the subset's, also when nothing was to be done."""
    world = World()
    sample = images.index()
    world.source.store("app", sample, "v1")
    entry = "  - {name: o, from: source/app, to: target/m, platforms: [linux/amd64]}\n"
    for _ in range(2):
        await world.run(entry)
        record = (await world.journal.tags("target/m", ["v1"]))["v1"]
        assert record.source_digest == sample.digest
        assert record.target_digest == world.target.tagged["m"]["v1"] != sample.digest


async def test_a_run_is_no_broader_than_it_is_told() -> None:
    """No more images are open at once than the run's breadth allows, whatever the repositories."""
    world = World()
    for name in ("a", "b", "c"):
        for at in range(10):
            world.source.store(f"team/{name}", images.image(layers=1, seed=(name, at)), f"v{at}")
    running = most = 0

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        nonlocal running, most
        if operation.verb == "get":
            running += 1
            most = max(most, running)
            await anyio.lowlevel.checkpoint()
            running -= 1
        yield

    world.source.gate = gate
    await world.run(
        "  - {name: t, from: 'source/team/*', to: 'target/{path}'}\n", breadth=Breadth(repositories=2, images=3)
    )
    assert most <= 3
    assert sum(len(tags) for tags in world.target.tagged.values()) == 30


async def test_a_large_repository_does_not_hold_up_a_small_one() -> None:
    """Repositories take turns: six tags beside sixty are done when the sixty are not half done."""
    world = World()
    for name, count in (("large", 60), ("small", 6)):
        for at in range(count):
            world.source.store(f"team/{name}", images.image(layers=1, seed=(name, at)), f"{name}{at}")
    done = await world.run("  - {name: t, from: 'source/team/*', to: 'target/{path}'}\n", breadth=Breadth(images=4))
    order = list(done)
    assert len(order) == 66
    assert max(order.index(f"small{at}") for at in range(6)) < 33


async def test_a_selection_that_fits_no_tag_is_told() -> None:
    """A pattern that selects nothing of a repository that has tags is no failure, but it does not go unsaid."""
    world = filled(3)
    await world.run("  - {name: one, from: source/app, to: target/m, tags: {include: ['zz*']}}\n")
    (notice,) = world.recorder.of(Notice)
    assert notice.text == "none of its 3 tags is selected by entry 'one'"


async def test_a_cancelled_run_says_what_it_left_undone() -> None:
    """When a run is cancelled, tags under way are told as cancelled, and no tag is half written."""
    world = filled()
    started = anyio.Event()

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        if operation.verb == "blob-put":
            started.set()
            await anyio.sleep_forever()
        yield

    world.target.gate = gate
    run = await world.prepare(ONE)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(run.execute)
            await started.wait()
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert {event.outcome for event in world.recorder.of(TagFinished)} == {TagOutcome.CANCELLED}
    assert world.target.tagged == {}
    assert world.target.slots == 0


async def test_what_was_listed_is_told() -> None:
    """How many tags there are and how many are wanted is told once per repository."""
    world = filled()
    await world.run("  - {name: one, from: source/app, to: target/m, tags: {include: ['v00*']}}\n")
    (listed,) = world.recorder.of(RepositoryListed)
    assert (listed.listed, listed.selected) == (12, 10)


@pytest.mark.parametrize("count", [1, 40])
async def test_memory_of_claims_is_kept_only_where_entries_can_meet(count: int) -> None:
    """A lone entry that keeps the path remembers nothing, however many tags there are."""
    world = filled(count)
    run = await world.prepare("  - {name: one, from: 'source/*', to: 'target/{path}'}\n")
    await run.execute()
    assert len(run._claims) == 0


async def test_a_claim_that_is_kept_holds_neither_repository_nor_event() -> None:
    """Of twenty thousand repositories as many claims are kept to the end, where another entry may come to them."""
    world = filled(2)
    run = await world.prepare("  - {name: one, from: source/app, to: target/m}\n")
    run._claims._may_collide = True
    await run.execute()
    assert len(run._claims) == 1
    (claim,) = run._claims._claims["target/m"]
    assert claim._listed is None
    assert not hasattr(claim, "pair")


async def test_entries_that_read_the_same_repositories_go_over_the_catalog_once() -> None:
    """Two entries from one pattern to two registries: one catalog, each repository for both, each blob read once."""
    world = World()
    world.registries["other"] = other = MemoryRegistry("other")
    for name in ("team/a", "team/b", "team/c"):
        world.source.store(name, images.image(seed=name), "v1")
    outcomes = "  - {name: one, from: 'source/team/*', to: 'target/{path}'}\n"
    outcomes += "  - {name: two, from: 'source/team/*', to: 'other/{path}'}\n"
    await world.run(outcomes)
    assert world.target.tagged == other.tagged == world.source.tagged
    assert world.source.counts("catalog") == {"catalog": 1}
    started = [event.target for event in world.recorder.of(RepositoryStarted)]
    assert started[:4] == ["target/team/a", "other/team/a", "target/team/b", "other/team/b"]
    reads = [operation.about for operation in world.source.log if operation.verb == "blob-get"]
    assert len(reads) == len(set(reads)) == sum(len(blobs) for blobs in world.source.blobs.values())


async def test_a_catalog_that_fails_fails_every_entry_that_reads_it() -> None:
    """Entries that share a catalog share its failure; each is told, and remembered."""
    world = filled(2)
    world.registries["other"] = MemoryRegistry("other")
    both = "  - {name: one, from: 'source/*', to: 'target/{path}'}\n"
    both += "  - {name: two, from: 'source/*', to: 'other/{path}'}\n"
    world.source.fail("catalog", "*", ServerFailure(status=500))
    await world.run(both)
    assert [event.entry for event in world.recorder.of(EntryFailed)] == ["one", "two"]
    assert (await unresolved(world)).entries == frozenset({"one", "two"})
