"""kill -9: what was acknowledged is there, and what was not is not tagged."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from syncer.oci import Digest, Manifest
from tests.support import images

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.untraced

OCTETS = {"Content-Type": "application/octet-stream"}


@asynccontextmanager
async def process(root: Path, *more: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Start a server in a process of its own; give it and its URL."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "syncer.server",
        str(root),
        "--listen",
        "127.0.0.1:0",
        *more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        assert started.stdout is not None
        line = (await started.stdout.readline()).decode().strip()
        assert re.fullmatch(r"127\.0\.0\.1:\d+", line), line
        yield started, f"http://{line}"
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGTERM)
        await started.communicate()


async def push_until_killed(
    session: aiohttp.ClientSession, url: str, number: int, acknowledged: dict[str, images.Sample]
) -> None:
    """Push image after image; note each whose tag was acknowledged; end when the server is gone."""
    at = 0
    try:
        while True:
            name, tag = f"{url}/v2/team{number % 3}/app", f"w{number}-{at}"
            sample = images.image(layers=1, size=30_000, seed=f"{number}/{at}")
            for digest, data in sample.blobs.items():
                async with session.post(f"{name}/blobs/uploads/") as answer:
                    location = answer.headers["Location"]
                async with session.put(f"{url}{location}?digest={digest}", data=data, headers=OCTETS) as answer:
                    assert answer.status == 201
            manifest = sample.manifest
            async with session.put(
                f"{name}/manifests/{tag}", data=manifest.raw, headers={"Content-Type": manifest.media_type}
            ) as answer:
                assert answer.status == 201
            acknowledged[f"team{number % 3}/app:{tag}"] = sample
            at += 1
    except aiohttp.ClientError:
        return


@pytest.mark.parametrize("durable", [True, False])
async def test_kill_while_pushing(tmp_path: Path, *, durable: bool) -> None:
    """Killed under eight pushing clients: every acknowledged tag is whole, and every other tag too."""
    more = () if durable else ("--not-durable",)
    acknowledged: dict[str, images.Sample] = {}
    async with process(tmp_path, *more) as (running, url), aiohttp.ClientSession() as session:
        pushing = [asyncio.create_task(push_until_killed(session, url, n, acknowledged)) for n in range(8)]
        while len(acknowledged) < 25:  # noqa: ASYNC110 - the pushes are another process's work
            await asyncio.sleep(0.005)
        running.kill()
        await asyncio.gather(*pushing)
        await running.wait()
    async with process(tmp_path, *more) as (_, url), aiohttp.ClientSession() as session:
        tagged: set[str] = set()
        for name in ("team0/app", "team1/app", "team2/app"):
            async with session.get(f"{url}/v2/{name}/tags/list") as answer:
                tagged |= {f"{name}:{tag}" for tag in (await answer.json())["tags"]}
        assert tagged >= set(acknowledged)
        for reference in tagged:
            name, _, tag = reference.partition(":")
            async with session.get(f"{url}/v2/{name}/manifests/{tag}") as answer:
                raw = await answer.read()
                manifest = Manifest.parse(raw, digest=Digest(answer.headers["Docker-Content-Digest"]))
            if reference in acknowledged:
                assert raw == acknowledged[reference].manifest.raw
            for blob in manifest.blobs():
                async with session.get(f"{url}/v2/{name}/blobs/{blob.digest}") as answer:
                    assert blob.digest.matches(await answer.read())


async def test_session_outlives_kill(tmp_path: Path) -> None:
    """Killed in the middle of a blob: the session answers with its offset and is finished after the restart."""
    data = images.random_bytes(1_500_000)
    digest = Digest.of(data)
    async with process(tmp_path) as (running, url), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v2/app/blobs/uploads/") as answer:
            location = answer.headers["Location"]
        head = {"Content-Range": "0-499999", **OCTETS}
        async with session.patch(url + location, data=data[:500_000], headers=head) as answer:
            assert (answer.status, answer.headers["Range"]) == (202, "0-499999")
        running.kill()
        await running.wait()
    async with process(tmp_path) as (_, url), aiohttp.ClientSession() as session:
        async with session.get(url + location) as answer:
            assert (answer.status, answer.headers["Range"]) == (204, "0-499999")
        head = {"Content-Range": "500000-1499999", **OCTETS}
        async with session.put(f"{url}{location}?digest={digest}", data=data[500_000:], headers=head) as answer:
            assert answer.status == 201
        async with session.get(f"{url}/v2/app/blobs/{digest}") as answer:
            assert await answer.read() == data


async def test_terminate(tmp_path: Path) -> None:
    """SIGTERM ends the process cleanly: exit code 0, nothing on stderr, and index.json complete."""
    sample = images.index(platforms=())
    async with process(tmp_path) as (running, url), aiohttp.ClientSession() as session:
        manifest = sample.manifest
        async with session.put(
            f"{url}/v2/app/manifests/1", data=manifest.raw, headers={"Content-Type": manifest.media_type}
        ) as answer:
            assert answer.status == 201
        running.send_signal(signal.SIGTERM)
        _, errors = await running.communicate()
    assert (running.returncode, errors) == (0, b"")
    listed = json.loads((tmp_path / "app" / "index.json").read_bytes())["manifests"]
    assert [entry["digest"] for entry in listed] == [sample.digest]
