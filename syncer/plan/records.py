"""What is remembered between runs: of a tag, of how a registry is asked, of an upload that was begun."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from syncer.events import TagOutcome
    from syncer.oci.digest import Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class TagRecord:
    """The last that happened to one tag of a target repository.

    ``source`` and ``target`` are ``registry/repository``; ``at`` is seconds since the epoch. Without a
    ``tag`` it is the repository as a whole: whether its tags could be looked at, all of them. What
    could not even be expanded into repositories has a ``target`` of :func:`whole_entry`.
    """

    run: str
    entry: str
    source: str
    target: str
    tag: str
    outcome: TagOutcome
    source_digest: Digest | None = None
    target_digest: Digest | None = None
    error: str = ""
    at: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedChallenge:
    """How the registry at ``location`` wants to be asked for repositories below ``prefix``, as it said in a run.

    Without a ``realm`` it is asked with Basic. There is nothing secret in it.
    """

    location: str
    prefix: str
    realm: str
    service: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UnfinishedUpload:
    """The upload of a blob that was begun: where it goes on, and how far the registry had confirmed it.

    ``offset`` is bytes, ``at`` is seconds since the epoch; a record without a time gets that of its writing.
    """

    registry: str
    repository: str
    digest: Digest
    location: str = field(repr=False)
    offset: int = 0
    at: float = 0.0


_ENTRY = "entry:"


def whole_entry(name: str) -> str:
    """Return what stands for a whole entry of the spec in a record's ``target``; no repository is called so."""
    return f"{_ENTRY}{name}"


@dataclass(frozen=True, kw_only=True)
class Unresolved:
    """What a run is limited to when only failures are tried again."""

    tags: frozenset[tuple[str, str]] = frozenset()
    repositories: frozenset[str] = frozenset()
    entries: frozenset[str] = frozenset()

    @classmethod
    def of(cls, records: Iterable[TagRecord]) -> Self:
        """Return what ``records`` speak of: tags, whole repositories and whole entries."""
        tags: set[tuple[str, str]] = set()
        repositories: set[str] = set()
        entries: set[str] = set()
        for record in records:
            if record.tag:
                tags.add((record.target, record.tag))
            elif record.target.startswith(_ENTRY):
                entries.add(record.target.removeprefix(_ENTRY))
            else:
                repositories.add(record.target)
        return cls(tags=frozenset(tags), repositories=frozenset(repositories), entries=frozenset(entries))

    def wants_all(self, entry: str, target: str) -> bool:
        """Tell whether every tag of the target repository is to be looked at."""
        return entry in self.entries or target in self.repositories

    def wants_some(self, entry: str, target: str) -> bool:
        """Tell whether any tag of the target repository is to be looked at."""
        return self.wants_all(entry, target) or target in self._targets

    @cached_property
    def _targets(self) -> frozenset[str]:
        return frozenset(target for target, _ in self.tags)

    def wants(self, entry: str, target: str, tag: str) -> bool:
        """Tell whether the tag is to be looked at."""
        return self.wants_all(entry, target) or (target, tag) in self.tags
