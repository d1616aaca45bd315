"""The yardstick asks the least, and what it measures is real work."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from benchmarks import bare
from tests.support import images
from tests.support.registry_script import Expect, Script, reply
from tests.support.world import Embedded, embedded, fill

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TAGS = 6
SHARED = [images.random_bytes(2000, "shared")]
SAMPLES = {f"v{at}": images.image(layers=1, seed=at, shared=SHARED) for at in range(TAGS)}
#: A shared layer, and of each image a layer and a configuration.
BLOBS = 1 + 2 * TAGS


@asynccontextmanager
async def two_registries(folder: Path) -> AsyncIterator[tuple[Embedded, Embedded]]:
    """Run a source that is filled and an empty target."""
    async with embedded(folder / "source") as source, embedded(folder / "target") as target:
        await fill(source.host, "app", SAMPLES)
        source.requests.clear()
        yield source, target


def place(registry: Embedded) -> str:
    """Return the repository as the script is given it."""
    return f"http://{registry.host}/v2/app"


async def test_a_first_sync_takes_the_least_requests(tmp_path: Path) -> None:
    """Each manifest and blob is read once, a blob that images share is sent once, and nothing else is asked."""
    async with two_registries(tmp_path) as (source, target):
        await bare.run(3, place(source), place(target))
        assert source.counts() == {("GET", "tags/list"): 1, ("GET", "manifests"): TAGS, ("GET", "blobs"): BLOBS}
        assert target.counts() == {
            ("GET", "tags/list"): 1,
            ("POST", "blobs/uploads"): BLOBS,
            ("PUT", "blobs/uploads"): BLOBS,
            ("PUT", "manifests"): TAGS,
        }


async def test_nothing_new_is_a_look_at_each_tag(tmp_path: Path) -> None:
    """The second time, each side is asked for its list and for what each tag stands for."""
    async with two_registries(tmp_path) as (source, target):
        await bare.run(3, place(source), place(target))
        source.requests.clear()
        target.requests.clear()
        await bare.run(3, place(source), place(target))
        least = {("GET", "tags/list"): 1, ("HEAD", "manifests"): TAGS}
        assert (source.counts(), target.counts()) == (least, least)


async def test_a_tag_that_changed_is_copied(tmp_path: Path) -> None:
    """The looks are no theatre: another image under a tag is brought, with what it shares left out."""
    async with two_registries(tmp_path) as (source, target):
        await bare.run(3, place(source), place(target))
        await fill(source.host, "app", {"v0": images.image(layers=1, seed="new")})
        target.requests.clear()
        await bare.run(3, place(source), place(target))
        assert target.counts()["PUT", "manifests"] == 1
        assert target.counts()["PUT", "blobs/uploads"] == 2


async def test_bytes_with_another_digest_are_refused() -> None:
    """It hashes what it reads, as every tool does that it is compared with."""
    manifest = SAMPLES["v0"].manifest
    script = Script(
        Expect("GET", "/v2/app/tags/list", reply(body=b'{"name": "app", "tags": ["v0"]}')),
        Expect("GET", "/v2/new/tags/list", reply(404)),
        Expect(
            "GET", "/v2/app/manifests/v0", reply(body=b"{}", Docker_Content_Digest=str(manifest.digest))
        ),
    )  # fmt: skip
    async with script.served() as served:
        with pytest.raises(ExceptionGroup) as caught:
            await bare.run(1, f"http://{served.address}/v2/app", f"http://{served.address}/v2/new")
    assert caught.group_contains(bare.Wrong, match=str(manifest.digest))
