"""Windows, pace and pauses."""

from __future__ import annotations

from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from syncer.events import RequestKind
from syncer.registry.traffic.limits import Limits, Pace
from tests.support.scripted import Clock


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


async def test_uploads_are_given_up_whatever_else_is_under_way() -> None:
    """A few at once, and fewer where a ceiling is lower; overload takes nothing away from them."""
    some = limits(Clock(), control=3)
    most = under_way = 0

    async def one() -> None:
        nonlocal most, under_way
        async with some.request(data=False, kind=RequestKind.UPLOAD_DELETE):
            under_way += 1
            most = max(most, under_way)
            await anyio.lowlevel.checkpoint()
            under_way -= 1

    async with some.control.permit(), some.control.permit(), some.control.permit():
        some.control.overloaded(is_answer=True)
        for control, bound in ((3, 3), (2, 2), (9, 2)):
            most = 0
            some.tighten(control=control, data=1, bulk=1, requests_per_second=None, bandwidth=None)
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(one)
            assert most == bound


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
    assert [at >= 1030.0 for at in sent] == [True, True]


async def test_pace() -> None:
    """At ten a second, the eleventh request waits for its turn."""
    clock = Clock()
    pace = Pace(10.0, clock=clock, sleep=clock.sleep, burst=0.0)
    for _ in range(11):
        await pace.wait()
    assert pytest.approx(clock.now) == 1001.0


async def test_pace_does_not_save_up() -> None:
    """A quiet minute does not allow a burst after it."""
    clock = Clock()
    pace = Pace(10.0, clock=clock, sleep=clock.sleep, burst=0.0)
    clock.now += 60.0
    for _ in range(3):
        await pace.wait()
    assert pytest.approx(clock.now) == 1060.2


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


@pytest.mark.parametrize(("rate", "chunk"), [(100 * 1024, 1024 * 1024), (200 * 1024 * 1024, 256 * 1024)])
async def test_bandwidth_is_even(rate: int, chunk: int) -> None:
    """At 100 KiB and at 200 MiB a second many tasks together pass what they may, without a stall of a second."""
    clock = Clock()
    some = Limits(control=2, data=2, requests_per_second=None, bandwidth=rate, clock=clock, sleep=clock.sleep)
    piece = some.piece
    assert piece is not None
    passed: list[tuple[float, int]] = []

    async def one() -> None:
        left = max(chunk, rate // 2)
        while left:
            count = min(piece, left)
            await some.pass_bytes(count)
            passed.append((clock.now, count))
            left -= count

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(one)
    moments = sorted(moment for moment, _ in passed)
    total = sum(count for _, count in passed)
    assert total / rate == pytest.approx(moments[-1] - 1000.0, abs=0.25)
    assert max(after - before for before, after in pairwise(moments)) <= 0.5


async def test_pieces_fit_the_ceiling() -> None:
    """Bytes pass in pieces of a tenth of a second, within bounds; where there is no ceiling they are left whole."""
    sizes = [
        Limits(control=1, data=1, requests_per_second=None, bandwidth=rate, clock=Clock(), sleep=anyio.sleep).piece
        for rate in (None, 1000, 500 * 1024, 1024 * 1024 * 1024)
    ]
    assert sizes == [None, 4 * 1024, 50 * 1024, 256 * 1024]


async def test_a_ceiling_for_one_kind() -> None:
    """Requests of a kind with a rate of its own wait for it, and the others do not."""
    clock = Clock()
    rates = {RequestKind.MANIFEST_PUT: 2.0}
    some = Limits(
        control=4, data=1, requests_per_second=None, bandwidth=None, clock=clock, sleep=clock.sleep, rates=rates
    )
    for _ in range(10):
        async with some.request(data=False, kind=RequestKind.MANIFEST_GET):
            pass
    assert clock.slept == []
    for _ in range(3):
        async with some.request(data=False, kind=RequestKind.MANIFEST_PUT):
            pass
    assert clock.now - 1000.0 == pytest.approx(1.0, abs=0.15)


async def test_places_pause_apart() -> None:
    """A pause of a token service holds up nobody at the registry, and the longer of two pauses stays."""
    clock = Clock()
    some = limits(clock)
    some.pause(30.0, "https://auth.example")
    some.pause(5.0, "https://auth.example")
    assert not some.is_paused()
    await some.wait_pause()
    assert clock.slept == []
    await some.wait_pause("https://auth.example")
    assert clock.now >= 1030.0


async def test_the_lower_of_two_ceilings_holds() -> None:
    """Who joins with lower limits lowers them for all; who joins with higher ones changes nothing."""
    clock = Clock()
    some = limits(clock, control=8, data=4, rate=100.0)
    some.tighten(control=4, data=9, bulk=2, requests_per_second=10.0, bandwidth=1024 * 1024)
    some.tighten(control=99, data=99, bulk=99, requests_per_second=None, bandwidth=None)
    assert (some.control.size, some.data.size, some.bulk.size, some.piece) == (4, 4, 2, 104857)
    for _ in range(21):
        async with some.request(data=False):
            pass
    assert clock.now - 1000.0 == pytest.approx(2.0, abs=0.15)
