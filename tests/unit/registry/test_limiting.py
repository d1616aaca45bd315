"""Windows, pace and pauses."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from syncer.registry.limits import Limits, Pace


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Move on by ``seconds``."""
        self.slept.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()


def limits(clock: Clock, *, control: int = 2, data: int = 1, rate: float | None = None) -> Limits:
    """Return limits on ``clock``."""
    return Limits(control=control, data=data, requests_per_second=rate, bandwidth=None, clock=clock, sleep=clock.sleep)


async def test_control_never_queues_behind_data() -> None:
    """With every data slot taken, a control request goes out at once."""
    some = limits(Clock())
    async with some.data.permit():
        with anyio.fail_after(1):
            async with some.request(data=False):
                assert (some.data.used, some.control.used) == (1, 1)


async def test_window_bounds_what_is_under_way() -> None:
    """No more requests are under way than the window allows, and none is lost."""
    some = limits(Clock())
    most = 0
    done = 0

    async def one() -> None:
        nonlocal most, done
        async with some.request(data=False):
            most = max(most, some.control.used)
            await anyio.lowlevel.checkpoint()
        done += 1

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(one)
    assert (most, done, some.control.used) == (2, 10, 0)


async def test_nothing_goes_out_in_a_pause() -> None:
    """A pause stops control and data alike, also who waited for a permit when it began."""
    clock = Clock()
    some = limits(clock, control=1)
    sent: list[float] = []

    async def one(*, data: bool) -> None:
        async with some.request(data=data):
            sent.append(clock.now)

    async with anyio.create_task_group() as group:
        async with some.request(data=False):
            group.start_soon(lambda: one(data=False))
            await anyio.lowlevel.checkpoint()
            some.pause(30.0)
            some.pause(5.0)
        group.start_soon(lambda: one(data=True))
    assert [at >= 130.0 for at in sent] == [True, True]


async def test_pace() -> None:
    """At ten a second, the eleventh request waits for its turn."""
    clock = Clock()
    pace = Pace(10.0, clock=clock, sleep=clock.sleep, burst=0.0)
    for _ in range(11):
        await pace.wait()
    assert pytest.approx(clock.now) == 101.0


async def test_pace_does_not_save_up() -> None:
    """A quiet minute does not allow a burst after it."""
    clock = Clock()
    pace = Pace(10.0, clock=clock, sleep=clock.sleep, burst=0.0)
    clock.now += 60.0
    for _ in range(3):
        await pace.wait()
    assert pytest.approx(clock.now) == 160.2


async def test_cancelled_waiter_leaves_no_permit_behind() -> None:
    """A cancelled request gives its place in the window back."""
    some = limits(Clock(), control=1)
    async with some.request(data=False):
        with anyio.move_on_after(0.01):
            async with some.request(data=False):
                pytest.fail("there is one permit only")
    assert some.control.used == 0
    async with some.request(data=False):
        assert some.control.used == 1
