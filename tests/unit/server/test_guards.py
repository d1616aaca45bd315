"""Pushing side by side, deleting alone."""

from __future__ import annotations

import asyncio
import random

import anyio
import pytest
from anyio.lowlevel import checkpoint

from syncer.server.guards import RepositoryGuards


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await checkpoint()


async def test_pushes_go_side_by_side() -> None:
    """Two pushes of a repository hold it at the same time, and leave nothing behind."""
    guards = RepositoryGuards()
    async with guards.pushing("a"), guards.pushing("a"):
        pass
    assert not guards._gates


async def test_deletion_waits_and_then_is_alone() -> None:
    """A deletion waits for pushes that have begun; pushes that come later wait for it."""
    guards, log, go_on = RepositoryGuards(), list[str](), anyio.Event()

    async def push(name: str) -> None:
        async with guards.pushing("a"):
            log.append(f"{name} begins")
            if name == "first":
                await go_on.wait()
            log.append(f"{name} ends")

    async def delete() -> None:
        async with guards.deleting("a"):
            log.append("delete begins")
            await settle()
            log.append("delete ends")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(push, "first")
        await settle()
        tasks.start_soon(delete)
        await settle()
        tasks.start_soon(push, "second")
        await settle()
        assert log == ["first begins"]
        go_on.set()
    assert log == ["first begins", "first ends", "delete begins", "delete ends", "second begins", "second ends"]
    assert not guards._gates


async def test_repositories_are_apart() -> None:
    """A deletion in one repository does not hold up another."""
    guards = RepositoryGuards()
    async with guards.deleting("a"), guards.pushing("b"), guards.deleting("c"):
        assert len(guards._gates) == 3


async def test_a_deletion_that_gives_up_holds_nobody() -> None:
    """Pushes that waited behind a deletion go on when it is cancelled."""
    guards, done = RepositoryGuards(), anyio.Event()

    async def delete() -> None:
        with anyio.move_on_after(0.01):
            async with guards.deleting("a"):
                pytest.fail("the push still holds it")

    async def push() -> None:
        async with guards.pushing("a"):
            done.set()

    async with anyio.create_task_group() as tasks, guards.pushing("a"):
        tasks.start_soon(delete)
        await settle()
        tasks.start_soon(push)
        await settle()
        assert not done.is_set()
        with anyio.fail_after(1):
            await done.wait()
    assert not guards._gates


@pytest.mark.parametrize("seed", range(30))
async def test_whoever_is_cancelled_holds_nothing(seed: int) -> None:
    """A server that is stopped cancels its requests by asyncio's means, which no scope of anyio's shields from."""
    guards, chance = RepositoryGuards(), random.Random(seed)  # noqa: S311 - a test's

    async def change() -> None:
        async with guards.deleting("a") if chance.random() < 0.5 else guards.pushing("a"):
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

    changing = [asyncio.create_task(change()) for _ in range(8)]
    for _ in range(40):
        await asyncio.sleep(0)
        if chance.random() < 0.5:
            chance.choice(changing).cancel()
    with anyio.fail_after(1):
        await asyncio.wait(changing)
        async with guards.deleting("a"):
            pass
        async with guards.pushing("a"):
            pass
    assert not guards._gates
    assert {type(task.exception()) for task in changing if not task.cancelled()} <= {type(None)}
