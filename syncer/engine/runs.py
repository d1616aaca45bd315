"""One run of a spec: a task per repository, a bounded number at once, failures kept apart."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio import lowlevel

from syncer.engine.blobs import BlobMover, blamed_on
from syncer.engine.claims import Claim, Claims
from syncer.engine.draining import Drain
from syncer.engine.fanout import open_group
from syncer.engine.holdings import Holdings
from syncer.engine.images import CopyOptions
from syncer.engine.readings import Readings
from syncer.engine.repositories import RepositoryPair, RepositorySync
from syncer.errors import Interrupted, InvalidReference, NotFound, Side, SyncerError
from syncer.events import (
    EntryFailed,
    LookCut,
    Notice,
    RepositoryFinished,
    RepositoryListed,
    RepositoryStarted,
    TagFinished,
    TagOutcome,
)
from syncer.plan.records import TagRecord, Unresolved, whole_entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence

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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Breadth:
    """How much a run has open at once; bounds memory, not speed: requests have windows of their own.

    Both are counted for each target registry: one that is slow is not to take the places of the others.
    """

    repositories: int = 64
    images: int = 64


class _Names:
    """The repositories that entries have in common: listed once, and read by each entry at its own pace."""

    def __init__(self, readers: int) -> None:
        self._readers = readers
        self._names: list[str] = []
        #: How many of them the quickest reader has taken.
        self._taken = 0
        self._has_ended = False
        self._failure: SyncerError | None = None
        self._changed = anyio.Event()
        #: Some entry has come to its turn: there is reason to list them.
        self.wanted = anyio.Event()

    async def put(self, name: str) -> bool:
        """Add one, and return when a reader wants another; False when there is none left."""
        self._names.append(name)
        self._announce()
        while self._readers and self._taken < len(self._names):
            await self._changed.wait()
        return self._readers > 0

    def end(self, failure: SyncerError | None) -> None:
        """No more come: that was all, or listing them failed."""
        self._has_ended, self._failure = True, failure
        self._announce()

    async def read(self) -> AsyncIterator[str]:
        """Yield every name; raise the failure when there is one, in the end."""
        self.wanted.set()
        at = 0
        while True:
            while at < len(self._names):
                at += 1
                self._taken = max(self._taken, at)
                self._announce()
                yield self._names[at - 1]
            if self._has_ended:
                break
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    def leave(self) -> None:
        """Read no more."""
        self.wanted.set()
        self._readers -= 1
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Turn:
    """When an entry starts: all its repositories after those of the one ``before`` it, for the same target registry.

    So the first in the spec claims first. Entries for other registries wait neither for its catalog nor for a place.
    """

    before: anyio.Event
    is_over: anyio.Event = field(default_factory=anyio.Event)


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
        only: Unresolved | None = None,
        breadth: Breadth | None = None,
        drain: Drain | None = None,
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
            only: when given, what to look at, all else being left alone.
            breadth: how many repositories and images are open at once.
            drain: begins when nothing more is to be begun; images under way are brought to their end.
            clock: seconds since the epoch.
        """
        self._entries = entries
        self._places = places
        self._journal = journal
        self._observer = observer
        self._run = run
        self._turns: dict[str, _Turn] = {}
        self._recheck = recheck
        self._only = only
        self._drain = drain or Drain()
        breadth = breadth or Breadth()
        self._repositories: defaultdict[str, anyio.Semaphore] = defaultdict(
            lambda: anyio.Semaphore(breadth.repositories)
        )
        # Tags come in batches, with others' turns between them: there is none after each.
        self._images: defaultdict[str, anyio.Semaphore] = defaultdict(
            lambda: anyio.Semaphore(breadth.images, fast_acquire=True)
        )
        self._clock = clock
        self._movers: dict[str, BlobMover] = {}
        self._readings = Readings()
        self._fans = _fans(entries)
        self._claims = Claims(entries, observer, lambda key, repository: places.target(key, repository).registry)
        self._begun_entries: set[str] = set()
        self._is_writing = False
        #: Targets with tags that were not brought in step when they were last looked at, and those of them that failed.
        self._unresolved: Mapping[str, Collection[str]] = {}

    async def execute(self) -> None:
        """Sync every tag of every entry; failures are told to the observer, never raised, and so is what was cut."""
        self._is_writing = True
        self._unresolved = await self._journal.unresolved_targets()
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
                        outcome=TagOutcome.of(error),
                        error=error,
                    )
                )

        await self._for_each_tag(look)
        order = {entry.name: at for at, entry in enumerate(self._entries)}
        return sorted(actions, key=lambda action: (order[action.entry], action.target, action.tag))

    # ------------------------------------------------------------------ fan out

    async def _for_each_tag(self, work: Work) -> None:
        self._turns = _turns(self._entries, self._places)
        try:
            async with open_group() as group:
                with self._drain.cut():
                    async with open_group() as starters:
                        for entries in _alike(self._entries):
                            starters.start_soon(self._start_entries, entries, work, group)
        finally:
            for entry in self._entries:
                if entry.name not in self._begun_entries:
                    await self._record(entry.name, "", whole_entry(entry.name), TagOutcome.CANCELLED, None)

    async def _start_entries(self, entries: Sequence[SyncEntry], work: Work, group: TaskGroup) -> None:
        """Start entries that read the same repositories, which are listed no faster than one of them goes on."""
        names = _Names(len(entries))
        async with open_group() as starters:
            for entry in entries:
                starters.start_soon(self._start_entry, entry, names, work, group)
            await names.wanted.wait()
            failure: SyncerError | None = None
            try:
                async with aclosing(self._expand(entries[0])) as repositories:
                    async for repository in repositories:
                        if not await names.put(repository):
                            break
            except SyncerError as error:
                failure = error
            names.end(failure)

    async def _start_entry(self, entry: SyncEntry, names: _Names, work: Work, group: TaskGroup) -> None:
        """Start the repositories of one entry, one after the other, as long as there are places for its target's."""
        outcome = TagOutcome.CANCELLED
        failure: SyncerError | None = None
        self._begun_entries.add(entry.name)
        try:
            await self._turns[entry.name].before.wait()
            async for repository in names.read():
                await self._start_repository(entry, repository, work, group)
            outcome = TagOutcome.IN_SYNC
        except Interrupted:
            pass
        except SyncerError as error:
            outcome, failure = TagOutcome.of(error), error
            self._claims.fail(entry)
            self._observer.notify(EntryFailed(entry=entry.name, error=error))
        finally:
            names.leave()
            self._turns[entry.name].is_over.set()
            await self._record(entry.name, "", whole_entry(entry.name), outcome, failure)

    async def _start_repository(self, entry: SyncEntry, repository: str, work: Work, group: TaskGroup) -> None:
        pair = self._pair(entry, repository)
        if pair is None or (self._only and not self._only.wants_some(entry.name, pair.target_name)):
            return
        claim = self._claims.claim(pair)
        # Taken here and not in the task, so that a catalog is read no faster than it is worked off.
        await self._repositories[pair.target.registry].acquire()
        group.start_soon(self._repository, pair, claim, work)

    def _pair(self, entry: SyncEntry, repository: str) -> RepositoryPair | None:
        """Open both sides of one repository; None, and told, when the template makes no name of it."""
        try:
            target = entry.target.render(repository)
        except InvalidReference as error:
            self._observer.notify(EntryFailed(entry=entry.name, error=error))
            return None
        source = self._places.source(entry.source_registry, repository)
        fan = self._fans.get(entry.source_registry, ())
        targets = {other.target_registry for other in fan if other.source.matches(repository)}
        self._readings.expect(source.registry, repository, len(targets))
        return RepositoryPair(
            entry=entry.name,
            source=source,
            target=self._places.target(entry.target_registry, target),
            selection=entry.tags,
            options=CopyOptions(
                platforms=entry.platforms,
                referrers=entry.referrers,
                recheck=self._recheck,
                sole_writer=entry.sole_writer,
            ),
            is_match=entry.source.literal is None,
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

    async def _repository(self, pair: RepositoryPair, claim: Claim, work: Work) -> None:
        began = self._clock()
        outcome = TagOutcome.CANCELLED
        error: SyncerError | None = None
        try:
            self._observer.notify(RepositoryStarted(entry=pair.entry, source=pair.source_name, target=pair.target_name))
            if await self._tags(pair, claim, work):
                outcome = TagOutcome.IN_SYNC
        except Interrupted:
            # As good as cut, and told as that.
            pass
        except SyncerError as raised:
            outcome, error = TagOutcome.of(raised), raised
        finally:
            claim.end()
            self._repositories[pair.target.registry].release()
            await self._record(pair.entry, pair.source_name, pair.target_name, outcome, error)
        self._observer.notify(
            RepositoryFinished(
                entry=pair.entry,
                source=pair.source_name,
                target=pair.target_name,
                seconds=self._clock() - began,
                error=error,
            )
        )

    async def _record(
        self, entry: str, source: str, target: str, outcome: TagOutcome, error: SyncerError | None
    ) -> None:
        """Remember how looking at a whole repository or entry ended, so that it can be tried again."""
        if outcome is TagOutcome.CANCELLED:
            self._observer.notify(LookCut(entry=entry, source=source, target=target if source else ""))
            if self._only and not self._only.wants_all(entry, target):
                # The tags that were to be tried again are remembered one by one: those not begun are so still.
                return
        if not self._is_writing:
            return
        record = TagRecord(
            run=self._run,
            entry=entry,
            source=source,
            target=target,
            tag="",
            outcome=outcome,
            error=error.message if error else "",
            at=self._clock(),
        )
        with anyio.CancelScope(shield=True):
            await self._journal.record_tag(record)

    async def _tags(self, pair: RepositoryPair, claim: Claim, work: Work) -> bool:
        """Look at the tags while they are listed, the first before the last is known; False when that was cut."""
        sync = RepositorySync(
            pair,
            self._mover(pair.target.registry),
            self._journal,
            self._observer,
            run=self._run,
            clock=self._clock,
            doubted=self._unresolved.get(pair.target_name, ()),
            admits=partial(self._admits, pair, claim),
        )
        places = self._images[pair.target.registry]
        async with open_group() as images:
            with self._drain.cut() as cut:
                async with open_group() as group:
                    group.start_soon(self._list, sync, claim)
                    async for batch in sync.listing.batches():
                        for tag in await sync.settle(batch) if self._is_writing else batch:
                            # A place that is free is taken without a turn of the loop, in which a cut would be felt.
                            await lowlevel.checkpoint_if_cancelled()
                            await places.acquire()
                            images.start_soon(_one, work, sync, tag, places)
            if cut.cancelled_caught:
                sync.listing.cut()
        if cut.cancelled_caught:
            return False
        if not self._is_writing:
            return True
        if pair.target_name in self._unresolved:
            await sync.forget_unwanted()
        return await sync.sync_companions(lambda: not self._drain.has_begun)

    async def _list(self, sync: RepositorySync, claim: Claim) -> None:
        """List both sides; a repository that a catalog names and that lists no tags is empty, not missing."""
        pair, listing = sync.pair, sync.listing
        try:
            # Who comes first in the spec is to be known before a tag is handed out.
            for other in claim.earlier:
                await other.wait()
            await listing.run()
        except NotFound as error:
            if listing.listed or not pair.is_match or error.side is not Side.SOURCE:
                raise
            text = "the catalog names it, and it lists no tags: a push that was not finished, perhaps"
            self._observer.notify(Notice(where=pair.source_name, text=text))
            listing.end()
        except anyio.get_cancelled_exc_class():
            self._observer.notify(_listed(sync))
            raise
        claim.is_listed()
        if listing.listed and not listing.selected:
            text = f"none of its {listing.listed} tags is selected by entry {pair.entry!r}"
            self._observer.notify(Notice(where=pair.source_name, text=text))
        self._observer.notify(_listed(sync))

    def _admits(self, pair: RepositoryPair, claim: Claim, tag: str) -> bool:
        """Tell whether the tag is to be looked at."""
        if self._only and not self._only.wants(pair.entry, pair.target_name, tag):
            return False
        return self._claims.admit(claim, pair, tag)

    def _mover(self, registry: str) -> BlobMover:
        if registry not in self._movers:
            self._movers[registry] = BlobMover(Holdings(registry, self._journal), self._observer, self._readings)
        return self._movers[registry]


def _listed(sync: RepositorySync) -> RepositoryListed:
    """Return how many tags are known, which may not be all."""
    return RepositoryListed(
        source=sync.pair.source_name,
        target=sync.pair.target_name,
        listed=sync.listing.listed,
        selected=sync.listing.wanted,
    )


async def _one(work: Work, sync: RepositorySync, tag: str, places: anyio.Semaphore) -> None:
    """Look at one tag, and give back its place among the images that are open."""
    try:
        await work(sync, tag)
    finally:
        places.release()


def _alike(entries: Sequence[SyncEntry]) -> list[list[SyncEntry]]:
    """Return the entries, those together that follow each other and take the same repositories to different places.

    Together they list the catalog once, and come to each blob at about the same time.
    """
    found: list[list[SyncEntry]] = []
    for entry in entries:
        last = found[-1] if found else []
        if (
            last
            and (last[0].source_registry, str(last[0].source)) == (entry.source_registry, str(entry.source))
            and entry.target_registry not in {other.target_registry for other in last}
        ):
            last.append(entry)
        else:
            found.append([entry])
    return found


def _turns(entries: Sequence[SyncEntry], places: Places) -> dict[str, _Turn]:
    """Return the turn of each entry, by its name."""
    found: dict[str, _Turn] = {}
    last: dict[str, anyio.Event] = {}
    for entry in entries:
        # Two keys of a spec may mean one registry; which, any repository of it tells.
        registry = places.target(entry.target_registry, "any").registry
        if registry not in last:
            last[registry] = anyio.Event()
            last[registry].set()
        found[entry.name] = _Turn(before=last[registry])
        last[registry] = found[entry.name].is_over
    return found


def _fans(entries: Sequence[SyncEntry]) -> dict[str, list[SyncEntry]]:
    """Return the entries of each source registry from which some go to different target registries."""
    found: dict[str, list[SyncEntry]] = {}
    for entry in entries:
        found.setdefault(entry.source_registry, []).append(entry)
    return {key: fan for key, fan in found.items() if len({entry.target_registry for entry in fan}) > 1}
