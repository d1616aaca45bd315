"""Two names in a spec may mean one place, and everything written there arrives all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web
from anyio import to_thread

from syncer.app.places import Opened, Reach
from syncer.app.spec_places import SpecPlaces
from syncer.oci import Digest, Manifest, Reference
from syncer.oci.referrers import fallback_tag
from syncer.spec import parse_spec
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import scripted
from tests.support.transfer import push
from tests.support.world import HERE, embedded, fill, run

if TYPE_CHECKING:
    from pathlib import Path

APP = images.image(seed="app")


class ManifestsOnly:
    """A registry without the referrers API that takes any manifest, and takes its time to answer."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Store or return a manifest."""
        name = request.path.rpartition("/")[2]
        if "/manifests/" not in request.path:
            return web.Response(status=404)
        if request.method == "PUT":
            raw = await request.read()
            self.stored[name] = self.stored[Digest.of(raw)] = raw
            return web.Response(status=201, headers={"Docker-Content-Digest": Digest.of(raw)})
        raw = self.stored.get(name, b"")
        # Long enough for whoever is not kept waiting to read the same list.
        await anyio.sleep(0.02)
        return web.Response(body=raw, content_type=Manifest.parse(raw).media_type) if raw else web.Response(status=404)


async def test_two_names_for_one_registry_keep_one_list_of_referrers(tmp_path: Path) -> None:
    """Referrers that are pushed at once under two names are all listed, where lists are kept by hand."""
    registry = ManifestsOnly()
    signatures = [images.artifact(subject=APP.manifest, seed=number) for number in range(6)]
    async with scripted(registry.answer) as server:
        text = (
            f"version: 1\nregistries:\n  one: {{host: '{server.address}', plain_http: true}}\n"
            f"  two: {{host: '{server.address}', plain_http: true}}\n"
            "sync:\n  - {name: a, from: one/a, to: one/app}\n  - {name: b, from: one/b, to: two/other}\n"
        )
        spec = await to_thread.run_sync(lambda: parse_spec(text, file="s.yaml", base=tmp_path, environ={}))
        async with SpecPlaces.open(spec, HERE, Recorder()) as places, anyio.create_task_group() as group:
            for number, signature in enumerate(signatures):
                target = places.target(("one", "two")[number % 2], "app")
                group.start_soon(target.push_manifest, signature.manifest, "")
    listed = Manifest.parse(registry.stored[fallback_tag(APP.digest)]).manifests
    assert {one.digest for one in listed} == {signature.digest for signature in signatures}


@pytest.mark.parametrize("second", ["./u", "./link"])
async def test_two_names_for_one_layout_tree(tmp_path: Path, second: str) -> None:
    """A tree that the spec names twice, even by way of a symbolic link, is opened once."""
    await to_thread.run_sync((tmp_path / "u").mkdir)
    await to_thread.run_sync((tmp_path / "link").symlink_to, tmp_path / "u")
    async with embedded(tmp_path / "a") as a:
        await fill(a.host, "x", {"v1": APP})
        text = (
            f"version: 1\nstate: ./state.db\nregistries:\n  a: {{host: '{a.host}', plain_http: true}}\n"
            f"  u: {{layout: ./u}}\n  w: {{layout: {second}}}\n"
            "sync:\n  - {name: one, from: a/x, to: u/x}\n  - {name: two, from: a/x, to: w/y}\n"
        )
        assert not (await run(text, tmp_path)).failures
    async with Opened(HERE, Recorder()) as opened:
        catalog = await opened.catalog(f"oci:{tmp_path / 'u'}")
        assert [name async for name in catalog.repositories()] == ["x", "y"]


async def test_two_ways_to_one_registry_share_its_lists(tmp_path: Path) -> None:
    """A command that reaches one registry in two ways keeps one lock for its lists of referrers."""
    async with embedded(tmp_path / "a") as a, Opened(HERE, Recorder()) as opened:
        plain = await opened.client(a.host)
        other = await opened.client(a.host, Reach(plain_http=True))
        assert plain is not other
        assert plain.fallback_tags is other.fallback_tags
        await push(await opened.target(Reference(registry=a.host, repository="x")), APP, "v1")
