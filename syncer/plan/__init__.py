"""Plans: from what is observed of tags to what is to be done about them; pure."""

from syncer.plan.actions import Action, ActionKind, Reason, Recorded, TagObservation, is_settled, plan_tag
from syncer.plan.document import SCHEMA, Plan, dump_plan, parse_plan

__all__ = [
    "SCHEMA",
    "Action",
    "ActionKind",
    "Plan",
    "Reason",
    "Recorded",
    "TagObservation",
    "dump_plan",
    "is_settled",
    "parse_plan",
    "plan_tag",
]
