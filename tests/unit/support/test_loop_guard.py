"""The guard of the event loops finds what computes for too long, in each thread."""

from __future__ import annotations

import asyncio
import time

import pytest
from anyio.from_thread import start_blocking_portal


def compute() -> None:
    """Take half a second of this thread's CPU time."""
    end = time.thread_time() + 0.5
    while time.thread_time() < end:
        pass


@pytest.mark.untraced
async def test_a_callback_that_computes_for_long(slow_callbacks: list[str]) -> None:
    """It is told of, and what came before it is not."""
    asyncio.get_running_loop().call_soon(compute)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (told,) = slow_callbacks
    assert "compute" in told
    slow_callbacks.clear()


@pytest.mark.untraced
def test_threads_are_told_apart(slow_callbacks: list[str]) -> None:
    """What one thread spends is not laid to a loop in another."""
    with start_blocking_portal() as portal:
        portal.call(asyncio.sleep, 0)
        compute()
        portal.call(asyncio.sleep, 0)
    assert not slow_callbacks
