"""Defects to plant into a process before it is killed: a kill loop that finds none of them finds nothing.

Each function is called in the child that is to die, by the name that :attr:`tests.support.forks.Forks.plant` gives;
it changes Syncer there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from syncer.engine.blobs import BlobMover
from syncer.engine.images import ImageCopier
from syncer.engine.repositories import RepositorySync
from syncer.events import RunStatus, TagOutcome
from syncer.layout import files
from syncer.layout.archive_target import ArchiveTarget
from syncer.layout.journal import Journal
from syncer.layout.repository import LayoutRepository
from syncer.state import StateStore, database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from syncer.content import Source, Target
    from syncer.events import TagFinished
    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest
    from syncer.oci.manifest import Manifest
    from syncer.state.statements import Migration


def written_in_place() -> None:
    """Files are written where they are read, not beside it."""

    def replace(path: Path, parts: Iterable[bytes], **_options: Any) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(handle, b"".join(parts))
        os.close(handle)

    files.replace = replace


def archive_in_place() -> None:
    """An archive is written where it is read."""

    def begin(path: Path, *, mode: int = 0o644) -> tuple[int, Path]:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode), path

    def discard(self: ArchiveTarget) -> None:
        self._handle = None

    files.begin_beside = begin
    ArchiveTarget._discard = discard  # type: ignore[method-assign]  # so that it is not removed in the end


def tag_before_content() -> None:
    """The tag is written first, and then what it stands for."""
    bring = ImageCopier._bring

    async def changed(self: ImageCopier, top: Manifest, tag: str, *arguments: Any, **options: Any) -> None:
        assert isinstance(self._target, LayoutRepository)
        await (await self._target._store()).put_manifest(top, tag)
        await bring(self, top, tag, *arguments, **options)

    ImageCopier._bring = changed  # type: ignore[method-assign]  # that is the defect


def told_before_written() -> None:
    """Pushes and deletions are acknowledged before the journal has them."""
    append = Journal.append
    waiting: list[Any] = []

    def changed(self: Journal, changes: Sequence[Any]) -> None:
        written, waiting[:] = list(waiting), changes
        if written:
            append(self, written)

    Journal.append = changed  # type: ignore[method-assign]  # that is the defect


def noted_before_written() -> None:
    """A tag is noted to be there before it is written, and at once."""
    sync = RepositorySync._sync

    async def changed(self: RepositorySync, tag: str) -> tuple[TagFinished, Digest | None]:
        digest = (await self.pair.source.resolve(tag)).digest
        await self._record(self._finished(tag, TagOutcome.COPIED, digest=digest), digest)
        return await sync(self, tag)

    RepositorySync._sync = changed  # type: ignore[method-assign]  # that is the defect


def known_before_sent() -> None:
    """A blob is remembered to be there before it is sent."""
    make = BlobMover._make_present

    async def changed(self: BlobMover, blob: Descriptor, source: Source, target: Target, *, doubted: bool) -> None:
        await self.holdings.add(target.repository, [blob.digest])
        await make(self, blob, source, target, doubted=doubted)

    BlobMover._make_present = changed  # type: ignore[method-assign]  # that is the defect


def ended_before_it_began() -> None:
    """A run is noted to have ended as soon as it begins: nobody doubts what was recorded before a kill."""
    begin = StateStore.begin_run

    async def changed(self: StateStore, spec: str) -> str:
        run = await begin(self, spec)
        await self.finish_run(run, RunStatus.DONE, {})
        return run

    StateStore.begin_run = changed  # type: ignore[method-assign]  # that is the defect


def migrated_without_a_transaction() -> None:
    """Each statement of a migration is committed by itself."""

    def migrate(connection: sqlite3.Connection, version: int, migrations: Sequence[Migration]) -> None:
        for migration in migrations:
            if migration.version > version:
                connection.executescript(f"{migration.sql}\nPRAGMA user_version = {migration.version};")

    setattr(database, "migrate", migrate)  # noqa: B010 - a name that the module has imported
