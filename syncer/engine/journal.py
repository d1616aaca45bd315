"""What the engine wants remembered, and a memory-only keeper of it.

The state room's store is one implementation; :class:`MemoryJournal` serves single copies and
tests. Nothing here is needed for correctness: a journal that forgets costs requests, no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from syncer.events import UNRESOLVED, TagOutcome

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from syncer.oci.digest import Digest
    from syncer.plan.records import TagRecord

#: What became of a tag of which it is known what it stands for.
SUCCESSES = frozenset({TagOutcome.COPIED, TagOutcome.IN_SYNC})
#: How many repositories a journal names for one digest.
MAX_LOCATIONS = 4


class Journal(Protocol):
    """The engine's view of the state store; see ``state.store`` for what each call promises."""

    async def record_tag(self, record: TagRecord) -> None:
        """Remember what became of a tag; may be written a little later."""
        ...

    async def tags(self, target: str, tags: Sequence[str] | None = None) -> dict[str, TagRecord]:
        """Return what is remembered of the tags of ``target``, all of them or those asked for."""
        ...

    async def unresolved_targets(self) -> Mapping[str, Collection[str]]:
        """Return the targets with tags that failed, or were not reached, when last looked at: those that failed."""
        ...

    async def last_words(self, target: str, tags: Sequence[str]) -> dict[str, TagRecord]:
        """Return the records of those of ``tags`` to which no run has done anything after what is recorded.

        They tell what the tags of ``target`` stood for when a run was done with them, as it has seen or made it.
        """
        ...

    async def unresolved_of(self, target: str) -> list[TagRecord]:
        """Return what is remembered of the tags of ``target`` that failed, or were not reached, when last looked at."""
        ...

    async def record_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
        """Remember that the repository holds the digests."""
        ...

    async def knows(self, registry: str) -> bool:
        """Tell whether any content of the registry is remembered."""
        ...

    async def locate(self, registry: str, digests: Collection[Digest]) -> dict[Digest, list[str]]:
        """Return up to four repositories of the registry for each digest, the freshest first."""
        ...

    async def held(self, registry: str, repository: str, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the digests that the repository is remembered to hold."""
        ...

    async def forget_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
        """Forget that the repository holds the digests."""
        ...

    async def record_subset(self, source: Digest, platforms: str, target: Digest) -> None:
        """Remember which digest a platform subset of an index has."""
        ...

    async def subset(self, source: Digest, platforms: str) -> Digest | None:
        """Return the digest of a platform subset, when it is remembered."""
        ...

    async def subsets(self, sources: Collection[Digest], platforms: str) -> dict[Digest, Digest]:
        """Return the digests of the platform subsets that are remembered, by what they are subsets of."""
        ...


class MemoryJournal:
    """A journal that lives as long as its process."""

    def __init__(self) -> None:
        self._tags: dict[str, dict[str, TagRecord]] = {}
        self._content: dict[str, dict[Digest, dict[str, None]]] = {}
        self._subsets: dict[tuple[Digest, str], Digest] = {}

    async def record_tag(self, record: TagRecord) -> None:
        """Remember what became of a tag."""
        self._tags.setdefault(record.target, {})[record.tag] = record

    async def tags(self, target: str, tags: Sequence[str] | None = None) -> dict[str, TagRecord]:
        """Return what is remembered of the tags of ``target``."""
        records = self._tags.get(target, {})
        return dict(records) if tags is None else {tag: records[tag] for tag in tags if tag in records}

    async def unresolved_targets(self) -> Mapping[str, Collection[str]]:
        """Return the targets with tags that failed, or were not reached, when last looked at: those that failed."""
        unresolved = {target: await self.unresolved_of(target) for target in self._tags}
        return {
            target: {one.tag for one in records if one.outcome is TagOutcome.FAILED}
            for target, records in unresolved.items()
            if records
        }

    async def last_words(self, target: str, tags: Sequence[str]) -> dict[str, TagRecord]:
        """Return the records of those of ``tags`` that were copied, or found in sync, when last looked at."""
        records = await self.tags(target, tags)
        return {tag: record for tag, record in records.items() if record.outcome in SUCCESSES}

    async def unresolved_of(self, target: str) -> list[TagRecord]:
        """Return the tags of ``target`` that failed, or were not reached, when last looked at."""
        return [one for one in self._tags.get(target, {}).values() if one.tag and one.outcome in UNRESOLVED]

    async def record_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
        """Remember that the repository holds the digests."""
        content = self._content.setdefault(registry, {})
        for digest in digests:
            content.setdefault(digest, {})[repository] = None

    async def knows(self, registry: str) -> bool:
        """Tell whether any content of the registry is remembered."""
        return bool(self._content.get(registry))

    async def locate(self, registry: str, digests: Collection[Digest]) -> dict[Digest, list[str]]:
        """Return up to four repositories of the registry for each digest, the freshest first."""
        content = self._content.get(registry, {})
        return {digest: list(content[digest])[: -MAX_LOCATIONS - 1 : -1] for digest in digests if digest in content}

    async def held(self, registry: str, repository: str, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the digests that the repository is remembered to hold."""
        content = self._content.get(registry, {})
        return {digest for digest in digests if repository in content.get(digest, ())}

    async def forget_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
        """Forget that the repository holds the digests."""
        content = self._content.get(registry, {})
        for digest in digests:
            content.get(digest, {}).pop(repository, None)

    async def record_subset(self, source: Digest, platforms: str, target: Digest) -> None:
        """Remember which digest a platform subset of an index has."""
        self._subsets[source, platforms] = target

    async def subset(self, source: Digest, platforms: str) -> Digest | None:
        """Return the digest of a platform subset, when it is remembered."""
        return self._subsets.get((source, platforms))

    async def subsets(self, sources: Collection[Digest], platforms: str) -> dict[Digest, Digest]:
        """Return the digests of the platform subsets that are remembered, by what they are subsets of."""
        return {source: known for source in sources if (known := self._subsets.get((source, platforms)))}


class ReadOnlyJournal:
    """What another journal remembers, with nothing added to it: for runs that only look."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.tags = journal.tags
        self.unresolved_targets = journal.unresolved_targets
        self.last_words = journal.last_words
        self.unresolved_of = journal.unresolved_of
        self.knows = journal.knows
        self.locate = journal.locate
        self.held = journal.held
        self.subset = journal.subset
        self.subsets = journal.subsets

    async def record_tag(self, record: TagRecord) -> None:
        """Remember nothing."""

    async def record_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
        """Remember nothing."""

    async def forget_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
        """Forget nothing."""

    async def record_subset(self, source: Digest, platforms: str, target: Digest) -> None:
        """Remember nothing."""
