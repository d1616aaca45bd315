"""What the state tells of runs and repositories; a tag's record is :class:`syncer.plan.records.TagRecord`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from syncer.events import RunStatus, TagOutcome


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One run; times are seconds since the epoch, ``finished`` is None when it was never told."""

    run: str
    spec: str
    status: RunStatus
    started: float
    finished: float | None = None
    summary: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class RepositorySummary:
    """What is known of one target repository, ``registry/repository``.

    ``outcomes`` counts its tags by what last became of them; times are seconds since the epoch, and
    ``succeeded`` is None when no tag ever was copied or found in sync.
    """

    target: str
    outcomes: Mapping[TagOutcome, int] = field(default_factory=dict, hash=False)
    succeeded: float | None = None
    seen: float = 0.0

    @property
    def tags(self) -> int:
        """How many tags are known."""
        return sum(self.outcomes.values())
