"""Side by side, and single flight."""

from __future__ import annotations

import anyio
import pytest

from syncer.engine.fanout import Flights, run_all
from syncer.errors import NotFound, SyncerError, Timeout


async def fail(error: BaseException) -> None:
    """Raise ``error`` a moment later."""
    await anyio.lowlevel.checkpoint()
    raise error


async def test_the_first_of_our_errors_leaves_alone() -> None:
    """Several failures of ours leave as one plain error, and the rest is cancelled."""
    ended = False

    async def slow() -> None:
        nonlocal ended
        try:
            await anyio.sleep_forever()
        finally:
            ended = True

    with pytest.raises(SyncerError) as caught:
        await run_all([lambda: fail(NotFound("a")), lambda: fail(Timeout("b")), slow])
    assert isinstance(caught.value, NotFound | Timeout)
    assert ended


async def test_defects_keep_their_group() -> None:
    """An error that is none of ours is not hidden behind one that is."""
    with pytest.raises(BaseExceptionGroup) as caught:
        await run_all([lambda: fail(NotFound("a")), lambda: fail(ZeroDivisionError())])
    assert caught.value.subgroup(ZeroDivisionError)


async def test_one_call_runs_without_a_group() -> None:
    """A single call raises what it raises."""
    with pytest.raises(ZeroDivisionError):
        await run_all([lambda: fail(ZeroDivisionError())])
    await run_all([])


async def test_those_who_wait_go_on_when_the_leader_is_done() -> None:
    """Waiting ends with the leader's block, whether that succeeded or not."""
    flights: Flights[str] = Flights()
    order: list[str] = []

    async def follow(name: str) -> None:
        await flights.wait("x")
        order.append(name)

    async with anyio.create_task_group() as group:
        with pytest.raises(ZeroDivisionError), flights.lead("x"):
            assert "x" in flights
            group.start_soon(follow, "a")
            group.start_soon(follow, "b")
            await anyio.wait_all_tasks_blocked()
            order.append("leader")
            raise ZeroDivisionError
    assert order[0] == "leader"
    assert sorted(order[1:]) == ["a", "b"]
    assert "x" not in flights
    await flights.wait("x")
