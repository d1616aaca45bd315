"""What is to be done about each tag, decided without I/O.

The engine observes a tag, asks :func:`plan_tag`, and acts; ``syncer plan`` collects the same
actions into a :class:`~syncer.plan.document.Plan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest


class ActionKind(StrEnum):
    """What is to be done."""

    #: Move what is missing of the manifest's graph, then write the tag.
    COPY = "copy"
    #: The target repository has the manifest already: write the tag only.
    RETAG = "retag"
    SKIP = "skip"


class Reason(StrEnum):
    """Why it is to be done, or why nothing is."""

    #: The target has no such tag.
    NEW = "new"
    #: The target's tag stands for something else.
    CHANGED = "changed"
    IN_SYNC = "in-sync"
    #: In sync by the state's word: nobody else writes to the target, which was not asked.
    RECORDED = "recorded"
    #: Copied once, and never to be looked at again.
    IMMUTABLE = "immutable"
    #: Listed by the source, and gone when it was asked.
    VANISHED = "vanished"
    #: Named in the spec, and not in the source: the one skip that is a failure.
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Recorded:
    """What the state knows of the last copy of a tag."""

    source: Digest
    target: Digest


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TagObservation:
    """What both sides say of one tag; None where there is no such tag."""

    tag: str
    source: Descriptor | None
    target: Descriptor | None
    recorded: Recorded | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """What is to be done about one tag.

    ``source`` and ``target`` are ``registry/repository``. ``digest`` is what the tag is to stand for in
    the target, ``previous`` what it stands for now.
    """

    kind: ActionKind
    reason: Reason
    entry: str
    source: str
    target: str
    tag: str
    digest: Digest | None = None
    previous: Digest | None = None

    @property
    def is_due(self) -> bool:
        """True when something would be written."""
        return self.kind is not ActionKind.SKIP

    @property
    def is_failure(self) -> bool:
        """True when what the spec asks for cannot be done."""
        return self.reason is Reason.MISSING


def is_settled(*, immutable: bool, recorded: Recorded | None) -> bool:
    """Tell whether a tag needs no look at either side: an immutable one that was copied before."""
    return immutable and recorded is not None


def plan_tag(
    observation: TagObservation,
    *,
    entry: str,
    source: str,
    target: str,
    immutable: bool = False,
    named: bool = False,
    expected: Digest | None = None,
    is_held: bool = False,
    is_believed: bool = False,
) -> Action:
    """Decide what is to be done about one tag.

    Args:
        observation: what both sides say. For a settled tag (:func:`is_settled`) neither need be asked.
        entry: the name of the spec's entry.
        source: ``registry/repository`` that is read.
        target: ``registry/repository`` that is written.
        immutable: the spec says that the tag does not change once copied.
        named: the spec names the tag in full, so that its absence is a failure.
        expected: what the tag is to stand for in the target where that is not the source's digest: a
            platform subset has a digest of its own. While it is not known, a target that differs
            from the source counts as changed, and the copy finds out.
        is_held: the target repository is known to have the manifest to be tagged.
        is_believed: what is recorded of the tag tells what it stands for in the target, which was not asked.
    """
    recorded = observation.recorded
    present = observation.target.digest if observation.target else None
    if is_believed and recorded is not None:
        present = recorded.target

    def action(kind: ActionKind, reason: Reason, digest: Digest | None = None) -> Action:
        return Action(
            kind=kind,
            reason=reason,
            entry=entry,
            source=source,
            target=target,
            tag=observation.tag,
            digest=digest,
            previous=present,
        )

    if is_settled(immutable=immutable, recorded=recorded) or (immutable and present is not None):
        return action(ActionKind.SKIP, Reason.IMMUTABLE, present or (recorded.target if recorded else None))
    if observation.source is None:
        return action(ActionKind.SKIP, Reason.MISSING if named else Reason.VANISHED)
    wanted = expected or observation.source.digest
    if present == wanted:
        return action(ActionKind.SKIP, Reason.RECORDED if is_believed else Reason.IN_SYNC, wanted)
    kind = ActionKind.RETAG if is_held else ActionKind.COPY
    return action(kind, Reason.NEW if present is None else Reason.CHANGED, wanted)
