"""Which entry writes a tag, where several come to the same target repository: the first in the spec.

What the spec alone shows to collide was refused when it was loaded; what is left are names that only the
lists of tags tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from syncer.errors import PolicyViolation
from syncer.events import TagFinished, TagOutcome
from syncer.spec.routing import image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from syncer.engine.listing import Selection
    from syncer.engine.repositories import RepositoryPair
    from syncer.events import Observer
    from syncer.spec.values import SyncEntry


@dataclass(kw_only=True, slots=True, eq=False)
class Claim:
    """What one source writes, or would write, to a target repository; the first in the spec comes first.

    It is there until the end of the run, as another entry may come to the same repository later: so it holds
    little.
    """

    owner: str
    selection: Selection
    #: Those for the same target repository that come before it.
    earlier: tuple[Claim, ...] = ()
    tags: set[str] = field(default_factory=set)
    #: The source could not be looked at: whatever its selection fits may be its own.
    has_failed: bool = False
    #: None once every tag is known.
    _listed: anyio.Event | None = field(default_factory=anyio.Event)

    async def wait(self) -> None:
        """Wait until every tag of the source is known, or cannot be known."""
        if self._listed is not None:
            await self._listed.wait()

    def is_listed(self) -> None:
        """Let those who wait go on: every tag is known."""
        if self._listed is not None:
            self._listed.set()
            self._listed = None

    def end(self) -> None:
        """Let those who wait go on; what was not listed by now has failed."""
        self.has_failed = self._listed is not None
        self.is_listed()


class Claims:
    """The claims of a run, by target repository."""

    def __init__(
        self, entries: Sequence[SyncEntry], observer: Observer, registry_of: Callable[[str, str], str]
    ) -> None:
        """Begin without claims.

        Args:
            entries: the spec's.
            observer: hears of tags that are refused.
            registry_of: the host of a target, by the registry's key and a repository.
        """
        # One entry that keeps the whole path cannot write a tag twice, and needs no memory for all tags.
        self._may_collide = len(entries) > 1 or any("{path}" not in str(entry.target) for entry in entries)
        self._observer = observer
        self._registry_of = registry_of
        self._claims: dict[str, list[Claim]] = {}
        self._failed_entries: list[SyncEntry] = []

    def __len__(self) -> int:
        """How many are remembered."""
        return sum(map(len, self._claims.values()))

    def claim(self, pair: RepositoryPair) -> Claim:
        """Queue for the target repository."""
        owner = f"entry {pair.entry!r} from {pair.source_name}"
        if not self._may_collide:
            return Claim(owner=owner, selection=pair.selection)
        claims = self._claims.setdefault(pair.target_name, [])
        claim = Claim(owner=owner, selection=pair.selection, earlier=tuple(claims))
        claims.append(claim)
        return claim

    def fail(self, entry: SyncEntry) -> None:
        """Remember that the repositories of ``entry`` are not known: whatever its template fits may be its own."""
        self._failed_entries.append(entry)

    def admit(self, claim: Claim, pair: RepositoryPair, tag: str) -> bool:
        """Tell whether the tag is to be written: nobody earlier in the spec writes it, or might; else it has failed."""
        taken = next((other.owner for other in claim.earlier if tag in other.tags), None)
        doubtful = None if taken else self._doubtful_owner(pair, claim.earlier, tag)
        if taken or doubtful:
            self._observer.notify(_refused(pair, tag, claim.owner, taken, doubtful))
            return False
        if self._may_collide:
            claim.tags.add(tag)
        return True

    def _doubtful_owner(self, pair: RepositoryPair, earlier: Sequence[Claim], tag: str) -> str | None:
        """Return who comes first in the spec, may own the tag, and could not be looked at."""
        for other in earlier:
            if other.has_failed and other.selection.selects(tag):
                return other.owner
        for entry in self._failed_entries:
            if entry.name != pair.entry and entry.tags.selects(tag) and self._might_write(entry, pair):
                return f"entry {entry.name!r}"
        return None

    def _might_write(self, entry: SyncEntry, pair: RepositoryPair) -> bool:
        repository = pair.target.repository
        globs = image(entry.source, entry.target).globs
        if not any(glob.matches(repository) for glob in globs):
            return False
        return self._registry_of(entry.target_registry, repository) == pair.target.registry


def _refused(pair: RepositoryPair, tag: str, owner: str, taken: str | None, doubtful: str | None) -> TagFinished:
    name = f"{pair.target_name}:{tag}"
    if taken:
        error = PolicyViolation(
            f"{name} is written by {taken} already, and {owner} would write it too",
            hint="Give one of the entries another target, or exclude the tag from it.",
        )
    else:
        error = PolicyViolation(
            f"{name} may belong to {doubtful}, which could not be looked at; {owner} does not write it meanwhile",
            hint="Run again when the other source can be reached, or exclude the tag from one of the entries.",
        )
    return TagFinished(
        entry=pair.entry,
        source=pair.source_name,
        target=pair.target_name,
        tag=tag,
        outcome=TagOutcome.FAILED,
        error=error,
    )
