"""Counts folded from events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer.content import BlobOutcome
from syncer.errors import NotFound, RateLimitReached
from syncer.events import (
    BlobFinished,
    BlobProgress,
    BlobStarted,
    EntryFailed,
    RepositoryFinished,
    RepositoryListed,
    RepositoryStarted,
    TagFinished,
    TagOutcome,
)
from syncer.oci import Digest
from syncer.telemetry.tally import Pace, Progress, Tally

if TYPE_CHECKING:
    from syncer.events import Event

BLOB = Digest.of(b"blob")
SOURCE = "hub/a"
TARGET = "prod/a"


def started(tally: Tally, size: int = 100) -> None:
    """Begin a repository and a blob in it."""
    tally.notify(RepositoryStarted(entry="e", source=SOURCE, target=TARGET))
    tally.notify(BlobStarted(source=SOURCE, target=TARGET, digest=BLOB, size=size))


def finished(tally: Tally, error: NotFound | None = None) -> None:
    """End the repository."""
    tally.notify(RepositoryFinished(entry="e", source=SOURCE, target=TARGET, seconds=1, error=error))


def test_tags_that_are_done_before_they_are_announced() -> None:
    """A list is announced at its end, and its first tags may be done by then: they are not counted twice."""
    tally = Tally()
    tally.notify(RepositoryStarted(entry="e", source=SOURCE, target=TARGET))
    for tag in ("a", "b"):
        tally.notify(TagFinished(entry="e", source=SOURCE, target=TARGET, tag=tag, outcome=TagOutcome.IN_SYNC))
    assert (tally.total.tags_done, tally.total.tags_known) == (2, 2)
    tally.notify(RepositoryListed(source=SOURCE, target=TARGET, listed=9, selected=5))
    assert (tally.total.tags_done, tally.total.tags_known) == (2, 5)
    assert tally.active[TARGET].progress.tags_known == 5


def test_whole_run(run: list[Event]) -> None:
    """After a run everything known is done, only streamed bytes were moved, and nothing is active."""
    tally = Tally()
    for event in run:
        tally.notify(event)
    assert tally.total == Progress(
        tags_known=4,
        tags_done=4,
        blobs_known=3,
        blobs_done=3,
        bytes_known=8000,
        bytes_done=8000,
        bytes_moved=1000,
        failed=2,
    )
    assert tally.active == {}
    assert (tally.repositories_started, tally.repositories_finished) == (2, 2)


def test_bytes_grow_with_progress() -> None:
    """Bytes in flight count as done and moved while they pass, for the run and for the repository."""
    tally = Tally()
    started(tally)
    tally.notify(BlobProgress(target=TARGET, digest=BLOB, count=30))
    for progress in (tally.total, tally.active[TARGET].progress):
        assert (progress.bytes_done, progress.bytes_moved, progress.bytes_known) == (30, 30, 100)
        assert progress.blobs_done == 0


def test_upload_that_starts_over() -> None:
    """Bytes that are taken back are not counted twice, and a second attempt is not a second blob."""
    tally = Tally()
    started(tally)
    tally.notify(BlobProgress(target=TARGET, digest=BLOB, count=60))
    tally.notify(BlobProgress(target=TARGET, digest=BLOB, count=-60))
    tally.notify(BlobProgress(target=TARGET, digest=BLOB, count=40))
    tally.notify(BlobStarted(source=SOURCE, target=TARGET, digest=BLOB, size=100))
    tally.notify(BlobProgress(target=TARGET, digest=BLOB, count=100))
    tally.notify(BlobFinished(target=TARGET, digest=BLOB, size=100, outcome=BlobOutcome.STREAMED))
    assert tally.total == Progress(blobs_known=1, blobs_done=1, bytes_known=100, bytes_done=100, bytes_moved=100)


def test_failed_blob_leaves_the_total() -> None:
    """What a finished repository could not move is not waited for."""
    tally = Tally()
    started(tally)
    tally.notify(BlobProgress(target=TARGET, digest=BLOB, count=30))
    finished(tally)
    assert (tally.total.bytes_known, tally.total.bytes_done, tally.total.blobs_known) == (0, 0, 0)
    tally.notify(BlobProgress(target=TARGET, digest=BLOB, count=5))
    assert tally.active == {}


def test_progress_of_an_unknown_blob() -> None:
    """Bytes of a blob that was never announced change nothing."""
    tally = Tally()
    started(tally)
    tally.notify(BlobProgress(target=TARGET, digest=Digest.of(b"other"), count=30))
    assert tally.total.bytes_done == 0


def test_two_entries_with_one_target() -> None:
    """A target that two entries write to is active until both are done."""
    tally = Tally()
    started(tally)
    tally.notify(RepositoryStarted(entry="f", source="hub/b", target=TARGET))
    finished(tally)
    assert TARGET in tally.active
    finished(tally)
    assert TARGET not in tally.active


def test_repository_that_failed() -> None:
    """A repository that could not be listed counts as one failure."""
    tally = Tally()
    started(tally)
    finished(tally, NotFound("no such repository"))
    assert tally.total.failed == 1


def test_deferrals_are_no_failures() -> None:
    """Tags, repositories and entries that a registry defers are done with, and nothing failed."""
    tally = Tally()
    error = RateLimitReached(registry="docker.io")
    started(tally)
    outcome = TagOutcome.of(error)
    tally.notify(TagFinished(entry="e", source=SOURCE, target=TARGET, tag="v", outcome=outcome, error=error))
    tally.notify(RepositoryFinished(entry="e", source=SOURCE, target=TARGET, seconds=1.0, error=error))
    tally.notify(EntryFailed(entry="f", error=error))
    assert (tally.total.failed, tally.total.tags_done) == (0, 1)


def test_single_copy() -> None:
    """Tags and blobs that nobody announced are known as soon as they are done."""
    tally = Tally()
    tally.notify(BlobFinished(target=TARGET, digest=BLOB, size=7, outcome=BlobOutcome.PRESENT))
    tally.notify(TagFinished(entry="", source=SOURCE, target=TARGET, tag="1", outcome=TagOutcome.COPIED))
    tally.notify(RepositoryFinished(entry="", source=SOURCE, target=TARGET, seconds=0))
    assert tally.total == Progress(tags_known=1, tags_done=1, blobs_known=1, blobs_done=1, bytes_known=7, bytes_done=7)
    assert tally.active == {}


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (Progress(), 0.0),
        (Progress(tags_known=4, tags_done=1), 0.25),
        (Progress(tags_known=4, tags_done=1, bytes_known=100, bytes_done=75), 0.5),
        (Progress(bytes_known=100, bytes_done=-5), 0.0),
    ],
)
def test_fraction(progress: Progress, expected: float) -> None:
    """What is done is the mean of what is known of tags and bytes."""
    assert progress.fraction == expected


def test_pace() -> None:
    """The first two samples give a rate, later ones change it gently, and it never goes below nothing."""
    pace = Pace(memory=10)
    assert pace.sample(0, 0) == 0
    assert pace.sample(10, 1000) == 100
    assert pace.sample(10, 5000) == 100
    slower = pace.sample(20, 1000)
    assert 30 < slower < 50
    assert pace.sample(30, 0) > 0


def test_remaining() -> None:
    """The time to go is the later of what bytes and tags say, and unknown when neither says anything."""
    pace = Pace()
    assert pace.remaining(Progress(tags_known=5)) is None
    pace.sample(0, 0)
    pace.sample(10, 1000)
    assert pace.remaining(Progress(bytes_known=3000, bytes_done=1000)) == 20
    assert pace.remaining(Progress(bytes_known=3000, bytes_done=1000, tags_known=11, tags_done=1)) == 100
    assert pace.remaining(Progress(bytes_known=1000, bytes_done=1000, tags_known=5, tags_done=5)) is None
