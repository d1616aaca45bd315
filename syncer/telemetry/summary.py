"""A report as text for a person.

First what was done, then what it took, then what is wrong, and last one sentence that says it all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.content import BlobOutcome
from syncer.events import RunStatus, TagOutcome
from syncer.telemetry.grid import Column, print_grid, print_line
from syncer.telemetry.quantities import format_count, format_duration, format_rate, format_share, format_size
from syncer.telemetry.redaction import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from syncer.telemetry.grid import Pipe
    from syncer.telemetry.report import Deferral, Failure, Report, RepositoryReport

#: Repositories, kinds of failure and notices that are shown; the JSON has them all.
MAX_ROWS = 40
MAX_FAILURES = 20
MAX_NOTICES = 10
#: Columns that are there when there is something in them.
_RARE = frozenset({"skipped", "failed", "deferred"})
#: Places that are named when the same thing failed in many.
_MAX_PLACES = 3

_KINDS = {
    "manifests": ("manifest-head", "manifest-get", "manifest-put", "delete"),
    "blobs": ("blob-head", "blob-get"),
    "uploads": ("upload-post", "upload-patch", "upload-put", "upload-get", "upload-delete"),
    "lists": ("tags", "catalog", "referrers"),
    "tokens": ("token", "ping"),
}


def render_report(report: Report, console: Console | Pipe) -> None:
    """Print ``report`` on ``console``: what was done where, what it took, what failed, and one closing sentence."""
    if rows := _worth_showing(report.repositories):
        print_grid(_repositories(rows[:MAX_ROWS]), console)
        others = len(report.repositories) - len(rows)
        if (hidden := len(rows) - MAX_ROWS) > 0:
            print_line(console, f"and {format_count(hidden)} more with changes or failures", style="dim")
        if others > 0:
            print_line(console, f"and {format_count(others, 'repository')} without changes", style="dim")
        print_line(console, "")
    if report.requests:
        print_grid(_requests(report), console)
        print_line(console, "")
    _print_notices(report, console)
    _print_deferrals(report, console)
    _print_failures(report, console)
    style = {RunStatus.FAILED: "bold red", RunStatus.INTERRUPTED: "bold yellow"}.get(report.status, "bold green")
    print_line(console, closing_sentence(report), style="bold red" if report.failures else style)


def closing_sentence(report: Report) -> str:
    """Return what the run comes to, in one sentence; an interrupted one gets a second."""
    totals = report.totals
    took = format_duration(report.seconds)
    done = f"{_outcomes(report)}{_unseen(report)}{_work(report)}"
    if report.status is RunStatus.INTERRUPTED:
        return f"Stopped after {took}: {done}. Nothing is lost; run it again to go on."
    if report.failures:
        return f"{format_count(len(report.failures), 'failure')} in {took}: {done}."
    if report.status is RunStatus.FAILED:
        return f"Failed after {took}: {done}."
    if not totals.finished and not totals.selected:
        return f"Nothing to do: no tags were selected ({took})."
    if totals.finished == totals.tags[TagOutcome.IN_SYNC] and not report.unfinished:
        where = format_count(len(report.repositories), "repository")
        requests = f", {format_count(report.request_count, 'request')}" if report.requests else ""
        tags = format_count(totals.finished, "tag")
        # A recheck may have repaired something, and that is not to be passed over.
        sent = f"; {format_size(totals.streamed)} sent" if totals.streamed else ""
        return f"Everything is in sync: {tags}{_recorded(report)} in {where}, {took}{requests}{sent}."
    return f"Done in {took}: {done}."


def _outcomes(report: Report) -> str:
    """Name every outcome that occurred: a run must not look better than it was."""
    tags = report.totals.tags
    parts = [
        f"{format_count(tags[outcome])} {word}"
        for outcome, word in (
            (TagOutcome.COPIED, "copied"),
            (TagOutcome.IN_SYNC, f"in sync{_recorded(report)}"),
            (TagOutcome.SKIPPED, "skipped"),
            (TagOutcome.FAILED, "failed"),
            (TagOutcome.DEFERRED, "deferred"),
            (TagOutcome.CANCELLED, "cancelled"),
        )
        if tags[outcome]
    ]
    if report.unfinished:
        parts.append(f"{format_count(report.unfinished)} not reached")
    known = max(report.totals.selected, report.totals.finished)
    return f"of {format_count(known, 'tag')} {', '.join(parts)}" if known else "no tags were looked at"


def _unseen(report: Report) -> str:
    counted = ((report.cut_repositories, "repository"), (report.cut_entries, "entry"))
    parts = [format_count(count, what) for count, what in counted if count]
    return f"; {' and '.join(parts)} not looked at to the end" if parts else ""


def _recorded(report: Report) -> str:
    """Tell that the target was not asked for all that is in sync."""
    totals = report.totals
    if not totals.recorded:
        return ""
    share = "all" if totals.recorded == totals.tags[TagOutcome.IN_SYNC] else format_count(totals.recorded)
    return f" ({share} as recorded)"


def _work(report: Report) -> str:
    totals = report.totals
    parts = []
    if totals.streamed:
        rate = f" at {format_rate(report.rate)}" if report.seconds > 0 else ""
        parts.append(f"{format_size(totals.streamed)} sent{rate}")
    if totals.saved:
        share = format_share(totals.saved, totals.saved + totals.streamed)
        parts.append(f"{format_size(totals.saved)} ({share}) mounted or there before")
    return f"; {', '.join(parts)}" if parts else ""


def _worth_showing(repositories: Iterable[RepositoryReport]) -> list[RepositoryReport]:
    """Leave out those that were in sync and got nothing; failures come last, next to their explanations."""
    shown = [
        repository
        for repository in repositories
        if repository.error
        or repository.totals.finished != repository.totals.tags[TagOutcome.IN_SYNC]
        or repository.totals.streamed
    ]
    return sorted(shown, key=lambda it: bool(it.error or it.totals.tags[TagOutcome.FAILED]))


def _repositories(repositories: Sequence[RepositoryReport]) -> tuple[Column, ...]:
    def numbers(outcome: TagOutcome) -> tuple[str, ...]:
        return tuple(format_count(it.totals.tags[outcome]) for it in repositories)

    def volumes(outcome: BlobOutcome) -> tuple[str, ...]:
        return tuple(_volume(it, outcome) for it in repositories)

    columns = [
        Column(heading="target", cells=tuple(it.target for it in repositories), is_name=True),
        Column(heading="source", cells=tuple(it.source for it in repositories), is_name=True, rank=5),
        Column(heading="copied", cells=numbers(TagOutcome.COPIED)),
        Column(heading="in sync", cells=numbers(TagOutcome.IN_SYNC), rank=2),
        Column(heading="skipped", cells=numbers(TagOutcome.SKIPPED), rank=3),
        Column(heading="failed", cells=tuple(_failed(it) for it in repositories)),
        Column(heading="deferred", cells=numbers(TagOutcome.DEFERRED)),
        Column(heading="sent", cells=volumes(BlobOutcome.STREAMED)),
        Column(heading="mounted", cells=volumes(BlobOutcome.MOUNTED), rank=1),
        Column(heading="present", cells=volumes(BlobOutcome.PRESENT), rank=4),
        Column(heading="time", cells=tuple(format_duration(it.seconds) for it in repositories), rank=6),
    ]
    # What happened nowhere needs no column; what failed nowhere is good to see in the closing sentence.
    return tuple(it for it in columns if it.heading not in _RARE or set(it.cells) != {"0"})


def _failed(repository: RepositoryReport) -> str:
    if repository.error and not repository.totals.finished:
        return "all"
    return format_count(repository.totals.tags[TagOutcome.FAILED])


def _volume(repository: RepositoryReport, outcome: BlobOutcome) -> str:
    volume = repository.totals.blobs[outcome]
    return f"{format_size(volume.size)} ({format_count(volume.count)})" if volume.count else "-"


def _requests(report: Report) -> tuple[Column, ...]:
    registries = tuple(report.requests)
    columns = [
        Column(heading="registry", cells=tuple(printable(registry) for registry in registries), is_name=True),
        Column(heading="requests", cells=tuple(format_count(sum(report.requests[it].values())) for it in registries)),
    ]
    for rank, (heading, kinds) in enumerate(_KINDS.items(), start=1):
        counts = (sum(report.requests[it].get(kind, 0) for kind in kinds) for it in registries)
        columns.append(Column(heading=heading, cells=tuple(map(format_count, counts)), rank=rank))
    retries = tuple(format_count(report.retries.get(it, 0)) for it in registries)
    return (*columns, Column(heading="retries", cells=retries))


def _print_notices(report: Report, console: Console | Pipe) -> None:
    for notice in report.notices[:MAX_NOTICES]:
        times = f" ({format_count(notice.count, 'time')})" if notice.count > 1 else ""
        print_line(console, f"note: {printable(notice.where)}: {printable(notice.text)}{times}", style="yellow")
    hidden = max(len(report.notices) - MAX_NOTICES, 0) + report.notices_unlisted
    if hidden:
        print_line(console, f"and {format_count(hidden)} more notes", style="dim")
    if report.notices:
        print_line(console, "")


def _print_deferrals(report: Report, console: Console | Pipe) -> None:
    for deferral in report.deferrals:
        print_line(console, f"deferred: {_deferred(deferral)}", style="bold yellow")
        print_line(console, f"  {printable(deferral.message)}")
        if deferral.hint:
            print_line(console, f"  hint: {printable(deferral.hint)}", style="cyan")
    if report.deferrals:
        print_line(console, "")


def _deferred(deferral: Deferral) -> str:
    counted = ((deferral.tags, "tag"), (deferral.others, "whole repository"))
    parts = [format_count(count, what) for count, what in counted if count]
    until = f", until {deferral.until:%Y-%m-%d %H:%M} UTC" if deferral.until is not None else ""
    return f"{' and '.join(parts)} by {printable(deferral.registry)}{until}"


def _print_failures(report: Report, console: Console | Pipe) -> None:
    groups: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in report.failures:
        groups.setdefault((failure.error, failure.message, failure.hint), []).append(failure)
    for (error, message, hint), failures in list(groups.items())[:MAX_FAILURES]:
        places = ", ".join(printable(failure.place) for failure in failures[:_MAX_PLACES])
        if len(failures) > _MAX_PLACES:
            places += f" and {format_count(len(failures) - _MAX_PLACES)} more"
        print_line(console, f"failed: {places}", style="bold red")
        print_line(console, f"  {error}: {printable(message)}" if error else f"  {printable(message)}")
        if hint:
            print_line(console, f"  hint: {printable(hint)}", style="cyan")
    if len(groups) > MAX_FAILURES:
        print_line(console, f"and {format_count(len(groups) - MAX_FAILURES)} more kinds of failure", style="dim")
    if groups:
        print_line(console, "")
