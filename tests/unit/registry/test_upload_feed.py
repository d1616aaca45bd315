"""Parts of the size that a request wants, from chunks of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import SizeMismatch
from syncer.registry.upload.feed import Feed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    """Give ``chunks``."""
    for chunk in chunks:
        yield chunk


@given(st.lists(st.binary(max_size=9), max_size=9), st.integers(min_value=1, max_value=12))
async def test_parts_add_up(chunks: list[bytes], length: int) -> None:
    """However the chunks fall, parts have the length that is asked for and lose no byte."""
    data = b"".join(chunks)
    feed = Feed(chunks_of(*chunks))
    parts: list[bytes] = []
    while feed.position < len(data):
        wanted = min(length, len(data) - feed.position)
        part = b"".join([piece async for piece in feed.part(wanted)])
        assert len(part) == wanted
        parts.append(part)
    assert b"".join(parts) == data


async def test_skipping_reads() -> None:
    """What is skipped was read, and counts as position."""
    feed = Feed(chunks_of(b"abc", b"def"))
    await feed.skip(4)
    assert feed.position == 4
    assert await feed.take(9) == b"ef"


async def test_skipping_too_far() -> None:
    """A source that ends before the byte to go on at is too short."""
    with pytest.raises(SizeMismatch):
        await Feed(chunks_of(b"abc")).skip(4)


async def test_a_feed_that_failed_is_not_gone_on_with() -> None:
    """After a failure in the middle nobody knows which bytes would come next."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"ab"
        raise OSError

    feed = Feed(failing())
    await feed.take(2)
    assert feed.is_usable
    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        await feed.take(1)
    assert not feed.is_usable
