"""What both sides list before any tag is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from syncer.engine.blobs import blamed_on
from syncer.errors import ContentError, Denied, NotFound, Side, Unauthorized, Unsupported
from syncer.events import Notice
from syncer.oci.referrers import is_companion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from syncer.content import Source, Target
    from syncer.events import Observer

#: Up to this many tags are asked for one by one on the target, rather than by listing all it has.
FEW_TAGS = 4


class Selection(Protocol):
    """Which tags of a repository are wanted; ``spec.selection`` is what implements it."""

    def select(self, tags: Iterable[str]) -> list[str]:
        """Return the wanted ones of ``tags``, in their order."""
        ...

    def literal_tags(self) -> tuple[str, ...] | None:
        """Return the wanted tags when they are all named one by one, else None."""
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
    #: The target's tags; None when they were not listed, and each has to be asked for.
    present: frozenset[str] | None


async def list_pair(
    source: Source, target: Target, selection: Selection, observer: Observer, *, referrers: bool
) -> Listing:
    """List the tags of both sides, as far as that saves requests later.

    Raises:
        NotFound: when the source has no such repository.
        SyncerError: when the source cannot be listed.
    """
    literal = selection.literal_tags()
    tags: list[str] = []
    companions: frozenset[str] | None = None
    if literal is None or referrers:
        try:
            with blamed_on(Side.SOURCE):
                everything = [tag async for tag in source.tags()]
            companions = frozenset(tag for tag in everything if is_companion(tag))
            tags = [tag for tag in everything if tag not in companions]
        except (Denied, Unauthorized, Unsupported) as error:
            if literal is None:
                raise
            name = f"{source.registry}/{source.repository}"
            text = f"tags cannot be listed, so signatures under cosign's tags are not looked for: {error.message}"
            observer.notify(Notice(where=name, text=text))
    selected = list(literal) if literal is not None else selection.select(tags)
    present = await _present(target) if len(selected) > FEW_TAGS else None
    return Listing(listed=len(tags), selected=selected, companions=companions, present=present)


async def _present(target: Target) -> frozenset[str] | None:
    """Return the target's tags: none when there is no repository yet, None when it does not list them."""
    listing = getattr(target, "tags", None)
    if listing is None:
        return None
    try:
        with blamed_on(Side.TARGET):
            return frozenset([tag async for tag in listing()])
    except NotFound:
        return frozenset()
    except (Denied, Unsupported, ContentError):
        return None
