"""One reading of a blob for several target registries.

Targets that want the same blob of a source at about the same time share one request. Each takes the
bytes at its own pace, out of what the reading holds: at most :data:`BUFFER` bytes, from the slowest
to the fastest. Who falls back further, and keeps others waiting for longer than :data:`PATIENCE`, is
cut loose, and reads the blob for itself; who comes when the beginning is no longer held begins another
reading. Nobody waits for latecomers.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from syncer.errors import SyncerError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from syncer.content import Source
    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest

#: Bytes that one reading holds for the slowest of those who share it, and for latecomers, plus one chunk.
BUFFER = 4 * 1024 * 1024
#: Seconds for which one target may keep the others waiting, all in all while a blob is read. A target that is a
#: little slower is waited for now and then; one that is much slower costs no more than this.
PATIENCE = 1.0
#: Bytes of blobs that were read whole and are kept for targets that may yet want them.
KEPT = 32 * 1024 * 1024


class Readings:
    """The readings of one run, shared by all its targets."""

    def __init__(self, *, buffer: int = BUFFER, patience: float = PATIENCE, kept: int = KEPT) -> None:
        self._buffer = buffer
        self._patience = patience
        self._most_kept = kept
        #: How many target registries a source repository goes to, where it is more than one.
        self._fans: dict[tuple[str, str], int] = {}
        self._open: dict[tuple[str, Digest], _Reading] = {}
        self._kept: OrderedDict[tuple[str, Digest], _Reading] = OrderedDict()
        self._kept_bytes = 0

    def targets(self, source: Source) -> int:
        """Return how many target registries are expected to want the blobs of ``source``."""
        return self._fans.get((source.registry, source.repository), 1)

    def expect(self, registry: str, repository: str, targets: int) -> None:
        """Expect so many target registries to want the blobs of a source repository."""
        if targets > 1:
            self._fans[registry, repository] = targets

    def open(self, blob: Descriptor, source: Source, reader: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob of ``source`` for the target registry ``reader``, as :meth:`Source.fetch_blob` does.

        What this returns is to be entered at once.

        Raises:
            NotFound: when there is no such blob.
            SyncerError: whatever else the source raised.
        """
        targets = self.targets(source)
        key = (source.registry, blob.digest)
        reading = self._open.get(key) or self._kept.get(key)
        if reading is not None and reader in reading.readers:
            # Who comes again found the bytes wrong, or sends them anew: it is to get others than these.
            self._open.pop(key, None)
            self._drop_kept(key)
            return source.fetch_blob(blob)
        if reading is not None and reading.can_be_joined:
            return self._join(key, reading, blob, source, reader)
        if targets > 1:
            return self._lead(key, _Reading(self._buffer, self._patience, targets), blob, source, reader)
        return source.fetch_blob(blob)

    @asynccontextmanager
    async def _join(
        self, key: tuple[str, Digest], reading: _Reading, blob: Descriptor, source: Source, reader: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        share = reading.join(reader)
        if reading.has_all:
            self._drop_kept(key)
        try:
            async with aclosing(self._shared(reading, share, blob, source)) as chunks:
                yield chunks
        finally:
            reading.leave(share)

    @asynccontextmanager
    async def _lead(
        self, key: tuple[str, Digest], reading: _Reading, blob: Descriptor, source: Source, reader: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read for whoever joins. Who leads fails with the reading, and ends it; the others go on by themselves."""
        self._open[key] = reading
        share = reading.join(reader)
        failure: Exception | None = None
        # What the block raises leaves as it came, and not in the group's group.
        async with anyio.create_task_group() as group:
            group.start_soon(reading.read, blob, source)
            try:
                await reading.opened()
                async with aclosing(self._shared(reading, share, blob, source, leads=True)) as chunks:
                    yield chunks
            except Exception as error:  # noqa: BLE001 - raised again below, as it came
                failure = error
            finally:
                reading.leave(share)
                if self._open.get(key) is reading:
                    del self._open[key]
                    self._keep(key, reading)
                group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _shared(
        self, reading: _Reading, share: _Share, blob: Descriptor, source: Source, *, leads: bool = False
    ) -> AsyncGenerator[bytes]:
        while not share.is_loose:
            chunk = await reading.take(share)
            if chunk is None:
                break
            yield chunk
        if not share.is_loose:
            if leads and reading.failure is not None:
                raise reading.failure
            if reading.is_whole:
                return
        # Cut loose, or left alone with half a blob: the rest is read by oneself.
        skip = share.passed
        async with source.fetch_blob(blob) as chunks:
            async for chunk in chunks:
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                yield chunk[skip:] if skip else chunk
                skip = 0

    # ------------------------------------------------------------------ small blobs, for who comes later

    def _keep(self, key: tuple[str, Digest], reading: _Reading) -> None:
        if not (reading.is_whole and reading.can_be_joined) or reading.has_all or reading.held > self._most_kept:
            return
        self._kept[key] = reading
        self._kept_bytes += reading.held
        while self._kept_bytes > self._most_kept:
            self._drop_kept(next(iter(self._kept)))

    def _drop_kept(self, key: tuple[str, Digest]) -> None:
        reading = self._kept.pop(key, None)
        if reading is not None:
            self._kept_bytes -= reading.held


class _Share:
    """How far one of those who share a reading has come."""

    def __init__(self, patience: float) -> None:
        #: Seconds for which others may yet be kept waiting by this one.
        self.patience = patience
        #: The next chunk, counted from the first of the blob, and the bytes before it.
        self.at = 0
        self.passed = 0
        self.is_loose = False
        self.is_hungry = False


class _Reading:
    """The bytes of one blob, from the slowest share to what has been read; and the whole of it while it is short."""

    def __init__(self, buffer: int, patience: float, targets: int) -> None:
        self.readers: set[str] = set()
        self._begun = anyio.Event()
        self.failure: SyncerError | None = None
        self.is_whole = False
        self.held = 0
        self._buffer = buffer
        self._patience = patience
        self._targets = targets
        self._has_ended = False
        self._shares: set[_Share] = set()
        #: The chunks that are held, the number of the first of them, and the bytes read so far.
        self._chunks: deque[bytes] = deque()
        self._first = 0
        self._read = 0
        self._changed = anyio.Event()

    @property
    def can_be_joined(self) -> bool:
        """True while the first byte is held."""
        return self._first == 0 and self.failure is None and (self.is_whole or not self._has_ended)

    @property
    def has_all(self) -> bool:
        """True when every target has come."""
        return len(self.readers) >= self._targets

    def join(self, reader: str) -> _Share:
        """Take part from the first byte on."""
        self.readers.add(reader)
        share = _Share(self._patience)
        self._shares.add(share)
        return share

    def leave(self, share: _Share) -> None:
        """Take no more."""
        self._shares.discard(share)
        self._let_go()
        self._announce()

    async def read(self, blob: Descriptor, source: Source) -> None:
        """Read the blob, no faster than the fastest share takes it; failures are kept for those who share."""
        try:
            async with source.fetch_blob(blob) as chunks:
                self._begun.set()
                async for chunk in chunks:
                    await self._room()
                    if not self._shares:
                        # All have been cut loose: there is nobody left to read for.
                        return
                    # A source may use its buffer again.
                    self._chunks.append(bytes(chunk))
                    self._read += len(chunk)
                    self.held += len(chunk)
                    self._let_go()
                    self._announce()
            self.is_whole = True
        except SyncerError as error:
            self.failure = error
        finally:
            self._has_ended = True
            self._begun.set()
            self._announce()

    async def opened(self) -> None:
        """Wait until the source has answered, and raise what kept it from giving the blob."""
        await self._begun.wait()
        if self.failure is not None:
            raise self.failure

    async def take(self, share: _Share) -> bytes | None:
        """Return the next chunk for ``share``; None when there is none, or no more for it."""
        while not share.is_loose and share.at == self._first + len(self._chunks):
            if self._has_ended:
                return None
            share.is_hungry = True
            self._announce()
            await self._wait()
            share.is_hungry = False
        if share.is_loose:
            return None
        chunk = self._chunks[share.at - self._first]
        share.at += 1
        share.passed += len(chunk)
        self._let_go()
        self._announce()
        return chunk

    async def _room(self) -> None:
        """Wait until nobody is too far behind; who is while another has nothing left to take is cut loose."""
        while True:
            slow = [share for share in self._shares if self._read - share.passed >= self._buffer]
            if not slow:
                return
            if not any(share.is_hungry for share in self._shares):
                await self._wait()
                continue
            began = anyio.current_time()
            with anyio.move_on_after(min(share.patience for share in slow)):
                await self._wait()
            for share in slow:
                share.patience -= anyio.current_time() - began
                if share.patience <= 0:
                    self._cut_loose(share)

    def _cut_loose(self, share: _Share) -> None:
        share.is_loose = True
        self.leave(share)

    def _let_go(self) -> None:
        """Hold no more than is wanted: the beginning for latecomers, while it is short and not all have come."""
        if not self.has_all and self._read <= self._buffer:
            return
        behind = min((share.at for share in self._shares), default=self._first + len(self._chunks))
        while self._first < behind:
            self.held -= len(self._chunks.popleft())
            self._first += 1

    async def _wait(self) -> None:
        await self._changed.wait()

    def _announce(self) -> None:
        if not self._changed.is_set():
            self._changed.set()
            self._changed = anyio.Event()
