"""Log lines, for people and for machines."""

from __future__ import annotations

import json
import logging
import sys
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from syncer.errors import NotFound
from syncer.events import BlobProgress, BlobStarted, Notice, RunFinished, RunStarted, RunStatus, TagFinished, TagOutcome
from syncer.oci import Digest
from syncer.telemetry.logs import LogLevel, LogObserver, LogStream, configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syncer.events import Event
    from syncer.telemetry.logs import Logger

CANARY = "s3cr3t-C4n4ry"
DIGEST = Digest.of(b"manifest")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Give the next test the logging it had before."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def written(events: list[Event], level: LogLevel) -> list[dict[str, Any]]:
    """Return the JSON lines of ``events``."""
    stream = StringIO()
    observer = LogObserver(lambda: configure_logging(json=True, level=level, stream=stream), level=level)
    for event in events:
        observer.notify(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_default_level(run: list[Event]) -> None:
    """At the level of information a run shows its start and end, copied tags, retries, notices and failures."""
    assert [(line["level"], line["event"]) for line in written(run, LogLevel.INFO)] == [
        ("info", "sync.run_started"),
        ("warning", "registry.retry_scheduled"),
        ("info", "sync.tag_copied"),
        ("error", "sync.tag_failed"),
        ("error", "sync.entry_failed"),
        ("warning", "sync.notice"),
        ("warning", "sync.notice"),
        ("error", "sync.run_finished"),
    ]


def test_debug_level(run: list[Event]) -> None:
    """For debugging every event has its line, but for the progress of blobs."""
    lines = written(run, LogLevel.DEBUG)
    progress = sum(isinstance(event, BlobProgress) for event in run)
    assert len(lines) == len(run) - progress
    assert {line["event"] for line in lines} >= {
        "sync.repository_started",
        "sync.repository_listed",
        "sync.repository_finished",
        "sync.tag_in_sync",
        "sync.blob_started",
        "sync.blob_streamed",
        "sync.blob_mounted",
        "sync.blob_present",
        "sync.manifest_pushed",
        "registry.request_finished",
    }


def test_error_level(run: list[Event]) -> None:
    """At the level of errors only failures have lines."""
    assert {line["event"] for line in written(run, LogLevel.ERROR)} == {
        "sync.tag_failed",
        "sync.entry_failed",
        "sync.run_finished",
    }


def test_fields_keep_their_types(run: list[Event]) -> None:
    """A machine finds numbers as numbers, UTC time in ISO 8601, the run's id, and the error with its hint."""
    lines = {line["event"]: line for line in written(run, LogLevel.DEBUG)}
    assert lines["sync.blob_streamed"]["size"] == 1000
    assert lines["sync.tag_copied"]["digest"] == str(DIGEST)
    assert lines["sync.tag_copied"]["referrers"] == 2
    assert lines["sync.tag_copied"]["timestamp"].endswith("Z")
    assert {line["run"] for line in lines.values()} == {"r1"}
    failed = lines["sync.tag_failed"]
    assert (failed["error_type"], failed["error"]) == ("Denied", "no push to mirror/alpine")
    assert (failed["hint"], failed["side"]) == ("Ask for push rights.", "target")


@pytest.mark.parametrize(
    ("status", "level"),
    [(RunStatus.DONE, "info"), (RunStatus.INTERRUPTED, "warning"), (RunStatus.FAILED, "error")],
)
def test_level_of_the_end(status: RunStatus, level: str) -> None:
    """A run ends at the level of what became of it."""
    (line,) = written([RunFinished(run="r", status=status, seconds=1)], LogLevel.DEBUG)
    assert line["level"] == level


def test_logger_is_opened_by_the_first_line() -> None:
    """As long as there is nothing to write nothing is set up: structlog's import is not free."""
    opened = []

    def open_logger() -> Logger:
        opened.append(1)
        return configure_logging(level=LogLevel.WARNING, stream=StringIO())

    observer = LogObserver(open_logger, level=LogLevel.WARNING)
    observer.notify(RunStarted(run="r", spec="s", entries=1))
    observer.notify(BlobStarted(source="s", target="t", digest=DIGEST, size=1))
    assert not opened
    observer.notify(Notice(where="w", text="t"))
    observer.notify(Notice(where="w", text="t"))
    assert opened == [1]


@pytest.mark.parametrize("as_json", [True, False])
def test_canary(*, as_json: bool) -> None:
    """A secret that comes in any field of any event, or through another library, is not written."""
    stream = StringIO()
    logger = configure_logging(json=as_json, level=LogLevel.DEBUG, stream=stream)
    observer = LogObserver(lambda: logger, level=LogLevel.DEBUG)
    error = NotFound(f"GET https://u:{CANARY}@r/v2/?sig={CANARY} failed", hint=f"Authorization: Bearer {CANARY}")
    failed = TagFinished(entry="e", source="s", target="t", tag="1", outcome=TagOutcome.FAILED, error=error)
    observer.notify(RunStarted(run="r", spec=f"https://u:{CANARY}@git/spec.yaml", entries=1))
    observer.notify(failed)
    observer.notify(Notice(where="r", text=f'{{"token": "{CANARY}"}}'))
    logger.log(logging.INFO, "x.y", password=CANARY)
    logging.getLogger("aiohttp.server").error("request with Authorization: Basic %s", CANARY)
    try:
        raise ValueError(f"token={CANARY}")  # noqa: TRY301 - a traceback is what is tested
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    text = stream.getvalue()
    assert CANARY not in text
    assert text.count("***") >= 8
    assert "ValueError: token=***" in text


def test_console_for_people() -> None:
    """On the console a line has its name and fields, without colours where there is no terminal."""
    stream = StringIO()
    logger = configure_logging(stream=stream)
    LogObserver(lambda: logger).notify(
        TagFinished(entry="e", source="hub/a", target="prod/a", tag="1", outcome=TagOutcome.COPIED, digest=DIGEST)
    )
    line = stream.getvalue()
    assert "sync.tag_copied" in line
    assert f"digest={DIGEST}" in line
    assert "target=prod/a" in line
    assert "\x1b" not in line


def test_console_cannot_be_hijacked() -> None:
    """What a registry says cannot send escape sequences to the terminal, nor forge a line."""
    stream = StringIO()
    logger = configure_logging(stream=stream)
    LogObserver(lambda: logger).notify(Notice(where="r", text="bad\x1b]0;owned\x07\nsync.run_finished status=done"))
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert "\x07" not in line


def test_colors() -> None:
    """Colours are used when asked for."""
    stream = StringIO()
    configure_logging(stream=stream, colors=True).log(logging.INFO, "x.y")
    assert "\x1b[" in stream.getvalue()


def test_set_up_twice() -> None:
    """Setting up again replaces the first set-up, for other libraries too."""
    first, second = StringIO(), StringIO()
    configure_logging(stream=first)
    configure_logging(json=True, stream=second)
    logging.getLogger("somebody").warning("hello %s", "you")
    assert first.getvalue() == ""
    (line,) = [json.loads(text) for text in second.getvalue().splitlines()]
    assert (line["event"], line["level"], line["logger"]) == ("hello you", "warning", "somebody")


def test_other_libraries_are_heard_from_warning_on() -> None:
    """The chatter of other libraries stays out, also while debugging Syncer."""
    stream = StringIO()
    configure_logging(level=LogLevel.DEBUG, stream=stream)
    logging.getLogger("somebody").info("chatter")
    assert stream.getvalue() == ""


def test_stream_follows_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a stream lines go to what standard error is now: bars replace it while they are shown."""
    logger = configure_logging()
    later = StringIO()
    monkeypatch.setattr(sys, "stderr", later)
    logger.log(logging.WARNING, "x.y")
    assert "x.y" in later.getvalue()


def test_tag_that_did_not_get_its_turn() -> None:
    """A cancelled tag is a warning, with the reason."""
    cancelled = TagFinished(
        entry="e", source="s", target="t", tag="1", outcome=TagOutcome.CANCELLED, reason="stopped", error=NotFound()
    )
    (line,) = written([cancelled], LogLevel.INFO)
    assert (line["level"], line["event"], line["reason"]) == ("warning", "sync.tag_cancelled", "stopped")
    assert "hint" not in line


def test_stream_that_is_full() -> None:
    """A log that cannot be flushed does not stop the one who writes."""

    class Full(StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    configure_logging(stream=Full()).log(logging.ERROR, "x.y")


def test_stream_that_is_gone() -> None:
    """A reader that has gone away does not stop the one who writes."""
    stream = StringIO()
    stream.close()
    lines = LogStream(stream)
    assert lines.write("x") == 0
    lines.flush()
    assert not lines.isatty()
    configure_logging(stream=stream).log(logging.ERROR, "x.y")
