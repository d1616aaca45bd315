"""The guard of the event loops finds what computes for too long in each thread, and what blocks."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from blockbuster import BlockingError

import syncer

pytestmark = pytest.mark.untraced

#: A module of ours that makes a blocking call.
BLOCKING = compile("import time; time.sleep(0.001)", str(Path(syncer.__path__[0]) / "blocking.py"), "exec")


def compute() -> None:
    """Take a second of this thread's CPU time."""
    end = time.thread_time() + 1.0
    while time.thread_time() < end:
        pass


async def test_a_callback_that_computes_for_long(slow_callbacks: list[str]) -> None:
    """It is told of, once."""
    asyncio.get_running_loop().call_soon(compute)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (told,) = slow_callbacks
    assert "compute" in told
    # Or the guard would fail this test, too.
    slow_callbacks.clear()


def test_threads_are_told_apart(slow_callbacks: list[str]) -> None:
    """What one thread spends is not laid to a callback that waits in another."""
    with start_blocking_portal() as portal:
        computed = threading.Event()
        waiting = portal.start_task_soon(computed.wait, 30)
        compute()
        computed.set()
        waiting.result()
        portal.call(asyncio.sleep, 0)
    assert not slow_callbacks


async def test_a_call_that_blocks() -> None:
    """It raises where it is made in our code, and not in that of others."""
    with pytest.raises(BlockingError):
        exec(BLOCKING)  # noqa: S102 - our own code, with a name among our modules
    time.sleep(0.001)  # noqa: ASYNC251 - as others may
