"""Manifests, tags, catalogs, referrers and deletions, with the oddities that registries show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from syncer.content import Catalog, Deleter, ReferrerLister, Source, Target, Throttled
from syncer.errors import (
    ContentError,
    Denied,
    DigestMismatch,
    ImmutableTag,
    InvalidReference,
    MalformedManifest,
    NotFound,
    ProtocolViolation,
    QuotaExceeded,
    Side,
    StatusError,
    Unsupported,
    UnsupportedMediaType,
)
from syncer.oci import Digest, Manifest, media_types
from syncer.oci.referrers import fallback_tag
from syncer.registry import RegistrySettings
from syncer.registry.capabilities import LIFETIME, Capabilities
from syncer.registry.hosts import Traits, traits_of
from tests.support import images
from tests.support.scripted import connected, cut, scripted

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLE = images.image()
DIGEST = {"Docker-Content-Digest": SAMPLE.digest}


def manifest(body: Manifest = SAMPLE.manifest, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with a manifest."""
    return web.Response(body=body.raw, content_type=body.media_type, headers=headers)


async def test_contracts() -> None:
    """A repository and a catalog are what the engine asks for."""
    async with connected("localhost:1") as it:
        repository = it.client.repository("a")
        assert all(isinstance(repository, kind) for kind in (Source, Target, ReferrerLister, Deleter, Throttled))
        assert isinstance(it.client.catalog(), Catalog)
        assert (repository.registry, repository.repository) == ("localhost:1", "a")


async def test_resolve_is_one_head() -> None:
    """Digest, size and type come from the headers of one HEAD."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return manifest(headers=DIGEST)

    async with scripted(handler) as server, connected(server.address) as it:
        assert SAMPLE.manifest.descriptor == await it.client.repository("a").resolve("1")
    assert server.lines == ["HEAD /v2/a/manifests/1"]


@pytest.mark.parametrize("headers", [{}, {"Docker-Content-Digest": "sha256:../../x"}])
async def test_head_that_tells_too_little(headers: dict[str, str]) -> None:
    """Without a digest in the headers the manifest is fetched and hashed; the next one is fetched at once."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return manifest(headers=headers)

    async with scripted(handler) as server, connected(server.address) as it:
        for tag in ("1", "2"):
            assert SAMPLE.manifest.descriptor == await it.client.repository("a").resolve(tag)
    assert [line.split()[0] for line in server.lines] == ["HEAD", "GET", "GET"]


async def test_head_of_another_digest_teaches_nothing() -> None:
    """A HEAD that answers a digest with another one is wrong about that manifest, not about all."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        wrong = {"Docker-Content-Digest": Digest.of(b"other")}
        return manifest(headers=wrong if request.path.endswith(SAMPLE.digest) else DIGEST)

    async with scripted(handler) as server, connected(server.address) as it:
        for reference in (SAMPLE.digest, "1"):
            assert SAMPLE.digest == (await it.client.repository("a").resolve(reference)).digest
    assert [line.split()[0] for line in server.lines] == ["HEAD", "GET", "HEAD"]


@pytest.mark.parametrize("status", [400, 405, 501])
async def test_head_that_is_refused(status: int) -> None:
    """A registry that does not do HEAD is asked by GET, and for as long as that is believed only so."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status) if request.method == "HEAD" else manifest()

    async with scripted(handler) as server, connected(server.address) as it:
        for _ in range(2):
            assert SAMPLE.digest == (await it.client.repository("a").resolve("1")).digest
        assert [line.split()[0] for line in server.lines] == ["HEAD", "GET", "GET"]
        it.clock.now += LIFETIME
        await it.client.repository("a").resolve("1")
    assert [line.split()[0] for line in server.lines[3:]] == ["HEAD", "GET"]


async def test_a_refused_manifest_is_no_refused_head() -> None:
    """When GET is refused as HEAD was, it was not about HEAD, and the next tag is asked for by HEAD."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=400) if request.path.endswith("/bad") else manifest(headers=DIGEST)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(StatusError):
            await it.client.repository("a").resolve("bad")
        await it.client.repository("a").resolve("1")
    assert [line.split()[0] for line in server.lines] == ["HEAD", "GET", "HEAD"]


@pytest.mark.parametrize("body", ["<html>no</html>", '{"errors":[{"code":"UNKNOWN","message":"not found"}]}', ""])
async def test_not_found_in_other_words(body: str) -> None:
    """A 404 is a 404, whatever comes with it (Harbor's UNKNOWN, a proxy's HTML)."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404, text=body)

    async with scripted(handler) as server, connected(server.address) as it:
        for asked in (it.client.repository("a").resolve, it.client.repository("a").fetch_manifest):
            with pytest.raises(NotFound):
                await asked("1")
    assert len(server.lines) == 2


@pytest.mark.parametrize(
    ("media_type", "document", "kind", "words"),
    [
        (media_types.DOCKER_SCHEMA1_SIGNED, {"schemaVersion": 1, "fsLayers": []}, UnsupportedMediaType, "schema 1"),
        ("application/json", {"schemaVersion": 1, "fsLayers": []}, UnsupportedMediaType, "schema 1"),
        (media_types.OCI_MANIFEST, {"config": {}, "manifests": []}, MalformedManifest, "at once"),
    ],
)
async def test_a_manifest_that_cannot_be_copied_is_named(
    media_type: str, document: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """The error says which image it is, and what is the matter with it."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=json.dumps(document).encode(), content_type=media_type)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(kind, match=words) as caught:
            await it.client.repository("team/app", Side.SOURCE).fetch_manifest("1")
    assert isinstance(caught.value, ContentError)
    assert f"{server.address}/team/app:1" in caught.value.message
    assert len(server.lines) == 1


@pytest.mark.parametrize("reference", ["1", SAMPLE.digest], ids=["tag", "digest"])
async def test_schema_1_is_no_corruption(reference: str) -> None:
    """docker-registry names a digest that the bytes of a schema 1 manifest never have; that is said, not corruption."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(
            body=b'{"schemaVersion":1,"fsLayers":[],"signatures":[]}',
            content_type=media_types.DOCKER_SCHEMA1_SIGNED,
            headers={"Docker-Content-Digest": SAMPLE.digest},
        )

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(UnsupportedMediaType, match="schema 1"):
            await it.client.repository("team/app", Side.SOURCE).fetch_manifest(reference)
    assert len(server.lines) == 1


@pytest.mark.parametrize("reference", ["../x", "a b", "sha256:short", "-x", "", "x/../../y"])
async def test_references_are_checked_before_they_reach_a_url(reference: str) -> None:
    """What is neither tag nor digest is refused without a request."""
    async with connected("localhost:1") as it:
        with pytest.raises(InvalidReference):
            await it.client.repository("a").resolve(reference)
        with pytest.raises(InvalidReference):
            await it.client.repository("a").fetch_manifest(reference)


async def test_wrong_bytes_are_asked_for_once_more() -> None:
    """A manifest that does not hash to its digest is fetched again once: once is an accident."""
    answers = [images.image(seed=1).manifest, SAMPLE.manifest, *[images.image(seed=1).manifest] * 5]

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return manifest(answers.pop(0))

    async with scripted(handler) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.SOURCE)
        assert SAMPLE.manifest.raw == (await repository.fetch_manifest(SAMPLE.digest)).raw
        with pytest.raises(DigestMismatch) as caught:
            await repository.fetch_manifest(SAMPLE.digest)
    assert Side.SOURCE is caught.value.side
    assert len(server.lines) == 4


@pytest.mark.parametrize("is_true", [True, False])
async def test_a_tag_that_arrives_as_another_than_it_is_said_to_be(*, is_true: bool) -> None:
    """By digest it is found out which is right: the digest that is named, or the bytes; a third answer is neither."""
    raw = SAMPLE.manifest.raw
    changed = raw.replace(b'"layers"', b'"Layers"')
    named, bytes_of = (SAMPLE.digest, changed) if is_true else (Digest.of(b"other"), raw)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/latest"):
            headers = {"Docker-Content-Digest": named}
            return web.Response(body=bytes_of, content_type=SAMPLE.manifest.media_type, headers=headers)
        if request.path.endswith(SAMPLE.digest):
            return web.Response(body=raw, content_type=SAMPLE.manifest.media_type)
        return web.Response(status=404)

    async with scripted(handle) as server, connected(server.address) as it:
        found = await it.client.repository("a").fetch_manifest("latest")
    assert found.raw == raw
    assert len(server.seen) == (2 if is_true else 3)


async def test_large_manifest() -> None:
    """A manifest of megabytes is read without holding up the loop."""
    large = images.image(annotations={f"k{at}": "v" * 1000 for at in range(3000)})

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return manifest(large.manifest)

    async with scripted(handler) as server, connected(server.address) as it:
        assert large.digest == (await it.client.repository("a").fetch_manifest("1")).digest


async def test_tags_by_pages() -> None:
    """Tags come page by page along the Link, each once; nulls and digests are left out."""
    pages: dict[str, tuple[list[Any] | None, str]] = {
        "/v2/a/tags/list": (["1", None, "2"], '</v2/a/tags/list?n=2&last=2%2f>; rel="next"'),
        "/v2/a/tags/list?n=2&last=2%2f": (["2", "sha256:" + "0" * 64, "3"], '<list?last=3>; rel="next"'),
        "/v2/a/tags/list?last=3": (None, ""),
    }

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        tags, link = pages[request.raw_path]
        return web.json_response({"name": "a", "tags": tags}, headers={"Link": link} if link else {})

    async with scripted(handler) as server, connected(server.address) as it:
        assert [tag async for tag in it.client.repository("a").tags()] == ["1", "2", "3"]
    assert [f"GET {path}" for path in pages] == server.lines


@pytest.mark.parametrize(
    "link", ['</v2/a/tags/list>; rel="next"', '<http://evil.example/x>; rel="next"', '<file:///x>; rel="next"']
)
async def test_tags_that_lead_astray(link: str) -> None:
    """A next page on another host, or one that was seen already, is a violation."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"tags": ["1"]}, headers={"Link": link})

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation):
            assert [tag async for tag in it.client.repository("a").tags()]
    assert len(server.lines) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'"x"', b"[" * 100_000])
async def test_tags_that_are_no_list(body: bytes) -> None:
    """A page that is no JSON object is a violation."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation):
            assert [tag async for tag in it.client.repository("a").tags()]


async def test_a_hundred_thousand_tags() -> None:
    """A page of megabytes is read without holding up the loop."""
    tags = [f"build-{at:07}" for at in range(100_000)]

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=json.dumps({"tags": tags}).encode())

    async with scripted(handler) as server, connected(server.address) as it:
        assert len(tags) == len([tag async for tag in it.client.repository("a").tags()])


async def test_catalog() -> None:
    """Repositories come page by page; names that are none, and those without the prefix, are left out."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "last" in request.raw_path:
            return web.json_response({"repositories": ["team/c"]})
        names = ["other", "team/a", "../x", None, "team/b"]
        return web.json_response({"repositories": names}, headers={"Link": '</v2/_catalog?last=x>; rel="next"'})

    async with scripted(handler) as server, connected(server.address) as it:
        names = [name async for name in it.client.catalog().repositories("team/")]
    assert names == ["team/a", "team/b", "team/c"]
    assert server.lines == ["GET /v2/_catalog", "GET /v2/_catalog?last=x"]


@pytest.mark.parametrize(("status", "expected"), [(404, Unsupported), (405, Unsupported), (403, Denied)])
async def test_no_catalog(status: int, expected: type[Exception]) -> None:
    """A registry that does not list its repositories says so in one typed error."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(expected):
            assert [name async for name in it.client.catalog().repositories()]


async def test_docker_hub_has_no_catalog() -> None:
    """docker.io is known not to list its repositories, and is not asked."""
    async with connected("docker.io", settings=RegistrySettings(host="docker.io")) as it:
        assert str(it.client.url("/v2/")) == "https://registry-1.docker.io/v2/"
        with pytest.raises(Unsupported):
            assert [name async for name in it.client.catalog().repositories()]


class Artifacts:
    """A repository with referrers, by API or by tag."""

    def __init__(self, *, status: int = 200) -> None:
        self.status = status
        self.subject_header = status == 200
        self.manifests: dict[str, Manifest] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        reference = request.path.rpartition("/")[2]
        if "/referrers/" in request.path:
            if self.status != 200:
                return web.Response(status=self.status)
            found = [m.referrer_descriptor.to_json() for m in self.manifests.values() if m.subject]
            return web.json_response({"schemaVersion": 2, "manifests": found})
        if request.method == "PUT":
            pushed = Manifest.parse(await request.read(), request.content_type)
            await anyio.lowlevel.checkpoint()
            self.manifests[reference] = pushed
            headers = {"OCI-Subject": "x"} if self.subject_header else {}
            return web.Response(status=201, headers={"Docker-Content-Digest": pushed.digest, **headers})
        held = self.manifests.get(reference)
        return manifest(held) if held else web.Response(status=404)


SBOM = images.artifact(subject=SAMPLE.manifest, artifact_type="application/sbom")
SIGNATURE = images.artifact(subject=SAMPLE.manifest, artifact_type="application/signature", seed=1)


async def test_referrers_by_api() -> None:
    """The referrers API is asked once, and what it did not filter is filtered here."""
    async with scripted(Artifacts().handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        for artifact in (SBOM, SIGNATURE):
            await repository.push_manifest(artifact.manifest)
        assert {SBOM.digest, SIGNATURE.digest} == {d.digest for d in await repository.referrers(SAMPLE.digest)}
        found = await repository.referrers(SAMPLE.digest, "application/sbom")
    assert [SBOM.digest] == [descriptor.digest for descriptor in found]
    assert len(server.lines) == 4
    assert server.lines[-1].endswith("?artifactType=application%2Fsbom")


@pytest.mark.parametrize("status", [404, 400, 401, 403, 405, 406])
async def test_referrers_by_tag(status: int) -> None:
    """A registry without the API is asked for it once; the list under the tag, kept by us, stands in."""
    async with scripted(Artifacts(status=status).handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        async with anyio.create_task_group() as group:
            for artifact in (SBOM, SIGNATURE, SBOM):
                group.start_soon(repository.push_manifest, artifact.manifest)
        for _ in range(2):
            found = await repository.referrers(SAMPLE.digest)
            assert {SBOM.digest, SIGNATURE.digest} == {descriptor.digest for descriptor in found}
        found = await repository.referrers(SAMPLE.digest, "application/signature")
        assert [SIGNATURE.digest] == [descriptor.digest for descriptor in found]
        assert await repository.referrers(SBOM.digest) == []
        before = len(server.lines)
        assert await repository.referrers(SBOM.digest, known_tags=[]) == []
        assert before == len(server.lines)
    assert sum("/referrers/" in line for line in server.lines) == 1


async def test_fallback_tag_that_is_no_index_is_left_alone() -> None:
    """A tag of the tag schema that holds an image is not overwritten."""
    registry = Artifacts(status=404)
    registry.manifests[fallback_tag(SAMPLE.digest)] = SAMPLE.manifest
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        with pytest.raises(MalformedManifest):
            await repository.push_manifest(SBOM.manifest)
        assert await repository.referrers(SAMPLE.digest) == []
    assert SAMPLE.manifest == registry.manifests[fallback_tag(SAMPLE.digest)]


async def test_push_is_one_put_with_the_exact_bytes() -> None:
    """A manifest goes out under its tag alone, with its own type and its own bytes."""
    registry = Artifacts()
    async with scripted(registry.handle) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        await repository.push_manifest(SAMPLE.manifest, "1")
        await repository.push_manifest(SAMPLE.manifest)
    assert ["PUT /v2/a/manifests/1", f"PUT /v2/a/manifests/{SAMPLE.digest}"] == server.lines
    assert SAMPLE.manifest.raw == registry.manifests["1"].raw
    assert SAMPLE.manifest.media_type == server.seen[0].headers["Content-Type"]


async def test_immutable_tag_that_is_right_already() -> None:
    """A tag that may not move is no failure when it holds these bytes, and ImmutableTag when not."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PUT":
            error = {"code": "TAG_INVALID", "message": "tag already exists and the repository is immutable"}
            return web.json_response({"errors": [error]}, status=400)
        return manifest(headers=DIGEST)

    async with scripted(handler) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        await repository.push_manifest(SAMPLE.manifest, "1")
        with pytest.raises(ImmutableTag) as caught:
            await repository.push_manifest(images.image(seed=1).manifest, "1")
    assert Side.TARGET is caught.value.side
    assert [line.split()[0] for line in server.lines] == ["PUT", "HEAD", "PUT", "HEAD"]


async def test_missing_content_is_named() -> None:
    """A manifest whose blobs are missing raises NotFound with their digests."""
    missing = Digest.of(b"gone")

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        errors = [{"code": "MANIFEST_BLOB_UNKNOWN", "detail": {"digest": missing}}]
        return web.json_response({"errors": errors}, status=400)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(NotFound) as caught:
            await it.client.repository("a", Side.TARGET).push_manifest(SAMPLE.manifest, "1")
    assert (missing,) == caught.value.missing


async def test_missing_content_is_a_definite_answer() -> None:
    """MANIFEST_BLOB_UNKNOWN under a 500 (docker-registry) is asked about once, and no retry is scheduled."""
    missing = Digest.of(b"gone")

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        errors = [{"code": "UNKNOWN"}, {"code": "MANIFEST_BLOB_UNKNOWN", "detail": missing}]
        return web.json_response({"errors": errors}, status=500)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(NotFound) as caught:
            await it.client.repository("a", Side.TARGET).push_manifest(SAMPLE.manifest, "1")
    assert (missing,) == caught.value.missing
    assert len(server.lines) == 1


async def test_changed_manifest_is_noticed() -> None:
    """A registry that stored other bytes than were sent is a violation."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=201, headers={"Docker-Content-Digest": Digest.of(b"other")})

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation):
            await it.client.repository("a", Side.TARGET).push_manifest(SAMPLE.manifest, "1")


async def test_deletion() -> None:
    """A tag is deleted by one request; a manifest is read first, for what it refers to; what is not done is said."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            return manifest()
        status = {"old": 400, "off": 405, "gone": 404}.get(request.path.rpartition("/")[2], 202)
        return web.Response(status=status)

    async with scripted(handler) as server, connected(server.address) as it:
        repository = it.client.repository("a", Side.TARGET)
        await repository.delete_tag("1")
        await repository.delete_manifest(SAMPLE.digest)
        for tag in ("old", "off"):
            with pytest.raises(Unsupported) as caught:
                await repository.delete_tag(tag)
            assert "every tag that points to it" in caught.value.hint
        with pytest.raises(NotFound):
            await repository.delete_tag("gone")
        with pytest.raises(InvalidReference):
            await repository.delete_tag("../x")
    digest = f"/v2/a/manifests/{SAMPLE.digest}"
    assert ["DELETE /v2/a/manifests/1", f"GET {digest}", f"DELETE {digest}"] == server.lines[:3]
    assert sum(line.startswith("PUT") for line in server.lines) == 0


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_lost_answer_to_a_deletion(*, is_there: bool) -> None:
    """A deletion whose answer is lost is asked for again, and that the tag is gone by then is success."""
    answers = 0

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal answers
        answers += 1
        if answers == 1:
            cut(request)
        return web.Response(status=202 if is_there else 404)

    async with scripted(handle) as server, connected(server.address) as it:
        await it.client.repository("a", Side.TARGET).delete_tag("x")
    assert len(server.lines) == 2


async def test_a_manifest_that_cannot_be_deleted() -> None:
    """A registry that does not delete says so, and nothing is said of tags then."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=405) if request.method == "DELETE" else manifest()

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(Unsupported, match="nothing was deleted") as caught:
            await it.client.repository("a", Side.TARGET).delete_manifest(SAMPLE.digest)
    assert "tag" not in caught.value.hint


@pytest.mark.parametrize(
    ("message", "kind"),
    [("tag is immutable and cannot be overwritten", ImmutableTag), ("quota exceeded", QuotaExceeded)],
)
async def test_a_deletion_that_is_refused_for_a_reason(message: str, kind: type[Exception]) -> None:
    """A 400 that names another reason is not taken for a registry that does not delete."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"errors": [{"code": "X", "message": message}]}, status=400)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(kind):
            await it.client.repository("a", Side.TARGET).delete_tag("1")


@pytest.mark.parametrize(("traits", "action"), [(Traits(), "delete"), (traits_of("quay.io"), "push")])
async def test_the_right_to_delete(traits: Traits, action: str) -> None:
    """Quay gives no token to who asks for the action "delete"; the others want it."""
    asked: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            asked.append(request.query["scope"])
            return web.json_response({"token": "t"})
        if "Authorization" not in request.headers:
            challenge = f'Bearer realm="http://{request.host}/token",service="s"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(status=202)

    async with scripted(handler) as server, connected(server.address) as it:
        it.client.capabilities = Capabilities(traits=traits)
        await it.client.repository("a", Side.TARGET).delete_tag("1")
    assert [f"repository:a:{action}"] == asked


async def test_data_slots() -> None:
    """No more blobs move at once than the settings say."""
    settings = RegistrySettings(host="localhost:1", plain_http=True, data_connections=1)
    async with connected("localhost:1", settings=settings) as it:
        one, other = it.client.repository("a"), it.client.repository("b")
        async with one.data_slot():
            with anyio.move_on_after(0.01) as scope:
                async with other.data_slot():
                    pytest.fail("there is one slot only")
        assert scope.cancelled_caught
