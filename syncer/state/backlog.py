"""What is to be written, and the one task that writes it, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from syncer.errors import LayoutError, StateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from syncer.oci.digest import Digest
    from syncer.plan.records import TagRecord, UnfinishedUpload

#: Records in a batch; as many again may wait while one is written.
BATCH = 200
#: Seconds from one batch to the next that is not full; a record that comes later than that waits for no other.
DELAY = 0.1


@dataclass(kw_only=True, slots=True, eq=False)
class Batch:
    """The newest word on each thing, to be written in one transaction.

    Attributes:
        tags: by target and tag.
        content: by registry, digest and repository: when it was seen there, None when it is to be forgotten.
        subsets: by source digest and platforms.
        uploads: by registry, repository and digest: where it goes on, None when it has ended.
        size: how many words went in.
    """

    tags: dict[str, dict[str, TagRecord]] = field(default_factory=dict)
    content: dict[str, dict[Digest, dict[str, float | None]]] = field(default_factory=dict)
    subsets: dict[tuple[Digest, str], Digest] = field(default_factory=dict)
    uploads: dict[tuple[str, str, Digest], UnfinishedUpload | None] = field(default_factory=dict)
    size: int = 0

    def add_tag(self, record: TagRecord) -> None:
        """Take in what became of a tag."""
        self.tags.setdefault(record.target, {})[record.tag] = record
        self.size += 1

    def add_content(self, registry: str, repository: str, digest: Digest, seen: float | None) -> None:
        """Take in that the repository holds the digest, or does not."""
        self.content.setdefault(registry, {}).setdefault(digest, {})[repository] = seen
        self.size += 1

    def add_subset(self, source: Digest, platforms: str, target: Digest) -> None:
        """Take in the digest of a platform subset."""
        self.subsets[source, platforms] = target
        self.size += 1

    def add_upload(self, registry: str, repository: str, digest: Digest, record: UnfinishedUpload | None) -> None:
        """Take in how far an upload is, or that it has ended."""
        self.uploads[registry, repository, digest] = record
        self.size += 1


class Backlog:
    """Two batches: one that fills, and one that is being written. Both can be read until they are."""

    def __init__(self, commit: Callable[[Batch], Awaitable[None]], *, size: int = BATCH, delay: float = DELAY) -> None:
        """Hand batches to ``commit``: of ``size`` records, or ``delay`` seconds after the one before."""
        self._commit = commit
        self._size = size
        self._delay = delay
        self._filling = Batch()
        self._writing = Batch()
        self._begun = 0
        self._done = 0
        self._closing = False
        self._failure: StateError | LayoutError | None = None
        self._failure_told = False
        self._wanted = anyio.Event()
        self._urgent = anyio.Event()
        self._changed = anyio.Event()
        self._finished = anyio.Event()

    async def put_tag(self, record: TagRecord) -> None:
        """Queue what became of a tag, as soon as there is room.

        Raises:
            StateError, StorageFull: when a batch could not be written, now or earlier.
        """
        (await self._room()).add_tag(record)
        self._notice()

    async def put_content(self, registry: str, repository: str, digest: Digest, seen: float | None) -> None:
        """Queue that the repository holds the digest, or does not; raises as :meth:`put_tag`."""
        (await self._room()).add_content(registry, repository, digest, seen)
        self._notice()

    async def put_subset(self, source: Digest, platforms: str, target: Digest) -> None:
        """Queue the digest of a platform subset; raises as :meth:`put_tag`."""
        (await self._room()).add_subset(source, platforms, target)
        self._notice()

    def note_upload(self, registry: str, repository: str, digest: Digest, record: UnfinishedUpload | None) -> None:
        """Queue how far an upload is, or that it has ended: at once, and room or not, since few are open at a time.

        Nothing is raised: that a batch could not be written is told to who queues something else, or closes.
        """
        self._filling.add_upload(registry, repository, digest, record)
        self._notice()

    def check(self) -> None:
        """Raise why a batch could not be written, if one could not."""
        if self._failure is not None:
            self._failure_told = True
            raise type(self._failure)(self._failure.message, hint=self._failure.hint) from self._failure

    async def flush(self) -> None:
        """Wait until all that was put before is written.

        Raises:
            StateError, StorageFull: when it could not be, or the task that writes is gone.
        """
        goal = self._begun + 1 if self._filling.size else self._begun
        while self._done < goal:
            self.check()
            self._hurry()
            await self._changed.wait()
        self.check()

    async def close(self) -> None:
        """Write what is left and end the task; the failure to write is raised if nobody has heard of it yet."""
        self._closing = True
        self._hurry()
        await self._finished.wait()
        if not self._failure_told:
            self.check()

    def tags(self, target: str) -> dict[str, TagRecord]:
        """Return the records of ``target`` that are not written yet."""
        return {**self._writing.tags.get(target, {}), **self._filling.tags.get(target, {})}

    def content(self, registry: str, digests: Iterable[Digest]) -> dict[Digest, dict[str, float | None]]:
        """Return what is not written yet of where ``digests`` live; None means "no longer there"."""
        older, newer = self._writing.content.get(registry, {}), self._filling.content.get(registry, {})
        if not older and not newer:
            return {}
        found = {digest: {**older.get(digest, {}), **newer.get(digest, {})} for digest in digests}
        return {digest: places for digest, places in found.items() if places}

    def subset(self, source: Digest, platforms: str) -> Digest | None:
        """Return the digest of a platform subset that is not written yet."""
        key = (source, platforms)
        return self._filling.subsets.get(key) or self._writing.subsets.get(key)

    async def run(self) -> None:
        """Write batches until :meth:`close`. A cancellation does not reach it: closing ends it."""
        try:
            with anyio.CancelScope(shield=True):
                due = 0.0
                while not (self._closing and not self._filling.size):
                    await self._wanted.wait()
                    # After a pause there is no batch to wait for: large blobs come one at a time, and what a kill
                    # takes from memory is sent again to the registry's other repositories.
                    with anyio.move_on_after(max(0.0, due - anyio.current_time())):
                        await self._urgent.wait()
                    await self._write()
                    due = anyio.current_time() + self._delay
        except BaseException:
            # Nobody may wait for a write that will not come.
            self._failure = self._failure or StateError(
                "the state is no longer written: its task has ended", hint="Run again; what is done stays done."
            )
            raise
        finally:
            self._finished.set()
            self._announce()

    async def _room(self) -> Batch:
        while True:
            self.check()
            if self._closing:
                raise StateError("the state is closed")
            if self._filling.size < self._size:
                return self._filling
            await self._changed.wait()

    def _notice(self) -> None:
        self._wanted.set()
        if self._filling.size >= self._size:
            self._urgent.set()

    async def _write(self) -> None:
        self._writing, self._filling = self._filling, Batch()
        self._begun += 1
        self._wanted, self._urgent = anyio.Event(), anyio.Event()
        if self._closing:
            self._hurry()
        self._announce()
        if self._failure is None and self._writing.size:
            try:
                await self._commit(self._writing)
            except (StateError, LayoutError) as error:
                # The file will hardly mend itself, and a gap would be worse than an end.
                self._failure = error
            except Exception as error:  # noqa: BLE001 - told to all who wait for the write, by check()
                self._failure = StateError(
                    f"a record cannot be written: {error}", hint="This is a fault of Syncer: please report it."
                )
                self._failure.__cause__ = error
        self._writing = Batch()
        self._done = self._begun
        self._announce()

    def _hurry(self) -> None:
        self._wanted.set()
        self._urgent.set()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
