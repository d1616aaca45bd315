"""The report of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from syncer.content import BlobOutcome
from syncer.errors import NotFound, RateLimitReached
from syncer.events import (
    BlobFinished,
    EntryFailed,
    ManifestPushed,
    Notice,
    RepositoryFinished,
    RepositoryListed,
    RepositoryStarted,
    RunStarted,
    RunStatus,
    TagFinished,
    TagOutcome,
)
from syncer.oci import Digest
from syncer.telemetry.recorder import MAX_NOTICE_LENGTH, MAX_NOTICES, ReportObserver
from syncer.telemetry.report import SCHEMA, Failure, Volume

if TYPE_CHECKING:
    from syncer.events import Event
    from syncer.telemetry.report import Report

CANARY = "s3cr3t-C4n4ry"
START = datetime(2025, 1, 1, tzinfo=UTC)
DIGEST = Digest.of(b"manifest")


def test_deferrals() -> None:
    """What a registry defers is counted by registry, with the time it names, and is no failure."""
    error = RateLimitReached("docker.io allows no more pulls", registry="docker.io", hint="Later.")
    error.resets_in = 60.0
    report = observe(
        [
            replace(tag("v1", TagOutcome.DEFERRED), error=error),
            replace(tag("v2", TagOutcome.DEFERRED), error=error),
            RepositoryFinished(entry="e", source="s", target="t", seconds=1.0, error=error),
            EntryFailed(entry="f", error=RateLimitReached("quay.io, too", registry="quay.io")),
        ]
    )
    hub, quay = report.deferrals
    assert (hub.registry, hub.tags, hub.others, hub.hint) == ("docker.io", 2, 1, "Later.")
    assert hub.until is not None
    assert 60 <= (hub.until - START).total_seconds() <= 65
    assert (quay.registry, quay.tags, quay.others, quay.until) == ("quay.io", 0, 1, None)
    assert report.failures == ()
    assert report.totals.tags[TagOutcome.DEFERRED] == 2
    assert {key for it in report.to_json()["deferrals"] for key in it} == {
        "registry",
        "tags",
        "others",
        "until",
        "message",
        "hint",
    }


class Now:
    """A clock that goes on by a second each time it is asked."""

    time = START - timedelta(seconds=1)

    def __call__(self) -> datetime:
        """Tell the time."""
        self.time += timedelta(seconds=1)
        return self.time


def observe(events: list[Event], *, max_copied: int = 10) -> Report:
    """Return the report of ``events``."""
    observer = ReportObserver(now=Now(), max_copied=max_copied)
    for event in events:
        observer.notify(event)
    return observer.report()


def tag(name: str, outcome: TagOutcome, *, error: NotFound | None = None, reason: str = "") -> TagFinished:
    """Make an event of one tag."""
    return TagFinished(
        entry="e", source="s", target="t", tag=name, outcome=outcome, digest=DIGEST, error=error, reason=reason
    )


def test_totals(run: list[Event]) -> None:
    """Every tag, blob, manifest, request and retry is counted under what became of it."""
    report = observe(run)
    totals = report.totals
    assert (report.run, report.spec, report.status, report.entries) == ("r1", "spec.yaml", RunStatus.FAILED, 2)
    assert (report.seconds, report.rate) == (4.0, 250.0)
    assert (totals.listed, totals.selected, totals.referrers) == (11, 4, 2)
    assert {outcome: count for outcome, count in totals.tags.items() if count} == {
        TagOutcome.COPIED: 1,
        TagOutcome.IN_SYNC: 2,
        TagOutcome.FAILED: 1,
    }
    assert totals.blobs == {
        BlobOutcome.STREAMED: Volume(count=1, size=1000),
        BlobOutcome.MOUNTED: Volume(count=1, size=2000),
        BlobOutcome.PRESENT: Volume(count=1, size=5000),
    }
    assert (totals.streamed, totals.saved) == (1000, 7000)
    assert totals.manifests == Volume(count=1, size=300)
    assert report.requests == {"docker.io": {"manifest-head": 1}, "prod": {"manifest-put": 1}}
    assert report.retries == {"docker.io": 1}
    assert report.request_count == 2


def test_repositories(run: list[Event]) -> None:
    """Each pair of repositories has its line, with its own counts and time."""
    first, second = observe(run).repositories
    assert (first.target, first.totals.finished, first.totals.streamed, first.seconds) == (
        "prod/mirror/alpine",
        3,
        1000,
        2.5,
    )
    assert (second.target, second.totals.finished, second.totals.streamed) == ("prod/mirror/nginx", 1, 0)


def test_failures(run: list[Event]) -> None:
    """A failure says what failed, why, and what to do."""
    first, second = observe(run).failures
    assert first == Failure(
        entry="base",
        source="hub/library/alpine",
        target="prod/mirror/alpine",
        tag="latest",
        error="Denied",
        message="no push to mirror/alpine",
        hint="Ask for push rights.",
        side="target",
    )
    assert first.place == "prod/mirror/alpine:latest"
    assert (second.place, second.error, second.retryable) == ("entry other", "ConnectionFailed", True)


def test_repository_that_failed() -> None:
    """A repository that could not be listed is a failure, and its line says so."""
    error = NotFound("no such repository")
    report = observe(
        [
            RepositoryStarted(entry="e", source="s", target="t"),
            RepositoryFinished(entry="e", source="s", target="t", seconds=1, error=error),
        ]
    )
    assert report.repositories[0].error == "no such repository"
    assert report.failures[0].place == "t"


def test_failure_without_an_error() -> None:
    """A failed tag that came with a reason only is listed with it."""
    (failure,) = observe([tag("1", TagOutcome.FAILED, reason="gate closed")]).failures
    assert (failure.error, failure.message, failure.retryable) == ("", "gate closed", False)


def test_the_text_is_that_of_the_json_with_a_line_for_each_thing(run: list[Event]) -> None:
    """What is written in parts, as twenty thousand repositories would not fit into memory, is the same document."""
    for report in (observe(run), observe([])):
        parts = list(report.to_text())
        assert json.loads("".join(parts)) == report.to_json()
        assert "".join(parts).endswith("\n}\n")
        lines = "".join(parts).splitlines()
        for listed in ("repositories", "copied", "failures"):
            for thing in report.to_json()[listed]:
                assert sum(json.loads(line.strip().rstrip(",")) == thing for line in lines if line[:5] == "    {") == 1


def test_json(run: list[Event]) -> None:
    """The JSON names its schema, and says all that the report knows."""
    document = json.loads(json.dumps(observe(run).to_json()))
    assert document["schema"] == SCHEMA == "syncer.report/1"
    assert set(document) == {
        "schema",
        "run",
        "spec",
        "status",
        "started",
        "finished",
        "seconds",
        "entries",
        "totals",
        "requests",
        "retries",
        "repositories",
        "copied",
        "copied_unlisted",
        "failures",
        "deferrals",
        "notices",
        "notices_unlisted",
        "cut",
    }
    assert document["status"] == "failed"
    assert document["started"] == "2025-01-01T00:00:01+00:00"
    assert document["finished"] == "2025-01-01T00:00:02+00:00"
    assert document["totals"]["tags"] == {
        "copied": 1,
        "in-sync": 2,
        "skipped": 0,
        "failed": 1,
        "deferred": 0,
        "cancelled": 0,
    }
    assert document["totals"]["blobs"]["mounted"] == {"count": 1, "bytes": 2000}
    assert document["requests"] == {
        "total": 2,
        "registries": {"docker.io": {"manifest-head": 1}, "prod": {"manifest-put": 1}},
    }
    assert document["copied"] == [
        {
            "source": "hub/library/alpine",
            "target": "prod/mirror/alpine",
            "tag": "3.19",
            "digest": str(DIGEST),
            "reason": "",
        }
    ]
    assert document["notices"] == [{"where": "docker.io", "text": "this image is deprecated", "count": 2}]
    assert document["repositories"][0]["entry"] == "base"
    assert document["failures"][1]["entry"] == "other"


def test_running() -> None:
    """A report asked for in the middle says that the run goes on, and does not change afterwards."""
    observer = ReportObserver(now=Now())
    observer.notify(RunStarted(run="r", spec="s", entries=1))
    observer.notify(RepositoryListed(source="s", target="t", listed=5, selected=5))
    observer.notify(tag("1", TagOutcome.COPIED))
    report = observer.report()
    observer.notify(tag("2", TagOutcome.COPIED))
    assert (report.status, report.finished, report.seconds) == (RunStatus.RUNNING, None, 1.0)
    assert (report.totals.finished, len(report.copied), report.unfinished) == (1, 1, 4)
    assert report.repositories[0].totals.finished <= 1
    assert report.to_json()["finished"] is None


def test_memory_is_bounded() -> None:
    """Copies beyond the bound, tags in sync and made-up notices are counted and not kept."""
    events: list[Event] = [tag(str(number), TagOutcome.COPIED) for number in range(25)]
    events += [tag(str(number), TagOutcome.IN_SYNC) for number in range(1000)]
    events += [Notice(where="r", text=f"{number} {'x' * 2000}") for number in range(MAX_NOTICES + 7)]
    report = observe(events)
    assert (len(report.copied), report.copied_unlisted) == (10, 15)
    assert report.totals.tags[TagOutcome.IN_SYNC] == 1000
    assert (len(report.notices), report.notices_unlisted) == (MAX_NOTICES, 7)
    assert all(len(notice.text) == MAX_NOTICE_LENGTH for notice in report.notices)


def test_two_sources_of_one_target() -> None:
    """Blobs and manifests, whose events name the target only, go to the pair that started last."""
    events: list[Event] = [
        RepositoryStarted(entry="e", source="a", target="t"),
        RepositoryListed(source="a", target="t", listed=3, selected=3),
        RepositoryStarted(entry="f", source="b", target="t"),
        RepositoryListed(source="a", target="t", listed=0, selected=1),
        RepositoryListed(source="b", target="t", listed=5, selected=5),
        BlobFinished(target="t", digest=DIGEST, size=9, outcome=BlobOutcome.STREAMED),
    ]
    first, second = observe(events).repositories
    assert (first.source, first.totals.selected) == ("a", 4)
    assert (second.source, second.totals.selected, second.totals.streamed) == ("b", 5, 9)


def test_nothing_was_announced() -> None:
    """A single copy without start and listing is reported all the same."""
    report = observe([ManifestPushed(target="t", digest=DIGEST, size=5, tag="1"), tag("1", TagOutcome.COPIED)])
    assert report.totals.manifests == Volume(count=1, size=5)
    assert report.totals.tags[TagOutcome.COPIED] == 1


def test_what_was_not_asked_for_is_counted() -> None:
    """Tags that are in sync by the state's word are told apart, in the whole and for each repository."""
    report = observe(
        [
            RepositoryStarted(entry="e", source="s", target="t"),
            tag("1", TagOutcome.IN_SYNC, reason="recorded"),
            tag("2", TagOutcome.IN_SYNC, reason="recorded"),
            tag("3", TagOutcome.IN_SYNC, reason="in-sync"),
            tag("4", TagOutcome.COPIED, reason="changed"),
        ]
    )
    assert report.totals.recorded == 2
    document = report.to_json()
    assert document["totals"]["recorded"] == document["repositories"][0]["recorded"] == 2
    assert document["totals"]["tags"]["in-sync"] == 3


def test_canary() -> None:
    """No secret gets into a report, whichever event brings it."""
    error = NotFound(f"https://u:{CANARY}@r/?sig={CANARY}", hint=f"Bearer {CANARY}")
    padding = "x" * (MAX_NOTICE_LENGTH - 10)
    report = observe(
        [
            RunStarted(run="r", spec=f"https://u:{CANARY}@git/spec", entries=1),
            tag("1", TagOutcome.FAILED, error=error),
            tag("2", TagOutcome.COPIED, reason=f"token={CANARY}"),
            RepositoryFinished(entry="e", source="s", target="t", seconds=0, error=error),
            Notice(where="r", text=f"Bearer {CANARY}"),
            Notice(where="r", text=f"{padding} Bearer {CANARY}"),
        ]
    )
    assert CANARY not in json.dumps(report.to_json())
    assert CANARY[:3] not in json.dumps(report.to_json())
