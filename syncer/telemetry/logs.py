"""Log lines: structlog set up for people or for machines, and the observer that writes a run's events.

A line has a dotted name and typed fields, and no prose: ``sync.tag_copied source=… target=… tag=…``.
Every line passes the redaction, those of other libraries through the standard logging too.

structlog is imported by the first line that is written. Measured on the machine Syncer was written on:
8 ms of its own after aiohttp, and 30 more for rich, which it takes in when it can be imported; rich is
paid for already where progress bars are shown.
"""

from __future__ import annotations

import logging
import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from syncer import events
from syncer.events import RunStatus, TagOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from typing import TextIO

    from syncer.errors import SyncerError


class LogLevel(StrEnum):
    """From which level on lines are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def number(self) -> int:
        """The level's number in the standard logging."""
        return logging.getLevelNamesMapping()[self.upper()]


class Logger(Protocol):
    """What :class:`LogObserver` asks of a logger; structlog's fulfil it."""

    def log(self, level: int, event: str, /, **fields: Any) -> Any:
        """Write one line."""
        ...


class LogStream:
    """Where lines go: ``stream``, or whatever is standard error at that moment.

    rich replaces standard error while bars are on the screen, so that lines appear above them; and a
    reader of the log that has gone away must not stop a sync, so lines that cannot be written are dropped.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``, if that is possible."""
        stream = self._stream or sys.stderr
        try:
            return stream.write(text)
        except (OSError, ValueError):
            return 0

    def flush(self) -> None:
        """Flush, if that is possible."""
        try:
            (self._stream or sys.stderr).flush()
        except (OSError, ValueError):
            return

    def isatty(self) -> bool:
        """Tell whether a person is likely to look at it."""
        try:
            return (self._stream or sys.stderr).isatty()
        except ValueError:
            return False


class _ForeignLines(logging.StreamHandler[LogStream]):
    """The standard logging's way into our lines; a type of its own, so that setting up twice replaces it."""


def configure_logging(
    *,
    json: bool = False,
    level: LogLevel = LogLevel.INFO,
    stream: TextIO | None = None,
    colors: bool | None = None,
) -> Logger:
    """Set structlog and the standard logging up, and return a logger.

    Args:
        json: one JSON object per line, for machines, instead of the console's format.
        level: lines below it are not written. Other libraries are heard from warning on, or from
            ``level`` where that is higher.
        stream: where lines go; standard error when not given.
        colors: None to use them on a terminal, unless NO_COLOR is set.
    """
    import structlog  # noqa: PLC0415 - 40 ms that a run without a log line does not spend
    from structlog import dev, processors, stdlib  # noqa: PLC0415 - same

    from syncer.telemetry.redaction import redact_event  # noqa: PLC0415 - same

    lines = LogStream(stream)
    if colors is None:
        colors = lines.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    first: list[Any] = [processors.add_log_level, processors.TimeStamper(fmt="iso", utc=True)]
    last: list[Any] = [processors.format_exc_info, redact_event]
    if json:
        last.append(processors.JSONRenderer(ensure_ascii=False))
    else:
        renderer = dev.ConsoleRenderer(colors=colors, exception_formatter=dev.plain_traceback, pad_event_to=0)
        last += [printable_event, renderer]
    structlog.configure(
        processors=[*first, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level.number),
        logger_factory=structlog.WriteLoggerFactory(lines),  # type: ignore[arg-type]  # it writes and flushes; no more is used
        cache_logger_on_first_use=False,
    )
    handler = _ForeignLines(lines)
    handler.setFormatter(
        stdlib.ProcessorFormatter(
            foreign_pre_chain=[*first, stdlib.add_logger_name],
            processors=[stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    for former in [known for known in root.handlers if isinstance(known, _ForeignLines)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(max(level.number, logging.WARNING))
    logger: Logger = structlog.get_logger()
    return logger


def printable_event(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters of a line for a terminal; a traceback keeps its lines."""
    from syncer.telemetry.redaction import printable  # noqa: PLC0415 - nobody is here without a line

    for name, value in fields.items():
        if isinstance(value, str) and name not in ("exception", "stack"):
            fields[name] = printable(value)
    return fields


class LogObserver:
    """Writes a run's events as log lines.

    Failures are errors; retries, notices and interruptions warnings; runs, copied tags, and what was not reached
    information; and the rest, down to each request, is for debugging. Events of levels that are not written cost one
    look-up.

    Args:
        open_logger: gives the logger when the first line is due, so that a run without lines does not
            pay for it: ``lambda: configure_logging(...)``.
        level: the level the logger was set up with.
    """

    def __init__(self, open_logger: Callable[[], Logger], *, level: LogLevel = LogLevel.INFO) -> None:
        self._open = open_logger
        self._logger: Logger | None = None
        self._level = level.number
        self._run: dict[str, str] = {}
        writers: dict[type, tuple[int, Callable[[Any], None]]] = {
            events.RunStarted: (logging.INFO, self._run_started),
            events.RunFinished: (logging.ERROR, self._run_finished),
            events.EntryFailed: (logging.ERROR, self._entry_failed),
            events.RepositoryStarted: (logging.DEBUG, self._repository_started),
            events.RepositoryListed: (logging.DEBUG, self._repository_listed),
            events.RepositoryFinished: (logging.ERROR, self._repository_finished),
            events.LookCut: (logging.INFO, self._look_cut),
            events.TagFinished: (logging.ERROR, self._tag_finished),
            events.BlobStarted: (logging.DEBUG, self._blob_started),
            events.BlobFinished: (logging.DEBUG, self._blob_finished),
            events.ManifestPushed: (logging.DEBUG, self._manifest_pushed),
            events.RequestFinished: (logging.DEBUG, self._request_finished),
            events.RetryScheduled: (logging.WARNING, self._retry_scheduled),
            events.Notice: (logging.WARNING, self._notice),
        }
        self._writers = {kind: write for kind, (highest, write) in writers.items() if highest >= self._level}

    def notify(self, event: events.Event) -> None:
        """Write ``event``, if its level is written."""
        write = self._writers.get(type(event))
        if write is not None:
            write(event)

    def _write(self, level: int, name: str, **fields: Any) -> None:
        if level < self._level:
            return
        if self._logger is None:
            try:
                self._logger = self._open()
            except OSError:
                # No file can be opened now, not even that of an import. A later line may fare better.
                return
        self._logger.log(level, name, **fields, **self._run)

    def _run_started(self, event: events.RunStarted) -> None:
        self._run = {"run": event.run}
        self._write(logging.INFO, "sync.run_started", spec=event.spec, entries=event.entries)

    def _run_finished(self, event: events.RunFinished) -> None:
        level = {RunStatus.FAILED: logging.ERROR, RunStatus.INTERRUPTED: logging.WARNING}
        self._write(
            level.get(event.status, logging.INFO),
            "sync.run_finished",
            status=event.status.value,
            seconds=round(event.seconds, 3),
        )

    def _entry_failed(self, event: events.EntryFailed) -> None:
        self._write(logging.ERROR, "sync.entry_failed", entry=event.entry, **_failure(event.error))

    def _repository_started(self, event: events.RepositoryStarted) -> None:
        self._write(
            logging.DEBUG, "sync.repository_started", entry=event.entry, source=event.source, target=event.target
        )

    def _repository_listed(self, event: events.RepositoryListed) -> None:
        self._write(
            logging.DEBUG,
            "sync.repository_listed",
            source=event.source,
            target=event.target,
            listed=event.listed,
            selected=event.selected,
        )

    def _repository_finished(self, event: events.RepositoryFinished) -> None:
        self._write(
            logging.DEBUG if event.error is None else logging.ERROR,
            "sync.repository_finished" if event.error is None else "sync.repository_failed",
            entry=event.entry,
            source=event.source,
            target=event.target,
            seconds=round(event.seconds, 3),
            **_failure(event.error),
        )

    def _look_cut(self, event: events.LookCut) -> None:
        place = {"source": event.source, "target": event.target} if event.target else {}
        name = "sync.repository_cut" if event.target else "sync.entry_cut"
        self._write(logging.INFO, name, entry=event.entry, **place)

    def _tag_finished(self, event: events.TagFinished) -> None:
        level = _TAG_LEVELS[event.outcome]
        if level < self._level:
            return
        fields: dict[str, Any] = {"source": event.source, "target": event.target, "tag": event.tag}
        if event.digest is not None:
            fields["digest"] = str(event.digest)
        if event.reason:
            fields["reason"] = event.reason
        if event.referrers:
            fields["referrers"] = event.referrers
        name = f"sync.tag_{event.outcome.value.replace('-', '_')}"
        self._write(level, name, **fields, seconds=round(event.seconds, 3), **_failure(event.error))

    def _blob_started(self, event: events.BlobStarted) -> None:
        self._write(
            logging.DEBUG,
            "sync.blob_started",
            source=event.source,
            target=event.target,
            digest=str(event.digest),
            size=event.size,
        )

    def _blob_finished(self, event: events.BlobFinished) -> None:
        self._write(
            logging.DEBUG,
            f"sync.blob_{event.outcome.value}",
            target=event.target,
            digest=str(event.digest),
            size=event.size,
        )

    def _manifest_pushed(self, event: events.ManifestPushed) -> None:
        self._write(
            logging.DEBUG,
            "sync.manifest_pushed",
            target=event.target,
            digest=str(event.digest),
            size=event.size,
            tag=event.tag,
        )

    def _request_finished(self, event: events.RequestFinished) -> None:
        self._write(
            logging.DEBUG,
            "registry.request_finished",
            registry=event.registry,
            kind=event.kind.value,
            method=event.method,
            status=event.status,
            seconds=round(event.seconds, 4),
        )

    def _retry_scheduled(self, event: events.RetryScheduled) -> None:
        self._write(
            logging.WARNING,
            "registry.retry_scheduled",
            registry=event.registry,
            kind=event.kind.value,
            attempt=event.attempt,
            delay=round(event.delay, 3),
            reason=event.reason,
        )

    def _notice(self, event: events.Notice) -> None:
        self._write(logging.WARNING, "sync.notice", where=event.where, text=event.text)


_TAG_LEVELS = {
    TagOutcome.COPIED: logging.INFO,
    TagOutcome.IN_SYNC: logging.DEBUG,
    TagOutcome.SKIPPED: logging.DEBUG,
    TagOutcome.FAILED: logging.ERROR,
    TagOutcome.DEFERRED: logging.WARNING,
    TagOutcome.CANCELLED: logging.WARNING,
}


def _failure(error: SyncerError | None) -> dict[str, Any]:
    if error is None:
        return {}
    fields: dict[str, Any] = {"error": error.message, "error_type": type(error).__name__}
    if error.hint:
        fields["hint"] = error.hint
    if error.side is not None:
        fields["side"] = error.side.value
    return fields
