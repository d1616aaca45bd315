"""Reading a large blob in parts side by side, where one connection alone does not fill the line.

A link that is long, or that loses packets, or that is shared by connection, gives each connection a bound of its
own. Parts are asked for with ranges (RFC 9110 section 14) on connections of their own, as many as are free, and handed
out in order, so that whoever hashes and sends the blob sees one stream. What waits for its turn is held in memory:
one part for each connection at most.
"""

from __future__ import annotations

from collections import deque
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio

from syncer.errors import SyncerError
from syncer.registry.download import BlobDownload

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from anyio.abc import TaskGroup

    from syncer.oci.descriptor import Descriptor
    from syncer.registry.call import Call
    from syncer.registry.client import RegistryClient

#: Bytes of a part: many round trips long, even on a fast link, and still few enough to be held.
PART = 16 * 1024 * 1024


class _Part:
    """What has come of one part and was not handed out yet."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.is_over = False
        self.error: SyncerError | None = None
        self._news = anyio.Event()

    def tell(self) -> None:
        """Wake whoever waits for news."""
        self._news.set()

    async def news(self) -> None:
        """Wait for it."""
        await self._news.wait()
        self._news = anyio.Event()


class RangedDownload:
    """The bytes of one blob, from the first to the last; an async context manager and iterator.

    Its first request is for the first part. Who answers it with the whole blob, as registries do that know no ranges,
    is read to the end instead, at no further request. So is the blob where no connection but the one that whoever
    reads has a slot for is free: nobody waits for a second one. Each part goes on after a lost connection as
    :class:`BlobDownload` does.
    """

    def __init__(self, client: RegistryClient, call: Call, descriptor: Descriptor, most: int) -> None:
        """Read what ``call`` asks for on up to ``most`` connections."""
        self._client = client
        self._call = call
        self._descriptor = descriptor
        self._most = most
        self._window = client.limits.of_blob(descriptor.size)
        self._borrowed = 0
        self._only: BlobDownload | None = None
        self._group: TaskGroup | None = None
        self._parts: dict[int, _Part] = {}
        self._count = -(-descriptor.size // PART)
        self._next = self._reading = 0
        self._has_room = anyio.Event()

    async def __aenter__(self) -> Self:
        wanted = min(self._most, self._count) - 1
        while self._borrowed < wanted and self._window.take_spare():
            self._borrowed += 1
        first = BlobDownload(self._client, self._call, self._descriptor, self._span(0) if self._borrowed else None)
        try:
            await first.__aenter__()
            if not self._borrowed or first.take_all():
                self._only = first
                self._give_back(self._borrowed)
                return self
        except BaseException:
            self._give_back(self._borrowed)
            raise
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._work, first)
        for _ in range(self._borrowed):
            self._group.start_soon(self._work_on_the_side)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._only is not None:
            await self._only.__aexit__(kind, error, traceback)
            return
        assert self._group is not None  # noqa: S101 - for the type checker: it is that, or the only one
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            self._give_back(self._borrowed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes.

        Raises:
            SizeMismatch, RegistryError: as :class:`BlobDownload`.
        """
        if self._only is not None:
            return await self._only.__anext__()
        while self._reading < self._count:
            part = self._part(self._reading)
            if part.chunks:
                return part.chunks.popleft()
            if part.error is not None:
                raise part.error
            if not part.is_over:
                await part.news()
                continue
            del self._parts[self._reading]
            self._reading += 1
            self._has_room.set()
            self._has_room = anyio.Event()
        raise StopAsyncIteration

    async def _work_on_the_side(self) -> None:
        await self._work(None)
        self._give_back(1)

    async def _work(self, begun: BlobDownload | None) -> None:
        """Bring part after part, and first the one that was ``begun``."""
        while (at := self._next) < self._count:
            self._next += 1
            while at >= self._reading + self._most:
                await self._has_room.wait()
            part = self._part(at)
            try:
                await self._bring(part, at, begun)
            except SyncerError as error:
                # Raised where the blob is read, when it comes to that.
                part.error = error
            begun = None
            part.is_over = True
            part.tell()

    async def _bring(self, part: _Part, at: int, begun: BlobDownload | None) -> None:
        async with AsyncExitStack() as stack:
            if begun is None:
                download = BlobDownload(self._client, self._call, self._descriptor, self._span(at))
                await stack.enter_async_context(download)
            else:
                download = begun
                stack.push_async_exit(begun)
            async for chunk in download:
                part.chunks.append(chunk)
                part.tell()

    def _part(self, at: int) -> _Part:
        return self._parts.setdefault(at, _Part())

    def _span(self, at: int) -> range:
        return range(at * PART, min((at + 1) * PART, self._descriptor.size))

    def _give_back(self, count: int) -> None:
        for _ in range(count):
            self._borrowed -= 1
            self._window.give_spare_back()
