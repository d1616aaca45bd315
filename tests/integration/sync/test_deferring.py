"""Runs between registries that allow no more for now, or are not there at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from syncer.app import spec_places
from syncer.cli.exits import ExitCode, code_of_report
from syncer.events import RunStatus, TagOutcome
from syncer.registry.standing import Standings
from syncer.registry.traffic.retry import RetryBudget, RetryPolicy
from syncer.state.store import StateStore
from syncer.telemetry.summary import closing_sentence
from tests.support import images
from tests.support.scripted import scripted
from tests.support.world import embedded, fill, run, spec_between

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.images import Sample

TAGS = {f"v{at}": images.image(layers=1, seed=at) for at in range(12)}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs try again as often as ever, and wait next to nothing before they do."""
    quick = RetryPolicy(base=0.002, cap=0.02, absent_cap=0.01)

    def standings(budget: RetryBudget | None = None, policy: RetryPolicy | None = None, **clocks: Any) -> Standings:
        return Standings(budget, policy or quick, **clocks)

    monkeypatch.setattr(spec_places, "Standings", standings)


class Hub:
    """A registry of images that counts GETs of manifests, as the Docker Hub does, and says what is left."""

    def __init__(self, samples: dict[str, Sample], left: int) -> None:
        self.samples = samples
        self.left = left
        self.pulls = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        name = request.path.rpartition("/")[2]
        if request.path.endswith("/tags/list"):
            return web.json_response({"name": "a", "tags": list(self.samples)})
        if "/referrers/" in request.path:
            return web.Response(status=404)
        if "/blobs/" in request.path:
            blobs = {str(digest): data for sample in self.samples.values() for digest, data in sample.blobs.items()}
            return web.Response(body=blobs[name])
        manifests = {str(it.digest): it for sample in self.samples.values() for it in sample.manifests}
        found = self.samples[name].manifest if name in self.samples else manifests.get(name)
        if found is None:
            return web.Response(status=404)
        status = 200
        if request.method == "GET":
            status = 200 if self.left else 429
            self.left = max(0, self.left - 1)
            self.pulls += 1
        shown = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": f"{self.left};w=21600"}
        if status == 429:
            body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS"}]}).encode()
            return web.Response(status=429, headers=shown, body=body)
        headers = {"Content-Type": found.media_type, "Docker-Content-Digest": found.digest} | shown
        return web.Response(headers=headers, body=found.raw)


ENTRY = "name: one, from: source/a, to: target/m/a, tags: {include: ['v*']}"


async def test_what_is_not_allowed_is_left_for_the_next_run(tmp_path: Path) -> None:
    """With eight pulls left for eleven tags, eight are copied and three deferred; the next run brings these only."""
    hub = Hub(TAGS, 8)
    async with scripted(hub.answer) as source, embedded(tmp_path / "t") as target:
        text = spec_between(source.address, target.host, ENTRY)
        await fill(target.host, "m/a", {"v0": TAGS["v0"]})
        first = await run(text, tmp_path)
        tags = first.totals.tags
        assert (tags[TagOutcome.IN_SYNC], tags[TagOutcome.COPIED], tags[TagOutcome.DEFERRED]) == (1, 8, 3)
        assert first.failures == ()
        assert first.status is RunStatus.INTERRUPTED
        assert code_of_report(first) is ExitCode.STOPPED
        (deferral,) = first.deferrals
        assert (deferral.registry, deferral.tags, deferral.until) == (source.address, 3, None)
        assert "3 deferred" in closing_sentence(first)
        assert "run it again" in closing_sentence(first)
        async with StateStore.read(tmp_path / "state.db") as state:
            left = await state.unresolved()
        assert [record.outcome for record in left] == [TagOutcome.DEFERRED] * 3

        hub.left, before = 100, hub.pulls
        second = await run(text, tmp_path, retry_failed=True)
        assert (second.totals.tags[TagOutcome.COPIED], hub.pulls - before) == (3, 3)
        assert second.status is RunStatus.DONE
        assert code_of_report(second) is ExitCode.DONE
        async with StateStore.read(tmp_path / "state.db") as state:
            assert await state.unresolved() == []


async def test_other_sources_go_on(tmp_path: Path) -> None:
    """A source that allows nothing holds up no other, and a tag of it that is in sync is still seen to be."""
    hub = Hub(TAGS, 0)
    other = images.image(seed="other")
    async with scripted(hub.answer) as source, embedded(tmp_path / "s") as free, embedded(tmp_path / "t") as target:
        await fill(free.host, "b", {"v1": other})
        await fill(target.host, "m/a", {"v0": TAGS["v0"]})
        text = spec_between(source.address, target.host, ENTRY).replace(
            "sync:",
            f"  free: {{host: '{free.host}', plain_http: true}}\nsync:\n  - {{name: two, from: free/b, to: target/b}}",
        )
        report = await run(text, tmp_path)
    tags = report.totals.tags
    assert (tags[TagOutcome.IN_SYNC], tags[TagOutcome.COPIED], tags[TagOutcome.DEFERRED]) == (1, 1, 11)
    assert report.retries == {}
    assert hub.pulls <= 11


async def test_failures_beside_deferrals(tmp_path: Path) -> None:
    """A run in which something failed too exits with 1: a retry of the failure is useful now."""
    hub = Hub(TAGS, 0)
    async with scripted(hub.answer) as source, embedded(tmp_path / "t") as target:
        text = spec_between(source.address, target.host, ENTRY, "name: two, from: target/nowhere, to: target/b")
        report = await run(text, tmp_path)
    assert len(report.failures) == 1
    assert report.deferrals
    assert report.status is RunStatus.FAILED
    assert code_of_report(report) is ExitCode.FAILED


async def test_a_source_that_is_closed_for_hours(tmp_path: Path) -> None:
    """A registry that wants an hour for itself when its tags are listed defers the repository, and says until when."""

    async def closed(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    async with scripted(closed) as source, embedded(tmp_path / "t") as target:
        report = await run(spec_between(source.address, target.host, ENTRY), tmp_path)
        (deferral,) = report.deferrals
        assert (deferral.tags, deferral.others) == (0, 1)
        assert deferral.until is not None
        assert 3500 <= (deferral.until - report.started).total_seconds() <= 3700
        assert report.failures == ()
        assert code_of_report(report) is ExitCode.STOPPED
        assert len(source.lines) == 1


async def test_two_hundred_tags_of_a_registry_that_dies(tmp_path: Path) -> None:
    """After its tag list a source cuts every connection: a dozen requests at most, and a clear error for each tag."""
    asked = 0

    async def dying(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        if request.path.endswith("/tags/list"):
            return web.json_response({"name": "a", "tags": [f"v{at}" for at in range(200)]})
        asked += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with scripted(dying) as source, embedded(tmp_path / "t") as target:
        report = await run(spec_between(source.address, target.host, ENTRY), tmp_path)
    # What was under way at once when it died is no retry; the window is 32.
    assert asked <= 32 + 12
    assert len(report.failures) == 200
    assert {failure.error for failure in report.failures} == {"ConnectionFailed"}
    assert all("tried" in failure.hint for failure in report.failures)
    assert sum(report.retries.values()) < 200


async def test_two_hundred_tags_for_a_registry_that_is_not_there(tmp_path: Path) -> None:
    """A target that answers nothing fails the repository when its tags are listed: a dozen connections, one error."""
    hub = Hub({f"v{at}": images.image(layers=1, seed=at) for at in range(200)}, 1000)
    connections = 0

    async def silent(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal connections
        connections += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with scripted(hub.answer) as source, scripted(silent) as target:
        report = await run(spec_between(source.address, target.address, ENTRY), tmp_path)
    assert connections <= 12
    (failure,) = report.failures
    assert failure.error == "ConnectionFailed"
    assert "tried" in failure.hint
