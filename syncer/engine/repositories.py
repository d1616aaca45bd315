"""Bringing one target repository in step with its source: look at each tag, decide, act."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio

from syncer.engine.blobs import blamed_on
from syncer.engine.images import ImageCopier
from syncer.engine.listing import Listing
from syncer.errors import Denied, Interrupted, NotFound, Side, SyncerError
from syncer.events import TagFinished, TagOutcome
from syncer.oci.descriptor import Descriptor
from syncer.oci.referrers import is_companion, is_fallback, subject_of_tag
from syncer.oci.subset import subset
from syncer.plan.actions import Action, ActionKind, Reason, Recorded, TagObservation, plan_tag
from syncer.plan.records import TagRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from syncer.content import Source, Target
    from syncer.engine.blobs import BlobMover
    from syncer.engine.images import CopyOptions
    from syncer.engine.journal import Journal
    from syncer.engine.listing import Selection
    from syncer.events import Observer
    from syncer.oci.digest import Digest


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RepositoryPair:
    """One source repository, the target repository it goes to, and what of it is wanted."""

    entry: str
    source: Source
    target: Target
    selection: Selection
    options: CopyOptions
    #: The source was found in a catalog, not named in the spec.
    is_match: bool = False

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
        doubted: Collection[str] = (),
        admits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Prepare to sync; ``admits`` has the last word on each tag that is selected.

        What the target says to have written of tags that are ``doubted``, as it failed at them before, is asked for.
        """
        self.pair = pair
        self._blobs = blobs
        self._journal = journal
        self._observer = observer
        self._run = run
        self._clock = clock
        self._doubted = doubted
        #: To be run beside; a tag may be looked at once it was handed out there.
        self.listing = Listing(
            pair.source, pair.target, pair.selection, observer, referrers=pair.options.referrers, admits=admits
        )
        self._copier = ImageCopier(
            pair.source, pair.target, blobs, observer, pair.options, companions=self.listing.companions
        )
        #: Manifests that the source's companion tags speak of, once these are known; and those of them, all until
        #: then, that this run has found in sync.
        self._subjects: frozenset[Digest] | None = None
        self._in_sync: set[Digest] = set()
        #: What is recorded of tags that were handed out and not looked at yet, where the target need not be asked.
        self._believed: dict[str, Recorded] = {}

    # ------------------------------------------------------------------ look

    async def observe(self, tag: str, *, exact: bool = False) -> Action:
        """Look at ``tag`` on both sides, with as few requests as decide it, and say what is due.

        A tag that the target does not have is due whatever the source says, so the source is not asked
        and the action has no digest, unless ``exact`` wants one.

        Raises:
            SyncerError: when a side could not be asked.
        """
        return (await self._look(tag, exact=exact))[0]

    async def _look(self, tag: str, *, exact: bool = False) -> tuple[Action, Digest | None]:
        """Observe ``tag``; return the source's digest beside the action, where it is known."""
        pair = self.pair
        immutable = pair.selection.is_immutable(tag)
        settled = (await self._settled([tag])).get(tag) if immutable else None
        if settled is not None and not pair.options.recheck:
            return self._immutable(tag, settled)
        recorded = self._believed.pop(tag, None)
        found = await self._resolve_target(tag) if recorded is None else None
        if settled is not None and found is not None:
            return self._immutable(tag, settled)
        if recorded is None and found is None and not exact:
            action = Action(
                kind=ActionKind.COPY,
                reason=Reason.NEW,
                entry=pair.entry,
                source=pair.source_name,
                target=pair.target_name,
                tag=tag,
            )
            return action, None
        if found is not None and immutable:
            return self._plan(TagObservation(tag=tag, source=None, target=found), immutable=True), None
        wanted = await self._resolve_source(tag)
        expected = await self._expected(wanted, recorded) if wanted else None
        observation = TagObservation(tag=tag, source=wanted, target=found, recorded=recorded)
        action = self._plan(observation, expected=expected, is_believed=recorded is not None)
        return action, wanted.digest if wanted else None

    def _plan(
        self,
        observation: TagObservation,
        *,
        immutable: bool = False,
        expected: Digest | None = None,
        is_believed: bool = False,
    ) -> Action:
        pair = self.pair
        return plan_tag(
            observation,
            entry=pair.entry,
            source=pair.source_name,
            target=pair.target_name,
            immutable=immutable,
            named=observation.tag in pair.selection.named_tags(),
            expected=expected,
            is_believed=is_believed,
        )

    def _immutable(self, tag: str, settled: Recorded) -> tuple[Action, Digest | None]:
        observation = TagObservation(tag=tag, source=None, target=None, recorded=settled)
        return self._plan(observation, immutable=True), settled.source

    async def _settled(self, tags: Sequence[str]) -> dict[str, Recorded]:
        """Return what is recorded of immutable tags that were copied, unless the target's list lacks them now."""
        present = self.listing.present
        asked = [tag for tag in tags if present is None or tag in present]
        records = await self._journal.tags(self.pair.target_name, asked) if asked else {}
        return {
            tag: Recorded(source=record.source_digest, target=record.target_digest)
            for tag, record in records.items()
            if record.source_digest is not None and record.target_digest is not None
        }

    async def _believe(self, tags: Sequence[str]) -> dict[str, Recorded]:
        """Return what is recorded of ``tags`` of which that is enough: nobody else writes them, and they are there.

        That they are there is told by the target's list, which has been read anyway. Of another entry, source or set
        of platforms nothing is believed, and nothing of companions: who copies an image writes its companions' tags,
        and records none of them.
        """
        pair, present = self.pair, self.listing.present
        if not pair.options.sole_writer or present is None:
            return {}
        asked = [tag for tag in tags if tag in present and present[tag] is None and not is_companion(tag)]
        records = await self._journal.last_words(pair.target_name, asked) if asked else {}
        found = {
            tag: Recorded(source=record.source_digest, target=record.target_digest)
            for tag, record in records.items()
            if record.source_digest is not None
            and record.target_digest is not None
            and (record.entry, record.source) == (pair.entry, pair.source_name)
        }
        subsets: dict[Digest, Digest] = {}
        if found and (platforms := pair.options.platforms_key):
            subsets = await self._journal.subsets({recorded.source for recorded in found.values()}, platforms)
        else:
            subsets = {recorded.source: recorded.source for recorded in found.values()}
        return {tag: recorded for tag, recorded in found.items() if subsets.get(recorded.source) == recorded.target}

    async def _resolve_target(self, tag: str) -> Descriptor | None:
        present = self.listing.present
        if present is not None:
            if tag not in present:
                return None
            if digest := present[tag]:
                return _listed(digest)
        try:
            with blamed_on(Side.TARGET):
                return await self.pair.target.resolve(tag)
        except (Denied, NotFound):
            # Registries that make repositories at the first push refuse to speak of one that is not there yet.
            return None

    async def _resolve_source(self, tag: str) -> Descriptor | None:
        if digest := self.listing.digests.get(tag):
            return _listed(digest)
        try:
            with blamed_on(Side.SOURCE):
                return await self.pair.source.resolve(tag)
        except NotFound:
            return None

    async def _expected(self, wanted: Descriptor, recorded: Recorded | None = None) -> Digest:
        """Return the digest that the target should have: the source's, or that of its platform subset."""
        platforms = self.pair.options.platforms_key
        if not platforms:
            return wanted.digest
        if recorded is not None and recorded.source == wanted.digest:
            return recorded.target
        if wanted.is_manifest and not wanted.is_index:
            if self.pair.options.sole_writer:
                # A record says nothing of platforms: what tells the next run that this is all of it.
                await self._journal.record_subset(wanted.digest, platforms, wanted.digest)
            return wanted.digest
        known = await self._journal.subset(wanted.digest, platforms)
        if known is None:
            with blamed_on(Side.SOURCE):
                index = await self.pair.source.fetch_manifest(wanted.digest)
                known = subset(index, self.pair.options.platforms).digest if index.is_index else index.digest
            await self._journal.record_subset(wanted.digest, platforms, known)
        return known

    # ------------------------------------------------------------------ act

    async def settle(self, tags: Sequence[str]) -> list[str]:
        """Be done with those of ``tags`` that need no request, all at once; return the others.

        These are the tags whose digests are listed on both sides and equal, or by the source and recorded of a target
        that nobody else writes, and immutable ones that were copied.

        Raises:
            StateError, StorageFull: when the journal cannot be written.
        """
        pair = self.pair
        if pair.options.recheck:
            return list(tags)
        immutable = {tag for tag in tags if pair.selection.is_immutable(tag)}
        settled = await self._settled([tag for tag in tags if tag in immutable])
        believed = await self._believe([tag for tag in tags if tag not in immutable])
        others: list[str] = []
        for tag in tags:
            if tag in settled:
                action, source_digest = self._immutable(tag, settled[tag])
            elif tag in immutable or (listed := self._listed_in_sync(tag, believed.get(tag))) is None:
                if recorded := believed.get(tag):
                    self._believed[tag] = recorded
                others.append(tag)
                continue
            else:
                action, source_digest = listed
                self._note_in_sync(source_digest)
            done = self._finished(tag, TagOutcome.IN_SYNC, reason=action.reason, digest=action.digest)
            await self._record(done, source_digest)
            self._observer.notify(done)
        return others

    def _listed_in_sync(self, tag: str, recorded: Recorded | None) -> tuple[Action, Digest] | None:
        """Return what to say of a tag that is in sync as the source's list, and the target's or a record, tell."""
        source = self.listing.digests.get(tag)
        if source is None:
            return None
        if recorded is not None:
            if source != recorded.source:
                return None
            observation = TagObservation(tag=tag, source=_listed(source), target=None, recorded=recorded)
            return self._plan(observation, expected=recorded.target, is_believed=True), source
        # A platform subset has a digest of its own, which no list tells.
        if self.pair.options.platforms or (self.listing.present or {}).get(tag) != source:
            return None
        return self._plan(TagObservation(tag=tag, source=_listed(source), target=_listed(source))), source

    def _note_in_sync(self, digest: Digest | None) -> None:
        if digest is None or not self.pair.options.referrers:
            return
        if self._subjects is None and self.listing.is_complete:
            self._subjects = self.listing.subjects()
            self._in_sync &= self._subjects
        if self._subjects is None or digest in self._subjects:
            self._in_sync.add(digest)

    async def sync(self, tag: str) -> None:
        """Bring ``tag`` in step; what became of it is told to the observer and the journal, not raised.

        Raises:
            StateError, StorageFull: when the journal cannot be written.
        """
        began = self._clock()
        source_digest: Digest | None = None
        try:
            try:
                done, source_digest = await self._sync(tag)
            except SyncerError as error:
                done = await self._failed(tag, error)
        except BaseException:
            # Cancelled, or a fault of ours: what was recorded before is no longer known to be so.
            cancelled = self._finished(tag, TagOutcome.CANCELLED)
            self._observer.notify(cancelled)
            await self._record(cancelled, None)
            raise
        done = replace(done, seconds=self._clock() - began)
        await self._record(done, source_digest)
        self._observer.notify(done)

    async def _sync(self, tag: str) -> tuple[TagFinished, Digest | None]:
        """Look and act; return what became of the tag, and the source's digest when it is known."""
        in_sync = Reason.RECORDED if tag in self._believed else Reason.IN_SYNC
        action, source_digest = await self._look(tag)
        if action.reason in (in_sync, Reason.IMMUTABLE):
            if self.pair.options.recheck:
                await self._copy_again(action, source_digest)
            elif action.reason is not Reason.IMMUTABLE:
                self._note_in_sync(source_digest)
            done = self._finished(tag, TagOutcome.IN_SYNC, reason=action.reason, digest=action.digest)
            return done, source_digest
        if action.reason is Reason.NEW:
            self._blobs.expect_bare(self.pair.target.repository)
        # A tag that the source seems to have lost is fetched all the same: the error says what happened.
        copied = await self._copier.copy(
            tag, tag, held=None if self.pair.options.recheck else action.previous, doubted=tag in self._doubted
        )
        if platforms := self.pair.options.platforms_key:
            await self._journal.record_subset(copied.source_digest, platforms, copied.digest)
        if copied.was_held:
            # The registry's HEAD or list names another digest than its bytes have; what counts is the bytes.
            self._note_in_sync(copied.source_digest)
            done = self._finished(tag, TagOutcome.IN_SYNC, reason=in_sync, digest=copied.digest)
            return done, copied.source_digest
        done = self._finished(tag, TagOutcome.COPIED, reason=action.reason, digest=copied.digest)
        return replace(done, referrers=copied.referrers), copied.source_digest

    async def _copy_again(self, action: Action, source_digest: Digest | None) -> None:
        """Walk an image that is in sync, and repair what is missing; the tag stays where it is.

        An immutable tag is rechecked by what it stands for, not by what the source's tag stands for now;
        when the source has that no longer, there is nothing to compare with.
        """
        if action.reason is Reason.IN_SYNC:
            await self._copier.copy(action.tag, action.tag)
            return
        try:
            await self._copier.copy(source_digest or action.digest or "", "", digest=action.digest)
        except NotFound as error:
            if error.side is not Side.SOURCE:
                raise

    # ------------------------------------------------------------------ what was attached later

    async def sync_companions(self, may_begin: Callable[[], bool] = lambda: True) -> bool:
        """Bring what was attached to images after they were copied, as far as the source's tag list shows it.

        Looked at are the tags of cosign and of the tag schema that speak of a manifest which the target is
        known to have: an image found in sync by this run, or anything that an earlier run recorded.

        Returns:
            False when there was one yet to be looked at, and ``may_begin`` said no.
        """
        companions = await self.listing.companions() or frozenset()
        subjects = self.listing.subjects()
        if not self.pair.options.referrers or not subjects:
            return True
        target = self.pair.target
        held = self._in_sync & subjects | await self._journal.held(target.registry, target.repository, subjects)
        for tag in sorted(companions - self._copier.companions_seen):
            subject = subject_of_tag(tag)
            if subject is None or subject not in held:
                continue
            if not may_begin():
                return False
            try:
                brought = await self._listed_later(tag, subject) if is_fallback(tag) else await self._signed_later(tag)
            except Interrupted:
                return False
            except SyncerError as error:
                self._observer.notify(replace(self._finished(tag, TagOutcome.of(error)), error=error))
                continue
            if brought is not None:
                self._observer.notify(brought)
        return True

    async def _signed_later(self, tag: str) -> TagFinished | None:
        action, _ = await self._look(tag)
        if action.reason is Reason.IN_SYNC:
            return None
        copied = await self._copier.copy(tag, tag)
        done = self._finished(tag, TagOutcome.COPIED, reason=action.reason, digest=copied.digest)
        return replace(done, referrers=copied.referrers)

    async def _listed_later(self, tag: str, subject: Digest) -> TagFinished | None:
        found = await self._resolve_source(tag)
        if found is None:
            return None
        current = found.digest
        known = (await self._journal.tags(self.pair.target_name, [tag])).get(tag)
        if known is not None and known.source_digest == current:
            return None
        count = await self._copier.copy_companions(subject, is_known=known is not None)
        done = replace(self._finished(tag, TagOutcome.COPIED, reason=Reason.CHANGED), referrers=count)
        await self._record(done, current)
        return done if count else None

    async def _failed(self, tag: str, error: SyncerError) -> TagFinished:
        """Return what became of a tag that ``error`` has ended."""
        try:
            if isinstance(error, NotFound) and error.side is Side.SOURCE and await self._has_vanished(tag):
                return self._finished(tag, TagOutcome.SKIPPED, reason=Reason.VANISHED)
        except Interrupted as interrupted:
            error = interrupted
        if isinstance(error, Interrupted):
            return self._finished(tag, TagOutcome.CANCELLED)
        return replace(self._finished(tag, TagOutcome.of(error)), error=error)

    async def forget_unwanted(self) -> None:
        """Have done with tags that an earlier run failed at, or did not reach, and that are not wanted any more.

        The source has them no longer, or the spec selects others now: no run would ever come to them again, and each
        would be told of as not in step for good. To be called once the listing is complete.
        """
        pair = self.pair
        for record in await self._journal.unresolved_of(pair.target_name):
            is_own = (record.entry, record.source) == (pair.entry, pair.source_name)
            if is_own and not self.listing.has_selected(record.tag):
                await self._record(self._finished(record.tag, TagOutcome.SKIPPED), None)

    async def _has_vanished(self, tag: str) -> bool:
        """Tell whether a tag that was listed is gone from the source by now, rather than broken.

        Raises:
            Interrupted: when there was no time to find out.
        """
        if tag in self.pair.selection.named_tags():
            return False
        try:
            await self.pair.source.resolve(tag)
        except NotFound:
            return True
        except Interrupted:
            raise
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
        """Remember what became of a tag; a cancellation waits until that is done, and told by the caller."""
        record = TagRecord(
            # Nobody has looked what an immutable tag stands for: it stays what some run has recorded.
            run="" if done.reason == Reason.IMMUTABLE else self._run,
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
        with anyio.CancelScope(shield=True):
            await self._journal.record_tag(record)


def _listed(digest: Digest) -> Descriptor:
    """Describe what a list of tags gives the digest of, and nothing else; a HEAD would claim no more."""
    return Descriptor(media_type="", digest=digest, size=0)
