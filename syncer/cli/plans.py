"""A plan as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.cli.rendering import print_line
from syncer.plan.actions import Reason
from syncer.telemetry.quantities import format_count
from syncer.telemetry.redaction import printable

if TYPE_CHECKING:
    from syncer.plan.actions import Action
    from syncer.plan.document import Plan
    from syncer.telemetry.report import Report


def print_plan(plan: Plan, report: Report) -> None:
    """Print what is due, target by target, what could not be looked at, and one closing sentence."""
    target = ""
    for action in plan.due:
        if action.target != target:
            target = action.target
            print_line(f"{printable(target)}  from {printable(action.source)}")
        print_line(f"  {_line(action)}")
    if plan.due:
        print_line()
    for action in plan.failures:
        print_line(f"missing: {printable(action.source)}:{action.tag} is named in the spec and not in the source.")
    for failure in report.failures:
        hint = f" {failure.hint}" if failure.hint else ""
        print_line(f"failed: {printable(failure.place)}: {printable(failure.message)}.{hint}")
    for deferral in report.deferrals:
        print_line(f"deferred: {printable(deferral.message)}. {deferral.hint}".strip())
    if plan.failures or report.failures or report.deferrals:
        print_line()
    print_line(closing_sentence(plan, report))


def closing_sentence(plan: Plan, report: Report) -> str:
    """Return what the plan comes to, in one sentence."""
    reasons = plan.reasons
    parts = [
        f"{format_count(reasons[reason])} {word}"
        for reason, word in (
            (Reason.NEW, "new"),
            (Reason.CHANGED, "changed"),
            (Reason.IN_SYNC, "in sync"),
            (Reason.IMMUTABLE, "immutable and copied before"),
            (Reason.VANISHED, "vanished from the source"),
            (Reason.MISSING, "named but not in the source"),
        )
        if reasons[reason]
    ]
    due, looked = len(plan.due), len(plan.actions)
    told = f"{format_count(looked, 'tag')} looked at" + (f": {', '.join(parts)}" if parts else "")
    incomplete = ""
    if report.failures:
        incomplete = f" {format_count(len(report.failures), 'failure')}: the plan is not complete."
    elif report.deferrals:
        left = sum(deferral.tags + deferral.others for deferral in report.deferrals)
        incomplete = f" {format_count(left, 'item')} deferred: the plan is not complete."
    if not due:
        return f"Nothing {'that was looked at ' if report.deferrals else ''}is due. {told}.{incomplete}"
    return f"{format_count(due, 'tag')} {'is' if due == 1 else 'are'} due. {told}.{incomplete}"


def _line(action: Action) -> str:
    digest = action.digest.short if action.digest else ""
    before = f" (now {action.previous.short})" if action.previous else ""
    return f"{action.kind:<5}  {action.tag}  {action.reason}  {digest}{before}"
