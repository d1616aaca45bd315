"""The observer that accumulates a run's report.

Memory is bounded by repositories, failures and listed copies, never by the tags looked at: a tag in
sync is only counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from syncer.errors import RateLimitReached, RegistryError
from syncer.events import (
    BlobFinished,
    EntryFailed,
    LookCut,
    ManifestPushed,
    Notice,
    RepositoryFinished,
    RepositoryListed,
    RepositoryStarted,
    RequestFinished,
    RetryScheduled,
    RunFinished,
    RunStarted,
    RunStatus,
    TagFinished,
    TagOutcome,
)
from syncer.plan.actions import Reason
from syncer.telemetry.redaction import redact
from syncer.telemetry.report import CopiedTag, Deferral, Failure, Report, ReportNotice, RepositoryReport, Totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncer.errors import SyncerError
    from syncer.events import Event

#: Copied tags that are kept one by one; those beyond are only counted.
MAX_COPIED = 10_000
#: Different notices that are kept: a registry could make up a new one for every answer.
MAX_NOTICES = 200
#: Characters of a notice that are kept.
MAX_NOTICE_LENGTH = 500


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True, slots=True, eq=False)
class _Repository:
    """A repository's line while it is written."""

    entry: str
    source: str
    target: str
    totals: Totals = field(default_factory=Totals)
    seconds: float = 0.0
    error: str = ""


class ReportObserver:
    """Accumulates the report of one run.

    Args:
        now: the time, in UTC; asked when the run starts, when it finishes, and when a registry defers.
        max_copied: how many copied tags are kept one by one.
    """

    def __init__(self, *, now: Callable[[], datetime] = _utc_now, max_copied: int = MAX_COPIED) -> None:
        self._now = now
        self._max_copied = max_copied
        self._started = now()
        self._finished: datetime | None = None
        self._run = self._spec = ""
        self._entries = 0
        self._status = RunStatus.RUNNING
        self._seconds = 0.0
        self._repositories: dict[tuple[str, str, str], _Repository] = {}
        # Blob and manifest events name only the target: where they belong while several sources feed one.
        self._current: dict[str, _Repository] = {}
        self._requests: dict[str, dict[str, int]] = {}
        self._retries: dict[str, int] = {}
        self._copied: list[CopiedTag] = []
        self._copied_count = 0
        self._failures: list[Failure] = []
        self._deferrals: dict[str, Deferral] = {}
        self._notices: dict[tuple[str, str], int] = {}
        self._notices_unlisted = 0
        self._cut_entries = self._cut_repositories = 0
        self._notes: dict[type, Callable[[Any], None]] = {
            RunStarted: self._run_started,
            RunFinished: self._run_finished,
            EntryFailed: self._entry_failed,
            RepositoryStarted: self._repository_started,
            RepositoryListed: self._repository_listed,
            RepositoryFinished: self._repository_finished,
            LookCut: self._look_cut,
            TagFinished: self._tag_finished,
            BlobFinished: self._blob_finished,
            ManifestPushed: self._manifest_pushed,
            RequestFinished: self._request_finished,
            RetryScheduled: self._retry_scheduled,
            Notice: self._notice,
        }

    def notify(self, event: Event) -> None:
        """Take note of ``event``."""
        note = self._notes.get(type(event))
        if note is not None:
            note(event)

    def report(self) -> Report:
        """Return what is known now; ``status`` stays RUNNING until the run has finished."""
        totals = Totals()
        for repository in self._repositories.values():
            totals.add(repository.totals)
        return Report(
            run=self._run,
            spec=self._spec,
            status=self._status,
            started=self._started,
            finished=self._finished,
            seconds=self._seconds or max((self._now() - self._started).total_seconds(), 0.0),
            entries=self._entries,
            totals=totals,
            requests={registry: dict(kinds) for registry, kinds in sorted(self._requests.items())},
            retries=dict(sorted(self._retries.items())),
            repositories=tuple(
                RepositoryReport(
                    entry=repository.entry,
                    source=repository.source,
                    target=repository.target,
                    totals=_copy(repository.totals),
                    seconds=repository.seconds,
                    error=repository.error,
                )
                for repository in self._repositories.values()
            ),
            copied=tuple(self._copied),
            copied_unlisted=self._copied_count - len(self._copied),
            failures=tuple(self._failures),
            deferrals=tuple(self._deferrals.values()),
            notices=tuple(
                ReportNotice(where=where, text=text, count=count) for (where, text), count in self._notices.items()
            ),
            notices_unlisted=self._notices_unlisted,
            cut_entries=self._cut_entries,
            cut_repositories=self._cut_repositories,
        )

    def _at(self, entry: str, source: str, target: str) -> _Repository:
        key = (entry, source, target)
        repository = self._repositories.get(key)
        if repository is None:
            repository = self._repositories[key] = _Repository(entry=entry, source=source, target=target)
        return repository

    def _to(self, target: str) -> _Repository:
        return self._current.get(target) or self._find("", target)

    def _find(self, source: str, target: str) -> _Repository:
        """Return the line of a pair whose entry an event does not name."""
        for repository in reversed(self._repositories.values()):
            if repository.target == target and source in ("", repository.source):
                break
        else:
            repository = self._at("", source, target)
        self._current[target] = repository
        return repository

    def _run_started(self, event: RunStarted) -> None:
        self._run, self._spec, self._entries = event.run, redact(event.spec), event.entries
        self._started = self._now()

    def _run_finished(self, event: RunFinished) -> None:
        self._run = event.run
        self._status = event.status
        self._seconds = event.seconds
        self._finished = self._now()

    def _entry_failed(self, event: EntryFailed) -> None:
        if event.error.is_deferral:
            self._defer(event.error, others=1)
        else:
            self._fail(event.error, entry=event.entry)

    def _repository_started(self, event: RepositoryStarted) -> None:
        self._current[event.target] = self._at(event.entry, event.source, event.target)

    def _repository_listed(self, event: RepositoryListed) -> None:
        repository = self._current.get(event.target)
        if repository is None or repository.source != event.source:
            repository = self._find(event.source, event.target)
        repository.totals.listed += event.listed
        repository.totals.selected += event.selected

    def _repository_finished(self, event: RepositoryFinished) -> None:
        repository = self._at(event.entry, event.source, event.target)
        repository.seconds += event.seconds
        if event.error is not None and event.error.is_deferral:
            self._defer(event.error, others=1)
        elif event.error is not None:
            repository.error = redact(event.error.message)
            self._fail(event.error, entry=event.entry, source=event.source, target=event.target)

    def _look_cut(self, event: LookCut) -> None:
        if event.target:
            self._cut_repositories += 1
        else:
            self._cut_entries += 1

    def _tag_finished(self, event: TagFinished) -> None:
        totals = self._at(event.entry, event.source, event.target).totals
        totals.tags[event.outcome] += 1
        totals.referrers += event.referrers
        if event.reason == Reason.RECORDED:
            totals.recorded += 1
        if event.outcome is TagOutcome.DEFERRED and event.error is not None:
            self._defer(event.error, tags=1)
        elif event.outcome is TagOutcome.FAILED:
            self._fail(
                event.error,
                entry=event.entry,
                source=event.source,
                target=event.target,
                tag=event.tag,
                reason=event.reason,
            )
        elif event.outcome is TagOutcome.COPIED:
            self._copied_count += 1
            if len(self._copied) < self._max_copied:
                self._copied.append(
                    CopiedTag(
                        source=event.source,
                        target=event.target,
                        tag=event.tag,
                        digest=str(event.digest or ""),
                        reason=redact(event.reason),
                    )
                )

    def _defer(self, error: SyncerError, *, tags: int = 0, others: int = 0) -> None:
        registry = error.registry if isinstance(error, RegistryError) else ""
        known = self._deferrals.get(registry)
        if known is None:
            resets_in = error.resets_in if isinstance(error, RateLimitReached) else None
            known = Deferral(
                registry=registry,
                until=None if resets_in is None else self._now() + timedelta(seconds=resets_in),
                message=redact(error.message),
                hint=redact(error.hint),
            )
        self._deferrals[registry] = replace(known, tags=known.tags + tags, others=known.others + others)

    def _fail(
        self,
        error: SyncerError | None,
        *,
        entry: str,
        source: str = "",
        target: str = "",
        tag: str = "",
        reason: str = "",
    ) -> None:
        self._failures.append(
            Failure(
                entry=entry,
                source=source,
                target=target,
                tag=tag,
                error=type(error).__name__ if error is not None else "",
                message=redact(error.message if error is not None else reason),
                hint=redact(error.hint) if error is not None else "",
                side=error.side.value if error is not None and error.side is not None else "",
                retryable=error is not None and error.retryable,
            )
        )

    def _blob_finished(self, event: BlobFinished) -> None:
        self._to(event.target).totals.blobs[event.outcome].add(event.size)

    def _manifest_pushed(self, event: ManifestPushed) -> None:
        self._to(event.target).totals.manifests.add(event.size)

    def _request_finished(self, event: RequestFinished) -> None:
        kinds = self._requests.get(event.registry)
        if kinds is None:
            kinds = self._requests[event.registry] = {}
        kind = event.kind.value
        kinds[kind] = kinds.get(kind, 0) + 1

    def _retry_scheduled(self, event: RetryScheduled) -> None:
        self._retries[event.registry] = self._retries.get(event.registry, 0) + 1

    def _notice(self, event: Notice) -> None:
        # Cut only after what must not be seen has been found: half a token is no longer known by its shape.
        key = (redact(event.where), redact(event.text[: 8 * MAX_NOTICE_LENGTH])[:MAX_NOTICE_LENGTH])
        if key in self._notices or len(self._notices) < MAX_NOTICES:
            self._notices[key] = self._notices.get(key, 0) + 1
        else:
            self._notices_unlisted += 1


def _copy(totals: Totals) -> Totals:
    copy = Totals()
    copy.add(totals)
    return copy
