"""A plan: every action of a run in a stable order, and the same as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncer.errors import InvalidReference, UsageError
from syncer.oci.digest import Digest
from syncer.oci.reference import check_tag
from syncer.plan.actions import Action, ActionKind, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

SCHEMA = "syncer.plan/1"
_REMAKE = "Make the plan again with 'syncer plan'."


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run of the spec would do; equal observations give equal plans, byte for byte."""

    spec: str
    actions: tuple[Action, ...]

    @classmethod
    def of(cls, actions: Iterable[Action], *, spec: str) -> Self:
        """Put ``actions`` in order: by target, then by tag, however they were found."""
        return cls(spec=spec, actions=tuple(sorted(actions, key=lambda a: (a.target, a.tag, a.source, a.entry))))

    @property
    def due(self) -> tuple[Action, ...]:
        """The actions that would write something."""
        return tuple(action for action in self.actions if action.is_due)

    @property
    def failures(self) -> tuple[Action, ...]:
        """The actions that say that something asked for cannot be done."""
        return tuple(action for action in self.actions if action.is_failure)

    @property
    def kinds(self) -> Mapping[ActionKind, int]:
        """How many actions there are of each kind, with zeros."""
        counts = Counter(action.kind for action in self.actions)
        return {kind: counts[kind] for kind in ActionKind}

    @property
    def reasons(self) -> Mapping[Reason, int]:
        """How many actions there are for each reason, with zeros."""
        counts = Counter(action.reason for action in self.actions)
        return {reason: counts[reason] for reason in Reason}

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object, in the schema :data:`SCHEMA`."""
        return {
            "schema": SCHEMA,
            "spec": self.spec,
            "kinds": {str(kind): count for kind, count in self.kinds.items()},
            "reasons": {str(reason): count for reason, count in self.reasons.items()},
            "actions": [_to_json(action) for action in self.actions],
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what :meth:`to_json` gave; counts are made anew.

        Raises:
            UsageError: when it is not such an object, or of another version.
        """
        schema = value.get("schema") if isinstance(value, dict) else None
        if not isinstance(schema, str) or not schema.startswith("syncer.plan/"):
            raise UsageError("this is not a plan", hint=_REMAKE)
        if schema != SCHEMA:
            raise UsageError(f"the plan has the schema {schema!r}, not {SCHEMA!r}", hint=_REMAKE)
        spec, actions = value.get("spec"), value.get("actions")
        if not isinstance(spec, str) or not isinstance(actions, list):
            raise UsageError("the plan has no 'spec' or no 'actions'", hint=_REMAKE)
        return cls.of((_from_json(action, index) for index, action in enumerate(actions)), spec=spec)


def dump_plan(plan: Plan) -> str:
    """Return the plan as the text of a JSON file."""
    return json.dumps(plan.to_json(), indent=2, ensure_ascii=False) + "\n"


def parse_plan(text: str) -> Plan:
    """Read the text of a JSON file.

    Raises:
        UsageError: when it is not a plan.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError("the plan is not JSON", hint=_REMAKE) from None
    return Plan.from_json(value)


def _to_json(action: Action) -> dict[str, Any]:
    value: dict[str, Any] = {
        "kind": str(action.kind),
        "reason": str(action.reason),
        "entry": action.entry,
        "source": action.source,
        "target": action.target,
        "tag": action.tag,
    }
    if action.digest is not None:
        value["digest"] = str(action.digest)
    if action.previous is not None:
        value["previous"] = str(action.previous)
    return value


def _from_json(value: Any, index: int) -> Action:
    try:
        texts = {key: value[key] for key in ("entry", "source", "target")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError  # noqa: TRY301 - joins the other ways in which an action is not one
        return Action(
            kind=ActionKind(value["kind"]),
            reason=Reason(value["reason"]),
            tag=check_tag(value["tag"]),
            digest=Digest(value["digest"]) if "digest" in value else None,
            previous=Digest(value["previous"]) if "previous" in value else None,
            **texts,
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, InvalidReference):
        raise UsageError(f"action {index} of the plan is not valid", hint=_REMAKE) from None
