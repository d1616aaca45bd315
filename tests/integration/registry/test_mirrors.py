"""A repository with mirrors: who is asked for what, and what happens where one of them fails."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.content import ReferrerLister, Source, TagDescriber, Throttled, verified
from syncer.errors import DigestMismatch, NotFound, PolicyViolation, SyncerError
from syncer.events import Notice
from syncer.oci import Digest
from syncer.registry.mirrors import REST, MirroredRepository, MirrorHealth
from syncer.registry.registries_conf import PullFrom, Route, Rule, Stop
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import Clock, Scripted, connected, cut, scripted
from tests.support.transfer import read_blob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.images import Sample
    from tests.support.scripted import Connected

APP = images.image(layers=1, size=300_000, seed="app")
NEWER = images.image(layers=1, seed="newer")
SIGNATURE = images.artifact(subject=APP.manifest, seed="signature")
LAYER = APP.manifest.layers[0]


@dataclass
class Shelf:
    """A registry's content, and how it misbehaves."""

    tags: dict[str, Sample] = field(default_factory=dict)
    referrers: tuple[Sample, ...] = ()
    #: Answers instead of anything else, where it gives something.
    instead: Callable[[web.BaseRequest], web.StreamResponse | None] = lambda _: None
    #: Bytes of a blob after which the connection is cut.
    cut_at: int | None = None
    #: Bytes that are sent for a blob, whichever is asked for.
    wrong: bytes = b""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer as a registry that has this content and nothing else."""
        if (other := self.instead(request)) is not None:
            return other
        kind, name = request.path.split("/")[-2:]
        manifests = {one.digest: one for sample in (*self.tags.values(), *self.referrers) for one in sample.manifests}
        if kind == "tags":
            return web.json_response({"name": "app", "tags": list(self.tags)})
        if kind == "referrers":
            return web.json_response({"schemaVersion": 2, "manifests": [_link(one) for one in self.referrers]})
        if kind == "manifests":
            named = self.tags[name].manifest if name in self.tags else None
            found = manifests.get(Digest(name)) if ":" in name else named
            if found is None:
                return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
            headers = {"Docker-Content-Digest": found.digest, "Content-Type": found.media_type}
            return web.Response(body=found.raw, headers=headers)
        data = {digest: one for sample in self.tags.values() for digest, one in sample.blobs.items()}.get(Digest(name))
        if data is None:
            return web.json_response({"errors": [{"code": "BLOB_UNKNOWN"}]}, status=404)
        return await self._blob(request, self.wrong or data)

    async def _blob(self, request: web.BaseRequest, data: bytes) -> web.StreamResponse:
        if self.cut_at is None:
            return web.Response(body=data, content_type="application/octet-stream")
        if "Range" in request.headers:
            return web.Response(status=404)
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[: self.cut_at])
        cut(request)
        return response


def _link(sample: Sample) -> dict[str, object]:
    return {"mediaType": sample.manifest.media_type, "digest": sample.digest, "size": sample.manifest.size}


@dataclass
class World:
    """A registry with its mirrors, the repository that is read along them, and all that was seen."""

    repository: MirroredRepository
    servers: list[Scripted]
    recorder: Recorder
    clock: Clock

    def lines(self) -> list[list[str]]:
        """Return what each server was asked, the mirrors first and the registry last; without ``/v2/app/``."""
        return [[line.replace("/v2/app/", "") for line in server.lines] for server in self.servers]

    def counts(self) -> list[int]:
        """Return how much each server was asked."""
        return [len(server.seen) for server in self.servers]

    def notices(self) -> list[str]:
        """Return what a person was told."""
        return [notice.text for notice in self.recorder.of(Notice)]


@asynccontextmanager
async def world(*shelves: Shelf, pulls: tuple[PullFrom, ...] = (), blocked: bool = False) -> AsyncIterator[World]:
    """Serve ``shelves``, of which the last is the registry itself, and the others its mirrors in order."""
    clock, recorder = Clock(), Recorder()
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(scripted(shelf.answer)) for shelf in shelves]
        clients: dict[str, Connected] = {
            server.address: await stack.enter_async_context(connected(server.address)) for server in servers
        }
        wanted = [*pulls, *(PullFrom.ALL for _ in shelves)]
        stops = [
            Stop(registry=server.address, repository="app", pull=pull)
            for server, pull in zip(servers, wanted, strict=False)
        ]
        rule = Rule(prefix="registry.example", location="registry.example", file="r.conf", blocked=blocked)
        primary = Stop(registry=servers[-1].address, repository="app")

        async def opener(stop: Stop) -> Source:
            return clients[stop.registry].client.repository(stop.repository)

        repository = MirroredRepository(
            servers[-1].address,
            "app",
            route=Route(rule=rule, mirrors=tuple(stops[:-1]), primary=primary),
            opener=opener,
            health=MirrorHealth(recorder, clock=clock),
        )
        yield World(repository, servers, recorder, clock)


def failing(status: int) -> Shelf:
    """Return a shelf that answers everything with ``status``."""
    return Shelf(instead=lambda _: web.Response(status=status))


async def test_it_is_a_source() -> None:
    """The engine may use it for everything that a registry's repository can do to read."""
    async with world(Shelf()) as there:
        for protocol in (Source, ReferrerLister, TagDescriber, Throttled):
            assert isinstance(there.repository, protocol)
        assert there.repository.registry == there.servers[-1].address
        async with there.repository.data_slot():
            pass


async def test_content_comes_from_the_first_mirror() -> None:
    """Manifests and blobs are asked of the first mirror only, with one request each."""
    async with world(Shelf({"v1": APP}), Shelf({"v1": APP}), Shelf({"v1": APP})) as there:
        assert (await there.repository.resolve("v1")).digest == APP.digest
        assert (await there.repository.fetch_manifest(APP.digest)).raw == APP.manifest.raw
        assert await read_blob(there.repository, LAYER) == APP.blobs[LAYER.digest]
        assert there.lines() == [
            ["HEAD manifests/v1", f"GET manifests/{APP.digest}", f"GET blobs/{LAYER.digest}"],
            [],
            [],
        ]
        assert len(there.notices()) == 1
        assert there.notices()[0].endswith("as r.conf says")


async def test_what_a_mirror_lacks_comes_from_the_next() -> None:
    """A mirror without the image is no failure: the next is asked, the registry last, and nobody is told off."""
    async with world(Shelf(), Shelf({"v2": NEWER}), Shelf({"v1": APP})) as there:
        assert (await there.repository.fetch_manifest("v1")).digest == APP.digest
        assert (await there.repository.fetch_manifest("v2")).digest == NEWER.digest
        assert await read_blob(there.repository, LAYER) == APP.blobs[LAYER.digest]
        assert there.counts() == [3, 3, 2]
        assert len(there.notices()) == 1


async def test_what_nobody_has_is_the_registrys_own_answer() -> None:
    """A tag that is nowhere is told as the registry itself tells it."""
    async with world(Shelf(), Shelf()) as there:
        with pytest.raises(NotFound, match=there.servers[-1].address):
            await there.repository.fetch_manifest("v1")
        with pytest.raises(NotFound):
            await read_blob(there.repository, LAYER)
        with pytest.raises(NotFound):
            await there.repository.resolve("v1")


@pytest.mark.parametrize("status", [500, 429, 418])
async def test_a_mirror_that_fails_is_passed_over_for_a_while(status: int) -> None:
    """Its failure costs one try, a notice, and no request until it has rested."""
    async with world(failing(status), Shelf({"v1": APP})) as there:
        await there.repository.fetch_manifest("v1")
        tried = there.counts()[0]
        await there.repository.fetch_manifest("v1")
        await there.repository.resolve("v1")
        assert there.counts() == [tried, 3]
        assert sum("passed over for 5 minutes" in text for text in there.notices()) == 1
        there.clock.now += REST
        await there.repository.fetch_manifest("v1")
        assert there.counts()[0] > tried


@pytest.mark.parametrize("status", [401, 403])
async def test_a_mirror_that_denies_one_repository(status: int) -> None:
    """Who may not read one repository of a mirror may read the others there."""
    async with world(failing(status), Shelf({"v1": APP})) as there:
        assert (await there.repository.fetch_manifest("v1")).digest == APP.digest
        health = there.repository._health
        mirror = there.repository._route.mirrors[0]
        assert health.is_resting(mirror)
        assert not health.is_resting(Stop(registry=mirror.registry, repository="other"))


async def test_the_registrys_failure_mentions_the_mirrors() -> None:
    """Where nobody helps, the error is the registry's own, and its hint says what became of the mirrors."""
    async with world(failing(418), failing(403)) as there:
        with pytest.raises(SyncerError) as caught:
            await there.repository.fetch_manifest("v1")
        assert there.servers[-1].address in caught.value.message
        assert "Mirrors were asked too (r.conf)" in caught.value.hint
        assert "418" in caught.value.hint


@pytest.mark.parametrize("cut_at", [0, 1, 100_000, 299_999])
async def test_a_blob_goes_on_where_a_mirror_left_it(cut_at: int) -> None:
    """A mirror that dies in the middle of a blob costs none of its bytes: they arrive once, in their order."""
    async with world(Shelf({"v1": APP}, cut_at=cut_at), Shelf({"v1": APP})) as there:
        assert await read_blob(there.repository, LAYER) == APP.blobs[LAYER.digest]
        assert there.counts()[1] == 1


async def test_a_blob_that_is_cut_everywhere_fails() -> None:
    """Where the last place fails too, reading ends with its error, not with half a blob."""
    shelves = [Shelf({"v1": APP}, cut_at=size) for size in (1000, 2000)]
    async with world(*shelves) as there:
        with pytest.raises(SyncerError):
            await read_blob(there.repository, LAYER)


async def test_wrong_bytes_send_the_next_attempt_elsewhere() -> None:
    """Who checks the bytes and finds them wrong gets them from another place when it asks again."""
    wrong = bytes(LAYER.size)
    async with world(Shelf({"v1": APP}, wrong=wrong), Shelf({"v1": APP})) as there:
        with pytest.raises(DigestMismatch):
            await _checked(there.repository)
        assert await _checked(there.repository) == APP.blobs[LAYER.digest]


async def test_a_corrupt_blob_of_the_registry_leaves_its_lists_alone() -> None:
    """Wrong bytes from the registry itself are an error, and no reason to ask a mirror what there is."""
    async with world(Shelf(), Shelf({"v1": APP}, wrong=bytes(LAYER.size))) as there:
        with pytest.raises(DigestMismatch):
            await _checked(there.repository)
        assert [tag async for tag in there.repository.tags()] == ["v1"]
        assert not any("passed over" in text or "are taken from" in text for text in there.notices())


async def _checked(repository: MirroredRepository) -> bytes:
    async with repository.fetch_blob(LAYER) as chunks:
        return b"".join([chunk async for chunk in verified(chunks, LAYER)])


async def test_a_wrong_manifest_comes_from_elsewhere() -> None:
    """A mirror that answers a digest with other bytes is not believed."""
    lying = Shelf(instead=lambda _: web.Response(body=NEWER.manifest.raw, content_type=NEWER.manifest.media_type))
    async with world(lying, Shelf({"v1": APP})) as there:
        assert (await there.repository.fetch_manifest(APP.digest)).digest == APP.digest


@pytest.mark.parametrize(
    ("pull", "expected"),
    [
        (PullFrom.ALL, (3, 0)),
        # The tag's digest is asked of the registry, which is one HEAD, and what it stands for of the mirror.
        (PullFrom.DIGEST_ONLY, (2, 2)),
        (PullFrom.TAG_ONLY, (2, 1)),
    ],
)
async def test_a_mirror_is_asked_only_for_what_it_is_for(pull: PullFrom, expected: tuple[int, int]) -> None:
    """Tags and digests take their own ways, with as few requests as that allows."""
    async with world(Shelf({"v1": APP}), Shelf({"v1": APP}), pulls=(pull,)) as there:
        await there.repository.resolve("v1")
        await there.repository.fetch_manifest("v1")
        await read_blob(there.repository, LAYER)
        assert tuple(there.counts()) == expected


async def test_a_tag_that_moves_is_read_in_one_piece() -> None:
    """A digest that a lagging mirror does not have yet comes from the registry, never an older image."""
    async with world(Shelf({"v1": APP}), Shelf({"v1": NEWER})) as there:
        assert (await there.repository.resolve("v1")).digest == APP.digest
        assert (await there.repository.fetch_manifest(NEWER.digest)).digest == NEWER.digest


async def test_lists_are_the_registrys_own() -> None:
    """Tags and referrers are what the registry says: a mirror may hold a part of them."""
    async with world(Shelf({"v1": APP}), Shelf({"v1": APP, "v2": NEWER}, (SIGNATURE,))) as there:
        assert [tag async for tag in there.repository.tags()] == ["v1", "v2"]
        assert [item async for item in there.repository.described_tags()] == [("v1", None), ("v2", None)]
        assert [found.digest for found in await there.repository.referrers(APP.digest)] == [SIGNATURE.digest]
        assert there.counts() == [0, 3]
        assert there.notices() == []


async def test_a_mirror_lists_where_the_registry_cannot() -> None:
    """A registry out of reach is no end: the mirror's lists are used, and it is said whose they are."""
    async with world(Shelf({"v1": APP}, (SIGNATURE,)), failing(418)) as there:
        assert [tag async for tag in there.repository.tags()] == ["v1"]
        assert [found.digest for found in await there.repository.referrers(APP.digest)] == [SIGNATURE.digest]
        assert sum("its tags are taken from" in text for text in there.notices()) == 1
        assert sum("its referrers are taken from" in text for text in there.notices()) == 1
        # Asked once, and not again while it rests.
        assert there.counts() == [2, 1]


async def test_a_mirror_does_not_list_what_the_registry_has_not() -> None:
    """A repository that is gone from the registry is gone, although a mirror has kept its tags and signatures."""
    gone = Shelf(instead=lambda _: web.json_response({"errors": [{"code": "NAME_UNKNOWN"}]}, status=404))
    async with world(Shelf({"v1": APP}, (SIGNATURE,)), gone) as there:
        with pytest.raises(NotFound):
            assert [tag async for tag in there.repository.tags()]
        assert await there.repository.referrers(APP.digest) == []
        assert there.counts()[0] == 0
        assert there.notices() == []


async def test_half_a_list_is_no_list() -> None:
    """A registry that fails in the middle of its tags is not completed by somebody else's."""

    def second_page(request: web.BaseRequest) -> web.StreamResponse | None:
        if "last" in request.path_qs:
            return web.Response(status=418)
        link = '</v2/app/tags/list?last=v1>; rel="next"'
        return web.json_response({"tags": ["v1"]}, headers={"Link": link})

    async with world(Shelf({"v9": APP}), Shelf(instead=second_page)) as there:
        with pytest.raises(SyncerError, match="418"):
            assert [tag async for tag in there.repository.tags()]
        assert there.counts() == [0, 2]


async def test_a_mirror_for_digests_lists_no_tags() -> None:
    """Where the registry is out of reach, a digest-only mirror is no source of tags."""
    async with world(Shelf({"v1": APP}), failing(418), pulls=(PullFrom.DIGEST_ONLY,)) as there:
        with pytest.raises(SyncerError, match="418"):
            assert [tag async for tag in there.repository.tags()]
        assert there.counts()[0] == 0


async def test_blocked_means_blocked() -> None:
    """Nothing is asked of anybody, mirrors included, and the error names the file."""
    async with world(Shelf({"v1": APP}), Shelf({"v1": APP}), blocked=True) as there:
        with pytest.raises(PolicyViolation, match=r"blocked by r\.conf"):
            await there.repository.resolve("v1")
        with pytest.raises(PolicyViolation):
            await read_blob(there.repository, LAYER)
        with pytest.raises(PolicyViolation):
            assert [tag async for tag in there.repository.tags()]
        with pytest.raises(PolicyViolation):
            await there.repository.referrers(APP.digest)
        assert there.counts() == [0, 0]


async def test_bad_references_are_nobodys_fault() -> None:
    """What breaks the grammar is refused at once, and no mirror rests for it."""
    async with world(Shelf(), Shelf()) as there:
        with pytest.raises(SyncerError, match="invalid tag"):
            await there.repository.resolve("-x")
        assert there.counts() == [0, 0]
        assert not there.repository._health.is_resting(there.repository._route.mirrors[0])
