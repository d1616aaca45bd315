"""Runs that are stopped, killed, repeated and refused, on real registries and with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread

import syncer
from syncer.errors import StateLocked
from syncer.events import RunStatus, TagOutcome
from syncer.state.store import StateStore
from tests.support import images
from tests.support.docker_registry import Witness, docker_registry, find_skopeo
from tests.support.observing import Recorder
from tests.support.world import embedded, fill, run, spec_between

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.untraced

TAGS = 30
ENTRY = "name: load, from: source/load/app, to: target/mirror/app"


def shared_images(count: int, *, size: int = 60_000) -> dict[str, images.Sample]:
    """Return images by tag that share five layers and have one of their own."""
    shared = [images.random_bytes(size, f"shared/{at}") for at in range(5)]
    return {f"v{at}": images.image(layers=1, size=4000, seed=at, shared=shared) for at in range(count)}


@pytest.fixture
def witnesses(tmp_path: Path) -> Iterator[tuple[Witness, Witness]]:
    """Run two of Debian's registries."""
    with ExitStack() as stack:
        one = stack.enter_context(docker_registry(tmp_path / "one"))
        yield one, stack.enter_context(docker_registry(tmp_path / "two"))


def start(spec: Path, *options: str) -> subprocess.Popen[str]:
    """Start ``syncer run`` as a process of its own."""
    environ = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "COVERAGE_PROCESS_CONFIG")}
    # The process runs the code that is tested here, whichever is installed.
    environ["PYTHONPATH"] = str(Path(syncer.__file__).parents[1])
    command = [sys.executable, "-m", "syncer", "run", str(spec), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, cwd=spec.parent
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process and return its exit code and what it wrote."""
    out, err = process.communicate(timeout=50)
    return process.returncode, out, err


def kinds(witness: Witness, since: int = 0) -> Counter[tuple[str, str]]:
    """Count a witness's requests by method and kind."""
    found: Counter[tuple[str, str]] = Counter()
    for access in witness.requests()[since:]:
        kind = next((k for k in ("/blobs/uploads/", "/blobs/", "/manifests/", "/tags/") if k in access.target), "other")
        found[access.method, kind.strip("/")] += 1
    return found


@pytest.mark.witness
async def test_the_second_run_costs_one_head_per_tag_and_side(
    tmp_path: Path, witnesses: tuple[Witness, Witness]
) -> None:
    """Two real registries: all digests equal, read by skopeo; then no blob, no manifest, a HEAD per tag and side."""
    source, target = witnesses
    samples = await to_thread.run_sync(shared_images, TAGS)
    await fill(source.host, "load/app", samples)
    filled = len(source.requests())
    spec = spec_between(source.host, target.host, ENTRY)
    report = await run(spec, tmp_path)
    assert not report.failures
    first = kinds(target)
    assert first["PUT", "blobs/uploads"] == first["POST", "blobs/uploads"] == 5 + 2 * TAGS
    assert first["PUT", "manifests"] == TAGS
    assert not first["HEAD", "manifests"] + first["HEAD", "blobs"] + first["PATCH", "blobs/uploads"]
    assert kinds(source, filled)["GET", "blobs"] == 5 + 2 * TAGS

    before = len(source.requests()), len(target.requests())
    report = await run(spec, tmp_path)
    assert report.totals.tags[TagOutcome.IN_SYNC] == TAGS
    assert report.totals.streamed == report.totals.manifests.count == 0
    for witness, since in zip(witnesses, before, strict=True):
        assert kinds(witness, since) == {("HEAD", "manifests"): TAGS, ("GET", "tags"): 1}

    skopeo = find_skopeo()

    def reread(tag: str) -> bytes:
        command = [skopeo, "inspect", "--tls-verify=false", "--raw", f"docker://{target.host}/mirror/app:{tag}"]
        return subprocess.run(command, capture_output=True, check=True).stdout

    for tag in ("v0", "v13", f"v{TAGS - 1}"):
        assert await to_thread.run_sync(reread, tag) == samples[tag].manifest.raw


@pytest.mark.witness
@pytest.mark.parametrize("answered", [40, 80])
async def test_a_killed_run_resumes_without_sending_blobs_again(
    tmp_path: Path, witnesses: tuple[Witness, Witness], answered: int
) -> None:
    """Kill -9 in the middle; the next run completes, and no blob that was finished is sent again."""
    source, target = witnesses
    await fill(source.host, "load/app", await to_thread.run_sync(shared_images, TAGS))
    spec = tmp_path / "spec.yaml"
    await anyio.Path(spec).write_text(spec_between(source.host, target.host, ENTRY))

    def kill_in_the_middle() -> None:
        process = start(spec, "--quiet")
        while process.poll() is None and len(target.requests()) < answered:
            time.sleep(0.005)
        assert process.poll() is None, "the run was over before it could be killed"
        process.kill()
        finish(process)

    await to_thread.run_sync(kill_in_the_middle)
    finished = await to_thread.run_sync(lambda: finish(start(spec, "--output", "json")))
    assert finished[0] == 0, finished
    assert json.loads(finished[1])["status"] == "done"
    commits = Counter(
        digest
        for access in target.requests()
        if access.method == "PUT" and access.status == 201 and "/blobs/uploads/" in access.target
        for digest in [access.target.partition("digest=")[2].partition("&")[0]]
    )
    assert len(commits) == 5 + 2 * TAGS
    assert max(commits.values()) == 1, [digest for digest, count in commits.items() if count > 1]
    async with StateStore.read(tmp_path / "state.db") as state:
        assert [record.status for record in await state.runs()] == [RunStatus.DONE, RunStatus.INTERRUPTED]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_cleanly_and_says_how_to_resume(tmp_path: Path, number: signal.Signals) -> None:
    """One signal, without a drain: exit 75, a report, a word on resuming, no upload left open; the next run goes on."""
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        await fill(a.host, "load/app", await to_thread.run_sync(shared_images, TAGS))
        spec = tmp_path / "spec.yaml"
        await anyio.Path(spec).write_text(spec_between(a.host, b.host, ENTRY))
        process = await to_thread.run_sync(lambda: start(spec, "--drain", "0"))
        await b.until(40)
        process.send_signal(number)
        code, out, err = await to_thread.run_sync(finish, process)
        assert code == 75, (out, err)
        assert "Traceback" not in err
        assert f"syncer run {spec}" in out + err
        code, out, err = await to_thread.run_sync(lambda: finish(start(spec, "--output", "json")))
        assert code == 0, (out, err)
        report = json.loads(out)
        assert report["totals"]["tags"]["copied"] + report["totals"]["tags"]["in-sync"] == TAGS
    assert list((tmp_path / "b" / ".syncer" / "uploads").iterdir()) == []


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Two signals: the process is gone, whatever it was doing."""
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        await fill(a.host, "load/app", await to_thread.run_sync(lambda: shared_images(TAGS, size=2_000_000)))
        spec = tmp_path / "spec.yaml"
        await anyio.Path(spec).write_text(spec_between(a.host, b.host, ENTRY))
        process = await to_thread.run_sync(lambda: start(spec))
        await b.until(3)
        process.send_signal(signal.SIGTERM)
        # The same one would be taken for an echo of the first.
        process.send_signal(signal.SIGINT)
        code, _, err = await to_thread.run_sync(finish, process)
        assert code == 75
        assert "Traceback" not in err


async def test_stopping_from_within_keeps_what_was_done(tmp_path: Path) -> None:
    """A run that is asked to stop returns a report that says so, and the state knows it."""
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        await fill(a.host, "load/app", shared_images(20))
        stop = anyio.Event()

        class Stopper(Recorder):
            def notify(self, event: Any) -> None:
                super().notify(event)
                if len(self.events) == 100:
                    stop.set()

        report = await run(spec_between(a.host, b.host, ENTRY), tmp_path, Stopper(), stop=stop)
        assert report.status is RunStatus.INTERRUPTED
        async with StateStore.read(tmp_path / "state.db") as state:
            assert (await state.runs())[0].status is RunStatus.INTERRUPTED
        report = await run(spec_between(a.host, b.host, ENTRY), tmp_path)
        assert report.status is RunStatus.DONE


async def test_only_what_failed_is_tried_again(tmp_path: Path) -> None:
    """--retry-failed looks at the tags that failed, and at no others."""
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        samples = shared_images(8)
        await fill(a.host, "load/app", samples)
        blob = samples["v3"].manifest.layers[-1].digest
        lost = anyio.Path(a.root / "load" / "app" / "blobs" / "sha256" / blob.encoded)
        data = await lost.read_bytes()
        await lost.unlink()
        spec = spec_between(a.host, b.host, ENTRY)
        report = await run(spec, tmp_path)
        assert [failure.tag for failure in report.failures] == ["v3"]
        assert report.status is RunStatus.FAILED
        await lost.write_bytes(data)
        b.requests.clear()
        report = await run(spec, tmp_path, retry_failed=True)
        assert report.totals.tags[TagOutcome.COPIED] == report.totals.finished == 1
        # The tag, and its manifest before the tag moves to it: the target may have been what failed.
        asked = [f"/v2/mirror/app/manifests/{name}" for name in ("v3", samples["v3"].digest)]
        assert [record.path for record in b.requests if record.method == "HEAD"] == asked


async def test_a_second_process_on_the_same_state_is_refused(tmp_path: Path) -> None:
    """While one holds the state file another gets a clear error, and nothing is requested."""
    async with embedded(tmp_path / "a") as a:
        spec = spec_between(a.host, a.host, "name: x, from: source/app, to: target/other")
        async with StateStore.open(tmp_path / "state.db", observer=Recorder()):
            with pytest.raises(StateLocked, match=r"state\.db"):
                await run(spec, tmp_path)
        assert a.requests == []


async def test_a_corrupt_state_is_set_aside_and_rebuilt(tmp_path: Path) -> None:
    """A damaged state file costs time only: it is kept aside, the run works, and a notice says so."""
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        await fill(a.host, "load/app", shared_images(3))
        await anyio.Path(tmp_path / "state.db").write_bytes(b"SQLite format 3\0" + b"garbage" * 500)
        report = await run(spec_between(a.host, b.host, ENTRY), tmp_path)
        assert report.totals.tags[TagOutcome.COPIED] == 3
        assert any("state.db" in notice.text + notice.where for notice in report.notices)
        aside = [path.name async for path in anyio.Path(tmp_path).glob("state.db.corrupt-*")]
        assert len(aside) == 1
