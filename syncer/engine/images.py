"""Copying one image: the walk of its manifest graph, children first and the tag last.

The graph of an image is its manifest, for an index the manifests it lists at any depth, their
blobs, and everything that refers to any of these manifests: what the referrers API lists, and
cosign's tags. A node is written when all it links to is there, so that nothing ever resolves to
something incomplete (ARCHITECTURE, the engine's rules 1 and 2).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from syncer.content import ReferrerKeeper, ReferrerLister, is_able
from syncer.engine.blobs import blamed_on
from syncer.engine.fanout import Flights, run_all
from syncer.errors import (
    NOT_GIVEN_BACK_HINT,
    Denied,
    DigestMismatch,
    NotFound,
    ServerFailure,
    Side,
    SizeExceedsLimit,
    Unauthorized,
)
from syncer.events import ManifestPushed
from syncer.oci.referrers import cosign_tags, fallback_tag
from syncer.oci.subset import subset

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence

    from syncer.content import Source, Target
    from syncer.engine.blobs import BlobMover
    from syncer.events import Observer
    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest
    from syncer.oci.manifest import Manifest
    from syncer.oci.platform import Platform

    Call = Callable[[], Coroutine[object, object, object]]
    Companions = Callable[[], Awaitable[Collection[str] | None]]

#: Indexes within indexes, and referrers of referrers; real graphs have three levels.
MAX_DEPTH = 8
#: Manifests of one image with everything that refers to it.
MAX_MANIFESTS = 20_000
#: How often a push is tried again when the registry says that content went missing meanwhile.
MAX_REPAIRS = 2
#: Manifests of one repository that a run remembers to have written; forgetting one costs two requests.
MAX_WRITTEN = 20_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CopyOptions:
    """What of an image is copied, and how far knowledge is trusted."""

    #: Empty means all, and the digest stays what it was.
    platforms: tuple[Platform, ...] = ()
    #: Signatures, SBOMs and attestations travel along.
    referrers: bool = True
    #: Look at every manifest and blob again, whatever is known to be there.
    recheck: bool = False
    #: Nobody else writes to the target, so that its tags stand for what they are recorded to stand for.
    sole_writer: bool = False

    @property
    def platforms_key(self) -> str:
        """The platforms as text, by which a subset's digest is remembered."""
        return ",".join(sorted(str(platform) for platform in self.platforms))


@dataclass(kw_only=True, slots=True, eq=False)
class _Walk:
    """What one image's walk has met."""

    seen: set[Digest] = field(default_factory=set)
    #: Manifests that are there now, by this walk or another of this run, and whose referrers are yet to be looked at.
    fresh: dict[Digest, None] = field(default_factory=dict)
    #: Referrers of which nothing was known and that the target turned out to have; theirs are yet to be looked at, too.
    found: dict[Digest, None] = field(default_factory=dict)
    #: What the target lists as referring to what the walk has come to.
    listed: set[Digest] = field(default_factory=set)
    #: Nothing is known of what refers to the content: the target is asked for its lists.
    is_asking: bool = False
    #: The target has failed at writing some of it before: what it says to have written is asked for.
    is_doubted: bool = False
    confirmed: set[Digest] = field(default_factory=set)
    #: Companion tags that the walk has come to.
    tags: set[str] = field(default_factory=set)
    referrers: int = 0

    def subjects(self, fresh: int = 0, found: int = 0) -> list[Digest]:
        """Return what is to be looked at for referrers, but for so many of each that were before."""
        return [*list(self.fresh)[fresh:], *list(self.found)[found:]]

    def enter(self, digest: Digest, depth: int) -> None:
        """Note that the walk has come to ``digest``.

        Raises:
            SizeExceedsLimit: when the graph is too deep or too large to be an image.
        """
        self.seen.add(digest)
        if depth > MAX_DEPTH:
            raise SizeExceedsLimit(f"manifest {digest} lies deeper than {MAX_DEPTH} levels", side=Side.SOURCE)
        if len(self.seen) > MAX_MANIFESTS:
            raise SizeExceedsLimit(f"the image has over {MAX_MANIFESTS} manifests", side=Side.SOURCE)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Companion:
    """Something that refers to a manifest: listed as a referrer, or held by a tag of cosign's."""

    link: Descriptor | None = None
    tag: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Copied:
    """What a copy came to: the digest in the target, the source's, and how many referrers travelled.

    Nothing was written when the target had it all along.
    """

    digest: Digest
    source_digest: Digest
    referrers: int
    was_held: bool = False


class ImageCopier:
    """Copies images from one source repository to one target repository."""

    def __init__(
        self,
        source: Source,
        target: Target,
        blobs: BlobMover,
        observer: Observer,
        options: CopyOptions | None = None,
        *,
        companions: Collection[str] | Companions | None = None,
    ) -> None:
        """Prepare a copier.

        Args:
            source: the repository to read.
            target: the repository to write.
            blobs: moves blobs within the target's registry; shared with its other repositories.
            observer: hears of every manifest written.
            options: what to copy.
            companions: the source's tags of the form ``sha256-…``, when its tags were listed; or what waits until
                they are, which is asked only when all the content of an image is there.
        """
        self.options = options or CopyOptions()
        self._source = source
        self._target = target
        self._blobs = blobs
        self._holdings = blobs.holdings
        self._observer = observer
        self._companions = companions
        self._flights: Flights[Digest] = Flights()
        #: What this run has written by digest, with the manifests below it.
        self._written: OrderedDict[Digest, tuple[Digest, ...]] = OrderedDict()
        #: Who copies a whole image. Only who is about to copy the same one waits for it, and holds nothing then.
        self._images: Flights[tuple[Digest, bool]] = Flights()
        #: Images that this run has brought with all that refers to them; and whether they are the source's own.
        self._brought: OrderedDict[tuple[Digest, bool], None] = OrderedDict()
        #: The companion tags that this run has dealt with.
        self.companions_seen: set[str] = set()

    async def copy(
        self,
        reference: str,
        tag: str,
        *,
        digest: Digest | None = None,
        held: Digest | None = None,
        doubted: bool = False,
    ) -> Copied:
        """Copy what ``reference`` (a tag or digest) stands for, and then let ``tag`` point to it.

        An empty ``tag`` writes the manifest by its digest only. When ``digest`` is given, nothing else is
        written to the target than what has it. Nothing is written when it turns out to be ``held``, what the
        target's tag stands for: the digest in a registry's HEAD may be another than that of its bytes.
        Where the target is ``doubted``, it is asked for each manifest that it says to have written.

        Raises:
            DigestMismatch: when the manifest to be written does not have the ``digest`` asked for.
            NotFound: when the source has no such manifest, or lacks a part of it.
            SyncerError: whatever else stopped it; the tag was not written.
        """
        original = await self._fetch(reference)
        top = original
        if original.is_index and self.options.platforms:
            with blamed_on(Side.SOURCE):
                top = subset(original, self.options.platforms)
        if digest is not None and digest != top.digest:
            raise DigestMismatch(
                f"{reference} is {top.digest}, and the target asks for {digest}",
                hint="Leave the digest out of the target, or name it in the source.",
            )
        if top.digest == held:
            return Copied(digest=top.digest, source_digest=original.digest, referrers=0, was_held=True)
        walk = _Walk(is_doubted=doubted or self.options.recheck)
        walk.enter(top.digest, 0)
        image = (top.digest, top is original)
        while image in self._images:
            await self._images.wait(image)
        if image in self._brought:
            await self._push(top, tag, walk)
            return Copied(digest=top.digest, source_digest=original.digest, referrers=0)
        with self._images.lead(image):
            await self._bring(top, tag, walk, is_original=top is original)
            self._brought[image] = None
            if len(self._brought) > MAX_WRITTEN:
                self._brought.popitem(last=False)
        return Copied(digest=top.digest, source_digest=original.digest, referrers=walk.referrers)

    async def _bring(self, top: Manifest, tag: str, walk: _Walk, *, is_original: bool) -> None:
        """Copy what ``top`` links to and what refers to any of it, and write the tag last."""
        await self._ensure_links(top, walk, 0)
        # A subset is another manifest than the one that was signed: what refers to the whole index does not fit it.
        subjects = [top.digest, *walk.fresh] if is_original else list(walk.fresh)
        companions = await self._find_companions(subjects, walk)
        # What is doubted is to be there before a tag moves to it.
        if companions or (walk.is_doubted and tag and not self.options.recheck):
            await self._push(top, "", walk, is_top=True)
            await self._copy_companions(companions, walk)
        if tag or not companions:
            await self._push(top, tag, walk, is_top=True)
        await self._settle([top.digest, *walk.fresh])

    async def copy_companions(self, digest: Digest, *, is_known: bool) -> int:
        """Copy what is listed as referring to ``digest``, which the target has already.

        Returns how much there is, and nothing where the target had all of it.

        Cosign's tags of ``digest`` itself are tags like any other, and left to who syncs tags.

        Args:
            digest: what is referred to.
            is_known: an earlier run has noted what it brought; else the target is asked for its list first, as all
                of it may be there.
        """
        walk = _Walk(is_asking=not (is_known or self.options.recheck), is_doubted=self.options.recheck)
        walk.enter(digest, 0)
        listed = [companion for companion in await self._find_companions([digest], walk) if companion.link]
        await self._copy_companions(listed, walk)
        await self._settle(walk.subjects())
        return walk.referrers if walk.fresh else 0

    async def _settle(self, manifests: Collection[Digest]) -> None:
        """Remember that the manifests are in the target, and what refers to them too.

        Without the latter they are not remembered: a later copy would take them for complete.
        """
        if self.options.referrers:
            await self._holdings.add(self._target.repository, manifests)

    # ------------------------------------------------------------------ content: links first, then the manifest

    async def _fetch(self, reference: str) -> Manifest:
        with blamed_on(Side.SOURCE):
            return await self._source.fetch_manifest(reference)

    async def _ensure_links(self, manifest: Manifest, walk: _Walk, depth: int) -> None:
        """Make everything that ``manifest`` links to present in the target repository."""
        blobs = list(manifest.blobs())
        await self._holdings.learn(self._target.repository, [link.digest for link in (*blobs, *manifest.manifests)])
        # The largest first: what is started last should be what ends soonest.
        calls: list[Call] = [
            partial(self._blob, blob)
            for blob in sorted(blobs, key=lambda blob: blob.size, reverse=True)
            if self.options.recheck or not self._holdings.holds(self._target.repository, blob.digest)
        ]
        calls += [partial(self._copy_manifest, child, walk, depth + 1) for child in manifest.manifests]
        if calls:
            await run_all(calls)

    async def _blob(self, blob: Descriptor) -> None:
        await self._blobs.ensure(blob, self._source, self._target, doubted=self.options.recheck)

    async def _copy_manifest(self, link: Descriptor, walk: _Walk, depth: int) -> None:
        """Copy a manifest by its digest, with all below it.

        Waiting for another image that copies the same manifest cannot end in a circle: who is waited for
        waits only for manifests below its own, and a manifest cannot lie below itself. What refers to a
        manifest is therefore left to a later step, which no one waits for.
        """
        walk.enter(link.digest, depth)
        if not self.options.recheck and self._holdings.holds(self._target.repository, link.digest):
            return
        while link.digest in self._flights:
            await self._flights.wait(link.digest)
        if link.digest in self._written:
            # Another image has brought it, and may yet fail to bring what refers to it and to what is below it.
            if walk.is_doubted and not self.options.recheck:
                await self._confirm(link.digest)
            self._note_fresh(link.digest, walk)
            return
        with self._flights.lead(link.digest):
            try:
                manifest = await self._fetch(link.digest)
            except NotFound:
                if link.is_manifest:
                    raise
                # An index may list what is no manifest at all; then it lives among the blobs.
                await self._blob(link)
                return
            await self._ensure_links(manifest, walk, depth)
            await self._push(manifest, "", walk)
        walk.fresh[manifest.digest] = None

    def _note_fresh(self, digest: Digest, walk: _Walk) -> None:
        below = [digest]
        while below:
            known = below.pop()
            if known not in walk.fresh and not self._holdings.holds(self._target.repository, known):
                walk.fresh[known] = None
                below += self._written.get(known, ())

    # ------------------------------------------------------------------ companions: what refers to the content

    async def _find_companions(self, subjects: Sequence[Digest], walk: _Walk) -> list[_Companion]:
        """Return what refers to any of ``subjects``, listed side by side."""
        if not self.options.referrers:
            return []
        found: list[_Companion] = []
        known = await self._companions() if callable(self._companions) else self._companions

        async def look(subject: Digest) -> None:
            if is_able(self._source, ReferrerLister):
                with blamed_on(Side.SOURCE):
                    links = await self._source.referrers(subject, known_tags=known)
                if len(links) > 1 and is_able(self._target, ReferrerKeeper):
                    self._target.order_referrers(subject, [link.digest for link in links])
                if links and walk.is_asking:
                    walk.listed |= await self._listed_there(subject)
                self.companions_seen.add(fallback_tag(subject))
                found.extend(_Companion(link=link) for link in links if link.digest not in walk.seen)
            tags = [tag for tag in cosign_tags(subject) if tag in (known or ()) and tag not in walk.tags]
            walk.tags.update(tags)
            found.extend(_Companion(tag=tag) for tag in tags)

        if subjects:
            await run_all([partial(look, subject) for subject in subjects])
        return found

    async def _listed_there(self, subject: Digest) -> set[Digest]:
        """Return what the target lists as referring to ``subject``."""
        if not is_able(self._target, ReferrerLister):
            return set()
        try:
            with blamed_on(Side.TARGET):
                return {link.digest for link in await self._target.referrers(subject)}
        except (Denied, NotFound):
            return set()

    async def _copy_companions(self, companions: list[_Companion], walk: _Walk) -> None:
        """Copy ``companions``, then what refers to them, and so on."""
        for depth in range(1, MAX_DEPTH + 2):
            if not companions:
                return
            walk.referrers += len(companions)
            links = [companion.link.digest for companion in companions if companion.link]
            await self._holdings.learn(self._target.repository, links)
            known = len(walk.fresh), len(walk.found)
            await run_all([partial(self._copy_companion, companion, walk, depth) for companion in companions])
            companions = await self._find_companions(walk.subjects(*known), walk)
        raise SizeExceedsLimit(f"referrers of referrers, over {MAX_DEPTH} levels of them", side=Side.SOURCE)

    async def _copy_companion(self, companion: _Companion, walk: _Walk, depth: int) -> None:
        if companion.link:
            if await self._is_found(companion.link.digest, walk):
                walk.enter(companion.link.digest, depth)
                walk.found[companion.link.digest] = None
                return
            await self._copy_manifest(companion.link, walk, depth)
            return
        # A tag of cosign's points to an image of its own, which may be signed in turn.
        manifest = await self._fetch(companion.tag)
        walk.enter(manifest.digest, depth)
        await self._ensure_links(manifest, walk, depth)
        await self._push(manifest, companion.tag, walk)
        self.companions_seen.add(companion.tag)
        walk.fresh[manifest.digest] = None

    async def _is_found(self, digest: Digest, walk: _Walk) -> bool:
        """Tell whether the target has a referrer of which nothing was known.

        It is asked for, and so is one that an earlier run has brought: nothing links to it, and the registry would
        not say that it is gone, as it does of a manifest's links. Nor does a list that is kept under a tag.
        """
        is_held = self._holdings.holds(self._target.repository, digest)
        if self.options.recheck or digest in self._written or not (is_held or digest in walk.listed):
            return False
        try:
            with blamed_on(Side.TARGET):
                await self._target.resolve(digest)
        except (Denied, NotFound):
            await self._blobs.doubt(self._target.repository, [digest])
            return False
        return not is_held

    # ------------------------------------------------------------------ writing

    async def _push(self, manifest: Manifest, tag: str, walk: _Walk, *, is_top: bool = False) -> None:
        """Write ``manifest``; when the registry misses what was known to be there, bring that and write again.

        What is brought again may have lost its referrers, too. They are looked for where the manifest ``is_top``:
        nobody waits for it who holds a flight.
        """
        for repair in range(MAX_REPAIRS + 1):
            try:
                with blamed_on(Side.TARGET):
                    await self._target.push_manifest(manifest, tag)
                break
            except NotFound as error:
                links = [*manifest.blobs(), *manifest.manifests]
                missing = [link for link in links if link.digest in error.missing]
                if repair == MAX_REPAIRS or not links:
                    raise
                # Some registries name one at a time: who has to be told twice looks at everything.
                known = len(walk.fresh)
                await self._repair(missing if missing and repair == 0 else links, walk)
                if is_top:
                    lost = await self._find_companions(list(walk.fresh)[known:], walk)
                    await self._copy_companions(lost, walk)
        if walk.is_doubted and manifest.digest not in walk.confirmed:
            await self._confirm(manifest.digest)
            walk.confirmed.add(manifest.digest)
        self._written[manifest.digest] = tuple(child.digest for child in manifest.manifests)
        if len(self._written) > MAX_WRITTEN:
            self._written.popitem(last=False)
        self._observer.notify(
            ManifestPushed(
                target=f"{self._target.registry}/{self._target.repository}",
                digest=manifest.digest,
                size=manifest.size,
                tag=tag,
            )
        )

    async def _confirm(self, digest: Digest) -> None:
        """Ask for a manifest that the target says it has written.

        docker-registry whose disk was full when it wrote a manifest keeps an empty file of it, which it takes for the
        manifest ever after: it acknowledges each later write, does none, and can give nothing back.

        Raises:
            NotFound, ServerFailure: when the target does not give it back.
        """
        try:
            with blamed_on(Side.TARGET):
                await self._target.resolve(digest)
        except (Denied, Unauthorized):
            # Who may write need not be allowed to read.
            return
        except (NotFound, ServerFailure) as error:
            error.hint = f"{error.hint} {NOT_GIVEN_BACK_HINT}".strip()
            raise

    async def _repair(self, missing: list[Descriptor], walk: _Walk) -> None:
        """Bring again what the registry says it does not have."""
        digests = [link.digest for link in missing]
        await self._blobs.doubt(self._target.repository, digests)
        calls: list[Call] = []
        for link in missing:
            self._written.pop(link.digest, None)
            calls.append(partial(self._copy_manifest, link, walk, 1) if link.is_manifest else partial(self._blob, link))
        await run_all(calls)
