"""A window that finds its size: against a simulated registry, whose best size is known."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

import pytest

from syncer.registry.traffic.adaptive import AdaptiveSize


@dataclass(frozen=True)
class Run:
    """How a simulation ended."""

    size: int
    least: int
    most: int
    per_second: float


def simulate(*, base: float, capacity: float, seconds: float = 20.0, ceiling: int = 256) -> Run:
    """Ask all that the window allows of a registry that takes ``base`` seconds for each of ``capacity`` a second."""
    window = AdaptiveSize(start=8, floor=8, ceiling=ceiling)
    jitter = random.Random(1)  # noqa: S311 - the same answers every time
    under_way: list[tuple[float, float]] = []
    sizes: list[int] = []
    now = free = 0.0
    while now < seconds:
        while len(under_way) < window.size:
            free = max(free, now) + 1 / capacity
            heapq.heappush(under_way, (max(free, now) + base * (1 + 0.2 * jitter.random()), now))
        now, began = heapq.heappop(under_way)
        sizes.append(window.answered("manifest", now - began, in_flight=len(under_way) + 1, now=now))
    settled = sizes[len(sizes) // 2 :]
    return Run(size=window.size, least=min(settled), most=max(settled), per_second=len(sizes) / now)


@pytest.mark.parametrize(
    ("base", "capacity"),
    [
        pytest.param(0.001, 1000, id="loopback"),
        pytest.param(0.01, 1000, id="same-building"),
        pytest.param(0.05, 800, id="50-ms"),
        pytest.param(0.2, 800, id="200-ms"),
        pytest.param(0.2, 100, id="200-ms-slow-registry"),
        pytest.param(0.05, 50, id="slow-registry"),
    ],
)
def test_nearly_all_of_the_capacity_is_used(base: float, capacity: float) -> None:
    """Without any setting, at least nine tenths of what the registry can do is asked of it."""
    assert simulate(base=base, capacity=capacity).per_second >= 0.9 * capacity


def test_a_near_registry_gets_few_and_a_far_one_many() -> None:
    """The size follows the round trip: what only queues is not asked."""
    near, far = simulate(base=0.001, capacity=1000), simulate(base=0.05, capacity=800)
    assert near.size <= 16
    assert 60 <= far.size <= 128


def test_the_size_settles() -> None:
    """After the first half it moves no more than a quarter."""
    run = simulate(base=0.05, capacity=800, seconds=40)
    assert run.least >= 0.75 * run.size
    assert run.most <= 1.25 * run.size


def test_a_ceiling_holds() -> None:
    """What the spec allows is never exceeded, however much there is to gain."""
    assert simulate(base=0.2, capacity=5000, ceiling=20).most == 20


def test_overload_halves_once() -> None:
    """A hundred answers of one overload halve the size once; the next overload halves it again."""
    window = AdaptiveSize(start=64, floor=4, ceiling=256)
    for _ in range(100):
        window.overloaded(10.0)
    assert window.size == 32
    assert window.overloaded(11.0) == 16
    for second in range(12, 20):
        window.overloaded(float(second))
    assert window.size == 4


def test_who_asks_little_learns_nothing() -> None:
    """A window that was not used is not judged: quick answers to a lone request say nothing of a hundred."""
    window = AdaptiveSize(start=8, floor=8, ceiling=256)
    for moment in range(1000):
        window.answered("manifest", 0.01, in_flight=1, now=float(moment))
    assert window.size == 8


def test_kinds_are_compared_with_their_like() -> None:
    """An upload takes longer than a HEAD by nature, which is no reason to ask less."""
    window = AdaptiveSize(start=8, floor=8, ceiling=64)
    for moment in range(400):
        for kind, seconds in (("head", 0.01), ("put", 0.5)):
            window.answered(kind, seconds, in_flight=window.size, now=moment / 10)
    assert window.size == 64


def test_a_way_that_became_longer_is_not_slowness() -> None:
    """After a minute a new round trip is what answers are compared with, and the size recovers."""
    window = AdaptiveSize(start=8, floor=8, ceiling=64)
    for moment in range(2000):
        window.answered("head", 0.01 if moment < 200 else 0.1, in_flight=window.size, now=moment / 10)
    assert window.size == 64
