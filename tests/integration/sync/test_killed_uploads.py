"""kill -9 in the middle of a large blob: the next run goes on at its byte, where the registry keeps what arrived."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import anyio
import pytest
from anyio import to_thread

import syncer
from syncer.errors import StateError
from syncer.state.store import StateStore
from tests.support.docker_registry import docker_registry
from tests.support.large import GIBIBYTE, MIB, described, serving
from tests.support.world import embedded, spec_between

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from syncer.plan.records import UnfinishedUpload
    from tests.support.large import LargeImage
    from tests.support.world import Embedded

pytestmark = pytest.mark.untraced

CHUNK = 8 * MIB
FORMS = ("auto", "stream", "chunks")
UPLOADS = "/blobs/uploads/"
#: Bytes that may be on their way when the source gives no more: each side gathers a MiB, and the last chunk that was
#: read is held back, as it may be the last of all.
UNDER_WAY = 4 * MIB


def spec_of(source: LargeImage, target: str, form: str) -> str:
    """Return a spec that copies the image, its blobs sent in the ``form``."""
    text = spec_between(source.host, target, "from: source/large/app, to: target/mirror/app")
    chunk = f", chunk: {CHUNK // MIB}MiB" if form == "chunks" else ""
    upload = f"upload: {{form: {form}{chunk}}}"
    return text.replace(f"host: '{target}', plain_http: true", f"host: '{target}', plain_http: true, {upload}")


@dataclass
class Runs:
    """Runs of one spec, each a process of its own."""

    spec: Path

    @property
    def state(self) -> Path:
        """The state file that they share."""
        return self.spec.with_name("state.db")

    @asynccontextmanager
    async def run(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start a run; it is killed at the end of the block, should it still be there."""
        kept = ("PATH", "HOME", "COVERAGE_PROCESS_CONFIG")
        environ = {name: value for name, value in os.environ.items() if name in kept}
        # The process runs the code that is tested here, whichever is installed.
        environ["PYTHONPATH"] = str(Path(syncer.__file__).parents[1])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "syncer", "run", self.spec, "--quiet",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environ,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def finish(self) -> None:
        """Run to the end, which has to be a good one."""
        async with self.run() as process:
            out, err = await process.communicate()
        assert process.returncode == 0, (out, err)

    async def unfinished(self) -> list[UnfinishedUpload]:
        """Return what the state knows of uploads that were begun."""
        try:
            async with StateStore.read(self.state) as state:
                return await state.unfinished_uploads()
        except StateError:
            # It is not there yet, or has no tables.
            return []


async def runs_of(folder: Path, source: LargeImage, target: str, form: str) -> Runs:
    """Write the spec."""
    spec = folder / "spec.yaml"
    await anyio.Path(spec).write_text(spec_of(source, target, form))
    return Runs(spec)


def arrived(target: Embedded) -> int:
    """Return how many bytes the sessions have that are open."""
    return sum(path.stat().st_size for path in (target.root / ".syncer" / "uploads").glob("*"))


async def until(target: Embedded, size: int, process: asyncio.subprocess.Process) -> None:
    """Wait until the config has been committed, and ``size`` bytes of the layer are there."""
    with anyio.fail_after(50):
        while not (("PUT", 201) in asked(target) and await to_thread.run_sync(arrived, target) >= size):
            assert process.returncode is None, "the run was over before it could be killed"
            await anyio.sleep(0.005)


async def noted(runs: Runs, offset: int) -> UnfinishedUpload:
    """Wait until the upload is noted to be at ``offset`` at least; return the note."""
    with anyio.fail_after(50):
        while not (found := await runs.unfinished()) or found[0].offset < offset:  # noqa: ASYNC110 - another process
            await anyio.sleep(0.01)
    return found[0]


def asked(target: Embedded) -> list[tuple[str, int]]:
    """Return the requests about uploads, by method and status."""
    return [(record.method, record.status) for record in target.requests if UPLOADS in record.path]


def received(target: Embedded) -> int:
    """Return how many bytes of blobs the registry was sent in all."""
    return sum(record.bytes_in for record in target.requests if UPLOADS in record.path)


def sizes(source: LargeImage) -> int:
    """Return how many bytes the image's blobs have."""
    return sum(blob.size for blob in source.image.descriptors())


async def check(target: Embedded, source: LargeImage) -> None:
    """Check that the image is there: its layer whole, and nothing left open."""
    blob = source.blob.digest
    file = target.root / "mirror" / "app" / "blobs" / "sha256" / blob.encoded

    def hashed() -> str:
        hasher = blob.hasher()
        with file.open("rb") as stream:
            while data := stream.read(MIB):
                hasher.update(data)
        return hasher.hexdigest()

    assert await to_thread.run_sync(hashed) == blob.encoded
    assert await to_thread.run_sync(arrived, target) == 0
    manifest = target.root / "mirror" / "app" / "blobs" / "sha256" / source.image.digest.encoded
    assert await anyio.Path(manifest).read_bytes() == source.image.manifest.raw


@pytest.mark.parametrize(("form", "blocks"), [("auto", 64), ("stream", 32), ("chunks", 32)])
async def test_next_to_no_byte_is_sent_twice_after_a_kill(tmp_path: Path, form: str, blocks: int) -> None:
    """Killed after five eighths: the next run asks the session, sends the rest, and opens no other."""
    blob = await to_thread.run_sync(described, blocks)
    held = blob.size * 5 // 8
    confirmed = held // CHUNK * CHUNK if form == "chunks" else 0
    async with serving(blob, most=held) as source, embedded(tmp_path / "target") as target:
        runs = await runs_of(tmp_path, source, target.host, form)
        async with runs.run() as process:
            await until(target, held - UNDER_WAY, process)
            note = await noted(runs, confirmed)
            process.kill()
        source.release()
        await runs.finish()
        await check(target, source)
        assert note.location.startswith(f"http://{target.host}/v2/mirror/app/blobs/uploads/")
        assert note.offset == confirmed
        assert asked(target).count(("GET", 204)) == 1
        # One for the config, one for the layer.
        assert asked(target).count(("POST", 202)) == 2
        # What had reached the target's process when the line was cut, and had not been read there, is sent again.
        assert 0 <= received(target) - sizes(source) <= UNDER_WAY
        assert await runs.unfinished() == []


async def test_a_session_that_is_gone_costs_one_question(tmp_path: Path) -> None:
    """A registry that has forgotten the session answers 404: a new one gets all the bytes."""
    blob = await to_thread.run_sync(described, 12)
    async with serving(blob, most=10 * MIB) as source, embedded(tmp_path / "target") as target:
        runs = await runs_of(tmp_path, source, target.host, "auto")
        async with runs.run() as process:
            await until(target, 10 * MIB - UNDER_WAY, process)
            note = await noted(runs, 0)
            process.kill()
        async with aiohttp.ClientSession() as session, session.delete(note.location) as answer:
            assert answer.status == 204
        source.release()
        await runs.finish()
        await check(target, source)
        assert asked(target).count(("GET", 404)) == 1
        assert asked(target).count(("POST", 202)) == 3
        assert await runs.unfinished() == []


async def test_a_stop_leaves_neither_a_session_nor_a_note(tmp_path: Path) -> None:
    """SIGINT in the middle of a large blob: its session is deleted, and the state does not name it."""
    blob = await to_thread.run_sync(described, 12)
    async with serving(blob, most=10 * MIB) as source, embedded(tmp_path / "target") as target:
        runs = await runs_of(tmp_path, source, target.host, "auto")
        async with runs.run() as process:
            await until(target, 10 * MIB - UNDER_WAY, process)
            await noted(runs, 0)
            process.send_signal(signal.SIGINT)
            await process.communicate()
        assert process.returncode == 75
        assert [record.status for record in target.requests if record.method == "DELETE"] == [204]
        assert await to_thread.run_sync(arrived, target) == 0
        assert await runs.unfinished() == []


@pytest.mark.witness
@pytest.mark.parametrize("form", ["auto", "chunks"])
async def test_docker_registry_gets_it_after_a_kill(tmp_path: Path, form: str) -> None:
    """Debian's registry, which keeps no session whose body was cut off: the next run converges all the same."""
    blob = await to_thread.run_sync(described, 24)
    with docker_registry(tmp_path / "registry") as target:
        async with serving(blob, most=20 * MIB) as source:
            runs = await runs_of(tmp_path, source, target.host, form)
            async with runs.run() as process:
                await noted(runs, 2 * CHUNK if form == "chunks" else 0)
                process.kill()
            source.release()
            await runs.finish()
            assert await runs.unfinished() == []
            found = [access for access in target.requests() if access.method == "GET" and UPLOADS in access.target]
            assert len(found) == 1
        async with aiohttp.ClientSession() as session:
            url = f"{target.url}/v2/mirror/app/blobs/{blob.digest}"
            async with session.head(url) as answer:
                assert (answer.status, answer.headers["Content-Length"]) == (200, str(blob.size))


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", FORMS)
async def test_a_gibibyte_that_is_killed_four_times(
    tmp_path: Path, record_property: Callable[[str, object], None], form: str
) -> None:
    """Killed in full flow, four times: it arrives in one session, and at most a chunk of it is sent twice each time."""
    async with serving(GIBIBYTE) as source, embedded(tmp_path / "target") as target:
        runs = await runs_of(tmp_path, source, target.host, form)
        for part in (200, 450, 600, 1000):
            async with runs.run() as process:
                await until(target, part * MIB, process)
                process.kill()
        await runs.finish()
        await check(target, source)
        figures = {
            "form": form,
            "kills": 4,
            "bytes of the blobs": sizes(source),
            "bytes received in all": received(target),
            "bytes received twice": received(target) - sizes(source),
            "sessions opened for the layer": asked(target).count(("POST", 202)) - 1,
            "readings of the source": len(source.starts),
        }
        for name, value in figures.items():
            record_property(name, value)
        print(figures)  # noqa: T201 - what the promise is measured by
        assert figures["sessions opened for the layer"] == 1
        assert 0 <= received(target) - sizes(source) <= 4 * CHUNK
        assert await runs.unfinished() == []
