"""One run of a spec: a task per repository, a bounded number at once, failures kept apart."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

from syncer.engine.blobs import BlobMover, blamed_on
from syncer.engine.fanout import open_group
from syncer.engine.holdings import Holdings
from syncer.engine.images import CopyOptions
from syncer.engine.repositories import RepositoryPair, RepositorySync
from syncer.errors import InvalidReference, NotFound, PolicyViolation, Side, SyncerError
from syncer.events import EntryFailed, RepositoryFinished, RepositoryListed, RepositoryStarted, TagFinished, TagOutcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from anyio.abc import TaskGroup

    from syncer.content import Catalog, Source, Target
    from syncer.engine.journal import Journal
    from syncer.events import Observer
    from syncer.plan.actions import Action
    from syncer.spec.values import SyncEntry

    Work = Callable[[RepositorySync, str], Awaitable[None]]


class Places(Protocol):
    """Opens what the spec names: repositories and catalogs by the registry's key."""

    def source(self, registry: str, repository: str) -> Source:
        """Return a repository to read from."""
        ...

    def target(self, registry: str, repository: str) -> Target:
        """Return a repository to write to."""
        ...

    def catalog(self, registry: str) -> Catalog:
        """Return the list of the registry's repositories."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Breadth:
    """How much a run has open at once; bounds memory, not speed: requests have windows of their own."""

    repositories: int = 64
    images: int = 64


@dataclass(kw_only=True, slots=True, eq=False)
class _Claim:
    """The tags of one target repository that entries have laid claim to, the first in the spec first."""

    owners: dict[str, str]
    listed: anyio.Event


class SyncRun:
    """Runs the entries of a spec once."""

    def __init__(
        self,
        entries: Sequence[SyncEntry],
        places: Places,
        journal: Journal,
        observer: Observer,
        *,
        run: str = "",
        recheck: bool = False,
        only: frozenset[tuple[str, str]] | None = None,
        breadth: Breadth | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a run.

        Args:
            entries: what to sync.
            places: opens their registries.
            journal: what is remembered between runs.
            observer: hears everything that happens.
            run: the run's id, for the journal.
            recheck: look at every manifest and blob again, in-sync tags included.
            only: when given, the ``(target, tag)`` pairs to look at, all others being left alone.
            breadth: how many repositories and images are open at once.
            clock: seconds since the epoch.
        """
        self._entries = entries
        self._places = places
        self._journal = journal
        self._observer = observer
        self._run = run
        self._recheck = recheck
        self._only = only
        breadth = breadth or Breadth()
        self._repositories = anyio.Semaphore(breadth.repositories)
        self._images = anyio.Semaphore(breadth.images)
        self._clock = clock
        self._movers: dict[str, BlobMover] = {}
        self._claims: dict[str, list[_Claim]] = {}
        # One entry that keeps the whole path cannot write a tag twice, and needs no memory for all tags.
        self._may_collide = len(entries) > 1 or any("{path}" not in str(entry.target) for entry in entries)

    async def execute(self) -> None:
        """Sync every tag of every entry; failures are told to the observer, never raised."""
        await self._for_each_tag(RepositorySync.sync)

    async def plan(self) -> list[Action]:
        """Look at every tag and return what is due, in the order of the spec; nothing is written.

        Tags and repositories that cannot be looked at are told to the observer as failed.
        """
        actions: list[Action] = []

        async def look(sync: RepositorySync, tag: str) -> None:
            try:
                actions.append(await sync.observe(tag, exact=True))
            except SyncerError as error:
                pair = sync.pair
                self._observer.notify(
                    TagFinished(
                        entry=pair.entry,
                        source=pair.source_name,
                        target=pair.target_name,
                        tag=tag,
                        outcome=TagOutcome.FAILED,
                        error=error,
                    )
                )

        await self._for_each_tag(look)
        order = {entry.name: at for at, entry in enumerate(self._entries)}
        return sorted(actions, key=lambda action: (order[action.entry], action.target, action.tag))

    # ------------------------------------------------------------------ fan out

    async def _for_each_tag(self, work: Work) -> None:
        async with open_group() as group:
            for entry in self._entries:
                await self._start_entry(entry, work, group)

    async def _start_entry(self, entry: SyncEntry, work: Work, group: TaskGroup) -> None:
        try:
            async with aclosing(self._expand(entry)) as repositories:
                async for repository in repositories:
                    pair = self._pair(entry, repository)
                    if pair is None:
                        continue
                    claim = self._claim(pair)
                    # Taken here and not in the task, so that a catalog is read no faster than it is worked off.
                    await self._repositories.acquire()
                    group.start_soon(self._repository, pair, claim, work)
        except SyncerError as error:
            self._observer.notify(EntryFailed(entry=entry.name, error=error))

    def _pair(self, entry: SyncEntry, repository: str) -> RepositoryPair | None:
        """Open both sides of one repository; None, and told, when the template makes no name of it."""
        try:
            target = entry.target.render(repository)
        except InvalidReference as error:
            self._observer.notify(EntryFailed(entry=entry.name, error=error))
            return None
        return RepositoryPair(
            entry=entry.name,
            source=self._places.source(entry.source_registry, repository),
            target=self._places.target(entry.target_registry, target),
            selection=entry.tags,
            options=CopyOptions(platforms=entry.platforms, referrers=entry.referrers, recheck=self._recheck),
        )

    async def _expand(self, entry: SyncEntry) -> AsyncGenerator[str]:
        """Yield the source repositories of ``entry``.

        Raises:
            NotFound: when the pattern fits no repository; that is never what was meant.
        """
        if entry.source.literal is not None:
            yield entry.source.literal
            return
        seen: set[str] = set()
        with blamed_on(Side.SOURCE):
            async for name in self._places.catalog(entry.source_registry).repositories(entry.source.prefix):
                if name not in seen and entry.source.matches(name):
                    seen.add(name)
                    yield name
            if not seen:
                raise NotFound(
                    f"no repository of {entry.source_registry!r} matches {entry.source}",
                    hint="Compare the pattern with 'syncer list-repos', and check that the credentials may list it.",
                )

    async def _repository(self, pair: RepositoryPair, claim: _Claim, work: Work) -> None:
        began = self._clock()
        error: SyncerError | None = None
        try:
            self._observer.notify(RepositoryStarted(entry=pair.entry, source=pair.source_name, target=pair.target_name))
            await self._tags(pair, claim, work)
        except SyncerError as raised:
            error = raised
        finally:
            claim.listed.set()
            self._repositories.release()
        self._observer.notify(
            RepositoryFinished(
                entry=pair.entry,
                source=pair.source_name,
                target=pair.target_name,
                seconds=self._clock() - began,
                error=error,
            )
        )

    async def _tags(self, pair: RepositoryPair, claim: _Claim, work: Work) -> None:
        sync = RepositorySync(
            pair, self._mover(pair.target.registry), self._journal, self._observer, run=self._run, clock=self._clock
        )
        listing = await sync.list()
        wanted = [tag for tag in listing.selected if self._only is None or (pair.target_name, tag) in self._only]
        wanted = await self._settle(pair, claim, wanted)
        self._observer.notify(
            RepositoryListed(
                source=pair.source_name, target=pair.target_name, listed=listing.listed, selected=len(wanted)
            )
        )
        async with open_group() as group:
            for tag in wanted:
                await self._images.acquire()
                group.start_soon(self._one, work, sync, tag)

    async def _one(self, work: Work, sync: RepositorySync, tag: str) -> None:
        try:
            await work(sync, tag)
        finally:
            self._images.release()

    def _mover(self, registry: str) -> BlobMover:
        if registry not in self._movers:
            self._movers[registry] = BlobMover(Holdings(registry, self._journal), self._observer)
        return self._movers[registry]

    # ------------------------------------------------------------------ two entries, one tag

    def _claim(self, pair: RepositoryPair) -> _Claim:
        """Queue for the target repository; what the spec alone shows to collide was refused at load time."""
        claim = _Claim(owners={}, listed=anyio.Event())
        self._claims.setdefault(pair.target_name, []).append(claim)
        return claim

    async def _settle(self, pair: RepositoryPair, claim: _Claim, tags: list[str]) -> list[str]:
        """Return the tags of ``tags`` that no earlier entry writes, failing the others."""
        claims = self._claims[pair.target_name]
        earlier = claims[: claims.index(claim)]
        taken: dict[str, str] = {}
        for other in earlier:
            await other.listed.wait()
            taken.update(other.owners)
        owner = f"entry {pair.entry!r} from {pair.source_name}"
        free = [tag for tag in tags if tag not in taken]
        for tag in tags:
            if tag in taken:
                error = PolicyViolation(
                    f"{pair.target_name}:{tag} is written by {taken[tag]} already, and {owner} would write it too",
                    hint="Give one of the entries another target, or exclude the tag from it.",
                )
                self._observer.notify(
                    TagFinished(
                        entry=pair.entry,
                        source=pair.source_name,
                        target=pair.target_name,
                        tag=tag,
                        outcome=TagOutcome.FAILED,
                        error=error,
                    )
                )
        if self._may_collide:
            claim.owners = dict.fromkeys(free, owner)
        claim.listed.set()
        return free
