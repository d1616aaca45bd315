"""What runs for months: after many small runs, or uploads, a process holds what it held after a few."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from syncer.oci import Digest
from tests.support.commands import ROOT, line_of, started
from tests.support.images import random_bytes
from tests.support.resources import Held, files_of, growth, memory_of, slope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.untraced

SOAK = Path(__file__).with_name("soak.py")
KIB = 1024
#: One for all threads: with one for each, memory depends on which thread did what.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
#: Threads that the few files of a small run keep busy at once, and some for chance.
MOST_THREADS = 20


@pytest.mark.parametrize(
    ("runs", "every", "objects", "memory"),
    [
        pytest.param(20, 4, 150, 2048 * KIB, id="20 runs"),
        pytest.param(300, 12, 6, 64 * KIB, id="300 runs", marks=[pytest.mark.torture, pytest.mark.timeout(600)]),
    ],
)
def test_many_runs_in_one_process(tmp_path: Path, runs: int, every: int, objects: int, memory: int) -> None:
    """Open files and tasks do not grow by one from look to look, objects and memory by next to nothing.

    The first half is left out: caches of a bounded size fill up. The short soak ends before they are full.
    """
    command = [sys.executable, str(SOAK), str(tmp_path), str(runs), str(every)]
    environ = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), **ONE_ARENA}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environ, timeout=500)
    assert done.returncode == 0, done.stderr
    looks = [Held(**json.loads(line)) for line in done.stdout.splitlines()]
    assert len(looks) == runs // every
    grown = growth(looks[len(looks) // 2 :])
    shown = f"{grown} over {looks}"
    assert (grown["files"], grown["tasks"]) == (0, 0), shown
    # Idle threads of the pool come and go.
    assert max(look.threads for look in looks) <= MOST_THREADS, shown
    assert grown["objects"] <= objects, shown
    assert grown["memory"] <= memory, shown


async def _cut_short(session: aiohttp.ClientSession, url: str) -> None:
    """Send half of a chunk, and hang up."""

    async def half() -> AsyncIterator[bytes]:
        yield random_bytes(30_000)
        raise ConnectionAbortedError

    with suppress(aiohttp.ClientError, ConnectionAbortedError):
        async with session.patch(url, data=half(), headers={"Content-Type": "application/octet-stream"}):
            pass


async def _upload(session: aiohttp.ClientSession, url: str, at: int) -> None:
    """Upload a blob and delete it, or break off on the way and give up: by turns."""
    async with session.post(f"{url}/v2/app/blobs/uploads/") as answer:
        location = f"{url}{answer.headers['Location']}"
    if at % 3 == 0:
        data = random_bytes(20_000, at)
        async with session.put(f"{location}?digest={Digest.of(data)}", data=data) as answer:
            assert answer.status == 201
        async with session.delete(f"{url}/v2/app/blobs/{Digest.of(data)}") as answer:
            assert answer.status == 202
        return
    if at % 3 == 1:
        await _cut_short(session, location)
    else:
        async with session.put(f"{location}?digest={Digest.of(b'else')}", data=b"other") as answer:
            assert answer.status == 400
    async with session.delete(location) as answer:
        assert answer.status in (204, 404)


@pytest.mark.parametrize(
    ("uploads", "every", "memory"),
    [
        pytest.param(90, 15, 1024 * KIB, id="90 uploads"),
        pytest.param(6000, 300, 16 * KIB, id="6000 uploads", marks=[pytest.mark.torture, pytest.mark.timeout(600)]),
    ],
)
async def test_many_uploads_to_one_registry(tmp_path: Path, uploads: int, every: int, memory: int) -> None:
    """Finished, refused and broken-off uploads leave nothing behind in the registry's process, nor on its disk."""
    arguments = (tmp_path / "tree", "--listen", "127.0.0.1:0", "--not-durable")
    command = (sys.executable, "-m", "syncer.server")
    with started(*arguments, command=command, env={**os.environ, **ONE_ARENA}) as process:
        url = f"http://{line_of(process.stdout).strip()}"
        looks: list[tuple[int, int]] = []
        for _ in range(0, uploads, every):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as session:
                # The same blobs each time: where the last thousands were seen is remembered.
                await asyncio.gather(*(_upload(session, url, at) for at in range(every)))
            # Connections that were closed here are closed there a moment later.
            async with aiohttp.ClientSession() as session, session.get(f"{url}/v2/") as answer:
                assert answer.status == 200
                looks.append((memory_of(process.pid), files_of(process.pid)))
        looks = looks[len(looks) // 2 :]
        assert slope([files for _, files in looks]) <= 0, looks
        assert slope([memory for memory, _ in looks]) <= memory, looks
        assert not list((tmp_path / "tree" / ".syncer" / "uploads").iterdir())
        assert not list((tmp_path / "tree" / "app" / "blobs" / "sha256").iterdir())
