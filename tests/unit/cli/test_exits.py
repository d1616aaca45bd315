"""Exit codes."""

from __future__ import annotations

import inspect
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from syncer import errors
from syncer.cli.exits import CODES, ExitCode, code_of, code_of_report
from syncer.errors import SyncerError
from syncer.events import RunStatus
from syncer.telemetry.report import Deferral, Failure, Report

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def report(status: RunStatus, *failed: str) -> Report:
    """Return a report in which errors of these classes occurred."""
    failures = tuple(Failure(entry="e", error=name) for name in failed)
    return Report(started=NOW, status=status, failures=failures)


def test_every_class_of_error_has_a_code() -> None:
    """The table names each class of errors.py, and nothing else."""
    classes = {it for _, it in inspect.getmembers(errors, inspect.isclass) if issubclass(it, SyncerError)}
    assert set(CODES) == classes


def test_a_class_nobody_listed_has_the_code_of_its_parent() -> None:
    """A new kind of a known error is told apart by its parent until it is listed."""

    class TooBusy(errors.StateLocked):
        """Nobody listed this."""

    assert code_of(TooBusy()) is ExitCode.STOPPED


def test_the_numbers_are_an_interface() -> None:
    """Scripts know these numbers."""
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "CHANGES_DUE": 3,
        "VERIFICATION": 4,
        "BLOCKED": 5,
        "AUTHENTICATION": 8,
        "NO_SPACE": 9,
        "STOPPED": 75,
    }


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        ((), ExitCode.STOPPED),
        (("RateLimited",), ExitCode.STOPPED),
        (("NotFound",), ExitCode.FAILED),
        (("Unauthorized",), ExitCode.FAILED),
    ],
)
def test_deferrals(failed: tuple[str, ...], expected: ExitCode) -> None:
    """What a registry deferred alone is 75; with failures of another kind beside it, it is 1."""
    status = RunStatus.FAILED if failed else RunStatus.INTERRUPTED
    made = replace(report(status, *failed), deferrals=(Deferral(registry="docker.io", tags=3),))
    assert code_of_report(made) is expected


@pytest.mark.parametrize(
    ("status", "failed", "expected"),
    [
        (RunStatus.DONE, (), ExitCode.DONE),
        (RunStatus.FAILED, (), ExitCode.FAILED),
        (RunStatus.FAILED, ("NotFound",), ExitCode.FAILED),
        (RunStatus.FAILED, ("Unauthorized", "Denied"), ExitCode.AUTHENTICATION),
        (RunStatus.FAILED, ("QuotaExceeded", "StorageFull"), ExitCode.NO_SPACE),
        (RunStatus.FAILED, ("ImmutableTag",), ExitCode.BLOCKED),
        (RunStatus.FAILED, ("DigestMismatch", "SizeMismatch"), ExitCode.VERIFICATION),
        (RunStatus.FAILED, ("RateLimited",), ExitCode.STOPPED),
        (RunStatus.FAILED, ("Unauthorized", "Timeout"), ExitCode.FAILED),
        (RunStatus.FAILED, ("Unauthorized", "StorageFull"), ExitCode.FAILED),
        (RunStatus.FAILED, ("SpecError",), ExitCode.FAILED),
        (RunStatus.FAILED, ("SomethingElse",), ExitCode.FAILED),
        (RunStatus.INTERRUPTED, ("Unauthorized",), ExitCode.STOPPED),
    ],
)
def test_a_run_has_a_specific_code_when_all_failures_share_it(
    status: RunStatus, failed: tuple[str, ...], expected: ExitCode
) -> None:
    """Where the reasons differ, or are none of the specific ones, a run with failures exits with 1."""
    assert code_of_report(report(status, *failed)) is expected
