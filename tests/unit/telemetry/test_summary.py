"""The report as text for a person."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from syncer.content import BlobOutcome
from syncer.events import RunStatus, TagOutcome
from syncer.telemetry.grid import Column, fit, print_grid
from syncer.telemetry.recorder import ReportObserver
from syncer.telemetry.report import Deferral, Failure, Report, ReportNotice, RepositoryReport, Totals, Volume
from syncer.telemetry.summary import MAX_FAILURES, MAX_NOTICES, MAX_ROWS, closing_sentence, render_report

if TYPE_CHECKING:
    from syncer.events import Event

START = datetime(2025, 1, 1, tzinfo=UTC)
MIB = 1024**2


def shown(report: Report, *, width: int = 100, terminal: bool = False) -> str:
    """Render ``report``."""
    stream = StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None)
    render_report(report, console)
    return stream.getvalue()


def totals(*, selected: int = 0, recorded: int = 0, streamed: int = 0, mounted: int = 0, **tags: int) -> Totals:
    """Make totals; tags are given by the names of their outcomes."""
    result = Totals(selected=selected, recorded=recorded)
    for name, count in tags.items():
        result.tags[TagOutcome[name.upper()]] = count
    result.blobs[BlobOutcome.STREAMED] = Volume(count=bool(streamed), size=streamed)
    result.blobs[BlobOutcome.MOUNTED] = Volume(count=bool(mounted), size=mounted)
    return result


def observed(run: list[Event]) -> Report:
    """Return the report of ``run``."""
    observer = ReportObserver(now=lambda: START)
    for event in run:
        observer.notify(event)
    return observer.report()


def test_pipe(run: list[Event]) -> None:
    """In a pipe the text is plain ASCII, complete, and ends with failures and one sentence."""
    assert shown(observed(run), width=20).splitlines() == [
        "target              source              copied  in sync  failed        sent      mounted      present   time",
        "prod/mirror/alpine  hub/library/alpine       1        1       1  1000 B (1)  2.0 KiB (1)  4.9 KiB (1)  2.5 s",
        "and 1 repository without changes",
        "",
        "registry   requests  manifests  blobs  uploads  lists  tokens  retries",
        "docker.io         1          1      0        0      0       0        1",
        "prod              1          1      0        0      0       0        0",
        "",
        "note: docker.io: this image is deprecated (2 times)",
        "",
        "failed: prod/mirror/alpine:latest",
        "  Denied: no push to mirror/alpine",
        "  hint: Ask for push rights.",
        "failed: entry other",
        "  ConnectionFailed: quay.io could not be reached",
        "  hint: Check the network.",
        "",
        (
            "2 failures in 4.0 s: of 4 tags 1 copied, 2 in sync, 1 failed; 1000 B sent at 250 B/s, "
            "6.8 KiB (88 %) mounted or there before."
        ),
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_terminal(run: list[Event], width: int) -> None:
    """On a terminal of any width the tables fit, and the most important columns are there."""
    table = shown(observed(run), width=width, terminal=True).partition("note:")[0]
    assert all(len(line) <= width for line in table.splitlines())
    assert "copied" in table
    assert "sent" in table
    assert "retries" in table
    assert ("source" in table) == (width >= 120)


def test_ascii_terminal(run: list[Event]) -> None:
    """A terminal that knows ASCII only gets nothing else."""

    class Ascii(StringIO):
        encoding = "ascii"

    stream = Ascii()
    render_report(observed(run), Console(file=stream, width=100, force_terminal=True, color_system=None))
    assert stream.getvalue().isascii()


def test_nothing_is_obeyed() -> None:
    """What a registry says cannot send escape sequences, and is not taken for markup."""
    report = Report(
        started=START,
        failures=(Failure(entry="e", error="NotFound", message="a\x1b[2J[bold]b[/]", hint="\x1b[0m"),),
        notices=(ReportNotice(where="r", text="x\x07[red]"),),
    )
    text = shown(report, terminal=True)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]b[/]" in text


def test_long_lists_are_cut() -> None:
    """A person sees the first of many repositories, failures and notices, and how many more there are."""
    report = Report(
        started=START,
        repositories=tuple(
            RepositoryReport(entry="e", source=f"s/{n}", target=f"t/{n}", totals=totals(copied=1))
            for n in range(MAX_ROWS + 5)
        ),
        failures=tuple(Failure(entry=f"e{n}", message=f"m{n}") for n in range(MAX_FAILURES + 3)),
        notices=tuple(ReportNotice(where="r", text=f"n{n}") for n in range(MAX_NOTICES + 2)),
        notices_unlisted=4,
    )
    text = shown(report)
    assert "and 5 more with changes or failures" in text
    assert "and 3 more kinds of failure" in text
    assert "and 6 more notes" in text


def test_same_failure_in_many_places() -> None:
    """What failed for one reason in many places is explained once."""
    failures = tuple(
        Failure(entry="e", target="t", tag=f"v{n}", error="Denied", message="no", hint="ask") for n in range(10)
    )
    text = shown(Report(started=START, failures=failures))
    assert "failed: t:v0, t:v1, t:v2 and 7 more" in text
    assert text.count("hint: ask") == 1


def test_failed_repositories_come_last() -> None:
    """Repositories with failures are next to what is said of them; one that could not be listed failed as a whole."""
    report = Report(
        started=START,
        repositories=(
            RepositoryReport(entry="e", source="s/1", target="t/bad", totals=totals(), error="gone"),
            RepositoryReport(entry="e", source="s/2", target="t/good", totals=totals(copied=1, skipped=2)),
        ),
    )
    lines = shown(report).splitlines()
    assert "skipped" in lines[0]
    assert lines[1].startswith("t/good")
    assert lines[2].startswith("t/bad")
    assert " all " in lines[2]


def test_what_a_recheck_repaired_is_shown() -> None:
    """A repository whose tags were all in sync and to which something was sent is no repository without changes."""
    repaired = RepositoryReport(entry="e", source="a/x", target="b/x", totals=totals(in_sync=1, streamed=MIB))
    idle = RepositoryReport(entry="e", source="a/y", target="b/y", totals=totals(in_sync=1))
    report = Report(started=START, repositories=(repaired, idle), totals=totals(in_sync=2, streamed=MIB))
    text = shown(report)
    assert "b/x" in text
    assert "1.0 MiB (1)" in text
    assert "b/y" not in text


def test_deferrals() -> None:
    """What a registry deferred is shown apart from failures: how much, by whom, until when, and why."""
    deferrals = (
        Deferral(registry="docker.io", tags=1200, others=1, until=START, message="no more pulls", hint="Later."),
        Deferral(registry="quay.io", others=2, message="closed"),
    )
    report = Report(
        started=START,
        status=RunStatus.INTERRUPTED,
        seconds=2,
        totals=totals(selected=1203, copied=3, deferred=1200),
        repositories=(RepositoryReport(entry="e", source="s", target="t", totals=totals(copied=3, deferred=1200)),),
        deferrals=deferrals,
    )
    lines = shown(report).splitlines()
    assert "deferred" in lines[0]
    assert f"deferred: 1,200 tags and 1 whole repository by docker.io, until {START:%Y-%m-%d %H:%M} UTC" in lines
    assert "  no more pulls" in lines
    assert "  hint: Later." in lines
    assert "deferred: 2 whole repositories by quay.io" in lines
    assert lines[-1] == (
        "Stopped after 2.0 s: of 1,203 tags 3 copied, 1,200 deferred. Nothing is lost; run it again to go on."
    )


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (
            Report(started=START, status=RunStatus.DONE, seconds=1.2, totals=totals(selected=12, in_sync=12)),
            "Everything is in sync: 12 tags in 0 repositories, 1.2 s.",
        ),
        (
            Report(started=START, status=RunStatus.DONE, seconds=1, totals=totals(in_sync=9, streamed=MIB)),
            "Everything is in sync: 9 tags in 0 repositories, 1.0 s; 1.0 MiB sent.",
        ),
        (
            Report(started=START, status=RunStatus.DONE, seconds=1, totals=totals(selected=9, in_sync=9, recorded=9)),
            "Everything is in sync: 9 tags (all as recorded) in 0 repositories, 1.0 s.",
        ),
        (
            Report(
                started=START,
                status=RunStatus.DONE,
                seconds=1,
                totals=totals(selected=2001, copied=1, in_sync=2000, recorded=1500),
            ),
            "Done in 1.0 s: of 2,001 tags 1 copied, 2,000 in sync (1,500 as recorded).",
        ),
        (
            Report(started=START, status=RunStatus.DONE, seconds=0.1),
            "Nothing to do: no tags were selected (100 ms).",
        ),
        (
            Report(
                started=START,
                status=RunStatus.DONE,
                seconds=4.0,
                totals=totals(selected=15, copied=3, in_sync=12, streamed=120 * MIB, mounted=300 * MIB),
            ),
            (
                "Done in 4.0 s: of 15 tags 3 copied, 12 in sync; 120 MiB sent at 30.0 MiB/s, "
                "300 MiB (71 %) mounted or there before."
            ),
        ),
        (
            Report(started=START, status=RunStatus.DONE, totals=totals(selected=3, copied=1, skipped=2)),
            "Done in 0 ms: of 3 tags 1 copied, 2 skipped.",
        ),
        (
            Report(started=START, status=RunStatus.DONE, seconds=1, totals=totals(selected=9, in_sync=4)),
            "Done in 1.0 s: of 9 tags 4 in sync, 5 not reached.",
        ),
        (
            Report(
                started=START,
                status=RunStatus.INTERRUPTED,
                seconds=61,
                totals=totals(selected=9, copied=4, cancelled=2),
            ),
            (
                "Stopped after 1 min 01 s: of 9 tags 4 copied, 2 cancelled, 3 not reached. "
                "Nothing is lost; run it again to go on."
            ),
        ),
        (
            Report(
                started=START,
                status=RunStatus.INTERRUPTED,
                seconds=2,
                totals=totals(selected=9, copied=4),
                cut_repositories=2,
                cut_entries=1,
            ),
            (
                "Stopped after 2.0 s: of 9 tags 4 copied, 5 not reached; "
                "2 repositories and 1 entry not looked at to the end. Nothing is lost; run it again to go on."
            ),
        ),
        (
            Report(started=START, status=RunStatus.FAILED, seconds=1),
            "Failed after 1.0 s: no tags were looked at.",
        ),
    ],
)
def test_closing_sentence(report: Report, expected: str) -> None:
    """The last sentence names every outcome there was, and never makes a run look better than it was."""
    assert closing_sentence(report) == expected
    assert shown(report).splitlines()[-1] == expected


def test_columns_leave_by_rank() -> None:
    """Where space is short the columns of the highest rank go first, and the most important ones stay."""
    columns = tuple(
        Column(heading=name, cells=("1234567",), rank=rank) for name, rank in (("a", 0), ("b", 2), ("c", 1))
    )
    assert [column.heading for column in fit(columns, 30)] == ["a", "b", "c"]
    assert [column.heading for column in fit(columns, 29)] == ["a", "c"]
    assert [column.heading for column in fit(columns, 1)] == ["a"]


def test_grid_without_rows() -> None:
    """A grid without rows is its headings."""
    stream = StringIO()
    print_grid((Column(heading="a", cells=(), is_name=True), Column(heading="b", cells=())), Console(file=stream))
    assert stream.getvalue() == "a  b\n"
