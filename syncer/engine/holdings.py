"""Which repositories of one target registry hold which digests: the mount index.

Only what is known to be there is kept, never what is missing. It is filled by this run and, for
digests not met yet, from the journal; a contradiction by the registry drops the knowledge.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from anyio import CancelScope

from syncer.engine.journal import MAX_LOCATIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from syncer.engine.journal import Journal
    from syncer.oci.digest import Digest

#: Digests kept in memory; older ones are asked of the journal again.
CAPACITY = 100_000


class Holdings:
    """The mount index of one registry."""

    def __init__(self, registry: str, journal: Journal, *, capacity: int = CAPACITY) -> None:
        self.registry = registry
        self._journal = journal
        self._capacity = capacity
        self._places: OrderedDict[Digest, dict[str, None]] = OrderedDict()
        #: The journal has nothing to add to what is in memory; None before it was asked.
        self._has_all: bool | None = None

    async def learn(self, repository: str, digests: Iterable[Digest]) -> None:
        """Bring what the journal knows of ``digests`` to mind, before :meth:`holds` is asked."""
        unknown = [digest for digest in digests if digest not in self._places]
        if not unknown:
            return
        if self._has_all is None:
            # At a first sync the journal is empty: it need not say so for every image.
            self._has_all = not await self._journal.knows(self.registry)
        if self._has_all:
            return
        located = await self._journal.locate(self.registry, unknown)
        # A full list may have left out the very repository that is asked about.
        full = [digest for digest, places in located.items() if len(places) >= MAX_LOCATIONS]
        held = await self._journal.held(self.registry, repository, full) if full else set()
        for digest in unknown:
            places = self._remember(digest)
            places.update(dict.fromkeys(reversed(located.get(digest, []))))
            if digest in held:
                places[repository] = None

    def holds(self, repository: str, digest: Digest) -> bool:
        """Tell whether the repository is known to hold the digest."""
        return repository in self._places.get(digest, ())

    def mount_source(self, repository: str, digest: Digest) -> str:
        """Return another repository that holds the digest, the one learned last; empty when none does."""
        places = self._places.get(digest)
        if not places:
            return ""
        return next((place for place in reversed(places) if place != repository), "")

    async def add(self, repository: str, digests: Collection[Digest]) -> None:
        """Note that the repository holds the digests now; a cancellation waits until that is done."""
        for digest in digests:
            self._remember(digest)[repository] = None
        # What is there and not noted is asked for, or sent, again by the next run.
        with CancelScope(shield=True):
            await self._journal.record_content(self.registry, repository, digests)

    async def drop(self, repository: str, digests: Collection[Digest]) -> None:
        """Note that the registry contradicted: the repository does not hold the digests."""
        for digest in digests:
            self._places.get(digest, {}).pop(repository, None)
        await self._journal.forget_content(self.registry, repository, digests)

    def _remember(self, digest: Digest) -> dict[str, None]:
        places = self._places.get(digest)
        if places is None:
            places = self._places[digest] = {}
            if len(self._places) > self._capacity:
                self._places.popitem(last=False)
                self._has_all = False
        return places
