"""A plan for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from syncer.cli.plans import print_plan
from syncer.oci import Digest
from syncer.plan.actions import Action, ActionKind, Reason
from syncer.plan.document import Plan
from syncer.telemetry.report import Deferral, Failure, Report

if TYPE_CHECKING:
    import pytest

OLD, NEW = Digest.of(b"old"), Digest.of(b"new")


def action(tag: str, kind: ActionKind, reason: Reason, previous: Digest | None = None) -> Action:
    """Return an action on one repository."""
    return Action(
        kind=kind, reason=reason, entry="e", source="a/x", target="b/x", tag=tag, digest=NEW, previous=previous
    )


def test_what_is_due_is_listed_and_the_rest_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Each tag that would be written has a line with its reason; tags in sync are a number."""
    plan = Plan.of(
        [
            action("v1", ActionKind.COPY, Reason.NEW),
            action("v2", ActionKind.RETAG, Reason.CHANGED, OLD),
            action("v3", ActionKind.SKIP, Reason.IN_SYNC),
        ],
        spec="s",
    )
    print_plan(plan, Report(started=datetime.now(UTC)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "b/x  from a/x"
    assert lines[1].split() == ["copy", "v1", "new", NEW.short]
    assert lines[2].split() == ["retag", "v2", "changed", NEW.short, "(now", f"{OLD.short})"]
    assert lines[-1] == "2 tags are due. 3 tags looked at: 1 new, 1 changed, 1 in sync."


def test_a_tag_that_is_named_and_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A tag that the spec names and the source lacks is no number only."""
    print_plan(Plan.of([action("v9", ActionKind.SKIP, Reason.MISSING)], spec="s"), Report(started=datetime.now(UTC)))
    assert "missing: a/x:v9 is named in the spec and not in the source." in capsys.readouterr().out.splitlines()


def test_a_plan_with_failures_is_not_called_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """What could not be looked at is told, and that the plan lacks it."""
    failure = Failure(entry="e", target="b/y", message="no answer", hint="Try later.")
    print_plan(Plan.of([], spec="s"), Report(started=datetime.now(UTC), failures=(failure,)))
    out = capsys.readouterr().out
    assert "failed: b/y: no answer. Try later." in out
    assert "Nothing is due. 0 tags looked at. 1 failure: the plan is not complete." in out


def test_what_was_not_looked_at_is_not_called_in_sync(capsys: pytest.CaptureFixture[str]) -> None:
    """A plan that a registry's rate limit cut short says so, and does not say that nothing is due."""
    deferral = Deferral(registry="a", tags=3, message="a allows no more for now", hint="Run again later.")
    print_plan(Plan.of([], spec="s"), Report(started=datetime.now(UTC), deferrals=(deferral,)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "deferred: a allows no more for now. Run again later."
    assert lines[-1].startswith("Nothing that was looked at is due.")
    assert lines[-1].endswith("3 items deferred: the plan is not complete.")
