"""``syncer run``, ``plan`` and ``status``: what a spec asks for, what is due, and what was done."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from syncer.app.loop import run as run_loop
from syncer.app.running import run_spec
from syncer.app.stopping import DRAIN, stoppable
from syncer.app.surroundings import Surroundings
from syncer.cli.exits import ExitCode, code_of_report
from syncer.cli.files import check_writable, write_parts, write_text
from syncer.cli.options import AuthFile, DrainSeconds, Progressing, Voice, spread
from syncer.cli.rendering import print_json
from syncer.cli.sessions import until
from syncer.cli.voices import console, listeners, speaker
from syncer.engine.draining import Drain
from syncer.errors import SyncerError
from syncer.events import RunStatus
from syncer.spec.loader import load_spec
from syncer.telemetry.recorder import ReportObserver
from syncer.telemetry.report import Report
from syncer.telemetry.summary import render_report

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec, a YAML file.", show_default=False)]


@spread
def run(
    spec: SpecFile,
    voice: Progressing,
    recheck: Annotated[
        bool,
        typer.Option(
            "--recheck",
            help="Look at everything again, also at what is known to be in sync, and repair what is missing.",
            show_default=False,
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Only the tags that failed, or were not reached, last time.", show_default=False
        ),
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the report as JSON too.", show_default=False)
    ] = None,
    drain: DrainSeconds = DRAIN,
    authfile: AuthFile = "",
) -> int:
    """Bring the targets of a spec in step with their sources.

    What fails does not stop the rest: it is listed at the end, and the exit code says so. Ctrl-C stops
    cleanly, SIGTERM after the images under way are finished, and the next run goes on from there.
    """
    loaded = load_spec(spec, os.environ)
    if report is not None:
        check_writable(report)
    observers = listeners(voice, label="sync")
    surroundings = Surroundings.of_process(authfile=authfile)
    draining, recorder = Drain(drain), ReportObserver()
    try:
        done: Report = run_loop(
            lambda: stoppable(
                lambda stop: run_spec(
                    loaded,
                    surroundings=surroundings,
                    observers=observers,
                    recheck=recheck,
                    retry_failed=retry_failed,
                    stop=stop,
                    drain=draining,
                    recorder=recorder,
                ),
                say=speaker(voice),
                drain=draining,
            )
        )
    except Exception:
        _report_so_far(recorder.report(), voice, report)
        raise
    _tell(done, voice, report)
    if done.status is RunStatus.INTERRUPTED:
        speaker(voice)(f"stopped; what was done is kept. To go on: syncer run {spec}")
    return code_of_report(done)


def _tell(report: Report, voice: Voice, file: Path | None) -> None:
    """Write a report to ``file``, and print it."""
    try:
        # Before anything is printed: who reads that may be gone.
        if file is not None:
            write_parts(file, report.to_text())
    finally:
        if voice.as_json:
            sys.stdout.writelines(report.to_text())
        else:
            render_report(report, console())


def _report_so_far(report: Report, voice: Voice, file: Path | None) -> None:
    """Tell what was done by a run that has come to grief: that of its state, for example. Nothing is raised."""
    if not report.repositories:
        return
    # The error is what has to be heard: that its report cannot be written, too, is no wonder where a disk is full.
    with suppress(OSError, SyncerError):
        _tell(report, voice, file)
    with suppress(OSError):
        # Before the error, also where both go to one place.
        sys.stdout.flush()


@spread
def plan(
    spec: SpecFile,
    voice: Progressing,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the plan as JSON too.", show_default=False)
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 3 when something is due.", show_default=False)
    ] = False,
    authfile: AuthFile = "",
) -> int:
    """Show what a run would do; nothing is written.

    Every tag is looked at on both sides, as a run would.
    """
    from syncer.app.running import plan_spec  # noqa: PLC0415 - a run has no plan to show
    from syncer.cli.plans import print_plan  # noqa: PLC0415 - same
    from syncer.plan.document import Plan, dump_plan  # noqa: PLC0415 - same

    loaded = load_spec(spec, os.environ)
    if out is not None:
        check_writable(out)
    observers = listeners(voice, label="plan")
    surroundings = Surroundings.of_process(authfile=authfile)

    async def work() -> tuple[Plan, Report]:
        return await plan_spec(loaded, surroundings=surroundings, observers=observers)

    made, report = run_loop(lambda: stoppable(lambda stop: until(stop, work), say=speaker(voice)))
    if out is not None:
        write_text(out, dump_plan(made))
    if voice.as_json:
        unseen = {
            "failures": [failure.to_json() for failure in report.failures],
            "deferrals": [deferral.to_json() for deferral in report.deferrals],
        }
        print_json(made.to_json() | unseen)
    else:
        print_plan(made, report)
    if report.failures or made.failures:
        return code_of_report(report) or ExitCode.FAILED
    if report.deferrals:
        # A plan that looked at less than it was asked is no word on what is due.
        return ExitCode.STOPPED
    return ExitCode.CHANGES_DUE if detailed_exitcode and made.due else ExitCode.DONE
