"""Registries that list what their tags stand for, or say it wrong: whole runs, with every request counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from syncer.events import TagFinished, TagOutcome
from syncer.oci import Descriptor, Digest, Manifest
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import scripted
from tests.support.world import embedded, fill, run, spec_between

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.images import Sample
    from tests.support.scripted import Scripted

COUNT = 60


class Listing:
    """A registry whose tag list comes with digests, as gcr.io's does; it keeps what it is given."""

    def __init__(self, samples: Mapping[str, Sample] | None = None) -> None:
        self.tags: dict[str, Digest] = {}
        self.manifests: dict[str, Manifest] = {}
        self.blobs: dict[str, bytes] = {}
        #: Digests that HEAD and the list name in place of the right ones.
        self.wrong: dict[str, Digest] = {}
        for tag, sample in (samples or {}).items():
            self.store(tag, sample)

    def store(self, tag: str, sample: Sample) -> None:
        """Put a sample in place."""
        self.blobs |= {str(digest): data for digest, data in sample.blobs.items()}
        self.manifests |= {str(one.digest): one for one in sample.manifests}
        self.tags[tag] = sample.digest

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        name = request.path.rpartition("/")[2]
        if request.path.endswith("/tags/list"):
            return self._list()
        if "/manifests/" in request.path:
            return await self._manifest(request, name)
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": "/v2/app/blobs/uploads/1"})
        if request.method == "PUT":
            self.blobs[request.query["digest"]] = await request.read()
            return web.Response(status=201, headers={"Docker-Content-Digest": request.query["digest"]})
        held = self.blobs.get(name)
        return web.Response(status=404) if held is None else web.Response(body=held)

    def _list(self) -> web.Response:
        if not self.tags:
            return web.json_response({"errors": [{"code": "NAME_UNKNOWN"}]}, status=404)
        held: dict[str, Any] = {}
        for tag, digest in self.tags.items():
            held.setdefault(self.wrong.get(tag, digest), {"tag": []})["tag"].append(tag)
        return web.json_response({"name": "app", "tags": list(self.tags), "manifest": held})

    async def _manifest(self, request: web.BaseRequest, name: str) -> web.Response:
        if request.method == "PUT":
            pushed = Manifest.parse(await request.read(), request.content_type)
            self.manifests[pushed.digest] = pushed
            if ":" not in name:
                self.tags[name] = pushed.digest
            return web.Response(status=201, headers={"Docker-Content-Digest": pushed.digest, "OCI-Subject": "x"})
        manifest = self.manifests.get(self.tags.get(name) or name)
        if manifest is None:
            return web.Response(status=404)
        digest = self.wrong.get(name, manifest.digest)
        headers = {"Docker-Content-Digest": digest}
        return web.Response(body=manifest.raw, content_type=manifest.media_type, headers=headers)


def corpus(count: int = COUNT) -> dict[str, Sample]:
    """Return small images by tag."""
    base = images.random_bytes(700, "base")
    return {f"v{at:03}": images.image(layers=1, size=100, seed=at, shared=[base]) for at in range(count)}


def asked(server: Scripted) -> Counter[str]:
    """Count the requests since the last time, by method and endpoint."""
    kinds = Counter(f"{line.split()[0]} {line.split('/')[3]}" for line in server.lines)
    server.seen.clear()
    return kinds


async def outcomes(text: str, base: Path) -> Counter[TagOutcome]:
    """Run a spec, and count what became of the tags."""
    recorder = Recorder()
    await run(text, base, recorder)
    return Counter(event.outcome for event in recorder.of(TagFinished))


@pytest.mark.untraced
@pytest.mark.parametrize("options", ["", ", platforms: [linux/amd64]"])
async def test_a_listing_source_costs_one_request_when_nothing_is_due(tmp_path: Path, options: str) -> None:
    """A no-op pass over N tags of a registry that lists digests is one request there, and N on the other side."""
    registry = Listing(corpus())
    async with scripted(registry.handle) as source, embedded(tmp_path / "target") as target:
        text = spec_between(source.address, target.host, f"from: source/app, to: target/app{options}")
        assert await outcomes(text, tmp_path) == {TagOutcome.COPIED: COUNT}
        asked(source)
        target.requests.clear()
        assert await outcomes(text, tmp_path) == {TagOutcome.IN_SYNC: COUNT}
        assert asked(source) == {"GET tags": 1}
        assert target.counts() == {("GET", "tags/list"): 1, ("HEAD", "manifests"): COUNT}


@pytest.mark.untraced
async def test_two_listing_registries_cost_a_request_each(tmp_path: Path) -> None:
    """Where both sides list their digests, a no-op pass over N tags is two requests in all."""
    there, here = Listing(corpus()), Listing()
    async with scripted(there.handle) as source, scripted(here.handle) as target:
        text = spec_between(source.address, target.address, "from: source/app, to: target/app")
        assert await outcomes(text, tmp_path) == {TagOutcome.COPIED: COUNT}
        assert there.tags == here.tags
        asked(source), asked(target)
        assert await outcomes(text, tmp_path) == {TagOutcome.IN_SYNC: COUNT}
        assert (asked(source), asked(target)) == ({"GET tags": 1}, {"GET tags": 1})


async def test_what_moved_is_copied_and_nothing_else(tmp_path: Path) -> None:
    """A tag that moved is seen in the list, and only it is fetched."""
    there, here = Listing(corpus(20)), Listing()
    async with scripted(there.handle) as source, scripted(here.handle) as target:
        text = spec_between(source.address, target.address, "from: source/app, to: target/app")
        await outcomes(text, tmp_path)
        there.store("v003", images.image(layers=1, seed="new"))
        asked(source), asked(target)
        assert await outcomes(text, tmp_path) == {TagOutcome.IN_SYNC: 19, TagOutcome.COPIED: 1}
        # The manifest, its config and its layer, and whether anything refers to it.
        assert asked(source) == {"GET tags": 1, "GET manifests": 1, "GET blobs": 2, "GET referrers": 1}
        assert asked(target) == {"GET tags": 1, "POST blobs": 2, "PUT blobs": 2, "PUT manifests": 1}
    assert there.tags == here.tags


@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_list_that_is_wrong_changes_nothing_in_what_arrives(tmp_path: Path, side: str) -> None:
    """A digest in a list is a claim: what counts is the bytes, and a tag that has them is in sync and not written."""
    there, here = Listing(corpus(6)), Listing()
    async with scripted(there.handle) as source, scripted(here.handle) as target:
        text = spec_between(source.address, target.address, "from: source/app, to: target/app")
        await outcomes(text, tmp_path)
        (there if side == "source" else here).wrong["v002"] = Digest.of(b"never was")
        asked(source), asked(target)
        found = await outcomes(text, tmp_path)
        writes = [line for line in target.lines if line.startswith("PUT")]
    assert there.tags == here.tags
    if side == "source":
        assert found == {TagOutcome.IN_SYNC: 6}
        assert writes == []
    else:
        # The target says that it has something else, so it is told once more what the tag stands for.
        assert found == {TagOutcome.IN_SYNC: 5, TagOutcome.COPIED: 1}
        assert writes == ["PUT /v2/app/manifests/v002"]


async def test_a_head_that_is_wrong_is_read_once_more_and_not_written(tmp_path: Path) -> None:
    """A source that names another digest than its bytes have costs three GETs a run, to settle it, and no write."""
    there = Listing(corpus(2))
    there.wrong["v001"] = Digest.of(b"never was")
    async with scripted(there.handle) as source, embedded(tmp_path / "target") as target:
        tags = "tags: {include: [v000, v001]}, referrers: false"
        text = spec_between(source.address, target.host, f"from: source/app, to: target/app, {tags}")
        assert await outcomes(text, tmp_path) == {TagOutcome.COPIED: 2}
        asked(source)
        target.requests.clear()
        assert await outcomes(text, tmp_path) == {TagOutcome.IN_SYNC: 2}
        assert asked(source) == {"HEAD manifests": 2, "GET manifests": 3}
        assert target.counts() == {("HEAD", "manifests"): 2}


async def test_companions_are_compared_by_the_list_too(tmp_path: Path) -> None:
    """Signatures under cosign's tags cost nothing more when both lists agree on them."""
    samples = corpus(5)
    there, here = Listing(samples), Listing()
    for sample in samples.values():
        there.store(f"sha256-{sample.digest.encoded}.sig", images.artifact(seed=sample.digest))
    async with scripted(there.handle) as source, scripted(here.handle) as target:
        text = spec_between(source.address, target.address, "from: source/app, to: target/app")
        await outcomes(text, tmp_path)
        assert there.tags == here.tags
        asked(source), asked(target)
        assert await outcomes(text, tmp_path) == {TagOutcome.IN_SYNC: 5}
        assert (asked(source), asked(target)) == ({"GET tags": 1}, {"GET tags": 1})


# ------------------------------------------------------------------ answers that mean "perhaps"


@pytest.mark.parametrize("status", [403, 404])
async def test_a_target_that_does_not_say_whether_it_has_a_tag(tmp_path: Path, status: int) -> None:
    """Artifactory answers 403 to a HEAD of what is not there: it is copied all the same."""
    here = Listing()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "HEAD" and "/manifests/" in request.path and not here.tags:
            return web.Response(status=status)
        return await here.handle(request)

    async with embedded(tmp_path / "source") as source, scripted(handler) as target:
        await fill(source.host, "app", {"v1": images.image()})
        text = spec_between(source.host, target.address, "from: source/app, to: target/app, tags: {include: [v1]}")
        assert await outcomes(text, tmp_path) == {TagOutcome.COPIED: 1}
    assert here.tags == {"v1": images.image().digest}


async def test_a_source_that_denies_an_image_fails_that_image(tmp_path: Path) -> None:
    """403 on the source is final for the one image, and asked for once; the others arrive."""
    there = Listing(corpus(3))

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/manifests/v001"):
            return web.Response(status=403)
        return await there.handle(request)

    async with scripted(handler) as source, embedded(tmp_path / "target") as target:
        text = spec_between(source.address, target.host, "from: source/app, to: target/app")
        assert await outcomes(text, tmp_path) == {TagOutcome.COPIED: 2, TagOutcome.FAILED: 1}
        assert sum(line == "GET /v2/app/manifests/v001" for line in source.lines) == 1


async def test_layers_that_live_elsewhere_are_not_asked_for(tmp_path: Path) -> None:
    """Foreign layers stay where their URLs say (S1): nobody there is asked, and the manifest arrives as it is."""

    async def elsewhere(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer realm="http://x/",service="x"'})

    async with scripted(elsewhere) as other:
        kinds = (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        )
        foreign = [
            Descriptor(media_type=kind, digest=Digest.of(kind.encode()), size=9, urls=(f"{other.url}/layer",))
            for kind in kinds
        ]
        there, here = Listing({"v1": images.image(foreign=foreign)}), Listing()
        async with scripted(there.handle) as source, scripted(here.handle) as target:
            text = spec_between(source.address, target.address, "from: source/app, to: target/app")
            assert await outcomes(text, tmp_path) == {TagOutcome.COPIED: 1}
            assert not any(one.digest in line for line in source.lines + target.lines for one in foreign)
    assert other.seen == []
    assert there.tags == here.tags
