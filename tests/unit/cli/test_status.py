"""What ``syncer status`` counts and advises."""

from __future__ import annotations

from syncer.cli.status import _command, _items
from syncer.events import RunStatus, TagOutcome
from syncer.plan.records import TagRecord, whole_entry
from syncer.state.records import RunRecord


def failed(tag: str, target: str = "t.io/a") -> TagRecord:
    """Return the record of a failure."""
    return TagRecord(run="r", entry="e", source="s.io/a", target=target, tag=tag, outcome=TagOutcome.FAILED, at=1.0)


def test_tags_repositories_and_entries_are_counted_apart() -> None:
    """A repository that could not be listed is not one more tag."""
    records = [failed("v1"), failed("v2"), failed(""), failed("", "t.io/b"), failed("", whole_entry("e"))]
    assert _items(records) == "2 tags and 2 whole repositories and 1 entry"
    assert _items(records[:1]) == "1 tag"


def test_the_advice_names_the_spec() -> None:
    """The command to try again can be pasted."""
    run = RunRecord(run="r", spec="my spec.yaml", status=RunStatus.FAILED, started=1.0, finished=2.0, summary={})
    assert _command([run], None) == "syncer run 'my spec.yaml' --retry-failed"
    assert _command([], None) == "syncer run SPEC --retry-failed"
