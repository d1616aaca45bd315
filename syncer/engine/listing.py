"""What both sides list before any tag is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from syncer.content import Source, TagDescriber
from syncer.engine.blobs import blamed_on
from syncer.errors import ContentError, Denied, NotFound, Side, Unauthorized, Unsupported
from syncer.events import Notice
from syncer.oci.referrers import is_companion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from syncer.content import Target
    from syncer.events import Observer
    from syncer.oci.digest import Digest

#: Up to this many tags are asked for one by one on the target, rather than by listing all it has.
FEW_TAGS = 4


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The tags of a repository pair."""

    #: How many tags the source listed, companions not counted.
    listed: int
    #: The wanted ones.
    selected: list[str]
    #: The source's ``sha256-…`` tags; None when its tags were not listed.
    companions: frozenset[str] | None
    #: The target's tags, with their digests where its list has them; None when they were not listed, and each has
    #: to be asked for.
    present: Mapping[str, Digest | None] | None
    #: What the source's list says that the wanted tags and the companions stand for; a tag that is not here has to
    #: be asked for.
    digests: Mapping[str, Digest] = field(default_factory=dict)


async def list_pair(
    source: Source, target: Target, selection: Selection, observer: Observer, *, referrers: bool
) -> Listing:
    """List the tags of both sides, as far as that saves requests later.

    Raises:
        NotFound: when the source has no such repository.
        SyncerError: when the source cannot be listed.
    """
    literal = selection.literal_tags()
    listed = 0
    # A dictionary keeps the order, and a tag that is listed twice counts once. Tags named in full are wanted
    # whether they are listed or not: one that is missing must not go unnoticed.
    selected: dict[str, None] = dict.fromkeys(selection.named_tags())
    companions: frozenset[str] | None = None
    digests: dict[str, Digest] = {}
    if literal is None or referrers:
        found: set[str] = set()
        try:
            with blamed_on(Side.SOURCE):
                async for tag, digest in _described(source):
                    # Tag by tag as the pages come: to match 100,000 at once would hold up the loop.
                    if is_companion(tag):
                        found.add(tag)
                    else:
                        listed += 1
                        if literal is None and selection.selects(tag):
                            selected[tag] = None
                    if digest is not None and (tag in selected or tag in found):
                        digests[tag] = digest
            companions = frozenset(found)
        except (Denied, NotFound, Unauthorized, Unsupported) as error:
            # Some registries list no tags of a repository whose images have none, or list nothing to anybody.
            if literal is None:
                raise
            name = f"{source.registry}/{source.repository}"
            text = f"tags cannot be listed, so signatures under cosign's tags are not looked for: {error.message}"
            observer.notify(Notice(where=name, text=text))
    present = await _present(target) if len(selected) > FEW_TAGS else None
    return Listing(listed=listed, selected=list(selected), companions=companions, present=present, digests=digests)


async def _described(place: Source) -> AsyncIterator[tuple[str, Digest | None]]:
    """Yield the tags of ``place``, with what they stand for where its list tells."""
    if isinstance(place, TagDescriber):
        async for tag, digest in place.described_tags():
            yield tag, digest
        return
    async for tag in place.tags():
        yield tag, None


async def _present(target: Target) -> Mapping[str, Digest | None] | None:
    """Return the target's tags: none when there is no repository yet, None when it does not list them."""
    if not isinstance(target, Source):
        return None
    try:
        with blamed_on(Side.TARGET):
            return {tag: digest async for tag, digest in _described(target)}
    except NotFound:
        return {}
    except (ContentError, Denied, Unauthorized, Unsupported):
        return None
