"""What is to be done about a tag."""

from __future__ import annotations

from itertools import product

import pytest

from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.media_types import OCI_INDEX
from syncer.plan import Action, ActionKind, Reason, Recorded, TagObservation, is_settled, plan_tag

ONE, TWO, THREE = (Digest.of(text) for text in (b"1", b"2", b"3"))


def descriptor(digest: Digest | None) -> Descriptor | None:
    """Return what a side says of a tag."""
    return Descriptor(media_type=OCI_INDEX, digest=digest, size=1) if digest else None


def plan(
    source: Digest | None,
    target: Digest | None,
    *,
    recorded: Recorded | None = None,
    immutable: bool = False,
    named: bool = False,
    expected: Digest | None = None,
    is_held: bool = False,
    is_believed: bool = False,
) -> Action:
    """Plan the tag ``1.0`` from what both sides say."""
    return plan_tag(
        TagObservation(tag="1.0", source=descriptor(source), target=descriptor(target), recorded=recorded),
        entry="base",
        source="hub/a",
        target="prod/a",
        immutable=immutable,
        named=named,
        expected=expected,
        is_held=is_held,
        is_believed=is_believed,
    )


@pytest.mark.parametrize(
    ("source", "target", "kind", "reason", "digest"),
    [
        (ONE, None, ActionKind.COPY, Reason.NEW, ONE),
        (ONE, TWO, ActionKind.COPY, Reason.CHANGED, ONE),
        (ONE, ONE, ActionKind.SKIP, Reason.IN_SYNC, ONE),
        (None, TWO, ActionKind.SKIP, Reason.VANISHED, None),
        (None, None, ActionKind.SKIP, Reason.VANISHED, None),
    ],
)
def test_plain_tags(
    source: Digest | None, target: Digest | None, kind: ActionKind, reason: Reason, digest: Digest | None
) -> None:
    """A tag is copied when it is new or changed, and left alone when it is in sync or gone."""
    assert plan(source, target) == Action(
        kind=kind,
        reason=reason,
        entry="base",
        source="hub/a",
        target="prod/a",
        tag="1.0",
        digest=digest,
        previous=target,
    )


def test_a_manifest_that_is_there_is_only_tagged() -> None:
    """When the target repository holds the manifest, writing the tag is all there is to do."""
    assert plan(ONE, None, is_held=True).kind is ActionKind.RETAG
    assert plan(ONE, TWO, is_held=True).reason is Reason.CHANGED
    assert plan(ONE, ONE, is_held=True).kind is ActionKind.SKIP


def test_platform_subsets_have_a_digest_of_their_own() -> None:
    """With an expected digest, that is what the target is held against and what is written."""
    assert plan(ONE, TWO, expected=TWO).reason is Reason.IN_SYNC
    assert plan(ONE, ONE, expected=TWO).digest == TWO
    assert plan(ONE, None, expected=TWO).digest == TWO


def test_immutable_tags_are_not_looked_at_again() -> None:
    """An immutable tag is skipped once it was copied or is there, whatever the source says now."""
    recorded = Recorded(source=ONE, target=TWO)
    assert plan(THREE, TWO, immutable=True).reason is Reason.IMMUTABLE
    assert plan(None, None, immutable=True, recorded=recorded).digest == TWO
    assert plan(None, THREE, immutable=True, recorded=recorded).digest == THREE
    assert plan(ONE, None, immutable=True).reason is Reason.NEW
    assert plan(THREE, TWO, recorded=recorded).reason is Reason.CHANGED


def test_what_is_recorded_stands_for_the_target() -> None:
    """Where the record is believed, it tells what the target's tag stands for; it never counts by itself."""
    recorded = Recorded(source=ONE, target=TWO)
    in_sync = plan(ONE, None, recorded=recorded, expected=TWO, is_believed=True)
    assert (in_sync.kind, in_sync.reason, in_sync.digest) == (ActionKind.SKIP, Reason.RECORDED, TWO)
    changed = plan(THREE, None, recorded=recorded, is_believed=True)
    assert (changed.reason, changed.digest, changed.previous) == (Reason.CHANGED, THREE, TWO)
    assert plan(None, None, recorded=recorded, is_believed=True).reason is Reason.VANISHED
    assert plan(ONE, None, recorded=recorded, expected=TWO).reason is Reason.NEW


def test_settled_tags_cost_nothing() -> None:
    """Only an immutable tag with a record needs no request."""
    recorded = Recorded(source=ONE, target=ONE)
    assert is_settled(immutable=True, recorded=recorded)
    assert not is_settled(immutable=True, recorded=None)
    assert not is_settled(immutable=False, recorded=recorded)


def test_a_named_tag_that_is_not_there_is_a_failure() -> None:
    """A tag that the spec names must exist; one that was listed may have gone since."""
    assert plan(None, ONE, named=True).reason is Reason.MISSING
    assert plan(None, ONE, named=True).is_failure
    assert not plan(None, ONE).is_failure


def test_every_plan_makes_sense() -> None:
    """Over all inputs: what is due has a digest that the target lacks, and planning again after it is a skip."""
    sides = (None, ONE, TWO)
    flags = (False, True)
    for source, target, expected, immutable, named, is_held in product(sides, sides, sides, flags, flags, flags):
        action = plan(source, target, expected=expected, immutable=immutable, named=named, is_held=is_held)
        assert action.is_due is (action.kind in (ActionKind.COPY, ActionKind.RETAG))
        if action.is_due:
            assert action.digest == (expected or source)
            assert action.digest != target
            again = plan(source, action.digest, expected=expected, immutable=immutable, named=named)
            assert not again.is_due
