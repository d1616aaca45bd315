"""Threads that nobody waits for: as many as are needed, and no more."""

from __future__ import annotations

import asyncio
import threading

import anyio
import anyio.to_thread
import pytest

from syncer.registry.network.daemons import Daemons


def threads(name: str) -> list[threading.Thread]:
    """Return the threads of that name."""
    return [thread for thread in threading.enumerate() if thread.name == name]


async def test_a_thread_that_is_idle_is_used_again() -> None:
    """One call after the other needs one thread, which does not keep the process from ending."""
    daemons = Daemons("one", 4)
    idents = []
    for _ in range(20):
        idents.append(await daemons.run(threading.get_ident))
        # It has nothing to do a moment after its answer.
        while not daemons._idle:  # noqa: ASYNC110 - nobody is told of that
            await asyncio.sleep(0)
    assert len(set(idents)) == 1
    assert [thread.daemon for thread in threads("one")] == [True]


async def test_what_comes_when_all_are_busy_waits() -> None:
    """No more threads are started than were allowed, and every call is made."""
    daemons, at_once, go_on = Daemons("three", 3), threading.Barrier(4), threading.Event()

    def call() -> bool:
        at_once.wait(20)
        return go_on.wait(20)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(daemons.run, call)
        await anyio.to_thread.run_sync(at_once.wait)
        later = [asyncio.create_task(daemons.run(threading.get_ident)) for _ in range(10)]
        await asyncio.sleep(0)
        assert len(threads("three")) == 3
        go_on.set()
        assert len({await task for task in later}) <= 3


async def test_what_is_raised_is_raised() -> None:
    """An error of the call is one of who waits for it; the thread goes on."""
    daemons = Daemons("failing", 1)

    def fail() -> None:
        raise OSError("no such name")

    for _ in range(2):
        with pytest.raises(OSError, match="no such name"):
            await daemons.run(fail)
    assert len(threads("failing")) == 1


async def test_where_no_thread_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is an error where there is none at all; else those that there are do it."""
    daemons, go_on = Daemons("few", 3), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            await daemons.run(threading.get_ident)
    held = asyncio.create_task(daemons.run(lambda: go_on.wait(20)))
    await asyncio.sleep(0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        queued = asyncio.create_task(daemons.run(threading.get_ident))
        await asyncio.sleep(0)
        go_on.set()
        assert await held
        assert await queued in [thread.ident for thread in threads("few")]
    assert len(threads("few")) == 1


def _refuse(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
