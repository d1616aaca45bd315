"""Bringing one target repository in step with its source: look at each tag, decide, act."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio

from syncer.engine.blobs import blamed_on
from syncer.engine.images import ImageCopier
from syncer.engine.listing import list_pair
from syncer.errors import NotFound, Side, SyncerError
from syncer.events import TagFinished, TagOutcome
from syncer.oci.referrers import cosign_tags, fallback_tag
from syncer.oci.subset import subset
from syncer.plan.actions import Action, ActionKind, Reason, Recorded, TagObservation, plan_tag
from syncer.plan.records import TagRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncer.content import Source, Target
    from syncer.engine.blobs import BlobMover
    from syncer.engine.images import CopyOptions
    from syncer.engine.journal import Journal
    from syncer.engine.listing import Listing, Selection
    from syncer.events import Observer
    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class RepositoryPair:
    """One source repository, the target repository it goes to, and what of it is wanted."""

    entry: str
    source: Source
    target: Target
    selection: Selection
    options: CopyOptions

    @property
    def source_name(self) -> str:
        """``registry/repository`` of the source."""
        return f"{self.source.registry}/{self.source.repository}"

    @property
    def target_name(self) -> str:
        """``registry/repository`` of the target."""
        return f"{self.target.registry}/{self.target.repository}"


class RepositorySync:
    """Syncs the tags of one :class:`RepositoryPair`."""

    def __init__(
        self,
        pair: RepositoryPair,
        blobs: BlobMover,
        journal: Journal,
        observer: Observer,
        *,
        run: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pair = pair
        self._blobs = blobs
        self._journal = journal
        self._observer = observer
        self._run = run
        self._clock = clock
        self._listing: Listing | None = None
        self._records: dict[str, TagRecord] = {}
        self._copier = ImageCopier(pair.source, pair.target, blobs, observer, pair.options)

    async def list(self) -> Listing:
        """List both sides; must come before any tag is observed.

        Raises:
            SyncerError: when the source cannot be listed.
        """
        pair = self.pair
        self._listing = listing = await list_pair(
            pair.source, pair.target, pair.selection, self._observer, referrers=pair.options.referrers
        )
        self._copier = ImageCopier(
            pair.source, pair.target, self._blobs, self._observer, pair.options, companions=listing.companions
        )
        return listing

    # ------------------------------------------------------------------ look

    async def observe(self, tag: str, *, exact: bool = False) -> Action:
        """Look at ``tag`` on both sides, with as few requests as decide it, and say what is due.

        A tag that the target does not have is due whatever the source says, so the source is not asked
        and the action has no digest, unless ``exact`` wants one.

        Raises:
            SyncerError: when a side could not be asked.
        """
        pair = self.pair
        immutable = pair.selection.is_immutable(tag)
        if immutable and (settled := await self._settled(tag)):
            return self._plan(TagObservation(tag=tag, source=None, target=None, recorded=settled), immutable=True)
        found = await self._resolve_target(tag)
        if found is None and not exact:
            return Action(
                kind=ActionKind.COPY,
                reason=Reason.NEW,
                entry=pair.entry,
                source=pair.source_name,
                target=pair.target_name,
                tag=tag,
            )
        if found is not None and immutable:
            return self._plan(TagObservation(tag=tag, source=None, target=found), immutable=True)
        wanted = await self._resolve_source(tag)
        expected = await self._expected(wanted) if wanted else None
        return self._plan(TagObservation(tag=tag, source=wanted, target=found), expected=expected)

    def _plan(self, observation: TagObservation, *, immutable: bool = False, expected: Digest | None = None) -> Action:
        pair = self.pair
        return plan_tag(
            observation,
            entry=pair.entry,
            source=pair.source_name,
            target=pair.target_name,
            immutable=immutable,
            named=pair.selection.literal_tags() is not None,
            expected=expected,
        )

    async def _settled(self, tag: str) -> Recorded | None:
        """Return what is recorded of an immutable tag that was copied and that the target still lists."""
        present = self._listing.present if self._listing else None
        if present is None or tag not in present:
            return None
        record = (await self._journal.tags(self.pair.target_name, [tag])).get(tag)
        if record is None or record.source_digest is None or record.target_digest is None:
            return None
        return Recorded(source=record.source_digest, target=record.target_digest)

    async def _resolve_target(self, tag: str) -> Descriptor | None:
        present = self._listing.present if self._listing else None
        if present is not None and tag not in present:
            return None
        try:
            with blamed_on(Side.TARGET):
                return await self.pair.target.resolve(tag)
        except NotFound:
            return None

    async def _resolve_source(self, tag: str) -> Descriptor | None:
        try:
            with blamed_on(Side.SOURCE):
                return await self.pair.source.resolve(tag)
        except NotFound:
            return None

    async def _expected(self, wanted: Descriptor) -> Digest:
        """Return the digest that the target should have: the source's, or that of its platform subset."""
        platforms = self.pair.options.platforms_key
        if not platforms or (wanted.is_manifest and not wanted.is_index):
            return wanted.digest
        known = await self._journal.subset(wanted.digest, platforms)
        if known is None:
            with blamed_on(Side.SOURCE):
                index = await self.pair.source.fetch_manifest(wanted.digest)
            known = subset(index, self.pair.options.platforms).digest if index.is_index else index.digest
            await self._journal.record_subset(wanted.digest, platforms, known)
        return known

    # ------------------------------------------------------------------ act

    async def sync(self, tag: str) -> None:
        """Bring ``tag`` in step; what became of it is told to the observer and the journal, not raised.

        Raises:
            StateError, StorageFull: when the journal cannot be written.
        """
        began = self._clock()
        source_digest: Digest | None = None
        try:
            done, source_digest = await self._sync(tag)
        except SyncerError as error:
            if isinstance(error, NotFound) and error.side is Side.SOURCE and await self._has_vanished(tag):
                done = self._finished(tag, TagOutcome.SKIPPED, reason=Reason.VANISHED)
            else:
                done = replace(self._finished(tag, TagOutcome.FAILED), error=error)
        except anyio.get_cancelled_exc_class():
            self._observer.notify(self._finished(tag, TagOutcome.CANCELLED))
            raise
        done = replace(done, seconds=self._clock() - began)
        await self._record(done, source_digest)
        self._observer.notify(done)

    async def _sync(self, tag: str) -> tuple[TagFinished, Digest | None]:
        """Look and act; return what became of the tag, and the source's digest when it is known."""
        action = await self.observe(tag)
        in_sync = action.reason in (Reason.IN_SYNC, Reason.IMMUTABLE)
        if in_sync and not self.pair.options.recheck:
            done = self._finished(tag, TagOutcome.IN_SYNC, reason=action.reason, digest=action.digest)
            if action.reason is Reason.IN_SYNC and action.digest:
                done = replace(done, referrers=await self._late_companions(action.digest))
            return done, action.digest
        # A tag that the source seems to have lost is fetched all the same: the error says what happened.
        copied = await self._copier.copy(tag, tag)
        if platforms := self.pair.options.platforms_key:
            await self._journal.record_subset(copied.source_digest, platforms, copied.digest)
        done = self._finished(tag, TagOutcome.COPIED, reason=action.reason, digest=copied.digest)
        return replace(done, referrers=copied.referrers), copied.source_digest

    async def _late_companions(self, digest: Digest) -> int:
        """Bring what was attached to an image after it was copied, as far as the tag list shows it for free."""
        companions = (self._listing.companions if self._listing else None) or frozenset()
        if not companions or not self.pair.options.referrers:
            return 0
        count = 0
        for tag in cosign_tags(digest):
            if tag in companions and (await self.observe(tag)).kind is not ActionKind.SKIP:
                await self._copier.copy(tag, tag)
                count += 1
        tag = fallback_tag(digest)
        if tag in companions:
            with blamed_on(Side.SOURCE):
                current = (await self.pair.source.resolve(tag)).digest
            known = (await self._journal.tags(self.pair.target_name, [tag])).get(tag)
            if known is None or known.source_digest != current:
                count += await self._copier.copy_companions(digest)
                await self._record(self._finished(tag, TagOutcome.COPIED, digest=current), current)
        return count

    async def _has_vanished(self, tag: str) -> bool:
        """Tell whether a tag that was listed is gone from the source by now, rather than broken."""
        if self.pair.selection.literal_tags() is not None:
            return False
        try:
            await self.pair.source.resolve(tag)
        except NotFound:
            return True
        except SyncerError:
            return False
        return False

    # ------------------------------------------------------------------ tell

    def _finished(
        self, tag: str, outcome: TagOutcome, *, reason: str = "", digest: Digest | None = None
    ) -> TagFinished:
        pair = self.pair
        return TagFinished(
            entry=pair.entry,
            source=pair.source_name,
            target=pair.target_name,
            tag=tag,
            outcome=outcome,
            reason=reason,
            digest=digest,
        )

    async def _record(self, done: TagFinished, source_digest: Digest | None) -> None:
        await self._journal.record_tag(
            TagRecord(
                run=self._run,
                entry=done.entry,
                source=done.source,
                target=done.target,
                tag=done.tag,
                outcome=done.outcome,
                source_digest=source_digest,
                target_digest=done.digest,
                error=done.error.message if done.error else "",
                at=self._clock(),
            )
        )
