"""Copying one image: what arrives, in which order, for how many requests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from syncer.engine.blobs import BlobMover
from syncer.engine.fanout import WIDTH
from syncer.engine.holdings import Holdings
from syncer.engine.images import MAX_DEPTH, CopyOptions, ImageCopier
from syncer.engine.journal import MemoryJournal
from syncer.errors import (
    ConnectionFailed,
    DigestMismatch,
    NotFound,
    Side,
    SizeExceedsLimit,
    SizeMismatch,
    SyncerError,
)
from syncer.events import BlobFinished, BlobProgress, ManifestPushed
from syncer.oci import Digest, Platform
from syncer.oci.referrers import cosign_tags
from tests.support import images
from tests.support.memory import MemoryRegistry, Operation
from tests.support.observing import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from syncer.engine.journal import Journal


class Bench:
    """A source, a target, and copiers between them."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.source = MemoryRegistry("source")
        self.target = MemoryRegistry("target")
        self.recorder = Recorder()
        self.journal = journal or MemoryJournal()
        self.mover = BlobMover(Holdings("target", self.journal), self.recorder)

    def copier(self, repository: str = "app", companions: Collection[str] | None = None, **options: Any) -> ImageCopier:
        """Return a copier of one repository that shares the target's blob mover."""
        return ImageCopier(
            self.source.repository(repository),
            self.target.repository(repository),
            self.mover,
            self.recorder,
            CopyOptions(**options),
            companions=companions,
        )

    def assert_same(self, sample: images.Sample, repository: str = "app", tag: str = "") -> None:
        """The target holds every byte of ``sample``."""
        for manifest in sample.manifests:
            assert self.target.manifests[repository][manifest.digest].raw == manifest.raw
        for digest, data in sample.blobs.items():
            assert self.target.blobs[repository][digest] == data
        if tag:
            assert self.target.tagged[repository][tag] == sample.digest
        self.target.assert_closed()


@pytest.mark.parametrize(
    "sample",
    [
        images.image(layers=3),
        images.docker_image(),
        images.docker_list(),
        images.index(attestations=True),
        images.nested_index(depth=4),
        images.artifact(),
    ],
    ids=["image", "docker", "list", "index", "nested", "artifact"],
)
async def test_every_kind_of_image_arrives_bit_by_bit(sample: images.Sample) -> None:
    """Whatever the graph looks like, its bytes arrive, and the tag is the last thing written."""
    bench = Bench()
    bench.source.store("app", sample, "v1")
    copied = await bench.copier().copy("v1", "v1")
    assert copied.digest == copied.source_digest == sample.digest
    bench.assert_same(sample, tag="v1")
    assert bench.target.log[-1].about == "v1"


async def test_a_new_image_costs_what_the_protocol_asks_for() -> None:
    """One manifest and each blob from the source; a POST, a PUT a blob and one manifest PUT at the target."""
    bench = Bench()
    bench.source.referrers_api = False
    sample = images.image(layers=5)
    bench.source.store("app", sample, "v1")
    await bench.copier().copy("v1", "v1")
    assert bench.source.counts() == {"get": 1, "blob-get": 6}
    assert bench.target.counts() == {"blob-post": 6, "blob-put": 6, "put": 1}


async def test_a_second_tag_of_the_same_image_costs_two_requests() -> None:
    """What this run has written is not asked for again: a retag is a GET and a PUT."""
    bench = Bench()
    bench.source.referrers_api = False
    sample = images.index()
    bench.source.store("app", sample, "v1")
    bench.source.store("app", sample, "latest")
    copier = bench.copier()
    await copier.copy("v1", "v1")
    bench.source.log.clear()
    bench.target.log.clear()
    await copier.copy("latest", "latest")
    assert bench.source.counts() == {"get": 1}
    assert bench.target.counts() == {"put": 1}


async def test_a_blob_of_many_images_is_streamed_once() -> None:
    """Twenty images at once that share a layer move it once; nobody holds a slot while waiting."""
    bench = Bench()
    base = images.random_bytes(2000, "base")
    samples = [images.image(layers=1, seed=at, shared=[base]) for at in range(20)]
    for at, sample in enumerate(samples):
        bench.source.store("app", sample, f"v{at}")
    copier = bench.copier()
    async with anyio.create_task_group() as group:
        for at in range(20):
            group.start_soon(copier.copy, f"v{at}", f"v{at}")
    moved = [operation.about for operation in bench.source.log if operation.verb == "blob-get"]
    assert moved.count(str(Digest.of(base))) == 1
    assert len(moved) == len(set(moved))
    assert bench.target.slots == 0
    for sample in samples:
        bench.assert_same(sample)


async def test_another_repository_mounts_what_the_first_brought() -> None:
    """A second repository waits for the first to bring a shared blob, and mounts it."""
    bench = Bench()
    base = images.random_bytes(2000, "base")
    for name in ("a", "b", "c"):
        bench.source.store(name, images.image(layers=0, seed=name, shared=[base]), "v1")
    async with anyio.create_task_group() as group:
        for name in ("a", "b", "c"):
            group.start_soon(bench.copier(name).copy, "v1", "v1")
    finished = [event for event in bench.recorder.of(BlobFinished) if event.digest == Digest.of(base)]
    assert sorted(event.outcome for event in finished) == ["mounted", "mounted", "streamed"]


async def test_a_registry_that_does_not_mount_gets_the_blob_again() -> None:
    """When a mount is answered with an upload session, the session is used and the belief dropped."""
    bench = Bench()
    bench.target.mounts = False
    base = images.random_bytes(2000, "base")
    for name in ("a", "b"):
        sample = images.image(layers=0, seed=name, shared=[base])
        bench.source.store(name, sample, "v1")
        await bench.copier(name).copy("v1", "v1")
        bench.assert_same(sample, name)
    posts = [operation for operation in bench.target.log if operation.about == Digest.of(base)]
    assert [operation.verb for operation in posts] == ["blob-post", "blob-put", "blob-post", "blob-put"]


async def test_a_copy_within_one_registry_mounts_from_the_source_repository() -> None:
    """Promotion within a registry moves no bytes."""
    registry = MemoryRegistry("one")
    sample = images.image(layers=3)
    registry.store("dev", sample, "v1")
    recorder = Recorder()
    mover = BlobMover(Holdings("one", MemoryJournal()), recorder)
    copier = ImageCopier(registry.repository("dev"), registry.repository("prod"), mover, recorder)
    await copier.copy("v1", "v1")
    assert registry.counts("blob-get", "blob-put") == {}
    assert registry.tagged["prod"]["v1"] == sample.digest


async def test_referrers_of_every_manifest_travel_and_the_tag_comes_last() -> None:
    """Signatures of the index, of its children and of the signatures themselves arrive before the tag."""
    bench = Bench()
    sample = images.index()
    bench.source.store("app", sample, "v1")
    signature = images.artifact(subject=sample.manifest, seed="sig")
    child_sbom = images.artifact(subject=sample.children[0], seed="sbom")
    countersignature = images.artifact(subject=signature.manifest, seed="counter")
    for one in (signature, child_sbom, countersignature):
        bench.source.store("app", one)
    copied = await bench.copier().copy("v1", "v1")
    assert copied.referrers == 3
    for one in (sample, signature, child_sbom, countersignature):
        bench.assert_same(one)
    assert bench.target.log[-1].about == "v1"
    puts = [operation.about for operation in bench.target.log if operation.verb == "put"]
    assert puts.index(sample.digest) < puts.index(signature.digest) < puts.index(countersignature.digest)


async def test_cosign_tags_travel_when_the_tag_list_shows_them() -> None:
    """A .sig tag of a child and the signature of that signature arrive under their tags."""
    bench = Bench()
    sample = images.index()
    signature = images.artifact(seed="sig")
    deeper = images.artifact(seed="deeper")
    sig = cosign_tags(sample.children[0].digest)[0]
    att = cosign_tags(signature.digest)[1]
    bench.source.store("app", sample, "v1")
    bench.source.store("app", signature, sig)
    bench.source.store("app", deeper, att)
    copied = await bench.copier(companions={sig, att}).copy("v1", "v1")
    assert copied.referrers == 2
    assert bench.target.tagged["app"] == {"v1": sample.digest, sig: signature.digest, att: deeper.digest}
    assert bench.target.log[-1].about == "v1"


async def test_referrers_stay_behind_when_not_wanted() -> None:
    """Without referrers nobody asks for them."""
    bench = Bench()
    sample = images.image()
    bench.source.store("app", sample, "v1")
    bench.source.store("app", images.artifact(subject=sample.manifest))
    await bench.copier(referrers=False).copy("v1", "v1")
    assert set(bench.target.manifests["app"]) == {sample.digest}
    assert not bench.source.counts("referrers")


async def test_referrers_missed_by_a_failure_are_copied_the_next_time() -> None:
    """A child counts as done only with its referrers: a failure between the two is made good later."""
    bench = Bench()
    sample = images.index()
    bench.source.store("app", sample, "v1")
    sbom = images.artifact(subject=sample.children[0])
    bench.source.store("app", sbom)
    bench.source.fail("get", sbom.digest, ConnectionFailed("lost"))
    with pytest.raises(ConnectionFailed):
        await bench.copier().copy("v1", "v1")
    assert "v1" not in bench.target.tagged.get("app", {})
    await bench.copier().copy("v1", "v1")
    bench.assert_same(sbom)


@pytest.mark.parametrize("first_ends", [True, False])
async def test_a_shared_child_is_signed_before_either_tag(first_ends: bool) -> None:  # noqa: FBT001 - a parameter
    """Two indexes that share a signed child: whoever brings the child, no tag is written before its signature."""
    bench = Bench()
    child = images.image(seed="child")
    one, two = images.index_of([child], annotations={"n": "1"}), images.index_of([child], annotations={"n": "2"})
    signature = images.artifact(subject=child.manifest)
    for tag, sample in (("one", one), ("two", two)):
        bench.source.store("app", sample, tag)
    bench.source.store("app", signature)
    if not first_ends:
        bench.source.fail("referrers", one.digest, ConnectionFailed("lost"))
    copier = bench.copier()
    failures = []

    async def copy(tag: str) -> None:
        try:
            await copier.copy(tag, tag)
        except SyncerError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(copy, "one")
        group.start_soon(copy, "two")
    puts = [operation.about for operation in bench.target.log if operation.verb == "put"]
    tags = [at for at, about in enumerate(puts) if about in ("one", "two")]
    assert puts.index(signature.digest) < min(tags)
    assert len(tags) == (2 if first_ends else 1)
    assert len(failures) == (0 if first_ends else 1)


async def test_a_copy_without_referrers_does_not_hide_them_from_a_later_one() -> None:
    """What is copied without its referrers is not taken for complete by a copy that wants them."""
    bench = Bench()
    sample = images.index()
    sbom = images.artifact(subject=sample.children[0])
    bench.source.store("app", sample, "v1")
    bench.source.store("app", sbom)
    await bench.copier(referrers=False).copy("v1", "v1")
    await bench.copier().copy("v1", "v1")
    bench.assert_same(sbom)


async def test_nothing_is_pushed_before_what_it_links_to() -> None:
    """A diamond of indexes, and a manifest that is a referrer and under two cosign tags: no push is ever refused."""
    bench = Bench()
    leaf = images.image(seed="leaf", layers=4)
    middle = images.index_of([leaf], annotations={"level": "middle"})
    diamond = images.index_of([middle, leaf])
    twice = images.artifact(subject=diamond.manifest, seed="twice", size=5000)
    tags = cosign_tags(diamond.digest)[:2]
    bench.source.store("app", diamond, "v1")
    for tag in tags:
        bench.source.store("app", twice, tag)
    await bench.copier(companions=set(tags)).copy("v1", "v1")
    assert bench.target.refused == []
    assert set(bench.target.tagged["app"]) == {"v1", *tags}


async def test_a_registry_that_names_one_missing_blob_at_a_time_is_repaired() -> None:
    """When a second push is refused for another digest, everything is looked at, and the third succeeds."""
    journal = MemoryJournal()
    bench = Bench(journal)
    bench.target.names_all_missing = False
    sample = images.image(layers=6)
    bench.source.store("app", sample, "v1")
    await journal.record_content("target", "app", list(sample.blobs))
    await bench.copier().copy("v1", "v1")
    bench.assert_same(sample, tag="v1")


async def test_a_registry_that_never_mounts_gets_each_blob_once_per_repository() -> None:
    """Repositories that share a layer, on a registry without mounts: in later runs, what is there is not sent again."""
    journal, target = MemoryJournal(), MemoryRegistry("target", mounts=False, knows_itself=False)
    base = images.random_bytes(2000, "base")
    sent = []
    for run in range(4):
        bench = Bench(journal)
        bench.target = target
        target.log.clear()
        for name in ("a", "b"):
            bench.source.store(name, images.image(layers=0, seed=(name, run), shared=[base]), "v1")
            await bench.copier(name).copy("v1", "v1")
        sent.append([one.about for one in target.log if one.verb == "blob-put"].count(Digest.of(base)))
    assert sent == [2, 0, 0, 0]


async def test_an_index_of_many_children_is_walked_in_bounded_breadth() -> None:
    """An index with hundreds of children has no more of them in memory at once than a fan-out is wide."""
    bench = Bench()
    children = [images.image(layers=1, size=10, seed=at) for at in range(200)]
    bench.source.store("app", images.index_of(children), "v1")
    bench.source.referrers_api = False
    running = most = 0

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        nonlocal running, most
        if operation.about != "v1":
            running += {"get": 1, "put": -1}.get(operation.verb, 0)
            most = max(most, running)
        yield

    bench.source.gate = bench.target.gate = gate
    await bench.copier().copy("v1", "v1")
    assert 1 < most <= WIDTH
    assert len(bench.target.manifests["app"]) == 201


async def test_tags_that_sign_each_other_end() -> None:
    """Two cosign tags whose images refer to each other are copied once and do not wait for ever."""
    bench = Bench()
    one, two = images.artifact(seed=1), images.artifact(seed=2)
    tags = {cosign_tags(one.digest)[0]: two, cosign_tags(two.digest)[0]: one}
    for tag, sample in tags.items():
        bench.source.store("app", sample, tag)
    bench.source.store("app", one, "v1")
    with anyio.fail_after(5):
        await bench.copier(companions=set(tags)).copy("v1", "v1")
    assert set(bench.target.tagged["app"]) == {"v1", *tags}


async def test_an_index_that_refers_to_its_own_child_does_not_deadlock() -> None:
    """Two images at once, one of them an index whose subject is its own child, both end."""
    bench = Bench()
    child = images.image(seed="child")
    loop = images.index_of([child], subject=child.manifest)
    plain = images.index_of([child])
    bench.source.store("app", loop, "loop")
    bench.source.store("app", plain, "plain")
    copier = bench.copier()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(copier.copy, "plain", "plain")
            group.start_soon(copier.copy, "loop", "loop")
    assert bench.target.tagged["app"] == {"loop": loop.digest, "plain": plain.digest}


async def test_a_platform_subset_is_written_as_an_index_of_its_own() -> None:
    """Only the platforms asked for are moved; referrers of the whole index, which it is not, stay behind."""
    bench = Bench()
    sample = images.index(attestations=True)
    bench.source.store("app", sample, "v1")
    bench.source.store("app", images.artifact(subject=sample.manifest))
    child = images.artifact(subject=sample.children[0], seed="child")
    bench.source.store("app", child)
    copied = await bench.copier(platforms=(Platform.parse("linux/amd64"),)).copy("v1", "v1")
    assert copied.source_digest == sample.digest != copied.digest == bench.target.tagged["app"]["v1"]
    top = bench.target.manifests["app"][copied.digest]
    assert [str(entry.platform) for entry in top.manifests] == ["linux/amd64", "unknown/unknown"]
    assert set(bench.target.manifests["app"]) == {copied.digest, child.digest, *(e.digest for e in top.manifests)}
    bench.target.assert_closed()


async def test_an_unknown_child_that_is_a_blob_is_copied_as_one() -> None:
    """An index may list what is no manifest; it is found among the blobs."""
    bench = Bench()
    data = images.random_bytes(300, "wasm")
    entry = images.blob(data, "application/wasm")
    sample = images.index_of([images.image()], [images.image().manifest.descriptor, entry])
    bench.source.store("app", sample, "v1")
    bench.source.blobs["app"][entry.digest] = data
    await bench.copier().copy("v1", "v1")
    assert bench.target.blobs["app"][entry.digest] == data


@pytest.mark.parametrize(
    ("data", "error"), [(b"x" * 1024, DigestMismatch), (b"x" * 1000, SizeMismatch), (b"x" * 1100, SizeMismatch)]
)
async def test_a_corrupt_source_blob_leaves_no_tag_and_no_blob(data: bytes, error: type[SyncerError]) -> None:
    """Wrong bytes of any length are never committed, nothing is tagged, and the source is named as the side."""
    bench = Bench()
    sample = images.image(layers=1, size=1024)
    bench.source.store("app", sample, "v1")
    layer = sample.manifest.layers[0].digest
    bench.source.blobs["app"][layer] = data
    with pytest.raises(error) as caught:
        await bench.copier().copy("v1", "v1")
    assert caught.value.side is Side.SOURCE
    assert layer not in bench.target.blobs["app"]
    assert bench.target.tagged == {}


async def test_what_the_registry_lost_is_brought_again() -> None:
    """Knowledge that the registry contradicts is dropped, what is missing is sent, and the push repeated."""
    journal = MemoryJournal()
    bench = Bench(journal)
    sample = images.index()
    bench.source.store("app", sample, "v1")
    digests = [*sample.blobs, *(child.digest for child in sample.children)]
    await journal.record_content("target", "app", digests)
    await bench.copier().copy("v1", "v1")
    bench.assert_same(sample, tag="v1")


async def test_a_registry_that_keeps_losing_content_is_an_error() -> None:
    """Repairs are bounded."""
    bench = Bench()
    sample = images.image()
    bench.source.store("app", sample, "v1")
    for _ in range(5):
        error = NotFound("gone")
        error.missing = (sample.manifest.layers[0].digest,)
        bench.target.fail("put", "v1", error)
    with pytest.raises(NotFound, match="gone"):
        await bench.copier().copy("v1", "v1")
    assert bench.target.counts("put") == {"put": 3}


async def test_recheck_asks_for_everything_and_repairs() -> None:
    """With recheck no knowledge is trusted: a blob that vanished under a known manifest comes back."""
    bench = Bench()
    sample = images.index()
    bench.source.store("app", sample, "v1")
    await bench.copier().copy("v1", "v1")
    lost = sample.children[0].layers[0].digest
    del bench.target.blobs["app"][lost]
    await bench.copier(recheck=True).copy("v1", "v1")
    bench.assert_same(sample)


async def test_graphs_without_end_are_refused() -> None:
    """An index nested too deep is refused before it costs more."""
    bench = Bench()
    sample = images.nested_index(depth=MAX_DEPTH + 3)
    bench.source.store("app", sample, "v1")
    with pytest.raises(SizeExceedsLimit, match="deeper than"):
        await bench.copier().copy("v1", "v1")
    assert bench.target.tagged == {}


async def test_a_failing_leader_hands_over() -> None:
    """When the one who brings a shared blob fails, another of those waiting brings it."""
    bench = Bench()
    base = images.random_bytes(2000, "base")
    digest = Digest.of(base)
    for name in ("a", "b"):
        bench.source.store(name, images.image(layers=0, seed=name, shared=[base]), "v1")
    bench.source.fail("blob-get", digest, ConnectionFailed("lost"))
    outcomes: dict[str, object] = {}

    async def copy(name: str) -> None:
        try:
            outcomes[name] = await bench.copier(name).copy("v1", "v1")
        except SyncerError as error:
            outcomes[name] = error

    async with anyio.create_task_group() as group:
        group.start_soon(copy, "a")
        group.start_soon(copy, "b")
    failed = [name for name, outcome in outcomes.items() if isinstance(outcome, ConnectionFailed)]
    assert len(failed) == 1
    done = ({"a", "b"} - set(failed)).pop()
    assert bench.target.blobs[done][digest] == base


async def test_a_cancelled_leader_hands_over() -> None:
    """When the one who brings a shared blob is cancelled, another of those waiting brings it."""
    bench = Bench()
    base = images.random_bytes(2000, "base")
    for name in ("a", "b"):
        bench.source.store(name, images.image(layers=0, seed=name, shared=[base]), "v1")
    held = anyio.Event()

    @asynccontextmanager
    async def gate(operation: Operation) -> AsyncIterator[None]:
        if operation.verb == "blob-get" and operation.about == Digest.of(base) and operation.repository == "a":
            held.set()
            await anyio.sleep_forever()
        yield

    bench.source.gate = gate
    leader = anyio.CancelScope()

    async def lead() -> None:
        with leader:
            await bench.copier("a").copy("v1", "v1")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(lead)
            await held.wait()
            group.start_soon(bench.copier("b").copy, "v1", "v1")
            await anyio.wait_all_tasks_blocked()
            leader.cancel()
    assert bench.target.blobs["b"][Digest.of(base)] == base
    assert "v1" not in bench.target.tagged.get("a", {})
    assert bench.target.slots == bench.source.slots == 0


async def test_what_happens_is_told() -> None:
    """Bytes passed on add up to the blobs' sizes, and every manifest written is told once."""
    bench = Bench()
    sample = images.index()
    bench.source.store("app", sample, "v1")
    await bench.copier().copy("v1", "v1")
    passed = sum(event.count for event in bench.recorder.of(BlobProgress))
    assert passed == sum(len(data) for data in sample.blobs.values())
    pushed = bench.recorder.of(ManifestPushed)
    assert {event.digest for event in pushed} == {one.digest for one in sample.manifests}
    assert [event.tag for event in pushed if event.tag] == ["v1"]
    assert all(event.target == "target/app" for event in pushed)
