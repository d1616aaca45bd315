"""Request bodies that are read while they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.errors import DigestMismatch, SizeMismatch
from syncer.registry.call import StreamBody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def chunks(*parts: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    """Yield ``parts``, then raise ``error``."""
    for part in parts:
        yield part
    if error is not None:
        raise error


async def test_complete() -> None:
    """A body is complete with its last byte, before the iterator says so."""
    body = StreamBody(chunks(b"ab", b"c"), 3)
    assert (await anext(body), body.is_complete) == (b"ab", False)
    assert (await anext(body), body.is_complete) == (b"c", True)
    assert [part async for part in body] == []


async def test_start() -> None:
    """A body starts when its first bytes are asked for, even if there are none."""
    body = StreamBody(chunks(), 0)
    assert not body.is_started
    assert [part async for part in body] == []
    assert body.is_started


@pytest.mark.parametrize("size", [2, 4])
async def test_wrong_length(size: int) -> None:
    """Too many bytes and too few are the content's failure, and the body is not complete."""
    body = StreamBody(chunks(b"ab", b"c"), size)
    with pytest.raises(SizeMismatch):
        [part async for part in body]
    assert isinstance(body.failure, SizeMismatch)
    assert not body.is_complete


async def test_failure_is_kept() -> None:
    """What the content raised is there for the owner, whatever aiohttp makes of it."""
    error = DigestMismatch()
    body = StreamBody(chunks(b"ab", error=error), 3)
    with pytest.raises(DigestMismatch):
        [part async for part in body]
    assert error is body.failure


async def test_settled_waits_for_the_reader() -> None:
    """The owner gets the chunks back only when nobody is reading them any more."""
    entered, left = anyio.Event(), False

    async def slow() -> AsyncIterator[bytes]:
        nonlocal left
        try:
            entered.set()
            await anyio.sleep_forever()
            yield b""
        finally:
            left = True

    body = StreamBody(slow(), 3)
    async with anyio.create_task_group() as group:
        group.start_soon(anext, body)
        await entered.wait()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await body.settled()
            assert left
    with pytest.raises(ConnectionAbortedError):
        await anext(body)
