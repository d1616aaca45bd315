"""The embedded registry under many clients that want different things of the same names, at the same time."""

from __future__ import annotations

import io
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import anyio
import pytest
from anyio import to_thread

from syncer.oci import Digest, Manifest
from tests.support.images import image, index, random_bytes
from tests.support.layouts.reading import assert_valid
from tests.support.world import embedded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.images import Sample

pytestmark = pytest.mark.untraced

OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(kw_only=True)
class Client:
    """Asks a registry, and keeps what it was answered."""

    url: str
    session: aiohttp.ClientSession
    statuses: set[tuple[str, int]] = field(default_factory=set)

    async def ask(self, method: str, path: str, data: bytes = b"", media_type: str = "") -> tuple[int, bytes, str]:
        """Send a request; return status, body and Location."""
        headers = {"Content-Type": media_type} if media_type else OCTETS
        async with self.session.request(
            method, f"{self.url}{path}", data=io.BytesIO(data) if data else None, headers=headers
        ) as answer:
            body = await answer.read()
            self.statuses.add((method, answer.status))
            return answer.status, body, answer.headers.get("Location", "")

    async def push_blob(self, repository: str, digest: Digest, data: bytes) -> int:
        """Push a blob in two requests."""
        _, _, location = await self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        status, _, _ = await self.ask("PUT", f"{location}?digest={digest}", data)
        return status

    async def push(self, repository: str, sample: Sample, tag: str) -> int:
        """Push everything of a sample, its root last and under ``tag``; return the status of that."""
        for digest, data in sample.blobs.items():
            await self.push_blob(repository, digest, data)
        for child in sample.children:
            path = f"/v2/{repository}/manifests/{child.digest}"
            await self.ask("PUT", path, child.raw, child.media_type)
        root = sample.manifest
        status, _, _ = await self.ask("PUT", f"/v2/{repository}/manifests/{tag}", root.raw, root.media_type)
        return status

    async def pull(self, repository: str, reference: str) -> Digest | None:
        """Pull all that a tag or digest stands for, and check every byte; return its digest, None when it is gone."""
        status, raw, _ = await self.ask("GET", f"/v2/{repository}/manifests/{reference}")
        if status == 404:
            return None
        assert status == 200
        manifest = Manifest.parse(raw)
        for child in manifest.manifests:
            assert await self.pull(repository, child.digest) == child.digest
        for blob in manifest.blobs():
            status, data, _ = await self.ask("GET", f"/v2/{repository}/blobs/{blob.digest}")
            assert status == 200, f"{reference} is {manifest.digest}, whose blob {blob.digest} is missing"
            assert blob.digest.matches(data)
        return manifest.digest


@asynccontextmanager
async def registry(root: Path) -> AsyncIterator[Client]:
    """Serve ``root``; give a client with as many connections as it wants. Nothing may have failed in the end."""
    async with (
        embedded(root) as served,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        client = Client(url=f"http://{served.host}", session=session)
        yield client
        assert not [status for status in client.statuses if status[1] >= 500]


async def watched(root: Path, stop: anyio.Event) -> int:
    """Check the layouts below ``root`` again and again until ``stop``; return how often."""
    looks = 0
    while not stop.is_set():
        await to_thread.run_sync(lambda: assert_valid(root, quiet=False))
        looks += 1
        await anyio.sleep(0.01)
    return looks


def sharing(clients: int, rounds: int) -> list[list[Sample]]:
    """Return what each client pushes: images and indexes that have a layer in common."""
    shared = random_bytes(20_000, "shared")
    return [
        [
            (index if (number + at) % 3 == 0 else image)(seed=f"{number}/{at}", size=5_000, layers=1, shared=[shared])
            for at in range(rounds)
        ]
        for number in range(clients)
    ]


@pytest.mark.parametrize(("clients", "rounds"), [(8, 4), pytest.param(24, 40, marks=pytest.mark.torture)])
async def test_many_push_one_tag(tmp_path: Path, clients: int, rounds: int) -> None:
    """Whoever pulls the tag meanwhile gets one of the images, whole, and so does whoever reads the layout's files."""
    samples = await to_thread.run_sync(sharing, clients, rounds)
    known = {sample.digest for mine in samples for sample in mine}
    async with registry(tmp_path) as client:
        pulled: list[Digest | None] = []
        stop = anyio.Event()

        async def push_all(mine: list[Sample]) -> None:
            for sample in mine:
                assert await client.push("app", sample, "latest") == 201

        async def pull_all() -> None:
            while not stop.is_set():
                pulled.append(await client.pull("app", "latest"))

        async with anyio.create_task_group() as watching:
            watching.start_soon(pull_all)
            watching.start_soon(watched, tmp_path, stop)
            async with anyio.create_task_group() as pushing:
                for mine in samples:
                    pushing.start_soon(push_all, mine)
            stop.set()
        last = await client.pull("app", "latest")
        # Once there, the tag was never gone, nor anything that nobody pushed.
        arrived = [digest for digest in pulled if digest is not None]
        assert pulled[-len(arrived) :] == arrived
        assert {*arrived, last} <= known
    assert (await to_thread.run_sync(assert_valid, tmp_path)) == {"app": {"latest": last}}


@pytest.mark.parametrize("rounds", [20, pytest.param(400, marks=pytest.mark.torture)])
async def test_push_and_delete_of_one_manifest(tmp_path: Path, rounds: int) -> None:
    """A manifest that some push and others delete is there whole or not at all, and so are its tags."""
    samples = [image(seed=at, size=2_000, layers=1) for at in range(3)]
    dice = random.Random(5)  # noqa: S311 - a test's dice
    async with registry(tmp_path) as client:
        for sample in samples:
            assert await client.push("app", sample, "first") == 201
        stop = anyio.Event()

        async def put(sample: Sample) -> None:
            for at in range(rounds):
                manifest, tag = sample.manifest, f"v{at % 4}"
                path = f"/v2/app/manifests/{tag if dice.random() < 0.7 else manifest.digest}"
                assert (await client.ask("PUT", path, manifest.raw, manifest.media_type))[0] == 201
                await client.pull("app", tag)

        async def delete(sample: Sample) -> None:
            for at in range(rounds):
                reference = f"v{at % 4}" if dice.random() < 0.5 else sample.digest
                assert (await client.ask("DELETE", f"/v2/app/manifests/{reference}"))[0] in (202, 404)

        async with anyio.create_task_group() as watching:
            watching.start_soon(watched, tmp_path, stop)
            async with anyio.create_task_group() as working:
                for sample in samples:
                    working.start_soon(put, sample)
                    working.start_soon(delete, sample)
            stop.set()
        for sample in samples:
            assert await client.push("app", sample, "last") == 201
    assert (await to_thread.run_sync(assert_valid, tmp_path))["app"]["last"] == samples[-1].digest


@pytest.mark.parametrize("rounds", [15, pytest.param(300, marks=pytest.mark.torture)])
async def test_push_and_delete_of_one_blob(tmp_path: Path, rounds: int) -> None:
    """A blob that some push, others delete and others pull is there whole or not at all; manifests know which."""
    sample = image(seed="blob", size=40_000, layers=1)
    (layer,) = sample.manifest.layers
    async with registry(tmp_path) as client:
        for digest, data in sample.blobs.items():
            await client.push_blob("app", digest, data)

        async def push() -> None:
            for _ in range(rounds):
                assert await client.push_blob("app", layer.digest, sample.blobs[layer.digest]) == 201

        async def delete() -> None:
            for _ in range(rounds):
                assert (await client.ask("DELETE", f"/v2/app/blobs/{layer.digest}"))[0] in (202, 404)

        async def mount() -> None:
            for _ in range(rounds):
                status, _, location = await client.ask(
                    "POST", f"/v2/other/blobs/uploads/?mount={layer.digest}&from=app"
                )
                assert status in (201, 202)
                if status == 202:
                    assert (await client.ask("DELETE", location))[0] == 204

        async def pull() -> None:
            for _ in range(rounds):
                status, data, _ = await client.ask("GET", f"/v2/app/blobs/{layer.digest}")
                assert status == 404 or (status == 200 and layer.digest.matches(data))
                status, raw, _ = await client.ask(
                    "PUT", "/v2/app/manifests/v1", sample.manifest.raw, sample.manifest.media_type
                )
                assert status == 201 or (status == 400 and b"MANIFEST_BLOB_UNKNOWN" in raw)

        async with anyio.create_task_group() as working:
            for act in (push, push, delete, delete, mount, pull, pull):
                working.start_soon(act)
        assert await client.push("app", sample, "v1") == 201
        assert await client.pull("app", "v1") == sample.digest
    assert (await to_thread.run_sync(assert_valid, tmp_path))["app"] == {"v1": sample.digest}


async def test_a_delete_during_a_pull(tmp_path: Path) -> None:
    """A blob and a manifest that are deleted while they are sent arrive whole; whoever comes later finds them gone."""
    sample = image(seed="pulled", size=6_000_000, layers=1)
    (layer,) = sample.manifest.layers
    async with registry(tmp_path) as client:
        assert await client.push("app", sample, "v1") == 201
        async with client.session.get(f"{client.url}/v2/app/blobs/{layer.digest}") as answer:
            begun = await answer.content.readexactly(10_000)
            assert (await client.ask("DELETE", f"/v2/app/manifests/{sample.digest}"))[0] == 202
            assert (await client.ask("DELETE", f"/v2/app/blobs/{layer.digest}"))[0] == 202
            assert (await client.ask("GET", f"/v2/app/blobs/{layer.digest}"))[0] == 404
            assert layer.digest.matches(begun + await answer.content.read())
        assert await client.pull("app", "v1") is None
    assert (await to_thread.run_sync(assert_valid, tmp_path)) == {"app": {}}
