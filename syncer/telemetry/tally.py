"""The counts of a run, folded from its events as they come.

A :class:`Tally` is what progress bars and heartbeats show. To note an event is a look-up and a few
additions, without a lock and without an allocation that grows with the run: what is kept is bounded
by the repositories and blobs in work. It knows no clock; a :class:`Pace` adds the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncer.content import BlobOutcome
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncer.events import Event
    from syncer.oci.digest import Digest


@dataclass(kw_only=True, slots=True, eq=False)
class Transfer:
    """A blob in work: its size, and the bytes passed on so far."""

    size: int
    sent: int = 0


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far something is: a repository, or the whole run. Bytes are those of blobs."""

    tags_known: int = 0
    #: Of those, the ones that were announced by a list.
    tags_listed: int = field(default=0, compare=False)
    tags_done: int = 0
    blobs_known: int = 0
    blobs_done: int = 0
    bytes_known: int = 0
    bytes_done: int = 0
    bytes_moved: int = 0
    failed: int = 0

    @property
    def fraction(self) -> float:
        """How much is done, from 0 to 1: the mean of tags and bytes, where both are known.

        Tags alone stand still during a large image, and bytes alone go back whenever more are found.
        """
        shares = [
            min(max(done / known, 0.0), 1.0)
            for done, known in ((self.tags_done, self.tags_known), (self.bytes_done, self.bytes_known))
            if known > 0
        ]
        return sum(shares) / len(shares) if shares else 0.0


@dataclass(kw_only=True, slots=True, eq=False)
class ActiveRepository:
    """A target repository in work. ``tasks`` counts the entries of the spec that write to it now."""

    name: str
    tasks: int = 0
    progress: Progress = field(default_factory=Progress)
    transfers: dict[Digest, Transfer] = field(default_factory=dict)


class Tally:
    """Folds events into the progress of the run and of every repository in work.

    ``total.bytes_known`` grows as blobs are found. Blobs that were present or mounted count as done,
    but not as moved: they say nothing about the speed.
    """

    def __init__(self) -> None:
        self.total = Progress()
        self.active: dict[str, ActiveRepository] = {}
        self.repositories_started = 0
        self.repositories_finished = 0
        self._notes: dict[type, Callable[[Any], None]] = {
            RepositoryStarted: self._repository_started,
            RepositoryListed: self._repository_listed,
            RepositoryFinished: self._repository_finished,
            TagFinished: self._tag_finished,
            BlobStarted: self._blob_started,
            BlobProgress: self._blob_progress,
            BlobFinished: self._blob_finished,
            EntryFailed: self._entry_failed,
        }

    def notify(self, event: Event) -> None:
        """Take note of ``event``; the kinds that change no count are ignored."""
        note = self._notes.get(type(event))
        if note is not None:
            note(event)

    def _at(self, target: str) -> ActiveRepository:
        repository = self.active.get(target)
        if repository is None:
            repository = self.active[target] = ActiveRepository(name=target)
        return repository

    def _both(self, target: str) -> tuple[Progress, ...]:
        repository = self.active.get(target)
        return (self.total,) if repository is None else (self.total, repository.progress)

    def _repository_started(self, event: RepositoryStarted) -> None:
        self.repositories_started += 1
        self._at(event.target).tasks += 1

    def _repository_listed(self, event: RepositoryListed) -> None:
        for progress in (self.total, self._at(event.target).progress):
            progress.tags_listed += event.selected
            # Some may be done already: a list is announced at its end.
            progress.tags_known = max(progress.tags_listed, progress.tags_done)

    def _repository_finished(self, event: RepositoryFinished) -> None:
        self.repositories_finished += 1
        if event.error is not None and not event.error.is_deferral:
            self.total.failed += 1
        repository = self.active.get(event.target)
        if repository is None:
            return
        repository.tasks -= 1
        if repository.tasks > 0:
            return
        del self.active[event.target]
        for transfer in repository.transfers.values():
            # These failed: nothing else will be heard of them, and a total that waits for them never fills.
            self.total.blobs_known -= 1
            self.total.bytes_known -= transfer.size
            self.total.bytes_done -= transfer.sent

    def _entry_failed(self, event: EntryFailed) -> None:
        if not event.error.is_deferral:
            self.total.failed += 1

    def _tag_finished(self, event: TagFinished) -> None:
        for progress in self._both(event.target):
            progress.tags_done += 1
            # A tag that nobody announced (a single copy has no listing) was still one to do.
            progress.tags_known = max(progress.tags_known, progress.tags_done)
            if event.outcome is TagOutcome.FAILED:
                progress.failed += 1

    def _blob_started(self, event: BlobStarted) -> None:
        repository = self._at(event.target)
        transfer = repository.transfers.get(event.digest)
        if transfer is not None:
            # A second attempt: the blob is known already, what was sent before is sent again.
            self._move(repository, -transfer.sent)
            transfer.sent = 0
            return
        repository.transfers[event.digest] = Transfer(size=event.size)
        for progress in (self.total, repository.progress):
            progress.blobs_known += 1
            progress.bytes_known += event.size

    def _blob_progress(self, event: BlobProgress) -> None:
        repository = self.active.get(event.target)
        if repository is None:
            return
        transfer = repository.transfers.get(event.digest)
        if transfer is not None:
            transfer.sent += event.count
            self._move(repository, event.count)

    def _move(self, repository: ActiveRepository, count: int) -> None:
        total, own = self.total, repository.progress
        total.bytes_done += count
        total.bytes_moved += count
        own.bytes_done += count
        own.bytes_moved += count

    def _blob_finished(self, event: BlobFinished) -> None:
        repository = self.active.get(event.target)
        transfer = repository.transfers.pop(event.digest, None) if repository is not None else None
        sent = transfer.sent if transfer is not None else 0
        for progress in self._both(event.target):
            if transfer is None:
                progress.blobs_known += 1
                progress.bytes_known += event.size
            progress.blobs_done += 1
            progress.bytes_done += event.size - sent
            if event.outcome is BlobOutcome.STREAMED:
                progress.bytes_moved += event.size - sent


class Pace:
    """The speed of something, smoothed, and how long it will take.

    Args:
        memory: seconds after which a sample has lost two thirds of its weight.
    """

    __slots__ = ("_last", "_memory", "_moved", "_start", "rate")

    def __init__(self, *, memory: float = 5.0) -> None:
        self.rate = 0.0
        self._memory = memory
        self._start: float | None = None
        self._last = 0.0
        self._moved = 0

    def sample(self, now: float, moved: int) -> float:
        """Note that ``moved`` bytes had been moved at ``now`` (seconds of any steady clock).

        Returns:
            The rate in bytes per second; 0 until there are two samples.
        """
        if self._start is None:
            self._start, self._last, self._moved = now, now, moved
            return 0.0
        elapsed = now - self._last
        if elapsed <= 0:
            return self.rate
        # An upload that starts over takes bytes back; the speed of that moment is nothing, not negative.
        current = max(moved - self._moved, 0) / elapsed
        first = self._last == self._start
        weight = 1.0 if first else 1.0 - math.exp(-elapsed / self._memory)
        self.rate += weight * (current - self.rate)
        self._last, self._moved = now, moved
        return self.rate

    def remaining(self, progress: Progress) -> float | None:
        """Return the seconds until ``progress`` is complete, None when nothing tells.

        The later of two estimates: the known bytes at the present rate, and the tags at the average
        pace so far. The first alone is too good while blobs are still being found.
        """
        estimates = []
        if (left := progress.bytes_known - progress.bytes_done) > 0 and self.rate > 0:
            estimates.append(left / self.rate)
        if self._start is not None and progress.tags_done and (elapsed := self._last - self._start) > 0:
            estimates.append((progress.tags_known - progress.tags_done) * elapsed / progress.tags_done)
        longest = max(estimates, default=0.0)
        return longest if longest > 0 else None
