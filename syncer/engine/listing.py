"""What both sides list of a repository, handed out while they do."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.lowlevel

from syncer.content import Source, TagDescriber
from syncer.engine.blobs import blamed_on
from syncer.engine.fanout import open_group
from syncer.errors import ContentError, Denied, Interrupted, NotFound, Side, Unauthorized, Unsupported
from syncer.events import Notice
from syncer.oci.referrers import is_companion, subject_of_tag

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import TaskGroup

    from syncer.content import Target
    from syncer.events import Observer
    from syncer.oci.digest import Digest

#: Up to this many tags are asked for one by one on the target, rather than by listing all it has.
FEW_TAGS = 4
#: Tags that are handed out together.
BATCH = 200


class Selection(Protocol):
    """Which tags of a repository are wanted; ``spec.selection`` is what implements it."""

    def selects(self, tag: str) -> bool:
        """Tell whether the tag is wanted."""
        ...

    def literal_tags(self) -> tuple[str, ...] | None:
        """Return the wanted tags when they are all named one by one, else None."""
        ...

    def named_tags(self) -> tuple[str, ...]:
        """Return the wanted tags that are named in full."""
        ...

    def is_immutable(self, tag: str) -> bool:
        """Tell whether the tag is declared never to move."""
        ...


class Listing:
    """The tags of a repository pair, known bit by bit while both sides list them.

    A tag is handed out as soon as it is known whether the target lists it, so that the first is looked at
    while the last is not listed yet. Listing waits for nobody: what is handed out later is kept meanwhile.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        selection: Selection,
        observer: Observer,
        *,
        referrers: bool,
        admits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Prepare to list; nothing is asked before :meth:`run`.

        Args:
            source: the side that is read.
            target: the side that is written.
            selection: which tags are wanted.
            observer: hears what a person should know.
            referrers: the source's ``sha256-…`` tags are wanted, too.
            admits: has the last word on a tag that is wanted; asked once for each.
        """
        self._source = source
        self._target = target
        self._selection = selection
        self._observer = observer
        self._referrers = referrers
        self._admits = admits
        #: The tags that the source listed so far, companions not counted, and those of them that are selected.
        self.listed = 0
        self.selected = 0
        #: How many of the selected were admitted.
        self.wanted = 0
        #: What the source's list says that wanted tags and companions stand for; a tag that is not here has to be
        #: asked for.
        self.digests: dict[str, Digest] = {}
        #: The target's tags, with their digests where its list has them; None when each has to be asked for. Of a
        #: tag that was handed out it says all there is to say.
        self.present: dict[str, Digest | None] | None = None
        self._seen: set[str] = set()
        self._undecided: dict[str, None] = {}
        self._decided: deque[str] = deque()
        self._is_decided = False
        self._has_ended = False
        self._more = anyio.Event()
        self._companions: frozenset[str] | None = None
        self._is_listed = anyio.Event()
        self._is_cut = False

    async def run(self) -> None:
        """List the source, and the target as far as that saves requests; whoever waits for tags gets them.

        Those who wait are not woken by a failure: they are to be cancelled with it.

        Raises:
            NotFound: when the source has no such repository.
            SyncerError: when a side cannot be listed.
        """
        async with open_group() as group:
            await self._list_source(group)
            if self.present is None:
                self._decide_all()
        self.end()

    def end(self) -> None:
        """No more tags come: what was listed is all there is."""
        self._decide_all()
        self._has_ended = True
        self._is_listed.set()
        self._more.set()

    def cut(self) -> None:
        """Listing has been given up for good; who waits for the end of the source's list waits no longer."""
        self._is_cut = not self._is_listed.is_set()
        self._is_listed.set()

    async def batches(self) -> AsyncIterator[list[str]]:
        """Yield the wanted tags, some at a time, until the end; for one who takes them all."""
        while True:
            while self._decided:
                yield [self._decided.popleft() for _ in range(min(BATCH, len(self._decided)))]
                # A list of 100,000 comes in a few pages, and others want to run, too.
                await anyio.lowlevel.checkpoint()
            if self._has_ended:
                return
            self._more = anyio.Event()
            await self._more.wait()

    async def companions(self) -> frozenset[str] | None:
        """Wait for the end of the source's list, and return its ``sha256-…`` tags; None when it was not listed.

        Raises:
            Interrupted: when it was cut.
        """
        await self._is_listed.wait()
        if self._is_cut:
            raise Interrupted("stopped before all tags of the source were listed")
        return self._companions

    def subjects(self) -> frozenset[Digest]:
        """Return the manifests that the source's ``sha256-…`` tags speak of; none before :attr:`is_complete`."""
        return frozenset(filter(None, map(subject_of_tag, self._companions or ())))

    def has_selected(self, tag: str) -> bool:
        """Tell whether the tag is among the selected ones so far."""
        return tag in self._seen

    @property
    def is_complete(self) -> bool:
        """True when the source's list has come to its end."""
        return self._is_listed.is_set() and not self._is_cut

    @property
    def is_new(self) -> bool:
        """True when the target was listed, and has nothing."""
        return self._is_decided and self.present is not None and not self.present

    # ------------------------------------------------------------------ the source

    async def _list_source(self, group: TaskGroup) -> None:
        # Tags named in full are wanted whether they are listed or not: one that is missing must not go unnoticed.
        # They wait for their place in the list, which may spare asking for them.
        named = dict.fromkeys(self._selection.named_tags())
        is_literal = self._selection.literal_tags() is not None
        if self._referrers or not is_literal:
            found: set[str] = set()
            try:
                with blamed_on(Side.SOURCE):
                    async for tag, digest in _described(self._source):
                        is_extra = is_companion(tag)
                        if is_extra:
                            found.add(tag)
                        else:
                            self.listed += 1
                        is_selected = tag in named or (not (is_literal or is_extra) and self._selection.selects(tag))
                        if digest is not None and (is_selected or is_extra):
                            self.digests[tag] = digest
                        if is_selected:
                            self._want(tag, group)
                self._companions = frozenset(found)
            except (Denied, NotFound, Unauthorized, Unsupported) as error:
                # Some registries list no tags of a repository whose images have none, or list nothing to anybody.
                if not is_literal:
                    raise
                name = f"{self._source.registry}/{self._source.repository}"
                text = f"tags cannot be listed, so signatures under cosign's tags are not looked for: {error.message}"
                self._observer.notify(Notice(where=name, text=text))
        for tag in named:
            self._want(tag, group)
        self._is_listed.set()

    def _want(self, tag: str, group: TaskGroup) -> None:
        if tag in self._seen:
            return
        self._seen.add(tag)
        self.selected += 1
        if not self._admits(tag):
            self.digests.pop(tag, None)
            return
        self.wanted += 1
        if self._is_decided or (self.present is not None and tag in self.present):
            self._hand_out(tag)
            return
        self._undecided[tag] = None
        if self.present is None and self.wanted > FEW_TAGS:
            self.present = {}
            group.start_soon(self._list_target, self.present)

    # ------------------------------------------------------------------ the target

    async def _list_target(self, present: dict[str, Digest | None]) -> None:
        if not isinstance(self._target, Source):
            self.present = None
        else:
            try:
                with blamed_on(Side.TARGET):
                    async for tag, digest in _described(self._target):
                        present[tag] = digest
                        if tag in self._undecided:
                            del self._undecided[tag]
                            self._hand_out(tag)
            except NotFound:
                # There is no repository yet; unless it has listed something, and a page is what is missing.
                if present:
                    self.present = None
            except (ContentError, Denied, Unauthorized, Unsupported):
                self.present = None
        self._decide_all()

    def _decide_all(self) -> None:
        self._is_decided = True
        for tag in self._undecided:
            self._hand_out(tag)
        self._undecided.clear()

    def _hand_out(self, tag: str) -> None:
        self._decided.append(tag)
        self._more.set()


async def _described(place: Source) -> AsyncIterator[tuple[str, Digest | None]]:
    """Yield the tags of ``place``, with what they stand for where its list tells."""
    if isinstance(place, TagDescriber):
        async for tag, digest in place.described_tags():
            yield tag, digest
        return
    async for tag in place.tags():
        yield tag, None
