"""Lists of referrers: an answer that is none is never taken for an empty list."""

from __future__ import annotations

import json
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import web
from anyio import to_thread

from syncer.errors import Denied, NotFound, ProtocolViolation, Side, SizeExceedsLimit, StatusError, Unsupported
from syncer.events import Notice
from syncer.oci import Digest, Manifest, media_types
from syncer.oci.manifest import parse_object
from syncer.oci.referrers import fallback_tag, referrers_index
from syncer.registry import referrers
from syncer.registry.capabilities import LIFETIME, Capability
from tests.support import images
from tests.support.docker_registry import docker_registry
from tests.support.scripted import connected, scripted
from tests.support.transfer import push

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = images.image()
OTHER = images.image(seed=1)
SBOM = images.artifact(subject=SAMPLE.manifest, artifact_type="application/sbom")
SIGNATURE = images.artifact(subject=SAMPLE.manifest, artifact_type="application/signature", seed=1)
HTML = "<html>try later</html>"


def listing(*found: Manifest) -> web.Response:
    """Answer as the referrers API does."""
    return web.Response(body=referrers_index([one.referrer_descriptor for one in found]))


def coded(status: int, code: str, **member: Any) -> web.Response:
    """Answer with an error of the distribution-spec."""
    return web.json_response({"errors": [{"code": code, **member}]}, status=status)


class Registry:
    """Manifests by tag or digest; the referrers API answers what a test has queued, and else with 404.

    What ``gone`` holds may not be listed by what is pushed, and what ``refuses`` deletes nothing.
    """

    def __init__(self, *answers: web.Response) -> None:
        self.answers = list(answers)
        self.manifests: dict[str, bytes] = {}
        self.gone: set[str] = set()
        self.refuses = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        reference = request.path.rpartition("/")[2]
        if "/referrers/" in request.path:
            return self.answers.pop(0) if self.answers else web.Response(status=404, text="404 page not found")
        if request.method == "PUT":
            raw = await request.read()
            # Whether Syncer holds up the loop can be told only if the registry does not.
            manifest = await to_thread.run_sync(Manifest.parse, raw, request.content_type)
            listed = [one.digest for one in manifest.manifests]
            if missing := [digest for digest in listed if digest in self.gone]:
                errors = [{"code": "MANIFEST_BLOB_UNKNOWN", "detail": digest} for digest in missing]
                return web.json_response({"errors": errors}, status=400)
            self.manifests[reference] = raw
            return web.Response(status=201, headers={"Docker-Content-Digest": Digest.of(raw)})
        if request.method == "DELETE":
            self.manifests.pop(reference, None)
            return web.Response(status=405 if self.refuses else 202)
        held = self.manifests.get(reference)
        if held is None:
            return web.Response(status=404)
        if reference.startswith("sha256:"):
            return web.Response(body=held, content_type=Manifest.parse(held).media_type)
        return web.Response(body=held, content_type=media_types.OCI_INDEX)

    def listed(self) -> list[Digest]:
        """Return what the list under the tag of the sample names."""
        return [one.digest for one in Manifest.parse(self.manifests[fallback_tag(SAMPLE.digest)]).manifests]


# ------------------------------------------------------------------ the API


@pytest.mark.parametrize("answer", [{"text": HTML}, {"text": '{"error": "try later"}'}, {"status": 204}])
async def test_an_answer_that_is_no_list_is_an_error(answer: dict[str, Any]) -> None:
    """A page of HTML says nothing about referrers or about the registry: it is raised, and the API asked again."""
    registry = Registry(web.Response(**answer), listing(SBOM.manifest))
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.SOURCE)
        with pytest.raises(ProtocolViolation) as caught:
            await repository.referrers(SAMPLE.digest)
        assert Side.SOURCE is caught.value.side
        assert "referrers: false" in caught.value.hint
        assert [SBOM.digest] == [one.digest for one in await repository.referrers(SAMPLE.digest)]


@pytest.mark.parametrize("status", [200, 400, 401, 403, 405, 501])
async def test_an_api_that_has_worked_is_not_taken_to_be_absent(status: int) -> None:
    """Once the API has answered, every other answer is a failure and none an empty list."""
    registry = Registry(listing(SBOM.manifest), web.Response(status=status, text=HTML), listing(SIGNATURE.manifest))
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a")
        assert len(await repository.referrers(SAMPLE.digest)) == 1
        with pytest.raises(StatusError if status != 200 else ProtocolViolation):
            await repository.referrers(SAMPLE.digest)
        assert len(await repository.referrers(SAMPLE.digest)) == 1
    assert it.recorder.of(Notice) == []


async def test_an_api_that_has_worked_knows_what_is_not_there() -> None:
    """A 404 of a registry that has the API is about the repository, which then has no referrers."""
    registry = Registry(listing(SBOM.manifest), coded(404, "NAME_UNKNOWN"))
    async with scripted(registry.handle) as server, connected(server.address) as it:
        assert len(await it.client.repository("a").referrers(SAMPLE.digest)) == 1
        assert await it.client.repository("b").referrers(SAMPLE.digest) == []
    assert len(server.lines) == 2


async def test_an_api_that_is_gone_is_asked_for_again() -> None:
    """A bare 404 contradicts what was seen: the tag stands in, and the next lookup asks for the API anew."""
    registry = Registry(listing(SBOM.manifest), web.Response(status=404), listing(SBOM.manifest))
    registry.manifests[fallback_tag(SAMPLE.digest)] = referrers_index([SIGNATURE.manifest.referrer_descriptor])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a")
        found = [(await repository.referrers(SAMPLE.digest))[0].digest for _ in range(3)]
    assert found == [SBOM.digest, SIGNATURE.digest, SBOM.digest]


async def test_a_repository_that_does_not_exist_says_nothing_of_the_api() -> None:
    """NAME_UNKNOWN is no reason to do without the API where the repository is there."""
    registry = Registry(coded(404, "NAME_UNKNOWN"), listing(SBOM.manifest))
    async with scripted(registry.handle) as server, connected(server.address) as it:
        assert await it.client.repository("none").referrers(SAMPLE.digest) == []
        assert len(await it.client.repository("a").referrers(SAMPLE.digest)) == 1


async def notice_of_one_repository(answer: web.Response) -> Notice:
    """Answer one repository so, where the tag stands in, and another with a list; return what is told of it."""
    registry = Registry(answer, listing(SBOM.manifest))
    registry.manifests[fallback_tag(SAMPLE.digest)] = referrers_index([SIGNATURE.manifest.referrer_descriptor])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        for _ in range(2):
            (found,) = await it.client.repository("a").referrers(SAMPLE.digest)
            assert SIGNATURE.digest == found.digest
        (found,) = await it.client.repository("b").referrers(SAMPLE.digest)
        assert SBOM.digest == found.digest
    (notice,) = it.recorder.of(Notice)
    assert notice.where == server.address
    return notice


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_counts_for_one_repository(status: int) -> None:
    """What may be about rights switches the API off for its repository alone, and is told of."""
    notice = await notice_of_one_repository(web.Response(status=status))
    assert f"answered {status}" in notice.text
    assert f"{notice.where}/a" in notice.text


@pytest.mark.parametrize("status", [405, 406, 501])
async def test_an_api_that_is_not_offered(status: int) -> None:
    """A registry that says it does not do this is not asked again, for any repository; one notice tells of it."""
    registry = Registry(web.Response(status=status))
    async with scripted(registry.handle) as server, connected(server.address) as it:
        for name in ("a", "b"):
            assert await it.client.repository(name).referrers(SAMPLE.digest, known_tags=[]) == []
    assert len(server.lines) == 1
    (notice,) = it.recorder.of(Notice)
    assert f"answered {status}" in notice.text


async def test_an_empty_answer_is_no_api() -> None:
    """A registry that answers with nothing has no list: the tag stands in, for that repository, and one notice."""
    assert "answered with nothing" in (await notice_of_one_repository(web.Response())).text


async def test_an_empty_answer_of_an_api_that_has_worked() -> None:
    """Once the API has answered with lists, nothing is no empty list."""
    registry = Registry(listing(SBOM.manifest), web.Response())
    async with scripted(registry.handle) as server, connected(server.address) as it:
        await it.client.repository("a").referrers(SAMPLE.digest)
        with pytest.raises(ProtocolViolation):
            await it.client.repository("a").referrers(SAMPLE.digest)


@pytest.mark.parametrize("status", [404, 405])
async def test_one_asks_whether_there_is_an_api(status: int) -> None:
    """However many want to know at first, one request is sent, and the others go by its answer."""
    registry = Registry(web.Response(status=status))
    async with scripted(registry.handle) as server, connected(server.address) as it, anyio.create_task_group() as group:
        for at in range(50):
            group.start_soon(partial(it.client.repository(f"r{at}").referrers, SAMPLE.digest, known_tags=[]))
    assert len(server.lines) == 1


async def test_an_api_that_is_there_is_asked_side_by_side() -> None:
    """Who waited for the first answer does not wait for the others'."""
    together = anyio.Event()
    under_way = 0

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal under_way
        if len(server.lines) > 1:
            under_way += 1
            if under_way == 5:
                together.set()
            await together.wait()
        return listing(SBOM.manifest)

    async with scripted(handler) as server, connected(server.address) as it:
        repository = it.client.repository("a")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                for _ in range(6):
                    group.start_soon(repository.referrers, SAMPLE.digest)
    assert len(server.lines) == 6


async def test_an_answer_that_teaches_nothing_lets_the_next_one_ask() -> None:
    """A failure is no answer about the API: who waited asks in turn."""
    registry = Registry(coded(404, "NAME_UNKNOWN"), web.Response(status=403), listing(SBOM.manifest))
    async with scripted(registry.handle) as server, connected(server.address) as it, anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(partial(it.client.repository(name).referrers, SAMPLE.digest, known_tags=[]))
    assert len(server.lines) == 3


async def test_an_api_that_was_absent_is_asked_for_again() -> None:
    """Registries are upgraded while a daemon runs: what was not there is believed for half an hour."""
    registry = Registry(web.Response(status=404), listing(SBOM.manifest))
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a")
        assert await repository.referrers(SAMPLE.digest, known_tags=[]) == []
        assert await repository.referrers(SAMPLE.digest, known_tags=[]) == []
        it.clock.now += LIFETIME
        assert len(await repository.referrers(SAMPLE.digest, known_tags=[])) == 1
    assert len(server.lines) == 2


@pytest.mark.parametrize("header", [{}, {"OCI-Filters-Applied": "artifactType"}])
async def test_what_the_registry_did_not_filter_is_filtered(header: dict[str, str]) -> None:
    """Whether a registry says that it filtered or not, only what was asked for is returned."""
    answer = listing(SBOM.manifest, SIGNATURE.manifest)
    answer.headers.update(header)
    async with scripted(Registry(answer).handle) as server, connected(server.address) as it:
        found = await it.client.repository("a").referrers(SAMPLE.digest, "application/sbom")
    assert [SBOM.digest] == [one.digest for one in found]
    assert server.lines[0].endswith("?artifactType=application%2Fsbom")


async def test_a_list_by_pages() -> None:
    """Pages of referrers are read to the last, along their Links."""
    first = listing(SBOM.manifest)
    first.headers["Link"] = '<?page=2>; rel="next"'
    async with scripted(Registry(first, listing(SIGNATURE.manifest)).handle) as server, connected(server.address) as it:
        found = await it.client.repository("a").referrers(SAMPLE.digest)
    assert [SBOM.digest, SIGNATURE.digest] == [one.digest for one in found]


async def test_the_usual_absence_is_not_worth_a_notice() -> None:
    """404 is how the specification wants an absent API to look."""
    async with scripted(Registry().handle) as server, connected(server.address) as it:
        for name in ("a", "b"):
            assert await it.client.repository(name).referrers(SAMPLE.digest, known_tags=[]) == []
    assert len(server.lines) == 1
    assert it.recorder.of(Notice) == []


@pytest.mark.parametrize("member", [{}, {"manifests": None}])
async def test_an_index_without_members_is_an_empty_list(member: dict[str, Any]) -> None:
    """A registry that writes an empty list as null, or leaves it out, has the API and no referrers."""
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, **member}
    registry = Registry(web.json_response(index), listing(SBOM.manifest))
    async with scripted(registry.handle) as server, connected(server.address) as it:
        assert await it.client.repository("a").referrers(SAMPLE.digest) == []
        assert it.client.capabilities.observed(Capability.REFERRERS) is True
        assert len(await it.client.repository("a").referrers(SAMPLE.digest)) == 1
    assert len(server.lines) == 2


@pytest.mark.parametrize("status", [404, 403])
async def test_a_page_that_is_lost_is_not_the_end(status: int) -> None:
    """A first page without its second is no list."""
    first = listing(SBOM.manifest)
    first.headers["Link"] = '<?page=2>; rel="next"'
    registry = Registry(first, web.Response(status=status))
    async with scripted(registry.handle) as server, connected(server.address) as it:
        with pytest.raises((NotFound, Denied)):
            await it.client.repository("a").referrers(SAMPLE.digest)


@pytest.mark.untraced
@pytest.mark.parametrize(("at_once", "expected"), [(200, SizeExceedsLimit), (0, ProtocolViolation)])
async def test_endless_pages(at_once: int, expected: type[Exception]) -> None:
    """A list without an end is given up at 20,000 entries, and one of empty pages at 1,000 pages."""
    item = SBOM.manifest.referrer_descriptor.to_json()
    body = json.dumps({"manifests": [item] * at_once}).encode()

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, headers={"Link": f'<?page={len(server.lines)}>; rel="next"'})

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(expected) as caught:
            await it.client.repository("a", Side.SOURCE).referrers(SAMPLE.digest)
    assert len(server.lines) == (101 if at_once else 1000)
    assert "referrers" in str(caught.value)


# ------------------------------------------------------------------ the list under the tag


@pytest.mark.parametrize("member", [{}, {"manifests": None}])
async def test_a_list_without_members_is_added_to(member: dict[str, Any]) -> None:
    """A list under the tag whose member is null or missing is an empty one."""
    registry = Registry()
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "annotations": {"kept": "yes"}, **member}
    registry.manifests[fallback_tag(SAMPLE.digest)] = json.dumps(index).encode()
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        assert await repository.referrers(SAMPLE.digest) == []
        await repository.push_manifest(SBOM.manifest)
    assert [SBOM.digest] == registry.listed()
    assert json.loads(registry.manifests[fallback_tag(SAMPLE.digest)])["annotations"] == {"kept": "yes"}


async def test_a_list_keeps_the_order_of_the_source() -> None:
    """Referrers arrive in any order; a list of the same is the same list, byte for byte, as long as it is of them."""
    third = images.artifact(subject=SAMPLE.manifest, seed=2)
    order = [SBOM, SIGNATURE, third]
    registry = Registry()
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        repository.order_referrers(SAMPLE.digest, [one.digest for one in order])
        for artifact in reversed(order):
            await repository.push_manifest(artifact.manifest)
        tag = fallback_tag(SAMPLE.digest)
        assert registry.manifests[tag] == referrers_index([one.manifest.referrer_descriptor for one in order])
        await repository.push_manifest(images.artifact(subject=SAMPLE.manifest, seed=3).manifest)
        assert [one.digest for one in order] == registry.listed()[:3]


async def test_orders_of_lists_take_no_more_memory_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the lists that are never filled the oldest are forgotten, and cost no more than their order."""
    monkeypatch.setattr(referrers, "_MOST_PLACES", 5)
    third = images.artifact(subject=SAMPLE.manifest, seed=2)
    registry = Registry()
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        order = [SBOM.digest, SIGNATURE.digest, third.digest]
        repository.order_referrers(SAMPLE.digest, order)
        repository.order_referrers(OTHER.digest, order)
        for artifact in (third, SIGNATURE, SBOM):
            await repository.push_manifest(artifact.manifest)
    assert [third.digest, SIGNATURE.digest, SBOM.digest] == registry.listed()


async def test_a_list_with_something_of_its_own_is_left_in_its_order() -> None:
    """What somebody else has listed keeps its place, and what comes is put behind it."""
    own = images.artifact(subject=SAMPLE.manifest, seed=2)
    registry = Registry()
    registry.manifests[fallback_tag(SAMPLE.digest)] = referrers_index([own.manifest.referrer_descriptor])
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        repository.order_referrers(SAMPLE.digest, [SBOM.digest, SIGNATURE.digest])
        for artifact in (SIGNATURE, SBOM):
            await repository.push_manifest(artifact.manifest)
    assert [own.digest, SIGNATURE.digest, SBOM.digest] == registry.listed()


async def test_stale_entries_are_dropped() -> None:
    """What the registry no longer has is taken off the list when it refuses the list for that; the rest stays."""
    registry = Registry()
    registry.manifests[fallback_tag(SAMPLE.digest)] = referrers_index(
        [one.manifest.referrer_descriptor for one in (OTHER, SIGNATURE)]
    )
    registry.gone = {OTHER.digest}
    async with scripted(registry.handle) as server, connected(server.address) as it:
        await it.client.repository("a", Side.TARGET).push_manifest(SBOM.manifest)
    assert [SIGNATURE.digest, SBOM.digest] == registry.listed()
    assert [line.split()[0] for line in server.lines] == ["PUT", "GET", "PUT", "PUT"]


@pytest.mark.parametrize("gone", [SBOM.digest, Digest.of(b"elsewhere")])
async def test_a_list_that_is_refused_for_another_reason(gone: Digest) -> None:
    """When what is missing is the new referrer itself, or not on the list at all, nothing is dropped."""
    registry = Registry()
    before = registry.manifests[fallback_tag(SAMPLE.digest)] = referrers_index([SIGNATURE.manifest.referrer_descriptor])
    lists = 0

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal lists
        if request.method == "PUT" and request.path.endswith(fallback_tag(SAMPLE.digest)):
            lists += 1
            return coded(400, "MANIFEST_BLOB_UNKNOWN", detail=gone)
        return await registry.handle(request)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(NotFound) as caught:
            await it.client.repository("a", Side.TARGET).push_manifest(SBOM.manifest)
    assert (gone,) == caught.value.missing
    assert lists == 1
    assert before == registry.manifests[fallback_tag(SAMPLE.digest)]


async def test_a_deleted_referrer_leaves_the_list() -> None:
    """Without the API the list under the subject's tag is ours to keep, also when a referrer goes."""
    registry = Registry()
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        for artifact in (SBOM, SIGNATURE):
            await repository.push_manifest(artifact.manifest)
        await repository.delete_manifest(SBOM.digest)
        assert [SIGNATURE.digest] == registry.listed()
        await repository.delete_manifest(SIGNATURE.digest)
        assert registry.listed() == []
    tag = fallback_tag(SAMPLE.digest)
    kinds = [f"{line.split()[0]} {line.rpartition('/')[2]}" for line in server.lines[-4:]]
    assert kinds == [f"GET {SIGNATURE.digest}", f"DELETE {SIGNATURE.digest}", f"GET {tag}", f"PUT {tag}"]


@pytest.mark.parametrize("is_listed", [False, True])
async def test_a_list_that_is_denied_may_not_be_there(is_listed: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """Artifactory denies a tag that it does not have: the list of its tags tells that from one that may not be read."""
    registry = Registry()
    tags = [fallback_tag(SAMPLE.digest)] if is_listed else ["1"]

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/tags/list"):
            return web.json_response({"tags": tags})
        if request.method == "GET" and request.path.rpartition("/")[2] not in registry.manifests:
            return web.Response(status=404 if "/referrers/" in request.path else 403)
        return await registry.handle(request)

    async with scripted(handler) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        if is_listed:
            with pytest.raises(Denied):
                await repository.referrers(SAMPLE.digest)
            with pytest.raises(Denied):
                await repository.push_manifest(SBOM.manifest)
        else:
            assert await repository.referrers(SAMPLE.digest) == []
            await repository.push_manifest(SBOM.manifest)
            assert [SBOM.digest] == registry.listed()


@pytest.mark.parametrize("answer", [{"status": 403}, {"text": HTML}, {"status": 204}])
async def test_a_manifest_that_cannot_be_read_can_be_deleted(answer: dict[str, Any]) -> None:
    """What the manifest refers to is asked for on the way, and is no condition."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=202) if request.method == "DELETE" else web.Response(**answer)

    async with scripted(handler) as server, connected(server.address) as it:
        await it.client.repository("a", Side.TARGET).delete_manifest(SBOM.digest)
    assert list(dict.fromkeys(line.split()[0] for line in server.lines)) == ["GET", "DELETE"]


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (500, StatusError)])
async def test_a_manifest_is_not_deleted_in_the_dark(status: int, kind: type[Exception]) -> None:
    """One that is not there cannot be deleted; where the registry has failed, its list would be left behind."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(kind):
            await it.client.repository("a", Side.TARGET).delete_manifest(SBOM.digest)
    assert not any(line.startswith("DELETE") for line in server.lines)


async def test_a_list_that_does_not_name_it_is_left_alone() -> None:
    """A list without the deleted manifest, a tag that is no list, or none at all, is not written."""
    registry = Registry()
    tag = fallback_tag(SAMPLE.digest)
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        for held in (None, referrers_index([SIGNATURE.manifest.referrer_descriptor]), SAMPLE.manifest.raw):
            registry.manifests = {SBOM.digest: SBOM.manifest.raw} | ({tag: held} if held else {})
            await repository.delete_manifest(SBOM.digest)
    assert sum(line.startswith("PUT") for line in server.lines) == 0
    assert sum(line.startswith("DELETE") for line in server.lines) == 3


async def test_a_registry_with_the_api_keeps_its_lists_itself() -> None:
    """Where the API has answered, a deletion is one request."""
    registry = Registry(listing(SBOM.manifest))
    registry.manifests[SBOM.digest] = SBOM.manifest.raw
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        await repository.referrers(SAMPLE.digest)
        await repository.delete_manifest(SBOM.digest)
    assert server.lines[1:] == [f"DELETE /v2/a/manifests/{SBOM.digest}"]


async def test_a_referrer_that_is_not_deleted_stays_listed() -> None:
    """The list is changed after the deletion, and not at all when there is none."""
    registry = Registry()
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        await repository.push_manifest(SBOM.manifest)
        registry.refuses = True
        with pytest.raises(Unsupported):
            await repository.delete_manifest(SBOM.digest)
    assert [SBOM.digest] == registry.listed()


@pytest.mark.parametrize(("count", "is_beside"), [(10, False), (2500, True)])
async def test_a_long_list_does_not_hold_up_the_loop(
    count: int, monkeypatch: pytest.MonkeyPatch, *, is_beside: bool
) -> None:
    """A list of a megabyte is extended beside the loop; for a short one that would take longer than to extend it."""
    registry = Registry()
    descriptors = [images.artifact(subject=SAMPLE.manifest, seed=seed).manifest.referrer_descriptor for seed in (1, 2)]
    registry.manifests[fallback_tag(SAMPLE.digest)] = referrers_index([*descriptors] * count)
    threads = set()

    def noted(*args: Any, **named: Any) -> dict[str, Any]:
        threads.add(threading.get_ident())
        return parse_object(*args, **named)

    monkeypatch.setattr("syncer.registry.referrers.parse_object", noted)
    async with scripted(registry.handle) as server, connected(server.address) as it:
        await it.client.repository("a", Side.TARGET).push_manifest(SBOM.manifest)
    assert len(await to_thread.run_sync(registry.listed)) == 2 * count + 1
    assert is_beside == (threading.get_ident() not in threads)


@pytest.mark.witness
async def test_stale_entries_in_another_registry(tmp_path: Path) -> None:
    """Debian's docker-registry refuses a list that names a deleted manifest, and takes it without."""
    with docker_registry(tmp_path / "registry") as witness:
        async with connected(witness.host) as it:
            repository = it.client.repository("a", Side.TARGET)
            for sample in (SAMPLE, SBOM):
                await push(repository, sample)
            await repository.delete(SBOM.digest)
            await push(repository, SIGNATURE)
            found = await repository.referrers(SAMPLE.digest)
    assert [SIGNATURE.digest] == [one.digest for one in found]


@pytest.mark.witness
async def test_a_deleted_referrer_leaves_the_list_of_another_registry(tmp_path: Path) -> None:
    """Debian's docker-registry, which has no referrers API, lists a deleted referrer no longer."""
    with docker_registry(tmp_path / "registry") as witness:
        async with connected(witness.host) as it:
            repository = it.client.repository("a", Side.TARGET)
            for sample in (SAMPLE, SBOM, SIGNATURE):
                await push(repository, sample)
            await repository.delete_manifest(SBOM.digest)
            found = (await repository.fetch_manifest(fallback_tag(SAMPLE.digest))).manifests
    assert [SIGNATURE.digest] == [one.digest for one in found]


async def test_a_manifest_that_is_not_there_is_no_word_on_the_api() -> None:
    """The first 404 that speaks of a manifest may be about that one; the second is about the API."""
    unknown = coded(404, "MANIFEST_UNKNOWN")
    registry = Registry(unknown, listing(SBOM.manifest), coded(404, "MANIFEST_UNKNOWN"))
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("app", Side.SOURCE)
        assert await repository.referrers(OTHER.manifest.digest) == []
        assert await repository.referrers(SAMPLE.manifest.digest) == [SBOM.manifest.referrer_descriptor]
    never = Registry(coded(404, "MANIFEST_UNKNOWN"), coded(404, "MANIFEST_UNKNOWN"))
    async with scripted(never.handle) as server, connected(server.address) as it:
        repository = it.client.repository("app", Side.SOURCE)
        for _ in range(3):
            assert await repository.referrers(SAMPLE.manifest.digest) == []
        assert it.client.capabilities.observed(Capability.REFERRERS) is False
        assert len([line for line in server.lines if "/referrers/" in line]) == 2
