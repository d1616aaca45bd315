"""Opening layouts, archives and directories by their paths; registries need none of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import CancelScope

from syncer.oci.reference import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from syncer.content import Source, Target
    from syncer.layout.repository import LayoutRepository
    from syncer.layout.tree import LayoutTree
    from syncer.oci.reference import PathReference


@asynccontextmanager
async def layout_tree(path: Path) -> AsyncIterator[LayoutTree]:
    """Open the tree of layouts at ``path``."""
    from syncer.layout.tree import LayoutTree  # noqa: PLC0415 - registries need none of it

    tree = LayoutTree(path)
    try:
        yield tree
    finally:
        with CancelScope(shield=True):
            await tree.close()


def layout_repository(tree: LayoutTree, repository: str) -> LayoutRepository:
    """Return a repository of ``tree``."""
    from syncer.layout.repository import LayoutRepository  # noqa: PLC0415 - as above

    return LayoutRepository(tree, repository)


@asynccontextmanager
async def _lone_layout(path: Path, *, create: bool) -> AsyncIterator[LayoutRepository]:
    from syncer.layout.repository import LayoutRepository  # noqa: PLC0415 - as above
    from syncer.layout.store import LayoutStore  # noqa: PLC0415 - as above

    store = await LayoutStore.open(path, create=create)
    try:
        yield LayoutRepository(store)
    finally:
        with CancelScope(shield=True):
            await store.close()


@asynccontextmanager
async def path_source(reference: PathReference) -> AsyncIterator[Source]:
    """Open a layout, archive or directory for reading.

    Raises:
        NotFound, LayoutError: when there is no such path, or it is not what the transport says.
    """
    from syncer.layout.archive import ArchiveSource  # noqa: PLC0415 - as above
    from syncer.layout.dir import DirSource  # noqa: PLC0415 - as above

    path = Path(reference.path)
    match reference.transport:
        case Transport.OCI:
            async with _lone_layout(path, create=False) as repository:
                yield repository
        case Transport.OCI_ARCHIVE:
            async with await ArchiveSource.open(path) as archive:
                yield archive
        case _:
            yield await DirSource.open(path)


@asynccontextmanager
async def path_target(reference: PathReference) -> AsyncIterator[Target]:
    """Open a layout, archive or directory for writing; it is created. An archive appears at the end of the block.

    Raises:
        LayoutError: when the path cannot be written or holds something else.
    """
    from syncer.layout.archive_target import ArchiveTarget  # noqa: PLC0415 - as above
    from syncer.layout.dir import DirTarget  # noqa: PLC0415 - as above

    path = Path(reference.path)
    match reference.transport:
        case Transport.OCI:
            async with _lone_layout(path, create=True) as repository:
                yield repository
        case Transport.OCI_ARCHIVE:
            async with await ArchiveTarget.open(path) as archive:
                yield archive
        case _:
            async with await DirTarget.open(path) as directory:
                yield directory
