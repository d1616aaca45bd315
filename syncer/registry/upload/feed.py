"""The bytes of a source, handed out in parts of the size that a request wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.errors import SizeMismatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self


class Feed:
    """Reads ``chunks`` of any size, and gives parts of them; nothing is held but the rest of one chunk.

    Attributes:
        position: how many bytes were handed out or skipped.
        is_usable: False once reading was broken off in the middle: the next bytes are not known then.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.position = 0
        self.is_usable = True

    async def take(self, most: int) -> bytes:
        """Return the next bytes, at most ``most``.

        Raises:
            StopAsyncIteration: at the end.
        """
        while not self._rest:
            self.is_usable = False
            chunk = await anext(self._chunks)
            self.is_usable = True
            if len(chunk) <= most:
                self.position += len(chunk)
                if chunk:
                    return chunk
            else:
                self._rest = memoryview(chunk)
        taken = bytes(self._rest[:most])
        self._rest = self._rest[most:]
        self.position += len(taken)
        return taken

    async def skip(self, count: int) -> None:
        """Read over ``count`` bytes: whoever checks the bytes wants to see them all.

        Raises:
            SizeMismatch: when there are fewer.
        """
        while count:
            try:
                count -= len(await self.take(count))
            except StopAsyncIteration:
                raise SizeMismatch(f"the content ended after {self.position} bytes, {count} too early") from None

    def part(self, length: int) -> Part:
        """Return the next ``length`` bytes, to be read one part after the other."""
        return Part(self, length)


class Part:
    """The next bytes of a feed, as an iterator."""

    def __init__(self, feed: Feed, length: int) -> None:
        self._feed = feed
        self._left = length

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes of the part."""
        if not self._left:
            raise StopAsyncIteration
        chunk = await self._feed.take(self._left)
        self._left -= len(chunk)
        return chunk
