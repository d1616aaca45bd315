"""Copying one image between any two places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.engine.blobs import BlobMover, blamed_on
from syncer.engine.holdings import Holdings
from syncer.engine.images import Copied, CopyOptions, ImageCopier
from syncer.engine.journal import MemoryJournal
from syncer.errors import Denied, NotFound, Side, Unauthorized, Unsupported
from syncer.oci.reference import PathReference, Reference, Transport
from syncer.oci.referrers import is_companion

if TYPE_CHECKING:
    from syncer.app.places import Opened, Reach
    from syncer.content import Source
    from syncer.events import Observer
    from syncer.oci.platform import Platform


async def copy_image(
    source: Reference | PathReference,
    target: Reference | PathReference,
    *,
    opened: Opened,
    observer: Observer,
    platforms: tuple[Platform, ...] = (),
    referrers: bool = True,
    source_reach: Reach | None = None,
    target_reach: Reach | None = None,
) -> Copied:
    """Copy what ``source`` names to ``target``, bit by bit, with all that refers to it.

    A registry target without a tag gets ``latest``, as everywhere; a layout or archive without one gets
    the manifest without a name; a ``dir:`` holds one image and nothing that refers to it. A target named
    by digest is written by digest, and must be that digest.

    Raises:
        DigestMismatch: when ``target`` names a digest that the source's manifest does not have.
        SyncerError: what stopped it; the tag was not written.
    """
    if isinstance(target, PathReference) and target.transport is Transport.DIR:
        referrers = False
    origin = await opened.source(source, source_reach)
    place = await opened.target(target, target_reach)
    companions = await _companions(origin) if referrers else None
    mover = BlobMover(Holdings(place.registry, MemoryJournal()), observer)
    options = CopyOptions(platforms=platforms, referrers=referrers)
    copier = ImageCopier(origin, place, mover, observer, options, companions=companions)
    return await copier.copy(locator(source), _tag(target), digest=target.digest)


def locator(reference: Reference | PathReference) -> str:
    """Return what to ask a source for: the digest, the tag, or the usual in their absence."""
    if isinstance(reference, Reference):
        return reference.locator
    return reference.digest or reference.tag


def _tag(target: Reference | PathReference) -> str:
    if isinstance(target, PathReference) or target.digest:
        return target.tag
    return target.tag or "latest"


async def _companions(origin: Source) -> frozenset[str] | None:
    """Return the source's companion tags, None where it does not list its tags."""
    try:
        with blamed_on(Side.SOURCE):
            return frozenset([tag async for tag in origin.tags() if is_companion(tag)])
    except (Denied, NotFound, Unauthorized, Unsupported):
        # Some registries list no tags of a repository whose images have none, or list nothing to anybody.
        return None
