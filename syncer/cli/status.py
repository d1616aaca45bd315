"""``syncer status``: the last runs, and where each repository stands."""

import os
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from syncer.app.loop import run
from syncer.cli.exits import ExitCode
from syncer.cli.options import Output, spread
from syncer.cli.rendering import print_json, print_line
from syncer.cli.voices import console
from syncer.errors import UsageError
from syncer.events import TagOutcome
from syncer.plan.records import TagRecord, whole_entry
from syncer.spec.loader import load_spec
from syncer.state.records import RepositorySummary, RunRecord
from syncer.state.store import StateStore
from syncer.telemetry.grid import Column, print_grid
from syncer.telemetry.quantities import format_count, format_duration
from syncer.telemetry.redaction import printable

#: Runs and failures that a person is shown; the JSON has all failures.
_RUNS = 10
_WORDS = {TagOutcome.CANCELLED: "not reached", TagOutcome.DEFERRED: "deferred"}
_FAILURES = 20


@spread
def status(
    voice: Output,
    spec: Annotated[
        Path | None,
        typer.Argument(metavar="SPEC", help="A spec, for the state file it names.", show_default=False),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="FILE", help="The state file. [default: ./syncer.db]", show_default=False),
    ] = None,
) -> int:
    """Show the last runs, and where each repository stands.

    Reads the state file only, also while a run writes to it; no registry is asked.
    """
    if spec is not None and state is not None:
        raise UsageError("a spec names its state file, and so does --state", hint="Give one of them.")
    path = state or (load_spec(spec, os.environ).state if spec else Path("syncer.db"))

    async def work() -> tuple[list[RunRecord], list[RepositorySummary], list[TagRecord]]:
        async with StateStore.read(path) as store:
            return await store.runs(_RUNS), await store.summary(), await store.unresolved()

    runs, repositories, failures = run(work)
    if voice.as_json:
        print_json(_to_json(path, runs, repositories, failures))
    else:
        _print(path, runs, repositories, failures, again=_command(runs, spec))
    return ExitCode.DONE


def _to_json(
    path: Path, runs: list[RunRecord], repositories: list[RepositorySummary], failures: list[TagRecord]
) -> dict[str, Any]:
    return {
        "state": str(path),
        "runs": [
            {
                "run": record.run,
                "spec": record.spec,
                "status": record.status.value,
                "started": _iso(record.started),
                "finished": _iso(record.finished),
                "summary": dict(record.summary),
            }
            for record in runs
        ],
        "repositories": [
            {
                "target": it.target,
                "tags": {outcome.value: it.outcomes.get(outcome, 0) for outcome in TagOutcome},
                "succeeded": _iso(it.succeeded),
            }
            for it in repositories
        ],
        "failures": [
            {
                "entry": record.entry,
                "source": record.source,
                "target": record.target,
                "tag": record.tag,
                "error": record.error,
                "at": _iso(record.at),
            }
            for record in failures
        ],
    }


def _command(runs: list[RunRecord], spec: Path | None) -> str:
    """Return the command that tries again what is not in step."""
    name = str(spec) if spec is not None else runs[0].spec if runs else "SPEC"
    return f"syncer run {shlex.quote(printable(name))} --retry-failed"


def _print(
    path: Path,
    runs: list[RunRecord],
    repositories: list[RepositorySummary],
    failures: list[TagRecord],
    *,
    again: str,
) -> None:
    screen, now = console(), time.time()
    if not runs:
        print_line(f"{path}: nothing was run yet.")
        return
    print_grid(
        (
            Column(heading="run", cells=tuple(it.run for it in runs), is_name=True),
            Column(heading="status", cells=tuple(it.status.value for it in runs), is_name=True),
            Column(heading="started", cells=tuple(_ago(it.started, now) for it in runs)),
            Column(heading="took", cells=tuple(_took(it) for it in runs), rank=2),
            *_outcome_columns([it.summary for it in runs]),
            Column(heading="spec", cells=tuple(printable(it.spec) for it in runs), rank=3, is_name=True),
        ),
        screen,
    )
    if repositories:
        print_line()
        print_grid(
            (
                Column(heading="target", cells=tuple(printable(it.target) for it in repositories), is_name=True),
                Column(heading="tags", cells=tuple(format_count(it.tags) for it in repositories)),
                Column(
                    heading="failed",
                    cells=tuple(format_count(it.outcomes.get(TagOutcome.FAILED, 0)) for it in repositories),
                ),
                Column(heading="in step", cells=tuple(_ago(it.succeeded, now) for it in repositories)),
            ),
            screen,
        )
    for record in failures[:_FAILURES]:
        word = _WORDS.get(record.outcome, "failed")
        print_line(f"\n{word}: {_place(record)}")
        if record.error:
            print_line(f"  {printable(record.error)}")
    if failures:
        more = f" ({format_count(len(failures) - _FAILURES)} more)" if len(failures) > _FAILURES else ""
        print_line(f"\n{_items(failures)} not in step{more}: '{again}' tries again what the spec still wants.")


def _items(records: list[TagRecord]) -> str:
    """Return how many tags, repositories and entries there are: a whole repository is not one more tag."""
    entries = sum(not record.tag and record.target == whole_entry(record.entry) for record in records)
    tags = sum(bool(record.tag) for record in records)
    counted = ((tags, "tag"), (len(records) - tags - entries, "whole repository"), (entries, "entry"))
    many = {"whole repository": "whole repositories", "entry": "entries"}
    return " and ".join(
        f"{count:,} {many[noun]}" if count > 1 and noun in many else format_count(count, noun)
        for count, noun in counted
        if count
    )


def _place(record: TagRecord) -> str:
    """Return what a record is about: a tag, a repository with all of its tags, or an entry of the spec."""
    if record.tag:
        return f"{printable(record.target)}:{record.tag}"
    if record.target == whole_entry(record.entry):
        return f"entry {printable(record.entry)}"
    return f"{printable(record.target)}, as a whole"


def _outcome_columns(summaries: list[Any]) -> tuple[Column, ...]:
    shown = (TagOutcome.COPIED, TagOutcome.IN_SYNC, TagOutcome.FAILED)
    return tuple(
        Column(heading=outcome.value, cells=tuple(format_count(it.get(outcome.value, 0)) for it in summaries), rank=1)
        for outcome in shown
    )


def _took(record: RunRecord) -> str:
    return format_duration(record.finished - record.started) if record.finished is not None else "-"


def _ago(moment: float | None, now: float) -> str:
    return "never" if moment is None else f"{format_duration(max(now - moment, 0.0))} ago"


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
