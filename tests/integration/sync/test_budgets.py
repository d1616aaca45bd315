"""What a sync costs in requests, counted on the wire: the budgets of reference section 5.5, and the mount index.

``B`` is the number of blobs of an image. A repository's tags are listed once on each side, which replaces
a HEAD per tag where more than four are wanted; what refers to an image is asked for once per image.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from syncer.content import BlobOutcome
from syncer.events import BlobFinished, TagOutcome
from tests.support import images
from tests.support.docker_registry import Witness, docker_registry
from tests.support.observing import Recorder
from tests.support.world import Embedded, embedded, fill, kind_of, run, spec_between

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.images import Sample

pytestmark = pytest.mark.untraced

Counts = Counter[tuple[str, str]]

LIST = ("GET", "tags/list")
HEAD = ("HEAD", "manifests")
GET = ("GET", "manifests")
PUT = ("PUT", "manifests")
BLOB = ("GET", "blobs")
POST = ("POST", "blobs/uploads")
COMMIT = ("PUT", "blobs/uploads")
REFERRERS = ("GET", "referrers")

ONE = "name: one, from: source/app, to: target/app, referrers: false, tags: {include: [v1]}"
WITH = "name: one, from: source/app, to: target/app, tags: {include: [v1]}"
ALL = "name: all, from: source/app, to: target/app, referrers: false"


class Pair:
    """Two embedded registries, and what each run between them has cost."""

    def __init__(self, source: Embedded, target: Embedded, folder: Path) -> None:
        self.source, self.target, self.folder = source, target, folder

    async def cost(self, entry: str) -> tuple[Counts, Counts]:
        """Run the entry, and return the requests that each side answered."""
        self.source.requests.clear()
        self.target.requests.clear()
        report = await run(spec_between(self.source.host, self.target.host, entry), self.folder)
        assert not report.failures
        return self.source.counts(), self.target.counts()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Run two registries."""
    async with embedded(tmp_path / "source") as source, embedded(tmp_path / "target") as target:
        yield Pair(source, target, tmp_path)


async def test_a_new_image_costs_1_and_b_on_the_source_and_2_and_2b_on_the_target(pair: Pair) -> None:
    """A GET of the manifest and of each blob; a HEAD of the tag, POST and PUT of each blob, PUT of the manifest."""
    await fill(pair.source.host, "app", {"v1": images.image(layers=4)})
    source, target = await pair.cost(ONE)
    assert source == {GET: 1, BLOB: 5}
    assert target == {HEAD: 1, POST: 5, COMMIT: 5, PUT: 1}


async def test_a_tag_in_sync_costs_a_head_on_each_side(pair: Pair) -> None:
    """A tag that did not move: 1 + 1, whether the state knows of it or not."""
    await fill(pair.source.host, "app", {"v1": images.image()})
    await pair.cost(ONE)
    assert await pair.cost(ONE) == ({HEAD: 1}, {HEAD: 1})
    for file in pair.folder.glob("state.db*"):
        file.unlink()
    assert await pair.cost(ONE) == ({HEAD: 1}, {HEAD: 1})


async def test_many_tags_are_listed_once_instead_of_asked_for_on_the_target(pair: Pair) -> None:
    """Ten new images of B blobs: a list on each side, no HEAD at all."""
    samples = {f"v{at}": images.image(layers=1, seed=at) for at in range(10)}
    await fill(pair.source.host, "app", samples)
    source, target = await pair.cost(ALL)
    assert source == {LIST: 1, GET: 10, BLOB: 20}
    assert target == {LIST: 1, POST: 20, COMMIT: 20, PUT: 10}
    assert await pair.cost(ALL) == ({LIST: 1, HEAD: 10}, {LIST: 1, HEAD: 10})


@pytest.mark.parametrize("lists", ["both", "target", "source"])
async def test_listed_digests_cost_no_head(tmp_path: Path, lists: str) -> None:
    """A side whose tag list has digests is not asked for one tag; where both have them nothing is."""
    tells = {side: lists in (side, "both") for side in ("source", "target")}
    async with (
        embedded(tmp_path / "source", tag_digests=tells["source"]) as source,
        embedded(tmp_path / "target", tag_digests=tells["target"]) as target,
    ):
        pair = Pair(source, target, tmp_path)
        await fill(source.host, "app", {f"v{at}": images.image(seed=at) for at in range(8)})
        await pair.cost(ALL)
        expected = [{LIST: 1} if tells[side] else {LIST: 1, HEAD: 8} for side in ("source", "target")]
        assert list(await pair.cost(ALL)) == expected


@pytest.mark.parametrize("count", [3, 8])
async def test_an_immutable_tag_costs_nothing_once_copied(pair: Pair, count: int) -> None:
    """0 + 0: beside a list of each side where many are wanted, and without one where few are."""
    await fill(pair.source.host, "app", {f"v{at}": images.image(seed=at) for at in range(count)})
    entry = ALL + ", tags: {immutable: ['v*']}"
    await pair.cost(entry)
    assert await pair.cost(entry) == ({LIST: 1}, {LIST: 1} if count > 4 else {})


async def test_an_immutable_tag_that_the_target_no_longer_lists_is_copied_again(pair: Pair) -> None:
    """What the record says does not stand against a list that the run has read anyway."""
    await fill(pair.source.host, "app", {f"v{at}": images.image(seed=at) for at in range(8)})
    entry = ALL + ", tags: {immutable: ['v*']}"
    await pair.cost(entry)
    async with embedded(pair.folder / "other") as other:
        text = spec_between(pair.source.host, other.host, entry)
        report = await run(text, pair.folder)
    assert report.totals.tags[TagOutcome.COPIED] == 8


async def test_a_retag_costs_two_requests_on_each_side(pair: Pair) -> None:
    """A tag that moves to an image the target has is looked at, read, and written, and nothing below it."""
    first, second = images.image(seed=1), images.image(seed=2)
    await fill(pair.source.host, "app", {"v1": first, "other": second})
    await pair.cost("name: two, from: source/app, to: target/app, referrers: false, tags: {include: [v1, other]}")
    await fill(pair.source.host, "app", {"v1": second})
    assert await pair.cost(ONE) == ({HEAD: 1, GET: 1}, {HEAD: 1, PUT: 1})


async def test_a_new_tag_of_an_image_that_is_there_costs_two_requests(pair: Pair) -> None:
    """The target is asked for the tag and told; the source gives the manifest."""
    await fill(pair.source.host, "app", {"v0": images.index(), "v1": images.index()})
    await pair.cost(WITH.replace("v1", "v0"))
    source, target = await pair.cost(WITH)
    # A child that came with what refers to it is known to be whole; who refers to the image may have changed.
    assert source == {LIST: 1, GET: 1, REFERRERS: 1}
    assert target == {HEAD: 1, PUT: 1}


async def test_one_changed_child_of_an_index_costs_what_changed(pair: Pair) -> None:
    """HEAD and GET of the index, GET of the child and of its new blobs; the other children are not asked for."""
    same = [images.image(seed=at, platform=f"linux/{name}") for at, name in enumerate(("amd64", "arm64", "s390x"))]
    new = images.image(seed="new", platform="linux/s390x")
    before, after = images.index_of(same), images.index_of([*same[:2], new])
    await fill(pair.source.host, "app", {"v1": before})
    await pair.cost(WITH)
    blobs = set(after.blobs) - set(before.blobs)
    await fill(pair.source.host, "app", {"v1": after})
    source, target = await pair.cost(WITH)
    assert source == {LIST: 1, HEAD: 1, GET: 2, BLOB: len(blobs), REFERRERS: 2}
    assert target == {HEAD: 1, POST: len(blobs), COMMIT: len(blobs), PUT: 2}


async def test_all_blobs_in_the_repository_cost_no_request(pair: Pair) -> None:
    """A new manifest of blobs that the repository is known to have: 1 on the source, HEAD and PUT on the target."""
    await fill(pair.source.host, "app", {"v0": images.image()})
    await pair.cost(ONE.replace("v1", "v0"))
    await fill(pair.source.host, "app", {"v1": images.image(annotations={"of": "the same"})})
    assert await pair.cost(ONE) == ({GET: 1}, {HEAD: 1, PUT: 1})


async def test_mountable_blobs_cost_a_post_each(pair: Pair) -> None:
    """An image whose blobs another repository of the target has: 1 on the source, 2 and B on the target."""
    sample = images.image(layers=4)
    await fill(pair.source.host, "app", {"v1": sample})
    await pair.cost(ONE)
    source, target = await pair.cost(ONE.replace("target/app", "target/copy"))
    assert source == {GET: 1}
    assert target == {HEAD: 1, POST: 5, PUT: 1}


async def test_a_promotion_within_a_registry_costs_3_and_b(pair: Pair) -> None:
    """Between two repositories of one registry: HEAD, GET, B mounts, PUT; no byte of a blob moves."""
    await fill(pair.target.host, "dev", {"v1": images.image(layers=4)})
    _, both = await pair.cost("name: up, from: target/dev, to: target/prod, referrers: false, tags: {include: [v1]}")
    assert both == {HEAD: 1, GET: 1, POST: 5, PUT: 1}
    assert both.total() == 3 + 5


async def test_a_second_tag_of_an_image_asks_for_its_referrers_no_more(pair: Pair) -> None:
    """Six tags of one signed image, copied at once: its referrers are listed once, and travel once."""
    sample = images.image()
    signature = images.artifact(subject=sample.manifest)
    await fill(pair.source.host, "app", {**{f"v{at}": sample for at in range(6)}, "@signature": signature})
    source, target = await pair.cost("name: all, from: source/app, to: target/app")
    # Of the image, and of its signature.
    assert source[REFERRERS] == 2
    assert source[GET] == 6 + 1
    # The image by its digest, its signature, and each tag.
    assert target[PUT] == 1 + 1 + 6


# ------------------------------------------------------------------ the mount index, on Debian's registry


@pytest.fixture
def witnesses(tmp_path: Path) -> Iterator[tuple[Witness, Witness]]:
    """Run two of Debian's registries."""
    with ExitStack() as stack:
        one = stack.enter_context(docker_registry(tmp_path / "one"))
        yield one, stack.enter_context(docker_registry(tmp_path / "two"))


def answered(witness: Witness, since: int = 0) -> Counts:
    """Count a witness's requests by method and kind."""
    return Counter((access.method, kind_of(access.target)) for access in witness.requests()[since:])


REPOSITORIES = 100
BASE = 3


def siblings() -> dict[str, Sample]:
    """Return an image for each of a hundred repositories; they share three layers, and have one of their own."""
    shared = [images.random_bytes(2000, f"base/{at}") for at in range(BASE)]
    return {f"team/app{at:03}": images.image(layers=1, size=300, seed=at, shared=shared) for at in range(REPOSITORIES)}


@pytest.mark.witness
async def test_a_hundred_repositories_stream_a_shared_layer_once(
    tmp_path: Path, witnesses: tuple[Witness, Witness]
) -> None:
    """First sync to an empty registry: each base layer is read and sent once, and mounted 99 times."""
    source, target = witnesses
    samples = siblings()
    for name, sample in samples.items():
        await fill(source.host, name, {"v1": sample})
    filled = len(source.requests())
    recorder = Recorder()
    text = spec_between(source.host, target.host, "name: all, from: 'source/team/*', to: 'target/{path}'")
    report = await run(text, tmp_path, recorder)
    assert not report.failures
    shared = set.intersection(*(set(sample.blobs) for sample in samples.values()))
    outcomes = Counter((event.digest in shared, event.outcome) for event in recorder.of(BlobFinished))
    assert outcomes == {
        (True, BlobOutcome.STREAMED): BASE,
        (True, BlobOutcome.MOUNTED): BASE * (REPOSITORIES - 1),
        (False, BlobOutcome.STREAMED): 2 * REPOSITORIES,
    }
    assert answered(source, filled)[BLOB] == BASE + 2 * REPOSITORIES
    wire = answered(target)
    assert wire[POST] == (BASE + 2) * REPOSITORIES
    assert wire[COMMIT] == BASE + 2 * REPOSITORIES
    assert wire[PUT] == REPOSITORIES


@pytest.mark.witness
async def test_a_promotion_of_many_repositories_moves_no_byte(
    tmp_path: Path, witnesses: tuple[Witness, Witness]
) -> None:
    """Within Debian's registry: 3 + B requests per image, a list per repository, and no blob is read or sent."""
    registry, _ = witnesses
    samples = dict(list(siblings().items())[:30])
    for name, sample in samples.items():
        await fill(registry.host, name, {"v1": sample})
    filled = len(registry.requests())
    entry = "name: up, from: 'target/team/*', to: 'target/prod/{name}', referrers: false, tags: {include: [v1]}"
    report = await run(spec_between("source.invalid", registry.host, entry), tmp_path)
    assert not report.failures
    wire = answered(registry, filled)
    catalog = wire.pop(("GET", "_catalog"))
    assert catalog >= 1
    assert wire == {HEAD: 30, GET: 30, POST: 30 * (BASE + 2), PUT: 30}


@pytest.mark.witness
async def test_a_registry_without_the_referrers_api_is_asked_for_it_once(
    tmp_path: Path, witnesses: tuple[Witness, Witness]
) -> None:
    """Many repositories at once: one probe tells all of them."""
    source, target = witnesses
    for name, sample in list(siblings().items())[:20]:
        await fill(source.host, name, {"v1": sample})
    filled = len(source.requests())
    text = spec_between(source.host, target.host, "name: all, from: 'source/team/*', to: 'target/{path}'")
    report = await run(text, tmp_path)
    assert report.totals.tags[TagOutcome.COPIED] == 20
    assert answered(source, filled)[REFERRERS] == 1


# ------------------------------------------------------------------ several targets


async def test_three_targets_cost_the_source_one_reading_of_each_blob(tmp_path: Path) -> None:
    """Entries that take one repository to three registries read each of its blobs once."""
    samples = {f"v{at}": images.image(layers=2, size=300_000, seed=at) for at in range(6)}
    blobs = set().union(*(sample.blobs for sample in samples.values()))
    async with (
        embedded(tmp_path / "source") as source,
        embedded(tmp_path / "a") as a,
        embedded(tmp_path / "b") as b,
        embedded(tmp_path / "c") as c,
    ):
        await fill(source.host, "app", samples)
        source.requests.clear()
        registries = {"source": source, "a": a, "b": b, "c": c}
        lines = [f"  {name}: {{host: '{one.host}', plain_http: true}}" for name, one in registries.items()]
        entries = [f"  - {{name: to-{name}, from: source/app, to: {name}/app}}" for name in "abc"]
        text = "\n".join(["version: 1", "state: ./state.db", "registries:", *lines, "sync:", *entries])
        report = await run(text, tmp_path)
        assert report.totals.tags[TagOutcome.COPIED] == 18
        assert source.counts()[BLOB] == len(blobs)
        for target in (a, b, c):
            assert target.counts()[COMMIT] == len(blobs)
