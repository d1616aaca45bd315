"""Plans as a whole, and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import UsageError
from syncer.oci.digest import Digest
from syncer.plan import SCHEMA, Action, ActionKind, Plan, Reason, dump_plan, parse_plan

DIGESTS = st.none() | st.binary(max_size=2).map(Digest.of)
ACTIONS = st.builds(
    Action,
    kind=st.sampled_from(ActionKind),
    reason=st.sampled_from(Reason),
    entry=st.text(max_size=3),
    source=st.sampled_from(["hub/a", "hub/b"]),
    target=st.sampled_from(["prod/a", "prod/b"]),
    tag=st.from_regex(r"[a-z][a-z0-9.]{0,3}", fullmatch=True),
    digest=DIGESTS,
    previous=DIGESTS,
)


def action(tag: str, kind: ActionKind = ActionKind.COPY, reason: Reason = Reason.NEW, target: str = "prod/a") -> Action:
    """Return an action on ``tag``."""
    return Action(kind=kind, reason=reason, entry="e", source="hub/a", target=target, tag=tag, digest=Digest.of(b"1"))


def test_the_order_is_stable() -> None:
    """However actions are found, a plan has them by target and tag."""
    found = [action("b"), action("a", target="prod/b"), action("a")]
    plan = Plan.of(found, spec="s.yaml")
    assert [(item.target, item.tag) for item in plan.actions] == [("prod/a", "a"), ("prod/a", "b"), ("prod/b", "a")]
    assert Plan.of(reversed(found), spec="s.yaml") == plan


def test_counts() -> None:
    """A plan knows how much there is to do, why, and what cannot be done."""
    skip = action("b", ActionKind.SKIP, Reason.IN_SYNC)
    missing = action("c", ActionKind.SKIP, Reason.MISSING)
    plan = Plan.of([action("a"), skip, missing], spec="s.yaml")
    assert plan.due == (action("a"),)
    assert plan.failures == (missing,)
    assert plan.kinds == {ActionKind.COPY: 1, ActionKind.RETAG: 0, ActionKind.SKIP: 2}
    assert plan.reasons[Reason.IN_SYNC] == 1
    assert plan.reasons[Reason.CHANGED] == 0


def test_json() -> None:
    """The JSON of a plan is versioned, counted and plain."""
    digest = str(Digest.of(b"1"))
    assert Plan.of([action("a")], spec="s.yaml").to_json() == {
        "schema": "syncer.plan/1",
        "spec": "s.yaml",
        "kinds": {"copy": 1, "retag": 0, "skip": 0},
        "reasons": {reason: int(reason == "new") for reason in Reason},
        "actions": [
            {
                "kind": "copy",
                "reason": "new",
                "entry": "e",
                "source": "hub/a",
                "target": "prod/a",
                "tag": "a",
                "digest": digest,
            }
        ],
    }


@given(st.lists(ACTIONS, max_size=5))
def test_a_plan_survives_its_file(actions: list[Action]) -> None:
    """Written and read again, a plan is the same, byte for byte."""
    plan = Plan.of(actions, spec="s.yaml")
    text = dump_plan(plan)
    again = parse_plan(text)
    assert dump_plan(again) == text
    assert sorted(map(repr, again.actions)) == sorted(map(repr, plan.actions))


GOOD: dict[str, Any] = Plan.of([action("a")], spec="s.yaml").to_json()


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "not a plan"),
        ({"schema": "syncer.report/1"}, "not a plan"),
        ({"schema": "syncer.plan/2"}, "'syncer.plan/2', not 'syncer.plan/1'"),
        ({"schema": SCHEMA, "spec": "s"}, "no 'spec' or no 'actions'"),
        ({"schema": SCHEMA, "spec": "s", "actions": [1]}, "action 0"),
        ({"schema": SCHEMA, "spec": "s", "actions": [{}]}, "action 0"),
        (GOOD | {"actions": [GOOD["actions"][0], GOOD["actions"][0] | {"kind": "burn"}]}, "action 1"),
        (GOOD | {"actions": [GOOD["actions"][0] | {"digest": "sha256:../x"}]}, "action 0"),
        (GOOD | {"actions": [GOOD["actions"][0] | {"digest": 1}]}, "action 0"),
        (GOOD | {"actions": [GOOD["actions"][0] | {"tag": "../x"}]}, "action 0"),
        (GOOD | {"actions": [GOOD["actions"][0] | {"entry": 1}]}, "action 0"),
    ],
)
def test_what_is_no_plan(value: Any, fragment: str) -> None:
    """A file that is no plan, or a damaged one, is an error with a hint."""
    with pytest.raises(UsageError) as caught:
        parse_plan(value if isinstance(value, str) else json.dumps(value))
    assert fragment in caught.value.message
    assert "syncer plan" in caught.value.hint
